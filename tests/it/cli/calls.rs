//! `leanclaw call` and its kin: data on standard output, everything else on standard error, a status that tells.

use std::io::Read as _;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Place, env, run};

#[tokio::test]
async fn a_call_prints_the_result_and_nothing_else() {
    let place = Place::with_examples(&["notes"]).await;
    let program = place.start().await;
    let granted = place.run(&["plugin", "grant", "notes", "--all", "--yes", "--json"]).await.json();
    assert_eq!(granted["state"], "ready");
    let note = place.run(&["call", "notes.add", r#"{"text": "ü\u001b[31m"}"#]).await;
    assert_eq!((note.status.code(), note.err.as_str()), (Some(0), ""));
    assert!(!note.out.contains('\u{1b}'), "{:?}", note.out);
    assert_eq!(note.json()["text"], "ü\u{1b}[31m");
    let mut command = place.command(&["call", "notes.add", "-"]);
    std::fs::write(place.work().join("params"), r#"{"text": "from a file"}"#).unwrap();
    command.stdin(std::fs::File::open(place.work().join("params")).unwrap());
    assert_eq!(run(command).await.json()["id"], 2);
    let refused = place.run(&["call", "notes.add", "{}"]).await.failed(1);
    assert_eq!(
        refused,
        "error: invalid notes.add params: must have required property 'text' (INVALID_REQUEST, invalid-input)\n"
    );
    let wrong = place.run(&["call", "notes.add", "{text: milk}"]).await.failed(1);
    assert!(wrong.contains("hint: quote them for the shell"), "{wrong}");
    program.stop().await;
}

#[tokio::test]
async fn data_is_json_when_asked_for() {
    let place = Place::with_examples(&["notes"]).await;
    let program = place.start().await;
    for arguments in [
        &["version", "--json"][..],
        &["config", "--json"],
        &["config", "variables", "--json"],
        &["config", "path", "--json"],
        &["config", "check", "--json"],
        &["plugin", "list", "--json"],
        &["plugin", "inspect", "notes", "--json"],
        &["plugin", "logs", "notes", "--json"],
        &["plugin", "reload", "--json"],
        &["plugin", "grant", "notes", "--all", "--yes", "--json"],
        &["plugin", "revoke", "notes", "kv:4194304", "--json"],
        &["plugin", "secret", "list", "notes", "--json"],
        &["audit", "tail", "--json"],
        &["audit", "tail", "--kind", "nothing", "--json"],
    ] {
        let shown = place.run(arguments).await;
        assert_eq!(shown.err, "", "{arguments:?}");
        let value = shown.json();
        assert!(value.is_object() || value.is_array(), "{arguments:?}: {value}");
    }
    program.stop().await;
}

/// What was typed wrong is status 2, what failed is 1, what worked is 0.
#[tokio::test]
async fn exit_statuses() {
    let place = Place::empty();
    for (arguments, status) in [
        (&["--help"][..], 0),
        (&["help", "plugin"], 0),
        (&["--version"], 0),
        (&["strat"], 2),
        (&["plugin"], 2),
        (&["plugin", "inspect"], 2),
        (&["plugin", "inspect", "../x"], 2),
        (&["plugin", "inspect", "none"], 1),
        (&["call"], 2),
        (&["call", "health", "--timeout", "0"], 2),
        (&["audit", "tail", "--limit", "0"], 2),
        (&["completions", "no-shell"], 2),
    ] {
        let ended = place.run(arguments).await;
        assert_eq!(ended.status.code(), Some(status), "{arguments:?}: {ended:?}");
        assert_eq!(status == 0, ended.err.is_empty(), "{arguments:?}: {ended:?}");
        assert_eq!(status == 0, !ended.out.is_empty(), "{arguments:?}: {ended:?}");
    }
    let version = place.run(&["version"]).await.ok();
    assert_eq!(version, format!("leanclaw v{}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn completions_name_the_commands() {
    let place = Place::empty();
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef leanclaw"), ("fish", "complete -c leanclaw")] {
        let script = place.run(&["completions", shell]).await.ok();
        assert!(script.contains(sign), "{shell}");
        for word in ["plugin", "grant", "audit", "completions", "data-dir"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

/// A reader that goes away is no failure.
#[tokio::test]
async fn a_broken_pipe_is_a_quiet_end() {
    let place = Place::empty();
    for arguments in
        [&["config", "variables"][..], &["config", "variables", "--json"], &["completions", "bash"], &["--help"]]
    {
        let mut child = place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0_u8; 1];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut first).unwrap();
        drop(out);
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert!(child.wait().unwrap().success(), "{arguments:?}");
        assert_eq!(complaint, "", "{arguments:?}");
        // Nobody there from the start.
        let mut command = place.command(arguments);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{arguments:?}: {ended:?}");
    }
}

/// A server that answers every connection with the same bytes.
async fn server_of(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0_u8; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
            });
        }
    });
    format!("ws://{address}")
}

