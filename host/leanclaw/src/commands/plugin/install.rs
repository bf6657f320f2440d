//! `leanclaw plugin install` and `remove`: plugins in and out of the plugin folder.
//!
//! Installing gives no rights. A new version runs with the rights that the one before was granted, as far as it still
//! asks for them; what it asks for beyond them waits for a decision.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use leanclaw_store::Store;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::clock::{Clock as _, SystemClock};
use leanclaw_types::permission::Permissions;
use leanclaw_types::plugin::{PluginInfo, Purged};
use leanclaw_types::{PluginId, PluginKey};
use serde_json::json;

use super::live::{self, Stands};
use super::{grant, show};
use crate::admin;
use crate::author::bundle::Bundle;
use crate::author::examine::shown_bytes;
use crate::author::folder;
pub(super) use crate::commands::ACTOR;
use crate::config::Config;
use crate::locate::Named;
use crate::report::Advice;
use crate::{data_dir, output};

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// The plugin's folder or its .wasm
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Also grant everything its manifest asks for
    #[arg(long)]
    grant_all: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The plugin
    #[arg(value_name = "ID")]
    plugin: PluginId,
    /// Also delete its rights, secrets, data and the messages it handed in, of all its accounts
    #[arg(long)]
    purge: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn install(config: &Config, named: Named, arguments: &Install) -> Result<()> {
    let bundle = Bundle::open(&arguments.path)?;
    let diagnosis = bundle.diagnosis(&bundle.manifest.asked())?;
    if !diagnosis.is_loadable() {
        let message = format!("no host would load `{}`:\n{}", bundle.id(), diagnosis.to_string().trim_end());
        return Err(Advice::new(message).into());
    }
    live::warn_if_elsewhere(config, named).await?;
    data_dir::prepare(&config.data_dir)?;
    let store = Store::open(&config.data_dir)?;
    let key = PluginKey::default_account(bundle.id().clone());
    let granted = store.grant(&key).await?.map(|grant| grant.permissions);
    introduce(&bundle, granted.as_ref())?;
    let missing = bundle.manifest.asked().missing_from(&granted.clone().unwrap_or_default());
    let widens = arguments.grant_all && (granted.is_none() || !missing.is_empty());
    if widens && !arguments.yes && !confirmed(&missing)? {
        return Err(Advice::new("nothing was installed").into());
    }
    let placed = put(config, &store, &bundle).await?;
    store.close().await;
    let mut stands = live::after_swap(config, named, bundle.id(), &placed).await?;
    if widens {
        let mut admin = admin::open_here(config, named).await?;
        let change = grant::shown(&bundle.manifest.asked());
        let granting = admin.grant(&key, &change);
        let info = output::noted(granting, "Compiling and loading it ...").await?;
        admin.close().await;
        stands = Stands::Known(Box::new(info));
    }
    report(&bundle, &placed, &stands, granted.is_some(), arguments.json)
}

/// Puts the plugin into the folder and writes down that it was done.
pub(super) async fn put(config: &Config, store: &Store, bundle: &Bundle) -> Result<folder::Placed> {
    live::check_folder(config)?;
    let placed = folder::place(&config.plugins.dir, bundle)?;
    let sha256 = Some(placed.digest.to_string());
    store.append_audit(changed(bundle.id(), "install", sha256)).await.context("it is installed, unrecorded")?;
    Ok(placed)
}

/// Shows what is about to be installed and what it asks for.
fn introduce(bundle: &Bundle, granted: Option<&Permissions>) -> Result<()> {
    let manifest = &bundle.manifest;
    let description = manifest.description.as_deref().unwrap_or_default();
    let size = shown_bytes(bundle.component()?.len());
    output::note(&format!("{} {} ({size}): {description}", manifest.id, manifest.version));
    output::note(show::rights(&manifest.asked(), granted).trim_end());
    Ok(())
}

fn confirmed(missing: &[String]) -> Result<bool> {
    if missing.is_empty() {
        output::note("Granting approves it as it is.");
    } else {
        output::note("Granting would add:");
        missing.iter().for_each(|item| output::note(&format!("  + {item}")));
    }
    if !output::can_ask() {
        let advice = Advice::new("there is no terminal to ask on, so nothing was installed")
            .hint("read what would be granted, then repeat the command with --yes")
            .hint("or install it without rights: leave --grant-all out");
        return Err(advice.into());
    }
    output::ask("Install it and grant that?")
}

