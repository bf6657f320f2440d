//! Bounds of one plugin: what holds without a word, what may be asked for, and what of that is a right.
//!
//! A manifest may lower its bounds freely. What it asks for beyond a default costs the machine of the admin, so it is a
//! permission like any other (`limit:memoryMib=256`): without the grant the default holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Default of [`Limits::memory_mib`].
pub const DEFAULT_MEMORY_MIB: u32 = 64;
/// Default of [`Limits::call_timeout_ms`].
pub const DEFAULT_CALL_TIMEOUT_MS: u64 = 30_000;
/// Default of [`Limits::concurrency`].
pub const DEFAULT_CONCURRENCY: u32 = 16;
/// Default of [`Limits::host_calls`].
pub const DEFAULT_HOST_CALLS: u32 = 1000;
/// Default of [`Limits::http_requests_per_minute`].
pub const DEFAULT_HTTP_REQUESTS_PER_MINUTE: u32 = 120;
/// Default of [`Limits::http_response_kib`].
pub const DEFAULT_HTTP_RESPONSE_KIB: u32 = 8192;

/// Bounds of one plugin. An absent one has the host's default; one above its default holds only when an admin granted it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory of one instance, in MiB. Default 64, at most 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub memory_mib: Option<u32>,
    /// Longest time for one call, in milliseconds. Default 30000, at most 300000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 300_000))]
    pub call_timeout_ms: Option<u64>,
    /// Calls that may run at once. Default 16, at most 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<u32>,
    /// Calls of host functions that one call may make. Default 1000, at most 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub host_calls: Option<u32>,
    /// Outgoing HTTP requests per minute. Default 120, at most 6000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 6000))]
    pub http_requests_per_minute: Option<u32>,
    /// Largest response body, in KiB. Default 8192, at most 65536.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub http_response_kib: Option<u32>,
}

/// One bound: its name in a manifest, what holds without a word, and the most that can be asked for.
struct Bound {
    name: &'static str,
    default: u64,
    most: u64,
}

const MEMORY_MIB: Bound = Bound { name: "memoryMib", default: DEFAULT_MEMORY_MIB as u64, most: 512 };
const CALL_TIMEOUT_MS: Bound = Bound { name: "callTimeoutMs", default: DEFAULT_CALL_TIMEOUT_MS, most: 300_000 };
const CONCURRENCY: Bound = Bound { name: "concurrency", default: DEFAULT_CONCURRENCY as u64, most: 256 };
const HOST_CALLS: Bound = Bound { name: "hostCalls", default: DEFAULT_HOST_CALLS as u64, most: 1_000_000 };
const HTTP_REQUESTS_PER_MINUTE: Bound =
    Bound { name: "httpRequestsPerMinute", default: DEFAULT_HTTP_REQUESTS_PER_MINUTE as u64, most: 6000 };
const HTTP_RESPONSE_KIB: Bound =
    Bound { name: "httpResponseKib", default: DEFAULT_HTTP_RESPONSE_KIB as u64, most: 65_536 };

impl Bound {
    fn item(&self, value: u64) -> String {
        format!("limit:{}={value}", self.name)
    }
}

impl Limits {
    /// Whether every bound is the default one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The bounds above their defaults: what a grant is needed for.
    #[must_use]
    pub fn raised(&self) -> Self {
        self.each(|bound, value| value.filter(|value| *value > bound.default))
    }

    /// What holds of these when of the raised ones only `granted` may be had: one that was granted less is cut to that,
    /// one that was not granted to its default.
    #[must_use]
    pub fn within(&self, granted: &Self) -> Self {
        self.each(|bound, value| value.map(|value| value.min(granted.get(bound).unwrap_or(0).max(bound.default))))
    }

    /// Every bound that is named, in its text form: `limit:memoryMib=256`.
    pub(crate) fn items(&self) -> impl Iterator<Item = String> {
        self.named().map(|(bound, value)| bound.item(value))
    }

    /// The bounds that `granted` names lower or not at all, in their text form.
    pub(crate) fn missing_from(&self, granted: &Self) -> impl Iterator<Item = String> {
        self.named()
            .filter(|(bound, value)| granted.get(bound).is_none_or(|given| given < *value))
            .map(|(bound, value)| bound.item(value))
    }

