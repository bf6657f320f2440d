//! `leanclaw logs` and `leanclaw config get|set`, with a running program and without one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{Connect, Place, env, eventually, within};

#[tokio::test]
async fn the_log_is_read_while_the_program_runs_and_afterwards() {
    let place = Place::empty();
    let program = place.start().await;
    let shown = place.run(&["logs", "--json"]).await;
    let lines: Vec<Value> = shown.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let listens = lines.iter().find(|line| line["1"] == "the gateway listens").expect(&shown.out);
    assert_eq!(listens["0"], "{\"subsystem\":\"leanclaw_gateway/server\"}");
    assert_eq!(listens["_meta"]["logLevelName"], "INFO");
    let people = place.run(&["logs", "--limit", "1000"]).await;
    assert!(people.out.contains("INFO leanclaw_gateway/server: the gateway listens address="), "{}", people.out);
    let tail = program.client().await.ok("logs.tail", json!({"limit": 5000})).await;
    let mode = fs::metadata(tail["file"].as_str().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    program.stop().await;
    let shown = place.run(&["logs"]).await;
    assert!(shown.out.contains("the gateway listens") && shown.out.contains("stopped"), "{}", shown.out);
}

#[tokio::test]
async fn the_log_is_followed_while_it_is_written() {
    let place = Place::empty();
    let program = place.start().await;
    let mut command = tokio::process::Command::from(place.command(&["logs", "-f", "--json"]));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut following = command.spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut until = async |message: &str| {
        loop {
            let line = within(message, lines.next_line()).await.unwrap().expect("it goes on");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["1"] == message {
                return line;
            }
        }
    };
    until("the gateway listens").await;
    program.client().await.ok("plugins.reload", json!({})).await;
    assert_eq!(until("reloading plugins").await["_meta"]["logLevelName"], "INFO");
    program.client().await.ok("plugins.reload", json!({})).await;
    until("reloading plugins").await;
    program.stop().await;
    let ended = within("it cannot go on", following.wait_with_output()).await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(1) && said.contains("error: ") && said.contains("hint: "), "{said}");
}

#[tokio::test]
async fn what_the_gateway_goes_by_counts_at_once() {
    let place = Place::empty();
    let program = place.start().await;
    let mut reader = program.client().await;
    let later = place.run(&["config", "set", "hooks.path", "/in", "--json"]).await.json();
    assert_eq!(later["restart"]["keys"], json!(["hooks.path"]), "read at the start only: {later}");
    let set = async |key: &str, value: &str| {
        let set = place.run(&["config", "set", key, value, "--json"]).await.json();
        assert_eq!(set["restart"]["required"], false, "{set}");
    };
    let page = Connect { origin: Some("https://ui.example"), ..Connect::default() };
    let refused = page.to(program.address).await.err().expect("the origin is not allowed");
    assert_eq!(refused["details"]["code"], "CONTROL_UI_ORIGIN_NOT_ALLOWED", "{refused}");
    set("gateway.controlUi.allowedOrigins", "['https://ui.example']").await;
    let unpaired = page.to(program.address).await.err().expect("it must be paired, which is asked after the origin");
    assert_ne!(unpaired["details"]["code"], "CONTROL_UI_ORIGIN_NOT_ALLOWED", "{unpaired}");

    reader.ok("status", json!({})).await;
    set("gateway.rateLimits.loopback.read", "1").await;
    let refused = reader.call("status", json!({})).await.expect_err("one call a minute, and that was it");
    assert_eq!(refused["details"]["limit"], "1 per 60s", "{refused}");
    program.stop().await;
}

