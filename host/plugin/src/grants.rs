//! Granting and revoking: what an admin decides, written down before it takes effect.

use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::permission::{GrantChange, Permissions};
use leanclaw_types::plugin::PluginInfo;
use leanclaw_types::{Caller, Failure, PluginKey};

use crate::installed::Loss;
use crate::runtime::{Plugins, actor};
use crate::services::{Services, StoredGrant};

impl Plugins {
    /// Gives a plugin what `change` names of what its manifest asks for, and loads it anew. A plugin that asks for
    /// nothing is approved by `all`.
    ///
    /// # Errors
    /// `not-found`; `invalid-input` when something is named that the manifest does not ask for.
    pub async fn grant(&self, caller: &Caller, key: &PluginKey, change: &GrantChange) -> Result<PluginInfo, Failure> {
        let (plugins, caller, key, change) = (self.clone(), caller.clone(), key.clone(), change.clone());
        finished(tokio::spawn(async move {
            let decision = plugins.inner.decisions.lock().await;
            let package = plugins.requested(&key)?;
            let asked = package.manifest.asked();
            let granted = grant(&plugins.inner.loader.services, &caller, &key, &asked, &change).await?;
            plugins.inner.note_guard(&key, &granted);
            let wish = plugins.inner.rights_changed(&key, None, &actor(&caller));
            drop(decision);
            plugins.inner.fulfil_all(wish.into_iter().collect()).await;
            plugins.inspect(&key)
        }))
        .await
    }

    /// Takes back what `change` names, and loads the plugin anew. With `all` the plugin waits for a grant again. What had
    /// the rights stops at once: nothing begins in it, and what runs in it is ended. The plugin need not be installed;
    /// then there is nothing to be shown afterwards.
    ///
    /// # Errors
    /// `not-found` when nothing is granted; `invalid-input` when something is named that is not granted.
    pub async fn revoke(
        &self,
        caller: &Caller,
        key: &PluginKey,
        change: &GrantChange,
    ) -> Result<Option<PluginInfo>, Failure> {
        let (plugins, caller, key, change) = (self.clone(), caller.clone(), key.clone(), change.clone());
        finished(tokio::spawn(async move {
            let decision = plugins.inner.decisions.lock().await;
            let left = revoke(&plugins.inner.loader.services, &caller, &key, &change).await?;
            plugins.inner.note_guard(&key, &left);
            let wish = plugins.inner.rights_changed(&key, Some(Loss::Rights { left: &left }), &actor(&caller));
            drop(decision);
            plugins.inner.fulfil_all(wish.into_iter().collect()).await;
            Ok(plugins.inspect(&key).ok())
        }))
        .await
    }
}

/// A decision is carried out to its end, whoever waits for it.
pub(crate) async fn finished<T>(decision: tokio::task::JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    decision.await.unwrap_or_else(|error| Err(Failure::internal(format!("The decision was not carried out: {error}."))))
}

/// Writes a grant of `change` out of what `asked` names.
///
/// # Errors
/// `invalid-input` when something is named that is not asked for, or nothing is named; the store's own failures.
pub(crate) async fn grant(
    services: &Services,
    caller: &Caller,
    key: &PluginKey,
    asked: &Permissions,
    change: &GrantChange,
) -> Result<Permissions, Failure> {
    let added = if change.all { asked.clone() } else { chosen(asked, &change.items, key, NOT_ASKED)? };
    // A plugin that asks for nothing is approved by naming nothing. What it asked for when that was decided may differ from
    // what it asks for now, so that is no way to grant anything.
    if !change.all && change.items.is_empty() && !asked.items().is_empty() {
        return Err(
            Failure::invalid("Nothing was named to be granted.").hint(format!("leanclaw plugin grant {key} --all"))
        );
    }
    let old = services.grants.grant(key).await?;
    let held = old.map(|grant| grant.permissions).unwrap_or_default();
    // What an older manifest asked for and this one does not was not part of the decision: it must not come back by itself
    // when a later version asks again.
    let granted = held.intersection(asked).union(&added);
    let news: Vec<String> = granted.items().difference(&held.items()).cloned().collect();
    let record = AuditRecord {
        at_ms: services.clock.now_ms(),
        actor: actor(caller),
        event: AuditEvent::PluginGranted {
            plugin: key.to_string(),
            added: news,
            granted: granted.items().into_iter().collect(),
        },
    };
    let stored = StoredGrant { permissions: granted.clone(), decided: asked.clone(), granted_by: actor(caller) };
    services.grants.put_grant(key, stored, record).await?;
    Ok(granted)
}

