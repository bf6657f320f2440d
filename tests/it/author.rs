//! Plugin authors and admins at the command line: from `plugin new` to a running plugin that is swapped while it runs,
//! in every language (`walk_through`); what each language's kit can do in a component (`kits`); and what `install`,
//! `secret` and `remove` refuse and keep.

mod kits;
mod walk_through;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hmac::{Hmac, KeyInit as _, Mac as _};
use leanclaw_test_guests::{Guest, echo};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{Place, Run, env, request, text};

/// A manifest and a component in a folder of the working directory.
fn source(place: &Place, name: &str, manifest: &Value, wasm: &[u8]) -> PathBuf {
    let folder = place.work().join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("plugin.wasm"), wasm).unwrap();
    fs::write(folder.join("leanclaw.plugin.json"), manifest.to_string()).unwrap();
    folder
}

fn plugin(id: &str, version: &str) -> Value {
    json!({"id": id, "version": version, "main": "plugin.wasm"})
}

/// What lies in the plugin folder, hidden things too.
fn installed(place: &Place) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(place.plugins()).unwrap().map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_no_good_plugin_is_refused_and_leaves_nothing() {
    let place = Place::empty();
    let outside = place.work().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("plugin.wasm"), echo().unwrap()).unwrap();
    let linked = source(&place, "linked", &plugin("a", "1"), b"");
    fs::remove_file(linked.join("plugin.wasm")).unwrap();
    std::os::unix::fs::symlink(outside.join("plugin.wasm"), linked.join("plugin.wasm")).unwrap();
    let skills =
        source(&place, "skills", &json!({"id": "a", "main": "plugin.wasm", "skills": ["s"]}), &echo().unwrap());
    std::os::unix::fs::symlink(&outside, skills.join("s")).unwrap();
    source(&place, "climbing", &json!({"id": "a", "main": "../outside/plugin.wasm"}), b"");
    source(&place, "absolute", &json!({"id": "a", "main": outside.join("plugin.wasm")}), b"");
    source(&place, "bad-id", &plugin("../a", "1"), &echo().unwrap());
    source(&place, "no-json", &json!("text"), &echo().unwrap());
    source(
        &place,
        "misspelt",
        &json!({"id": "a", "main": "plugin.wasm", "permissions": {"kvv": {}}}),
        &echo().unwrap(),
    );
    source(&place, "module", &plugin("a", "1"), b"\0asm\x01\0\0\0");
    source(&place, "garbage", &plugin("a", "1"), b"\0asm\x0d\0\x01\0garbage");
    let greedy = Guest::method("import kv;", "(call $kv.delete (i32.const 0) (i32.const 0) (call $room)) unreachable");
    source(&place, "greedy", &plugin("a", "1"), &greedy.build().unwrap());
    fs::write(place.work().join("bare.wasm"), echo().unwrap()).unwrap();
    fs::create_dir(place.work().join("empty")).unwrap();
    for (path, says) in [
        ("linked", "symbolic link"),
        ("skills", "links are not followed"),
        ("climbing", "inside the plugin's folder"),
        ("absolute", "inside the plugin's folder"),
        ("bad-id", "not a valid plugin id"),
        ("no-json", "does not parse"),
        ("misspelt", "kvv"),
        ("module", "wasm32-wasip2"),
        ("garbage", "does not parse"),
        ("greedy", "\"kv\": {\"quotaBytes\""),
        ("bare.wasm", "carries no manifest"),
        ("empty", "leanclaw plugin new"),
        ("missing", "cannot be read"),
    ] {
        let error = place.run(&["plugin", "install", path, "--grant-all", "--yes"]).await.failed(1);
        assert!(error.contains(says), "{path}: {error}");
    }
    assert!(installed(&place).is_empty());
    let page = place.run(&["plugin", "check", "greedy"]).await;
    assert_eq!(page.status.code(), Some(1));
    assert!(page.out.contains("not asked for in the manifest") && page.out.ends_with("not ok\n"), "{page:?}");
    let found = place.run(&["plugin", "check", "greedy", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&found.out).unwrap()["ok"], false);
    assert_eq!(place.run(&["plugin", "install"]).await.status.code(), Some(1));
    assert_eq!(place.run(&["plugin", "instal"]).await.status.code(), Some(2));
}

