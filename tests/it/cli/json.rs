//! `--json` on everything that prints data, also on what changes something and on what goes on.

use std::fs;
use std::process::{Child, Command, Stdio};

use leanclaw_test_guests::{Guest, echo};
use serde_json::{Value, json};

use crate::support::{Place, env, eventually_or, install_guest, manifest, run, text};

/// A command that goes on, whose lines are read from a file.
struct Following(Child, std::path::PathBuf);

impl Following {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let file = place.work().join(arguments.join("-").replace('/', "_"));
        let mut command: Command = place.command(arguments);
        command.stdout(fs::File::create(&file).unwrap()).stderr(Stdio::inherit());
        Self(command.spawn().unwrap(), file)
    }

    /// Waits for a line that is wanted. Every whole line is an object.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        eventually_or(what, async || {
            let said = fs::read_to_string(&self.1).unwrap();
            let whole = &said[..said.rfind('\n').map_or(0, |end| end + 1)];
            let lines: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert!(lines.iter().all(Value::is_object), "{said}");
            if lines.iter().any(&wanted) { Ok(()) } else { Err(said) }
        })
        .await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn what_is_made_taken_away_or_called() {
    let place = Place::empty();
    let made = place.run(&["plugin", "new", "Word count", "--lang", "python", "--json"]).await.json();
    let folder = place.work().join("word-count").canonicalize().unwrap();
    let expected =
        json!({"id": "word-count", "name": "Word count", "lang": "python", "kind": "skill", "folder": folder});
    assert_eq!(made, expected);

    install_guest(&place, &manifest("echo", "1", &json!({})), &echo().unwrap());
    let path = place.plugins().join("echo");
    let path = path.to_str().unwrap();
    let ran = ["plugin", "run", path, "--grant-all", "--method", "run", "--input", r#"{"a": 1}"#, "--json"];
    assert_eq!(place.run(&ran).await.json(), json!({"a": 1}));
    let program = place.start().await;
    assert_eq!(place.run(&["call", "health", "--json"]).await.json()["ok"], true);
    program.stop().await;

    let removed = place.run(&["plugin", "remove", "echo", "--json"]).await;
    assert_eq!(removed.err, "");
    assert_eq!(removed.json(), json!({"id": "echo", "removed": [path], "purged": false, "deleted": null}));
    let purged = place.run(&["plugin", "remove", "echo", "--purge", "--json"]).await.json();
    let deleted = json!({"grants": 0, "secrets": 0, "messages": 0, "kvEntries": 0});
    assert_eq!(purged, json!({"id": "echo", "removed": [], "purged": true, "deleted": deleted}));
}

#[tokio::test]
async fn secrets() {
    let place = Place::empty();
    let asking = json!({"permissions": {"secrets": [{"name": "key", "hmac": true}]}});
    install_guest(&place, &manifest("echo", "1", &asking), &echo().unwrap());
    let input = place.work().join("input");
    fs::write(&input, "not-to-be-shown").unwrap();
    let mut command = place.command(&["plugin", "secret", "set", "echo", "key", "--json"]);
    command.stdin(fs::File::open(input).unwrap());
    let set = run(command).await;
    assert!(!set.out.contains("not-to-be-shown"), "{set:?}");
    let set = set.json();
    assert_eq!((&set["plugin"], &set["name"]), (&json!("echo"), &json!("key")), "{set}");
    let removed = place.run(&["plugin", "secret", "remove", "echo", "key", "--json"]).await.json();
    assert_eq!((&removed["plugin"], &removed["name"]), (&json!("echo"), &json!("key")), "{removed}");
}

/// Logs the text and answers with a number.
const SAY: &str = "(call $log.write (global.get $info) (global.get $info_len) (global.get $text) (global.get $text_len)
        (i32.const 0) (i32.const 0))
    (call $number (i32.const 7))";

#[tokio::test]
async fn what_goes_on_is_an_object_per_line() {
    let place = Place::empty();
    let talking = Guest::method("import log;", SAY).text("info", "info").text("text", "spoken");
    install_guest(&place, &manifest("talker", "1", &json!({})), &talking.build().unwrap());
    let program = place.start().await;
    program.grant_all("talker").await;
    let logs = Following::start(&place, &["plugin", "logs", "talker", "--follow", "--json"]);
    let audit = Following::start(&place, &["audit", "tail", "--follow", "--json"]);
    audit.until("the grant", |row| row["kind"] == "plugin-granted").await;
    program.client().await.ok("talker.run", json!({})).await;
    logs.until("what the call logged", |line| line["message"] == "spoken").await;
    place.run(&["plugin", "revoke", "talker", "--all"]).await.ok();
    audit.until("what came later", |row| row["kind"] == "plugin-revoked").await;
    drop((logs, audit));
    program.stop().await;
}

/// What a guest says stands in the program's own log too, with the plugin and the call it belongs to.
#[tokio::test]
async fn guest_text_is_in_the_programs_log_with_its_plugin_and_call() {
    let place = Place::empty();
    let talking = Guest::method("import log;", SAY).text("info", "info").text("text", "spoken\n\u{1b}[2J");
    install_guest(&place, &manifest("talker", "1", &json!({})), &talking.build().unwrap());
    let program = place.start_with(env("LOG_FORMAT", "json")).await;
    program.grant_all("talker").await;
    let mut client = program.client().await;
    for _ in 0..2 {
        client.ok("talker.run", json!({})).await;
    }
    let ring = place.run(&["plugin", "logs", "talker", "--json"]).await.json();
    let calls_of = |lines: &[Value], name: &str| -> Vec<String> {
        let spoken = lines.iter().filter(|line| line["message"].as_str().is_some_and(|said| said.contains("spoken")));
        spoken.map(|line| text(&line[name]).to_owned()).collect()
    };
    let kept = calls_of(ring.as_array().unwrap(), "callId");
    assert!(kept.len() == 2 && kept[0] != kept[1] && kept.iter().all(|call| !call.is_empty()), "{ring}");
    let (_, log) = {
        program.terminate();
        program.end().await
    };
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(calls_of(&lines, "call_id"), kept, "the same calls: {log}");
    let spoken: Vec<&Value> =
        lines.iter().filter(|line| line["call_id"] == kept[0] && line["source"] == "log").collect();
    let [line] = spoken[..] else { panic!("one line per call: {log}") };
    assert_eq!((&line["plugin"], &line["level"]), (&json!("talker"), &json!("INFO")), "{line}");
    assert!(!text(&line["message"]).contains(['\n', '\u{1b}']), "escaped: {line}");
}
