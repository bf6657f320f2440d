//! What the decoders of all providers make out of pieces of an answer.

use std::collections::VecDeque;

use leanclaw_types::model::{Block, ModelEvent};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::answer::Broken;
use crate::json;

/// The most characters of a broken input that are kept, for the one who reads what went wrong.
const MOST_INVALID: usize = 2000;

/// An answer that is not what its format wants.
pub(crate) fn garbled(what: impl Into<String>) -> Broken {
    Broken::Garbled(what.into())
}

/// Reads the JSON of `what`.
pub(crate) fn read<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, Broken> {
    json::parse(text).map_err(|error| garbled(format!("{what} cannot be read: {error}")))
}

/// Passes on what is to be seen, unless it is nothing.
pub(crate) fn say(text: &str, out: &mut VecDeque<ModelEvent>, event: fn(String) -> ModelEvent) {
    if !text.is_empty() {
        out.push_back(event(text.to_owned()));
    }
}

/// The use of a tool whose input was written as `text`; of nothing, an empty object.
pub(crate) fn tool_use(id: String, name: String, text: &str) -> Block {
    if text.trim().is_empty() {
        return Block::ToolUse { id, name, input: Value::Object(Map::new()) };
    }
    let problem = match json::parse::<Value>(text) {
        Ok(input @ Value::Object(_)) => return Block::ToolUse { id, name, input },
        Ok(_) => "The input is not a JSON object.".to_owned(),
        Err(error) => format!("The input is not valid JSON: {error}."),
    };
    Block::InvalidToolUse { id, name, text: text.chars().take(MOST_INVALID).collect(), problem }
}
