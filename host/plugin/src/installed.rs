//! How what was admitted ([`crate::admission`]) becomes what can be called.
//!
//! Loading is slow (a large component compiles for seconds) and happens outside the lock, one version of a plugin after
//! the other, different plugins side by side. A new version is loaded first and swapped in then; calls that run in the old
//! one finish there. Every outcome is one audit row that names who wanted the load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::permission::Permissions;
use leanclaw_types::plugin::{PluginEvent, PluginInfo, PluginState};
use leanclaw_types::{AccountId, PluginId, PluginKey};
use serde_json::json;
use tokio::time::Instant;

use crate::authorize::Guards;
use crate::loader::{Code, Slot};
use crate::logs::Level;
use crate::package::Package;
use crate::runtime::{CHANGED, Inner, Listing, Mode};
use crate::stats::Stats;
use crate::table::Table;
use crate::unit::{Faulted, Lost, Unit};

/// Plugins that are loaded side by side. Compiling is one at a time anyway; the rest is waiting for the disk.
const LOADED_AT_ONCE: usize = 8;
/// While many plugins are loaded, what is shown is made anew this often.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// Who acts, in audit rows, when the program starts or the folder changes.
pub(crate) const FOLDER: &str = "host:folder";

/// Orders every wish to load something; a later one has the higher number.
static WISHES: AtomicU64 = AtomicU64::new(1);

/// What lies in the folder, as far as it was understood.
#[derive(Default)]
pub(crate) struct Installed {
    pub(crate) plugins: BTreeMap<PluginId, Entry>,
    /// Paths that hold no plugin that could be loaded, and why.
    pub(crate) problems: BTreeMap<PathBuf, String>,
    /// The last refusal that was written down of what lies at a path, so that what stays bad is not written again and
    /// again.
    pub(crate) noted: BTreeMap<PathBuf, AuditEvent>,
    /// Who has to be asked about calls, loaded or not.
    pub(crate) guards: Guards,
}

/// One installed plugin.
pub(crate) struct Entry {
    /// The version that runs, or is being loaded for the first time.
    pub(crate) package: Package,
    slots: BTreeMap<AccountId, Slot>,
    /// The version to be loaded next, when it is not the one that runs.
    pub(crate) next: Option<Package>,
    /// The latest wish about this plugin, and the one its slots fulfil.
    wished: u64,
    fulfilled: u64,
    /// Who wished.
    wished_by: Arc<str>,
    /// Why the version that lies on disk now is not the one that runs.
    pub(crate) refused_replacement: Option<String>,
    /// Rises when rights are given or taken back; what was loaded under another number may hold rights that are gone.
    rights: u64,
    /// The number under which the running version was loaded.
    rights_loaded: u64,
    /// Who decided on the rights last.
    rights_by: Arc<str>,
}

impl Entry {
    /// A plugin that is about to be loaded for the first time.
    pub(crate) fn new(package: Package, slots: BTreeMap<AccountId, Slot>) -> Self {
        let rights = WISHES.fetch_add(1, Ordering::Relaxed);
        Self {
            package,
            slots,
            next: None,
            wished: 0,
            fulfilled: 0,
            wished_by: FOLDER.into(),
            refused_replacement: None,
            rights,
            rights_loaded: rights,
            rights_by: FOLDER.into(),
        }
    }

    /// Takes what serves for an account out of the table, because of what was taken away.
    fn withdraw(&mut self, account: &AccountId, loss: Loss<'_>) {
        let Some(slot) = self.slots.get_mut(account) else { return };
        let Some(ready) = slot.ready.take() else { return };
        slot.withdrawn = Some(ready);
        if let Loss::Rights { left } = loss {
            let asked = self.package.manifest.asked();
            let effective = asked.intersection(left);
            slot.missing = asked.missing_from(&effective);
            slot.granted = Some(effective);
        }
        slot.state = PluginState::Loading;
        let (what, became, then) = loss.of_units().words();
        slot.reason = format!("{} {became}; it is being loaded {then}", what.to_lowercase());
    }

