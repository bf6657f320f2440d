//! Messages that come in: prove, read, hand in, remember.

use leanclaw_plugin_sdk::inbox::{self, Submission};
use leanclaw_plugin_sdk::web::{Reply, Request};
use leanclaw_plugin_sdk::{Failure, Inbound, Part, Person, Place, kv, log, now_ms, settings};
use serde::{Deserialize, Serialize};

use crate::Settings;
use crate::signature::{self, Direction, SIGNATURE_HEADER, TIMESTAMP_HEADER};

const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_ID_CHARACTERS: usize = 200;

/// The body of a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    id: String,
    from: String,
    #[serde(default)]
    from_name: Option<String>,
    conversation: String,
    #[serde(default)]
    group: bool,
    #[serde(default)]
    thread: Option<String>,
    text: String,
    #[serde(default)]
    reply_to: Option<String>,
    #[serde(default)]
    sent_at_ms: Option<u64>,
}

/// The body of an answer.
#[derive(Serialize)]
struct Status<'a> {
    status: &'a str,
}

/// Answers one request. Nothing in it is believed before its signature is.
pub(crate) fn handle(request: &Request) -> Result<Reply, Failure> {
    if request.path != "/" {
        return Ok(Reply::text(404, "Post messages to the path that ends in /hook/."));
    }
    if request.method != "POST" {
        return Ok(Reply::text(405, "Messages are posted.").header("allow", "POST"));
    }
    if request.body.len() > MAX_BODY_BYTES {
        return Ok(Reply::text(413, format!("A message has at most {MAX_BODY_BYTES} bytes.")));
    }
    let window_seconds = settings::<Settings>()?.replay_window_seconds;
    if let Some(reason) = untrusted(request, window_seconds)? {
        log::warn!(remote = request.remote.as_str(); "refused a message: {reason}");
        return Ok(Reply::text(401, reason));
    }
    let payload: Payload = request.json()?;
    if payload.id.is_empty() || payload.id.chars().count() > MAX_ID_CHARACTERS {
        return Err(Failure::invalid_input(format!("`id` has 1 to {MAX_ID_CHARACTERS} characters.")));
    }
    hand_in(payload, window_seconds)
}

/// Why a request is not to be trusted, if so.
fn untrusted(request: &Request, window_seconds: u32) -> Result<Option<&'static str>, Failure> {
    let (Some(timestamp), Some(signature)) =
        (request.headers.get(TIMESTAMP_HEADER), request.headers.get(SIGNATURE_HEADER))
    else {
        return Ok(Some("The headers x-leanclaw-timestamp and x-leanclaw-signature are needed."));
    };
    if !signature::verify(Direction::In, timestamp, &request.body, signature)? {
        return Ok(Some("The signature is wrong."));
    }
    let is_fresh =
        timestamp.parse::<u64>().is_ok_and(|seconds| seconds.abs_diff(now_ms() / 1000) <= u64::from(window_seconds));
    Ok((!is_fresh).then_some("The timestamp is too far from now."))
}

/// Hands the message in and only then remembers its id: if this stops halfway, the sender's second attempt finds the
/// message not taken, or the inbox itself finds that it has it.
fn hand_in(payload: Payload, window_seconds: u32) -> Result<Reply, Failure> {
    let seen = format!("seen/{}", payload.id);
    if kv::get(&seen)?.is_some() {
        return reply(&Submission::Duplicate);
    }
    let outcome = inbox::submit(message(payload))?;
    if outcome != Submission::Throttled {
        // A time that lies ahead of ours by the whole window stays fresh for twice the window.
        kv::put_new(&seen, &[], Some(window_seconds.saturating_mul(2).saturating_add(1)))?;
    }
    reply(&outcome)
}

fn message(payload: Payload) -> Inbound {
    Inbound {
        id: payload.id,
        sender: Person { id: payload.from, display_name: payload.from_name, ..Person::default() },
        place: Place {
            thread: payload.thread,
            ..if payload.group { Place::group(payload.conversation) } else { Place::direct(payload.conversation) }
        },
        parts: vec![Part::text(payload.text)],
        reply_to: payload.reply_to,
        sent_at_ms: payload.sent_at_ms.unwrap_or_else(now_ms),
        extra: None,
    }
}

fn reply(outcome: &Submission) -> Result<Reply, Failure> {
    let http_status = match outcome {
        Submission::Accepted => 202,
        Submission::Duplicate => 409,
        Submission::Denied => 403,
        Submission::Throttled => 429,
        _ => 200,
    };
    Reply::json(http_status, &Status { status: outcome.as_str() })
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
