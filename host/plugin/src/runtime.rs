//! The plugins of one running program: what is installed, what of it is ready, and every way to call it.
//!
//! One lock orders changes (load, grant, replace, remove); calls never take it. A change loads the new version first and
//! swaps it in; calls that run in the old one finish there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use leanclaw_egress::Egress;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::plugin::{LogLine, PluginEvent, PluginInfo, PluginState};
use leanclaw_types::{AccountId, Caller, Failure, PluginId, PluginKey};
use leanclaw_wasm::Wasm;
use serde_json::json;
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::error::PluginError;
use crate::folder::{self, Contents};
use crate::loader::{Loader, Slot};
use crate::logs::Level;
use crate::package::{self, Fingerprint, Package};
use crate::services::Services;
use crate::stats::Stats;
use crate::table::Table;
use crate::unit::Faulted;
use crate::watch::EgressWatch;

/// Events that may wait for a slow subscriber before it misses some.
const EVENT_BACKLOG: usize = 1024;

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
    folder: Option<PathBuf>,
    mode: Mode,
    installed: Mutex<Installed>,
    pub(crate) table: ArcSwap<Table>,
    listing: ArcSwap<Listing>,
    events: broadcast::Sender<Arc<PluginEvent>>,
}

/// What lies in the folder, as far as it was understood.
#[derive(Default)]
struct Installed {
    plugins: BTreeMap<PluginId, Entry>,
    /// Paths that hold no plugin that could be loaded, and why.
    problems: BTreeMap<PathBuf, String>,
}

/// One installed plugin.
struct Entry {
    package: Package,
    slots: BTreeMap<AccountId, Slot>,
    /// Why the version that lies on disk now is not the one that runs.
    refused_replacement: Option<String>,
}

/// What is shown, made together with the table.
#[derive(Default)]
struct Listing {
    plugins: Vec<PluginInfo>,
    problems: Vec<(PathBuf, String)>,
}

impl Plugins {
    /// A runtime with nothing loaded yet.
    #[must_use]
    pub fn new(options: PluginsOptions) -> Self {
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let (faulted, faults) = mpsc::unbounded_channel();
        let loader = Loader::new(options.wasm, options.egress, options.services, events.clone(), faulted);
        let plugins = Self {
            inner: Arc::new(Inner {
                loader,
                folder: options.folder,
                mode: options.mode,
                installed: Mutex::default(),
                table: ArcSwap::default(),
                listing: ArcSwap::default(),
                events,
            }),
        };
        options.watch.attach(Arc::downgrade(&plugins.inner));
        tokio::spawn(note_faults(Arc::downgrade(&plugins.inner), faults));
        plugins
    }