    /// Has the plugin loaded anew, as it lies on disk when that was read (`next`), else as it runs. When the folder and a
    /// person want the same load, it is the person's.
    pub(crate) fn wish(&mut self, next: Option<Package>, by: &Arc<str>) -> Wish {
        if &**by != FOLDER || self.fulfilled >= self.wished {
            self.wished_by = Arc::clone(by);
        }
        self.wished = WISHES.fetch_add(1, Ordering::Relaxed);
        self.next = next.or(self.next.take());
        Wish { plugin: self.package.manifest.id.clone(), number: self.wished, at_start: false }
    }
}

/// What was taken from a plugin and account.
#[derive(Clone, Copy)]
pub(crate) enum Loss<'a> {
    /// Rights; no more than these are left.
    Rights {
        /// What the grant still says.
        left: &'a Permissions,
    },
    /// Its login; it has the rights it had.
    Login,
}

impl Loss<'_> {
    fn of_units(self) -> Lost {
        match self {
            Self::Rights { .. } => Lost::Rights,
            Self::Login => Lost::Login,
        }
    }
}

/// One version that is to be loaded.
struct Load {
    package: Package,
    /// The latest wish that it fulfils, and who had it.
    number: u64,
    by: Arc<str>,
    /// What [`Entry::rights`] was before the grant was read.
    rights: u64,
}

/// Something in the folder that is not loaded.
pub(crate) struct Refusal {
    /// `plugin` or `plugin/account`, as far as it is known.
    pub(crate) plugin: Option<String>,
    pub(crate) reason: String,
    pub(crate) sha256: Option<String>,
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

impl Inner {
    /// What is installed. Never held across a wait.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Installed> {
        self.installed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The accounts of a plugin: the default one and those that are configured.
    pub(crate) fn accounts(&self, plugin: &PluginId) -> Vec<AccountId> {
        let mut accounts = vec![AccountId::default()];
        accounts.extend(self.loader.services.settings.accounts(plugin));
        accounts.sort();
        accounts.dedup();
        accounts
    }

    /// Has the running version loaded anew with the rights that are stored now. With a loss, what served with what was taken
    /// away is out of the table at once, and whatever still runs with it ends.
    pub(crate) fn rights_changed(&self, key: &PluginKey, loss: Option<Loss<'_>>, by: &str) -> Option<Wish> {
        let mut installed = self.lock();
        let entry = installed.plugins.get_mut(&key.plugin);
        let wish = entry.map(|entry| {
            entry.rights = WISHES.fetch_add(1, Ordering::Relaxed);
            entry.rights_by = by.into();
            if let Some(loss) = loss {
                entry.withdraw(&key.account, loss);
            }
            Wish { plugin: key.plugin.clone(), number: entry.wished, at_start: false }
        });
        if let Some(loss) = loss {
            // Not only what serves: calls may still run and wait in a version that was replaced, removed or given up, or is
            // being loaded. Under the lock, so that nothing is among them that is made with the rights that are left.
            for (_, unit) in self.units(&key.plugin).filter(|(account, _)| account == &key.account) {
                unit.revoke(loss.of_units());
            }
            drop(installed);
            self.publish();
        }
        wish
    }

    /// What was made of a plugin and may still run, whether it is installed or not.
    fn units(&self, plugin: &PluginId) -> impl Iterator<Item = (AccountId, Arc<Unit>)> + use<> {
        let units = self.loader.units(plugin).into_iter();
        units.filter_map(|(account, unit)| Some((account, unit.upgrade()?)))
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
        let gate = self.gate(&wish.plugin);
        let _turn = gate.lock().await;
        while let Some(load) = self.next_load(wish) {
            self.load(wish, load).await;
        }
    }

    /// What is to be loaded next for `wish`. The running version comes first when its rights have changed: the one on disk
    /// may turn out not to run at all, and the running one must not go on with other rights than the stored ones.
    fn next_load(&self, wish: &Wish) -> Option<Load> {
        let installed = self.lock();
        let entry = installed.plugins.get(&wish.plugin)?;
        let rights = entry.rights;
        if entry.rights_loaded != rights {
            let number = if entry.next.is_none() { entry.wished } else { entry.fulfilled };
            let by = Arc::clone(&entry.rights_by);
            return Some(Load { package: entry.package.clone(), number, by, rights });
        }
        let package = entry.next.as_ref().unwrap_or(&entry.package);
        (entry.fulfilled < wish.number).then(|| Load {
            package: package.clone(),
            number: entry.wished,
            by: Arc::clone(&entry.wished_by),
            rights,
        })
    }

