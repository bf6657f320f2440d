//! `edit`: an exact text in a file becomes another.

use std::io::Read as _;

use agent_client_protocol_schema::v1::ToolKind;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::write::change;
use super::{Context, Outcome, Refusal, Tool, parse, property, refuse, schema_of};

/// The largest file that is edited, in bytes.
const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;

pub(crate) struct Edit;

/// The input of `edit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The file, relative to the workspace.
    path: String,
    /// The text to replace, exactly as it stands in the file, without line numbers. It must occur once, unless `replace_all` is
    /// set.
    old_text: String,
    /// What stands there instead.
    new_text: String,
    /// Whether every occurrence is replaced.
    #[serde(default)]
    replace_all: bool,
}

impl Tool for Edit {
    fn name(&self) -> &'static str {
        "edit"
    }

    fn description(&self) -> &'static str {
        "Replaces an exact text in a file of the workspace. The text must occur exactly once, so give enough lines around it, or set `replace_all`. Read the file first."
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
        let Input { path, old_text, new_text, replace_all } = parse(self.name(), input)?;
        if old_text.is_empty() {
            return refuse("`old_text` is empty; use `write` to fill a file.");
        }
        if old_text == new_text {
            return refuse("`old_text` and `new_text` are the same; nothing was changed.");
        }
        let mut bytes = Vec::new();
        context.workspace.file(&path)?.take(MAX_FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return refuse(format!("`{path}` is larger than {MAX_FILE_BYTES} bytes, which is the most `edit` takes."));
        }
        let Ok(before) = String::from_utf8(bytes) else {
            return refuse(format!("`{path}` is not UTF-8 text."));
        };
        let (old_text, new_text) = in_line_ends_of(&before, old_text, new_text);
        let count = before.matches(&old_text).count();
        if count == 0 {
            return refuse(format!(
                "`old_text` does not occur in `{path}`. It must be the same to the last space; read the file again."
            ));
        }
        if count > 1 && !replace_all {
            return refuse(format!(
                "`old_text` occurs {count} times in `{path}`. Add lines around it until it is unique, or set `replace_all`."
            ));
        }
        let after = before.replace(&old_text, &new_text);
        context.workspace.write(&path, after.as_bytes())?;
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        let done = format!("Replaced {times} in `{path}`.");
        Ok(Outcome { change: change(&path, Some(before), after), ..Outcome::text(done) })
    }
}

/// Models write LF. In a file whose lines all end with CRLF that is meant as CRLF.
fn in_line_ends_of(file: &str, old_text: String, new_text: String) -> (String, String) {
    let has_crlf = file.contains("\r\n");
    let is_crlf = has_crlf && file.matches('\n').count() == file.matches("\r\n").count();
    if !is_crlf || old_text.contains("\r\n") {
        return (old_text, new_text);
    }
    let converted = |text: String| text.replace("\r\n", "\n").replace('\n', "\r\n");
    (converted(old_text), converted(new_text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    fn input(old: &str, new: &str) -> Value {
        json!({"path": "a", "old_text": old, "new_text": new})
    }

    #[test]
    fn a_unique_text_is_replaced() {
        let here = Fixture::new();
        here.put("a", "one ü\ntwo\n");
        assert_eq!(here.text(&Edit, input("ü\ntwo", "ö\n2")), "Replaced once in `a`.");
        assert_eq!(here.get("a"), "one ö\n2\n");
    }

    #[test]
    fn what_is_not_there_or_not_unique_changes_nothing() {
        let here = Fixture::new();
        here.put("a", "x x x");
        assert!(here.refusal(&Edit, input("y", "z")).contains("does not occur"));
        assert!(here.refusal(&Edit, input("x", "z")).contains("occurs 3 times"));
        assert!(here.refusal(&Edit, input("x", "x")).contains("are the same"));
        assert!(here.refusal(&Edit, input("", "x")).contains("is empty"));
        assert_eq!(here.get("a"), "x x x");
        let all = json!({"path": "a", "old_text": "x", "new_text": "z", "replace_all": true});
        assert_eq!(here.text(&Edit, all), "Replaced 3 times in `a`.");
        assert_eq!(here.get("a"), "z z z");
    }

    #[test]
    fn files_with_crlf_keep_it() {
        let here = Fixture::new();
        here.put("a", "one\r\ntwo\r\nthree\r\n");
        here.text(&Edit, input("one\ntwo", "1\n2"));
        assert_eq!(here.get("a"), "1\r\n2\r\nthree\r\n");
        here.text(&Edit, input("three", "3\n4"));
        assert_eq!(here.get("a"), "1\r\n2\r\n3\r\n4\r\n");
        here.put("a", "mixed\r\nlines\n");
        assert!(here.refusal(&Edit, input("mixed\nlines", "x")).contains("does not occur"));
    }

    #[test]
    fn what_is_no_text_or_too_large_is_refused() {
        let here = Fixture::new();
        here.put("a", b"\xff\xfe");
        assert_eq!(here.refusal(&Edit, input("x", "y")), "`a` is not UTF-8 text.");
        here.put("a", vec![b'x'; 10 * 1024 * 1024 + 1]);
        assert!(here.refusal(&Edit, input("x", "y")).contains("is larger than"));
    }
}
