//! The allowlist files of the TypeScript LeanClaw: `sender-allowlist.json` says who may wake an agent in which chat,
//! `mount-allowlist.json` which folders of the machine a group may be given.
//!
//! A file is read whole or not at all: what is wrong in it is named, and nobody is let in because of a mistake.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The largest file, in bytes.
pub const MAX_ALLOWLIST_BYTES: usize = 1024 * 1024;

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowlistError {
    /// It is larger than [`MAX_ALLOWLIST_BYTES`].
    #[error("it has {0} bytes; the limit is {MAX_ALLOWLIST_BYTES}")]
    TooLarge(usize),
    /// It is not JSON, or not of the right shape.
    #[error("{0}")]
    Shape(String),
    /// A text in it is empty or holds a NUL.
    #[error("`{field}` is empty or holds a NUL")]
    Text {
        /// Where it stands.
        field: String,
    },
}

/// Who may wake an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SenderAllowlist {
    /// What holds in a chat that has no rule of its own.
    pub default: SenderRule,
    /// Rules by chat.
    #[serde(default)]
    pub chats: BTreeMap<String, SenderRule>,
    /// Whether a refusal is logged.
    #[serde(default = "yes")]
    pub log_denied: bool,
}

/// The rule of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenderRule {
    /// Who is allowed.
    pub allow: Senders,
    /// What becomes of a message of somebody else.
    pub mode: SenderMode,
}

/// Some senders, or all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Senders {
    /// These, by id.
    Only(Vec<String>),
    /// `"*"`: everyone.
    Everyone(Star),
}

/// The text `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Star {
    /// Itself.
    #[serde(rename = "*")]
    Star,
}

/// What becomes of a message of a sender who is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SenderMode {
    /// It is kept, and wakes nobody.
    Trigger,
    /// It is not kept.
    Drop,
}

/// Which folders of the machine a group may be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountAllowlist {
    /// The folders below which there may be mounts.
    pub allowed_roots: Vec<MountRoot>,
    /// Texts that no part of a mounted path may hold, beside those that are always refused.
    pub blocked_patterns: Vec<String>,
    /// Whether groups other than the main one may only read.
    pub non_main_read_only: bool,
}

/// A folder below which there may be mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountRoot {
    /// The folder; `~` is the home.
    pub path: String,
    /// Whether a mount may be written to.
    #[serde(default)]
    pub allow_read_write: bool,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

fn yes() -> bool {
    true
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, AllowlistError> {
    if text.len() > MAX_ALLOWLIST_BYTES {
        return Err(AllowlistError::TooLarge(text.len()));
    }
    serde_json::from_str(text).map_err(|error| AllowlistError::Shape(error.to_string()))
}

fn check<'a>(field: &str, texts: impl IntoIterator<Item = &'a String>) -> Result<(), AllowlistError> {
    let bad = texts.into_iter().any(|text| text.trim().is_empty() || text.contains('\0'));
    if bad { Err(AllowlistError::Text { field: field.to_owned() }) } else { Ok(()) }
}

impl SenderAllowlist {
    /// Reads the text of `sender-allowlist.json`.
    ///
    /// # Errors
    /// [`AllowlistError`]: nothing of it is to be used then.
    pub fn read(text: &str) -> Result<Self, AllowlistError> {
        let list: Self = parse(text)?;
        check("chats", list.chats.keys())?;
        for (chat, rule) in list.chats.iter().map(|(chat, rule)| (chat.as_str(), rule)).chain([("", &list.default)]) {
            if let Senders::Only(senders) = &rule.allow {
                let field = if chat.is_empty() { "default.allow".to_owned() } else { format!("chats.{chat}.allow") };
                check(&field, senders)?;
            }
        }
        Ok(list)
    }

    /// Whether a sender may wake the agent in a chat.
    #[must_use]
    pub fn allows(&self, chat: &str, sender: &str) -> bool {
        match &self.chats.get(chat).unwrap_or(&self.default).allow {
            Senders::Everyone(_) => true,
            Senders::Only(senders) => senders.iter().any(|allowed| allowed == sender),
        }
    }
}

impl MountAllowlist {
    /// Reads the text of `mount-allowlist.json`.
    ///
    /// # Errors
    /// [`AllowlistError`]: nothing of it is to be used then.
    pub fn read(text: &str) -> Result<Self, AllowlistError> {
        let list: Self = parse(text)?;
        check("allowedRoots", list.allowed_roots.iter().map(|root| &root.path))?;
        check("blockedPatterns", &list.blocked_patterns)?;
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_original_are_read() {
        let text = r#"{ "default": { "allow": "*", "mode": "trigger" },
            "chats": { "chat-id": { "allow": ["alice"], "mode": "drop" } }, "logDenied": true }"#;
        let list = SenderAllowlist::read(text).unwrap();
        assert!(list.allows("chat-id", "alice") && !list.allows("chat-id", "bob") && list.allows("other", "bob"));
        let again = serde_json::to_string(&list).unwrap();
        assert_eq!(SenderAllowlist::read(&again).unwrap(), list);
        let text = r#"{ "allowedRoots": [ { "path": "~/projects", "allowReadWrite": true, "description": "Dev" } ],
            "blockedPatterns": ["password"], "nonMainReadOnly": true }"#;
        let list = MountAllowlist::read(text).unwrap();
        assert_eq!(MountAllowlist::read(&serde_json::to_string(&list).unwrap()).unwrap(), list);
    }

    #[test]
    fn a_mistake_lets_nobody_in() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"default": {"allow": "alice", "mode": "trigger"}}"#,
            r#"{"default": {"allow": "*", "mode": "open"}}"#,
            r#"{"default": {"allow": [""], "mode": "drop"}}"#,
            r#"{"default": {"allow": "*", "mode": "drop"}, "chats": {"a": 1}}"#,
            r#"{"default": {"allow": "*", "mode": "drop"}, "chat": {}}"#,
            r#"{"default": {"allow": "*", "mode": "drop"}, "chats": {"a": {"allow": ["b\u0000"], "mode": "drop"}}}"#,
        ] {
            assert!(SenderAllowlist::read(text).is_err(), "{text}");
        }
        for text in [
            r#"{"allowedRoots": [], "blockedPatterns": []}"#,
            r#"{"allowedRoots": [{"path": ""}], "blockedPatterns": [], "nonMainReadOnly": true}"#,
        ] {
            assert!(MountAllowlist::read(text).is_err(), "{text}");
        }
        let large = format!("{{\"default\": {{}}, \"x\": \"{}\"}}", "x".repeat(MAX_ALLOWLIST_BYTES));
        assert!(matches!(SenderAllowlist::read(&large), Err(AllowlistError::TooLarge(_))));
    }
}