/// Everything an admin does works without a running program, and a program started afterwards finds it done.
#[tokio::test]
async fn plugins_are_administered_while_no_program_runs() {
    let place = Place::empty();
    let kv = Guest::method(
        "import kv;",
        "(call $kv.delete (i32.const 0) (i32.const 0) (call $room)) (call $number (i32.const 7))",
    );
    let mut manifest = plugin("offline", "1");
    manifest["permissions"] = json!({"kv": {"quotaBytes": 9}, "events": ["e"]});
    source(&place, "p", &manifest, &kv.build().unwrap());
    let refused = place.run(&["plugin", "install", "p", "--grant-all"]).await.failed(1);
    assert!(refused.contains("+ kv:9") && refused.contains("--yes"), "{refused}");
    assert!(installed(&place).is_empty(), "nothing was agreed to");

    let done = place.run(&["plugin", "install", "p", "--json"]).await.json();
    assert_eq!((&done["action"], &done["plugin"]), (&json!("installed"), &Value::Null));
    let listed = place.run(&["plugin", "list", "--json"]).await.json();
    assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&json!("offline"), &json!("needs-grant")));
    let granted = place.run(&["plugin", "grant", "offline", "kv", "--yes", "--json"]).await.json();
    assert_eq!((&granted["state"], &granted["missing"]), (&json!("ready"), &json!(["event:e"])));
    let logs = place.run(&["plugin", "logs", "offline"]).await.failed(1);
    assert!(logs.contains("leanclaw start"), "{logs}");

    let program = place.start().await;
    assert_eq!(program.client().await.ok("offline.run", json!({})).await, 7);
    program.stop().await;
    let revoked = place.run(&["plugin", "revoke", "offline", "--all", "--json"]).await.json();
    assert_eq!(revoked["state"], "needs-grant");
    let rows = place.run(&["audit", "tail", "--json"]).await.json();
    let by_cli = rows.as_array().unwrap().iter().filter(|row| row["actor"] == "client:cli");
    let kinds: Vec<&str> = by_cli.map(|row| text(&row["kind"])).collect();
    assert_eq!(kinds, ["plugin-installed", "plugin-granted", "plugin-revoked"], "{rows}");
}

#[tokio::test]
async fn commands_wait_for_each_other_and_a_start_waits_for_them() {
    let place = Place::empty();
    source(&place, "p", &plugin("p", "1"), &echo().unwrap());
    place.run(&["plugin", "install", "p"]).await.ok();
    let list = || async { place.run(&["plugin", "list", "--json"]).await.json() };
    let (one, two, three, program) = tokio::join!(list(), list(), list(), place.start());
    for listed in [one, two, three] {
        assert_eq!(listed[0]["id"], "p");
    }
    program.stop().await;
}

#[tokio::test]
async fn an_installed_version_replaces_the_one_before_and_keeps_its_rights() {
    let place = Place::empty();
    let program = place.start().await;
    source(&place, "one", &plugin("swap", "1"), &leanclaw_test_guests::method("(call $number (i32.const 1))").unwrap());
    place.run(&["plugin", "install", "one", "--grant-all", "--yes"]).await.ok();
    assert_eq!(program.client().await.ok("swap.run", json!({})).await, 1);
    source(&place, "two", &plugin("swap", "2"), &leanclaw_test_guests::method("(call $number (i32.const 2))").unwrap());
    let done = place.run(&["plugin", "install", "two", "--json"]).await.json();
    assert_eq!((&done["action"], &done["plugin"]["state"]), (&json!("replaced"), &json!("ready")));
    assert_eq!(program.client().await.ok("swap.run", json!({})).await, 2);

    let mut asking = plugin("swap", "3");
    asking["permissions"] = json!({"inbox": true});
    source(&place, "three", &asking, &echo().unwrap());
    let done = place.run(&["plugin", "install", "three", "--json"]).await.json();
    assert_eq!(done["plugin"]["state"], "needs-grant", "a right is never gained by an update: {done}");
    assert_eq!(done["plugin"]["missing"], json!(["inbox"]));
    // The program would not see what is put elsewhere, so nothing is.
    let refused = place.run(&["--plugin-dir", "elsewhere", "plugin", "install", "two"]).await.failed(1);
    assert!(refused.contains("takes plugins from") && refused.contains("LEANCLAW_PLUGIN_DIR"), "{refused}");
    assert!(!place.work().join("elsewhere").exists());
    program.stop().await;
    assert_eq!(installed(&place), ["swap"]);
}

