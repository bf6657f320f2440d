//! Events for gateway clients.

use serde::Serialize;

use crate::failure::Failure;
use crate::{host, json};

/// Emits the event `<plugin id>.<name>`. `permissions.events` must name it.
///
/// # Errors
/// `denied` when the manifest or the grant does not name it; other failures of the host.
pub fn emit<T: Serialize>(name: &str, payload: &T) -> Result<(), Failure> {
    host::event_emit(name, &json::write(payload, "payload")?)
}
