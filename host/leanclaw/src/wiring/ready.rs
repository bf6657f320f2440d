//! The parts of the program that `/ready` asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leanclaw_gateway::Readiness;
use leanclaw_plugin::Plugins;
use leanclaw_store::{KvStore, Store, StoreError};
use leanclaw_types::PluginKey;
use leanclaw_types::plugin::{PluginInfo, PluginState};

/// Ready when both databases can be written.
pub(crate) struct DatabaseReady {
    pub(crate) store: Arc<Store>,
    pub(crate) kv: Arc<KvStore>,
}

/// Ready when no plugin is still being compiled and none is faulted.
pub(crate) struct PluginsReady(pub(crate) InstalledPlugins);

/// Ready when every channel that an admin switched on and granted its rights runs.
pub(crate) struct ChannelsReady(pub(crate) InstalledPlugins);

/// The plugins, once it is known which there are.
#[derive(Clone)]
pub(crate) struct InstalledPlugins {
    pub(crate) plugins: Plugins,
    /// Set once everything that lay in the folder at the start was looked at.
    pub(crate) looked: Arc<AtomicBool>,
}

impl InstalledPlugins {
    /// What `tell` says of those that should run and do not, in one line; none when there are none.
    fn broken(&self, tell: impl Fn(&PluginInfo) -> Option<String>) -> Option<String> {
        if !self.looked.load(Ordering::Acquire) {
            return Some("the plugin folder is being read".to_owned());
        }
        let is_broken = |info: &&PluginInfo| matches!(info.state, PluginState::Loading | PluginState::Faulted);
        joined(self.plugins.list().iter().filter(is_broken).filter_map(tell))
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
        self.0.broken(|info| Some(format!("{} is {}", info.id, info.state.as_str())))
    }
}

impl Readiness for ChannelsReady {
    fn name(&self) -> &'static str {
        "channels"
    }

    fn missing(&self) -> Option<String> {
        self.0.broken(|info| {
            // What does not run cannot be asked; no channel runs that its manifest does not name.
            let channel = info.channels.first()?;
            let key = PluginKey { plugin: info.id.clone(), account: info.account.clone() };
            let state = info.state.as_str();
            Some(format!("the channel {channel} is {state} (`leanclaw plugin inspect {key}` shows why)"))
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
