//! `send`: a message out through a channel plugin.
//!
//! The answer comes after the channel has taken the message, so nothing is promised that is not done. Sending the same
//! idempotency key again is safe: while what became of it is known the channel is not asked again, and a channel sends each
//! key once.

use std::sync::{Arc, LazyLock};

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::message::{Outbound, Part, Place};
use leanclaw_types::{AccountId, Caller};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::connection::{Answer, Call};
use crate::error::failure_to_error;
use crate::once::{self, Call as OnceCall, Ended, What};
use crate::phrase::{Shape, no_nulls};
use crate::plugins::Channel;
use crate::wire::Payload;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "a client may say more than there is a use for here")]
struct Send {
    #[schemars(length(min = 1))]
    to: String,
    #[serde(default)]
    message: String,
    channel: Option<String>,
    account_id: Option<String>,
    agent_id: Option<String>,
    thread_id: Option<String>,
    reply_to_id: Option<String>,
    session_key: Option<String>,
    silent: Option<bool>,
    parse_mode: Option<String>,
    media_url: Option<String>,
    media_urls: Option<Vec<String>>,
    buffer: Option<String>,
    filename: Option<String>,
    content_type: Option<String>,
    as_voice: Option<bool>,
    gif_playback: Option<bool>,
    force_document: Option<bool>,
    #[schemars(length(min = 1))]
    idempotency_key: String,
}

static SEND: LazyLock<Shape> = LazyLock::new(Shape::of::<Send>);

/// What version 4 asks channels for. Of its actions they know `send`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "a client may say more than there is a use for here")]
struct Act {
    #[schemars(length(min = 1))]
    channel: String,
    #[schemars(length(min = 1))]
    action: String,
    params: Map<String, Value>,
    reply: Option<Reply>,
    account_id: Option<String>,
    requester_account_id: Option<String>,
    requester_sender_id: Option<String>,
    sender_is_owner: Option<bool>,
    session_key: Option<String>,
    session_id: Option<String>,
    inbound_turn_kind: Option<String>,
    agent_id: Option<String>,
    tool_context: Option<Map<String, Value>>,
    conversation_read_origin: Option<String>,
    #[schemars(length(min = 1))]
    idempotency_key: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Reply {
    #[schemars(length(min = 1))]
    reply_to_id: String,
}

static ACT: LazyLock<Shape> = LazyLock::new(Shape::of::<Act>);

/// `send {to, message, channel?, accountId?, threadId?, replyToId?, idempotencyKey}` → `{runId, messageId, channel}`.
/// Also `send {chatJid, text}`, as the original LeanClaw has it: each such call is a message of its own.
pub(crate) fn send(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let original = original(call.params);
    let call = &Call { params: original.as_deref().unwrap_or(call.params), ..*call };
    let send: Send = call.read(&SEND, &[("text", "message"), ("chatJid", "to")])?;
    send.is_text()?;
    let channel = choose(call.state.services.plugins.channels(), &send)?;
    carry(call, send, channel, None)
}

/// `message.action {channel, action: "send", params: {to | target, message | text, …}, accountId?, idempotencyKey}` →
/// `{ok, action, runId, messageId, channel, to}`.
pub(crate) fn act(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let send = call.read::<Act>(&ACT, &[])?.send()?;
    let channel = choose(call.state.services.plugins.channels(), &send)?;
    let more = json!({"ok": true, "action": "send", "to": send.to});
    carry(call, send, channel, Some(more))
}

impl Send {
    /// # Errors
    /// It is more than a text.
    fn is_text(&self) -> Result<(), ErrorShape> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let has_urls = self.media_urls.as_ref().is_some_and(|urls| !urls.is_empty());
        for (name, is_given) in [
            ("mediaUrl", given(&self.media_url)),
            ("mediaUrls", has_urls),
            ("buffer", given(&self.buffer)),
            ("parseMode", given(&self.parse_mode)),
        ] {
            if is_given {
                return Err(text_only(name));
            }
        }
        Ok(())
    }
}

fn text_only(name: &str) -> ErrorShape {
    ErrorShape::invalid(format!("`{name}` cannot be sent: a message is text only"))
}

