//! The configuration file as clients see and change it: revisions, secrets behind a sentinel, patches, what differs.
//!
//! What a setting means, where the file is and whether its content can be used is [`Settings`]' business.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use leanclaw_types::{Caller, Failure};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::LiveConfig;

/// Stands for a secret in everything clients read, and for "what is stored" in what they write.
pub(crate) const SENTINEL: &str = "__OPENCLAW_REDACTED__";

/// Something wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsIssue {
    /// The key with dots between its parts; empty for the whole.
    pub path: String,
    /// What is wrong there; never a secret.
    pub message: String,
}

impl fmt::Display for SettingsIssue {
    /// `gateway.port: is ...`; the whole is called `<root>`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "<root>" } else { &self.path };
        write!(out, "{path}: {}", self.message)
    }
}

/// A key whose value in the file counts for nothing here, as a flag or the environment says another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutrankedKey {
    /// The key with dots between its parts.
    pub key: String,
    /// The setting that it stands for, such as `LOG_LEVEL`.
    pub variable: String,
    /// Who says another: `--log-level`, `environment`, or the file and line.
    pub source: String,
}

/// What a configuration text comes to.
#[derive(Debug, Clone, Default)]
pub struct CheckedSettings {
    /// What the text says, an object; empty when it cannot be read.
    pub parsed: Value,
    /// What is in effect with it: the text, with flags, environment and defaults laid over it.
    pub resolved: Value,
    /// Why the text is no JSON5, if so.
    pub syntax: Option<String>,
    /// Everything that is wrong; with any, the text must not be stored.
    pub issues: Vec<SettingsIssue>,
    /// What is wrong with values that a flag or the environment covers: they do no harm until those are gone, and none may be
    /// stored anew.
    pub covered: Vec<SettingsIssue>,
    /// What does nothing and should be looked at.
    pub warnings: Vec<SettingsIssue>,
    /// Keys that count for nothing, whatever the text says of them.
    pub outranked: Vec<OutrankedKey>,
}

impl CheckedSettings {
    /// Why the text must not be stored where these keys are changed with it: everything that is wrong, and of what is covered
    /// today what is about them, as it would stop a start without what covers it.
    #[must_use]
    pub fn newly_wrong(&self, changed: &[String]) -> Vec<SettingsIssue> {
        let covered = self.covered.iter().filter(|issue| is_touched(&issue.path, changed));
        self.issues.iter().chain(covered).cloned().collect()
    }

    /// The keys among these that count for nothing, whatever the text says of them.
    #[must_use]
    pub fn outranked_at(&self, changed: &[String]) -> Vec<OutrankedKey> {
        self.outranked.iter().filter(|outranked| is_touched(&outranked.key, changed)).cloned().collect()
    }
}

/// Whether a change of these keys is one of this key.
pub(crate) fn is_touched(key: &str, changed: &[String]) -> bool {
    changed.iter().any(|changed| is_or_is_below(changed, key) || is_or_is_below(key, changed))
}

/// Why a configuration is not stored, in one line.
#[must_use]
pub fn settings_refusal(issues: &[SettingsIssue]) -> String {
    let lines: Vec<String> = issues.iter().map(SettingsIssue::to_string).collect();
    format!("invalid config: {}", lines.join("; "))
}

/// What it takes for a change of a key to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// Nothing reads the key.
    None,
    /// It counts at once.
    Hot,
    /// The program must be started again.
    Restart,
}

impl Reload {
    /// As clients know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hot => "hot",
            Self::Restart => "restart",
        }
    }
}

/// The configuration file and the knowledge of its keys.
#[async_trait]
pub trait Settings: Send + Sync + 'static {
    /// Where the file is.
    fn path(&self) -> String;

    /// The file's text; none when there is no file. May block.
    ///
    /// # Errors
    /// It cannot be read.
    fn load(&self) -> Result<Option<String>, Failure>;

    /// Reads and checks a text as if it were the file's.
    fn check(&self, text: &str) -> CheckedSettings;

    /// Replaces the file as a whole, or leaves it as it is. May block.
    ///
    /// # Errors
    /// It cannot be written.
    fn store(&self, text: &str) -> Result<(), Failure>;

    /// Has a text that was stored count, as far as its keys are [`Reload::Hot`] and not in [`Self::live`]. Gives the keys that
    /// count otherwise than before, also those that somebody had changed in the file before; what follows from them is left to
    /// [`Self::apply`].
    fn go_by(&self, text: &str) -> Vec<String>;

    /// Does what follows from keys that count otherwise now: plugins are loaded anew.
    async fn apply(&self, caller: &Caller, keys: &[String]);

    /// What counts in a running gateway with this text, keys of [`Reload::Hot`] and no others; none when it cannot be used.
    fn live(&self, text: &str) -> Option<LiveConfig>;

    /// Whether the value at a key is a secret.
    fn is_secret(&self, key: &str) -> bool;

    /// What it takes for a change of the key to count.
    fn reload(&self, key: &str) -> Reload;

    /// The JSON Schema (draft 7) of the file, and for keys what a form shows: `{label, help, sensitive, …}`.
    fn schema(&self) -> (Value, Map<String, Value>);
}

