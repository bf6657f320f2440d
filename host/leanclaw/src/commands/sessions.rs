//! `leanclaw sessions ...`: which sessions there are, what was said in them, and changing them.

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::fields::{self, table, text, time};
use super::gateway::{OrList, Plain};
use crate::config::Flags;
use crate::output;
use crate::report::Advice;

/// Without a command, sessions are listed.
pub(crate) type Arguments = OrList<Command, List>;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List sessions, the one that changed last first
    List(List),
    /// Show what was said in a session
    History(History),
    /// Change what a session is set to; it is made when it is missing
    Set(Set),
    /// Begin a session's transcript anew; what it is set to stays
    Reset(One),
    /// Delete a session with what was said in it
    Delete(One),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Show at most this many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Skip this many
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Only sessions of this agent
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only sessions with this in their key, label or name
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The session's key, such as `main`
    key: String,
    /// Show at most this many messages, the newest
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The session's key, such as `main`
    key: String,
    /// What to set, such as `thinkingLevel=high`; without a value it is taken away
    #[arg(required = true, value_name = "NAME=VALUE")]
    fields: Vec<String>,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The session's key, such as `main`
    key: String,
    #[command(flatten)]
    plain: Plain,
}

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    match arguments.command(Command::List) {
        Command::List(list) => self::list(flags, list),
        Command::History(History { key, limit, plain }) => {
            let params = json!({"sessionKey": key, "limit": limit});
            plain.call(flags, "chat.history", params, |payload, _| history(payload))
        }
        Command::Set(Set { key, fields, plain }) => {
            let mut params = settings(&fields)?;
            params.insert("key".into(), json!(key));
            plain.call(flags, "sessions.patch", Value::Object(params), |payload, _| said(payload, "is changed"))
        }
        Command::Reset(One { key, plain }) => {
            let params = json!({"key": key});
            plain.call(flags, "sessions.reset", params, |payload, _| said(payload, "begins anew"))
        }
        Command::Delete(One { key, plain }) => {
            plain.call(flags, "sessions.delete", json!({"key": key}), |payload, _| {
                let deleted = payload.get("deleted").and_then(Value::as_bool) == Some(true);
                said(payload, if deleted { "is deleted" } else { "does not exist" })
            })
        }
    }
}

fn list(flags: Flags, list: List) -> Result<()> {
    let is_narrowed = list.offset > 0 || list.agent.is_some() || list.search.is_some();
    let none = if is_narrowed { "No session is like that." } else { "No session is stored yet." };
    let mut params = json!({"limit": list.limit, "offset": list.offset});
    if let Some(params) = params.as_object_mut() {
        params.extend(list.agent.map(|agent| ("agentId".to_owned(), json!(agent))));
        params.extend(list.search.map(|search| ("search".to_owned(), json!(search))));
    }
    list.plain.call(flags, "sessions.list", params, |payload, zone| {
        let head = ["SESSION", "KIND", "LABEL", "CHANGED", "MODEL", "TOKENS"];
        table(&head, fields::list(payload, "sessions")?, none, |row| shown(row, zone))?;
        match payload.get("nextOffset").and_then(Value::as_u64) {
            Some(next) => output::text(&format!("\nThere are more: `leanclaw sessions list --offset {next}`.\n")),
            None => Ok(()),
        }
    })
}

fn said(payload: &Value, what: &str) -> Result<()> {
    output::text(&format!("{} {what}", text(payload, "key")))
}

fn history(payload: &Value) -> Result<()> {
    let messages = fields::list(payload, "messages")?;
    if messages.is_empty() {
        return output::text("Nothing was said yet.");
    }
    for message in messages {
        output::text(&format!("{}: {}", text(message, "role"), words(message)))?;
    }
    Ok(())
}

/// The text of a message, its parts on lines of their own.
fn words(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let part = |part: &Value| match part.get("type").and_then(Value::as_str) {
                Some("text") => text(part, "text"),
                Some("toolCall") => format!("[calls {}]", text(part, "name")),
                other => format!("[{}]", other.unwrap_or("something")),
            };
            parts.iter().map(part).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn shown(row: &Value, zone: &TimeZone) -> Vec<String> {
    let field = |name| text(row, name);
    let tokens = row.get("totalTokens").and_then(Value::as_u64).unwrap_or(0);
    let changed = time(row, "updatedAt", zone);
    vec![field("key"), field("kind"), field("label"), changed, field("model"), tokens.to_string()]
}

/// `name=value` pairs as parameters. What reads as true or false is; everything else is text.
fn settings(fields: &[String]) -> Result<Map<String, Value>> {
    let pair = |field: &String| {
        let Some((name, value)) = field.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            let advice = Advice::new(format!("`{field}` sets nothing"));
            return Err(advice.hint("write NAME=VALUE, such as thinkingLevel=high").into());
        };
        let value = match value {
            "" => Value::Null,
            "true" => json!(true),
            "false" => json!(false),
            text => json!(text),
        };
        Ok((name.to_owned(), value))
    };
    fields.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_texts_unless_they_are_plainly_something_else() {
        let fields = ["label=My notes = mine", "pinned=true", "model="].map(str::to_owned);
        let expected = json!({"label": "My notes = mine", "pinned": true, "model": null});
        assert_eq!(Value::Object(settings(&fields).unwrap()), expected);
        for bad in ["label", "=x"] {
            assert!(settings(&[bad.to_owned()]).unwrap_err().to_string().contains("sets nothing"), "{bad}");
        }
    }

    #[test]
    fn a_message_is_shown_in_words() {
        let parts =
            json!([{"type": "text", "text": "I look."}, {"type": "toolCall", "name": "exec"}, {"type": "image"}]);
        assert_eq!(words(&json!({"content": parts})), "I look.\n[calls exec]\n[image]");
        assert_eq!(words(&json!({"content": "hi"})), "hi");
    }
}
