//! The plugin folder of the running program: what is dropped in, replaced and removed, and what users read about it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::{Client, Held, Place, eventually, held_fetch, install_guest, manifest, text};

fn answers(place: &Place, version: &str, answer: &str, more: &Value) {
    let wasm = leanclaw_test_guests::answers(answer).unwrap();
    install_guest(place, &manifest("demo", version, more), &wasm);
}

async fn until_it_answers(client: &mut Client, answer: &Value) {
    eventually("the new version answers", async || {
        client.call("demo.run", json!(null)).await.ok().filter(|given| given == answer)
    })
    .await;
}

#[tokio::test]
async fn dropped_in_replaced_and_removed_while_the_program_runs() {
    let place = Place::empty();
    let program = place.start().await;
    let mut client = program.client().await;
    answers(&place, "1", "1", &json!({}));
    program.plugin_until("demo", "waits for a grant", |found| found["state"] == "needs-grant").await;
    let granted = program.grant_all("demo").await;
    assert_eq!((&granted["state"], &granted["version"]), (&json!("ready"), &json!("1")));
    assert_eq!(client.ok("demo.run", json!(null)).await, 1);
    answers(&place, "2", "2", &json!({}));
    until_it_answers(&mut client, &json!(2)).await;
    program.plugin_until("demo", "the new version is listed", |found| found["version"] == "2").await;
    fs::remove_dir_all(place.plugins().join("demo")).unwrap();
    program.plugin_until("demo", "is gone", Value::is_null).await;
    assert_eq!(client.refused("demo.run", json!(null)).await["message"], "unknown method: demo.run");
    // Who comes back finds its rights again: they belong to the id.
    answers(&place, "3", "3", &json!({}));
    until_it_answers(&mut client, &json!(3)).await;
    program.stop().await;
}

/// A `.wasm` that carries its manifest needs no folder.
#[tokio::test]
async fn a_single_file_is_a_plugin() {
    let place = Place::empty();
    let program = place.start().await;
    let wasm = with_manifest(&leanclaw_test_guests::answers("5").unwrap(), &json!({"id": "demo", "version": "1"}));
    fs::write(place.plugins().join("any-name.wasm"), wasm).unwrap();
    program.plugin_until("demo", "waits for a grant", |found| found["state"] == "needs-grant").await;
    program.grant_all("demo").await;
    assert_eq!(program.client().await.ok("demo.run", json!(null)).await, 5);
    fs::remove_file(place.plugins().join("any-name.wasm")).unwrap();
    program.plugin_until("demo", "is gone", Value::is_null).await;
    program.stop().await;
}

/// Adds the custom section by hand, as any other tool would: it is part of the format that others may write.
fn with_manifest(wasm: &[u8], manifest: &Value) -> Vec<u8> {
    const NAME: &str = "leanclaw:manifest";
    let manifest = manifest.to_string();
    let mut section = vec![u8::try_from(NAME.len()).unwrap()];
    section.extend_from_slice(NAME.as_bytes());
    section.extend_from_slice(manifest.as_bytes());
    let size = u8::try_from(section.len()).ok().filter(|size| *size < 0x80).expect("a size of one byte");
    [wasm, &[0, size], &section].concat()
}

#[tokio::test]
async fn a_half_written_component_is_waited_out() {
    let place = Place::empty();
    answers(&place, "1", "1", &json!({}));
    let program = place.start().await;
    program.grant_all("demo").await;
    let mut client = program.client().await;
    let new = leanclaw_test_guests::answers("2").unwrap();
    let file = place.plugins().join("demo/plugin.wasm");
    // A writer that takes its time: the first half lies there until the program has looked at it and said so.
    let (first, _) = new.split_at(new.len() / 2);
    fs::write(&file, first).unwrap();
    let refused = program.plugin_until("demo", "the half is refused", |found| !text(&found["reason"]).is_empty()).await;
    assert_eq!(refused["state"], "ready", "the old version keeps running: {refused}");
    assert_eq!(client.ok("demo.run", json!(null)).await, 1);
    fs::write(&file, &new).unwrap();
    until_it_answers(&mut client, &json!(2)).await;
    program.plugin_until("demo", "nothing is wrong any more", |found| found["reason"] == "").await;
    program.stop().await;
}