/// Takes `change` out of a grant.
///
/// # Errors
/// `not-found` without a grant; `invalid-input` when something is named that is not granted.
pub(crate) async fn revoke(
    services: &Services,
    caller: &Caller,
    key: &PluginKey,
    change: &GrantChange,
) -> Result<Permissions, Failure> {
    let old = services.grants.grant(key).await?;
    let old = old.ok_or_else(|| {
        Failure::not_found(format!("Nothing is granted to `{key}`.")).hint("leanclaw plugin list shows what is there")
    })?;
    let removed =
        if change.all { old.permissions.clone() } else { chosen(&old.permissions, &change.items, key, NOT_GRANTED)? };
    if !change.all && change.items.is_empty() {
        return Err(
            Failure::invalid("Nothing was named to be revoked.").hint(format!("leanclaw plugin revoke {key} --all"))
        );
    }
    let gone = removed.items();
    let left =
        old.permissions.filtered(|item| !gone.contains(item) && item != "kv" || item == "kv" && removed.kv.is_none());
    let record = AuditRecord {
        at_ms: services.clock.now_ms(),
        actor: actor(caller),
        event: AuditEvent::PluginRevoked {
            plugin: key.to_string(),
            removed: gone.into_iter().collect(),
            granted: left.items().into_iter().collect(),
        },
    };
    if change.all {
        services.grants.remove_grant(key, record).await?;
    } else {
        let stored = StoredGrant { permissions: left.clone(), decided: old.decided, granted_by: actor(caller) };
        services.grants.put_grant(key, stored, record).await?;
    }
    Ok(left)
}

/// What was not the case, and what to do then.
type Reason = (&'static str, &'static str);
const NOT_ASKED: Reason = (
    "asked for by its manifest",
    "a plugin never gets more than its manifest asks for: add it to \"permissions\" (or \"limits\") there first",
);
const NOT_GRANTED: Reason = ("granted", "leanclaw plugin inspect ID shows what a plugin has");

/// The part of `from` that `items` name; `kv` stands for whatever size is there.
fn chosen(from: &Permissions, items: &[String], key: &PluginKey, (what, hint): Reason) -> Result<Permissions, Failure> {
    let there = from.items();
    for item in items {
        let known = there.contains(item) || (item == "kv" && from.kv.is_some());
        if !known {
            let shown = crate::logs::escape(crate::logs::cut(item, 200));
            let list =
                if there.is_empty() { "nothing".to_owned() } else { there.into_iter().collect::<Vec<_>>().join(", ") };
            return Err(Failure::invalid(format!("`{shown}` is not {what} for `{key}`; these are: {list}.")).hint(hint));
        }
    }
    Ok(from.filtered(|item| items.iter().any(|named| named == item)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_there_can_be_named() {
        let asked: Permissions = serde_json::from_value(
            json!({"http": ["https://a.example", "https://b.example"], "kv": {"quotaBytes": 9}}),
        )
        .unwrap();
        let key: PluginKey = "x".parse().unwrap();
        let picked = chosen(&asked, &["http:https://a.example".into(), "kv".into()], &key, NOT_ASKED).unwrap();
        assert_eq!(picked.items().into_iter().collect::<Vec<_>>(), ["http:https://a.example", "kv:9"]);
        let error = chosen(&asked, &["http:https://c.example".into()], &key, NOT_ASKED).unwrap_err();
        assert!(error.message.contains("https://b.example"), "{error}");
    }
}