#[tokio::test]
async fn whoever_writes_is_told_what_else_counts_now_and_what_does_not() {
    let place = Place::with_examples(&["notes", "units"]).await;
    let program = place.start_with(env("LEANCLAW_GATEWAY_ALLOWED_ORIGINS", "https://a.example")).await;
    let state = async |id: &str| place.run(&["plugin", "inspect", id, "--json"]).await.json()["state"].clone();
    assert_eq!(state("units").await, "needs-grant");
    place.write_config(r#"{"plugins": {"entries": {"units": {"enabled": false}}}}"#);
    let set = place.run(&["config", "set", "plugins.entries.notes.enabled", "false"]).await;
    assert!(
        set.err.contains("what was changed in the file before counts from now on, too: plugins.entries.units"),
        "{}",
        set.err
    );
    assert_eq!((state("notes").await, state("units").await), (json!("disabled"), json!("disabled")));
    let audit = place.run(&["audit", "tail", "--kind", "config-live", "--json"]).await.json();
    assert!(audit.to_string().contains(r#""edited":["plugins.entries.units"]"#), "{audit}");
    let set = place.run(&["config", "set", "gateway.controlUi.allowedOrigins", "['https://b.example']"]).await;
    let says = "gateway.controlUi.allowedOrigins does not count in the program that runs, where LEANCLAW_GATEWAY_ALLOWED_ORIGINS";
    assert!(set.err.contains(says), "{}", set.err);
    // What covers a key for this command alone says nothing about the program.
    let set = place.run_with(&["config", "set", "logging.level", "warn"], env("LOG_LEVEL", "info")).await;
    assert_eq!((set.err.as_str(), set.status.success()), ("", true));
    program.stop().await;
}

#[tokio::test]
async fn the_settings_of_a_gateway_that_is_named_are_its_own() {
    let (here, there) = (Place::empty(), Place::empty());
    there.write_config("{gateway: {auth: {token: 't0ken'}}}");
    let program = there.start().await;
    let url = format!("ws://{}", program.address);
    let run =
        async |asked: &[&str]| here.run(&[&["config"][..], asked, &["--url", &url, "--token", "t0ken"]].concat()).await;
    let set = run(&["set", "LEANCLAW_AUDIT_MAX_ROWS", "5000"]).await;
    assert!(set.err.contains("it counts once LeanClaw is started again"), "{set:?}");
    assert_eq!(set.ok(), format!("audit.maxRows is set in {}.\n", there.config_file().display()));
    let got = run(&["get", "audit.maxRows", "--json"]).await.json();
    assert_eq!(got, json!({"key": "audit.maxRows", "value": 5000}));
    let token = run(&["get", "gateway.auth.token"]).await.ok();
    assert!(!token.contains("t0ken"), "{token}");
    let port = program.address.port().to_string();
    let by_port = ["config", "get", "audit.maxRows", "--port", &port, "--token", "t0ken"];
    assert_eq!(here.run(&by_port).await.ok(), "5000\n", "however it is named");
    let unknown = run(&["set", "wasm.maxInstance", "7"]).await;
    assert!(unknown.err.contains("did you mean `wasm.maxInstances`?"), "{}", unknown.err);
    let wrong = run(&["set", "wasm.maxInstances", "0"]).await.failed(1);
    assert!(wrong.contains("wasm.maxInstances: is `0`") && wrong.contains("nothing was changed"), "{wrong}");

    assert!(!here.config_file().exists(), "nothing was set here");
    assert_ne!(here.run(&["config", "get", "audit.maxRows"]).await.ok(), "5000\n");
    for command in [&["config", "get", "audit.maxRows"][..], &["config", "set", "audit.maxRows", "1"]] {
        let refused = here.run(&[command, &["--url", url.as_str()]].concat()).await.failed(1);
        assert!(refused.contains("refused the connection"), "{refused}");
    }
    there.write_config("{gateway: {bind: 3}, logging: {level: 'loud'}}");
    let wrong = run(&["get", "audit.maxRows"]).await.failed(1);
    for said in ["gateway.bind: is `3`", "logging.level: is `loud`", "`leanclaw call config.get`"] {
        assert!(wrong.contains(said), "{wrong}");
    }
    there.write_config("[]");
    let wrong = run(&["get", "audit.maxRows"]).await.failed(1);
    assert!(wrong.contains("is not valid: <root>: "), "{wrong}");
    program.stop().await;
}

#[tokio::test]
async fn what_is_read_and_what_is_set_are_the_settings_of_the_program_that_runs_here() {
    let place = Place::empty();
    let program = place.start_with(env("LEANCLAW_AUDIT_MAX_ROWS", "7000")).await;
    let get = async || place.run(&["config", "get", "audit.maxRows"]).await.ok();
    assert_eq!(get().await, "7000\n", "as the program has it");
    let set = place.run(&["config", "set", "audit.maxRows", "5000"]).await;
    assert!(set.err.contains("audit.maxRows does not count in the program that runs"), "{}", set.err);
    assert_eq!(get().await, "7000\n");
    program.stop().await;
    assert_eq!(get().await, "5000\n", "as a program that is started from here has it");
}

#[tokio::test]
async fn a_key_is_set_through_the_program_and_without_it() {
    let place = Place::empty();
    let program = place.start().await;
    let mut watcher = program.client().await;
    let set = place.run(&["config", "set", "logging.level", "debug", "--json"]).await.json();
    assert_eq!(set["restart"]["required"], false, "{set}");
    program.client().await.ok("status", json!({})).await;
    eventually("the level counts at once", async || program.log().contains("DEBUG").then_some(())).await;
    let later = place.run(&["config", "set", "audit.maxRows", "5000", "--json"]).await.json();
    assert_eq!(later["restart"]["keys"], json!(["audit.maxRows"]), "{later}");
    assert_eq!(watcher.event("config.changed").await["hash"], set["hash"]);
    let set = later;
    assert_eq!(watcher.event("config.changed").await["hash"], set["hash"]);
    let file = watcher.ok("config.get", json!({})).await;
    assert_eq!((&file["config"]["logging"]["level"], &file["exists"]), (&json!("debug"), &json!(true)));
    let audit = place.run(&["audit", "tail", "--kind", "config-changed", "--json"]).await.json();
    assert!(audit.to_string().contains("logging.level"), "{audit}");
    // What a plugin is told is applied at once; what is wrong is refused with every problem.
    let set = place.run(&["config", "set", "plugins.deny", "['notes']", "--json"]).await.json();
    assert_eq!(set["restart"]["required"], false, "{set}");
    let refused = place.run(&["config", "set", "wasm.maxInstances", "0"]).await.failed(1);
    assert!(refused.contains("wasm.maxInstances: is `0`; expected a whole number from 1 to 100000"), "{refused}");
    program.stop().await;

    let again = place.start().await;
    let file = again.client().await.ok("config.get", json!({})).await;
    let expected = json!({"logging": {"level": "debug"}, "audit": {"maxRows": 5000}, "plugins": {"deny": ["notes"]}});
    assert_eq!(file["config"], expected);
    again.stop().await;
    place.run(&["config", "set", "wasm.maxInstances", "7"]).await;
    assert_eq!(place.run(&["config", "get", "LEANCLAW_MAX_INSTANCES"]).await.out, "7\n");
    let shown = place.run(&["config", "get", "wasm", "--json"]).await.json();
    assert_eq!(shown, json!({"key": "wasm", "value": {"maxInstances": 7, "pooling": "auto"}}));
    let unknown = place.run(&["config", "set", "wasm.maxInstance", "7"]).await;
    assert!(unknown.err.contains("did you mean `wasm.maxInstances`?"), "{}", unknown.err);
    let covered = |value: &'static str| {
        let mut command = place.command(&["config", "set", "logging.level", value]);
        let output = command.env("LOG_LEVEL", "info").output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (good, said) = covered("warn");
    let says =
        "logging.level does not count in a program that is started from here, where LOG_LEVEL comes from elsewhere";
    assert!(good && said.contains(says), "{said}");
    let (good, said) = covered("loud");
    assert!(!good && said.contains("expected `trace`"), "what is covered today counts tomorrow: {said}");
    let refused = place.run(&["config", "set", "logging.level", "loud"]).await.failed(1);
    assert!(refused.contains("logging.level: is `loud`") && refused.contains("nothing was changed"), "{refused}");
    let rows = place.run(&["audit", "tail", "--kind", "config-changed", "--json"]).await.json();
    let rows = rows.as_array().unwrap().iter().rev().take(3).rev();
    let told: Vec<_> = rows.map(|row| (row["actor"].clone(), row["keys"].clone())).collect();
    let expected =
        ["wasm.maxInstances", "wasm.maxInstance", "logging.level"].map(|key| (json!("client:cli"), json!([key])));
    assert_eq!(told, expected);
}