#[expect(clippy::too_many_lines, reason = "one plugin's story, told in order")]
#[tokio::test]
async fn a_bad_replacement_leaves_the_old_version_running_and_says_why() {
    let place = Place::empty();
    answers(&place, "1", "1", &json!({}));
    let program = place.start().await;
    program.grant_all("demo").await;
    let mut client = program.client().await;
    let folder = place.plugins().join("demo");
    let good = fs::read_to_string(folder.join("leanclaw.plugin.json")).unwrap();
    let component = fs::read(folder.join("plugin.wasm")).unwrap();
    let mut reasons = Vec::new();
    for (name, bytes) in [
        ("plugin.wasm", b"not WebAssembly at all".as_slice()),
        ("plugin.wasm", b"\0asm\x01\0\0\0"),
        ("plugin.wasm", &component[..component.len() / 2]),
        ("leanclaw.plugin.json", br#"{"id": "demo", "main": "../demo/plugin.wasm"}"#),
        ("leanclaw.plugin.json", br#"{"id": "demo", "main": "/etc/plugin.wasm"}"#),
        ("leanclaw.plugin.json", br#"{"id": "demo", "main": "other.wasm"}"#),
        ("leanclaw.plugin.json", br#"{"id": "demo", "main": }"#),
        ("leanclaw.plugin.json", br#"{"id": "demo", "main": "plugin.wasm", "permissions": {"root": true}}"#),
    ] {
        fs::write(folder.join(name), bytes).unwrap();
        let refused = program.plugin_until("demo", "it is refused", |found| found["reason"] != "").await;
        assert_eq!((&refused["state"], &refused["version"]), (&json!("ready"), &json!("1")), "{refused}");
        let reason =
            text(&refused["reason"]).strip_prefix("the version on disk was refused and the old one keeps running: ");
        reasons.push(reason.unwrap().replace(folder.to_str().unwrap(), "FOLDER"));
        assert_eq!(client.ok("demo.run", json!(null)).await, 1);
        fs::write(folder.join("leanclaw.plugin.json"), &good).unwrap();
        fs::write(folder.join("plugin.wasm"), &component).unwrap();
        program.plugin_until("demo", "it is well again", |found| found["reason"] == "").await;
    }
    let fields = "\nhint: the manifest's fields are in wit/manifest.schema.json";
    assert_eq!(
        reasons,
        [
            "The component cannot be loaded: this is not a WebAssembly file\n\
             hint: a component starts with the bytes 00 61 73 6d 0d 00 01 00",
            "The component cannot be loaded: this is a core WebAssembly module, not a component\n\
             hint: build with `--target wasm32-wasip2`, or wrap it with `wasm-tools component new module.wasm`",
            &format!(
                "The component cannot be loaded: the component is cut off after {} bytes\n\
                 hint: copy or build it again; a copy may still be running",
                component.len() / 2
            ),
            &format!(
                "The manifest's `main` is not acceptable: `../demo/plugin.wasm` must be a relative path inside the \
                 plugin's folder.{fields}"
            ),
            &format!(
                "The manifest's `main` is not acceptable: `/etc/plugin.wasm` must be a relative path inside the plugin's \
                 folder.{fields}"
            ),
            "`FOLDER/other.wasm` named by `main` cannot be read: No such file or directory (os error 2)\n\
             hint: a plugin is a folder with a leanclaw.plugin.json and the component it names, or one .wasm that carries \
             its manifest; leanclaw plugin check PATH looks closer",
            &format!("The manifest does not parse: expected value at line 1 column 24.{fields}"),
            &format!(
                "The manifest does not parse: unknown field `root`, expected one of `http`, `privateHttp`, `sockets`, \
                 `secrets`, `kv`, `events`, `inbox`, `poll`, `webhook`, `httpRoutes`, `hooks`, `limits` at line 1 column 60.{fields}"
            ),
        ]
    );
    program.stop().await;
}

/// A call that is in flight ends in the version it began in; the next one gets the new version.
#[tokio::test]
async fn a_call_in_flight_survives_the_swap() {
    for lifecycle in ["per-call", "resident"] {
        let place = Place::empty();
        let (old, new) = (Held::start("\"old\"").await, Held::start("\"new\"").await);
        let hosts = json!([format!("http://{}", old.address), format!("http://{}", new.address)]);
        let more = json!({"lifecycle": lifecycle, "permissions": {"privateHttp": hosts}});
        held_fetch(&place, old.address, "1", &more);
        let program = place.start().await;
        program.grant_all("held").await;
        let mut client = program.client().await;
        let slow = client.send("held.run", json!(format!("http://{}/", old.address))).await;
        old.arrived().await;
        held_fetch(&place, old.address, "2", &more);
        program.plugin_until("held", "the new version is there", |found| found["version"] == "2").await;
        new.let_go();
        assert_eq!(client.ok("held.run", json!(format!("http://{}/", new.address))).await, "new", "{lifecycle}");
        old.let_go();
        assert_eq!(client.answer(&slow).await, Ok(json!("old")), "{lifecycle}");
        program.stop().await;
    }
}

/// Calls without a pause on four connections while the plugin is swapped again and again: none fails, and each gets the
/// answer of a version that was there.
#[tokio::test]
async fn swaps_under_load_fail_no_call() {
    const SWAPS: u64 = 6;
    let place = Place::empty();
    answers(&place, "0", "0", &json!({}));
    let program = place.start().await;
    program.grant_all("demo").await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, address) = (Arc::clone(&stop), program.address);
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                let (mut calls, mut newest) = (0_u64, 0);
                while !stop.load(Ordering::Relaxed) {
                    let version = client.ok("demo.run", json!(null)).await.as_u64().unwrap();
                    assert!(version >= newest, "an old version answered after a newer one");
                    newest = version;
                    calls += 1;
                }
                (calls, newest)
            })
        })
        .collect();
    let mut client = program.client().await;
    for version in 1..=SWAPS {
        answers(&place, &version.to_string(), &version.to_string(), &json!({}));
        until_it_answers(&mut client, &json!(version)).await;
    }
    // One more round so that every caller has met the last version.
    let before = program.plugin("demo").await["stats"]["calls"].as_u64().unwrap();
    program.plugin_until("demo", "it is called", |found| found["stats"]["calls"].as_u64() > Some(before + 40)).await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        let (calls, newest) = caller.await.expect("no call failed");
        assert!(calls > 0);
        assert_eq!(newest, SWAPS);
    }
    program.stop().await;
}

