//! Every table of the original but its messages.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use leanclaw_gateway::{AdoptedGroup, agent_document};
use leanclaw_store::{Original, RecordChange, Store};
use leanclaw_types::clock::{Clock as _, SystemClock};
use serde_json::{Map, Value};

use super::{BATCH, Kept, Outcome, Tally};

/// Rows of a table that are named.
const NAMED: usize = 20;

/// What is known of a chat beside its messages.
#[derive(Debug, Default, Clone)]
pub(super) struct Chat {
    pub(super) name: Option<String>,
    pub(super) is_group: bool,
    pub(super) last_ms: Option<u64>,
    /// Whether it has a session even without a message.
    pub(super) is_registered: bool,
}

/// Chats by their id.
pub(super) type Chats = BTreeMap<String, Chat>;

/// Tables, the columns that name a row, and what their rows wait for.
const TABLES: &[(&str, &[&str], &str)] = &[
    ("chats", &["jid"], "nothing: their sessions hold what is used"),
    ("registered_groups", &["jid"], "sandboxes, as far as container settings go"),
    ("agents", &["id"], "agents that answer, as far as prompts and tools go"),
    ("scheduled_tasks", &["id"], "the scheduler"),
    ("task_run_logs", &["id"], "the scheduler"),
    ("sessions", &["group_folder"], "agents that answer"),
    ("router_state", &["key"], "agents that answer"),
    ("provider_usage", &["id"], "budgets"),
    ("compaction_log", &["id"], "agents that answer"),
    ("audit_log", &["id"], "nothing: the audit log here begins anew"),
];
/// Tables that are no data, or have a home of their own.
const ELSEWHERE: [&str; 2] = ["messages", "schema_version"];

/// Keeps every row as it was, and makes groups and agents of those that are some. Gives what is known of chats.
///
/// # Errors
/// The source cannot be read, or the store cannot be written.
pub(super) async fn take_in(original: &Original, store: &Store, outcome: &mut Outcome) -> Result<Chats> {
    let mut chats = Chats::new();
    for table in original.tables()? {
        if ELSEWHERE.contains(&table.as_str()) {
            continue;
        }
        let known = TABLES.iter().find(|(name, ..)| *name == table);
        let (columns, waits_for) = known.map_or((&[][..], "somebody who knows this table"), |known| (known.1, known.2));
        let mut rows = Vec::new();
        original.each_row(&table, |row| rows.push(row))?;
        let named: Vec<(String, &Map<String, Value>)> =
            rows.iter().enumerate().map(|(number, row)| (name_of(row, columns, number), row)).collect();
        if !named.is_empty() {
            keep(store, &table, &named, waits_for, outcome).await?;
        }
        match table.as_str() {
            "chats" => rows.iter().for_each(|row| learn_chat(row, &mut chats)),
            "registered_groups" => groups(store, &rows, &mut chats, outcome).await?,
            "agents" => agents(store, &rows, outcome).await?,
            _ => {}
        }
    }
    Ok(chats)
}

fn name_of(row: &Map<String, Value>, columns: &[&str], number: usize) -> String {
    let parts: Vec<String> = columns
        .iter()
        .filter_map(|column| match row.get(*column) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        })
        .collect();
    if parts.is_empty() { format!("row {number}") } else { parts.join("/") }
}

async fn keep(
    store: &Store,
    table: &str,
    rows: &[(String, &Map<String, Value>)],
    waits_for: &'static str,
    outcome: &mut Outcome,
) -> Result<()> {
    let kept_as = format!("original.{table}");
    let there: HashMap<String, String> = store.records(&kept_as)?.into_iter().collect();
    let mut tally = Tally::default();
    let mut changes = Vec::new();
    for (name, row) in rows {
        let body = serde_json::to_string(row)?;
        let is_new = there.get(name) != Some(&body);
        tally.count(is_new);
        if is_new {
            changes.push(RecordChange { kind: kept_as.clone(), id: name.clone(), body: Some(body) });
        }
    }
    if !outcome.dry_run {
        for batch in changes.chunks(BATCH) {
            store.change_records(batch.to_vec(), Vec::new()).await?;
        }
    }
    let first = rows.iter().take(NAMED).map(|(name, _)| name.clone()).collect();
    outcome.kept.push(Kept { name: table.to_owned(), tally, first, kept_as, waits_for });
    Ok(())
}

