//! Requests and messages that come in and go out through a channel plugin.

use leanclaw_test_guests::Guest;
use leanclaw_types::message::{Blob, Outbound, Part, Place};
use serde_json::{Value, json};

use super::support::{Bench, asking, assert_failed, context, manifest, with};
use crate::WebhookRequest;

/// `$reply`: a webhook's good answer with this status and body.
pub(super) const REPLY: &str = "(func $reply (param $status i32) (param $at i32) (param $length i32) (result i32)
    (local $area i32)
    (local.set $area (call $room))
    (i32.store16 offset=8 (local.get $area) (local.get $status))
    (i32.store offset=20 (local.get $area) (local.get $at))
    (i32.store offset=24 (local.get $area) (local.get $length))
    (local.get $area))";

/// A POST with this body.
pub(super) fn request(body: &str) -> WebhookRequest {
    WebhookRequest {
        method: "POST".into(),
        path: "/in".into(),
        query: "a=1".into(),
        headers: http::HeaderMap::new(),
        body: body.to_owned().into(),
        remote: "192.0.2.1:5".into(),
    }
}

/// A message with this idempotency key.
pub(super) fn message(key: &str) -> Outbound {
    Outbound {
        place: Place { id: "room".into(), kind: "group".into(), thread: None, title: None, extra: None },
        parts: vec![Part { kind: "text".into(), text: Some("hi".into()), blob: None, extra: None }],
        reply_to: None,
        idempotency_key: key.into(),
        extra: None,
    }
}