#[tokio::test]
async fn removing_keeps_data_and_purging_does_not() {
    let place = Place::with_examples(&["notes"]).await;
    let notes = async || {
        let program = place.start().await;
        program.plugin_until("notes", "there", |plugin| !plugin.is_null()).await;
        program.grant_all("notes").await;
        let mut client = program.client().await;
        let listed = client.ok("notes.list", json!({})).await;
        client.ok("notes.add", json!({"text": "milk"})).await;
        program.stop().await;
        listed["notes"].as_array().unwrap().len()
    };
    assert_eq!(notes().await, 0);
    let source = place.work().join("notes");
    fs::rename(place.plugins().join("notes"), &source).unwrap();
    place.run(&["plugin", "install", "notes"]).await.ok();

    let kept = place.run(&["plugin", "remove", "notes"]).await;
    assert!(kept.err.contains("--purge"), "{kept:?}");
    assert!(installed(&place).is_empty());
    assert!(place.run(&["plugin", "remove", "notes"]).await.failed(1).contains("no plugin `notes`"));
    let listed = place.run(&["plugin", "list"]).await;
    assert!(listed.err.contains("not installed, rights kept: notes: event:changed, kv:"), "{listed:?}");
    place.run(&["plugin", "install", "notes"]).await.ok();
    assert_eq!(place.run(&["plugin", "inspect", "notes", "--json"]).await.json()["state"], "ready");
    assert_eq!(notes().await, 1);

    place.run(&["plugin", "remove", "notes"]).await.ok();
    let revoked = place.run(&["plugin", "revoke", "notes", "--all"]).await;
    assert!(revoked.out.contains("notes is not installed"), "{revoked:?}");
    assert!(!place.run(&["plugin", "list"]).await.err.contains("rights kept"));

    let purged = place.run(&["plugin", "remove", "notes", "--purge"]).await;
    assert!(purged.out.contains("deleted what was kept of notes: "), "{purged:?}");
    place.run(&["plugin", "install", "notes"]).await.ok();
    let program = place.start().await;
    program.grant_all("notes").await;
    program.client().await.ok("notes.add", json!({"text": "milk"})).await;
    let purged = place.run(&["plugin", "remove", "notes", "--purge", "--json"]).await.json();
    assert_eq!(purged["deleted"]["grants"], 1, "{purged}");
    assert!(purged["deleted"]["kvEntries"].as_u64() > Some(0), "{purged}");
    program.stop().await;
    place.run(&["plugin", "install", "notes"]).await.ok();
    assert_eq!(place.run(&["plugin", "inspect", "notes", "--json"]).await.json()["state"], "needs-grant");
    assert_eq!(notes().await, 0);
}

/// Runs a command with something on its standard input.
async fn with_input(place: &Place, arguments: &[&str], input: &str) -> Run {
    let file = place.work().join("input");
    fs::write(&file, input).unwrap();
    let opened = fs::File::open(&file).unwrap();
    let change = |command: &mut Command| {
        command.stdin(opened);
    };
    place.run_with(arguments, change).await
}

#[tokio::test]
async fn a_secret_counts_at_once_and_is_never_shown() {
    const VALUE: &str = "not-to-be-shown";
    let place = Place::with_examples(&["webhook-channel"]).await;
    let program = place.start().await;
    program.grant_all("webhook-channel").await;
    let body = br#"{"id": "m1", "from": "ada", "conversation": "room", "text": "Hello"}"#;
    let post = async || {
        let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
        let mut tag = Hmac::<Sha256>::new_from_slice(VALUE.as_bytes()).unwrap();
        tag.update(&[b"in.", seconds.as_bytes(), b".", body].concat());
        let tag: String = tag.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let headers = [("x-leanclaw-timestamp", seconds.as_str()), ("x-leanclaw-signature", &format!("sha256={tag}"))];
        request(program.address, "POST", "/plugins/webhook-channel/hook/", &headers, body).await.status
    };
    assert_ne!(post().await, 202, "there is no secret yet");
    let set = ["plugin", "secret", "set", "webhook-channel", "signing-key"];
    assert!(with_input(&place, &set, "\n").await.failed(1).contains("empty"));
    let done = with_input(&place, &set, &format!("{VALUE}\n")).await;
    assert_eq!(done.err, "", "it is declared, so there is nothing to warn of");
    assert_eq!(post().await, 202, "without a restart");

    let other = with_input(&place, &["plugin", "secret", "set", "webhook-channel", "other"], VALUE).await;
    assert!(other.err.contains("declares no secret `other`, only: signing-key"), "{other:?}");
    assert!(with_input(&place, &["plugin", "secret", "set", "x", "y"], VALUE).await.err.contains("no plugin `x`"));
    assert!(
        with_input(&place, &["plugin", "secret", "set", "x", "y}}"], VALUE).await.failed(1).contains("secret name")
    );
    let listed = place.run(&["plugin", "secret", "list", "webhook-channel", "--json"]).await.json();
    let expected = json!([
        {"name": "other", "stored": true, "uses": []},
        {"name": "signing-key", "stored": true, "uses": ["hmac"]},
    ]);
    assert_eq!(listed, expected);
    place.run(&["plugin", "secret", "remove", "webhook-channel", "signing-key"]).await.ok();
    assert_ne!(post().await, 202);
    let gone = place.run(&["plugin", "secret", "remove", "webhook-channel", "signing-key"]).await.failed(1);
    assert!(gone.contains("secret list"), "{gone}");

    let audit = place.run(&["audit", "tail", "--kind", "secret-changed"]).await.ok();
    assert_eq!(audit.matches("name=").count(), 4, "{audit}");
    let table = place.run(&["plugin", "secret", "list", "webhook-channel"]).await.ok();
    for shown in [done.out, audit, table, program.log()] {
        assert!(!shown.contains(VALUE), "{shown}");
    }
    program.stop().await;
}

