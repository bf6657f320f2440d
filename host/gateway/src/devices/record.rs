//! What is kept about a device, and what clients are shown of it.

use leanclaw_types::frame::{ClientInfo, ProtocolVersion};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::auth::Role;

/// A device that may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    /// What it said about itself when it was approved.
    #[serde(flatten)]
    pub(crate) about: About,
    /// Roles it was approved for.
    pub(crate) roles: Vec<String>,
    /// Scopes it was approved for.
    pub(crate) scopes: Vec<String>,
    /// What it is good for at most, whatever it was approved for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<Role>,
    /// What it showed when it was paired: `token`, `password`, `loopback` or `user:<name>`. A credential with a name bounds
    /// what the device's own token is good for, and ends it when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paired_by: Option<String>,
    /// A name an admin gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    /// `silent` (it was on this machine) or `owner`.
    pub(crate) approved_via: String,
    pub(crate) created_at_ms: u64,
    pub(crate) approved_at_ms: u64,
    /// One per role.
    pub(crate) tokens: Vec<Token>,
}

/// What a device says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct About {
    pub(crate) device_id: String,
    /// Base64url of the raw key.
    pub(crate) public_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    pub(crate) platform: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device_family: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remote_ip: Option<String>,
}

/// A device's token for one role. The token itself is not kept: it is made from the gateway's key and `salt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Token {
    pub(crate) role: String,
    /// Sorted.
    pub(crate) scopes: Vec<String>,
    /// Another one makes another token.
    pub(crate) salt: String,
    pub(crate) created_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rotated_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at_ms: Option<u64>,
}

impl About {
    pub(crate) fn new(id: &str, public_key: &str, client: &ClientInfo, remote_ip: Option<String>) -> Self {
        Self {
            device_id: id.to_owned(),
            public_key: public_key.to_owned(),
            display_name: client.display_name.clone(),
            platform: client.platform.clone(),
            device_family: client.device_family.clone(),
            client_id: client.id.clone(),
            client_mode: client.mode.clone(),
            remote_ip,
        }
    }
}

impl Device {
    /// The token of a role, unless it was revoked.
    pub(crate) fn token(&self, role: &str) -> Option<&Token> {
        self.tokens.iter().find(|token| token.role == role && token.revoked_at_ms.is_none())
    }

    /// Whether it is one that is asked to do things.
    pub(crate) fn is_node(&self) -> bool {
        self.roles.iter().any(|role| role == "node")
    }

    /// The device as clients of a version are shown it: no salt.
    pub(crate) fn shown(&self, version: ProtocolVersion) -> Value {
        let mut shown = serde_json::to_value(&self.about).unwrap_or_default();
        let tokens: Vec<Value> = self.tokens.iter().map(Token::shown).collect();
        let more = json!({
            "role": self.roles.first(), "roles": self.roles, "scopes": self.scopes, "label": self.label,
            "accessRole": self.access,
            "approvedVia": self.approved_via, "createdAtMs": self.created_at_ms,
            "approvedAtMs": self.approved_at_ms, "tokens": tokens,
        });
        if let (Some(shown), Value::Object(more)) = (shown.as_object_mut(), more) {
            shown.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        for_version(&mut shown, version);
        shown
    }
}

impl Token {
    fn shown(&self) -> Value {
        let mut shown = serde_json::to_value(self).unwrap_or_default();
        if let Some(shown) = shown.as_object_mut() {
            shown.shift_remove("salt");
        }
        shown
    }
}

/// Takes out what a client of that version does not know of a device that is paired.
fn for_version(shown: &mut Value, version: ProtocolVersion) {
    if version == ProtocolVersion::V3
        && let Some(shown) = shown.as_object_mut()
    {
        for name in ["remoteIp", "label", "accessRole", "approvedVia"] {
            shown.shift_remove(name);
        }
    }
}

/// A device that waits for an admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pending {
    pub(crate) request_id: String,
    #[serde(flatten)]
    pub(crate) about: About,
    pub(crate) role: String,
    pub(crate) roles: Vec<String>,
    pub(crate) scopes: Vec<String>,
    /// As [`Device::paired_by`].
    #[serde(skip)]
    pub(crate) by: String,
    /// Whether it would have been let in without asking.
    pub(crate) silent: bool,
    /// Whether the device is known already and wants more or has changed.
    pub(crate) is_repair: bool,
    /// When it asked first.
    pub(crate) ts: u64,
}
