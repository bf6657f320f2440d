//! The example plugins as their users meet them: through the real program, with real servers at the other end.

use std::fs;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{Place, Program, Received, Recorder, env, eventually, eventually_within, request, run};

/// How long the largest component may take to compile on a machine that has much else to do.
const COMPILE_PATIENCE: Duration = Duration::from_secs(300);

/// A program with one example plugin that is granted what it asks for.
async fn with(id: &str) -> (Place, Program) {
    let place = Place::empty();
    place.add_example(id);
    let program = place.start().await;
    program.plugin_until(id, "it is there", |found| found["state"] == "needs-grant").await;
    let mut client = program.client().await;
    // Not waited for: it compiles the component.
    client.send("plugins.grant", json!({"pluginId": id, "all": true})).await;
    eventually_within(COMPILE_PATIENCE, id, async || {
        let found = program.plugin(id).await;
        if found["state"] == "ready" { Ok(()) } else { Err(found) }
    })
    .await;
    (place, program)
}

/// What a tool answers somebody who types the call.
async fn invoked(place: &Place, tool: &str, arguments: Value) -> Value {
    let call = json!({"name": tool, "args": arguments}).to_string();
    place.run(&["call", "tools.invoke", &call]).await.json()
}

#[tokio::test]
async fn units_in_javascript() {
    let (place, program) = with("units").await;
    let converted = invoked(&place, "convert_units", json!({"value": 5, "from": "km", "to": "mi"})).await;
    let details = &converted["output"]["details"];
    assert_eq!((&details["unit"], &details["category"]), (&json!("mi"), &json!("length")), "{converted}");
    assert!((details["value"].as_f64().unwrap() - 3.106_855_96).abs() < 1e-6, "{converted}");
    let sizes = json!({"a": {"value": 1, "unit": "MiB"}, "b": {"value": 1, "unit": "MB"}});
    let compared = invoked(&place, "compare_units", sizes).await;
    assert_eq!(compared["output"]["details"]["relation"], "greater", "{compared}");
    let mixed = invoked(&place, "convert_units", json!({"value": 1, "from": "km", "to": "kg"})).await;
    assert_eq!((&mixed["ok"], mixed["output"].is_null()), (&json!(false), true), "{mixed}");
    program.stop().await;
}

#[tokio::test]
async fn text_stats_in_python() {
    let (place, program) = with("text-stats").await;
    let text = json!({"text": "The cat sat on the mat. It was happy.", "top": 1, "skip_common": false});
    let counted = invoked(&place, "text_statistics", text).await;
    let details = &counted["output"]["details"];
    assert_eq!((&details["words"], &details["sentences"], &details["paragraphs"]), (&json!(9), &json!(2), &json!(1)));
    assert_eq!(details["top_words"], json!([{"word": "the", "count": 2}]), "{counted}");
    let read = invoked(&place, "readability", json!({"text": "The cat sat on the mat. It was happy."})).await;
    assert_eq!(read["output"]["details"]["syllables"], 10, "{read}");
    let none = invoked(&place, "text_statistics", json!({"text": ""})).await;
    assert_eq!(none["ok"], false, "the schema asks for a character: {none}");
    program.stop().await;
}