    async fn load(&self, wish: &Wish, load: Load) {
        let can_wait = self.mode == Mode::Passive || (wish.at_start && self.loader.wasm.cache_off().is_none());
        let code = if can_wait { Code::OnFirstUse } else { Code::Now };
        let mut slots = BTreeMap::new();
        for account in self.accounts(&wish.plugin) {
            slots.insert(account.clone(), self.loader.load(&load.package, &account, code).await);
        }
        let path = load.package.path.clone();
        let may_pass = slots.values().any(|slot| slot.is_transient);
        if let Some(package) = self.swap_in(&wish.plugin, load, slots) {
            self.remember_home(&package).await;
        }
        if may_pass { self.try_again(&path) } else { self.retries.forget(&path) }
    }

    /// Puts what was loaded in the place of what ran; gives the package if that was done.
    fn swap_in(&self, plugin: &PluginId, load: Load, slots: BTreeMap<AccountId, Slot>) -> Option<Package> {
        let Load { package, number, by, rights } = load;
        let mut installed = self.lock();
        // Removed while it was loaded, or another plugin took the id meanwhile: what was loaded is for nobody.
        // So it is when rights changed meanwhile: it may hold what was taken back.
        let still_there = |entry: &&mut Entry| entry.package.path == package.path && entry.rights == rights;
        let entry = installed.plugins.get_mut(plugin).filter(still_there)?;
        entry.fulfilled = entry.fulfilled.max(number);
        if entry.wished == number {
            entry.next = None;
        }
        let is_update = digest(&entry.package) != digest(&package) || entry.package.manifest != package.manifest;
        if is_update && let Some((key, reason)) = bad_replacement(&entry.slots, &slots) {
            self.loader.logs(plugin).write(Level::Warn, "host", "", &format!("replacement refused: {reason}"));
            entry.refused_replacement = Some(reason.clone());
            let sha256 = digest(&package);
            self.note_refusal(&mut installed, &package.path, Refusal { plugin: Some(key), reason, sha256 }, &by);
            return None;
        }
        let is_known = |slot: &&Slot| {
            let old = entry.slots.get(&slot.key.account);
            slot.is_transient && &*by == FOLDER && old.is_some_and(|old| old.reason == slot.reason)
        };
        for slot in slots.values().filter(|slot| !is_known(slot)) {
            self.note_state(&package, slot, &by);
        }
        stop(entry);
        // The running version with other rights says nothing about the one on disk.
        let is_for_rights = entry.rights_loaded != rights;
        if !is_for_rights {
            entry.refused_replacement = None;
        }
        entry.package = package.clone();
        entry.slots = slots;
        entry.rights_loaded = rights;
        self.start_drivers(entry);
        if !is_for_rights {
            installed.noted.remove(&package.path);
        }
        Some(package)
    }

    fn start_drivers(&self, entry: &Entry) {
        if self.mode == Mode::Passive {
            return;
        }
        for ready in entry.slots.values().filter_map(|slot| slot.ready.as_ref()) {
            crate::drivers::start(&ready.unit, &ready.description.interfaces.served_exports());
        }
    }

    pub(crate) fn unload(&self, installed: &mut Installed, id: &PluginId, reason: &str, by: &str) {
        if let Some(entry) = installed.plugins.remove(id) {
            stop(&entry);
            installed.guards.lies_at(id, &entry.package.path);
            // Versions that were replaced may still have calls, too.
            self.units(id).for_each(|(_, unit)| unit.unload());
            tracing::info!(plugin = %id, "plugin removed");
            self.audit(
                by,
                AuditEvent::PluginState {
                    plugin: id.to_string(),
                    version: entry.package.manifest.version.clone(),
                    state: "removed".into(),
                    reason: reason.into(),
                    sha256: digest(&entry.package),
                },
            );
        }
    }

