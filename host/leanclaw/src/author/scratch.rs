//! A plugin runtime for one plugin and one command: stores in a temporary folder, rights as the command says, nothing
//! left when it ends. Plugins of the real folder, their data and secrets are not there.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use leanclaw_plugin::{Mode, Plugins};
use leanclaw_store::GrantRow;
use leanclaw_types::PluginKey;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::permission::Permissions;
use leanclaw_types::plugin::PluginInfo;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::bundle::Bundle;
use crate::config::{Config, PluginsConfig};
use crate::wiring::{self, Parts};

/// The runtime.
pub(crate) struct Scratch {
    parts: Parts,
    pub(crate) key: PluginKey,
    _folder: TempDir,
}

impl Scratch {
    /// Loads the plugin with these rights and its settings from the configuration. Compiled code goes to the real data directory's cache where there is one, so
    /// that installing the plugin afterwards does not compile it again.
    pub(crate) async fn load(bundle: &Bundle, config: &Config, granted: Permissions) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("leanclaw-").tempdir().context("no temporary folder can be made")?;
        let key = PluginKey::default_account(bundle.id().clone());
        let mut scratch = config.clone();
        scratch.data_dir = folder.path().join("data");
        let entry = config.plugins.entries.get(bundle.id()).cloned().unwrap_or_default();
        scratch.plugins = PluginsConfig {
            dir: folder.path().join("plugins"),
            enabled: true,
            allow: Vec::new(),
            deny: Vec::new(),
            // Its settings are the real ones; whether the configuration lets it run is not the question here.
            entries: BTreeMap::from([(
                bundle.id().clone(),
                crate::config::PluginEntry { enabled: true, accounts: BTreeMap::new(), ..entry },
            )]),
        };
        bundle.write_folder(&scratch.plugins.dir.join(bundle.id().as_str()), bundle.component()?)?;
        let real = if config.data_dir.is_dir() { &config.data_dir } else { &scratch.data_dir };
        let parts = wiring::open_with_cache(&scratch, Mode::Passive, wiring::cache_dir(real))?;
        let event = AuditEvent::PluginGranted { plugin: key.to_string(), added: Vec::new(), granted: Vec::new() };
        let row = GrantRow {
            key: key.clone(),
            permissions: granted,
            granted_at_ms: 0,
            granted_by: "host:scratch".to_owned(),
            // Nothing waits for a decision here: what is not granted is refused.
            decided: bundle.manifest.asked(),
        };
        parts.store.put_grant(row, AuditRecord { at_ms: 0, actor: "host:scratch".to_owned(), event }).await?;
        parts.plugins.start(CancellationToken::new()).await;
        Ok(Self { parts, key, _folder: folder })
    }

    pub(crate) fn plugins(&self) -> &Plugins {
        &self.parts.plugins
    }

    /// Where the plugin stands, or why it was not even read.
    pub(crate) fn info(&self) -> Result<PluginInfo> {
        match self.parts.plugins.problems().into_iter().next() {
            Some((_, reason)) => Err(anyhow::anyhow!(reason)),
            None => Ok(self.parts.plugins.inspect(&self.key)?),
        }
    }

    /// Closes the stores before their folder goes.
    pub(crate) async fn close(self) {
        self.parts.close().await;
    }
}
