//! The tools that run where the agent runs: on the files of the workspace, and, in a container, a shell.
//!
//! A tool takes JSON and gives text or a picture. What goes wrong is told to the model in words it can act on and never ends
//! the agent. Tools know nothing of the wire, of sessions and of permissions.

#[cfg(not(target_family = "wasm"))]
mod bash;
mod edit;
mod glob;
mod grep;
mod lines;
mod read;
mod search;
mod write;

#[cfg(test)]
mod fixture;

use agent_client_protocol_schema::v1::ToolKind;
use leanclaw_types::model::{Block, ToolDefinition};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::workspace::Workspace;

/// What a tool works with.
pub(crate) struct Context<'a> {
    /// The files.
    pub(crate) workspace: &'a Workspace,
    /// Whether nobody waits for the turn any more. Asked often; it must not wait.
    pub(crate) cancelled: &'a mut dyn FnMut() -> bool,
}

/// A file that was changed, for those who look on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// As the model named it.
    pub(crate) path: String,
    /// None when the file is new.
    pub(crate) old: Option<String>,
    pub(crate) new: String,
}

/// What a tool did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// For the model.
    pub(crate) content: Vec<Block>,
    pub(crate) is_error: bool,
    pub(crate) change: Option<Change>,
}

impl Outcome {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { content: vec![Block::text(text)], is_error: false, change: None }
    }

    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self { is_error: true, ..Self::text(text) }
    }
}

/// Why a tool did nothing, in words for the model.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub(crate) fn refuse<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(text.into()))
}

/// A tool.
pub(crate) trait Tool: Sync {
    fn name(&self) -> &'static str;
    fn description(&self) -> &'static str;
    fn kind(&self) -> ToolKind;
    /// The JSON Schema of its input.
    fn schema(&self) -> Value;
    /// What of the input says best what is done, for those who look on: a path, a pattern, a command.
    fn subject<'i>(&self, input: &'i Value) -> Option<&'i str>;
    /// Does it.
    ///
    /// # Errors
    /// When the input does not fit, or nothing was done.
    fn run(&self, input: &Value, context: &mut Context<'_>) -> Result<Outcome, Refusal>;
}

#[cfg(not(target_family = "wasm"))]
static ALL: &[&dyn Tool] = &[&read::Read, &write::Write, &edit::Edit, &glob::Glob, &grep::Grep, &bash::Bash];
#[cfg(target_family = "wasm")]
static ALL: &[&dyn Tool] = &[&read::Read, &write::Write, &edit::Edit, &glob::Glob, &grep::Grep];

/// Every tool there is here.
pub(crate) fn all() -> &'static [&'static dyn Tool] {
    ALL
}

/// The tool of this name.
pub(crate) fn find(name: &str) -> Option<&'static dyn Tool> {
    ALL.iter().find(|tool| tool.name() == name).copied()
}

/// The tools as a model is told of them.
pub(crate) fn definitions() -> Vec<ToolDefinition> {
    let define = |tool: &&dyn Tool| ToolDefinition {
        name: tool.name().to_owned(),
        description: tool.description().to_owned(),
        input_schema: tool.schema(),
    };
    ALL.iter().map(define).collect()
}

/// The schema of a tool's input type, without what a model has no use for.
fn schema_of<T: JsonSchema>() -> Value {
    let mut schema = schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    if let Some(object) = schema.as_object_mut() {
        object.shift_remove("$schema");
        object.shift_remove("title");
        object.shift_remove("description");
    }
    schema
}

/// Reads a tool's input.
fn parse<T: DeserializeOwned + JsonSchema>(tool: &str, input: &Value) -> Result<T, Refusal> {
    if !input.is_object() {
        return refuse(format!("The input of `{tool}` must be a JSON object."));
    }
    T::deserialize(input).map_err(|error| {
        let schema = schema_of::<T>();
        let properties = schema.get("properties").unwrap_or(&Value::Null);
        Refusal(format!("The input of `{tool}` does not fit: {error}. Its properties: {properties}"))
    })
}

/// The text of a property of an input that may not fit.
fn property<'i>(input: &'i Value, name: &str) -> Option<&'i str> {
    input.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_one_that_a_provider_takes() {
        for ToolDefinition { name, description, input_schema } in definitions() {
            assert!(name.chars().all(|char| char.is_ascii_lowercase()), "{name}");
            assert!(!description.is_empty());
            assert_eq!(input_schema["type"], "object", "{name}");
            assert_eq!(input_schema["additionalProperties"], false, "{name}");
            assert!(input_schema.get("$ref").is_none() && input_schema.get("$defs").is_none(), "{name}");
            for (property, schema) in input_schema["properties"].as_object().unwrap() {
                assert!(schema["description"].is_string(), "{name}.{property}");
            }
        }
    }

    #[test]
    fn an_input_that_does_not_fit_is_explained() {
        let Refusal(words) = parse::<read::Input>("read", &serde_json::json!({"file": "a"})).err().unwrap();
        assert!(words.contains("unknown field `file`") && words.contains("\"path\""), "{words}");
        let Refusal(words) = parse::<read::Input>("read", &serde_json::json!([])).err().unwrap();
        assert_eq!(words, "The input of `read` must be a JSON object.");
    }
}