    /// Loads what lies in the folder, then follows its changes until `stop`. Returns when everything that lies there at
    /// the start has a state; a component that has to be compiled first stays `loading` until it is.
    pub async fn start(&self, stop: CancellationToken) {
        let Some(folder) = self.inner.folder.clone() else { return };
        let contents = folder::look(&folder).await;
        self.inner.apply(contents.clone(), &BTreeMap::new()).await;
        if self.inner.mode == Mode::Passive {
            return;
        }
        let (settled, mut changes) = mpsc::channel(1);
        tokio::spawn(folder::watch(folder, contents.clone(), settled, stop.clone()));
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let mut known = contents;
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    change = changes.recv() => {
                        let Some(contents) = change else { break };
                        inner.apply(contents.clone(), &known).await;
                        known = contents;
                    }
                }
            }
            inner.stop_all().await;
        });
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
        let mut installed = self.inner.installed.lock().await;
        let paths: Vec<PathBuf> = match plugin {
            Some(id) => {
                let entry =
                    installed.plugins.get(id).ok_or_else(|| unknown(&PluginKey::default_account(id.clone())))?;
                vec![entry.package.path.clone()]
            }
            None => installed
                .plugins
                .values()
                .map(|entry| entry.package.path.clone())
                .chain(installed.problems.keys().cloned())
                .collect(),
        };
        for path in paths {
            self.inner.load_path(&mut installed, &path).await;
        }
        self.inner.publish(&installed);
        drop(installed);
        Ok(self.list().into_iter().filter(|info| plugin.is_none_or(|id| &info.id == id)).collect())
    }

    /// Loads one plugin again after a grant, a revocation or a changed setting.
    pub(crate) async fn refresh(&self, plugin: &PluginId) {
        let mut installed = self.inner.installed.lock().await;
        if let Some(entry) = installed.plugins.get(plugin) {
            let package = entry.package.clone();
            self.inner.load_package(&mut installed, package).await;
        }
        self.inner.publish(&installed);
    }

    /// What the manifest of an installed plugin asks for.
    pub(crate) async fn requested(&self, key: &PluginKey) -> Result<Package, Failure> {
        let installed = self.inner.installed.lock().await;
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

impl Inner {
    /// Brings the runtime in line with what lies in the folder.
    async fn apply(self: &Arc<Self>, contents: Contents, before: &Contents) {
        let mut installed = self.installed.lock().await;
        let gone: Vec<PluginId> = installed
            .plugins
            .iter()
            .filter(|(_, entry)| !contents.contains_key(&entry.package.path))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            self.unload(&mut installed, id);
        }
        installed.problems.retain(|path, _| contents.contains_key(path));
        // A path that was refused may be fine now that something else changed (two plugins with one id).
        let changed: Vec<PathBuf> = contents
            .iter()
            .filter(|(path, fingerprint)| {
                before.get(*path) != Some(*fingerprint) || installed.problems.contains_key(*path)
            })
            .map(|(path, _): (&PathBuf, &Fingerprint)| path.clone())
            .collect();
        for path in &changed {
            self.load_path(&mut installed, path).await;
        }
        self.publish(&installed);
    }

    /// Reads and loads what lies at `path`; a version that cannot be loaded leaves a running one alone.
    async fn load_path(self: &Arc<Self>, installed: &mut Installed, path: &Path) {
        installed.problems.remove(path);
        let running = installed.plugins.iter().find(|(_, entry)| entry.package.path == path).map(|(id, _)| id.clone());
        let package = match package::read(path, &*self.loader.services.memo).await {
            Ok(package) => package,
            Err(error) => return self.refuse(installed, path, running, &error),
        };
        let id = package.manifest.id.clone();
        if let Some(other) = installed.plugins.get(&id).filter(|entry| entry.package.path != path) {
            let reason = format!(
                "the plugin id `{id}` is taken by {}\nhint: remove one of the two, or give this one another \"id\" in its manifest",
                other.package.path.display()
            );
            tracing::warn!(path = %path.display(), "{reason}");
            installed.problems.insert(path.to_path_buf(), reason);
            return;
        }
        if let Some(old) = running.filter(|old| *old != id) {
            self.unload(installed, &old);
        }
        self.load_package(installed, package).await;
    }

    fn refuse(&self, installed: &mut Installed, path: &Path, running: Option<PluginId>, error: &PluginError) {
        let reason = error.reason();
        tracing::warn!(path = %path.display(), "plugin refused: {reason}");
        match running.and_then(|id| installed.plugins.get_mut(&id)) {
            Some(entry) => entry.refused_replacement = Some(reason),
            None => {
                installed.problems.insert(path.to_path_buf(), reason);
            }
        }
    }

    /// Loads every account of a package and swaps it in.
    async fn load_package(self: &Arc<Self>, installed: &mut Installed, package: Package) {
        let id = package.manifest.id.clone();
        let mut accounts = vec![AccountId::default()];
        accounts.extend(self.loader.services.settings.accounts(&id));
        accounts.sort();
        accounts.dedup();
        if !installed.plugins.contains_key(&id) {
            self.show_loading(installed, &package, &accounts);
        }
        let mut slots = BTreeMap::new();
        for account in accounts {
            slots.insert(account.clone(), self.loader.load(&package, &account).await);
        }
        let old = installed.plugins.get_mut(&id);
        let is_update = old
            .as_ref()
            .is_some_and(|old| digest(&old.package) != digest(&package) || old.package.manifest != package.manifest);
        if let Some(old) = old
            && is_update
            && let Some(reason) = bad_replacement(&old.slots, &slots)
        {
            tracing::warn!(plugin = %id, "replacement refused, the old version keeps running: {reason}");
            self.loader.logs(&id).write(Level::Warn, "host", "", &format!("replacement refused: {reason}"));
            old.refused_replacement = Some(reason);
            return;
        }
        for slot in slots.values() {
            self.note_state(&package, slot);
        }
        let entry = Entry { package, slots, refused_replacement: None };
        if let Some(old) = installed.plugins.insert(id, entry) {
            stop(&old);
        }
        self.publish(installed);
        self.start_drivers(installed);
    }

    /// Shows a plugin as `loading` while a compile may take seconds.
    fn show_loading(&self, installed: &mut Installed, package: &Package, accounts: &[AccountId]) {
        let plugin = package.manifest.id.clone();
        let slots = accounts.iter().map(|account| {
            let key = PluginKey { plugin: plugin.clone(), account: account.clone() };
            (account.clone(), Slot::new(key, PluginState::Loading, "being compiled and linked"))
        });
        let entry = Entry { package: package.clone(), slots: slots.collect(), refused_replacement: None };
        installed.plugins.insert(plugin, entry);
        self.publish_quietly(installed);
    }

    fn start_drivers(&self, installed: &Installed) {
        if self.mode == Mode::Passive {
            return;
        }
        let fresh =
            installed.plugins.values().flat_map(|entry| entry.slots.values()).filter_map(|slot| slot.ready.as_ref());
        for ready in fresh {
            if !ready.unit.drivers_started() {
                let exports: Vec<String> =
                    ready.description.interfaces.served_exports().into_iter().map(str::to_owned).collect();
                crate::drivers::start(&ready.unit, &exports);
            }
        }
    }

    fn unload(&self, installed: &mut Installed, id: &PluginId) {
        if let Some(entry) = installed.plugins.remove(id) {
            stop(&entry);
            tracing::info!(plugin = %id, "plugin removed");
            self.audit(
                "host:folder",
                AuditEvent::PluginState {
                    plugin: id.to_string(),
                    version: entry.package.manifest.version.clone(),
                    state: "removed".into(),
                    reason: "its files are gone".into(),
                    sha256: digest(&entry.package),
                },
            );
        }
    }

    fn note_state(&self, package: &Package, slot: &Slot) {
        let state = slot.state.as_str();
        if slot.state == PluginState::Ready {
            tracing::info!(plugin = %slot.key, version = package.manifest.version, "plugin ready");
        } else {
            tracing::warn!(plugin = %slot.key, state, "{}", slot.reason);
        }
        self.audit(
            "host:folder",
            AuditEvent::PluginState {
                plugin: slot.key.to_string(),
                version: package.manifest.version.clone(),
                state: state.into(),
                reason: slot.reason.clone(),
                sha256: digest(package),
            },
        );
    }

    pub(crate) fn audit(&self, actor: &str, event: AuditEvent) {
        let services = &self.loader.services;
        services.audit.audit(AuditRecord { at_ms: services.clock.now_ms(), actor: actor.into(), event });
    }

    /// Makes the table and the listing anew and tells clients.
    fn publish(&self, installed: &Installed) {
        self.publish_quietly(installed);
        let states: BTreeMap<String, &str> = installed
            .plugins
            .values()
            .flat_map(|entry| entry.slots.values())
            .map(|slot| (slot.key.to_string(), slot.state.as_str()))
            .collect();
        // No receiver means that nobody is connected.
        let _ = self
            .events
            .send(Arc::new(PluginEvent { event: "plugins.changed".into(), payload: json!({ "plugins": states }) }));
    }

    fn publish_quietly(&self, installed: &Installed) {
        let table = Table::of(installed.plugins.values().flat_map(|entry| entry.slots.values()));
        let plugins = installed
            .plugins
            .values()
            .flat_map(|entry| entry.slots.values().map(|slot| info(entry, slot, &table)))
            .collect();
        let problems = installed.problems.iter().map(|(path, reason)| (path.clone(), reason.clone())).collect();
        self.listing.store(Arc::new(Listing { plugins, problems }));
        self.table.store(Arc::new(table));
    }

    async fn fault(&self, fault: Faulted) {
        let mut installed = self.installed.lock().await;
        let Some(entry) = installed.plugins.get_mut(&fault.key.plugin) else { return };
        let Some(slot) = entry.slots.get_mut(&fault.key.account) else { return };
        if let Some(ready) = slot.ready.take() {
            ready.unit.stop.cancel();
        }
        slot.state = PluginState::Faulted;
        slot.reason = fault.reason;
        self.note_state(&entry.package, slot);
        self.publish(&installed);
    }

    async fn stop_all(&self) {
        let installed = self.installed.lock().await;
        installed.plugins.values().for_each(stop);
    }
}