impl Act {
    fn send(self) -> Result<Send, ErrorShape> {
        if self.action != "send" {
            let shown: String = self.action.chars().take(80).collect();
            let message = format!("unsupported action: {}; channels of plugins know `send`", shown.escape_debug());
            return Err(ErrorShape::invalid(message));
        }
        let text = |names: &[&str]| {
            let found = names.iter().find_map(|name| self.params.get(*name)?.as_str());
            found.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        for name in ["media", "mediaUrl", "buffer", "poll", "buttons", "card"] {
            let is_empty = |value: &Value| value.is_null() || value == "" || value == &json!([]);
            if self.params.get(name).is_some_and(|value| !is_empty(value)) {
                return Err(text_only(name));
            }
        }
        let to = text(&["to", "target"]).ok_or_else(|| ErrorShape::invalid("message.action send: `to` is required"))?;
        let message = text(&["message", "text"]);
        Ok(Send {
            to,
            message: message.ok_or_else(|| ErrorShape::invalid("message.action send: `message` is required"))?,
            channel: Some(self.channel),
            account_id: self.account_id.filter(|account| !account.is_empty()).or_else(|| text(&["accountId"])),
            thread_id: text(&["threadId"]),
            reply_to_id: self.reply.map(|reply| reply.reply_to_id).or_else(|| text(&["replyTo", "replyToId"])),
            session_key: self.session_key,
            idempotency_key: self.idempotency_key,
            ..Send::default()
        })
    }
}

/// Hands a message to its channel, once per key. `more` is a part of what is answered.
fn carry(call: &Call<'_>, send: Send, channel: Channel, more: Option<Value>) -> Result<Answer, ErrorShape> {
    let (state, version) = (Arc::clone(call.state), call.session.version);
    let mut caller = Caller::clone(&call.session.caller);
    caller.session_key.clone_from(&send.session_key);
    let key = send.idempotency_key.clone();
    let asked = json!([send.to, send.message, send.thread_id, send.reply_to_id, send.session_key]);
    let what = What::of(&[&asked.to_string()]);
    let this = OnceCall::of(&caller, call.method, &channel.key.to_string(), &key);
    once::run(call.state, this, what, || {
        Ok(async move {
            let receipt = state.services.plugins.deliver(&channel.key, outbound(send), caller).await;
            let sent = receipt.map(|receipt| {
                let message_id = receipt.message_id.unwrap_or_else(|| key.clone());
                let mut sent = json!({"runId": key, "messageId": message_id, "channel": channel.id});
                if let (Some(sent), Some(Value::Object(more))) = (sent.as_object_mut(), more) {
                    sent.extend(more);
                }
                Payload::json(&sent)
            });
            // What was not sent may be sent with the same key: whether it was after all, its channel knows.
            let is_final = sent.is_ok();
            Ended { outcome: sent.map_err(|failure| failure_to_error(version, &failure)), is_final }
        })
    })
}

/// Parameters of the original LeanClaw, which know no idempotency key, with one; none when they are others.
fn original(params: &str) -> Option<String> {
    let mut params: Map<String, Value> = serde_json::from_str(params).ok()?;
    if !params.contains_key("chatJid") || params.contains_key("idempotencyKey") {
        return None;
    }
    // There is one sender here, whatever it calls itself.
    params.retain(|name, _| name != "sender" && name != "senderName");
    params.insert("idempotencyKey".into(), json!(uuid::Uuid::new_v4()));
    serde_json::to_string(&params).ok()
}

/// The channel and account that are meant. A single channel need not be named.
fn choose(channels: Vec<Channel>, send: &Send) -> Result<Channel, ErrorShape> {
    let account = match send.account_id.as_deref().map(AccountId::new).transpose() {
        Ok(account) => account.unwrap_or_default(),
        Err(error) => return Err(ErrorShape::invalid(format!("invalid send params: at /accountId: {error}"))),
    };
    let known: Vec<String> = channels.iter().map(named).collect();
    let known = known.join(", ");
    let wanted = |channel: &Channel| {
        channel.key.account == account && send.channel.as_ref().is_none_or(|name| *name == channel.id)
    };
    let mut fitting = channels.into_iter().filter(wanted);
    match (fitting.next(), fitting.next(), &send.channel) {
        (Some(channel), None, _) | (Some(channel), Some(_), Some(_)) => Ok(channel),
        (Some(_), Some(_), None) => Err(ErrorShape::invalid(format!("channel is required: name one of {known}"))),
        (None, _, name) => {
            let what = match name {
                Some(name) => {
                    let shown: String = name.chars().take(80).collect();
                    format!("unsupported channel: {}", shown.escape_debug())
                }
                None => "no channel fits".into(),
            };
            Err(ErrorShape::invalid(if known.is_empty() {
                format!("{what}; no channel is ready: `leanclaw plugin list` shows what is installed")
            } else {
                format!("{what}; ready are: {known}")
            }))
        }
    }
}

/// A channel as a call names it.
fn named(channel: &Channel) -> String {
    let Channel { id, key, .. } = channel;
    if key.account == AccountId::default() { id.clone() } else { format!("{id} (accountId {})", key.account) }
}

fn outbound(send: Send) -> Outbound {
    let text = Part { kind: "text".into(), text: Some(send.message), blob: None, extra: None };
    Outbound {
        place: Place { id: send.to, kind: "direct".into(), thread: send.thread_id, title: None, extra: None },
        parts: vec![text],
        reply_to: send.reply_to_id,
        idempotency_key: send.idempotency_key,
        extra: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(names: &[(&str, &str)]) -> Vec<Channel> {
        names
            .iter()
            .map(|(key, id)| Channel { key: key.parse().unwrap(), id: (*id).into(), title: String::new() })
            .collect()
    }

    fn asked(more: Value) -> Send {
        let mut params = json!({"to": "x", "idempotencyKey": "k"});
        for (name, value) in more.as_object().unwrap() {
            params[name] = value.clone();
        }
        serde_json::from_value(params).unwrap()
    }

    #[test]
    fn the_channel_is_found_by_name_and_account() {
        let all = || channels(&[("hook", "hook"), ("hook/work", "hook"), ("mail", "mail")]);
        let chosen =
            |more| choose(all(), &asked(more)).map(|channel| channel.key.to_string()).map_err(|error| error.message);
        assert_eq!(chosen(json!({"channel": "mail"})).unwrap(), "mail");
        assert_eq!(chosen(json!({"channel": "hook", "accountId": "work"})).unwrap(), "hook/work");
        assert_eq!(chosen(json!({"accountId": "work"})).unwrap(), "hook/work");
        assert_eq!(
            chosen(json!({"channel": "whatsapp"})).unwrap_err(),
            "unsupported channel: whatsapp; ready are: hook, hook (accountId work), mail"
        );
        assert!(chosen(json!({})).unwrap_err().contains("channel is required"));
        assert!(chosen(json!({"accountId": "../x"})).unwrap_err().contains("/accountId"));
        for params in [json!({}), json!({"channel": "hook"})] {
            let none = choose(Vec::new(), &asked(params)).unwrap_err().message;
            assert!(none.contains("leanclaw plugin list"), "{none}");
        }
    }
}
