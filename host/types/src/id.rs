//! Names of plugins and of their accounts.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// Ids that no plugin may have: the gateway's own methods and events begin with them, and a plugin's begin with its id.
pub const RESERVED_PLUGIN_IDS: [&str; 82] = [
    "agent",
    "agents",
    "approval",
    "artifacts",
    "assistant",
    "attach",
    "audit",
    "board",
    "browser",
    "canvas",
    "channels",
    "chat",
    "claws",
    "commands",
    "computer",
    "config",
    "connect",
    "conversations",
    "cron",
    "desktop",
    "device",
    "diagnostics",
    "doctor",
    "environments",
    "exec",
    "fs",
    "gateway",
    "groups",
    "health",
    "heartbeat",
    "hooks",
    "last-heartbeat",
    "leanclaw",
    "logs",
    "mcp",
    "memory",
    "mentions",
    "message",
    "migrations",
    "models",
    "node",
    "openclaw",
    "operator",
    "plugin",
    "plugins",
    "poll",
    "portal",
    "presence",
    "projects",
    "providers",
    "push",
    "question",
    "secrets",
    "send",
    "session",
    "sessions",
    "set-heartbeats",
    "shutdown",
    "skills",
    "status",
    "system",
    "system-event",
    "system-presence",
    "talk",
    "task",
    "tasks",
    "terminal",
    "themes",
    "tick",
    "tools",
    "transcripts",
    "tts",
    "ui",
    "update",
    "usage",
    "users",
    "voicewake",
    "wake",
    "web",
    "wizard",
    "worker",
    "worktrees",
];

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a valid {what}: use 1 to 64 of a-z, 0-9, `-`, `_`, starting with a letter or digit")]
pub struct InvalidId {
    what: &'static str,
    given: String,
}

fn check(what: &'static str, text: &str) -> Result<(), InvalidId> {
    let good_start = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let good_rest =
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_');
    if good_start && good_rest && text.len() <= MAX_ID_BYTES {
        return Ok(());
    }
    // What was given may be hostile and long: show a short, escaped piece of it.
    let given = text.chars().take(80).collect::<String>().escape_debug().to_string();
    Err(InvalidId { what, given })
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
        #[schemars(transparent)]
        pub struct $name(#[schemars(regex(pattern = r"^[a-z0-9][a-z0-9_-]{0,63}$"))] String);

        impl $name {
            /// Checks and wraps an id.
            ///
            /// # Errors
            /// [`InvalidId`] when the text breaks the rule its message states.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                check($what, &text)?;
                Ok(Self(text))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type!(
    /// A plugin's id: from its manifest, never from a file name.
    PluginId,
    "plugin id"
);
id_type!(
    /// One of a plugin's accounts; settings, kv, secrets, grants and instances are keyed by plugin and account.
    AccountId,
    "account id"
);

impl Default for AccountId {
    /// The account every plugin has.
    fn default() -> Self {
        Self("default".into())
    }
}

/// What an instance belongs to: one plugin and one of its accounts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PluginKey {
    /// The plugin.
    pub plugin: PluginId,
    /// The account.
    pub account: AccountId,
}

impl PluginKey {
    /// The plugin's default account.
    #[must_use]
    pub fn default_account(plugin: PluginId) -> Self {
        Self { plugin, account: AccountId::default() }
    }
}

impl fmt::Display for PluginKey {
    /// `plugin` for the default account, else `plugin/account`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.account == AccountId::default() {
            write!(formatter, "{}", self.plugin)
        } else {
            write!(formatter, "{}/{}", self.plugin, self.account)
        }
    }
}

impl FromStr for PluginKey {
    type Err = InvalidId;

    /// Reads `plugin` or `plugin/account`.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('/') {
            None => Ok(Self::default_account(text.parse()?)),
            Some((plugin, account)) => Ok(Self { plugin: plugin.parse()?, account: account.parse()? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_could_leave_a_folder_or_a_terminal() {
        for bad in ["", "../x", "a/b", "A", "-a", "a b", "a\u{1b}[31m", ".", "\u{e9}", &"a".repeat(65)] {
            assert!(PluginId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "notes", "feed-reader", "9x_", &"a".repeat(64)] {
            assert!(PluginId::new(good).is_ok(), "{good:?}");
        }
        let shown = PluginId::new("a\u{1b}[31m").unwrap_err().to_string();
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn keys_read_back() {
        for text in ["notes", "notes/work"] {
            assert_eq!(text.parse::<PluginKey>().unwrap().to_string(), text);
        }
        assert!("a/b/c".parse::<PluginKey>().is_err());
    }
}
