//! The plugins of one running program: what is installed, what of it is ready, and every way to call it.
//!
//! Calls never wait for a change: they read a table that is swapped whole. How what lies in the folder becomes that table
//! is in [`crate::admission`] and
//! [`crate::installed`].

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use leanclaw_egress::Egress;
use leanclaw_types::plugin::{LogLine, PluginEvent, PluginInfo, PluginState};
use leanclaw_types::{Caller, Failure, PluginId, PluginKey};
use leanclaw_wasm::Wasm;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::actor::Recycling;
use crate::folder::{self, Contents};
use crate::installed::{Installed, Wish};
use crate::loader::Loader;
use crate::package::Package;
use crate::retry::Retries;
use crate::services::Services;
use crate::table::Table;
use crate::unit::Faulted;
use crate::watch::EgressWatch;

/// Events that may wait for a slow subscriber before it misses some.
const EVENT_BACKLOG: usize = 1024;

/// The event that tells that the listing changed.
pub(crate) const CHANGED: &str = "plugins.changed";

/// What the runtime is made of.
pub struct PluginsOptions {
    /// The engine.
    pub wasm: Wasm,
    /// The way out.
    pub egress: Egress,
    /// What watches it.
    pub watch: Arc<EgressWatch>,
    /// The rest of the program.
    pub services: Services,
    /// The folder plugins are dropped into; none for a program without plugins.
    pub folder: Option<PathBuf>,
    /// Whether plugins act.
    pub mode: Mode,
    /// When resident instances are replaced.
    pub recycling: Recycling,
}

/// Whether plugins act on their own account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The folder is followed, polls and sockets run.
    #[default]
    Serving,
    /// Nothing happens but what is asked for: a command that looks or decides while no program runs.
    Passive,
}

/// The plugins of a program. Cheap to clone.
#[derive(Clone)]
pub struct Plugins {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) loader: Loader,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) mode: Mode,
    /// Held for moments only; nothing is read, compiled or called under it.
    pub(crate) installed: Mutex<Installed>,
    /// One gate per plugin: its versions are loaded one after the other.
    pub(crate) gates: Mutex<HashMap<PluginId, Arc<tokio::sync::Mutex<()>>>>,
    pub(crate) table: ArcSwap<Table>,
    pub(crate) listing: ArcSwap<Listing>,
    pub(crate) events: broadcast::Sender<Arc<PluginEvent>>,
    /// Held from reading a grant until its change is written: of two decisions at once neither is lost.
    pub(crate) decisions: tokio::sync::Mutex<()>,
    /// What could not be read and is tried again.
    pub(crate) retries: Retries,
}

/// What is shown, made together with the table.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) plugins: Vec<PluginInfo>,
    pub(crate) problems: Vec<(PathBuf, String)>,
}

impl Plugins {
    /// A runtime with nothing loaded yet.
    #[must_use]
    pub fn new(options: PluginsOptions) -> Self {
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let (faulted, faults) = mpsc::unbounded_channel();
        let inner = Arc::new_cyclic(|inner| {
            let (wasm, egress, services) = (options.wasm, options.egress, options.services);
            let mut loader = Loader::new(wasm, egress, services, events.clone(), faulted, inner.clone());
            loader.recycling = options.recycling;
            Inner {
                loader,
                folder: options.folder,
                mode: options.mode,
                installed: Mutex::default(),
                gates: Mutex::default(),
                table: ArcSwap::default(),
                listing: ArcSwap::default(),
                events,
                decisions: tokio::sync::Mutex::default(),
                retries: Retries::default(),
            }
        });
        let plugins = Self { inner };
        options.watch.attach(Arc::downgrade(&plugins.inner));
        tokio::spawn(note_faults(Arc::downgrade(&plugins.inner), faults));
        plugins
    }

