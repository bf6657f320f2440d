//! Scenarios 4 and 13: plugins. The original loaded JavaScript into its own process and looked at the loader; here
//! packages lie in the folder of the running program, and the gateway is asked.

use std::fs;

use leanclaw_test_guests::{Guest, echo};
use serde_json::{Value, json};

use super::{Check, check};
use crate::support::{Place, Program, eventually, install_guest, manifest};

const DESCRIPTION: &str = "A test tool for compatibility testing";

pub(super) const CHECKS: &[Check] = &[
    check("plugins: openclaw manifest", |_| {
        Box::pin(async move {
            let (_place, program) = fixtures().await;
            assert_eq!(listed(&program, "echo-plugin").await["name"], "Echo Plugin");
        })
    }),
    check("plugins: leanclaw manifest", |_| {
        Box::pin(async move {
            let (_place, program) = fixtures().await;
            assert_eq!(listed(&program, "leanclaw-plugin").await["name"], "LeanClaw Format Plugin");
        })
    }),
    check("plugins: main", |_| {
        Box::pin(async move {
            let (_place, program) = fixtures().await;
            // Its file is not run, as it is no component; it is known all the same.
            assert!(listed(&program, "script-plugin").await["state"].is_string());
        })
    }),
    check("plugins: metadata only", |_| {
        Box::pin(async move {
            let (_place, program) = fixtures().await;
            let found = listed(&program, "metadata-only").await;
            assert_eq!((&found["installed"], found.get("error")), (&json!(true), None), "{found}");
        })
    }),
    check("plugins: invalid manifest", |_| {
        Box::pin(async move {
            let (_place, program) = fixtures().await;
            let rows = rows(&program).await;
            assert!(rows.len() >= 4 && rows.iter().all(|row| row["id"] != "invalid"), "{rows:?}");
        })
    }),
    check("plugins: channels", |_| {
        Box::pin(async move {
            let (_place, program) = fixtures().await;
            program.grant_all("channel-plugin").await;
            let status = program.client().await.ok("channels.status", json!({})).await;
            assert_eq!(status["channelOrder"], json!(["test-channel"]), "{status}");
        })
    }),
    check("plugins: contracts", |_| {
        Box::pin(async move {
            let (_place, program) = fixtures().await;
            assert_eq!(listed(&program, "contracts-plugin").await["name"], "OpenClaw Contracts Plugin");
        })
    }),
    check("plugins: list and get", |_| {
        Box::pin(async move {
            let (_place, program) = fixtures().await;
            assert!(!rows(&program).await.is_empty());
            let got = program.client().await.ok("plugins.inspect", json!({"pluginId": "echo-plugin"})).await;
            assert_eq!(got["plugin"]["id"], "echo-plugin");
        })
    }),
    check("plugins: get unknown", |_| {
        Box::pin(async move {
            let (_place, program) = fixtures().await;
            program.client().await.refused("plugins.inspect", json!({"pluginId": "nonexistent"})).await;
        })
    }),
    check("plugins: unique", |_| {
        Box::pin(async move {
            let (place, program) = fixtures().await;
            let twin = place.plugins().join("another-folder");
            fs::create_dir(&twin).unwrap();
            fs::write(twin.join("plugin.wasm"), echo().unwrap()).unwrap();
            fs::write(twin.join("leanclaw.plugin.json"), manifest("echo-plugin", "2", &json!({})).to_string()).unwrap();
            eventually("the second of its name is noticed", async || {
                let list = program.client().await.ok("plugins.list", json!({})).await;
                list["diagnostics"].to_string().contains("another-folder").then_some(())
            })
            .await;
            assert_eq!(rows(&program).await.iter().filter(|row| row["id"] == "echo-plugin").count(), 1);
        })
    }),
    check("plugins: loaded once", |_| {
        Box::pin(async move {
            let (_place, program) = fixtures().await;
            program.grant_all("echo-plugin").await;
            let before = program.plugin("echo-plugin").await;
            program.client().await.ok("plugins.reload", json!({})).await;
            assert_eq!(program.plugin("echo-plugin").await, before);
        })
    }),
    check("sdk: tool", |_| {
        Box::pin(async move {
            let (_place, program) = with_tool().await;
            assert_eq!(tool(&program).await["pluginId"], "ts-register-plugin");
        })
    }),
    check("sdk: catalog", |_| {
        Box::pin(async move {
            let (_place, program) = with_tool().await;
            assert_eq!(tool(&program).await["description"], DESCRIPTION);
        })
    }),
    check("sdk: empty catalog", |_| {
        Box::pin(async move {
            let place = Place::empty();
            let program = place.start().await;
            let catalog = program.client().await.ok("tools.catalog", json!({})).await;
            assert_eq!(catalog["groups"], json!([]));
        })
    }),
    check("sdk: failing register is loaded", |_| {
        Box::pin(async move {
            let (_place, program) = with_failing().await;
            assert_eq!(listed(&program, "failing").await["state"], "enabled");
        })
    }),
    check("sdk: failing register blocks nobody", |_| {
        Box::pin(async move {
            let (_place, program) = with_failing().await;
            assert_eq!(tool(&program).await["pluginId"], "ts-register-plugin");
        })
    }),
];