#[tokio::test]
async fn an_update_that_asks_for_more_waits_for_an_admin_and_keeps_what_it_had() {
    let place = Place::empty();
    let asking = |hosts: &[&str]| json!({"permissions": {"http": hosts}});
    answers(&place, "1", "1", &asking(&["https://a.example"]));
    let program = place.start().await;
    program.grant_all("demo").await;
    answers(&place, "2", "2", &asking(&["https://a.example", "https://b.example"]));
    let waiting = program.plugin_until("demo", "it waits", |found| found["state"] == "needs-grant").await;
    assert_eq!(
        waiting["reason"],
        "this version asks for more than was decided on: http:https://b.example\n\
         hint: leanclaw plugin grant demo --all, or name what to grant; what is not named stays refused"
    );
    assert_eq!(waiting["granted"], json!({"http": ["https://a.example"]}), "the old grant is kept");
    assert_eq!(waiting["missing"], json!(["http:https://b.example"]));
    // The version that asked for less finds its grant as it was.
    answers(&place, "1", "1", &asking(&["https://a.example"]));
    program.plugin_until("demo", "it is ready again", |found| found["state"] == "ready").await;
    answers(&place, "2", "2", &asking(&["https://a.example", "https://b.example"]));
    program.plugin_until("demo", "it waits again", |found| found["state"] == "needs-grant").await;
    let granted =
        place.run(&["plugin", "grant", "demo", "--http", "https://b.example", "--yes", "--json"]).await.json();
    assert_eq!((&granted["state"], &granted["missing"]), (&json!("ready"), &json!([])));
    program.stop().await;
}

