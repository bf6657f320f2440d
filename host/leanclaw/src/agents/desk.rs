//! What a turn does outside of the sandbox: its transcript, its tools, and who is told.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use leanclaw_plugin::{CallContext, Plugins};
use leanclaw_store::Store;
use leanclaw_types::Failure;
use leanclaw_types::agent::HostToolResult;
use leanclaw_types::call::{self, Caller};
use leanclaw_types::clock::Clock;
use leanclaw_types::model::{Block, ToolDefinition};
use leanclaw_types::plugin::{ToolOutput, ToolSpec};
use leanclaw_types::run::{RunEvent, RunStep};
use leanclaw_types::session::NewMessage;
use serde_json::Value;

use super::Watchers;
use super::book::Running;
use super::turn::Desk;

/// The longest name that models take for a tool.
const MAX_NAME_CHARS: usize = 64;
/// The agent's own tools, whose names no other may have.
const OWN: [&str; 6] = ["bash", "read", "write", "edit", "glob", "grep"];
/// What a tool may not do without being asked about, so that it is not offered where nobody can be asked.
const TO_BE_ASKED: [&str; 2] = ["irreversible", "spends-money"];

/// The tools that agents may be offered.
#[async_trait]
pub(crate) trait ToolBox: Send + Sync + 'static {
    /// Those there are now.
    fn tools(&self) -> Vec<ToolSpec>;

    /// Runs one of them.
    ///
    /// # Errors
    /// It did not run, or not to its end.
    async fn invoke(&self, name: &str, input: &str, caller: Caller) -> Result<ToolOutput, Failure>;
}

#[async_trait]
impl ToolBox for Plugins {
    fn tools(&self) -> Vec<ToolSpec> {
        Plugins::tools(self)
    }

    async fn invoke(&self, name: &str, input: &str, caller: Caller) -> Result<ToolOutput, Failure> {
        self.invoke_tool(name, input, CallContext::of(caller)).await
    }
}

/// The tools of plugins that an agent is offered.
#[derive(Default)]
pub(super) struct Tools {
    pub(super) definitions: Vec<ToolDefinition>,
    /// The plugins' names by those that the model knows.
    names: HashMap<String, String>,
}

impl Tools {
    /// Of all tools those that can be offered. Models take fewer characters in a name than plugins do.
    pub(super) fn of(specs: Vec<ToolSpec>) -> Self {
        let mut tools = Self::default();
        for spec in specs {
            if spec.effects.iter().any(|effect| TO_BE_ASKED.contains(&effect.as_str())) {
                tracing::debug!(tool = spec.name, plugin = %spec.plugin, "not offered: it would have to be asked about");
                continue;
            }
            let kept = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
            let name: String = spec.name.chars().map(|other| if kept(other) { other } else { '_' }).collect();
            if name.is_empty()
                || name.len() > MAX_NAME_CHARS
                || OWN.contains(&name.as_str())
                || tools.names.contains_key(&name)
            {
                tracing::warn!(tool = spec.name, plugin = %spec.plugin, "not offered to agents: its name is taken or too long");
                continue;
            }
            tools.names.insert(name.clone(), spec.name);
            let definition = ToolDefinition { name, description: spec.description, input_schema: spec.input_schema };
            tools.definitions.push(definition);
        }
        tools
    }
}

/// The desk of one run.
pub(super) struct RunDesk {
    pub(super) store: Arc<Store>,
    pub(super) tool_box: Arc<dyn ToolBox>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watchers: Arc<Watchers>,
    pub(super) run: Arc<Running>,
    pub(super) agent: String,
    pub(super) tools: Tools,
}

#[async_trait]
impl Desk for RunDesk {
    async fn record(&self, messages: Vec<NewMessage>) -> Result<(), Failure> {
        let key = &self.run.request.session_key;
        let stored = self.store.append_run_messages(key, messages).await?;
        let stored = stored.ok_or_else(|| Failure::not_found("The session is gone."))?;
        for message in stored {
            self.tell(RunStep::Said(message));
        }
        Ok(())
    }

    async fn tool(&self, name: &str, input: &Value) -> Result<HostToolResult, Failure> {
        let Some(own) = self.tools.names.get(name) else {
            return Err(Failure::not_found(format!("There is no tool `{name}`.")));
        };
        let caller = Caller {
            kind: call::kind::AGENT.into(),
            id: self.agent.clone(),
            role: "user".into(),
            scopes: Vec::new(),
            session_key: Some(self.run.request.session_key.clone()),
            extra: None,
        };
        let output = self.tool_box.invoke(own, &input.to_string(), caller).await;
        Ok(output.map_or_else(|failure| failed(&failure), result))
    }

    fn tell(&self, step: RunStep) {
        self.watchers.tell(&RunEvent {
            run_id: self.run.request.run_id.clone(),
            session_key: self.run.request.session_key.clone(),
            owner: self.run.request.owner.clone(),
            at_ms: self.clock.now_ms(),
            step,
        });
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

/// A call that failed is a result too: the model can do something about it.
fn failed(failure: &Failure) -> HostToolResult {
    let lines = std::iter::once(failure.message.clone()).chain(failure.hints.iter().cloned());
    HostToolResult { content: vec![Block::text(lines.collect::<Vec<_>>().join("\n"))], is_error: true }
}

fn result(output: ToolOutput) -> HostToolResult {
    let ToolOutput { structured, text, files, is_error } = output;
    let words = text.or_else(|| structured.map(|value| value.to_string()));
    let mut content: Vec<Block> = words.into_iter().map(Block::text).collect();
    for file in files {
        let what = format!("[a file of type {}]", file.media_type);
        content.push(Block::text(what));
    }
    if content.is_empty() {
        content.push(Block::text("done"));
    }
    HostToolResult { content, is_error }
}

#[cfg(test)]
mod tests {
    use leanclaw_types::PluginId;
    use serde_json::json;

    use super::*;

    fn spec(name: &str, effects: &[&str]) -> ToolSpec {
        ToolSpec {
            plugin: PluginId::new("p").unwrap(),
            name: name.into(),
            description: String::new(),
            input_schema: json!({"type": "object"}),
            output_schema: None,
            effects: effects.iter().map(|effect| (*effect).to_owned()).collect(),
            idempotent: false,
            extra: None,
        }
    }

    #[test]
    fn tools_are_offered_under_names_that_models_take() {
        let long = "x".repeat(65);
        let specs =
            [spec("a.b", &[]), spec("a_b", &[]), spec("bash", &[]), spec(&long, &[]), spec("pay", &["spends-money"])];
        let tools = Tools::of(specs.to_vec());
        let names: Vec<&str> = tools.definitions.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["a_b"]);
        assert_eq!(tools.names["a_b"], "a.b");
    }

    #[test]
    fn what_a_tool_gave_back_is_words() {
        let output = ToolOutput { structured: Some(json!({"a": 1})), ..ToolOutput::default() };
        assert_eq!(result(output).content, [Block::text("{\"a\":1}")]);
        assert_eq!(result(ToolOutput::default()).content, [Block::text("done")]);
        let refused = failed(&Failure::unavailable("no").hint("wait"));
        assert_eq!((refused.content, refused.is_error), (vec![Block::text("no\nwait")], true));
    }
}