/// The original's fixtures, with components for code.
async fn fixtures() -> (Place, Program) {
    let place = Place::empty();
    let packages = [
        ("openclaw", json!({"id": "echo-plugin", "name": "Echo Plugin", "main": "plugin.wasm"}), true),
        ("leanclaw", json!({"id": "leanclaw-plugin", "name": "LeanClaw Format Plugin", "main": "plugin.wasm"}), true),
        ("openclaw", json!({"id": "script-plugin", "name": "Script Plugin", "main": "index.js"}), false),
        ("openclaw", json!({"id": "metadata-only", "name": "Metadata Only"}), false),
        (
            "openclaw",
            json!({
                "id": "contracts-plugin", "name": "OpenClaw Contracts Plugin", "version": "1.0.0", "kind": "provider",
                "contracts": {"speech": {"tts": true, "stt": false}}, "configSchema": {"type": "object"},
            }),
            false,
        ),
        ("openclaw", json!({"id": "invalid", "name": 7}), false),
    ];
    for (format, manifest, has_code) in packages {
        let folder = place.plugins().join(manifest["id"].as_str().unwrap());
        fs::create_dir(&folder).unwrap();
        if has_code {
            fs::write(folder.join("plugin.wasm"), echo().unwrap()).unwrap();
        }
        fs::write(folder.join("index.js"), "export default {}").unwrap();
        fs::write(folder.join(format!("{format}.plugin.json")), manifest.to_string()).unwrap();
    }
    let channel = Guest::new("export channel;").answer("channel.describe", json!({"id": "test-channel"}));
    let more = json!({"channels": ["test-channel"]});
    install_guest(&place, &manifest("channel-plugin", "1", &more), &channel.build().unwrap());
    let program = place.start().await;
    program.plugin_until("echo-plugin", "is there", |found| !found.is_null()).await;
    (place, program)
}

async fn rows(program: &Program) -> Vec<Value> {
    let list = program.client().await.ok("plugins.list", json!({})).await;
    list["plugins"].as_array().unwrap().clone()
}

async fn listed(program: &Program, id: &str) -> Value {
    let rows = rows(program).await;
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id} in {rows:?}")).clone()
}

fn add_tool(place: &Place) {
    let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}).to_string();
    let tool = json!({"name": "test_tool", "description": DESCRIPTION, "input-schema": schema});
    let guest = Guest::new("export skill;").answer("skill.tools", json!({ "ok": [tool] }));
    install_guest(place, &manifest("ts-register-plugin", "1", &json!({})), &guest.build().unwrap());
}

async fn with_tool() -> (Place, Program) {
    let place = Place::empty();
    add_tool(&place);
    let program = place.start().await;
    assert_eq!(program.grant_all("ts-register-plugin").await["state"], "ready");
    (place, program)
}

async fn with_failing() -> (Place, Program) {
    let place = Place::empty();
    add_tool(&place);
    let guest = Guest::new("export skill;").run("skill.tools", "unreachable");
    install_guest(&place, &manifest("failing", "1", &json!({})), &guest.build().unwrap());
    let program = place.start().await;
    for id in ["failing", "ts-register-plugin"] {
        program.grant_all(id).await;
    }
    (place, program)
}

/// The entry of `test_tool` in the catalog.
async fn tool(program: &Program) -> Value {
    let catalog = program.client().await.ok("tools.catalog", json!({})).await;
    let groups = catalog["groups"].as_array().unwrap().iter();
    let mut tools = groups.flat_map(|group| group["tools"].as_array().unwrap().clone());
    tools.find(|tool| tool["id"] == "test_tool").unwrap_or_else(|| panic!("{catalog}"))
}
