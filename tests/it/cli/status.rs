//! `leanclaw status`, `health` and `channels`, and where they find the gateway.

use serde_json::json;

use crate::support::{Connect, Place, env, eventually};

#[tokio::test]
async fn how_a_gateway_stands_is_told_in_lines_and_as_json() {
    let place = Place::with_examples(&["notes"]).await;
    let program = place.start_with(env("LEANCLAW_GATEWAY_API_KEY", "right")).await;
    let elsewhere = Place::empty();
    let url = format!("ws://{}", program.address);
    let ask = async |command: &[&str]| elsewhere.run(&[command, &["--url", &url, "--token", "right"]].concat()).await;
    eventually("the plugin is there", async || {
        let plugins = ask(&["status", "--json"]).await.json()["plugins"].clone();
        (plugins[0]["state"] == "needs-grant").then_some(())
    })
    .await;
    let lines = ask(&["status"]).await.ok();
    assert!(lines.contains("plugins    1 needs-grant") && lines.contains("sessions   0"), "{lines}");
    let status = ask(&["status", "--json"]).await.json();
    assert_eq!((&status["health"]["ok"], &status["plugins"][0]["id"]), (&json!(true), &json!("notes")));
    assert_eq!(ask(&["health"]).await.ok(), "ok\nsessions: 0\n");
    assert_eq!(ask(&["health", "--json"]).await.json()["ok"], true);
    let none = "No plugin serves a channel; `leanclaw plugin list` shows what is installed.\n";
    assert_eq!(ask(&["channels"]).await.ok(), none);
    assert_eq!(ask(&["channels", "list", "--json"]).await.json()["channelOrder"], json!([]));

    let mut client = Connect::token("right").to(program.address).await.unwrap();
    client.ok("sessions.patch", json!({"key": "a"})).await;
    client.ok("wake", json!({"mode": "now", "text": "look"})).await;
    let lines = ask(&["status"]).await.ok();
    assert!(lines.contains("sessions   1") && lines.contains("1 waiting for an agent"), "{lines}");
    // Every command that asks a gateway goes where it is pointed, and nowhere else.
    let families: [(&[&str], &str); 4] = [
        (&["sessions", "--json"], "/sessions/0/key"),
        (&["devices", "--json"], "/paired"),
        (&["nodes", "--json"], "/nodes"),
        (&["call", "status"], "/runtimeVersion"),
    ];
    for (command, holds) in families {
        let told = elsewhere.run(&[command, &["--url", &url, "--token", "right"]].concat()).await.json();
        assert!(told.pointer(holds).is_some(), "{command:?}: {told}");
        let wrong = elsewhere.run(&[command, &["--url", &url, "--token", "wrong"]].concat()).await.failed(1);
        assert!(wrong.contains("token"), "{command:?}: {wrong}");
    }
    let lines = elsewhere.run(&["logs", "--url", &url, "--token", "right"]).await.ok();
    assert!(lines.contains("ready"), "{lines}");
    let wrong = elsewhere.run(&["health", "--url", &url, "--token", "wrong"]).await.failed(1);
    assert!(wrong.contains("token"), "{wrong}");
    program.stop().await;
    let gone = elsewhere.run(&["status", "--url", &url]).await.failed(1);
    assert!(gone.contains("error:"), "{gone}");
}
