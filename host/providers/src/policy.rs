//! What a provider may do on the network: reach its own host, for as long as an answer takes.

use std::time::Duration;

use leanclaw_egress::{EgressLimits, EgressPolicy};
use leanclaw_types::net::HostPattern;
use url::Url;

/// The way out of a provider called `id` whose server is `base_url`. A server on this machine or in a private network has
/// to be wanted (`private`), as a person does by naming it in the configuration.
#[must_use]
pub fn egress_policy(id: &str, base_url: &Url, private: bool) -> EgressPolicy {
    let mut policy = EgressPolicy::new(format!("provider:{id}"));
    let host = HostPattern::for_url(base_url);
    policy.private.extend(host.clone().filter(|_| private));
    policy.allow.extend(host);
    policy.limits = EgressLimits {
        request_bytes: 32 * 1024 * 1024,
        response_bytes: 128 * 1024 * 1024,
        // How many answers run at once is for whoever runs agents to bound; this only stops a leak.
        concurrency: 512,
        requests_per_minute: 6000,
        connect_timeout: Duration::from_secs(15),
        // The provider's own timeouts are shorter and say more.
        first_byte_timeout: Duration::from_secs(3600),
        between_bytes_timeout: Duration::from_secs(3600),
        total_timeout: Duration::from_secs(3600),
        ..EgressLimits::default()
    };
    policy
}
