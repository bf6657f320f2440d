//! Deleting what both stores keep of a plugin.

use std::sync::Arc;

use leanclaw_plugin::Plugins;
use leanclaw_store::{KvStore, Store};
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::clock::{Clock as _, SystemClock};
use leanclaw_types::plugin::Purged;
use leanclaw_types::{Caller, Failure, PluginId};

/// Deletes what is kept of a plugin that is not installed, once nothing of it runs any more.
///
/// # Errors
/// As [`Plugins::purge`], and what the stores say; then a part may be gone, and the same call deletes the rest.
pub(crate) async fn purge(
    plugins: &Plugins,
    (store, kv): (&Arc<Store>, &Arc<KvStore>),
    caller: &Caller,
    plugin: &PluginId,
) -> Result<Purged, Failure> {
    let (store, kv, id) = (Arc::clone(store), Arc::clone(kv), plugin.clone());
    let delete = |remains: leanclaw_plugin::Remains| async move {
        let kv_entries = kv.forget(&id, &remains.accounts).await?;
        let event = AuditEvent::PluginInstalled { plugin: id.to_string(), action: "purge".to_owned(), sha256: None };
        let record = AuditRecord { at_ms: SystemClock.now_ms(), actor: remains.by, event };
        let purged = store.forget(&id, &remains.accounts, remains.memo, record).await?;
        Ok(Purged { kv_entries, ..purged })
    };
    plugins.purge(caller, plugin, delete).await
}
