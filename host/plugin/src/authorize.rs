//! The hook `authorize`: plugins that are asked before a gateway method runs.
//!
//! It only ever narrows: what a plugin says can refuse a call that had its scope, and nothing else. Unlike other hooks, one
//! that fails is not passed over: a plugin that was broken on purpose must not open what it guards. What only reads goes on,
//! so that people can see what is wrong.

use std::time::Duration;

use leanclaw_types::plugin::PluginState;
use leanclaw_types::{Failure, PluginKey};
use serde_json::Value;

use crate::loader::Slot;
use crate::runtime::Plugins;
use crate::state::CallContext;
use crate::table::Ready;

const EVENT: &str = "authorize";
/// Time a plugin has to decide about one call.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a slot has to do with calls: it is asked about them, or it should be and cannot be.
pub(crate) fn guard(slot: &Slot) -> Option<(PluginKey, Result<Ready, String>)> {
    slot.granted.as_ref()?.hooks.iter().find(|hook| *hook == EVENT)?;
    match &slot.ready {
        Some(ready) if ready.description.hooks.iter().any(|hook| hook == EVENT) => {
            Some((slot.key.clone(), Ok(ready.clone())))
        }
        None if matches!(slot.state, PluginState::Faulted | PluginState::Loading) => {
            Some((slot.key.clone(), Err(format!("it is {}: {}", slot.state.as_str(), slot.reason))))
        }
        _ => None,
    }
}

impl Plugins {
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
                    let message = format!(
                        "The plugin `{key}` decides whether `{method}` is allowed and could not be asked, so it is not: {why}"
                    );
                    return Err(Failure::denied(message).hint(hint));
                }
            }
        }
        Ok(())
    }
}
