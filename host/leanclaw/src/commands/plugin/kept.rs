//! Rights that are kept for plugins that are not installed: whatever comes next under such an id has them.

use anyhow::Result;
use leanclaw_store::{GrantRow, Store};
use leanclaw_types::plugin::PluginInfo;

use crate::admin;
use crate::config::Config;
use crate::locate::Named;
use crate::output;

/// Names the rights that are kept for plugins that are not there, and the commands that take them back.
pub(super) async fn note(config: &Config, named: Named, installed: &[PluginInfo]) -> Result<()> {
    // A program elsewhere was asked, or nothing was ever stored.
    if admin::is_elsewhere(config, named)? || !config.data_dir.join("core.db").exists() {
        return Ok(());
    }
    let store = Store::open(&config.data_dir)?;
    let grants = store.grants().await;
    store.close().await;
    let is_installed = |grant: &&GrantRow| installed.iter().any(|plugin| plugin.id == grant.key.plugin);
    for grant in grants?.iter().filter(|grant| !is_installed(grant)) {
        output::note(&line(grant));
    }
    Ok(())
}

fn line(grant: &GrantRow) -> String {
    let key = &grant.key;
    let items: Vec<String> = grant.permissions.items().into_iter().collect();
    let rights = if items.is_empty() { "its approval".to_owned() } else { items.join(", ") };
    format!("not installed, rights kept: {key}: {rights} (leanclaw plugin revoke {key} --all takes them back)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use leanclaw_types::permission::Permissions;

    #[test]
    fn a_line_says_what_is_kept_and_how_to_take_it_back() {
        let grant = |permissions: Permissions| GrantRow {
            key: "notes/work".parse().unwrap(),
            permissions,
            granted_at_ms: 0,
            granted_by: "client:cli".into(),
            decided: Permissions::default(),
        };
        let shown = line(&grant(Permissions { inbox: true, ..Permissions::default() }));
        assert!(shown.contains("notes/work: inbox (leanclaw plugin revoke notes/work --all"), "{shown}");
        assert!(line(&grant(Permissions::default())).contains("its approval"));
    }
}
