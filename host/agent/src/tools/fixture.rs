//! A workspace for the tests of tools.

use std::path::PathBuf;

use leanclaw_types::model::Block;
use serde_json::Value;

use super::{Context, Outcome, Refusal, Tool};
use crate::workspace::Workspace;

pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    workspace: Workspace,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        Self { folder, workspace }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap()
    }

    pub(crate) fn run(&self, tool: &dyn Tool, input: Value) -> Result<Outcome, Refusal> {
        self.run_until(tool, input, &mut || false)
    }

    pub(crate) fn run_until(
        &self,
        tool: &dyn Tool,
        input: Value,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<Outcome, Refusal> {
        tool.run(&input, &mut Context { workspace: &self.workspace, cancelled })
    }

    /// The text of a run that works.
    pub(crate) fn text(&self, tool: &dyn Tool, input: Value) -> String {
        let outcome = self.run(tool, input).unwrap();
        assert!(!outcome.is_error, "{outcome:?}");
        text_of(&outcome)
    }

    /// The words of a run that is refused.
    pub(crate) fn refusal(&self, tool: &dyn Tool, input: Value) -> String {
        self.run(tool, input).unwrap_err().0
    }
}

pub(crate) fn text_of(outcome: &Outcome) -> String {
    match &outcome.content[0] {
        Block::Text { text } => text.clone(),
        other => panic!("{other:?}"),
    }
}