    /// The lower of both for each bound that both name.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        self.each(|bound, value| value.zip(other.get(bound)).map(|(left, right)| left.min(right)))
    }

    /// The higher of both for each bound that one names.
    pub(crate) fn union(&self, other: &Self) -> Self {
        self.each(|bound, value| value.max(other.get(bound)))
    }

    /// The bounds whose text form `keep` accepts.
    pub(crate) fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        self.each(|bound, value| value.filter(|value| keep(&bound.item(*value))))
    }

    /// The first bound that nobody can have, if there is one.
    pub(crate) fn problem(&self) -> Option<String> {
        self.named()
            .find(|(bound, value)| *value == 0 || value > &bound.most)
            .map(|(bound, value)| format!("{} is {value}; use 1 to {}", bound.name, bound.most))
    }

    fn values(&self) -> [(&'static Bound, Option<u64>); 6] {
        [
            (&MEMORY_MIB, self.memory_mib.map(u64::from)),
            (&CALL_TIMEOUT_MS, self.call_timeout_ms),
            (&CONCURRENCY, self.concurrency.map(u64::from)),
            (&HOST_CALLS, self.host_calls.map(u64::from)),
            (&HTTP_REQUESTS_PER_MINUTE, self.http_requests_per_minute.map(u64::from)),
            (&HTTP_RESPONSE_KIB, self.http_response_kib.map(u64::from)),
        ]
    }

    fn named(&self) -> impl Iterator<Item = (&'static Bound, u64)> {
        self.values().into_iter().filter_map(|(bound, value)| Some((bound, value?)))
    }

    fn get(&self, wanted: &Bound) -> Option<u64> {
        self.named().find(|(bound, _)| bound.name == wanted.name).map(|(_, value)| value)
    }

    /// The same bounds with the values that `of` gives.
    fn each(&self, of: impl Fn(&Bound, Option<u64>) -> Option<u64>) -> Self {
        let narrow = |bound, value: Option<u32>| {
            of(bound, value.map(u64::from)).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
        };
        Self {
            memory_mib: narrow(&MEMORY_MIB, self.memory_mib),
            call_timeout_ms: of(&CALL_TIMEOUT_MS, self.call_timeout_ms),
            concurrency: narrow(&CONCURRENCY, self.concurrency),
            host_calls: narrow(&HOST_CALLS, self.host_calls),
            http_requests_per_minute: narrow(&HTTP_REQUESTS_PER_MINUTE, self.http_requests_per_minute),
            http_response_kib: narrow(&HTTP_RESPONSE_KIB, self.http_response_kib),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn limits(value: serde_json::Value) -> Limits {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_is_above_a_default_needs_a_grant() {
        let asked = limits(json!({"memoryMib": 128, "concurrency": 4, "callTimeoutMs": 30_000}));
        assert_eq!(asked.raised(), limits(json!({"memoryMib": 128})));
        assert_eq!(asked.raised().items().collect::<Vec<_>>(), ["limit:memoryMib=128"]);
        assert!(limits(json!({"memoryMib": 64})).raised().is_empty());
    }

    #[test]
    fn what_holds_is_what_was_asked_for_and_granted() {
        let asked = limits(json!({"memoryMib": 128, "concurrency": 4, "hostCalls": 5000}));
        let held = |granted| asked.within(&limits(granted));
        assert_eq!(held(json!({})), limits(json!({"memoryMib": 64, "concurrency": 4, "hostCalls": 1000})));
        assert_eq!(held(json!({"memoryMib": 100})).memory_mib, Some(100), "no more than was granted");
        assert_eq!(held(json!({"memoryMib": 512})).memory_mib, Some(128), "no more than was asked for");
        assert_eq!(Limits::default().within(&asked), Limits::default(), "a grant alone raises nothing");
    }

    #[test]
    fn a_higher_grant_covers_a_lower_wish() {
        let asked = limits(json!({"memoryMib": 128, "httpResponseKib": 9000}));
        let missing = |granted| asked.missing_from(&limits(granted)).collect::<Vec<_>>();
        assert_eq!(missing(json!({})), ["limit:memoryMib=128", "limit:httpResponseKib=9000"]);
        assert_eq!(missing(json!({"memoryMib": 256, "httpResponseKib": 8999})), ["limit:httpResponseKib=9000"]);
        assert!(missing(json!({"memoryMib": 128, "httpResponseKib": 9000})).is_empty());
    }
}
