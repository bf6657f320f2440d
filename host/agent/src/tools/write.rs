//! `write`: a file, whole.

use std::io::Read as _;

use agent_client_protocol_schema::v1::ToolKind;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Change, Context, Outcome, Refusal, Tool, parse, property, schema_of};
use crate::workspace::Workspace;

/// The largest text that is shown to those who look on, in bytes.
const MAX_SHOWN_BYTES: usize = 64 * 1024;

pub(crate) struct Write;

/// The input of `write`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The file, relative to the workspace. Folders before it are made.
    path: String,
    /// All that shall be in it.
    content: String,
}

impl Tool for Write {
    fn name(&self) -> &'static str {
        "write"
    }

    fn description(&self) -> &'static str {
        "Writes a file of the workspace, with the folders it needs. What was in the file before is replaced as a whole; use `edit` to change parts of it."
    }

    fn kind(&self) -> ToolKind {
        ToolKind::Edit
    }

    fn schema(&self) -> Value {
        schema_of::<Input>()
    }

    fn subject<'i>(&self, input: &'i Value) -> Option<&'i str> {
        property(input, "path")
    }

    fn run(&self, input: &Value, context: &mut Context<'_>) -> Result<Outcome, Refusal> {
        let Input { path, content } = parse(self.name(), input)?;
        let before = old_text(context.workspace, &path);
        context.workspace.write(&path, content.as_bytes())?;
        let done = format!("Wrote {} bytes to `{path}`.", content.len());
        Ok(Outcome { change: before.and_then(|old| change(&path, old, content)), ..Outcome::text(done) })
    }
}

/// What is in a file now, to be shown; none when that is no text or too much, and `Some(None)` when there is no file.
#[expect(clippy::option_option, reason = "no file and nothing to show are different things")]
fn old_text(workspace: &Workspace, path: &str) -> Option<Option<String>> {
    let Ok(file) = workspace.file(path) else { return Some(None) };
    let mut text = String::new();
    file.take(MAX_SHOWN_BYTES as u64 + 1).read_to_string(&mut text).ok()?;
    Some(Some(text))
}

/// The change, unless it is too much to be shown.
pub(crate) fn change(path: &str, old: Option<String>, new: String) -> Option<Change> {
    let fits = new.len() <= MAX_SHOWN_BYTES && old.as_ref().is_none_or(|old| old.len() <= MAX_SHOWN_BYTES);
    fits.then(|| Change { path: path.to_owned(), old, new })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_file_is_written_with_its_folders_and_replaced_whole() {
        let here = Fixture::new();
        let outcome = here.run(&Write, json!({"path": "a/b/c.txt", "content": "grüße\r\n"})).unwrap();
        assert_eq!(outcome.content, Outcome::text("Wrote 9 bytes to `a/b/c.txt`.").content);
        let change = Change { path: "a/b/c.txt".into(), old: None, new: "grüße\r\n".into() };
        assert_eq!(outcome.change, Some(change));
        assert_eq!(here.get("a/b/c.txt"), "grüße\r\n");
        let outcome = here.run(&Write, json!({"path": "a/b/c.txt", "content": ""})).unwrap();
        assert_eq!(outcome.change.unwrap().old.unwrap(), "grüße\r\n");
        assert_eq!(here.get("a/b/c.txt"), "");
    }

    #[test]
    fn what_is_too_large_or_no_text_is_written_and_not_shown() {
        let here = Fixture::new();
        let long = "x".repeat(MAX_SHOWN_BYTES + 1);
        assert_eq!(here.run(&Write, json!({"path": "a", "content": long})).unwrap().change, None);
        assert_eq!(here.run(&Write, json!({"path": "a", "content": "x"})).unwrap().change, None);
        here.put("b", b"\xff\0");
        assert_eq!(here.run(&Write, json!({"path": "b", "content": "x"})).unwrap().change, None);
        assert_eq!(here.get("b"), "x");
    }

    #[test]
    fn nothing_is_written_elsewhere() {
        let here = Fixture::new();
        std::os::unix::fs::symlink("/tmp", here.at("tmp")).unwrap();
        for path in ["/tmp/leanclaw-agent-test", "../x", "tmp/leanclaw-agent-test"] {
            let words = here.refusal(&Write, json!({"path": path, "content": "x"}));
            assert!(words.contains("not inside the workspace"), "{words}");
        }
        assert!(here.refusal(&Write, json!({"path": "a"})).contains("missing field `content`"));
    }
}
