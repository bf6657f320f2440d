//! The parts of the program that `/ready` asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leanclaw_gateway::Readiness;
use leanclaw_plugin::Plugins;
use leanclaw_store::{KvStore, Store, StoreError};
use leanclaw_types::PluginKey;
use leanclaw_types::plugin::{PluginInfo, PluginState};
use leanclaw_wasm::Wasm;

use super::Parts;
use crate::agents::Agents;

/// How long calls may wait for an instance of a plugin before that is more than a moment with much to do.
const MOST_WAIT: Duration = Duration::from_secs(1);

/// The parts of a program. `looked` is set once everything that lay in the plugin folder at the start was looked at.
pub(crate) fn readiness(parts: &Parts, agents: &Agents, looked: &Arc<AtomicBool>) -> Vec<Arc<dyn Readiness>> {
    let database = DatabaseReady { store: Arc::clone(&parts.store), kv: Arc::clone(&parts.kv) };
    let installed = InstalledPlugins { plugins: parts.plugins.clone(), looked: Arc::clone(looked) };
    vec![
        Arc::new(database),
        Arc::new(PluginsReady(installed.clone())),
        Arc::new(ChannelsReady(installed)),
        Arc::new(SandboxReady(parts.wasm.clone(), agents.clone())),
    ]
}

/// Ready when both databases can be written.
struct DatabaseReady {
    store: Arc<Store>,
    kv: Arc<KvStore>,
}

/// Ready when every plugin that an admin switched on and granted its rights runs.
struct PluginsReady(InstalledPlugins);

/// Ready when every channel that an admin switched on and granted its rights runs and reaches its service.
struct ChannelsReady(InstalledPlugins);

/// Ready when guests can be run: something sees to it that none runs for ever, there is room for one more, and agents have what
/// they run in.
struct SandboxReady(Wasm, Agents);

/// The plugins, once it is known which there are.
#[derive(Clone)]
struct InstalledPlugins {
    plugins: Plugins,
    looked: Arc<AtomicBool>,
}

impl InstalledPlugins {
    /// Those that should run and do not, by the name that is theirs here, in one line; none when there are none.
    fn not_running(&self, name: impl Fn(&PluginInfo, &PluginKey) -> Option<String>) -> Option<String> {
        if !self.looked.load(Ordering::Acquire) {
            return Some("the plugin folder is being read".to_owned());
        }
        joined(self.plugins.list().iter().filter_map(|info| {
            if !matches!(info.state, PluginState::Loading | PluginState::Faulted) {
                return None;
            }
            let key = PluginKey { plugin: info.id.clone(), account: info.account.clone() };
            let (name, state) = (name(info, &key)?, info.state.as_str());
            Some(format!("{name} is {state} (`leanclaw plugin inspect {key}` shows why)"))
        }))
    }
}

/// The lines as one; none when there are none.
fn joined(lines: impl Iterator<Item = String>) -> Option<String> {
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

impl Readiness for PluginsReady {
    fn name(&self) -> &'static str {
        "plugins"
    }

    fn missing(&self) -> Option<String> {
        self.0.not_running(|_, key| Some(key.to_string()))
    }
}

impl Readiness for ChannelsReady {
    fn name(&self) -> &'static str {
        "channels"
    }

    fn missing(&self) -> Option<String> {
        // What does not run cannot be asked; no channel runs that its manifest does not name.
        let faulted = self.0.not_running(|info, key| Some(format!("the channel {} of {key}", info.channels.first()?)));
        let cut_off = self.0.plugins.cut_off_channels().into_iter().map(|(key, channel)| {
            format!("the channel {channel} of {key} cannot reach its service (`leanclaw plugin logs {key}` shows why)")
        });
        joined(faulted.into_iter().chain(cut_off))
    }
}

impl Readiness for SandboxReady {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn missing(&self) -> Option<String> {
        if !self.0.is_ticking() {
            return Some("nothing interrupts plugins that run for long any more; start LeanClaw again".to_owned());
        }
        if let Some(failure) = self.1.trouble() {
            // A path is nobody's business who only asks whether the program is ready.
            let hint = failure.hints.first().map_or("the log says why", String::as_str);
            return Some(format!("agents cannot run: {hint}"));
        }
        self.0.waiting().filter(|waited| *waited >= MOST_WAIT).map(|_| {
            let most = self.0.settings().max_instances;
            format!(
                "calls wait for an instance, as all {most} are in use: `leanclaw plugin list` shows whose, and \
                 LEANCLAW_MAX_INSTANCES allows more"
            )
        })
    }
}

impl Readiness for DatabaseReady {
    fn name(&self) -> &'static str {
        "database"
    }

    fn missing(&self) -> Option<String> {
        joined([self.store.trouble(), self.kv.trouble()].into_iter().flatten().map(|error| told(&error)))
    }
}

/// What failed and what to do, in one line.
fn told(error: &StoreError) -> String {
    let hints = error.hints();
    std::iter::once(error.to_string()).chain(hints).collect::<Vec<_>>().join(" ")
}