#[tokio::test]
async fn of_two_plugins_with_one_id_the_first_runs() {
    let place = Place::empty();
    answers(&place, "1", "1", &json!({}));
    let program = place.start().await;
    program.grant_all("demo").await;
    let copy = place.plugins().join("a-copy");
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("plugin.wasm"), leanclaw_test_guests::answers("666").unwrap()).unwrap();
    fs::write(copy.join("leanclaw.plugin.json"), manifest("demo", "9", &json!({})).to_string()).unwrap();
    let taken = format!("the plugin id `demo` is taken by {}", place.plugins().join("demo").display());
    eventually("the log tells of the second", async || program.log().contains(&taken).then_some(())).await;
    assert_eq!(program.client().await.ok("demo.run", json!(null)).await, 1);
    assert_eq!(program.plugin("demo").await["version"], "1");
    // It was granted to the id, so the one that is left gets it: an admin removed the other.
    fs::remove_dir_all(place.plugins().join("demo")).unwrap();
    program.plugin_until("demo", "the other one takes over", |found| found["version"] == "9").await;
    program.stop().await;
}

#[tokio::test]
async fn a_plugin_of_openclaw_is_shown_and_told_what_it_lacks() {
    let place = Place::empty();
    let folder = place.plugins().join("js-thing");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("index.js"), "export default {}").unwrap();
    let openclaw = json!({
        "id": "js-thing", "name": "A thing", "main": "index.js", "kind": "memory", "channels": ["thing"],
        "configSchema": {"type": "object"}, "uiHints": {"apiKey": {"sensitive": true}}, "enabledByDefault": true
    });
    fs::write(folder.join("openclaw.plugin.json"), openclaw.to_string()).unwrap();
    let program = place.start().await;
    let listed = place.run(&["plugin", "list", "--json"]).await.json();
    assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&json!("js-thing"), &json!("disabled")));
    assert_eq!(
        listed[0]["reason"],
        "metadata only: its `main` is `index.js`, which is not a component\n\
         hint: build the plugin as a WebAssembly component for `wit` (leanclaw plugin new --lang js shows how) and set \
         \"main\" to its .wasm"
    );
    program.stop().await;
}

/// A manifest of OpenClaw may name a component: then it is a plugin like any other, with all of OpenClaw's fields.
#[tokio::test]
async fn a_manifest_of_openclaw_that_names_a_component_is_a_plugin() {
    let place = Place::empty();
    let folder = place.plugins().join("theirs");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("plugin.wasm"), leanclaw_test_guests::answers("5").unwrap()).unwrap();
    let openclaw = json!({
        "id": "theirs", "version": "3", "main": "plugin.wasm", "kind": "memory", "enabledByDefault": true,
        "configSchema": {"type": "object"}, "uiHints": {"apiKey": {"sensitive": true}}
    });
    fs::write(folder.join("openclaw.plugin.json"), openclaw.to_string()).unwrap();
    let program = place.start().await;
    assert_eq!(program.grant_all("theirs").await["state"], "ready", "enabled by default is not granted by default");
    assert_eq!(program.client().await.ok("theirs.run", json!(null)).await, 5);
    program.stop().await;
}

