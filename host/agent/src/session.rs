//! A session: what the host said about it, and the conversation so far as the host has it stored.

use std::path::Path;

use leanclaw_types::agent::SessionSetup;
use leanclaw_types::model::{Block, ModelMessage, Role, ToolDefinition};

use crate::system;
use crate::tools;
use crate::workspace::Workspace;

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// As the host gave it, without its history.
    pub(crate) setup: SessionSetup,
    pub(crate) workspace: Workspace,
    pub(crate) system: String,
    /// Those here, then the host's.
    pub(crate) tools: Vec<ToolDefinition>,
    /// Only what the host has stored.
    pub(crate) history: Vec<ModelMessage>,
    /// How many model calls there were; names them.
    pub(crate) calls: u64,
}

impl Session {
    /// Opens the workspace and looks at what there is.
    ///
    /// # Errors
    /// What of the parameters cannot be used.
    pub(crate) fn open(id: String, cwd: &Path, mut setup: SessionSetup) -> Result<Self, String> {
        if !cwd.has_root() {
            return Err(format!("params.cwd: `{}` is no absolute path", cwd.display()));
        }
        for (value, name) in [(setup.max_tokens, "maxTokens"), (setup.max_rounds, "maxRounds")] {
            if value == 0 {
                return Err(format!("params._meta.leanclaw.{name} must be at least 1"));
            }
        }
        if let Some(tool) = setup.tools.iter().find(|tool| tools::find(&tool.name).is_some()) {
            return Err(format!(
                "params._meta.leanclaw.tools: `{}` is the name of a tool of the agent's own",
                tool.name
            ));
        }
        let is_known = |name: &String| {
            // Where there is no shell there is nothing to ask about, and the host need not know.
            name == "bash" || tools::find(name).is_some() || setup.tools.iter().any(|tool| tool.name == *name)
        };
        if let Some(name) = setup.ask_before.iter().find(|name| !is_known(name)) {
            // A name that is spelt wrong would let its tool run unasked.
            return Err(format!("params._meta.leanclaw.askBefore: there is no tool `{name}`"));
        }
        let workspace =
            Workspace::open(cwd).map_err(|error| format!("params.cwd: cannot open `{}`: {error}", cwd.display()))?;
        let mut tools = tools::definitions();
        tools.extend(setup.tools.iter().cloned());
        let history = std::mem::take(&mut setup.history);
        let system = system::compose(&setup, &workspace);
        Ok(Self { id, setup, workspace, system, tools, history, calls: 0 })
    }

    /// Results for tools whose use was stored and whose results were not: something cut the turn in between. A model is only
    /// asked again when each use has a result.
    pub(crate) fn missing_results(&self) -> Vec<Block> {
        let Some(ModelMessage { role: Role::Assistant, content }) = self.history.last() else { return Vec::new() };
        let interrupted = |block: &Block| {
            Some(Block::ToolResult {
                tool_use_id: block.use_id()?.to_owned(),
                content: vec![Block::text("Interrupted: it may have done all, a part or none of its work.")],
                is_error: true,
            })
        };
        content.iter().filter_map(interrupted).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open(cwd: &str, change: impl FnOnce(&mut serde_json::Value)) -> Result<Session, String> {
        let mut setup = json!({"model": "m", "maxTokens": 10, "maxRounds": 3});
        change(&mut setup);
        Session::open("s".into(), Path::new(cwd), serde_json::from_value(setup).unwrap())
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert!(open("relative", |_| {}).unwrap_err().contains("`relative` is no absolute path"));
        assert!(open("/nowhere/at/all", |_| {}).unwrap_err().contains("cannot open `/nowhere/at/all`"));
        assert!(open("/", |setup| setup["maxRounds"] = json!(0)).unwrap_err().contains("maxRounds must be at least 1"));
        let tools = json!([{"name": "read", "description": "", "inputSchema": {}}]);
        assert!(open("/", |setup| setup["tools"] = tools).unwrap_err().contains("`read` is the name of a tool"));
        assert!(open("/", |setup| setup["askBefore"] = json!(["bsh"])).unwrap_err().contains("there is no tool `bsh`"));
        assert!(open("/", |setup| setup["askBefore"] = json!(["bash", "edit"])).is_ok());
    }

    #[test]
    fn only_uses_without_results_are_missing_them() {
        let uses = json!([{"role": "assistant", "content": [
            {"type": "text", "text": "x"}, {"type": "toolUse", "id": "1", "name": "read", "input": {}},
        ]}]);
        let session = open("/", |setup| setup["history"] = uses.clone()).unwrap();
        assert!(
            matches!(&session.missing_results()[..], [Block::ToolResult { tool_use_id, is_error: true, .. }] if tool_use_id == "1")
        );
        let mut whole = uses;
        whole.as_array_mut().unwrap().push(json!({"role": "user", "content": []}));
        assert!(open("/", |setup| setup["history"] = whole).unwrap().missing_results().is_empty());
        assert!(open("/", |_| {}).unwrap().missing_results().is_empty());
    }
}
