//! The hook `authorize`: plugins that are asked before a gateway method runs.
//!
//! It only ever narrows: what a plugin says can refuse a call that had its scope, and nothing else. Unlike other hooks, one
//! that fails is not passed over: a plugin that was broken on purpose must not open what it guards. What only reads goes on,
//! so that people can see what is wrong.
//!
//! Whether a plugin has to be asked is what the stored grant says, however far its loading is: before it was looked for,
//! while it is loaded and while it waits for a grant it cannot be asked, which is not the same as having nothing to say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leanclaw_types::permission::Permissions;
use leanclaw_types::plugin::PluginState;
use leanclaw_types::{Failure, PluginId, PluginKey};
use serde_json::Value;

use crate::admission::Home;
use crate::installed::Installed;
use crate::loader::Slot;
use crate::runtime::{Inner, Plugins};
use crate::state::CallContext;
use crate::table::Ready;

const EVENT: &str = "authorize";
/// Time a plugin has to decide about one call.
const PATIENCE: Duration = Duration::from_secs(2);

/// A plugin that is asked about calls, or why it cannot be: a reason and lines that begin with `hint: `.
pub(crate) type Guard = (PluginKey, Result<Ready, String>);

/// Who was granted the hook, as it is stored.
#[derive(Default)]
pub(crate) struct Guards {
    /// With the place where the plugin's files were last.
    granted: BTreeMap<PluginKey, PathBuf>,
    /// Whether the plugin folder has been looked at: from then on what is not there is not installed.
    has_looked: bool,
}

impl Guards {
    /// Remembers where the files of a plugin that is not loaded lie.
    pub(crate) fn lies_at(&mut self, plugin: &PluginId, path: &Path) {
        for (_, place) in self.granted.iter_mut().filter(|(key, _)| &key.plugin == plugin) {
            *place = path.to_path_buf();
        }
    }

    /// What a slot has to do with calls: it is asked about them, or it should be and cannot be. One that is disabled was
    /// taken out of service by the configuration, or has no code at all.
    pub(crate) fn guard(&self, slot: &Slot) -> Option<Guard> {
        let has_hook = |hooks: &[String]| hooks.iter().any(|hook| hook == EVENT);
        let guard = match &slot.ready {
            Some(ready) => {
                let held = slot.granted.as_ref().is_some_and(|granted| has_hook(&granted.hooks));
                (held && has_hook(&ready.description.hooks)).then(|| Ok(ready.clone()))
            }
            None if slot.state == PluginState::Disabled || !self.granted.contains_key(&slot.key) => None,
            None => {
                let (state, key) = (slot.state.as_str(), &slot.key);
                Some(Err(format!(
                    "it is {state}: {}\nhint: leanclaw plugin inspect {key} shows its state",
                    slot.reason
                )))
            }
        };
        guard.map(|guard| (slot.key.clone(), guard))
    }
}

impl Installed {
    /// Guards that are not loaded at all: nobody has looked for them yet, or what lies in their place cannot be read. One
    /// whose files are gone is none.
    pub(crate) fn absent_guards(&self) -> impl Iterator<Item = Guard> {
        let granted = self.guards.granted.iter().filter(|(key, _)| !self.plugins.contains_key(&key.plugin));
        granted.filter_map(|(key, place)| {
            let why = if self.guards.has_looked {
                let folder = place.parent().and_then(|folder| self.problems.get(folder));
                let problem = self.problems.get(place).or(folder)?;
                format!("it is not loaded: {problem}\nhint: leanclaw plugin list shows what is refused")
            } else {
                "it is not loaded yet, the program is starting\nhint: try again in a moment".to_owned()
            };
            Some((key.clone(), Err(why)))
        })
    }
}

impl Inner {
    /// The plugin folder has been looked at for the first time.
    pub(crate) fn has_looked(&self) {
        self.lock().guards.has_looked = true;
        self.publish();
    }

