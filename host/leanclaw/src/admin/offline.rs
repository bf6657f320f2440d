//! Plugin administration while no program runs: on the stored data itself.
//!
//! It holds the data directory's lock as a running program would, so that none can start underneath, and loads plugins
//! only as far as it takes to say where they stand: nothing polls, connects or follows the folder.

use anyhow::Result;
use async_trait::async_trait;
use leanclaw_plugin::{Mode, Plugins};
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::{LogLine, PluginInfo, Purged};
use leanclaw_types::{Caller, PluginId, PluginKey};
use tokio_util::sync::CancellationToken;

use super::{Folder, PluginAdmin, Refused};
use crate::config::Config;
use crate::lock::DataDirLock;
use crate::report::Advice;
use crate::wiring::{self, Parts};
use crate::{data_dir, lock, output};

/// The stored data, opened when something is first asked of it.
pub(crate) struct Offline {
    config: Config,
    /// The stores and the plugins as they would stand.
    opened: Option<Parts>,
    _lock: DataDirLock,
}

/// Who acts, as grants and audit rows name it.
pub(crate) fn operator() -> Caller {
    Caller::client("cli", "operator", vec!["operator.admin".to_owned()])
}

impl Offline {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`lock::LockError`] when a program runs.
    pub(crate) fn begin(config: &Config) -> Result<Self> {
        data_dir::prepare(&config.data_dir)?;
        let lock = lock::acquire_for_command(&config.data_dir)?;
        Ok(Self { config: config.clone(), opened: None, _lock: lock })
    }

    /// Opens the stores and looks at every plugin. One that was never loaded before is compiled for that.
    async fn plugins(&mut self) -> Result<Plugins> {
        if let Some(parts) = &self.opened {
            return Ok(parts.plugins.clone());
        }
        let parts = wiring::open(&self.config, Mode::Passive)?;
        let plugins = parts.plugins.clone();
        let loading = plugins.start(CancellationToken::new());
        output::noted(loading, "No program runs here, so the plugins are loaded to see where they stand ...").await;
        self.opened = Some(parts);
        Ok(plugins)
    }
}

fn refused(plugins: &Plugins) -> Vec<Refused> {
    let problems = plugins.problems().into_iter();
    problems.map(|(path, reason)| Refused { path: path.display().to_string(), reason }).collect()
}

#[async_trait]
impl PluginAdmin for Offline {
    async fn list(&mut self) -> Result<Folder> {
        let plugins = self.plugins().await?;
        Ok(Folder { plugins: plugins.list(), refused: refused(&plugins) })
    }

    async fn inspect(&mut self, key: &PluginKey) -> Result<PluginInfo> {
        Ok(self.plugins().await?.inspect(key)?)
    }

    async fn grant(&mut self, key: &PluginKey, change: &GrantChange) -> Result<PluginInfo> {
        Ok(self.plugins().await?.grant(&operator(), key, change).await?)
    }

    async fn revoke(&mut self, key: &PluginKey, change: &GrantChange) -> Result<Option<PluginInfo>> {
        Ok(self.plugins().await?.revoke(&operator(), key, change).await?)
    }

    async fn logs(&mut self, _plugin: &PluginId, _after_seq: Option<u64>, _limit: u32) -> Result<Vec<LogLine>> {
        let data_dir = self.config.data_dir.display();
        let message = format!("no program runs with the data directory {data_dir}, and logs are kept in its memory");
        let advice = Advice::new(message)
            .hint("start it with `leanclaw start` and the same --data-dir")
            .hint("what plugins log also goes to the program's own log, on standard error");
        Err(advice.into())
    }

    async fn purge(&mut self, plugin: &PluginId) -> Result<Purged> {
        // Nothing has to be loaded for that.
        let parts = match self.opened.take() {
            Some(parts) => parts,
            None => wiring::open(&self.config, Mode::Passive)?,
        };
        let parts = self.opened.insert(parts);
        Ok(wiring::purge(&parts.plugins, (&parts.store, &parts.kv), &operator(), plugin).await?)
    }

    async fn reload(&mut self, plugin: Option<&PluginId>) -> Result<Folder> {
        let plugins = self.plugins().await?;
        Ok(Folder { plugins: plugins.reload(&operator(), plugin).await?, refused: refused(&plugins) })
    }

    async fn close(&mut self) {
        if let Some(parts) = self.opened.take() {
            parts.close().await;
        }
    }
}