pub(super) fn text<'a>(row: &'a Map<String, Value>, column: &str) -> Option<&'a str> {
    row.get(column)?.as_str().filter(|text| !text.trim().is_empty())
}

/// The original's booleans are numbers.
pub(super) fn truth(row: &Map<String, Value>, column: &str, default: bool) -> bool {
    row.get(column).and_then(Value::as_i64).map_or(default, |number| number != 0)
}

/// The original's times are texts in ISO 8601.
pub(super) fn time_ms(row: &Map<String, Value>, column: &str) -> Option<u64> {
    let time: jiff::Timestamp = text(row, column)?.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

fn learn_chat(row: &Map<String, Value>, chats: &mut Chats) {
    let Some(jid) = text(row, "jid") else { return };
    let chat = chats.entry(jid.to_owned()).or_default();
    chat.name = text(row, "name").map(str::to_owned);
    chat.is_group = truth(row, "is_group", false);
    chat.last_ms = time_ms(row, "last_message_time");
}

async fn groups(store: &Store, rows: &[Map<String, Value>], chats: &mut Chats, outcome: &mut Outcome) -> Result<()> {
    let mut there = store.records("group")?;
    let mut changes = Vec::new();
    for row in rows {
        let chat = text(row, "jid").unwrap_or_default().to_owned();
        let known = chats.entry(chat.clone()).or_default();
        known.is_registered = true;
        // A group is one whatever the list of chats says.
        known.is_group = true;
        let name = text(row, "name").unwrap_or(&chat).to_owned();
        known.name.get_or_insert_with(|| name.clone());
        if there.iter().any(|(other, _)| *other == chat) {
            outcome.groups.count(false);
            continue;
        }
        let group = AdoptedGroup {
            chat: chat.clone(),
            name,
            folder: text(row, "folder").unwrap_or_default().to_owned(),
            trigger: text(row, "trigger_pattern").map(str::to_owned),
            requires_trigger: truth(row, "requires_trigger", true),
            is_main: truth(row, "is_main", false),
            added_at_ms: time_ms(row, "added_at").unwrap_or_else(|| SystemClock.now_ms()),
        };
        match group.document(&there) {
            Ok(body) => {
                outcome.groups.count(true);
                there.push((chat.clone(), body.clone()));
                changes.push(RecordChange { kind: "group".to_owned(), id: chat, body: Some(body) });
            }
            Err(why) => outcome.problem(format!("group {chat:?} cannot be one here: {why}")),
        }
    }
    write(store, changes, outcome).await
}

async fn agents(store: &Store, rows: &[Map<String, Value>], outcome: &mut Outcome) -> Result<()> {
    let mut there: Vec<String> = store.records("agent")?.into_iter().map(|(id, _)| id).collect();
    let mut changes = Vec::new();
    for row in rows {
        let given = text(row, "id").unwrap_or_default();
        let (name, model) = (text(row, "name").unwrap_or(given), text(row, "model").map(str::to_owned));
        let created_ms = time_ms(row, "created_at").unwrap_or_else(|| SystemClock.now_ms());
        match agent_document(given, name, model, created_ms) {
            Err(why) => outcome.problem(format!("agent {given:?} cannot be one here: {why}")),
            Ok((id, _)) if there.contains(&id) => outcome.agents.count(false),
            Ok((id, body)) => {
                outcome.agents.count(true);
                there.push(id.clone());
                changes.push(RecordChange { kind: "agent".to_owned(), id, body: Some(body) });
            }
        }
    }
    write(store, changes, outcome).await
}

async fn write(store: &Store, changes: Vec<RecordChange>, outcome: &Outcome) -> Result<()> {
    if !outcome.dry_run && !changes.is_empty() {
        store.change_records(changes, Vec::new()).await?;
    }
    Ok(())
}
