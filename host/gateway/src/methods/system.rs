//! `system-presence` and `system-event`: who is here, and what clients report of themselves.

use std::sync::LazyLock;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::connection::{Answer, Call};
use crate::phrase::Shape;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the shape is what is asked for; what was sent is shown as it came")]
struct Report {
    #[schemars(length(min = 1))]
    text: String,
    #[serde(default)]
    #[schemars(with = "String")]
    device_id: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    instance_id: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    host: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    ip: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    mode: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    version: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    platform: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    device_family: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    model_identifier: Option<String>,
    #[serde(default)]
    #[schemars(with = "u64")]
    last_input_seconds: Option<u64>,
    #[serde(default)]
    #[schemars(with = "String")]
    reason: Option<String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    roles: Option<Vec<String>>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    scopes: Option<Vec<String>>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    tags: Option<Vec<String>>,
}

/// Characters of a reported text that are shown to others.
const MAX_TEXT: usize = 500;

static REPORT: LazyLock<Shape> = LazyLock::new(Shape::of::<Report>);

/// `system-presence` → an array of presence entries. Parameters are ignored, as the real gateway ignores them.
pub(crate) fn presence(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    Ok(Answer::json(&call.state.presence(call.session.version, &call.session.caller)))
}

/// `system-event {text, …}` → `{ok: true}`.
pub(crate) fn event(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let mut shown = report(call)?;
    if let Some(Value::String(text)) = shown.get_mut("text") {
        *text = text.trim().chars().take(MAX_TEXT).collect();
    }
    let own = |name: &str| shown.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let (device, instance) = (own("deviceId"), own("instanceId"));
    call.state.presence.reported(device.as_deref(), instance.as_deref(), shown, call.state.now_ms());
    Ok(Answer::json(&json!({"ok": true})))
}

/// What was reported. Version 3 ignores keys it does not know.
fn report(call: &Call<'_>) -> Result<Map<String, Value>, ErrorShape> {
    let mut params: Map<String, Value> = serde_json::from_str(call.params).unwrap_or_default();
    if call.session.version == ProtocolVersion::V3 {
        let known = REPORT.properties();
        params.retain(|name, _| known.contains(&name.as_str()));
        let text = params.get("text").and_then(Value::as_str).unwrap_or_default();
        if text.trim().is_empty() {
            return Err(ErrorShape::invalid("text required"));
        }
    }
    match REPORT.problems(call.session.version, &Value::Object(params.clone())) {
        Some(problems) => Err(ErrorShape::invalid(format!("invalid {} params: {problems}", call.method))),
        None => Ok(params),
    }
}
