//! The `plugins` section of the configuration file: which plugins may be loaded and with what settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use leanclaw_types::{AccountId, PluginId, PluginKey};
use serde_json::{Map, Value};

/// Which plugins are loaded, from where, with what settings.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginsConfig {
    /// The folder that holds them; absolute.
    pub dir: PathBuf,
    /// Whether any plugin is loaded.
    pub enabled: bool,
    /// When not empty, the only plugins that are loaded.
    pub allow: Vec<PluginId>,
    /// Plugins that are never loaded.
    pub deny: Vec<PluginId>,
    /// What is said about single plugins.
    pub entries: BTreeMap<PluginId, PluginEntry>,
}

impl PluginsConfig {
    /// The keys of the configuration file at which the two differ, apart from the folder.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let Self { dir: _, enabled, allow, deny, entries } = self;
        let lists = [
            ("plugins.enabled", *enabled != other.enabled),
            ("plugins.allow", *allow != other.allow),
            ("plugins.deny", *deny != other.deny),
        ];
        let ids: BTreeSet<&PluginId> = entries.keys().chain(other.entries.keys()).collect();
        let differ = ids.into_iter().filter(|id| entries.get(id) != other.entries.get(id));
        let lists = lists.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned());
        lists.chain(differ.map(|id| format!("plugins.entries.{id}"))).collect()
    }
}

/// What is said about one plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginEntry {
    /// Whether it is loaded.
    pub enabled: bool,
    /// Its settings, an object.
    pub config: Map<String, Value>,
    /// Settings of its accounts, each an object laid over `config`.
    pub accounts: BTreeMap<AccountId, Map<String, Value>>,
    /// Accounts that are not loaded.
    pub stopped: BTreeSet<AccountId>,
}

impl Default for PluginEntry {
    fn default() -> Self {
        Self { enabled: true, config: Map::new(), accounts: BTreeMap::new(), stopped: BTreeSet::new() }
    }
}

impl PluginsConfig {
    /// Why the configuration keeps this account of a plugin from being loaded and what to change; none when it does not.
    #[must_use]
    pub fn refusal(&self, key: &PluginKey) -> Option<String> {
        let PluginKey { plugin, account } = key;
        if !self.enabled {
            return Some("`plugins.enabled` is false in the configuration; remove it or set it to true".to_owned());
        }
        if self.deny.contains(plugin) {
            return Some(format!("`plugins.deny` in the configuration names `{plugin}`; take it out of that list"));
        }
        if self.entries.get(plugin).is_some_and(|entry| entry.stopped.contains(account)) {
            let key = format!("plugins.entries.{plugin}.accounts.{account}.enabled");
            return Some(format!("`{key}` is false in the configuration: this account is stopped; set it to true"));
        }
        if self.entries.get(plugin).is_some_and(|entry| !entry.enabled) {
            return Some(format!("`plugins.entries.{plugin}.enabled` is false in the configuration; set it to true"));
        }
        if !self.allow.is_empty() && !self.allow.contains(plugin) {
            return Some(format!(
                "`plugins.allow` in the configuration lists other plugins only; add `{plugin}` to that list"
            ));
        }
        None
    }

    /// The accounts of a plugin: the default one, then those its entry names.
    #[must_use]
    pub fn accounts(&self, plugin: &PluginId) -> Vec<AccountId> {
        let mut accounts = vec![AccountId::default()];
        if let Some(entry) = self.entries.get(plugin) {
            accounts.extend(entry.accounts.keys().filter(|name| **name != AccountId::default()).cloned());
        }
        accounts
    }

    /// The settings of one account: the plugin's, with the account's own laid over them, field by field. Not yet
    /// checked against the plugin's `configSchema`.
    #[must_use]
    pub fn settings(&self, key: &PluginKey) -> Map<String, Value> {
        let Some(entry) = self.entries.get(&key.plugin) else { return Map::new() };
        let mut settings = entry.config.clone();
        if let Some(own) = entry.accounts.get(&key.account) {
            settings.extend(own.clone());
        }
        settings
    }
}

/// What is wrong at one key: the key, the value found there, what is expected.
pub(crate) type Wrong = (String, Value, String);

/// The section as read; keys that are not part of it go to `unknown`.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) enabled: Option<bool>,
    pub(crate) allow: Vec<PluginId>,
    pub(crate) deny: Vec<PluginId>,
    pub(crate) entries: BTreeMap<PluginId, PluginEntry>,
    pub(crate) wrong: Vec<Wrong>,
    pub(crate) unknown: Vec<String>,
}

