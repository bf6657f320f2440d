//! `sessions.subscribe` and `sessions.messages.subscribe`: what a connection wants to hear of sessions.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{KEY_ALIASES, list};
use crate::connection::{Answer, Call};
use crate::phrase::{Shape, no_nulls};
use crate::sessions::Key;
use crate::wire::{Payload, joined};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Follow {
    #[schemars(length(min = 1))]
    key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    include_approvals: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Unfollow {
    #[schemars(length(min = 1))]
    key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
}

static FOLLOW: LazyLock<Shape> = LazyLock::new(Shape::of::<Follow>);
static UNFOLLOW: LazyLock<Shape> = LazyLock::new(Shape::of::<Unfollow>);

/// `sessions.subscribe {}` → `{subscribed: true}`; with parameters of `sessions.list`, its answer as `list` besides.
pub(crate) fn subscribe(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked = serde_json::from_str::<Value>(call.params).ok();
    let plain = asked.as_ref().and_then(Value::as_object).is_some_and(serde_json::Map::is_empty);
    let params = list::read(call)?;
    // First the subscription, then the list: nothing is missed in between.
    call.session.subscriptions.set_all(true);
    if plain {
        return Ok(Answer::json(&json!({"subscribed": true})));
    }
    Ok(call.later(|state, session| async move {
        let list = list::answer(state, session, params).await?;
        Ok(Payload::Own(format!("{{\"subscribed\":true,\"list\":{list}}}")))
    }))
}

/// `sessions.unsubscribe {}` → `{subscribed: false}`.
pub(crate) fn unsubscribe(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    call.session.subscriptions.set_all(false);
    Ok(Answer::json(&json!({"subscribed": false})))
}

/// `sessions.messages.subscribe {key, includeApprovals?}` → `{subscribed: true, key}`.
pub(crate) fn follow(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let follow: Follow = call.read(&FOLLOW, KEY_ALIASES)?;
    let key = Key::read(&follow.key, follow.agent_id.as_deref())?;
    if !call.session.subscriptions.follow(&key.text) {
        let message = "this connection follows too many sessions; unsubscribe from some, or use sessions.subscribe";
        return Err(ErrorShape::invalid(format!("{message} (refused: {})", key.text)));
    }
    let replay = json!({
        "sessionKey": key.text, "updatedAtMs": call.state.now_ms(), "approvals": [], "truncated": false,
    });
    let replay = (follow.include_approvals == Some(true)).then_some(("approvalReplay", replay));
    Ok(Answer::json(&joined(json!({"subscribed": true, "key": key.text}), replay)))
}

/// `sessions.messages.unsubscribe {key}` → `{subscribed: false, key}`.
pub(crate) fn unfollow(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let unfollow: Unfollow = call.read(&UNFOLLOW, KEY_ALIASES)?;
    let key = Key::read(&unfollow.key, unfollow.agent_id.as_deref())?;
    call.session.subscriptions.unfollow(&key.text);
    Ok(Answer::json(&json!({"subscribed": false, "key": key.text})))
}
