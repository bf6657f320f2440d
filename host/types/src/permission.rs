//! What a plugin asks for and what an admin gave it: the same shape for both, so that they can be compared.
//!
//! A permission does nothing until it is granted. One permission has one text form (`http:https://api.example.com`),
//! used by the CLI, the audit log and every denial.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::net::{HostPattern, Placement, SecretRule};

/// The rights of one plugin: requested in its manifest, granted by an admin. The default has no right at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Permissions {
    /// Hosts the plugin may call over HTTP: `https://api.example.com`, `*.example.com`, `http://example.com:8080`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub http: Vec<HostPattern>,
    /// Hosts that may resolve to private or loopback addresses. Metadata addresses stay refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub private_http: Vec<HostPattern>,
    /// Hosts the host may keep a WebSocket open to on the plugin's behalf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub sockets: Vec<HostPattern>,
    /// Secrets the host uses on the plugin's behalf; their values never reach it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
    /// A key-value store of the plugin's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<KvPermission>,
    /// Gateway events the plugin may emit, as `<plugin>.<name>`; each entry is the `<name>` part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Whether the plugin may hand in messages that people wrote.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inbox: bool,
    /// Whether the host polls on the plugin's behalf (`poll`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub poll: bool,
    /// Whether `/plugins/<id>/hook/` reaches the plugin.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub webhook: bool,
    /// Whether `/plugins/<id>/http/` reaches the plugin (`wasi:http/incoming-handler`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub http_routes: bool,
    /// Hook events the plugin may see and veto: before-run, message-received, before-tool-call, after-tool-call,
    /// before-send, authorize.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<String>,
    /// Bounds above the host's defaults. In a manifest they stand in its own `limits`.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    #[schemars(skip)]
    pub limits: Limits,
}

/// The hook events there are.
pub const HOOKS: [&str; 6] =
    ["before-run", "message-received", "before-tool-call", "after-tool-call", "before-send", "authorize"];

/// A key-value store with a size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KvPermission {
    /// The most bytes that keys and values may take together.
    #[serde(default = "default_kv_quota_bytes")]
    pub quota_bytes: u64,
}

fn default_kv_quota_bytes() -> u64 {
    1024 * 1024
}

/// One secret and the one place it may be used in: exactly one of `header`, `query`, `path`, or `hmac`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretUse {
    /// The secret's name, as in `{{secret:NAME}}`.
    pub name: String,
    /// The host it may be sent to; needed with `header`, `query` and `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub host: Option<HostPattern>,
    /// The request header it may stand in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The query parameter it may stand in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Whether it may stand in the path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub path: bool,
    /// Whether the plugin may have the host sign and verify with it (HMAC-SHA256).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hmac: bool,
}

impl SecretUse {
    /// The egress rule this use stands for; none when it is for HMAC.
    #[must_use]
    pub fn rule(&self) -> Option<SecretRule> {
        let host = self.host.clone()?;
        let placement = match (&self.header, &self.query, self.path) {
            (Some(header), None, false) => Placement::Header(header.to_ascii_lowercase()),
            (None, Some(query), false) => Placement::Query(query.clone()),
            (None, None, true) => Placement::Path,
            _ => return None,
        };
        Some(SecretRule { name: self.name.clone(), host, placement })
    }

    /// What is wrong with this declaration, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let valid_name = !self.name.is_empty()
            && self.name.len() <= 64
            && self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !valid_name {
            let shown = self.name.chars().take(80).collect::<String>().escape_debug().to_string();
            return Some(format!("secret name `{shown}`: use 1 to 64 of A-Z, a-z, 0-9, `-`, `_`, `.`"));
        }
        let places = [self.header.is_some(), self.query.is_some(), self.path, self.hmac];
        if places.iter().filter(|chosen| **chosen).count() != 1 {
            return Some(format!("secret `{}`: name exactly one of `header`, `query`, `path`, `hmac`", self.name));
        }
        if self.hmac != self.host.is_none() {
            return Some(format!(
                "secret `{}`: `host` goes with `header`, `query` and `path`, not with `hmac`",
                self.name
            ));
        }
        None
    }
}

impl fmt::Display for SecretUse {
    /// `NAME@hmac`, `NAME@HOST/header=X`, `NAME@HOST/query=X`, `NAME@HOST/path`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@", self.name)?;
        let Some(host) = &self.host else { return formatter.write_str("hmac") };
        match (&self.header, &self.query) {
            (Some(header), _) => write!(formatter, "{host}/header={header}"),
            (None, Some(query)) => write!(formatter, "{host}/query={query}"),
            (None, None) => write!(formatter, "{host}/path"),
        }
    }
}