/// A folder made for both programs has both manifests. Ours counts, and the other one not even for its id.
#[tokio::test]
async fn of_two_manifests_ours_counts() {
    let place = Place::empty();
    let folder = place.plugins().join("ours");
    install_guest(&place, &manifest("ours", "1", &json!({})), &leanclaw_test_guests::answers("5").unwrap());
    fs::write(folder.join("index.js"), "export default {}").unwrap();
    let openclaw = json!({"id": "theirs", "version": "9", "main": "index.js", "configSchema": {"type": "object"}});
    fs::write(folder.join("openclaw.plugin.json"), openclaw.to_string()).unwrap();
    let ids = async || -> Vec<Value> {
        let listed = place.run(&["plugin", "list", "--json"]).await.json();
        listed.as_array().unwrap().iter().map(|entry| entry["id"].clone()).collect()
    };
    let program = place.start().await;
    assert_eq!(program.grant_all("ours").await["version"], "1");
    assert_eq!(ids().await, ["ours"]);
    assert_eq!(program.client().await.ok("ours.run", json!(null)).await, 5);
    // Without it the other one is looked at.
    fs::remove_file(folder.join("leanclaw.plugin.json")).unwrap();
    program.plugin_until("theirs", "shows up", |found| found["state"] == "disabled").await;
    assert_eq!(ids().await, ["theirs"]);
    program.stop().await;
}

/// What the table of `diagnose` looks like to somebody who forgot a permission, and to somebody with a wrong version.
#[tokio::test]
async fn the_reason_of_a_plugin_that_does_not_fit_is_a_table() {
    let place = Place::empty();
    let forgetful = leanclaw_test_guests::Guest::method("import kv;", "(call $kv.delete (local.get $params) (local.get $params_len) (call $room)) (call $ok (global.get $null) (global.get $null_len))").build().unwrap();
    install_guest(&place, &manifest("demo", "1", &json!({})), &forgetful);
    let program = place.start().await;
    program.grant_all("demo").await;
    assert_eq!(
        listed_reason(&place).await,
        "it imports what is not granted: leanclaw:plugin/kv@0.1.0\n\
         import  leanclaw:plugin/types@0.1.0   provided\n\
         import  leanclaw:plugin/kv@0.1.0      not granted\n\
         import  leanclaw:plugin/call@0.1.0    provided\n\
         export  leanclaw:plugin/method@0.1.0  provided\n\
         hint: `leanclaw:plugin/kv@0.1.0` is imported but not asked for: add \"kv\": {\"quotaBytes\": 1048576} to \
         \"permissions\" in the manifest, then leanclaw plugin grant demo --all\n"
    );
    let wit = newer_contract(&place);
    let newer = leanclaw_test_guests::Guest::method("", "(call $ok (local.get $params) (local.get $params_len))")
        .against(&wit, "0.2.0")
        .build()
        .unwrap();
    install_guest(&place, &manifest("demo", "2", &json!({})), &newer);
    program.plugin_until("demo", "the newer one is looked at", |found| found["version"] == "2").await;
    let reason = listed_reason(&place).await;
    let expected = "The component does not fit: it imports what this host does not have: leanclaw:plugin/types@0.2.0, leanclaw:plugin/call@0.2.0\n\
         import  leanclaw:plugin/types@0.2.0   wrong version (host offers 0.1.0)\n\
         import  leanclaw:plugin/call@0.2.0    wrong version (host offers 0.1.0)\n\
         export  leanclaw:plugin/method@0.2.0  wrong version (host offers 0.1.0)\n\
         hint: `leanclaw:plugin/types@0.2.0`: this host offers version 0.1.0; build against its `wit` folder";
    assert!(reason.starts_with(expected), "{reason}");
    program.stop().await;
}

async fn listed_reason(place: &Place) -> String {
    let listed = place.run(&["plugin", "list", "--json"]).await.json();
    text(&listed[0]["reason"]).to_owned()
}

/// A copy of the contract with a version that this host does not know.
fn newer_contract(place: &Place) -> std::path::PathBuf {
    let folder = place.work().join("wit");
    fs::create_dir_all(folder.join("deps")).unwrap();
    for below in ["", "deps"] {
        for entry in fs::read_dir(leanclaw_test_guests::wit_folder().join(below)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "wit") {
                let text = fs::read_to_string(&path).unwrap().replace("leanclaw:plugin@0.1.0", "leanclaw:plugin@0.2.0");
                fs::write(folder.join(below).join(path.file_name().unwrap()), text).unwrap();
            }
        }
    }
    folder
}
