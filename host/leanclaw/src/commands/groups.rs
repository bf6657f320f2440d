//! `leanclaw groups ...`: which chats belong to which folder and agent.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::fields::{flag, items, table, text};
use super::gateway::{OrList, Plain};
use crate::config::Flags;
use crate::output;

/// Without a command, groups are listed.
pub(crate) type Arguments = OrList<Command, Plain>;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List groups
    List(Plain),
    /// Register a chat; a folder belongs to one chat, and one group is the main one
    Add(Add),
    /// Change a group; its folder stays
    Set(Set),
    /// Remove a group; its folder stays
    Remove(Remove),
}

#[derive(Debug, Args)]
pub(crate) struct Wish {
    /// What a message must begin with to wake the agent; empty for none of its own
    #[arg(long, value_name = "TEXT")]
    trigger: Option<String>,
    /// Whether a message needs the trigger: `true` or `false`
    #[arg(long, value_name = "BOOL")]
    requires_trigger: Option<bool>,
    /// The agent that answers, by its id
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The chat, as its channel names it
    chat: String,
    /// The folder that its sessions share, such as `family`
    folder: String,
    /// Its name for people; without one, the folder's
    #[arg(long)]
    name: Option<String>,
    /// Make it the group that administers the others
    #[arg(long)]
    main: bool,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The chat
    chat: String,
    /// Its name for people
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The chat
    chat: String,
    #[command(flatten)]
    plain: Plain,
}

impl Wish {
    fn params(self, chat: &str, name: Option<String>) -> Map<String, Value> {
        let fields = [
            ("jid", Some(json!(chat))),
            ("name", name.map(Value::from)),
            ("trigger", self.trigger.map(Value::from)),
            ("requiresTrigger", self.requires_trigger.map(Value::from)),
            ("agentId", self.agent.map(Value::from)),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    match arguments.command(Command::List) {
        Command::List(plain) => plain.call(flags, "groups.list", json!({}), |payload, _| list(payload)),
        Command::Add(Add { chat, folder, name, main, wish, plain }) => {
            let mut params = wish.params(&chat, Some(name.unwrap_or_else(|| folder.clone())));
            params.insert("folder".into(), json!(folder));
            params.insert("isMain".into(), json!(main));
            plain.call(flags, "groups.register", Value::Object(params), |group, _| said(group, "is registered"))
        }
        Command::Set(Set { chat, name, wish, plain }) => {
            let params = wish.params(&chat, name);
            plain.call(flags, "groups.update", Value::Object(params), |group, _| said(group, "is changed"))
        }
        Command::Remove(Remove { chat, plain }) => {
            plain.call(flags, "groups.remove", json!({"jid": chat}), |group, _| said(group, "is removed"))
        }
    }
}

fn said(group: &Value, what: &str) -> Result<()> {
    output::text(&format!("{} {what}", text(group, "jid")))
}

fn list(payload: &Value) -> Result<()> {
    let none = "There are no groups. `leanclaw groups add CHAT FOLDER` registers one.";
    let head = ["CHAT", "NAME", "FOLDER", "AGENT", "WAKES ON", ""];
    table(&head, items(Some(payload))?, none, |group| {
        let wakes = if flag(group, "requiresTrigger") {
            group.get("trigger").and_then(Value::as_str).unwrap_or("its name").to_owned()
        } else {
            "every message".to_owned()
        };
        let main = if flag(group, "isMain") { "main" } else { "" };
        let field = |name| text(group, name);
        vec![field("jid"), field("name"), field("folder"), field("agentId"), wakes, main.to_owned()]
    })
}
