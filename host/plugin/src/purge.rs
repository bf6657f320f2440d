//! Taking away what is kept of a plugin, once nothing of it runs any more.
//!
//! What there is to delete and where is the caller's; here is decided when: after the plugin was unloaded and every
//! instance of it is gone, and before anything can be loaded under its id again.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use leanclaw_types::failure::code;
use leanclaw_types::{AccountId, Caller, Failure, PluginId};
use tokio::time::Instant;

use crate::admission::Home;
use crate::description;
use crate::folder;
use crate::grants::finished;
use crate::package;
use crate::runtime::{Inner, Plugins, actor};
use crate::unit::{Lost, Unit};

/// How long the instances of a plugin may take to end. What runs is ended at its next pause, so this is plenty.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked whether they have.
const PAUSE: Duration = Duration::from_millis(5);

/// What is left of a plugin that does not run any more.
#[derive(Debug, Clone)]
pub struct Remains {
    /// The accounts that ran since the program started; there may be writes of theirs on the way.
    pub accounts: Vec<AccountId>,
    /// Keys of [`crate::services::Memo`] that are about it.
    pub memo: Vec<String>,
    /// Who wants it gone, as audit rows name them.
    pub by: String,
}

impl Plugins {
    /// Runs `delete` when the plugin is unloaded and ended, and keeps anything from being loaded under its id meanwhile.
    /// Then its log and counters are forgotten too. Carried out to its end even when the caller goes away.
    ///
    /// # Errors
    /// `conflict` while its files are in the plugin folder, loaded or not; `unavailable` when that cannot be told, or an
    /// instance does not end; what `delete` says.
    pub async fn purge<T, D, F>(&self, caller: &Caller, plugin: &PluginId, delete: D) -> Result<T, Failure>
    where
        T: Send + 'static,
        D: FnOnce(Remains) -> F + Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let (inner, by, plugin) = (Arc::clone(&self.inner), actor(caller), plugin.clone());
        finished(tokio::spawn(async move {
            let _decision = inner.decisions.lock().await;
            let gate = inner.gate(&plugin);
            let _turn = gate.lock().await;
            inner.is_absent(&plugin).await?;
            inner.unload_removed(&plugin, &by)?;
            let accounts = inner.end(&plugin).await?;
            let done = delete(Remains { accounts, memo: inner.memo_of(&plugin).await, by }).await?;
            inner.loader.forget(&plugin);
            inner.forget_guard(&plugin);
            Ok(done)
        }))
        .await
    }
}

fn is_installed(plugin: &PluginId, path: &Path) -> Failure {
    let message = format!("The plugin `{plugin}` is installed: {}.", path.display());
    Failure::new(code::CONFLICT, message).hint(format!("leanclaw plugin remove {plugin} --purge removes it first"))
}

impl Inner {
    /// Looks into the folder: a package that was refused, or that nobody has looked at yet, is in no table.
    async fn is_absent(&self, plugin: &PluginId) -> Result<(), Failure> {
        let Some(folder) = self.folder.as_deref() else { return Ok(()) };
        let contents = folder::look(folder).await.map_err(|reason| {
            let message =
                format!("It cannot be told whether the plugin `{plugin}` is installed; nothing was deleted: {reason}");
            Failure::unavailable(message).hint("put the plugin folder right first")
        })?;
        let home = self.home(plugin).await.map(|home| home.within(folder));
        for path in contents.into_keys() {
            let is_its = match package::claimed_id(&path).await {
                Some(id) => id == plugin.as_str(),
                // It says of nobody whose it is, and lies where the plugin did or would.
                None => home.as_ref() == Some(&path) || path.file_stem().is_some_and(|name| name == plugin.as_str()),
            };
            if is_its {
                return Err(is_installed(plugin, &path));
            }
        }
        Ok(())
    }

    /// Unloads a plugin whose files are gone, without waiting for the folder's watcher to notice.
    fn unload_removed(&self, plugin: &PluginId, by: &str) -> Result<(), Failure> {
        let path: Option<PathBuf> = self.lock().plugins.get(plugin).map(|entry| entry.package.path.clone());
        let Some(path) = path else { return Ok(()) };
        if path.symlink_metadata().is_ok() {
            return Err(is_installed(plugin, &path));
        }
        let mut installed = self.lock();
        if installed.plugins.get(plugin).is_some_and(|entry| entry.package.path == path) {
            self.unload(&mut installed, plugin, "its files are gone", by);
        }
        drop(installed);
        self.publish();
        Ok(())
    }

    /// Ends what runs of a plugin and waits until it has ended: a call that goes on could write what was just deleted.
    async fn end(&self, plugin: &PluginId) -> Result<Vec<AccountId>, Failure> {
        let mut accounts = Vec::new();
        let mut units: Vec<Weak<Unit>> = Vec::new();
        for (account, unit) in self.loader.units(plugin) {
            accounts.push(account);
            if let Some(unit) = unit.upgrade() {
                unit.revoke(Lost::Rights);
            }
            units.push(unit);
        }
        accounts.sort();
        accounts.dedup();
        let since = Instant::now();
        while units.iter().any(|unit| unit.strong_count() > 0) {
            if since.elapsed() > PATIENCE {
                let message = format!("A call of the plugin `{plugin}` does not end; nothing was deleted.");
                return Err(Failure::unavailable(message).hint("try again, or stop the program first"));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(accounts)
    }

    /// Keys under which something is remembered of a plugin: where it lay, and what its component says.
    async fn memo_of(&self, plugin: &PluginId) -> Vec<String> {
        let mut keys = vec![Home::key(plugin)];
        if let Some(sha256) = self.home(plugin).await.and_then(|home| home.sha256) {
            keys.extend([description::memo_key(&sha256), crate::package::manifest_memo_key(&sha256)]);
        }
        keys
    }

    /// The gate of a plugin: whoever holds it is the only one who loads it.
    pub(crate) fn gate(&self, plugin: &PluginId) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(plugin.clone()).or_default())
    }
}
