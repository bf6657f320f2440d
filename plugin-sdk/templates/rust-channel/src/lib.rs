//! A messaging channel that posts every message as JSON to an address of your own. Replace that with the service you
//! want to reach; `inbox::submit` hands in what people write there (see `Webhook`, `Poll` and `Socket`).

use leanclaw_plugin_sdk::http::Request;
use leanclaw_plugin_sdk::{Blob, Channel, Descriptor, Failure, Outbound, Receipt, log, settings};
use serde::{Deserialize, Serialize};

#[derive(Default)]
struct Plugin;

// What the component offers. `cargo doc -p leanclaw-plugin-sdk --open` shows what else there is.
leanclaw_plugin_sdk::export!(Plugin: channel);

/// `plugins.entries.{{id}}.config`, as the manifest's `configSchema` describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    url: String,
}

#[derive(Serialize)]
struct Message<'a> {
    conversation: &'a str,
    text: &'a str,
}

impl Channel for Plugin {
    fn describe(&self) -> Descriptor {
        Descriptor { id: "{{id}}".into(), title: "{{name}}".into(), max_text_bytes: 4000, ..Descriptor::default() }
    }

    /// Sends one message. The host tries again when a failure says that this may help, with the same idempotency key.
    fn deliver(&self, message: Outbound) -> Result<Receipt, Failure> {
        let settings: Settings = settings()?;
        let body = serde_json::to_vec(&Message { conversation: &message.place.id, text: &message.text() })?;
        Request::post(settings.url)
            .header("idempotency-key", &message.idempotency_key)
            .body(Blob::new("application/json", body))
            .send()?
            .success()?;
        log::info!("sent {}", message.idempotency_key);
        Ok(Receipt::default())
    }
}

#[cfg(test)]
mod tests {
    use leanclaw_plugin_sdk::testing::{Stub, TestHost};
    use leanclaw_plugin_sdk::{Part, Place};
    use serde_json::json;

    use super::*;

    fn message() -> Outbound {
        Outbound {
            place: Place::direct("ada"),
            parts: vec![Part::text("Hello")],
            reply_to: None,
            idempotency_key: "key".into(),
            extra: None,
        }
    }

    #[test]
    fn it_posts_messages() {
        let host = TestHost::with_manifest(include_str!("../leanclaw.plugin.json")).unwrap();
        host.set_settings(json!({"url": "https://messages.example.com/in"}));
        host.stub_http("POST", "https://messages.example.com/in", Stub::status(204));
        Plugin.deliver(message()).unwrap();
        host.stub_http("POST", "https://messages.example.com/in", Stub::status(503));
        assert!(Plugin.deliver(message()).unwrap_err().retryable);
        assert_eq!(host.requests().len(), 2);
    }
}