fn hook(id: &str) -> Value {
    asking(id, json!({"webhook": true}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_sees_the_request_and_its_answer_is_given_back() {
    let bench = Bench::with_witness().await;
    let echoes = |part: u32| {
        let body =
            format!("(call $reply (i32.const 201) (local.get $request_{part}) (local.get $request_{}))", part + 1);
        Guest::new("export webhook;").fields(REPLY).run("webhook.handle", &body).build().unwrap()
    };
    let parts = [(0, "POST"), (2, "/in"), (4, "a=1"), (8, "the body"), (10, "192.0.2.1:5")];
    for (part, text) in parts {
        let id = format!("part{part}");
        bench.install(&hook(&id), &echoes(part)).await;
        let reply = bench.plugins.webhook(&id.parse().unwrap(), request("the body"), context()).await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (201, text.as_bytes()));
    }
    let headers = json!([{"name": "x-a", "value": "1"}, {"name": "x-a", "value": "2"}]);
    let guest = Guest::new("export webhook;")
        .answer("webhook.handle", json!({"ok": {"status": 404, "headers": headers, "body": "no"}}));
    bench.install(&hook("headers"), &guest.build().unwrap()).await;
    let reply = bench.plugins.webhook(&"headers".parse().unwrap(), request(""), context()).await.unwrap();
    assert_eq!(reply.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_http_is_a_failure() {
    let bench = Bench::with_witness().await;
    let cases = [
        ("status-zero", json!({"status": 0})),
        ("status-low", json!({"status": 99})),
        ("status-high", json!({"status": 600})),
        ("status-switch", json!({"status": 101})),
        ("name", json!({"status": 200, "headers": [{"name": "bad name", "value": ""}]})),
        ("split", json!({"status": 200, "headers": [{"name": "x-a", "value": "1\r\nx-b: 2"}]})),
        ("no-name", json!({"status": 200, "headers": [{"name": "", "value": ""}]})),
    ];
    for (id, answer) in cases {
        let guest = Guest::new("export webhook;").answer("webhook.handle", json!({ "ok": answer }));
        bench.install(&hook(id), &guest.build().unwrap()).await;
        let failure = bench.plugins.webhook(&id.parse().unwrap(), request(""), context()).await.unwrap_err();
        assert_failed(&failure, "internal");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_reached_with_the_grant_only() {
    let bench = Bench::with_witness().await;
    let guest = Guest::new("export webhook;").answer("webhook.handle", json!({"ok": {"status": 200}}));
    bench.install(&hook("p"), &guest.build().unwrap()).await;
    let ask = async || bench.plugins.webhook(&"p".parse().unwrap(), request(""), context()).await;
    for _ in 0..2 {
        assert_eq!(ask().await.unwrap().status, 200);
        bench.revoke("p").await;
        let failure = ask().await.unwrap_err();
        assert_failed(&failure, "denied");
        assert!(failure.hints.contains(&"leanclaw plugin grant p webhook".to_owned()), "{:?}", failure.hints);
        bench.grant("p").await;
    }
    let failure = bench.plugins.webhook(&"witness".parse().unwrap(), request(""), context()).await.unwrap_err();
    assert_failed(&failure, "not-found");
    let failure = bench.plugins.webhook(&"nobody".parse().unwrap(), request(""), context()).await.unwrap_err();
    assert_failed(&failure, "not-found");
    bench.close().await;
}

fn channel(id: &str) -> Value {
    with(manifest(id), json!({"channels": ["parley"]}))
}

/// Describes itself as the channel `parley`, which can type.
fn chat() -> Guest {
    Guest::new("import blobs; export channel; export channel-actions;").answer(
        "channel.describe",
        json!({"id": "parley", "title": "Chat", "max-text-bytes": 100, "abilities": ["typing"]}),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_delivered_whole_and_the_receipt_comes_back() {
    let bench = Bench::with_witness().await;
    // The receipt's message id is the idempotency key, which stands 72 bytes into the message.
    let by_key = chat().run(
        "channel.deliver",
        "(local.set $area (call $room))
         (i32.store8 offset=8 (local.get $area) (i32.const 1))
         (i64.store offset=12 align=4 (local.get $area) (i64.load offset=72 align=4 (local.get $arguments)))
         (local.get $area)",
    );
    bench.install(&channel("keyed"), &by_key.build().unwrap()).await;
    let receipt = bench.plugins.deliver(&"keyed".parse().unwrap(), message("key-7"), context()).await.unwrap();
    assert_eq!(receipt.message_id.as_deref(), Some("key-7"));
    let channels = bench.plugins.channels();
    assert_eq!((channels.len(), channels[0].1.title.as_str(), channels[0].1.max_text_bytes), (1, "Chat", 100));

    // The first part's blob: its handle stands 24 bytes into the part.
    let by_blob = chat().run(
        "channel.deliver",
        "(call $blobs.blob.media-type (i32.load offset=24 (i32.load offset=52 (local.get $arguments))) (local.tee $i (call $room)))
         (local.set $area (call $room))
         (i32.store8 offset=8 (local.get $area) (i32.const 1))
         (i64.store offset=12 align=4 (local.get $area) (i64.load align=4 (local.get $i)))
         (local.get $area)",
    );
    bench.install(&channel("typed"), &by_blob.build().unwrap()).await;
    let mut picture = message("k");
    picture.parts[0].blob = Some(Blob { media_type: "image/png".into(), data: vec![1, 2, 3] });
    let receipt = bench.plugins.deliver(&"typed".parse().unwrap(), picture, context()).await.unwrap();
    assert_eq!(receipt.message_id.as_deref(), Some("image/png"));

    let busy = json!({"err": {"code": "rate-limited", "message": "Later.", "retryable": true, "retry-after-ms": 1500}});
    bench.install(&channel("busy"), &chat().answer("channel.deliver", busy).build().unwrap()).await;
    let failure = bench.plugins.deliver(&"busy".parse().unwrap(), message("k"), context()).await.unwrap_err();
    let advice = (failure.code.as_str(), failure.retryable, failure.retry_after_ms);
    assert_eq!(advice, ("rate-limited", true, Some(1500)), "the channel's advice is kept");
    assert_failed(
        &bench.plugins.deliver(&"witness".parse().unwrap(), message("k"), context()).await.unwrap_err(),
        "not-found",
    );
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ability_has_to_be_listed() {
    let bench = Bench::with_witness().await;
    let guest = chat().answer("channel-actions.perform", json!({"ok": "{\"done\":true}"}));
    bench.install(&channel("parley"), &guest.build().unwrap()).await;
    let guest = chat().answer("channel-actions.perform", json!({"ok": "{not json"}));
    bench.install(&channel("broken"), &guest.build().unwrap()).await;
    let perform = async |id: &str, action: &str| {
        let place = message("k").place;
        bench.plugins.perform(&id.parse().unwrap(), action, place, &json!({}), context()).await
    };
    assert_eq!(perform("parley", "typing").await.unwrap(), json!({"done": true}));
    let failure = perform("parley", "react").await.unwrap_err();
    assert_failed(&failure, "unsupported");
    assert!(failure.hints[0].contains("typing"), "{:?}", failure.hints);
    assert_failed(&perform("broken", "typing").await.unwrap_err(), "internal");
    bench.close().await;
}