/// The same value with every secret behind the sentinel that clients know.
#[must_use]
pub fn without_secrets(settings: &Arc<dyn Settings>, value: &Value) -> Value {
    redacted(settings, value, "", &mut Vec::new())
}

/// Lays a merge patch over a configuration, as `config.patch` does.
pub fn merge_settings(target: &mut Value, patch: &Value) {
    merge(target, patch, "", &[]);
}

/// Whether a key of the configuration is another or lies below it; list indexes in brackets.
#[must_use]
pub fn is_or_is_below(key: &str, top: &str) -> bool {
    key.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// One key below another; list indexes in brackets.
fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The same value with every secret behind the sentinel. The secrets go to `found`.
pub(crate) fn redacted(settings: &Arc<dyn Settings>, value: &Value, path: &str, found: &mut Vec<String>) -> Value {
    match value {
        Value::Object(object) => {
            let item =
                |(key, value): (&String, &Value)| (key.clone(), redacted(settings, value, &below(path, key), found));
            Value::Object(object.iter().map(item).collect())
        }
        Value::Array(list) => {
            // A list of secrets is as secret as one.
            Value::Array(list.iter().map(|value| redacted(settings, value, path, found)).collect())
        }
        Value::String(text) if !text.is_empty() && (settings.is_secret(path) || holds_login(text)) => {
            if text != SENTINEL && !found.contains(text) {
                found.push(text.clone());
            }
            Value::String(SENTINEL.to_owned())
        }
        other => other.clone(),
    }
}

/// Whether a text is an address with a password in it.
fn holds_login(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(login, _)| login.contains(':'))
}

/// The text with every secret behind the sentinel. When that cannot be done in place, a text with the same content.
pub(crate) fn redacted_text(text: &str, shown: &Value, secrets: &[String], parse: impl Fn(&str) -> Value) -> String {
    if secrets.is_empty() {
        return text.to_owned();
    }
    let mut secrets: Vec<&String> = secrets.iter().collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let replaced = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), SENTINEL));
    if parse(&replaced) == *shown { replaced } else { settings_text(shown) }
}

/// A configuration text of a value.
#[must_use]
pub fn settings_text(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// Puts what is stored in the place of every sentinel, and lists the keys at which nothing is stored. A key that is not in
/// the file and gets its secret from elsewhere (the environment) is taken out again.
pub(crate) fn restored(value: &Value, stored: Option<&Value>, resolved: Option<&Value>, path: &str) -> Restored {
    match value {
        Value::String(text) if text == SENTINEL => match (stored, resolved) {
            (Some(stored @ Value::String(_)), _) => Restored::keep(stored.clone()),
            (None, Some(_)) => Restored { value: None, unknown: Vec::new() },
            _ => Restored { value: Some(value.clone()), unknown: vec![path.to_owned()] },
        },
        Value::Object(object) => {
            let (mut kept, mut unknown) = (Map::new(), Vec::new());
            for (key, value) in object {
                let (stored, resolved) = (stored.and_then(|all| all.get(key)), resolved.and_then(|all| all.get(key)));
                let item = restored(value, stored, resolved, &below(path, key));
                unknown.extend(item.unknown);
                item.value.map(|value| kept.insert(key.clone(), value));
            }
            Restored { value: Some(Value::Object(kept)), unknown }
        }
        Value::Array(list) => {
            let (mut kept, mut unknown) = (Vec::new(), Vec::new());
            for (index, value) in list.iter().enumerate() {
                let same = stored.and_then(|all| same_item(all, index, value));
                let item = restored(value, same, None, &format!("{path}[{index}]"));
                unknown.extend(item.unknown);
                kept.extend(item.value);
            }
            Restored { value: Some(Value::Array(kept)), unknown }
        }
        other => Restored::keep(other.clone()),
    }
}

/// What [`restored`] found.
pub(crate) struct Restored {
    /// None when the whole is taken out.
    pub(crate) value: Option<Value>,
    /// Keys whose sentinel stands for nothing.
    pub(crate) unknown: Vec<String>,
}

impl Restored {
    fn keep(value: Value) -> Self {
        Self { value: Some(value), unknown: Vec::new() }
    }
}

/// The stored item that a list's item is: the one of the same `id`, else the one of the same place.
fn same_item<'a>(stored: &'a Value, index: usize, item: &Value) -> Option<&'a Value> {
    let list = stored.as_array()?;
    match item.get("id") {
        Some(id) => list.iter().find(|stored| stored.get("id") == Some(id)),
        None => list.get(index),
    }
}