/// The webhook channel, allowed to post to `server`, with this entry in the configuration. Nothing is granted.
async fn channel(server: &Recorder, entry: Value) -> Place {
    let place = Place::with_examples(&["webhook-channel"]).await;
    let file = place.plugins().join("webhook-channel/leanclaw.plugin.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    manifest["permissions"]["privateHttp"] = json!([server.origin()]);
    fs::write(file, manifest.to_string()).unwrap();
    place.write_config(&json!({"plugins": {"entries": {"webhook-channel": entry}}}).to_string());
    place
}

/// Grants an account what it asks for and gives it a key.
async fn open_account(place: &Place, account: &str, key: &str) {
    place.run(&["plugin", "grant", account, "--all", "--yes"]).await.ok();
    let file = place.work().join("key");
    fs::write(&file, key).unwrap();
    let mut command = place.command(&["plugin", "secret", "set", account, "signing-key"]);
    command.stdin(fs::File::open(&file).unwrap());
    run(command).await.ok();
}

fn signature(key: &str, direction: &str, timestamp: &str, body: &[u8]) -> String {
    let mut tag = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    tag.update(&[direction.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat());
    tag.finalize().into_bytes().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Checks that a message was signed with this key; what it says.
fn verified(received: &Received, key: &str) -> Value {
    let timestamp = received.header("x-leanclaw-timestamp").unwrap();
    let expected = signature(key, "out", timestamp, &received.body);
    assert_eq!(received.header("x-leanclaw-signature"), Some(expected.as_str()));
    serde_json::from_slice(&received.body).unwrap()
}

#[tokio::test]
async fn a_message_goes_out_signed_and_is_sent_again_when_the_server_says_so() {
    let mut server = Recorder::start(&[
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 0\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n{\"messageId\": \"77\"}",
    ])
    .await;
    let place = channel(&server, json!({"config": {"url": server.origin() + "/take"}})).await;
    let program = place.start().await;
    open_account(&place, "webhook-channel", "key-1").await;
    let message = json!({"to": "room", "channel": "webhook", "message": "Hello", "idempotencyKey": "k1"});
    let mut client = program.client().await;

    let refused = client.refused("send", message.clone()).await;
    assert_eq!((&refused["retryable"], &refused["retryAfterMs"]), (&json!(true), &json!(7000)), "{refused}");
    let first = server.received().await;
    let key = first.header("idempotency-key").unwrap().to_owned();
    assert_eq!((first.line.as_str(), key.len()), ("POST /take HTTP/1.1", 64), "one of the caller and the message");
    let said = verified(&first, "key-1");
    assert_eq!((&said["conversation"], &said["text"]), (&json!("room"), &json!("Hello")), "{said}");

    let sent = client.ok("send", message.clone()).await;
    assert_eq!((&sent["messageId"], &sent["channel"]), (&json!("77"), &json!("webhook")), "{sent}");
    let second = server.received().await;
    assert_eq!(verified(&second, "key-1"), said);
    assert_eq!(second.header("idempotency-key"), Some(key.as_str()));

    // It has arrived, so the same key posts nothing more: the server has no further answer.
    assert_eq!(client.ok("send", message).await["messageId"], "77");
    let fresh = json!({"to": "room", "channel": "webhook", "message": "Hello", "idempotencyKey": "k2"});
    client.refused("send", fresh).await;
    assert_ne!(server.received().await.header("idempotency-key"), Some(key.as_str()));
    program.stop().await;
}

/// Hands in the message `m1`, signed with `key`.
async fn hand_in(program: &Program, plugin: &str, key: &str) -> u16 {
    let body = br#"{"id": "m1", "from": "ada", "conversation": "room", "text": "Hello"}"#;
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let signature = signature(key, "in", &seconds, body);
    let headers = [("x-leanclaw-timestamp", seconds.as_str()), ("x-leanclaw-signature", signature.as_str())];
    request(program.address, "POST", &format!("/plugins/{plugin}/hook/"), &headers, body).await.status
}

#[tokio::test]
async fn two_accounts_of_a_plugin_share_nothing() {
    const TAKEN: &str = "HTTP/1.1 204 No Content\r\n";
    let mut server = Recorder::start(&[TAKEN, TAKEN]).await;
    let (url, work_url) = (server.origin() + "/home", server.origin() + "/work");
    let entry = json!({
        "config": {"url": url, "senderName": "Home"},
        "accounts": {"work": {"config": {"url": work_url}}},
    });
    let place = channel(&server, entry).await;
    let program = place.start().await;
    open_account(&place, "webhook-channel", "key-home").await;
    let standing = place.run(&["plugin", "inspect", "webhook-channel/work", "--json"]).await.json();
    assert_eq!(standing["state"], "needs-grant", "one account's rights are not the other's: {standing}");
    assert_eq!(hand_in(&program, "webhook-channel~work", "key-home").await, 503);
    open_account(&place, "webhook-channel/work", "key-work").await;

    // Keys are an account's own, and so is what it remembers: each takes the same message once.
    assert_eq!(hand_in(&program, "webhook-channel~work", "key-home").await, 401);
    for (plugin, key) in [("webhook-channel", "key-home"), ("webhook-channel~work", "key-work")] {
        let twice = [hand_in(&program, plugin, key).await, hand_in(&program, plugin, key).await];
        assert_eq!(twice, [202, 409], "{plugin}");
    }
    assert_eq!(hand_in(&program, "webhook-channel~none", "key-home").await, 404);

    // The same idempotency key in both: each sends, with its own settings over the plugin's.
    let mut client = program.client().await;
    for (account, line, key) in
        [("default", "POST /home HTTP/1.1", "key-home"), ("work", "POST /work HTTP/1.1", "key-work")]
    {
        let message = json!({
            "to": "room", "channel": "webhook", "accountId": account, "message": "Hello", "idempotencyKey": "k"
        });
        client.ok("send", message).await;
        let received = server.received().await;
        assert_eq!(received.line, line);
        assert_eq!(verified(&received, key)["sender"], "Home", "what an account does not set is the plugin's");
    }

    // One account is stopped and the other goes on; it stays so, and starts with what it had.
    let switch = async |what: &str| place.run(&["channels", what, "webhook", "--account", "work"]).await;
    assert_eq!(switch("stop").await.ok(), "webhook, account work, is stopped\n");
    assert_eq!(switch("stop").await.ok(), "webhook, account work, is stopped\n", "it is already");
    assert_eq!(hand_in(&program, "webhook-channel~work", "key-work").await, 503);
    assert_eq!(hand_in(&program, "webhook-channel", "key-home").await, 409, "that one still takes them, and knows it");
    program.stop().await;
    let program = place.start().await;
    program.plugin_until("webhook-channel", "it is loaded", |found| found["state"] == "ready").await;
    let accounts = async || {
        let listed = place.run(&["channels", "--json"]).await.json()["channelAccounts"]["webhook"].clone();
        let shown = listed.as_array().unwrap().clone();
        shown.into_iter().map(|own| (own["accountId"].clone(), own["running"] == true)).collect::<Vec<_>>()
    };
    assert_eq!(accounts().await, [(json!("default"), true), (json!("work"), false)]);
    let shown = place.run(&["channels"]).await.ok();
    assert!(shown.contains("stopped") && shown.contains("running"), "{shown}");
    assert!(shown.contains("plugins.entries.webhook-channel.accounts.work.enabled"), "{shown}");
    assert_eq!(switch("start").await.ok(), "webhook, account work, runs\n");
    assert_eq!(accounts().await, [(json!("default"), true), (json!("work"), true)]);
    assert_eq!(hand_in(&program, "webhook-channel~work", "key-work").await, 409);
    let other = place.run(&["channels", "stop", "nope"]).await.failed(1);
    assert!(other.contains("invalid channels.stop channel"), "{other}");
    program.stop().await;
    let program = place.start().await;
    let both = [(json!("default"), true), (json!("work"), true)];
    eventually("both accounts run", async || (accounts().await == both).then_some(())).await;
    program.stop().await;
}

/// Nothing takes its key any more, and the other account goes on.
#[tokio::test]
async fn an_account_that_is_logged_out_stays_so() {
    let server = Recorder::start(&[]).await;
    let place = channel(&server, json!({"config": {"url": server.origin() + "/take"}, "accounts": {"work": {}}})).await;
    let program = place.start().await;
    for (account, plugin, key) in [
        ("webhook-channel", "webhook-channel", "key-home"),
        ("webhook-channel/work", "webhook-channel~work", "key-work"),
    ] {
        open_account(&place, account, key).await;
        assert_eq!(hand_in(&program, plugin, key).await, 202);
    }
    let switch = async |what: &str| place.run(&["channels", what, "webhook", "--account", "work"]).await.ok();
    assert_eq!(switch("logout").await, "webhook, account work, is logged out\n");
    let left = async |account: &str| {
        let secrets = place.run(&["plugin", "secret", "list", account, "--json"]).await.json();
        secrets.as_array().unwrap().iter().any(|secret| secret["stored"] == true)
    };
    assert_eq!((left("webhook-channel").await, left("webhook-channel/work").await), (true, false));
    let refused = hand_in(&program, "webhook-channel~work", "key-work").await;
    assert!(![202, 409].contains(&refused), "{refused}");
    assert_eq!(hand_in(&program, "webhook-channel", "key-home").await, 409);
    let rows = place.run(&["audit", "tail", "--kind", "secret-changed", "--json"]).await.json();
    let row = rows.as_array().unwrap().last().unwrap();
    assert_eq!((&row["plugin"], &row["action"]), (&json!("webhook-channel/work"), &json!("removed")), "{rows}");
    assert!(row["actor"].as_str().unwrap().starts_with("client:"), "{rows}");
    program.stop().await;
    let program = place.start().await;
    program.plugin_until("webhook-channel", "it is loaded", |found| found["state"] == "ready").await;
    assert_eq!(hand_in(&program, "webhook-channel~work", "key-work").await, refused);
    assert_eq!(switch("logout").await, "webhook, account work, is logged out: it had no secrets\n");
    let other = place.run(&["channels", "logout", "nope"]).await.failed(1);
    assert!(other.contains("invalid channels.logout channel"), "{other}");
    program.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_named_by_its_address_is_called() {
    let place = Place::empty();
    let program = place.start_with(env("LEANCLAW_GATEWAY_API_KEY", "right")).await;
    // Somebody else, with other folders and no settings.
    let elsewhere = Place::empty();
    let address = program.address;
    for url in [format!("ws://{address}"), format!("ws://{address}/"), format!("http://{address}")] {
        let answer = elsewhere.run(&["call", "health", "--url", &url, "--token", "right"]).await;
        assert_eq!(answer.err, "", "{url}");
        assert_eq!(answer.json()["ok"], true, "{url}");
    }
    program.stop().await;
}