fn report(bundle: &Bundle, placed: &folder::Placed, stands: &Stands, is_granted: bool, as_json: bool) -> Result<()> {
    let id = bundle.id();
    let action = if placed.replaced { "replaced" } else { "installed" };
    if as_json {
        return output::json(&json!({
            "id": id, "version": bundle.manifest.version, "action": action, "path": placed.path,
            "sha256": placed.digest.to_string(), "plugin": stands.info(),
        }));
    }
    output::text(&format!("{id} {} {action}: {}", bundle.manifest.version, placed.path.display()))?;
    match stands {
        Stands::Known(info) => output::text(&state_line(info)),
        Stands::NothingRuns => {
            output::note("No program runs; `leanclaw start` loads it.");
            if !is_granted {
                output::note(&format!("It has no rights yet: leanclaw plugin grant {id} --all"));
            }
            Ok(())
        }
        Stands::NotSeen => {
            output::warning(
                "the running program does not show it; does it use another plugin folder? (leanclaw config)",
            );
            Ok(())
        }
    }
}

/// Where a plugin stands, in one line and its advice.
pub(super) fn state_line(info: &PluginInfo) -> String {
    let reason = if info.reason.is_empty() { String::new() } else { format!(": {}", info.reason) };
    format!("{} is {}{reason}", show::key_of(info), info.state.as_str())
}

fn changed(plugin: &PluginId, action: &str, sha256: Option<String>) -> AuditRecord {
    let event = AuditEvent::PluginInstalled { plugin: plugin.to_string(), action: action.to_owned(), sha256 };
    AuditRecord { at_ms: SystemClock.now_ms(), actor: ACTOR.to_owned(), event }
}

pub(super) async fn remove(config: &Config, named: Named, arguments: &Remove) -> Result<()> {
    let Remove { plugin, purge, json: as_json } = arguments;
    live::warn_if_elsewhere(config, named).await?;
    live::check_folder(config)?;
    let removed = folder::remove(&config.plugins.dir, plugin)?;
    if removed.is_empty() && !purge {
        let message = format!("no plugin `{plugin}` is installed in {}", config.plugins.dir.display());
        return Err(Advice::new(message).hint("leanclaw plugin list shows what is there").into());
    }
    data_dir::prepare(&config.data_dir)?;
    if !removed.is_empty() {
        let store = Store::open(&config.data_dir)?;
        store.append_audit(changed(plugin, "remove", None)).await?;
        store.close().await;
    }
    // A program that runs unloads the plugin first: what it still did could bring back what was deleted.
    let deleted = if *purge {
        let mut admin = admin::open_here(config, named).await?;
        let deleted = admin.purge(plugin).await?;
        admin.close().await;
        Some(deleted)
    } else {
        None
    };
    if *as_json {
        return output::json(&json!({"id": plugin, "removed": removed, "purged": purge, "deleted": deleted}));
    }
    for path in &removed {
        output::text(&format!("removed {}", path.display()))?;
    }
    match deleted {
        Some(deleted) => output::text(&deletion(plugin, deleted)),
        None => {
            output::note(&format!(
                "Its rights, secrets and data are kept; `leanclaw plugin remove {plugin} --purge` deletes them."
            ));
            Ok(())
        }
    }
}

/// What was deleted of a plugin, in one line.
fn deletion(plugin: &PluginId, deleted: Purged) -> String {
    let Purged { grants, secrets, messages, kv_entries } = deleted;
    let parts = [
        (grants, "grant", "grants"),
        (secrets, "secret", "secrets"),
        (kv_entries, "stored entry", "stored entries"),
        (messages, "received message", "received messages"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
        .collect();
    if parts.is_empty() {
        format!("nothing was kept of {plugin}")
    } else {
        format!("deleted what was kept of {plugin}: {}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deleted_is_counted() {
        let plugin: PluginId = "notes".parse().unwrap();
        let deleted = Purged { grants: 1, kv_entries: 2, ..Purged::default() };
        assert_eq!(deletion(&plugin, deleted), "deleted what was kept of notes: 1 grant, 2 stored entries");
        assert_eq!(deletion(&plugin, Purged::default()), "nothing was kept of notes");
    }
}
