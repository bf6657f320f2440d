//! `models.*` and `providers.list`: which models runs can use. Which there are, the program knows.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::run::RunModel;
use serde_json::{Value, json};

use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::phrase::Shape;
use crate::wire::joined;

/// `includeDetails` is in no schema, and yet sent by OpenClaw's terminal and by its Control UI.
static LIST: LazyLock<Shape> = LazyLock::new(|| {
    Shape::of_properties(&[
        ("agentId", "string", false),
        ("view", "string", false),
        ("preparedOnly", "boolean", false),
        ("refresh", "boolean", false),
        ("includeProviderCapabilities", "boolean", false),
        ("includeDetails", "boolean", false),
        ("sessionKey", "string", false),
    ])
});
static AUTH: LazyLock<Shape> =
    LazyLock::new(|| Shape::of_properties(&[("agentId", "string", false), ("refresh", "boolean", false)]));

/// `models.list {}` → `{models}`.
pub(crate) fn list(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let call = &without_null(call);
    call.read::<Value>(&LIST, &[])?;
    Ok(Answer::json(&json!({"models": rows(call.state, call.session.version)})))
}

/// `models.authStatus {}` → `{ts, providers, providerCapabilities}`: the providers whose models runs can use. Their keys are the
/// program's, so nobody signs in to them here.
pub(crate) fn auth_status(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let call = &without_null(call);
    call.read::<Value>(&AUTH, &[])?;
    let row = |provider: &String| {
        json!({
            "provider": provider, "authProvider": provider, "displayName": provider, "status": "static", "profiles": [],
        })
    };
    let providers: Vec<Value> = providers(call.state).iter().map(row).collect();
    Ok(Answer::json(&json!({"ts": call.state.now_ms(), "providers": providers, "providerCapabilities": []})))
}

/// `providers.list {}` → `[{id, name, configured}]`: an array, as the original LeanClaw has it.
pub(crate) fn providers_list(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let call = &without_null(call);
    call.takes_nothing()?;
    let row = |provider: &String| json!({"id": provider, "name": provider, "configured": true});
    let providers: Vec<Value> = providers(call.state).iter().map(row).collect();
    Ok(Answer::json(&json!(providers)))
}

/// OpenClaw's older clients say null when they have nothing to say.
fn without_null<'a>(call: &Call<'a>) -> Call<'a> {
    let params = if call.params == "null" { "{}" } else { call.params };
    Call { params, ..*call }
}

fn providers(state: &State) -> BTreeSet<String> {
    state.services.runs.models().into_iter().map(|model| model.provider).collect()
}

/// The models as that version is shown them.
pub(crate) fn rows(state: &State, version: ProtocolVersion) -> Vec<Value> {
    state.services.runs.models().iter().map(|model| row(model, version)).collect()
}

fn row(model: &RunModel, version: ProtocolVersion) -> Value {
    let sees = |takes_images| if takes_images { json!(["text", "image"]) } else { json!(["text"]) };
    let newest = version.is_newest();
    let known = [
        model.context_tokens.filter(|tokens| *tokens > 0).map(|tokens| ("contextWindow", json!(tokens))),
        model.takes_images.map(|takes_images| ("input", sees(takes_images))),
        (newest && model.is_default).then(|| ("tags", json!(["default"]))),
        newest.then(|| ("available", json!(true))),
    ];
    let row = json!({"id": model.id, "name": model.name, "provider": model.provider});
    joined(row, known.into_iter().flatten())
}
