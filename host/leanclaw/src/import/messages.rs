//! The chats of the original as sessions, with what was said in them.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use leanclaw_gateway::chat_session;
use leanclaw_store::{ForeignMessage, Original, RecordChange, Store};
use leanclaw_types::clock::{Clock as _, SystemClock};
use leanclaw_types::session::SessionRow;
use serde_json::{Map, Value, json};

use super::rows::{Chat, Chats, text, time_ms, truth};
use super::{BATCH, Outcome};

/// The kind of documents that hold messages of which none can be made here.
const UNREADABLE: &str = "original.messages";

/// Makes sessions of chats and adds their messages, oldest first.
///
/// # Errors
/// The source cannot be read, or the store cannot be written.
pub(super) async fn take_in(original: &Original, store: &Store, chats: &Chats, outcome: &mut Outcome) -> Result<()> {
    let mut numbers: HashMap<String, Vec<i64>> = original.messages_by_chat()?.into_iter().collect();
    let registered = chats.iter().filter(|(_, chat)| chat.is_registered).map(|(jid, _)| jid.clone());
    let mut all: Vec<String> = registered.chain(numbers.keys().cloned()).collect();
    all.sort();
    all.dedup();
    for jid in all {
        let chat = chats.get(&jid).cloned().unwrap_or_default();
        let numbers = numbers.remove(&jid).unwrap_or_default();
        let at_ms = chat.last_ms.unwrap_or_else(|| SystemClock.now_ms());
        match chat_session(&jid, chat.name.as_deref(), chat.is_group, at_ms) {
            Ok(session) => one_chat(original, store, (&jid, &chat, session), &numbers, outcome).await?,
            Err(why) => {
                outcome.problem(format!(
                    "chat {jid:?} cannot be a session here: {why}; its messages are kept as they were"
                ));
                for number in numbers {
                    keep_as_it_was(store, &original.message(number)?, outcome).await?;
                }
            }
        }
    }
    Ok(())
}

async fn one_chat(
    original: &Original,
    store: &Store,
    (jid, chat, mut session): (&str, &Chat, SessionRow),
    numbers: &[i64],
    outcome: &mut Outcome,
) -> Result<()> {
    let there = store.idempotency_keys(&session.key).await?;
    outcome.sessions.count(there.is_none());
    let is_new = there.is_none();
    let mut known: HashSet<String> = there.unwrap_or_default();
    let mut at_ms = 0;
    for (number, batch) in numbers.chunks(BATCH).enumerate() {
        let mut messages = Vec::new();
        for message in batch {
            let row = original.message(*message)?;
            at_ms = match time_ms(&row, "timestamp") {
                Some(at_ms) => at_ms,
                None => {
                    let id = row.get("id").cloned().unwrap_or_default();
                    outcome.problem(format!(
                        "message {id} of chat {jid:?} has no readable time; it got that of the one before"
                    ));
                    at_ms
                }
            };
            let Some(message) = foreign(jid, &row, at_ms) else {
                let id = row.get("id").cloned().unwrap_or_default();
                outcome.problem(format!("message {id} of chat {jid:?} has no text; it is kept as it was"));
                keep_as_it_was(store, &row, outcome).await?;
                continue;
            };
            let mark = text(&message.body, "idempotencyKey").unwrap_or_default().to_owned();
            let is_new = known.insert(mark);
            outcome.messages.count(is_new);
            if is_new {
                messages.push(message);
            }
        }
        if number == 0
            && is_new
            && let Some(first) = messages.first()
        {
            session.created_ms = first.at_ms;
            session.updated_ms = chat.last_ms.unwrap_or(first.at_ms).max(first.at_ms);
        }
        if !messages.is_empty() && !outcome.dry_run {
            store.take_in(session.clone(), messages).await?;
        }
    }
    if is_new && numbers.is_empty() && !outcome.dry_run {
        store.take_in(session, Vec::new()).await?;
    }
    Ok(())
}

/// A message as it is here; none without a text.
fn foreign(jid: &str, row: &Map<String, Value>, at_ms: u64) -> Option<ForeignMessage> {
    let content = row.get("content")?.as_str()?;
    let id = match row.get("id")? {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    let role = if truth(row, "is_bot_message", false) { "assistant" } else { "user" };
    let mut body = Map::new();
    body.insert("content".into(), json!([{"type": "text", "text": content}]));
    body.insert("timestamp".into(), json!(at_ms));
    body.insert("idempotencyKey".into(), json!(format!("import:{jid}:{id}")));
    if let Some(sender) = text(row, "sender_name").or_else(|| text(row, "sender")) {
        body.insert("senderLabel".into(), json!(sender));
    }
    let origin = json!({"id": id, "sender": row.get("sender"), "isFromMe": truth(row, "is_from_me", false)});
    body.insert("original".into(), origin);
    Some(ForeignMessage { role: role.to_owned(), body, at_ms })
}

async fn keep_as_it_was(store: &Store, row: &Map<String, Value>, outcome: &Outcome) -> Result<()> {
    if outcome.dry_run {
        return Ok(());
    }
    let part = |name: &str| row.get(name).map(ToString::to_string).unwrap_or_default();
    let id = format!("{}/{}", part("chat_jid"), part("id"));
    let change = RecordChange { kind: UNREADABLE.to_owned(), id, body: Some(serde_json::to_string(row)?) };
    Ok(store.change_records(vec![change], Vec::new()).await?)
}