    /// Takes in what lies in the folder, then follows its changes until `stop`. Returns when everything that lies there has
    /// a state, which is `loading` at first; in [`Mode::Passive`], when everything is loaded.
    pub async fn start(&self, stop: CancellationToken) {
        let Some(folder) = self.inner.folder.clone() else { return self.inner.has_looked() };
        let (contents, trouble) = match folder::look(&folder).await {
            Ok(contents) => (contents, None),
            Err(reason) => (Contents::new(), Some(reason)),
        };
        let wishes = self.inner.admit_all(&contents, &Contents::new()).await;
        if let Some(reason) = &trouble {
            self.inner.folder_trouble(&folder, reason);
        }
        self.inner.has_looked();
        let wishes: Vec<_> = wishes.into_iter().map(Wish::at_start).collect();
        if self.inner.mode == Mode::Passive {
            self.inner.fulfil_all(wishes).await;
            return;
        }
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move { inner.fulfil_all(wishes).await });
        let (settled, mut changes) = mpsc::channel(1);
        tokio::spawn(folder::watch(folder.clone(), contents.clone(), trouble, settled, stop.clone()));
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let mut known = contents;
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    change = changes.recv() => {
                        let Some(change) = change else { break };
                        let contents = match change {
                            Ok(contents) => contents,
                            Err(reason) => {
                                inner.folder_trouble(&folder, &reason);
                                continue;
                            }
                        };
                        let wishes = inner.admit_all(&contents, &known).await;
                        known = contents;
                        // Not waited for: a large component must not keep the next change from being seen.
                        let inner = Arc::clone(&inner);
                        tokio::spawn(async move { inner.fulfil_all(wishes).await });
                    }
                }
            }
            inner.stop_all();
        });
    }

    /// Waits until no plugin is being loaded for the first time or with other rights.
    pub async fn settled(&self) {
        let mut events = self.subscribe();
        while self.inner.listing.load().plugins.iter().any(|info| info.state == PluginState::Loading) {
            loop {
                match events.recv().await {
                    // What plugins say themselves changes nothing here; what was missed may have.
                    Ok(event) if event.event != CHANGED => {}
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        }
    }

    /// Tells every call that runs, and every later one, that the program is about to end. Guests that ask (`cancelled`)
    /// can come to an end by themselves.
    pub fn announce_end(&self) {
        self.inner.loader.ending.cancel();
    }

    /// Every plugin and account, sorted.
    #[must_use]
    pub fn list(&self) -> Vec<PluginInfo> {
        let mut plugins = self.inner.listing.load().plugins.clone();
        for plugin in &mut plugins {
            let key = PluginKey { plugin: plugin.id.clone(), account: plugin.account.clone() };
            plugin.stats = self.inner.loader.stats(&key).snapshot();
        }
        plugins
    }

    /// What lies in the folder and is no plugin that could be loaded: path and reason.
    #[must_use]
    pub fn problems(&self) -> Vec<(PathBuf, String)> {
        self.inner.listing.load().problems.clone()
    }

    /// One plugin and account.
    ///
    /// # Errors
    /// `not-found`.
    pub fn inspect(&self, key: &PluginKey) -> Result<PluginInfo, Failure> {
        let found = self.list().into_iter().find(|info| info.id == key.plugin && info.account == key.account);
        found.ok_or_else(|| unknown(key))
    }

    /// The newest log lines of a plugin, or those after `after_seq`.
    ///
    /// # Errors
    /// `not-found`.
    pub fn logs(&self, plugin: &PluginId, after_seq: Option<u64>, limit: usize) -> Result<Vec<LogLine>, Failure> {
        if !self.inner.listing.load().plugins.iter().any(|info| &info.id == plugin) {
            return Err(unknown(&PluginKey::default_account(plugin.clone())));
        }
        Ok(self.inner.loader.logs(plugin).read(after_seq, limit))
    }

    /// Plugin events and `plugins.changed`.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<PluginEvent>> {
        self.inner.events.subscribe()
    }

    /// Reads a plugin (or all) from disk again, which also ends `faulted`.
    ///
    /// # Errors
    /// `not-found` when the plugin is not installed.
    pub async fn reload(&self, caller: &Caller, plugin: Option<&PluginId>) -> Result<Vec<PluginInfo>, Failure> {
        tracing::info!(by = %actor(caller), plugin = plugin.map_or("all", PluginId::as_str), "reloading plugins");
        let paths: Vec<PathBuf> = {
            let installed = self.inner.lock();
            match plugin {
                Some(id) => {
                    let entry = installed.plugins.get(id);
                    let entry = entry.ok_or_else(|| unknown(&PluginKey::default_account(id.clone())))?;
                    vec![entry.package.path.clone()]
                }
                None => {
                    let known = installed.plugins.values().map(|entry| entry.package.path.clone());
                    known.chain(installed.problems.keys().cloned()).collect()
                }
            }
        };
        let wishes = self.inner.admit(paths, &actor(caller).into()).await;
        self.inner.fulfil_all(wishes).await;
        Ok(self.list().into_iter().filter(|info| plugin.is_none_or(|id| &info.id == id)).collect())
    }

    /// The package of an installed plugin that decisions are about: the version that runs or waits. A version on disk that was
    /// refused, or is still being loaded, is not meant.
    pub(crate) fn requested(&self, key: &PluginKey) -> Result<Package, Failure> {
        let installed = self.inner.lock();
        installed.plugins.get(&key.plugin).map(|entry| entry.package.clone()).ok_or_else(|| unknown(key))
    }
}

/// `kind:id` of a caller, as audit rows name it.
pub(crate) fn actor(caller: &Caller) -> String {
    format!("{}:{}", caller.kind, crate::logs::escape(crate::logs::cut(&caller.id, 128)))
}

pub(crate) fn unknown(key: &PluginKey) -> Failure {
    Failure::not_found(format!("No plugin `{key}` is installed.")).hint("leanclaw plugin list shows what is there")
}

/// Marks units that give up as faulted.
async fn note_faults(inner: std::sync::Weak<Inner>, mut faults: mpsc::UnboundedReceiver<Faulted>) {
    while let Some(fault) = faults.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        inner.fault(fault);
    }
}
