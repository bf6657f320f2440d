//! `leanclaw plugin secret`: the values that the host uses on a plugin's behalf and that never reach it.
//!
//! They are written straight to the store, whether a program runs or not: a secret is read at the moment it is used. A
//! value never stands on a command line, where other users of the machine could see it, and is never shown again.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use leanclaw_store::Store;
use leanclaw_types::PluginKey;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::clock::{Clock as _, SystemClock};
use leanclaw_types::manifest::Manifest;
use leanclaw_types::permission::SecretUse;
use leanclaw_types::redact::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::Serialize;
use serde_json::json;

use super::install::ACTOR;
use super::live;
use crate::author::folder;
use crate::config::Config;
use crate::report::Advice;
use crate::{data_dir, locate, output};

/// The longest value, in bytes.
const MAX_SECRET_BYTES: usize = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store a value, read from standard input or asked for
    Set(Named),
    /// List what the plugin declares and what is stored
    List(List),
    /// Delete a value
    Remove(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The plugin, with its account if it is not the default one
    #[arg(value_name = "ID[/ACCOUNT]")]
    plugin: PluginKey,
    /// The secret's name, as the plugin's manifest declares it
    name: String,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The plugin, with its account if it is not the default one
    #[arg(value_name = "ID[/ACCOUNT]")]
    plugin: PluginKey,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, place: locate::Named, command: &Command) -> Result<()> {
    live::warn_if_elsewhere(config, place).await?;
    data_dir::prepare(&config.data_dir)?;
    match command {
        Command::Set(named) => set(config, named).await,
        Command::List(list) => show(config, list).await,
        Command::Remove(named) => remove(config, named).await,
    }
}

async fn set(config: &Config, named: &Named) -> Result<()> {
    let Named { plugin, name, json: as_json } = named;
    refuse_bad_name(name)?;
    match installed(config, plugin) {
        None => output::warning(&format!("no plugin `{}` is installed; the secret is kept for it", plugin.plugin)),
        Some(manifest) if !manifest.permissions.secrets.iter().any(|declared| &declared.name == name) => {
            let declared: Vec<&str> = manifest.permissions.secrets.iter().map(|secret| secret.name.as_str()).collect();
            let others = if declared.is_empty() { String::new() } else { format!(", only: {}", declared.join(", ")) };
            output::warning(&format!("the manifest of `{}` declares no secret `{name}`{others}", plugin.plugin));
        }
        Some(_) => {}
    }
    let secret = read_secret(&format!("Value of {name} for {plugin}: "))?;
    let store = Store::open(&config.data_dir)?;
    store.put_secret(plugin, name, secret, record(plugin, name, "set")).await?;
    store.close().await;
    done(plugin, name, "set", *as_json)
}

async fn remove(config: &Config, named: &Named) -> Result<()> {
    let Named { plugin, name, json: as_json } = named;
    let store = Store::open(&config.data_dir)?;
    let removed = store.remove_secret(plugin, name, record(plugin, name, "removed")).await?;
    store.close().await;
    if !removed {
        let message = format!("no secret `{}` is stored for `{plugin}`", name.escape_debug());
        return Err(Advice::new(message).hint(format!("leanclaw plugin secret list {plugin}")).into());
    }
    done(plugin, name, "removed", *as_json)
}

fn done(plugin: &PluginKey, name: &str, action: &str, as_json: bool) -> Result<()> {
    if as_json {
        return output::json(&json!({"plugin": plugin.to_string(), "name": name, "action": action}));
    }
    output::text(&format!("{plugin}: secret {name} {action}"))
}

/// One secret, without its value.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Row {
    name: String,
    stored: bool,
    /// Where the manifest lets it be used; nowhere when it is not declared.
    uses: Vec<String>,
}

async fn show(config: &Config, list: &List) -> Result<()> {
    let store = Store::open(&config.data_dir)?;
    let stored = store.secret_names(&list.plugin).await?;
    store.close().await;
    let manifest = installed(config, &list.plugin);
    let declared = manifest.map(|manifest| manifest.permissions.secrets).unwrap_or_default();
    let rows = rows(&declared, &stored);
    if list.json {
        return output::json(&rows);
    }
    if rows.is_empty() {
        output::note(&format!("`{}` declares no secrets, and none are stored for it.", list.plugin));
        return Ok(());
    }
    let cells = |row: &Row| {
        let uses = if row.uses.is_empty() { "not declared".to_owned() } else { row.uses.join(", ") };
        vec![row.name.clone(), if row.stored { "yes" } else { "no" }.to_owned(), uses]
    };
    output::table(&["NAME", "STORED", "USED IN"], &rows.iter().map(cells).collect::<Vec<_>>())
}

