//! What a manifest asks for, as far as a test host holds the plugin to it.

use serde::Deserialize;

use crate::failure::Failure;

const DEFAULT_KV_QUOTA_BYTES: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    permissions: Permissions,
}

/// The `permissions` of a manifest.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Permissions {
    http: Vec<String>,
    private_http: Vec<String>,
    secrets: Vec<SecretUse>,
    kv: Option<KvPermission>,
    events: Vec<String>,
    inbox: bool,
}

#[derive(Debug, Deserialize)]
struct SecretUse {
    name: String,
    #[serde(default)]
    hmac: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KvPermission {
    #[serde(default = "default_kv_quota_bytes")]
    quota_bytes: u64,
}

fn default_kv_quota_bytes() -> u64 {
    DEFAULT_KV_QUOTA_BYTES
}

impl Permissions {
    pub(super) fn of_manifest(text: &str) -> Result<Self, Failure> {
        let manifest: Manifest = serde_json::from_str(text)
            .map_err(|error| Failure::invalid_input(format!("The manifest does not parse: {error}.")))?;
        Ok(manifest.permissions)
    }

    pub(super) fn kv_quota_bytes(&self) -> u64 {
        self.kv.as_ref().map_or(0, |kv| kv.quota_bytes)
    }

    pub(super) fn kv(&self) -> Result<(), Failure> {
        asked(self.kv.is_some(), r#""kv": {"quotaBytes": 1048576}"#)
    }

    pub(super) fn inbox(&self) -> Result<(), Failure> {
        asked(self.inbox, r#""inbox": true"#)
    }

    pub(super) fn event(&self, name: &str) -> Result<(), Failure> {
        asked(self.events.iter().any(|event| event == name), &format!(r#""events": ["{name}"]"#))
    }

    pub(super) fn hmac(&self, name: &str) -> Result<(), Failure> {
        let found = self.secrets.iter().any(|secret| secret.hmac && secret.name == name);
        asked(found, &format!(r#""secrets": [{{"name": "{name}", "hmac": true}}]"#))
    }

    pub(super) fn http(&self, url: &str) -> Result<(), Failure> {
        let found = Origin::of_url(url).is_some_and(|origin| {
            self.http.iter().chain(&self.private_http).any(|pattern| origin.is_covered_by(pattern))
        });
        asked(found, &format!(r#""http": [...] with the host of {url}"#))
    }
}

fn asked(found: bool, declare: &str) -> Result<(), Failure> {
    if found {
        return Ok(());
    }
    Err(Failure::denied(format!("The manifest does not ask for this: add {declare} to its `permissions`.")))
}

/// Scheme, host and port of a URL.
struct Origin {
    scheme: String,
    host: String,
    port: String,
}

impl Origin {
    fn of_url(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        Some(Self::new(scheme, authority))
    }

    fn new(scheme: &str, authority: &str) -> Self {
        let scheme = scheme.to_ascii_lowercase();
        // An IPv6 address holds colons itself and stands in brackets.
        let port_follows =
            authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let (host, port) = port_follows.unwrap_or((authority, if scheme == "http" { "80" } else { "443" }));
        Self { host: host.to_ascii_lowercase(), port: port.to_owned(), scheme }
    }

    fn is_covered_by(&self, pattern: &str) -> bool {
        let (scheme, authority) = pattern.split_once("://").unwrap_or(("https", pattern));
        let allowed = Self::new(scheme, authority);
        let host_fits = match allowed.host.strip_prefix('*') {
            None => allowed.host == self.host,
            Some("") => true,
            Some(parent) => self.host.ends_with(parent) && self.host.len() > parent.len(),
        };
        host_fits && allowed.scheme == self.scheme && allowed.port == self.port
    }
}
