//! Channels, which plugins serve.

use serde_json::{Value, json};

use super::fake::plugin;
use super::{Server, assert_invalid, start, with_token};

async fn with_channels() -> Server {
    let server = start(with_token()).await;
    let mut own = vec![plugin("hook", "ready", ""), plugin("mail", "faulted", "it traps\nlook at its log")];
    for info in &mut own {
        info.exports = vec!["channel".into()];
    }
    *server.host.more.lock().unwrap() = own;
    server
}

#[tokio::test]
async fn every_channel_is_shown_with_how_it_stands() {
    let server = with_channels().await;
    for protocol in [3, 4] {
        let mut client = server.connect(protocol, &["operator.read"]).await;
        let status =
            client.call("channels.status", json!({"probe": true, "timeoutMs": 10000})).await["payload"].clone();
        for key in [
            "ts",
            "channelOrder",
            "channelLabels",
            "channelDetailLabels",
            "channelSystemImages",
            "channelMeta",
            "channels",
            "channelAccounts",
            "channelDefaultAccountId",
        ] {
            assert!(status.get(key).is_some(), "{key}: {status}");
        }
        assert_eq!(status["channelOrder"], json!(["hook", "mail"]));
        assert_eq!(status["channelLabels"], json!({"hook": "Webhook", "mail": "mail"}));
        assert_eq!(
            (&status["channels"]["hook"]["running"], &status["channels"]["hook"]["lastError"]),
            (&json!(true), &Value::Null)
        );
        let mail = &status["channelAccounts"]["mail"][0];
        assert_eq!((&mail["accountId"], &mail["running"]), (&json!("default"), &json!(false)));
        assert_eq!(mail["lastError"], "it traps\nlook at its log");
        let lines = client.call("status", json!({})).await["payload"]["channelSummary"].clone();
        assert_eq!(lines, json!(["Webhook: running", "mail: it traps"]));
        let health = client.call("health", json!({"probe": true})).await["payload"].clone();
        assert_eq!(
            (&health["channelOrder"], &health["channels"]["hook"]["running"]),
            (&json!(["hook", "mail"]), &json!(true))
        );
        // A plugin that changes is seen at once.
        server.host.more.lock().unwrap()[1].exports.clear();
        let status = client.call("channels.status", json!({})).await["payload"].clone();
        assert_eq!(status["channelOrder"], json!(["hook"]));
        server.host.more.lock().unwrap()[1].exports = vec!["channel".into()];
    }
}

#[tokio::test]
async fn what_cannot_be_done_here_says_where_it_is_done() {
    let server = with_channels().await;
    let mut admin = server.admin().await;
    let started = admin.call("channels.start", json!({"channel": "hook"})).await;
    assert_eq!(started["payload"], json!({"channel": "hook", "accountId": "default", "started": true}));
    let stopped = admin.call("channels.stop", json!({"channel": "mail", "accountId": "default"})).await;
    assert_eq!(stopped["payload"], json!({"channel": "mail", "accountId": "default", "stopped": true}));
    for (method, channel, remedy) in [
        ("channels.start", "mail", "this program has no configuration file"),
        ("channels.stop", "hook", "this program has no configuration file"),
        ("channels.logout", "hook", "leanclaw plugin secret remove hook NAME"),
    ] {
        let response = admin.call(method, json!({"channel": channel})).await;
        assert!(response["error"]["message"].as_str().unwrap().contains(remedy), "{response}");
        let response = admin.call(method, json!({"channel": "nope"})).await;
        assert_invalid(&response, &format!("invalid {method} channel"));
        assert_eq!(response["error"]["details"]["hints"], json!(["there are: hook, mail"]));
    }
    let mut reader = server.connect(4, &["operator.write"]).await;
    let response = reader.call("channels.stop", json!({"channel": "hook"})).await;
    assert_eq!(response["error"]["details"]["missingScope"], "operator.admin");
}

#[tokio::test]
async fn what_a_channel_cannot_deliver_is_not_said_to_be_sent() {
    let server = start(with_token()).await;
    for protocol in [3, 4] {
        let mut client = server.connect(protocol, &["operator.write"]).await;
        let send = json!({"to": "busy", "message": "hi", "channel": "hook", "idempotencyKey": "k"});
        let busy = client.call("send", send.clone()).await;
        assert_eq!((&busy["ok"], busy.get("payload")), (&json!(false), None), "{busy}");
        let error = &busy["error"];
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!("UNAVAILABLE"), &json!("The channel is busy.")),
            "{error}"
        );
        assert_eq!((&error["retryable"], &error["retryAfterMs"]), (&json!(true), &json!(700)), "{error}");
        let nowhere = json!({"to": "ada", "message": "hi", "channel": "pigeon", "idempotencyKey": "k"});
        assert_invalid(&client.call("send", nowhere).await, "unsupported channel: pigeon; ready are: hook");
    }
}

/// A channel need not have numbers for its messages; who sends one has its own then.
#[tokio::test]
async fn a_message_without_a_number_of_the_channel_has_that_of_its_sender() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    let send = json!({"to": "silent", "message": "hi", "idempotencyKey": "k"});
    let sent = client.call("send", send).await["payload"].clone();
    assert_eq!(sent, json!({"runId": "k", "messageId": "k", "channel": "hook"}));
    let params = json!({"to": "silent", "message": "hi"});
    let act = json!({"channel": "hook", "action": "send", "params": params, "idempotencyKey": "k"});
    assert_eq!(client.call("message.action", act).await["payload"]["messageId"], "k");
    let mut own = Vec::new();
    for _ in 0..2 {
        let sent = client.call("send", json!({"chatJid": "silent", "text": "hi"})).await["payload"].clone();
        assert_eq!(sent["runId"], sent["messageId"], "{sent}");
        own.push(sent["messageId"].clone());
    }
    assert!(own[0] != own[1], "each such call is a message of its own");
}
