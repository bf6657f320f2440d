//! `glob`: which files there are.

use agent_client_protocol_schema::v1::ToolKind;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::search::{Walked, below, matcher, walk};
use super::{Context, Outcome, Refusal, Tool, parse, property, schema_of};
use crate::cap::MAX_TEXT_BYTES;

/// The most files of one answer.
const MAX_FILES: usize = 1000;

pub(crate) struct Glob;

/// The input of `glob`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// A pattern such as `*.md`, `src/**/*.rs` or `{a,b}/*`. Without a slash it is for names in every folder.
    pattern: String,
    /// The folder to look in, relative to the workspace; all of it when left out.
    #[serde(default)]
    path: String,
}

impl Tool for Glob {
    fn name(&self) -> &'static str {
        "glob"
    }

    fn description(&self) -> &'static str {
        "Lists the files of the workspace whose path matches a pattern, sorted by path, up to 1000. Links and `.git` are passed over."
    }

    fn kind(&self) -> ToolKind {
        ToolKind::Search
    }

    fn schema(&self) -> Value {
        schema_of::<Input>()
    }

    fn subject<'i>(&self, input: &'i Value) -> Option<&'i str> {
        property(input, "pattern")
    }

    fn run(&self, input: &Value, context: &mut Context<'_>) -> Result<Outcome, Refusal> {
        let Input { pattern, path } = parse(self.name(), input)?;
        let matcher = matcher(&pattern)?;
        let (folder, prefix) = context.workspace.folder(&path)?;
        let mut found = String::new();
        let mut count = 0_usize;
        let walked = walk(folder, &prefix, context, &mut |_, _, path| {
            if !matcher.is_match(below(path, &prefix)) {
                return Ok(true);
            }
            if count >= MAX_FILES || found.len().saturating_add(path.len()) > MAX_TEXT_BYTES {
                return Ok(false);
            }
            count = count.saturating_add(1);
            found.push_str(path);
            found.push('\n');
            Ok(true)
        })?;
        if count == 0 {
            return Ok(Outcome::text(format!("No file matches `{pattern}`.\n{}", walked.note())));
        }
        if walked == Walked::Enough {
            found.push_str(&format!("[only the first {count} files are listed; narrow the pattern]\n"));
        }
        found.push_str(walked.note());
        Ok(Outcome::text(found))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    fn here() -> Fixture {
        let here = Fixture::new();
        for path in ["b.rs", "a.md", "src/x.rs", "src/deep/ü.rs", ".git/config.rs", ".hidden/z.rs"] {
            here.put(path, "");
        }
        symlink("/etc", here.at("etc")).unwrap();
        symlink(".", here.at("loop")).unwrap();
        here
    }

    #[test]
    fn patterns_match_names_and_paths() {
        let here = here();
        let cases = [
            (json!({"pattern": "*.rs"}), ".hidden/z.rs\nb.rs\nsrc/deep/ü.rs\nsrc/x.rs\n"),
            (json!({"pattern": "src/*.rs"}), "src/x.rs\n"),
            (json!({"pattern": "src/**/*.rs"}), "src/deep/ü.rs\nsrc/x.rs\n"),
            (json!({"pattern": "*.{md,txt}"}), "a.md\n"),
            (json!({"pattern": "*.rs", "path": "src/deep"}), "src/deep/ü.rs\n"),
            (json!({"pattern": "deep/*", "path": "src"}), "src/deep/ü.rs\n"),
            (json!({"pattern": "passwd"}), "No file matches `passwd`.\n"),
        ];
        for (input, expected) in cases {
            assert_eq!(here.text(&Glob, input.clone()), expected, "{input}");
        }
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        let here = here();
        assert!(here.refusal(&Glob, json!({"pattern": "a["})).contains("is no valid pattern"));
        assert!(here.refusal(&Glob, json!({"pattern": "*", "path": "etc"})).contains("not inside the workspace"));
        assert!(here.refusal(&Glob, json!({"pattern": "*", "path": "a.md"})).contains("is not a folder"));
        assert!(here.refusal(&Glob, json!({"pattern": "*", "path": "none"})).contains("does not exist"));
        let cancelled = here.run_until(&Glob, json!({"pattern": "*"}), &mut || true).unwrap_err();
        assert_eq!(cancelled.0, "Cancelled.");
    }

    #[test]
    fn a_flood_is_cut_and_says_so() {
        let here = Fixture::new();
        for number in 0..1100 {
            here.put(&format!("f{number:04}"), "");
        }
        let text = here.text(&Glob, json!({"pattern": "*"}));
        assert!(text.ends_with("f0999\n[only the first 1000 files are listed; narrow the pattern]\n"));
    }
}
