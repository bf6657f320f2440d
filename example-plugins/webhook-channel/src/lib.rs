//! A messaging channel over signed webhooks. `inbound` takes messages in, `outbound` sends them, `signature` is what both
//! sign. `README.md` has the wire format.

mod inbound;
mod outbound;
mod signature;

use leanclaw_plugin_sdk::{Channel, Descriptor, Failure, Outbound, Receipt, Webhook, web};
use serde::Deserialize;

/// The longest text that is sent, in bytes.
const MAX_TEXT_BYTES: u32 = 32 * 1024;

#[derive(Default)]
struct WebhookChannel;

leanclaw_plugin_sdk::export!(WebhookChannel: channel, webhook);

/// `plugins.entries.webhook-channel.config`, as the manifest's `configSchema` describes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Settings {
    url: Option<String>,
    sender_name: String,
    replay_window_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { url: None, sender_name: "LeanClaw".into(), replay_window_seconds: 300 }
    }
}

impl Channel for WebhookChannel {
    fn describe(&self) -> Descriptor {
        Descriptor {
            id: "webhook".into(),
            title: "Webhook".into(),
            max_text_bytes: MAX_TEXT_BYTES,
            ..Descriptor::default()
        }
    }

    fn deliver(&self, message: Outbound) -> Result<Receipt, Failure> {
        outbound::deliver(&message)
    }
}

impl Webhook for WebhookChannel {
    fn handle(&self, request: web::Request) -> Result<web::Reply, Failure> {
        inbound::handle(&request)
    }
}
