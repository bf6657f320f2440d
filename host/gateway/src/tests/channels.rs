//! Channels, which plugins serve.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::fake::plugin;
use super::web::request;
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
async fn a_channel_whose_service_cannot_be_reached_runs_and_is_not_connected() {
    let server = with_channels().await;
    let mut client = server.connect(4, &["operator.read"]).await;
    for cut_off in [true, false] {
        server.host.cut_off.store(cut_off, Ordering::SeqCst);
        let status = client.call("channels.status", json!({})).await["payload"].clone();
        let hook = &status["channels"]["hook"];
        assert_eq!((&hook["running"], &hook["connected"]), (&json!(true), &json!(!cut_off)));
        assert_eq!(hook["lastError"].as_str().is_some_and(|why| why.contains("plugin logs")), cut_off, "{hook}");
        let lines = client.call("status", json!({})).await["payload"]["channelSummary"].clone();
        assert_eq!(lines[0] == "Webhook: running", !cut_off, "{lines}");
        let figures = request(&server, "GET /metrics", &[], "").await.json();
        assert_eq!(figures["connectedChannels"], json!(u8::from(!cut_off)));
    }
}

#[tokio::test]
async fn what_cannot_be_done_here_says_where_it_is_done() {
    let server = with_channels().await;
    let mut admin = server.admin().await;
    let started = admin.call("channels.start", json!({"channel": "hook"})).await;
    assert_eq!(started["payload"], json!({"channel": "hook", "accountId": "default", "started": true}));
    // What does not run now will after the next start, unless it is said in the file.
    for (method, channel, remedy) in [
        ("channels.start", "mail", "this program has no configuration file"),
        ("channels.stop", "mail", "this program has no configuration file"),
        ("channels.stop", "hook", "this program has no configuration file"),
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
async fn a_logout_is_carried_out_for_the_account_that_is_meant_and_others_see_that() {
    let server = with_channels().await;
    let mut work = plugin("hook", "ready", "");
    (work.account, work.exports) = ("work".parse().unwrap(), vec!["channel".into()]);
    server.host.more.lock().unwrap().push(work);
    *server.host.logins.lock().unwrap() = vec!["hook".into(), "hook/work".into()];
    let mut admin = server.admin().await;
    let mut other = server.connect(3, &["operator.read"]).await;
    for cleared in [true, false] {
        let out = admin.call("channels.logout", json!({"channel": "hook", "accountId": "work"})).await;
        let expected = json!({"channel": "hook", "accountId": "work", "cleared": cleared, "loggedOut": true});
        assert_eq!(out["payload"], expected, "{out}");
        let health = other.event("health").await["payload"].clone();
        assert_eq!(health["channelOrder"], json!(["hook", "mail"]), "{health}");
    }
    assert_eq!(*server.host.logins.lock().unwrap(), ["hook"], "the other account keeps its own");
    // A plugin's own name is one of its channel, also where the channel does not run.
    assert_eq!(admin.call("channels.logout", json!({"channel": "mail"})).await["payload"]["cleared"], false);
    let asked: Vec<_> = server
        .host
        .changes
        .lock()
        .unwrap()
        .iter()
        .map(|(what, key, _, by)| format!("{what} {key} {}", by.id))
        .collect();
    assert_eq!(asked, ["log-out hook/work token", "log-out hook/work token", "log-out mail token"]);
    for (channel, account) in [("nope", "default"), ("hook", "none")] {
        let unknown = admin.call("channels.logout", json!({"channel": channel, "accountId": account})).await;
        assert_invalid(&unknown, "invalid channels.logout channel");
    }
    let refused = other.call("channels.logout", json!({"channel": "hook"})).await;
    assert_eq!(refused["error"]["message"], "missing scope: operator.admin");
    assert_eq!(server.host.changes.lock().unwrap().len(), 3);
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
    let act = json!({"channel": "hook", "action": "send", "params": params, "idempotencyKey": "a"});
    assert_eq!(client.call("message.action", act).await["payload"]["messageId"], "a");
    let mut own = Vec::new();
    for _ in 0..2 {
        let sent = client.call("send", json!({"chatJid": "silent", "text": "hi"})).await["payload"].clone();
        assert_eq!(sent["runId"], sent["messageId"], "{sent}");
        own.push(sent["messageId"].clone());
    }
    assert!(own[0] != own[1], "each such call is a message of its own");
}
