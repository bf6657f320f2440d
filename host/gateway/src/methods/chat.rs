//! `chat.startup` and `chat.metadata`: what a page needs to show a conversation. What was said is `chat.history`'s business.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::sessions;
use crate::connection::{Answer, Call};
use crate::phrase::{Shape, no_nulls};
use crate::sessions::Key;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Metadata {
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1))]
    session_key: Option<String>,
}

static METADATA: LazyLock<Shape> = LazyLock::new(Shape::of::<Metadata>);

/// `chat.metadata {sessionKey?, agentId?}` → `{models, commands, swarmEnabled, accountSelection, runtimeSelectionLocked}`.
pub(crate) fn metadata(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let metadata: Metadata = call.read(&METADATA, &[("key", "sessionKey")])?;
    metadata.session_key.map(|key| Key::read(&key, metadata.agent_id.as_deref())).transpose()?;
    Ok(Answer::json(&about()))
}

/// `chat.startup {sessionKey, limit?, …}` → what `chat.history` tells, and `metadata` as `chat.metadata` tells it.
pub(crate) fn startup(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    sessions::history_with(call, vec![("metadata", about())])
}

/// No provider of models can be configured, and commands are written to an agent, of which none runs.
fn about() -> Value {
    json!({
        "models": [],
        "commands": [],
        "swarmEnabled": false,
        "accountSelection": {"kind": "automatic", "label": "Automatic"},
        "runtimeSelectionLocked": false,
    })
}