fn rows(declared: &[SecretUse], stored: &[String]) -> Vec<Row> {
    let mut uses: BTreeMap<&str, Vec<String>> = stored.iter().map(|name| (name.as_str(), Vec::new())).collect();
    for secret in declared {
        let shown = secret.to_string();
        let place = shown.strip_prefix(&format!("{}@", secret.name)).unwrap_or(&shown).to_owned();
        uses.entry(&secret.name).or_default().push(place);
    }
    let row = |(name, uses): (&str, Vec<String>)| Row {
        name: name.to_owned(),
        stored: stored.iter().any(|stored| stored == name),
        uses,
    };
    uses.into_iter().map(row).collect()
}

fn installed(config: &Config, plugin: &PluginKey) -> Option<Manifest> {
    folder::find(&config.plugins.dir, &plugin.plugin).into_iter().next().map(|(_, manifest)| manifest)
}

fn refuse_bad_name(name: &str) -> Result<()> {
    let declared = SecretUse { name: name.to_owned(), host: None, header: None, query: None, path: false, hmac: true };
    declared.problem().map_or(Ok(()), |problem| Err(Advice::new(problem).into()))
}

fn record(plugin: &PluginKey, name: &str, action: &str) -> AuditRecord {
    let event =
        AuditEvent::SecretChanged { plugin: plugin.to_string(), name: name.to_owned(), action: action.to_owned() };
    AuditRecord { at_ms: SystemClock.now_ms(), actor: ACTOR.to_owned(), event }
}

/// Reads a value: a line that a person types without seeing it, or all of standard input.
fn read_secret(prompt: &str) -> Result<Secret> {
    let mut text = String::new();
    if output::can_ask() {
        let _unseen = Unseen::begin()?;
        output::prompt(prompt)?;
        std::io::stdin().lock().read_line(&mut text).context("the value cannot be read")?;
        output::note("");
    } else {
        let limit = u64::try_from(MAX_SECRET_BYTES).unwrap_or(u64::MAX) + 3;
        let read = std::io::stdin().lock().take(limit).read_to_string(&mut text);
        read.context("the value cannot be read from standard input as text")?;
    }
    checked(text)
}

/// The value without the line break that ends it.
fn checked(mut text: String) -> Result<Secret> {
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    let length = value.len();
    text.truncate(length);
    if text.is_empty() {
        let hint = "give it on standard input: printf %s \"$VALUE\" | leanclaw plugin secret set ...";
        return Err(Advice::new("the value is empty, and nothing was stored").hint(hint).into());
    }
    if length > MAX_SECRET_BYTES {
        return Err(Advice::new(format!("the value has more than {MAX_SECRET_BYTES} bytes")).into());
    }
    Ok(Secret::new(text))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Unseen(Termios);

impl Unseen {
    fn begin() -> Result<Self> {
        let before = tcgetattr(std::io::stdin()).context("the terminal cannot be told to hide the value")?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &hidden)
            .context("the terminal cannot be told to hide the value")?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _gone = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_not_part_of_a_value() {
        for (typed, value) in [("a\n", "a"), ("a\r\n", "a"), ("a b\n\n", "a b\n"), ("a", "a"), (" a ", " a ")] {
            assert_eq!(checked(typed.to_owned()).unwrap().expose(), value, "{typed:?}");
        }
        for bad in ["", "\n", "\r\n"] {
            assert!(checked(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(checked("x".repeat(MAX_SECRET_BYTES)).is_ok() && checked("x".repeat(MAX_SECRET_BYTES + 1)).is_err());
    }

    #[test]
    fn the_list_shows_what_is_declared_and_what_is_stored() {
        let declared: Vec<SecretUse> = serde_json::from_value(json!([
            {"name": "key", "hmac": true},
            {"name": "token", "host": "https://a.example", "header": "authorization"},
            {"name": "token", "host": "https://b.example", "path": true}
        ]))
        .unwrap();
        let rows = rows(&declared, &["old".into(), "token".into()]);
        let row = |name: &str, stored, uses: &[&str]| Row {
            name: name.into(),
            stored,
            uses: uses.iter().map(|place| (*place).to_owned()).collect(),
        };
        assert_eq!(
            rows,
            [
                row("key", false, &["hmac"]),
                row("old", true, &[]),
                row("token", true, &["https://a.example/header=authorization", "https://b.example/path"]),
            ]
        );
    }
}
