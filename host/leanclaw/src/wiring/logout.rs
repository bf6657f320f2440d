//! Logging an account of a plugin out: its login is in its secrets, and which of them the host cannot tell.

use std::sync::Arc;

use leanclaw_plugin::Plugins;
use leanclaw_store::Store;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::clock::{Clock as _, SystemClock};
use leanclaw_types::{Caller, Failure, PluginKey};

/// Deletes every secret of a plugin and account and has it start anew. Whether there were any.
///
/// # Errors
/// As [`Plugins::log_out`], and what the store says; then a part may be gone, and the same call deletes the rest.
pub(crate) async fn log_out(
    plugins: &Plugins,
    store: &Arc<Store>,
    caller: &Caller,
    key: &PluginKey,
) -> Result<bool, Failure> {
    let (store, own) = (Arc::clone(store), key.clone());
    let delete = |by: String| async move {
        let mut cleared = false;
        for name in store.secret_names(&own).await? {
            let (plugin, action) = (own.to_string(), "removed".to_owned());
            let event = AuditEvent::SecretChanged { plugin, name: name.clone(), action };
            let record = AuditRecord { at_ms: SystemClock.now_ms(), actor: by.clone(), event };
            cleared |= store.remove_secret(&own, &name, record).await?;
        }
        Ok(cleared)
    };
    plugins.log_out(caller, key, delete).await
}