/// Lays a merge patch over a value: null takes away, objects merge, lists of objects with ids merge by id, all else
/// replaces. What `replace` names replaces as a whole.
pub(crate) fn merge(target: &mut Value, patch: &Value, path: &str, replace: &[String]) {
    let whole = replace.iter().any(|key| key == path);
    match patch {
        Value::Object(patch) if !whole => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Some(object) = target.as_object_mut() else { return };
            for (key, value) in patch {
                if value.is_null() {
                    object.shift_remove(key);
                } else {
                    merge(object.entry(key.clone()).or_insert(Value::Null), value, &below(path, key), replace);
                }
            }
        }
        Value::Array(items) if !whole && has_ids(items) && target.as_array().is_some_and(|list| has_ids(list)) => {
            let Some(list) = target.as_array_mut() else { return };
            for item in items {
                match list.iter_mut().find(|known| known.get("id") == item.get("id")) {
                    Some(known) => merge(known, item, path, replace),
                    None => list.push(item.clone()),
                }
            }
        }
        other => *target = without_nulls(other),
    }
}

fn has_ids(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|item| item.get("id").is_some_and(Value::is_string))
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        other => other.clone(),
    }
}

/// The keys at which two configurations differ, the deepest that both are objects down to.
#[must_use]
pub fn changed_keys(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differences(before, after, "", &mut found);
    found
}

fn differences(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    let nothing = Map::new();
    match (before.as_object(), after.as_object()) {
        (None, None) if before == after => {}
        (Some(_), None) | (None, Some(_)) if !before.is_null() && !after.is_null() => found.push(path.to_owned()),
        (None, None) => found.push(path.to_owned()),
        (before, after) => {
            let (before, after) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
            let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
            for key in keys {
                let (old, new) = (before.get(key).unwrap_or(&Value::Null), after.get(key).unwrap_or(&Value::Null));
                differences(old, new, &below(path, key), found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_is_below_another_by_whole_parts() {
        for key in ["a.b", "a.b.c", "a.b[0].c"] {
            assert!(is_or_is_below(key, "a.b"), "{key}");
        }
        for key in ["a", "a.bc", "x.a.b", ""] {
            assert!(!is_or_is_below(key, "a.b"), "{key}");
        }
    }

    #[test]
    fn a_patch_merges_and_null_takes_away() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "list": [{"id": "x", "n": 1}, {"id": "y"}], "plain": [1, 2]});
        let patch = json!({
            "a": {"c": null, "d": {"e": null, "f": 3}}, "list": [{"id": "x", "n": 2}, {"id": "z"}], "plain": [3],
        });
        merge(&mut value, &patch, "", &[]);
        assert_eq!(
            value,
            json!({"a": {"b": 1, "d": {"f": 3}}, "list": [{"id": "x", "n": 2}, {"id": "y"}, {"id": "z"}], "plain": [3]})
        );
        merge(&mut value, &json!({"list": [{"id": "q"}], "a": {"n": 1}}), "", &["list".into(), "a".into()]);
        assert_eq!((&value["list"], &value["a"]), (&json!([{"id": "q"}]), &json!({"n": 1})));
    }

    #[test]
    fn sentinels_are_replaced_by_what_is_stored_in_their_place() {
        let stored = json!({"token": "t", "list": [{"id": "x", "key": "kx"}, {"id": "y", "key": "ky"}]});
        let resolved = json!({"token": "t", "env": "e"});
        let given = json!({
            "token": SENTINEL, "env": SENTINEL, "nowhere": SENTINEL,
            "list": [{"id": "y", "key": SENTINEL}, {"id": "new", "key": SENTINEL}],
        });
        let found = restored(&given, Some(&stored), Some(&resolved), "");
        assert_eq!(found.unknown, ["nowhere", "list[1].key"]);
        let value = found.value.unwrap();
        assert_eq!((&value["token"], &value["list"][0]["key"]), (&json!("t"), &json!("ky")));
        assert_eq!(value.get("env"), None, "what the environment says is not written into the file");
    }

    #[test]
    fn differences_name_the_deepest_key() {
        let (before, after) =
            (json!({"a": {"b": 1, "c": [1]}, "x": 1}), json!({"a": {"b": 1, "c": [2]}, "y": {"z": 1}}));
        assert_eq!(changed_keys(&before, &after), ["a.c", "x", "y.z"]);
        assert!(changed_keys(&before, &before).is_empty());
    }

    #[test]
    fn what_is_covered_is_wrong_where_it_is_changed() {
        let issue = |path: &str| SettingsIssue { path: path.into(), message: "is wrong".into() };
        let checked = CheckedSettings {
            issues: vec![issue("")],
            covered: vec![issue("a.b"), issue("a.bc"), issue("a.b.c")],
            ..CheckedSettings::default()
        };
        let wrong = checked.newly_wrong(&["a.b".into()]);
        assert_eq!(settings_refusal(&wrong), "invalid config: <root>: is wrong; a.b: is wrong; a.b.c: is wrong");
        assert_eq!(checked.newly_wrong(&[]), [issue("")]);
    }

    #[test]
    fn an_address_with_a_password_is_a_secret() {
        assert!(holds_login("https://user:pass@host/x"));
        assert!(
            !holds_login("https://host/a:b@c") && !holds_login("user:pass@host") && !holds_login("https://user@host")
        );
    }
}
