//! Plugins as tables and pages for people.

use std::fmt::Write as _;

use anyhow::Result;
use leanclaw_types::PluginKey;
use leanclaw_types::manifest::Lifecycle;
use leanclaw_types::permission::Permissions;
use leanclaw_types::plugin::PluginInfo;
use serde_json::{Value, json};

use crate::admin::{Folder, Refused};
use crate::output;

/// The plugin and account as they are typed.
pub(super) fn key_of(plugin: &PluginInfo) -> PluginKey {
    PluginKey { plugin: plugin.id.clone(), account: plugin.account.clone() }
}

/// The plugins as a table with the refused packages as warnings; or all as JSON, see [`entries`].
pub(super) fn list(folder: &Folder, as_json: bool) -> Result<()> {
    let Folder { plugins, refused } = folder;
    if as_json {
        return output::json(&entries(folder)?);
    }
    for Refused { path, reason } in refused {
        output::warning(&format!("{path} was refused: {reason}"));
    }
    if plugins.is_empty() {
        if !refused.is_empty() {
            return Ok(());
        }
        output::note("There are no plugins. `leanclaw config` shows the folder they belong in (LEANCLAW_PLUGIN_DIR).");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = plugins
        .iter()
        .map(|plugin| {
            vec![
                key_of(plugin).to_string(),
                plugin.version.clone(),
                plugin.state.as_str().to_owned(),
                plugin.exports.join(" "),
                plugin.reason.lines().next().unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    output::table(&["PLUGIN", "VERSION", "STATE", "EXPORTS", "REASON"], &rows)
}

/// The plugins, and after them the refused packages: `{"id": null, "state": "refused", "reason", "path"}`. What a package
/// that was refused would have been called is not known, and its path and reason are where those of a plugin are.
fn entries(folder: &Folder) -> Result<Vec<Value>> {
    let mut entries = folder.plugins.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    entries.extend(
        folder
            .refused
            .iter()
            .map(|Refused { path, reason }| json!({"id": null, "state": "refused", "reason": reason, "path": path})),
    );
    Ok(entries)
}

/// Everything about one plugin.
pub(super) fn details(plugin: &PluginInfo) -> String {
    let mut page = format!("{} {} ({})\n", key_of(plugin), plugin.version, plugin.state.as_str());
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            // Further lines of a value stand under its first one.
            let value = value.replace('\n', &format!("\n{:14}", ""));
            let _infallible = writeln!(page, "  {name:<12}{value}");
        }
    };
    line("name", &plugin.name);
    line("description", &plugin.description);
    line("reason", &plugin.reason);
    line("exports", &plugin.exports.join(", "));
    line(
        "lifecycle",
        match plugin.lifecycle {
            Lifecycle::PerCall => "a fresh instance for every call",
            Lifecycle::Resident => "one resident instance",
        },
    );
    line("methods", &plugin.methods.join(", "));
    line("tools", &plugin.tools.join(", "));
    line("path", &plugin.path);
    line("sha256", plugin.sha256.as_deref().unwrap_or_default());
    let stats = plugin.stats;
    line(
        "counters",
        &format!(
            "{} calls, {} failures, {} traps, {} timeouts, {} restarts, {} denied requests, {} KiB peak memory",
            stats.calls,
            stats.failures,
            stats.traps,
            stats.timeouts,
            stats.restarts,
            stats.egress_denied,
            stats.peak_memory_bytes / 1024
        ),
    );
    page.push_str(&permissions(plugin));
    page.trim_end().to_owned()
}

/// What a plugin asks for, each line marked with whether it was granted.
pub(super) fn permissions(plugin: &PluginInfo) -> String {
    rights(&plugin.requested, plugin.granted.as_ref())
}

/// As [`permissions`], of a plugin that may not be loaded.
pub(super) fn rights(requested: &Permissions, granted: Option<&Permissions>) -> String {
    let items = requested.items();
    let missing = requested.missing_from(granted.unwrap_or(&Permissions::default()));
    let mut shown = String::new();
    if items.is_empty() {
        let approved = if granted.is_some() { "; it is approved" } else { "; it waits to be approved" };
        let _infallible = writeln!(shown, "It asks for no rights{approved}.");
        return shown;
    }
    shown.push_str("It asks for:\n");
    for item in &items {
        let mark = if missing.contains(item) { "[ ]" } else { "[x]" };
        let _infallible = writeln!(shown, "  {mark} {item}");
    }
    shown
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A plugin that asks for and was granted what is given here.
    pub(in super::super) fn plugin(requested: Value, granted: Option<Value>) -> PluginInfo {
        serde_json::from_value(json!({
            "id": "notes", "account": "default", "name": "Notes", "version": "1.2.3", "description": "Keeps notes",
            "state": "needs-grant", "reason": "first line\nsecond line", "exports": ["method"],
            "lifecycle": "per-call", "requested": requested, "granted": granted, "missing": [], "tools": [],
            "methods": ["notes.add"], "sha256": null, "path": "/plugins/notes",
            "stats": {"calls": 1, "failures": 0, "traps": 0, "timeouts": 0, "restarts": 0, "peakMemoryBytes": 2048,
                      "egressDenied": 0}
        }))
        .unwrap()
    }

    #[test]
    fn the_page_shows_what_is_granted_and_what_is_not() {
        let plugin = plugin(json!({"kv": {"quotaBytes": 5}, "inbox": true}), Some(json!({"inbox": true})));
        let page = details(&plugin);
        assert!(page.starts_with("notes 1.2.3 (needs-grant)\n"), "{page}");
        assert!(page.contains("  [x] inbox\n  [ ] kv:5"), "{page}");
        assert!(page.contains("first line\n              second line"), "{page}");
        assert!(page.contains("2 KiB peak"), "{page}");
    }

    #[test]
    fn a_plugin_that_asks_for_nothing_is_still_approved_or_not() {
        assert!(permissions(&plugin(json!({}), None)).contains("waits to be approved"));
        assert!(permissions(&plugin(json!({}), Some(json!({})))).contains("it is approved"));
    }
}
