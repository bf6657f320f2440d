//! `health`.

use crate::connection::{Answer, Call};
use crate::wire::Payload;
use leanclaw_types::frame::ErrorShape;
use serde_json::Value;

/// The health snapshot, from the cache unless `{probe: true}` asks for a new one. Other keys are ignored, as the real
/// gateway ignores them.
pub(crate) fn health(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asks = |params: Value| params.get("probe") == Some(&Value::Bool(true));
    let probe = call.params.contains("probe") && serde_json::from_str(call.params).is_ok_and(asks);
    let health = if probe { call.state.refresh_health() } else { call.state.current_health() };
    Ok(Answer::Now(Ok(Payload::Shared(health.text(call.session.version).clone()))))
}