/// What an admin gives or takes back: everything, or single permissions in their text form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GrantChange {
    /// All that the manifest asks for (grant), or all that was granted (revoke).
    pub all: bool,
    /// Text forms, such as `http:https://api.example.com`, `kv`, `inbox`.
    pub items: Vec<String>,
}

impl Permissions {
    /// Every permission in its text form, sorted.
    #[must_use]
    pub fn items(&self) -> BTreeSet<String> {
        let mut items = BTreeSet::new();
        items.extend(self.http.iter().map(|host| format!("http:{host}")));
        items.extend(self.private_http.iter().map(|host| format!("private-http:{host}")));
        items.extend(self.sockets.iter().map(|host| format!("socket:{host}")));
        items.extend(self.secrets.iter().map(|secret| format!("secret:{secret}")));
        items.extend(self.kv.iter().map(|kv| format!("kv:{}", kv.quota_bytes)));
        items.extend(self.events.iter().map(|event| format!("event:{event}")));
        items.extend(self.hooks.iter().map(|hook| format!("hook:{hook}")));
        items.extend(self.limits.items());
        for (name, asked) in
            [("inbox", self.inbox), ("poll", self.poll), ("webhook", self.webhook), ("http-routes", self.http_routes)]
        {
            if asked {
                items.insert(name.to_owned());
            }
        }
        items
    }

    /// What `self` asks for and `granted` does not hold, in text form. A smaller kv quota or limit is covered by a larger one.
    #[must_use]
    pub fn missing_from(&self, granted: &Self) -> Vec<String> {
        let held = granted.items();
        let kv_is_covered = match (&self.kv, &granted.kv) {
            (Some(asked), Some(given)) => given.quota_bytes >= asked.quota_bytes,
            (asked, _) => asked.is_none(),
        };
        Self { limits: Limits::default(), ..self.clone() }
            .items()
            .into_iter()
            .filter(|item| if item.starts_with("kv:") { !kv_is_covered } else { !held.contains(item) })
            .chain(self.limits.missing_from(&granted.limits))
            .collect()
    }