impl Section {
    /// Reads what has no variable from the value of the key `plugins`; returns what it did not look at.
    pub(crate) fn read(&mut self, plugins: &Map<String, Value>) -> Map<String, Value> {
        let mut rest = Map::new();
        for (key, value) in plugins {
            match key.as_str() {
                "enabled" => self.enabled = self.truth("plugins.enabled", value),
                "allow" => self.allow = self.ids("plugins.allow", value),
                "deny" => self.deny = self.ids("plugins.deny", value),
                "entries" => self.read_entries(value),
                _ => drop(rest.insert(key.clone(), value.clone())),
            }
        }
        rest
    }

    fn read_entries(&mut self, value: &Value) {
        let Some(entries) = self.object("plugins.entries", value) else { return };
        for (name, value) in entries {
            let path = format!("plugins.entries.{}", name.escape_debug());
            match PluginId::new(name.clone()) {
                Ok(id) => {
                    let entry = self.entry(&path, value);
                    self.entries.insert(id, entry);
                }
                Err(error) => self.wrong.push((path, Value::String(name.clone()), format!("a plugin id: {error}"))),
            }
        }
    }

    fn entry(&mut self, path: &str, value: &Value) -> PluginEntry {
        let mut entry = PluginEntry::default();
        for (key, value) in self.object(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.escape_debug());
            match key.as_str() {
                "enabled" => entry.enabled = self.truth(&path, value).unwrap_or(true),
                "config" => entry.config = self.object(&path, value).cloned().unwrap_or_default(),
                "accounts" => (entry.accounts, entry.stopped) = self.accounts(&path, value),
                _ => self.unknown.push(path),
            }
        }
        entry
    }

    /// The settings of accounts, and which of them are stopped.
    fn accounts(
        &mut self,
        path: &str,
        value: &Value,
    ) -> (BTreeMap<AccountId, Map<String, Value>>, BTreeSet<AccountId>) {
        let (mut accounts, mut stopped) = (BTreeMap::new(), BTreeSet::new());
        for (name, value) in self.object(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", name.escape_debug());
            let account = match AccountId::new(name.clone()) {
                Ok(account) => account,
                Err(error) => {
                    self.wrong.push((path, Value::String(name.clone()), format!("an account id: {error}")));
                    continue;
                }
            };
            let mut config = Map::new();
            for (key, value) in self.object(&path, value).into_iter().flatten() {
                let path = format!("{path}.{}", key.escape_debug());
                match key.as_str() {
                    "config" => config = self.object(&path, value).cloned().unwrap_or_default(),
                    "enabled" if self.truth(&path, value) == Some(false) => drop(stopped.insert(account.clone())),
                    "enabled" => {}
                    _ => self.unknown.push(path),
                }
            }
            accounts.insert(account, config);
        }
        (accounts, stopped)
    }

    fn truth(&mut self, path: &str, value: &Value) -> Option<bool> {
        if value.as_bool().is_none() {
            self.wrong.push((path.to_owned(), value.clone(), "`true` or `false`".to_owned()));
        }
        value.as_bool()
    }

    fn object<'a>(&mut self, path: &str, value: &'a Value) -> Option<&'a Map<String, Value>> {
        if value.as_object().is_none() {
            self.wrong.push((path.to_owned(), value.clone(), "an object, `{ ... }`".to_owned()));
        }
        value.as_object()
    }

    fn ids(&mut self, path: &str, value: &Value) -> Vec<PluginId> {
        let Some(list) = value.as_array() else {
            self.wrong.push((path.to_owned(), value.clone(), "a list of plugin ids, `[\"a\", \"b\"]`".to_owned()));
            return Vec::new();
        };
        let mut ids = Vec::new();
        for (index, value) in list.iter().enumerate() {
            match value.as_str().map(PluginId::new) {
                Some(Ok(id)) => ids.push(id),
                Some(Err(error)) => {
                    self.wrong.push((format!("{path}[{index}]"), value.clone(), format!("a plugin id: {error}")));
                }
                None => {
                    self.wrong.push((format!("{path}[{index}]"), value.clone(), "a plugin id as a text".to_owned()))
                }
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(section: Value) -> PluginsConfig {
        let mut read = Section::default();
        let rest = read.read(section.as_object().unwrap());
        assert!(rest.is_empty() && read.wrong.is_empty() && read.unknown.is_empty(), "{read:?} {rest:?}");
        PluginsConfig {
            dir: "/plugins".into(),
            enabled: read.enabled.unwrap_or(true),
            allow: read.allow,
            deny: read.deny,
            entries: read.entries,
        }
    }

    fn id(text: &str) -> PluginId {
        text.parse().unwrap()
    }

    fn key(text: &str) -> PluginKey {
        text.parse().unwrap()
    }

    #[test]
    fn two_sections_differ_by_the_keys_that_a_person_would_look_at() {
        let before =
            config(json!({"allow": ["a", "b"], "entries": {"a": {"config": {"x": 1}}, "b": {"enabled": false}}}));
        assert_eq!(before.differences(&before), Vec::<String>::new());
        let now = config(
            json!({"deny": ["c"], "enabled": false, "entries": {"a": {"config": {"x": 2}}, "c": {"enabled": false}}}),
        );
        let lists = ["plugins.enabled", "plugins.allow", "plugins.deny"];
        let entries = ["plugins.entries.a", "plugins.entries.b", "plugins.entries.c"];
        assert_eq!(now.differences(&before), [lists, entries].concat());
        assert_eq!(before.differences(&now), [lists, entries].concat());
        let moved = PluginsConfig { dir: "/elsewhere".into(), ..before.clone() };
        assert_eq!(moved.differences(&before), Vec::<String>::new());
    }

    #[test]
    fn every_way_to_keep_a_plugin_out_names_its_key() {
        assert_eq!(config(json!({})).refusal(&key("a")), None);
        for (section, name) in [
            (json!({"enabled": false}), "plugins.enabled"),
            (json!({"deny": ["a"], "allow": ["a"]}), "plugins.deny"),
            (json!({"entries": {"a": {"enabled": false}}, "allow": ["a"]}), "plugins.entries.a.enabled"),
            (json!({"allow": ["b"]}), "plugins.allow"),
        ] {
            let refusal = config(section).refusal(&key("a")).unwrap();
            assert!(refusal.contains(name), "{refusal}");
        }
        assert_eq!(config(json!({"allow": ["a"], "deny": ["b"]})).refusal(&key("a")), None);
    }

    #[test]
    fn one_account_can_be_stopped_and_the_others_are_not() {
        let accounts = json!({"work": {"enabled": false, "config": {"x": 1}}, "home": {"enabled": true}});
        let config = config(json!({"entries": {"a": {"accounts": accounts}}}));
        let refusal = config.refusal(&key("a/work")).unwrap();
        assert!(refusal.contains("`plugins.entries.a.accounts.work.enabled`"), "{refusal}");
        assert_eq!((config.refusal(&key("a")), config.refusal(&key("a/home"))), (None, None));
        assert_eq!(config.settings(&key("a/work"))["x"], 1, "it keeps its settings");
    }

    #[test]
    fn an_account_lays_its_settings_over_the_plugins() {
        let config = config(json!({"entries": {"a": {
            "config": {"x": 1, "y": {"deep": 1}},
            "accounts": {"work": {"config": {"y": 2}}, "default": {}}
        }}}));
        let settings = |key: &str| Value::Object(config.settings(&key.parse().unwrap()));
        assert_eq!(settings("a"), json!({"x": 1, "y": {"deep": 1}}));
        assert_eq!(settings("a/work"), json!({"x": 1, "y": 2}));
        assert_eq!(settings("b"), json!({}));
        let accounts: Vec<_> = config.accounts(&id("a")).iter().map(ToString::to_string).collect();
        assert_eq!(accounts, ["default", "work"]);
    }

    #[test]
    fn wrong_and_unknown_parts_are_named_and_the_rest_is_kept() {
        let section = json!({"allow": ["ok", "../x", 3], "entries": {"A!": {}, "b": {"enabeld": false, "config": []}, "c": {"config": {"k": 1}}}});
        let mut read = Section::default();
        read.read(section.as_object().unwrap());
        let wrong: Vec<_> = read.wrong.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(wrong, ["plugins.allow[1]", "plugins.allow[2]", "plugins.entries.A!", "plugins.entries.b.config"]);
        assert_eq!(read.unknown, ["plugins.entries.b.enabeld"]);
        assert_eq!(read.entries[&id("c")].config["k"], 1);
    }
}