    /// Notes what is stored for a plugin now.
    pub(crate) fn note_guard(&self, key: &PluginKey, granted: &Permissions) {
        let mut installed = self.lock();
        if granted.hooks.iter().any(|hook| hook == EVENT) {
            let place = installed.plugins.get(&key.plugin).map(|entry| entry.package.path.clone());
            let known = installed.guards.granted.entry(key.clone()).or_default();
            *known = place.unwrap_or_else(|| known.clone());
        } else if installed.guards.granted.remove(key).is_none() {
            return;
        }
        drop(installed);
        self.publish();
    }

    /// Nothing is stored for a plugin any more.
    pub(crate) fn forget_guard(&self, plugin: &PluginId) {
        self.lock().guards.granted.retain(|key, _| &key.plugin != plugin);
        self.publish();
    }
}

impl Plugins {
    /// Has every plugin that was granted the hook `authorize` count as one that cannot be asked until it is loaded. To be
    /// called before anyone is served.
    ///
    /// # Errors
    /// The grants cannot be read, so nobody knows who is to be asked.
    pub async fn expect_guards(&self) -> Result<(), Failure> {
        let services = &self.inner.loader.services;
        let folder = self.inner.folder.as_deref().unwrap_or(Path::new(""));
        let mut granted = BTreeMap::new();
        for (key, grant) in services.grants.grants().await? {
            if grant.permissions.hooks.iter().any(|hook| hook == EVENT) {
                let home = self.inner.home(&key.plugin).await;
                let place = home.map_or_else(|| folder.join(key.plugin.as_str()), |home: Home| home.within(folder));
                granted.insert(key, place);
            }
        }
        self.inner.lock().guards.granted = granted;
        self.inner.publish();
        Ok(())
    }

    /// Whether any plugin is asked about calls of gateway methods.
    #[must_use]
    pub fn guards_calls(&self) -> bool {
        !self.inner.table.load().guards.is_empty()
    }

    /// Asks every plugin that has the hook `authorize`, in the order of plugin ids, whether a call may run. `question` is
    /// what the contract says of that event.
    ///
    /// # Errors
    /// `denied` when one says `deny` or `skip`, with its reason; also when one cannot be asked, fails or takes longer than
    /// two seconds, unless the call `only_reads`.
    pub async fn authorize(&self, question: Value, only_reads: bool, context: CallContext) -> Result<(), Failure> {
        let table = self.inner.table.load_full();
        for (key, guard) in &table.guards {
            let asked = match guard {
                Ok(ready) => {
                    let asking = self.ask_hook(ready, EVENT, &question, &context);
                    match tokio::time::timeout(PATIENCE, asking).await {
                        Ok(Ok(decision)) => Ok(decision),
                        Ok(Err(failure)) => Err(failure.message),
                        Err(_) => Err("it took longer than two seconds".to_owned()),
                    }
                }
                Err(why) => Err(why.clone()),
            };
            let method = question.get("method").and_then(Value::as_str).unwrap_or_default();
            let hint = format!("leanclaw plugin revoke {key} hook:{EVENT}");
            match asked {
                Ok(decision) if matches!(decision.verdict.as_str(), "deny" | "skip") => {
                    let reason = decision.reason.unwrap_or_else(|| "no reason given".into());
                    let message = format!("The plugin `{key}` does not allow `{method}`: {reason}");
                    return Err(Failure::denied(message).hint(hint));
                }
                Ok(_) => {}
                Err(why) if only_reads => {
                    tracing::warn!(plugin = %key, method, "authorize hook could not be asked; what only reads goes on: {why}");
                }
                Err(why) => {
                    return Err(unasked(key, method, &why).hint(format!("{hint} ends that it is asked")));
                }
            }
        }
        Ok(())
    }
}

/// The refusal of a call because a plugin could not be asked.
fn unasked(key: &PluginKey, method: &str, why: &str) -> Failure {
    let mut reason = Vec::new();
    let mut hints = Vec::new();
    for line in why.lines() {
        match line.strip_prefix("hint: ") {
            Some(hint) => hints.push(hint),
            None => reason.push(line),
        }
    }
    let reason = reason.join("\n");
    let message = format!(
        "The plugin `{key}` decides whether `{method}` is allowed and could not be asked, so it is not: {reason}"
    );
    hints.into_iter().fold(Failure::denied(message), Failure::hint)
}
