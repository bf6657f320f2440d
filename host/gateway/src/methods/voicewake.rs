//! `voicewake.*`: the words that nodes listen for. The gateway only keeps and tells them.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::READ;
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::hub::Event;
use crate::phrase::Shape;
use crate::shelf::Change;
use crate::wire::Payload;

/// What nodes listen for until somebody says otherwise.
const USUAL: [&str; 3] = ["openclaw", "claude", "computer"];
const MAX_WORDS: usize = 32;
const MAX_CHARS: usize = 64;
const WORDS: &str = "triggers";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Set {
    triggers: Vec<String>,
}

static SET: LazyLock<Shape> = LazyLock::new(Shape::of::<Set>);

/// The event that tells a node which words there are.
pub(crate) fn changed(state: &State) -> Event {
    Event::new("voicewake.changed", &json!({"triggers": words(state)}).to_string())
}

fn words(state: &State) -> Vec<String> {
    let kept = state.voicewake.get(WORDS);
    kept.map_or_else(|| USUAL.map(str::to_owned).to_vec(), |words| words.to_vec())
}

/// `voicewake.get {}` → `{triggers}`.
pub(crate) fn get(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    Ok(Answer::json(&json!({"triggers": words(call.state)})))
}

/// `voicewake.set {triggers}` → `{triggers}`, trimmed and without empty ones; none is the usual ones. Nodes are told.
pub(crate) fn set(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let set: Set = call.read(&SET, &[])?;
    let word = |word: &String| word.trim().chars().take(MAX_CHARS).collect::<String>();
    let kept: Vec<String> = set.triggers.iter().map(word).filter(|word| !word.is_empty()).take(MAX_WORDS).collect();
    Ok(call.later(move |state, _| async move {
        let stored = state.voicewake.change(|_| {
            let change = Change::nothing();
            Ok::<_, ErrorShape>((if kept.is_empty() { change.remove(WORDS) } else { change.put(WORDS, kept) }, ()))
        });
        stored.await?;
        state.hub.broadcast(changed(&state).scope(READ));
        state.hub.tell_where(changed(&state).targeted(), |session| session.declared.is_some());
        Ok(Payload::json(&json!({"triggers": words(&state)})))
    }))
}
