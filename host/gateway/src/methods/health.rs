//! `health`.

use crate::connection::{Answer, Call};
use crate::wire::Payload;
use serde_json::Value;

/// The health snapshot, from the cache unless `{probe: true}` asks for a new one. Other keys are ignored, as the real
/// gateway ignores them.
pub(crate) fn health(call: &Call<'_>) -> Answer {
    let probe = call.params.contains("probe")
        && serde_json::from_str::<Value>(call.params)
            .is_ok_and(|params| params.get("probe") == Some(&Value::Bool(true)));
    let health = if probe { call.state.refresh_health() } else { call.state.current_health() };
    Answer::Now(Ok(Payload::Shared(health.text(call.session.version).clone())))
}
