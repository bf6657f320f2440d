//! From a package on disk to a unit that can be called, or to the state and reason why not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use leanclaw_egress::{Egress, EgressPolicy, RequestedHosts, SecretSource};
use leanclaw_types::manifest::Manifest;
use leanclaw_types::permission::Permissions;
use leanclaw_types::plugin::{PluginEvent, PluginState};
use leanclaw_types::redact::Secret;
use leanclaw_types::{AccountId, PluginId, PluginKey, limits};
use leanclaw_wasm::{Digest, LazyComponent, Limits, LoadError, Wasm, WasmSource};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::actor::Recycling;
use crate::description::{self, Description};
use crate::diagnose::{Diagnosis, Interfaces};
use crate::error::PluginError;
use crate::linker::Linkers;
use crate::logs::LogRing;
use crate::package::{self, ComponentFile, Package};
use crate::runtime::Inner;
use crate::services::{Secrets, Services};
use crate::state::Shared;
use crate::stats::Stats;
use crate::table::Ready;
use crate::unit::{Faulted, Unit, UnitParts};
use crate::validate::Schema;

/// One plugin and account, as it stands.
pub(crate) struct Slot {
    pub(crate) key: PluginKey,
    pub(crate) state: PluginState,
    pub(crate) reason: String,
    /// What was granted and is asked for; none without a grant.
    pub(crate) granted: Option<Permissions>,
    /// What is asked for and not granted.
    pub(crate) missing: Vec<String>,
    pub(crate) ready: Option<Ready>,
    /// What a component that is kept from loading is remembered to export; empty where it was never looked at.
    pub(crate) remembered_exports: Vec<String>,
    /// Whether the reason may pass by itself, so that loading is tried again.
    pub(crate) is_transient: bool,
    /// What served until rights or its login were taken away: it keeps the code of the version that ran until that is loaded anew,
    /// because its file may hold another version by then.
    pub(crate) withdrawn: Option<Ready>,
}

impl Slot {
    pub(crate) fn new(key: PluginKey, state: PluginState, reason: impl Into<String>) -> Self {
        Self {
            key,
            state,
            reason: reason.into(),
            granted: None,
            missing: Vec::new(),
            ready: None,
            remembered_exports: Vec::new(),
            is_transient: false,
            withdrawn: None,
        }
    }

    fn faulted(key: PluginKey, error: &PluginError) -> Self {
        Self { is_transient: error.is_transient(), ..Self::new(key, PluginState::Faulted, error.reason()) }
    }
}

/// When the compiled code of a component that is known already is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// When it is first called: at the start, when there may be many and their code is in the cache.
    OnFirstUse,
    /// At once. The file may be replaced before the first call, and a version that is not loaded cannot serve until the
    /// next one is there, let alone go on when the next one is refused.
    Now,
}

/// What loading needs.
pub(crate) struct Loader {
    pub(crate) wasm: Wasm,
    pub(crate) egress: Egress,
    pub(crate) services: Services,
    pub(crate) events: broadcast::Sender<Arc<PluginEvent>>,
    pub(crate) faulted: mpsc::UnboundedSender<Faulted>,
    /// When resident instances are replaced.
    pub(crate) recycling: Recycling,
    /// The program this is a part of.
    pub(crate) program: Weak<Inner>,
    /// Cancelled when the program ends.
    pub(crate) ending: CancellationToken,
    linkers: Arc<Linkers>,
    kept: Mutex<Kept>,
}

/// What outlives a plugin's versions.
#[derive(Default)]
struct Kept {
    logs: HashMap<PluginId, Arc<LogRing>>,
    stats: HashMap<PluginKey, Arc<Stats>>,
    /// Everything that was made to be called and may still run, replaced versions too.
    units: HashMap<PluginKey, Vec<Weak<Unit>>>,
    /// Components in use, by their content: a version that runs is not read again for a grant, another account or a
    /// setting, because its file may hold another version by then.
    components: HashMap<Digest, Weak<LazyComponent>>,
}

/// Secrets of one plugin and account, as egress asks for them.
struct OwnSecrets {
    key: PluginKey,
    secrets: Arc<dyn Secrets>,
}