#[tokio::test]
async fn a_call_that_cannot_be_made_says_why_and_what_to_do() {
    let place = Place::empty();
    let free_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let nothing = place.run(&["call", "health", "--port", &free_port]).await.failed(1);
    assert_eq!(
        nothing,
        format!(
            "error: nothing answers at ws://127.0.0.1:{free_port}/\n  cause: Connection refused (os error 111)\n\
             hint: start it with `leanclaw start`\n\
             hint: if it listens elsewhere, set LEANCLAW_GATEWAY_HOST and LEANCLAW_GATEWAY_PORT, or pass --url\n"
        )
    );
    for answer in [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".as_slice(),
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\xff\xfe\x00garbage\r\n\r\n",
        b"",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ] {
        let url = server_of(answer).await;
        let error = place.run(&["call", "health", "--url", &url]).await.failed(1);
        let first = error.lines().next().unwrap();
        let described = first.starts_with(&format!("error: what answers at {url}/ is not a gateway: "))
            || first.starts_with(&format!("error: the connection to {url}/ broke"));
        assert!(described, "{:?}: {error}", String::from_utf8_lossy(answer));
        assert!(error.contains("hint: "), "{error}");
    }
    for (url, why) in [("wss://x", "TLS"), ("ftp://x", "its scheme is not ws"), ("ws://a:b@x", "user name")] {
        let error = place.run(&["call", "health", "--url", url]).await.failed(1);
        assert!(error.contains(why) && !error.contains("a:b"), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_told_where_it_came_from() {
    let place = Place::empty();
    let program = place.start_with(env("LEANCLAW_GATEWAY_API_KEY", "right")).await;
    let without = place.run(&["call", "health"]).await.failed(1);
    assert!(
        without.contains("hint: set LEANCLAW_GATEWAY_API_KEY to the gateway's token, or pass --token"),
        "{without}"
    );
    let wrong = place.run_with(&["call", "health"], env("LEANCLAW_GATEWAY_API_KEY", "wrong")).await.failed(1);
    assert!(wrong.contains("the token came from LEANCLAW_GATEWAY_API_KEY"), "{wrong}");
    let flag = place.run(&["call", "health", "--token", "wrong"]).await.failed(1);
    assert!(flag.contains("the token came from --token"), "{flag}");
    assert_eq!(place.run(&["call", "health", "--token", "right"]).await.json()["ok"], true);
    assert_eq!(place.run_with(&["call", "health"], env("LEANCLAW_GATEWAY_API_KEY", "right")).await.json()["ok"], true);
    let denied = place.run(&["audit", "tail", "--kind", "auth-denied", "--json"]).await.json();
    let codes: Vec<&Value> = denied.as_array().unwrap().iter().map(|row| &row["code"]).collect();
    // The second wrong token is only counted: it is the same refusal within a minute.
    assert_eq!(json!(codes), json!(["DEVICE_IDENTITY_REQUIRED", "AUTH_TOKEN_MISMATCH"]));
    program.stop().await;
}

/// The commands about plugins do the same whether the program runs or not.
#[tokio::test]
async fn plugins_are_administered_without_a_running_program_too() {
    let place = Place::with_examples(&["notes"]).await;
    let listed = place.run(&["--data-dir", place.data().to_str().unwrap(), "plugin", "list", "--json"]).await.json();
    assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&json!("notes"), &json!("needs-grant")));
    let data = place.data();
    let data = data.to_str().unwrap();
    let refused = place.run(&["--data-dir", data, "plugin", "grant", "notes", "--all"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.err.contains("there is no terminal to ask on") && refused.err.contains("--yes"), "{refused:?}");
    let granted = place.run(&["--data-dir", data, "plugin", "grant", "notes", "--all", "--yes", "--json"]).await.json();
    assert_eq!(granted["state"], "ready", "{granted}");
    let program = place.start().await;
    assert_eq!(program.plugin("notes").await["state"], "ready");
    program.client().await.ok("notes.add", json!({"text": "x"})).await;
    program.stop().await;
    let rows = place.run(&["audit", "tail", "--kind", "plugin-granted"]).await.ok();
    assert_eq!(rows.lines().count(), 2, "a head and a row: {rows}");
    assert!(rows.contains("plugin=notes"), "{rows}");
}
