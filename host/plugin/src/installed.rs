//! How what lies in the plugin folder becomes what can be called.
//!
//! Admission is quick and in the folder's order: read the manifest, take the id, show `loading`. Loading is slow (a large
//! component compiles for seconds) and happens outside the lock, one version of a plugin after the other, different
//! plugins side by side. A new version is loaded first and swapped in then; calls that run in the old one finish there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::plugin::{PluginEvent, PluginInfo, PluginState};
use leanclaw_types::{AccountId, PluginId, PluginKey};
use serde_json::json;
use tokio::time::Instant;

use crate::error::PluginError;
use crate::folder::Contents;
use crate::loader::{Code, Slot};
use crate::logs::Level;
use crate::package::{self, Package};
use crate::runtime::{Inner, Listing, Mode};
use crate::stats::Stats;
use crate::table::Table;
use crate::unit::Faulted;

/// Plugins that are loaded side by side. Compiling is one at a time anyway; the rest is waiting for the disk.
const LOADED_AT_ONCE: usize = 8;
/// While many plugins are loaded, what is shown is made anew this often.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// Orders every wish to load something; a later one has the higher number.
static WISHES: AtomicU64 = AtomicU64::new(1);

/// What lies in the folder, as far as it was understood.
#[derive(Default)]
pub(crate) struct Installed {
    pub(crate) plugins: BTreeMap<PluginId, Entry>,
    /// Paths that hold no plugin that could be loaded, and why.
    pub(crate) problems: BTreeMap<PathBuf, String>,
}

/// One installed plugin.
pub(crate) struct Entry {
    /// The version that runs, or is being loaded for the first time.
    pub(crate) package: Package,
    slots: BTreeMap<AccountId, Slot>,
    /// The version to be loaded next, when it is not the one that runs.
    next: Option<Package>,
    /// The latest wish about this plugin, and the one its slots fulfil.
    wished: u64,
    fulfilled: u64,
    /// Why the version that lies on disk now is not the one that runs.
    refused_replacement: Option<String>,
}

/// A wish to bring one plugin up to date.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) plugin: PluginId,
    number: u64,
    /// Whether the plugin lay there when the program started; see [`Code`].
    at_start: bool,
}

impl Wish {
    /// The wish of a program that starts.
    pub(crate) fn at_start(self) -> Self {
        Self { at_start: true, ..self }
    }
}

fn wish_number() -> u64 {
    WISHES.fetch_add(1, Ordering::Relaxed)
}

impl Inner {
    /// What is installed. Never held across a wait.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Installed> {
        self.installed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what lies in the folder now: drops what is gone, admits what changed. What has to be loaded is returned.
    pub(crate) async fn admit_all(&self, contents: &Contents, before: &Contents) -> Vec<Wish> {
        let changed: Vec<PathBuf> = {
            let mut installed = self.lock();
            let is_gone = |entry: &Entry| !contents.contains_key(&entry.package.path);
            let gone = installed.plugins.iter().filter(|(_, entry)| is_gone(entry)).map(|(id, _)| id.clone());
            for id in gone.collect::<Vec<_>>() {
                self.unload(&mut installed, &id);
            }
            installed.problems.retain(|path, _| contents.contains_key(path));
            // A path that was refused may be fine now that something else changed (two plugins with one id).
            let is_new =
                |path: &PathBuf| before.get(path) != contents.get(path) || installed.problems.contains_key(path);
            contents.keys().filter(|path| is_new(path)).cloned().collect()
        };
        let mut wishes = Vec::with_capacity(changed.len());
        for path in &changed {
            wishes.extend(self.admit(path).await);
        }
        self.publish();
        wishes
    }

    /// Reads what lies at `path` and takes it in, if it can be. A version that cannot be read leaves a running one alone.
    pub(crate) async fn admit(&self, path: &Path) -> Option<Wish> {
        let read = package::read(path, &*self.loader.services.memo).await;
        let mut installed = self.lock();
        installed.problems.remove(path);
        let running = installed.plugins.iter().find(|(_, entry)| entry.package.path == path).map(|(id, _)| id.clone());
        let package = match read {
            Ok(package) => package,
            Err(error) => {
                refuse(&mut installed, path, running.as_ref(), &error);
                return None;
            }
        };
        let id = package.manifest.id.clone();
        if let Some(other) = installed.plugins.get(&id).filter(|entry| entry.package.path != path) {
            let reason = format!(
                "the plugin id `{id}` is taken by {}\nhint: remove one of the two, or give this one another \"id\" in its manifest",
                other.package.path.display()
            );
            tracing::warn!(path = %path.display(), "{reason}");
            installed.problems.insert(path.to_path_buf(), reason);
            return None;
        }
        if let Some(old) = running.filter(|old| *old != id) {
            self.unload(&mut installed, &old);
        }
        let number = wish_number();
        match installed.plugins.get_mut(&id) {
            Some(entry) => {
                entry.next = Some(package);
                entry.wished = number;
            }
            None => {
                let entry = self.first_entry(package, number);
                installed.plugins.insert(id.clone(), entry);
            }
        }
        Some(Wish { plugin: id, number, at_start: false })
    }

    /// A plugin that is shown as `loading`, because a compile may take seconds.
    fn first_entry(&self, package: Package, wished: u64) -> Entry {
        let plugin = &package.manifest.id;
        let slots = self.accounts(plugin).into_iter().map(|account| {
            let key = PluginKey { plugin: plugin.clone(), account: account.clone() };
            (account, Slot::new(key, PluginState::Loading, "being compiled and linked"))
        });
        let slots = slots.collect();
        Entry { package, slots, next: None, wished, fulfilled: 0, refused_replacement: None }
    }