/// Marks units that give up as faulted.
async fn note_faults(inner: std::sync::Weak<Inner>, mut faults: mpsc::UnboundedReceiver<Faulted>) {
    while let Some(fault) = faults.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        inner.fault(fault).await;
    }
}

/// Ends what runs on an entry's own account. Calls that run in it finish.
fn stop(entry: &Entry) {
    for ready in entry.slots.values().filter_map(|slot| slot.ready.as_ref()) {
        ready.unit.stop.cancel();
    }
}

/// Why a new version must not displace the running one, if so: it cannot run at all. One that waits for a grant does
/// displace it, because what lies on disk asks for rights that nobody gave.
fn bad_replacement(old: &BTreeMap<AccountId, Slot>, new: &BTreeMap<AccountId, Slot>) -> Option<String> {
    new.iter()
        .find(|(account, slot)| {
            slot.state == PluginState::Faulted && old.get(*account).is_some_and(|old| old.state == PluginState::Ready)
        })
        .map(|(_, slot)| slot.reason.clone())
}

fn digest(package: &Package) -> Option<String> {
    package.component.as_ref().map(|component| component.digest.to_string())
}

fn info(entry: &Entry, slot: &Slot, table: &Table) -> PluginInfo {
    let manifest = &entry.package.manifest;
    let description = slot.ready.as_ref().map(|ready| &ready.description);
    let mut reasons: Vec<String> = Vec::new();
    if !slot.reason.is_empty() {
        reasons.push(slot.reason.clone());
    }
    if let Some(refused) = &entry.refused_replacement {
        reasons.push(format!("the version on disk was refused and the old one keeps running: {refused}"));
    }
    for (tool, owner) in table.taken_tools(&slot.key) {
        reasons.push(format!("its tool `{tool}` is not listed because `{owner}` has one of that name"));
    }
    PluginInfo {
        id: manifest.id.clone(),
        account: slot.key.account.clone(),
        name: manifest.title().to_owned(),
        version: manifest.version.clone(),
        description: manifest.description.clone().unwrap_or_default(),
        state: slot.state,
        reason: reasons.join("\n"),
        exports: description
            .map(|found| found.interfaces.served_exports().into_iter().map(str::to_owned).collect())
            .unwrap_or_default(),
        lifecycle: manifest.lifecycle,
        requested: manifest.permissions.clone(),
        granted: slot.granted.clone(),
        missing: slot.missing.clone(),
        tools: description.map(|found| found.tools.iter().map(|tool| tool.name.clone()).collect()).unwrap_or_default(),
        methods: description
            .map(|found| found.methods.iter().map(leanclaw_types::plugin::MethodSpec::wire_name).collect())
            .unwrap_or_default(),
        sha256: digest(&entry.package),
        path: entry.package.path.display().to_string(),
        stats: Stats::default().snapshot(),
    }
}