impl SecretSource for OwnSecrets {
    fn get(&self, name: &str) -> Option<Secret> {
        self.secrets.secret(&self.key, name)
    }
}

impl Loader {
    pub(crate) fn new(
        wasm: Wasm,
        egress: Egress,
        services: Services,
        events: broadcast::Sender<Arc<PluginEvent>>,
        faulted: mpsc::UnboundedSender<Faulted>,
        program: Weak<Inner>,
    ) -> Self {
        let linkers = Arc::new(Linkers::new(wasm.engine().clone()));
        let (recycling, ending) = (Recycling::default(), CancellationToken::new());
        let kept = Mutex::default();
        Self { wasm, egress, services, events, faulted, recycling, program, ending, linkers, kept }
    }

    /// The log ring of a plugin; it stays when the plugin is replaced.
    pub(crate) fn logs(&self, plugin: &PluginId) -> Arc<LogRing> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = kept.logs.entry(plugin.clone());
        Arc::clone(ring.or_insert_with(|| Arc::new(LogRing::new(plugin.to_string(), Arc::clone(&self.services.clock)))))
    }

    /// The counters of a plugin and account; they stay when the plugin is replaced.
    pub(crate) fn stats(&self, key: &PluginKey) -> Arc<Stats> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(kept.stats.entry(key.clone()).or_default())
    }

    /// What was made of a plugin and may still run, by account. Accounts of which nothing runs any more are among them,
    /// with a reference to nothing.
    pub(crate) fn units(&self, plugin: &PluginId) -> Vec<(AccountId, Weak<Unit>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let own = kept.units.iter().filter(|(key, _)| &key.plugin == plugin);
        own.flat_map(|(key, units)| units.iter().map(|unit| (key.account.clone(), Weak::clone(unit)))).collect()
    }

    /// Forgets a plugin that is not installed: its log and its counters.
    pub(crate) fn forget(&self, plugin: &PluginId) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.logs.remove(plugin);
        kept.stats.retain(|key, _| &key.plugin != plugin);
        kept.units.retain(|key, _| &key.plugin != plugin);
    }

    /// Loads one account of a package as far as it goes.
    pub(crate) async fn load(&self, package: &Package, account: &AccountId, code: Code) -> Slot {
        let manifest = &package.manifest;
        let key = PluginKey { plugin: manifest.id.clone(), account: account.clone() };
        if let Some(reason) = self.services.settings.refusal(&key) {
            let remembered_exports = self.remembered_exports(package).await;
            return Slot { remembered_exports, ..Slot::new(key, PluginState::Disabled, reason) };
        }
        let Some(component) = &package.component else {
            return Slot::new(key, PluginState::Disabled, no_component(manifest));
        };
        let grant = match self.services.grants.grant(&key).await {
            Ok(grant) => grant,
            Err(failure) => return Slot::faulted(key, &PluginError::Service(failure)),
        };
        let asked = &manifest.asked();
        let Some(grant) = grant else {
            let mut slot = Slot::new(key.clone(), PluginState::NeedsGrant, not_granted(&key, asked));
            slot.missing = asked.items().into_iter().collect();
            return slot;
        };
        let effective = asked.intersection(&grant.permissions);
        let missing = asked.missing_from(&effective);
        let undecided = asked.missing_from(&grant.decided);
        let mut slot = if undecided.is_empty() {
            match self.ready(package, component, (&key, &effective), code).await {
                Ok(ready) => Slot { ready: Some(ready), ..Slot::new(key, PluginState::Ready, "") },
                Err(PluginError::Incompatible(diagnosis)) if diagnosis.needs_only_a_grant() => {
                    Slot::new(key, PluginState::NeedsGrant, diagnosis.to_string())
                }
                Err(error) => Slot::faulted(key, &error),
            }
        } else {
            let reason = format!(
                "this version asks for more than was decided on: {}\nhint: leanclaw plugin grant {key} --all, or name what to grant; what is not named stays refused",
                undecided.join(", ")
            );
            Slot::new(key, PluginState::NeedsGrant, reason)
        };
        slot.granted = Some(effective);
        slot.missing = missing;
        slot
    }

    /// What a component of this content was found to export, whenever that was.
    async fn remembered_exports(&self, package: &Package) -> Vec<String> {
        let Some(component) = &package.component else { return Vec::new() };
        let known = self.services.memo.recall(&description::memo_key(&component.digest.to_string())).await;
        let known: Option<Description> = known.and_then(|text| serde_json::from_str(&text).ok());
        known.map_or_else(Vec::new, |known| known.interfaces.served_exports().into_iter().map(str::to_owned).collect())
    }

    async fn ready(
        &self,
        package: &Package,
        component: &ComponentFile,
        (key, effective): (&PluginKey, &Permissions),
        code: Code,
    ) -> Result<Ready, PluginError> {
        let manifest = &package.manifest;
        let memo_key = description::memo_key(&component.digest.to_string());
        let known: Option<Description> =
            self.services.memo.recall(&memo_key).await.and_then(|text| serde_json::from_str(&text).ok());
        let interfaces = match &known {
            Some(known) => known.interfaces.clone(),
            None => self.interfaces(component).await?,
        };
        let diagnosis = Diagnosis::of(key.plugin.as_str(), &interfaces, &manifest.asked(), effective);
        if !diagnosis.is_loadable() {
            return Err(PluginError::Incompatible(Box::new(diagnosis)));
        }
        let settings = self.settings(manifest, key)?;
        let unit = self.unit(manifest, component, key, effective, settings);
        let mut description = match known {
            Some(known) => known,
            None => {
                let asked = description::ask(&unit, interfaces).await?;
                let text =
                    serde_json::to_string(&asked).map_err(|error| PluginError::Description(error.to_string()))?;
                self.services.memo.remember(memo_key, text).await;
                asked
            }
        };
        // The memory is by content: the same component may be installed under another id.
        for tool in &mut description.tools {
            tool.plugin = key.plugin.clone();
        }
        for method in &mut description.methods {
            method.plugin = key.plugin.clone();
        }
        description.check(manifest)?;
        if code == Code::Now {
            unit.guest().await?;
        }
        Ready::new(unit, description)
    }

    /// The component of this content: the one that is loaded already, or one that will be read from the file.
    fn component(&self, file: &ComponentFile) -> Arc<LazyComponent> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.components.get(&file.digest).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.loaded().is_some()) {
            return known;
        }
        let source = WasmSource::file(&file.path).with_digest(file.digest);
        let made = Arc::new(self.wasm.lazy_component(source));
        kept.components.retain(|_, component| component.strong_count() > 0);
        kept.components.insert(file.digest, Arc::downgrade(&made));
        made
    }

    /// Reads the interface names. The parser's complaint about broken bytes is left to the compiler, which says more.
    async fn interfaces(&self, component: &ComponentFile) -> Result<Interfaces, PluginError> {
        let (path, expected) = (component.path.clone(), component.digest);
        let read = tokio::task::spawn_blocking(move || {
            let bytes = package::read_component(&path)?;
            let actual = Digest::of(&bytes);
            if actual != expected {
                return Err(PluginError::Load(LoadError::Changed { expected, actual }));
            }
            Ok((Interfaces::read(&bytes), bytes))
        });
        let (interfaces, bytes) = read.await.map_err(|error| PluginError::Package(error.to_string()))??;
        match interfaces {
            Ok(interfaces) if !(interfaces.imports.is_empty() && interfaces.exports.is_empty()) => Ok(interfaces),
            other => {
                // A core module, an empty component or garbage: compiling says which.
                self.wasm.component(&WasmSource::bytes(bytes)).await?;
                other.map_err(PluginError::Package)
            }
        }
    }

    fn settings(&self, manifest: &Manifest, key: &PluginKey) -> Result<String, PluginError> {
        let settings = self.services.settings.settings(key);
        let refuse = |problem: String| PluginError::Settings { plugin: key.plugin.to_string(), problem };
        if let Some(schema) = &manifest.config_schema {
            let schema = Schema::compile(schema)
                .map_err(|problem| refuse(format!("the schema itself is not usable: {problem}")))?;
            schema.check(&settings).map_err(refuse)?;
        }
        Ok(settings.to_string())
    }

    fn unit(
        &self,
        manifest: &Manifest,
        component: &ComponentFile,
        key: &PluginKey,
        effective: &Permissions,
        settings: String,
    ) -> Arc<Unit> {
        let secrets = OwnSecrets { key: key.clone(), secrets: Arc::clone(&self.services.secrets) };
        let held = manifest.limits.within(&effective.limits);
        let egress = self.egress.open(egress_policy(manifest, key, effective, &held), Arc::new(secrets));
        let shared = Shared {
            key: key.clone(),
            granted: effective.clone(),
            settings,
            channels: manifest.channels.clone(),
            limits: wasm_limits(&held),
            egress,
            logs: self.logs(&key.plugin),
            events: self.events.clone(),
            services: self.services.clone(),
            program: Weak::clone(&self.program),
            ending: self.ending.child_token(),
        };
        let concurrency = held.concurrency.unwrap_or(limits::DEFAULT_CONCURRENCY);
        let unit = Unit::new(UnitParts {
            wasm: self.wasm.clone(),
            linkers: Arc::clone(&self.linkers),
            component: self.component(component),
            shared: Arc::new(shared),
            lifecycle: manifest.lifecycle,
            recycling: self.recycling,
            concurrency: usize::try_from(concurrency).unwrap_or(usize::MAX),
            stats: self.stats(key),
            faulted: self.faulted.clone(),
        });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let units = kept.units.entry(key.clone()).or_default();
        // The last one stays although it is gone: it tells that the account ran.
        units.retain(|unit| unit.strong_count() > 0);
        units.push(Arc::downgrade(&unit));
        drop(kept);
        unit
    }
}