    fn accounts(&self, plugin: &PluginId) -> Vec<AccountId> {
        let mut accounts = vec![AccountId::default()];
        accounts.extend(self.loader.services.settings.accounts(plugin));
        accounts.sort();
        accounts.dedup();
        accounts
    }

    /// Wishes for one installed plugin to be loaded again, as it lies there or as it runs.
    pub(crate) fn wish(&self, plugin: &PluginId) -> Option<Wish> {
        let number = wish_number();
        self.lock().plugins.get_mut(plugin)?.wished = number;
        Some(Wish { plugin: plugin.clone(), number, at_start: false })
    }

    /// Fulfils many wishes side by side.
    pub(crate) async fn fulfil_all(&self, wishes: Vec<Wish>) {
        let mut loads = futures_util::stream::iter(wishes)
            .map(|wish| async move { self.fulfil(&wish).await })
            .buffer_unordered(LOADED_AT_ONCE);
        let mut published = Instant::now();
        while loads.next().await.is_some() {
            if published.elapsed() >= PUBLISH_EVERY {
                self.publish();
                published = Instant::now();
            }
        }
        self.publish();
    }

    /// Brings a plugin up to date, unless a later wish has done so. The caller publishes.
    pub(crate) async fn fulfil(&self, wish: &Wish) {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(gates.entry(wish.plugin.clone()).or_default())
        };
        let _turn = gate.lock().await;
        let (package, number) = {
            let installed = self.lock();
            let Some(entry) = installed.plugins.get(&wish.plugin) else { return };
            if entry.fulfilled >= wish.number {
                return;
            }
            (entry.next.as_ref().unwrap_or(&entry.package).clone(), entry.wished)
        };
        let can_wait = self.mode == Mode::Passive || (wish.at_start && self.loader.wasm.cache_off().is_none());
        let code = if can_wait { Code::OnFirstUse } else { Code::Now };
        let mut slots = BTreeMap::new();
        for account in self.accounts(&wish.plugin) {
            slots.insert(account.clone(), self.loader.load(&package, &account, code).await);
        }
        self.swap_in(&wish.plugin, package, slots, number);
    }

    fn swap_in(&self, plugin: &PluginId, package: Package, slots: BTreeMap<AccountId, Slot>, number: u64) {
        let mut installed = self.lock();
        // Removed while it was loaded, or another plugin took the id meanwhile: what was loaded is for nobody.
        let still_there = |entry: &&mut Entry| entry.package.path == package.path;
        let Some(entry) = installed.plugins.get_mut(plugin).filter(still_there) else { return };
        entry.fulfilled = number;
        if entry.wished == number {
            entry.next = None;
        }
        let is_update = digest(&entry.package) != digest(&package) || entry.package.manifest != package.manifest;
        if is_update && let Some(reason) = bad_replacement(&entry.slots, &slots) {
            tracing::warn!(%plugin, "replacement refused, the old version keeps running: {reason}");
            self.loader.logs(plugin).write(Level::Warn, "host", "", &format!("replacement refused: {reason}"));
            entry.refused_replacement = Some(reason);
            return;
        }
        for slot in slots.values() {
            self.note_state(&package, slot);
        }
        stop(entry);
        entry.package = package;
        entry.slots = slots;
        entry.refused_replacement = None;
        self.start_drivers(entry);
    }

    fn start_drivers(&self, entry: &Entry) {
        if self.mode == Mode::Passive {
            return;
        }
        for ready in entry.slots.values().filter_map(|slot| slot.ready.as_ref()) {
            crate::drivers::start(&ready.unit, &ready.description.interfaces.served_exports());
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
    pub(crate) fn publish(&self) {
        let installed = self.lock();
        let slots = || installed.plugins.values().flat_map(|entry| entry.slots.values());
        let table = Table::of(slots());
        let shown =
            installed.plugins.values().flat_map(|entry| entry.slots.values().map(|slot| info(entry, slot, &table)));
        let listing = Listing {
            plugins: shown.collect(),
            problems: installed.problems.iter().map(|(path, reason)| (path.clone(), reason.clone())).collect(),
        };
        let states: BTreeMap<String, &str> = slots().map(|slot| (slot.key.to_string(), slot.state.as_str())).collect();
        let changed = PluginEvent { event: "plugins.changed".into(), payload: json!({ "plugins": states }) };
        // Under the lock, so that of two publications the later one stays.
        self.listing.store(Arc::new(listing));
        self.table.store(Arc::new(table));
        // No receiver means that nobody is connected.
        let _ = self.events.send(Arc::new(changed));
    }

    /// Marks a unit that gave up.
    pub(crate) fn fault(&self, fault: Faulted) {
        let mut installed = self.lock();
        let Some(entry) = installed.plugins.get_mut(&fault.key.plugin) else { return };
        let Some(slot) = entry.slots.get_mut(&fault.key.account) else { return };
        // A unit that was replaced meanwhile speaks for nobody.
        let Some(ready) = slot.ready.take_if(|ready| ready.unit.number() == fault.unit) else { return };
        ready.unit.stop.cancel();
        slot.state = PluginState::Faulted;
        slot.reason = fault.reason;
        self.note_state(&entry.package, slot);
        drop(installed);
        self.publish();
    }

    /// Ends what plugins do on their own account.
    pub(crate) fn stop_all(&self) {
        self.lock().plugins.values().for_each(stop);
    }
}

fn refuse(installed: &mut Installed, path: &Path, running: Option<&PluginId>, error: &PluginError) {
    let reason = error.reason();
    tracing::warn!(path = %path.display(), "plugin refused: {reason}");
    match running.and_then(|id| installed.plugins.get_mut(id)) {
        Some(entry) => entry.refused_replacement = Some(reason),
        None => {
            installed.problems.insert(path.to_path_buf(), reason);
        }
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
