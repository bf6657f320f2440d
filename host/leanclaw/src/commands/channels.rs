//! `leanclaw channels ...`: the channels that plugins serve, and starting, stopping and logging out their accounts.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::fields::{flag, items, table, text};
use super::gateway::{OrList, Plain};
use crate::config::Flags;
use crate::output;

/// Without a command, channels are listed.
pub(crate) type Arguments = OrList<Command, Plain>;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the channels with their accounts, and how they stand
    #[command(visible_alias = "status")]
    List(Plain),
    /// Start an account of a channel; it stays started
    Start(One),
    /// Stop an account of a channel; it stays stopped, and its settings, rights and secrets are kept
    Stop(One),
    /// Log an account of a channel out: the secrets of its plugin are deleted, and it starts anew without them
    Logout(One),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The channel, as listed, or its plugin
    channel: String,
    /// The account
    #[arg(long, value_name = "NAME", default_value = "default")]
    account: String,
    #[command(flatten)]
    plain: Plain,
}

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    match arguments.command(Command::List) {
        Command::List(plain) => plain.call(flags, "channels.status", json!({}), |payload, _| list(payload)),
        Command::Start(one) => one.call(flags, "channels.start", |_| "runs"),
        Command::Stop(one) => one.call(flags, "channels.stop", |_| "is stopped"),
        Command::Logout(one) => one.call(flags, "channels.logout", |payload| {
            if flag(payload, "cleared") { "is logged out" } else { "is logged out: it had no secrets" }
        }),
    }
}

impl One {
    fn call(self, flags: Flags, method: &str, done: fn(&Value) -> &'static str) -> Result<()> {
        let params = json!({"channel": self.channel, "accountId": self.account});
        self.plain.call(flags, method, params, |payload, _| {
            let (channel, account, done) = (text(payload, "channel"), text(payload, "accountId"), done(payload));
            output::text(&format!("{channel}, account {account}, {done}"))
        })
    }
}

fn list(payload: &Value) -> Result<()> {
    let mut rows = Vec::new();
    for id in items(payload.get("channelOrder"))?.iter().filter_map(Value::as_str) {
        let label = payload.get("channelLabels").map(|labels| text(labels, id)).unwrap_or_default();
        for account in items(payload.get("channelAccounts").and_then(|accounts| accounts.get(id)))? {
            rows.push(json!({"channel": id, "label": label, "account": account}));
        }
    }
    let none = "No plugin serves a channel; `leanclaw plugin list` shows what is installed.";
    table(&["CHANNEL", "NAME", "ACCOUNT", "STATE", "WHY"], &rows, none, row)
}

fn row(row: &Value) -> Vec<String> {
    let account = row.get("account").unwrap_or(&Value::Null);
    let state = match (flag(account, "running"), flag(account, "enabled"), flag(account, "configured")) {
        (true, ..) => "running",
        (_, false, _) => "stopped",
        (_, _, false) => "waits for a grant",
        _ => "not running",
    };
    let why = text(account, "lastError").lines().next().unwrap_or_default().to_owned();
    vec![text(row, "channel"), text(row, "label"), text(account, "accountId"), state.to_owned(), why]
}
