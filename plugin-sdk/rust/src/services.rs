//! Small things the host does for a plugin: settings, time.

use serde::de::DeserializeOwned;

use crate::failure::{Failure, code};
use crate::{host, json};

/// This instance's settings (`plugins.entries.<id>.config`), which the host has checked against the manifest's
/// `configSchema`. Without any, they are an empty object, so `#[serde(default)]` fills them.
///
/// # Errors
/// `unavailable` when they do not fit `T`, with the path of the mistake.
pub fn settings<T: DeserializeOwned>() -> Result<T, Failure> {
    json::read(&host::settings(), "configuration of this plugin").map_err(|failure| Failure {
        code: code::UNAVAILABLE.into(),
        message: format!("{} Correct `plugins.entries.<plugin id>.config`.", failure.message),
        ..failure
    })
}

/// The time in milliseconds since the Unix epoch. In tests it is the [`TestHost`](crate::testing::TestHost)'s clock.
#[must_use]
pub fn now_ms() -> u64 {
    host::now_ms()
}

/// The clock of the computer.
pub(crate) fn system_now_ms() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
