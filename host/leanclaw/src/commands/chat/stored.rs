//! An answer that was given while nobody listened: what `agent.wait` says of its end, and its words in `chat.history`.

use serde_json::{Value, json};

use super::answer::{Ending, Outcome, message_text};
use crate::client::{ClientError, GatewayClient};

/// The newest messages that are looked through.
const MESSAGES: u32 = 200;
/// The most characters of one message; a gateway cuts at fewer when it is not asked.
const MAX_CHARS: u32 = 500_000;

/// How a run ended, without its words, from the answer to `agent.wait`; none while it goes on, as far as is known.
pub(super) fn outcome(waited: &Value) -> Option<Outcome> {
    let text = |field: &str| waited.get(field).and_then(Value::as_str).unwrap_or_default();
    match (text("status"), text("stopReason")) {
        ("timeout" | "", _) if waited.get("endedAt").is_none_or(Value::is_null) => None,
        // A whole answer stops, too, and says so in the same field.
        ("ok", _) => Some(Outcome::Done),
        (_, by @ ("rpc" | "stop" | "timeout")) => Some(Outcome::Aborted(by.to_owned())),
        ("timeout", _) => Some(Outcome::Aborted("timeout".to_owned())),
        _ => Some(Outcome::Failed { message: text("error").to_owned(), kind: text("errorKind").to_owned() }),
    }
}

/// What the transcript of a session has of a run.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// Neither the message that it answers nor its words.
    Nothing,
    /// The message that it answers, with what the agent has said to it and what that used.
    Asked(Option<(String, Option<Value>)>),
}

/// Reads the transcript.
pub(super) async fn read(client: &mut GatewayClient, session: &str, run_id: &str) -> Result<Found, ClientError> {
    let mut params = json!({"sessionKey": session, "limit": MESSAGES});
    let is_newest = client.hello().get("protocol").and_then(Value::as_u64).is_some_and(|version| version >= 4);
    if let (true, Some(params)) = (is_newest, params.as_object_mut()) {
        params.insert("maxChars".to_owned(), json!(MAX_CHARS));
    }
    let history = client.request("chat.history", Some(params)).await?;
    let messages = history.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Ok(find(messages, run_id))
}

/// Looks for the run's message and for the last words between it and the next person's message.
fn find(messages: &[Value], run_id: &str) -> Found {
    let role = |message: &Value| message.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_asked = |message: &Value| role(message) == "user" && belongs_to(message, run_id);
    let Some(at) = messages.iter().rposition(is_asked) else { return Found::Nothing };
    let after = messages.iter().skip(at + 1);
    // What is said into a run while it goes on is a person's, too, and belongs to it.
    let own = after.take_while(|message| role(message) != "user" || belongs_to(message, run_id));
    let words = own.filter(|message| role(message) == "assistant").filter_map(|message| {
        let text = message_text(message).filter(|text| !text.trim().is_empty())?;
        Some((text, message.get("usage").filter(|usage| usage.is_object()).cloned()))
    });
    Found::Asked(words.last())
}

/// Whether a message carries the run's name: as its idempotency key (which some gateways lengthen by the role), or as its run.
fn belongs_to(message: &Value, run_id: &str) -> bool {
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    let key = text("/idempotencyKey").or_else(|| text("/__openclaw/idempotencyKey")).unwrap_or_default();
    let is_key = key.strip_prefix(run_id).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    is_key || ["/__openclaw/runId", "/runId"].into_iter().any(|pointer| text(pointer) == Some(run_id))
}

/// The end with its words.
pub(super) fn ending(outcome: Outcome, waited: &Value, found: Found) -> Ending {
    let (text, usage) = match found {
        Found::Asked(Some(said)) => said,
        Found::Asked(None) | Found::Nothing => {
            let told = waited.pointer("/terminalReply/text").and_then(Value::as_str);
            (told.unwrap_or_default().to_owned(), None)
        }
    };
    Ending { outcome, text, usage }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_from_a_wait_that_was_too_short() {
        let cases = [
            (json!({"runId": "r", "status": "timeout"}), None),
            (json!({}), None),
            (json!({"status": "ok", "endedAt": 2, "stopReason": "stop"}), Some(Outcome::Done)),
            (json!({"status": "ok"}), Some(Outcome::Done)),
            (json!({"status": "timeout", "endedAt": 2, "stopReason": "stop"}), Some(Outcome::Aborted("stop".into()))),
            (json!({"status": "timeout", "endedAt": 2}), Some(Outcome::Aborted("timeout".into()))),
            (json!({"status": "error", "endedAt": 2, "stopReason": "rpc"}), Some(Outcome::Aborted("rpc".into()))),
            (
                json!({"status": "error", "error": "no key"}),
                Some(Outcome::Failed { message: "no key".into(), kind: String::new() }),
            ),
        ];
        for (waited, expected) in cases {
            assert_eq!(outcome(&waited), expected, "{waited}");
        }
    }

    #[test]
    fn the_last_words_to_a_message_are_found_whatever_stands_around_them() {
        let said = |role: &str, text: &str, key: &str| json!({"role": role, "content": [{"type": "text", "text": text}], "idempotencyKey": key});
        let mut messages = vec![
            said("user", "before", "q"),
            said("assistant", "to that", ""),
            json!({"role": "user", "content": "asked", "__openclaw": {"idempotencyKey": "r:user"}}),
            said("assistant", "I look", ""),
            said("toolResult", "a.md", ""),
            json!({"role": "assistant", "content": [{"type": "toolCall", "name": "read"}]}),
            json!("garbage"),
            json!({"role": "assistant", "content": "found", "usage": {"input": 1}}),
            json!({"role": "assistant", "content": " "}),
        ];
        let found = Found::Asked(Some(("found".to_owned(), Some(json!({"input": 1})))));
        assert_eq!(find(&messages, "r"), found);
        messages.extend([said("user", "later", "s"), said("assistant", "to the later one", "")]);
        assert_eq!(find(&messages, "r"), found, "another message has its own answer");
        assert_eq!(find(&messages, "rr"), Found::Nothing);
        assert_eq!(find(&[], "r"), Found::Nothing);
        assert_eq!(find(&[said("user", "asked", "r")], "r"), Found::Asked(None));
        let own = json!({"role": "user", "content": "more", "__openclaw": {"runId": "r"}});
        assert_eq!(find(&[said("user", "asked", "r"), own], "r"), Found::Asked(None));
    }

    #[test]
    fn words_that_the_transcript_has_not_may_be_told_with_the_end() {
        let waited = json!({"status": "ok", "terminalReply": {"text": "hello"}});
        let told = |found| ending(Outcome::Done, &waited, found).text;
        assert_eq!(told(Found::Nothing), "hello");
        assert_eq!(told(Found::Asked(Some(("whole".into(), None)))), "whole");
    }
}