    /// What both hold: a plugin never gets a right its manifest does not ask for, whatever was granted before.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        fn both<T: Clone + PartialEq>(left: &[T], right: &[T]) -> Vec<T> {
            left.iter().filter(|item| right.contains(item)).cloned().collect()
        }
        Self {
            http: both(&self.http, &other.http),
            private_http: both(&self.private_http, &other.private_http),
            sockets: both(&self.sockets, &other.sockets),
            secrets: both(&self.secrets, &other.secrets),
            kv: match (&self.kv, &other.kv) {
                (Some(left), Some(right)) => {
                    Some(KvPermission { quota_bytes: left.quota_bytes.min(right.quota_bytes) })
                }
                _ => None,
            },
            events: both(&self.events, &other.events),
            inbox: self.inbox && other.inbox,
            poll: self.poll && other.poll,
            webhook: self.webhook && other.webhook,
            http_routes: self.http_routes && other.http_routes,
            hooks: both(&self.hooks, &other.hooks),
            limits: self.limits.intersection(&other.limits),
        }
    }

    /// The part of `self` whose text form `keep` accepts.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self {
            http: self.http.iter().filter(|host| keep(&format!("http:{host}"))).cloned().collect(),
            private_http: self
                .private_http
                .iter()
                .filter(|host| keep(&format!("private-http:{host}")))
                .cloned()
                .collect(),
            sockets: self.sockets.iter().filter(|host| keep(&format!("socket:{host}"))).cloned().collect(),
            secrets: self.secrets.iter().filter(|secret| keep(&format!("secret:{secret}"))).cloned().collect(),
            kv: self.kv.clone().filter(|kv| keep(&format!("kv:{}", kv.quota_bytes)) || keep("kv")),
            events: self.events.iter().filter(|event| keep(&format!("event:{event}"))).cloned().collect(),
            inbox: self.inbox && keep("inbox"),
            poll: self.poll && keep("poll"),
            webhook: self.webhook && keep("webhook"),
            http_routes: self.http_routes && keep("http-routes"),
            hooks: self.hooks.iter().filter(|hook| keep(&format!("hook:{hook}"))).cloned().collect(),
            limits: self.limits.filtered(&keep),
        }
    }

    /// Everything `self` holds and everything `other` holds.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        fn either<T: Clone + PartialEq>(left: &[T], right: &[T]) -> Vec<T> {
            let mut all = left.to_vec();
            all.extend(right.iter().filter(|item| !left.contains(item)).cloned());
            all
        }
        Self {
            http: either(&self.http, &other.http),
            private_http: either(&self.private_http, &other.private_http),
            sockets: either(&self.sockets, &other.sockets),
            secrets: either(&self.secrets, &other.secrets),
            kv: match (&self.kv, &other.kv) {
                (Some(left), Some(right)) => {
                    Some(KvPermission { quota_bytes: left.quota_bytes.max(right.quota_bytes) })
                }
                (left, right) => left.clone().or_else(|| right.clone()),
            },
            events: either(&self.events, &other.events),
            inbox: self.inbox || other.inbox,
            poll: self.poll || other.poll,
            webhook: self.webhook || other.webhook,
            http_routes: self.http_routes || other.http_routes,
            hooks: either(&self.hooks, &other.hooks),
            limits: self.limits.union(&other.limits),
        }
    }

    /// Everything that is wrong with the declarations, one line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.secrets.iter().filter_map(SecretUse::problem).collect();
        for event in &self.events {
            let good = !event.is_empty()
                && event.len() <= 64
                && event.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
            if !good {
                let shown = event.chars().take(80).collect::<String>().escape_debug().to_string();
                problems.push(format!("event `{shown}`: use 1 to 64 of A-Z, a-z, 0-9, `-`, `_`, `.`"));
            }
        }
        for hook in self.hooks.iter().filter(|hook| !HOOKS.contains(&hook.as_str())) {
            let shown = hook.chars().take(80).collect::<String>().escape_debug().to_string();
            problems.push(format!("there is no hook `{shown}`; there are: {}", HOOKS.join(", ")));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn permissions(value: serde_json::Value) -> Permissions {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_missing_is_named_in_the_form_that_grants_it() {
        let asked = permissions(json!({
            "http": ["https://api.example.com"], "kv": {"quotaBytes": 100}, "inbox": true,
            "secrets": [{"name": "key", "hmac": true}]
        }));
        assert_eq!(
            asked.missing_from(&Permissions::default()),
            ["http:https://api.example.com", "inbox", "kv:100", "secret:key@hmac"]
        );
        assert!(asked.missing_from(&asked).is_empty());
        let larger = permissions(json!({"kv": {"quotaBytes": 200}}));
        assert!(!asked.missing_from(&larger).iter().any(|item| item.starts_with("kv")));
    }

    #[test]
    fn an_unknown_hook_is_refused_with_those_there_are() {
        let problems = permissions(json!({"hooks": ["before-send", "before-sent\u{1b}"]})).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        for part in ["`before-sent\\u{1b}`", "before-run", "message-received", "before-tool-call", "after-tool-call"] {
            assert!(problems[0].contains(part), "{part}: {problems:?}");
        }
        assert!(permissions(json!({"hooks": HOOKS})).problems().is_empty());
    }

    #[test]
    fn an_unknown_permission_is_refused_by_name() {
        let error = serde_json::from_value::<Permissions>(json!({"filesystem": true})).unwrap_err().to_string();
        assert!(error.contains("filesystem") && error.contains("privateHttp"), "{error}");
    }

    #[test]
    fn a_grant_never_exceeds_the_request() {
        let asked = permissions(json!({"http": ["https://a.example"], "kv": {"quotaBytes": 10}}));
        let given = permissions(
            json!({"http": ["https://a.example", "https://b.example"], "kv": {"quotaBytes": 99}, "inbox": true}),
        );
        assert_eq!(asked.intersection(&given), asked);
    }

    #[test]
    fn a_secret_names_one_place() {
        for (value, good) in [
            (json!({"name": "k", "hmac": true}), true),
            (json!({"name": "k", "host": "https://a.example", "header": "authorization"}), true),
            (json!({"name": "k", "host": "https://a.example"}), false),
            (json!({"name": "k", "header": "authorization"}), false),
            (json!({"name": "k", "host": "https://a.example", "hmac": true}), false),
            (json!({"name": "k}}", "hmac": true}), false),
        ] {
            let secret: SecretUse = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(secret.problem().is_none(), good, "{value}");
        }
    }
}
