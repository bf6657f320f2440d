//! `send`: a message out through a channel plugin.
//!
//! The answer comes after the channel has taken the message, so nothing is promised that is not done. Sending the same
//! idempotency key again is safe: while what became of it is known the channel is not asked again, and a channel sends each
//! key once. The key that the channel is given is therefore one of the caller and the message, so that nobody else's message,
//! and no other one, passes for it there.

use std::sync::{Arc, LazyLock};

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::message::{Outbound, Part, Place};
use leanclaw_types::{AccountId, Caller};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::connection::{Answer, Call, Outcome};
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
    #[serde(default)]
    #[schemars(with = "Reply")]
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

/// What is answered, as version 4 says it: `mode` goes with a `source` of `implicit`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Reply {
    #[schemars(length(min = 1))]
    reply_to_id: String,
    #[serde(rename = "source")]
    #[schemars(extend("enum" = ["explicit", "implicit"]))]
    _source: Option<String>,
    #[serde(rename = "mode")]
    #[schemars(extend("enum" = ["first", "all"]))]
    _mode: Option<String>,
}

static ACT: LazyLock<Shape> = LazyLock::new(Shape::of::<Act>);

/// What a message cannot hold, in either method's parameters: it is text only.
const NOT_TEXT: [&str; 8] = ["media", "mediaUrl", "mediaUrls", "buffer", "parseMode", "poll", "buttons", "card"];

/// # Errors
/// These name something of that.
fn check_is_text(params: &Map<String, Value>) -> Result<(), ErrorShape> {
    let is_empty = |value: &Value| value.is_null() || value == "" || value == &json!([]);
    let given = |name: &&str| params.get(*name).is_some_and(|value| !is_empty(value));
    match NOT_TEXT.into_iter().find(given) {
        Some(name) => Err(ErrorShape::invalid(format!("`{name}` cannot be sent: a message is text only"))),
        None => Ok(()),
    }
}

/// `send {to, message, channel?, accountId?, threadId?, replyToId?, idempotencyKey}` → `{runId, messageId, channel}`.
/// Also `send {chatJid, text}`, as the original LeanClaw has it: each such call is a message of its own.
pub(crate) fn send(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let original = original(call.params);
    let call = &Call { params: original.as_deref().unwrap_or(call.params), ..*call };
    let send: Send = call.read(&SEND, &[("text", "message"), ("chatJid", "to")])?;
    send.check()?;
    let channel = choose(call.state.services.plugins.channels(), &send)?;
    carry(call, send, channel)
}

impl Send {
    /// # Errors
    /// It is more than a text, or less.
    fn check(&self) -> Result<(), ErrorShape> {
        let given = [
            ("mediaUrl", json!(self.media_url)),
            ("mediaUrls", json!(self.media_urls)),
            ("buffer", json!(self.buffer)),
            ("parseMode", json!(self.parse_mode)),
        ];
        check_is_text(&given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())?;
        if self.message.trim().is_empty() {
            return Err(ErrorShape::invalid("invalid send params: text is required; a message is text only"));
        }
        Ok(())
    }
}

/// `message.action {channel, action: "send", params: {to | target, message | text, …}, accountId?, idempotencyKey}` →
/// `{ok, action, runId, messageId, channel, to}`.
pub(crate) fn act(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let send = call.read::<Act>(&ACT, &[])?.send()?;
    let channel = choose(call.state.services.plugins.channels(), &send)?;
    let to = send.to.clone();
    Ok(match carry(call, send, channel)? {
        Answer::Now(outcome) => Answer::Now(acted(outcome, &to)),
        Answer::Later(sent) => Answer::Later(Box::pin(async move { acted(sent.await, &to) })),
        other => other,
    })
}

/// What became of a message, as `message.action` tells it.
fn acted(outcome: Outcome, to: &str) -> Outcome {
    let sent = outcome?;
    let mut acted: Map<String, Value> = serde_json::from_str(sent.as_str()).unwrap_or_default();
    for (name, value) in [("ok", json!(true)), ("action", json!("send")), ("to", json!(to))] {
        acted.insert(name.into(), value);
    }
    Ok(Payload::json(&Value::Object(acted)))
}

impl Act {
    fn send(self) -> Result<Send, ErrorShape> {
        if self.action != "send" {
            let shown: String = self.action.chars().take(80).collect();
            let message = format!("unsupported action: {}; channels of plugins know `send`", shown.escape_debug());
            return Err(ErrorShape::invalid(message));
        }
        let text = |names: &[&str]| {
            let mut found = names.iter().filter_map(|name| self.params.get(*name)?.as_str());
            found.find(|text| !text.is_empty()).map(str::to_owned)
        };
        check_is_text(&self.params)?;
        let to = text(&["to", "target"]).ok_or_else(|| ErrorShape::invalid("message.action send: `to` is required"))?;
        let message = text(&["message", "text"]).filter(|message| !message.trim().is_empty());
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

/// Hands a message to its channel, once per key, by whichever of the two methods: `{runId, messageId, channel}`.
fn carry(call: &Call<'_>, send: Send, channel: Channel) -> Result<Answer, ErrorShape> {
    let (state, version) = (Arc::clone(call.state), call.session.version);
    let mut caller = Caller::clone(&call.session.caller);
    caller.session_key.clone_from(&send.session_key);
    let key = send.idempotency_key.clone();
    let asked = json!([send.to, send.message, send.thread_id, send.reply_to_id, send.session_key]);
    let what = What::of(&[&asked.to_string()]);
    let this = OnceCall::of(&caller, "send", &channel.key.to_string(), &key);
    let key_of_channel = this.key_for_others(what);
    once::run(call.state, this, what, || {
        Ok(async move {
            let receipt = state.services.plugins.deliver(&channel.key, outbound(send, key_of_channel), caller).await;
            let sent = receipt.map(|receipt| {
                let message_id = receipt.message_id.unwrap_or_else(|| key.clone());
                Payload::json(&json!({"runId": key, "messageId": message_id, "channel": channel.id}))
            });
            // What was not sent may be sent with the same key: whether it was after all, its channel knows.
            let is_final = sent.is_ok();
            Ended { outcome: sent.map_err(|failure| failure_to_error(version, &failure)), is_final }
        })
    })
}

/// Parameters of the original LeanClaw, which know no idempotency key, with one; none when they are others.
fn original(params: &str) -> Option<String> {
    // Read once more only where the name is somewhere in it.
    if !params.contains("\"chatJid\"") {
        return None;
    }
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

fn outbound(send: Send, idempotency_key: String) -> Outbound {
    let text = Part { kind: "text".into(), text: Some(send.message), blob: None, extra: None };
    Outbound {
        place: Place { id: send.to, kind: "direct".into(), thread: send.thread_id, title: None, extra: None },
        parts: vec![text],
        reply_to: send.reply_to_id,
        idempotency_key,
        extra: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(names: &[(&str, &str)]) -> Vec<Channel> {
        names
            .iter()
            .map(|(key, id)| Channel {
                key: key.parse().unwrap(),
                id: (*id).into(),
                title: String::new(),
                cut_off: false,
            })
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