fn no_component(manifest: &Manifest) -> String {
    let has = match &manifest.main {
        None => "its manifest names no `main`".to_owned(),
        Some(main) => format!("its `main` is `{main}`, which is not a component"),
    };
    format!(
        "metadata only: {has}\nhint: build the plugin as a WebAssembly component for `wit` (leanclaw plugin new --lang js shows how) and set \"main\" to its .wasm"
    )
}

fn not_granted(key: &PluginKey, asked: &Permissions) -> String {
    let items = asked.items();
    let list = if items.is_empty() {
        "nothing but to be called".to_owned()
    } else {
        items.into_iter().collect::<Vec<_>>().join(", ")
    };
    format!("no admin has approved it yet; it asks for: {list}\nhint: leanclaw plugin grant {key} --all")
}

fn wasm_limits(held: &limits::Limits) -> Limits {
    let mib = usize::try_from(held.memory_mib.unwrap_or(limits::DEFAULT_MEMORY_MIB)).unwrap_or(usize::MAX);
    Limits {
        memory_bytes: mib.saturating_mul(1024 * 1024),
        wall_clock: Duration::from_millis(held.call_timeout_ms.unwrap_or(limits::DEFAULT_CALL_TIMEOUT_MS)),
        host_calls_per_call: held.host_calls.unwrap_or(limits::DEFAULT_HOST_CALLS),
        ..Limits::default()
    }
}

fn egress_policy(manifest: &Manifest, key: &PluginKey, effective: &Permissions, held: &limits::Limits) -> EgressPolicy {
    let mut policy = EgressPolicy::new(key.to_string());
    // A private host is granted by its own entry; naming it among the public ones too would say it twice.
    policy.allow = effective.http.iter().chain(&effective.private_http).cloned().collect();
    policy.private.clone_from(&effective.private_http);
    policy.sockets.clone_from(&effective.sockets);
    policy.secrets = effective.secrets.iter().filter_map(leanclaw_types::permission::SecretUse::rule).collect();
    let wishes = &manifest.permissions;
    policy.requested = Some(RequestedHosts {
        http: wishes.http.clone(),
        private_http: wishes.private_http.clone(),
        sockets: wishes.sockets.clone(),
    });
    policy.limits.requests_per_minute =
        usize::try_from(held.http_requests_per_minute.unwrap_or(limits::DEFAULT_HTTP_REQUESTS_PER_MINUTE))
            .unwrap_or(usize::MAX);
    policy.limits.response_bytes =
        u64::from(held.http_response_kib.unwrap_or(limits::DEFAULT_HTTP_RESPONSE_KIB)) * 1024;
    policy
}
