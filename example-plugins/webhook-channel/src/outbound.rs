//! Messages that go out: one signed POST each.

use leanclaw_plugin_sdk::http::{Request, Response};
use leanclaw_plugin_sdk::{Blob, Failure, Outbound, Receipt, kv, log, now_ms, settings};
use serde::{Deserialize, Serialize};

use crate::signature::{self, Direction, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use crate::{MAX_TEXT_BYTES, Settings};

const TIMEOUT_MS: u64 = 10_000;
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long a delivery is remembered: longer than the host tries to deliver one message.
const REMEMBERED_SECONDS: u32 = 7 * 24 * 3600;

/// The body of a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    idempotency_key: &'a str,
    sender: &'a str,
    conversation: &'a str,
    group: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<&'a str>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
}

/// What the other side may answer, and what is remembered of a delivery.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    message_id: Option<String>,
}

/// Sends a message, unless it was sent before. A crash between sending and remembering sends it twice, with the same
/// `idempotency-key`, by which the other side can tell.
pub(crate) fn deliver(message: &Outbound) -> Result<Receipt, Failure> {
    let sent = format!("sent/{}", message.idempotency_key);
    if let Some(answer) = kv::get_json::<Answer>(&sent)? {
        log::debug!("message {} was sent before", message.idempotency_key);
        return Ok(receipt(answer));
    }
    let answer = read_answer(post(message)?.success()?);
    kv::put_if(&sent, &serde_json::to_vec(&answer)?, kv::Expect::Anything, Some(REMEMBERED_SECONDS))?;
    Ok(receipt(answer))
}

fn post(message: &Outbound) -> Result<Response, Failure> {
    let settings: Settings = settings()?;
    let url = settings.url.ok_or_else(|| {
        Failure::unsupported("There is nowhere to send to: set `plugins.entries.webhook-channel.config.url`.")
    })?;
    let text = sendable_text(message)?;
    let body = serde_json::to_vec(&Payload {
        idempotency_key: &message.idempotency_key,
        sender: &settings.sender_name,
        conversation: &message.place.id,
        group: message.place.kind != "direct",
        thread: message.place.thread.as_deref(),
        text: &text,
        reply_to: message.reply_to.as_deref(),
    })?;
    let timestamp = (now_ms() / 1000).to_string();
    let signature = signature::sign(Direction::Out, &timestamp, &body)?;
    Request::post(url)
        .header(TIMESTAMP_HEADER, &timestamp)
        .header(SIGNATURE_HEADER, &signature)
        .header("idempotency-key", &message.idempotency_key)
        .timeout_ms(TIMEOUT_MS)
        .body(Blob::new("application/json", body))
        .send()
}

fn sendable_text(message: &Outbound) -> Result<String, Failure> {
    if message.parts.iter().any(|part| part.blob.is_some()) {
        return Err(Failure::unsupported("This channel sends text only, and the message has a file."));
    }
    let text = message.text();
    if text.is_empty() {
        return Err(Failure::unsupported("This channel sends text only, and the message has none."));
    }
    if text.len() > MAX_TEXT_BYTES as usize {
        return Err(Failure::too_large(format!("The text has {} bytes; the limit is {MAX_TEXT_BYTES}.", text.len())));
    }
    Ok(text)
}

/// The message has arrived, so an answer that does not read is no failure: only the receipt says less.
fn read_answer(response: Response) -> Answer {
    response.text(MAX_ANSWER_BYTES).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn receipt(answer: Answer) -> Receipt {
    Receipt { message_id: answer.message_id, extra: None }
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