#[tokio::test]
async fn a_single_call_needs_no_installation_and_leaves_nothing() {
    let place = Place::with_examples(&["notes", "webhook-channel"]).await;
    let notes = place.plugins().join("notes");
    let notes = notes.to_str().unwrap();
    let refused = place.run(&["plugin", "run", notes, "--method", "list"]).await.failed(1);
    assert!(refused.contains("event:changed, kv:4194304") && refused.contains("--grant-all"), "{refused}");
    let added = ["plugin", "run", notes, "--grant-all", "--method", "notes.add", "--input", r#"{"text": "milk"}"#];
    assert_eq!(place.run(&added).await.json()["text"], "milk");
    let listed = place.run(&["plugin", "run", notes, "--grant-all", "--method", "list"]).await.json();
    assert_eq!(listed["notes"], json!([]), "each call has a store of its own");
    let unknown = place.run(&["plugin", "run", notes, "--grant-all", "--method", "nope"]).await.failed(1);
    assert!(unknown.contains("--method add"), "{unknown}");
    assert!(place.run(&["plugin", "run", notes]).await.failed(2).contains("--tool"));
    assert!(
        place.run(&["plugin", "run", notes, "--method", "list", "--input", "{"]).await.failed(1).contains("not JSON")
    );

    let channel = place.plugins().join("webhook-channel");
    let channel = channel.to_str().unwrap();
    let request = r#"{"path": "/", "body": {"id": "m"}}"#;
    let reply = place.run(&["plugin", "run", channel, "--grant-all", "--webhook", request]).await;
    assert!(reply.err.contains("refused a message"), "the guest's log is shown: {reply:?}");
    assert_eq!(reply.json()["status"], 401);
    let message = json!({"place": {"id": "a", "kind": "direct"}, "parts": [{"kind": "text", "text": "x"}], "idempotencyKey": "k"});
    let failed =
        with_input(&place, &["plugin", "run", channel, "--grant-all", "--deliver", "-"], &message.to_string()).await;
    assert!(failed.failed(1).contains("nowhere to send to"));
    assert!(!place.data().join("core.db").exists(), "nothing was stored");
}

#[tokio::test]
async fn a_build_says_what_is_missing() {
    let place = Place::empty();
    let project = |command: Value, output: &str| json!({"id": "b", "main": "b.wasm", "build": {"command": command, "output": output}});
    for (name, manifest, says) in [
        ("fails", project(json!(["false"]), "x"), "the build command failed"),
        ("no-output", project(json!(["true"]), "made/x.wasm"), "made/x.wasm"),
        ("no-program", project(json!(["no-such-program"]), "x"), "`no-such-program` cannot be started"),
        ("text", project(json!(["cp", "leanclaw.plugin.json", "x.wasm"]), "x.wasm"), "not WebAssembly"),
        ("no-build", json!({"id": "b", "main": "b.wasm"}), "does not say how it is built"),
    ] {
        source(&place, name, &manifest, b"");
        let error = place.run(&["plugin", "build", name]).await.failed(1);
        assert!(error.contains(says), "{name}: {error}");
        assert!(!place.work().join(name).join("dist").exists());
    }
    // A build sees the contract, its own or the one the program carries, and cannot read what nobody typed.
    let manifest = project(
        json!(["sh", "-c", "test -f $LEANCLAW_WIT/types.wit && ! read line && cp plugin.wasm x.wasm"]),
        "x.wasm",
    );
    source(&place, "good", &manifest, &echo().unwrap());
    place.run(&["plugin", "build", "good"]).await.ok();
    let unpacked = place.run_with(&["plugin", "build", "good"], env("LEANCLAW_WIT", "/no/such/folder")).await.failed(1);
    assert!(unpacked.contains("the build command failed"), "{unpacked}");
    // One file is all it takes: it carries its manifest.
    let file = place.work().join("good/dist/b.wasm");
    fs::copy(file, place.plugins().join("dropped.wasm")).unwrap();
    assert_eq!(place.run(&["plugin", "inspect", "b", "--json"]).await.json()["version"], "0.0.0");
}