    fn note_state(&self, package: &Package, slot: &Slot, by: &str) {
        let state = slot.state.as_str();
        if slot.state == PluginState::Ready {
            tracing::info!(plugin = %slot.key, version = package.manifest.version, "plugin ready");
        } else {
            tracing::warn!(plugin = %slot.key, state, "{}", slot.reason);
        }
        self.audit(
            by,
            AuditEvent::PluginState {
                plugin: slot.key.to_string(),
                version: package.manifest.version.clone(),
                state: state.into(),
                reason: slot.reason.clone(),
                sha256: digest(package),
            },
        );
    }

    /// Logs and audits that what lies at `path` is not loaded, unless the folder only brings up again what is known.
    pub(crate) fn note_refusal(&self, installed: &mut Installed, path: &Path, refusal: Refusal, by: &str) {
        let Refusal { plugin, reason, sha256 } = refusal;
        let shown = crate::logs::escape(&path.display().to_string());
        let event = AuditEvent::PluginRefused { path: shown.clone(), plugin, reason: reason.clone(), sha256 };
        let known = installed.noted.insert(path.to_path_buf(), event.clone());
        if by == FOLDER && known.as_ref() == Some(&event) {
            return;
        }
        tracing::warn!(path = shown, by, "plugin refused: {reason}");
        self.audit(by, event);
    }

    pub(crate) fn audit(&self, actor: &str, event: AuditEvent) {
        let services = &self.loader.services;
        services.audit.audit(AuditRecord { at_ms: services.clock.now_ms(), actor: actor.into(), event });
    }

    /// Makes the table and the listing anew and tells clients.
    pub(crate) fn publish(&self) {
        let installed = self.lock();
        let slots = || installed.plugins.values().flat_map(|entry| entry.slots.values());
        let table = Table::of(slots(), &installed.guards, installed.absent_guards());
        let shown =
            installed.plugins.values().flat_map(|entry| entry.slots.values().map(|slot| info(entry, slot, &table)));
        let listing = Listing {
            plugins: shown.collect(),
            problems: installed.problems.iter().map(|(path, reason)| (path.clone(), reason.clone())).collect(),
        };
        let states: BTreeMap<String, &str> = slots().map(|slot| (slot.key.to_string(), slot.state.as_str())).collect();
        let changed = PluginEvent { event: CHANGED.into(), payload: json!({ "plugins": states }) };
        // Under the lock, so that of two publications the later one stays; the table first, so that what is shown holds.
        self.table.store(Arc::new(table));
        self.listing.store(Arc::new(listing));
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
        self.note_state(&entry.package, slot, &format!("plugin:{}", fault.key));
        drop(installed);
        self.publish();
    }

    /// Shows that nothing can be said of the plugin folder. What runs goes on.
    pub(crate) fn folder_trouble(&self, folder: &Path, reason: &str) {
        tracing::warn!(folder = %folder.display(), "{reason}");
        self.lock().problems.insert(folder.to_path_buf(), reason.to_owned());
        self.publish();
    }

    /// Ends what plugins do on their own account.
    pub(crate) fn stop_all(&self) {
        self.loader.ending.cancel();
        self.lock().plugins.values().for_each(stop);
    }
}

/// Ends what runs on an entry's own account. Calls that run in it finish.
fn stop(entry: &Entry) {
    for ready in entry.slots.values().filter_map(|slot| slot.ready.as_ref()) {
        ready.unit.stop.cancel();
    }
}

/// Which account's new version must not displace the running one and why, if so: it cannot run at all. One that waits for a grant does
/// displace it, because what lies on disk asks for rights that nobody gave.
fn bad_replacement(old: &BTreeMap<AccountId, Slot>, new: &BTreeMap<AccountId, Slot>) -> Option<(String, String)> {
    new.iter()
        .find(|(account, slot)| {
            slot.state == PluginState::Faulted && old.get(*account).is_some_and(|old| old.state == PluginState::Ready)
        })
        .map(|(_, slot)| (slot.key.to_string(), slot.reason.clone()))
}

pub(crate) fn digest(package: &Package) -> Option<String> {
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
            .unwrap_or_else(|| slot.remembered_exports.clone()),
        channels: manifest.channels.clone(),
        lifecycle: manifest.lifecycle,
        requested: manifest.asked(),
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
