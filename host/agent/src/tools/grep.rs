//! `grep`: where a text stands.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};

use agent_client_protocol_schema::v1::ToolKind;
use regex::bytes::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::lines::{Line, is_binary, next_line};
use super::search::{Walked, below, matcher, walk};
use super::{Context, Outcome, Refusal, Tool, parse, property, refuse, schema_of};
use crate::cap::{MAX_TEXT_BYTES, head};

/// The most matches of one answer.
const MAX_MATCHES: u32 = 200;
/// The most lines around a match.
const MAX_AROUND: usize = 20;
/// What is searched of one line, in bytes.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// What is shown of one line, in bytes.
const MAX_SHOWN_BYTES: usize = 500;
/// The largest file that is searched, in bytes.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// The largest compiled pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;

pub(crate) struct Grep;

/// The input of `grep`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// A regular expression that is held against each line.
    pattern: String,
    /// The file or folder to search, relative to the workspace; all of it when left out.
    #[serde(default)]
    path: String,
    /// Searches only files that match this, such as `*.rs` or `src/**/*.md`.
    #[serde(default)]
    glob: Option<String>,
    /// Whether upper and lower case are the same.
    #[serde(default)]
    ignore_case: bool,
    /// How many lines to show before and after each match; at most 20.
    #[serde(default)]
    context: usize,
}

impl Tool for Grep {
    fn name(&self) -> &'static str {
        "grep"
    }

    fn description(&self) -> &'static str {
        "Searches the text files of the workspace for a regular expression and shows the lines that match as `path:line:text`, up to 200 matches."
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
        let input: Input = parse(self.name(), input)?;
        let pattern = RegexBuilder::new(&input.pattern)
            .case_insensitive(input.ignore_case)
            .size_limit(MAX_PATTERN_BYTES)
            .build()
            .or_else(|error| refuse(format!("`{}` is no valid regular expression: {error}", input.pattern)))?;
        let around = input.context.min(MAX_AROUND);
        let mut search =
            Search { pattern, around, found: String::new(), matches: 0, last: None, too_large: 0, is_full: false };
        let walked = if context.workspace.is_folder(&input.path) {
            let glob = input.glob.as_deref().map(matcher).transpose()?;
            let (folder, prefix) = context.workspace.folder(&input.path)?;
            walk(folder, &prefix, context, &mut |folder, name, path| {
                if glob.as_ref().is_none_or(|glob| glob.is_match(below(path, &prefix)))
                    && let Ok(file) = folder.file(name)
                {
                    // A file that cannot be read has nothing that matches.
                    let _ = search.file(file, path);
                }
                Ok(!search.is_full)
            })?
        } else {
            search.file(context.workspace.file(&input.path)?, &input.path)?;
            Walked::All
        };
        Ok(Outcome::text(search.report(&input.pattern, walked)))
    }
}

struct Search {
    pattern: Regex,
    around: usize,
    found: String,
    matches: u32,
    /// The file and line that were shown last.
    last: Option<(String, u64)>,
    too_large: u32,
    is_full: bool,
}

impl Search {
    fn file(&mut self, file: std::fs::File, path: &str) -> std::io::Result<()> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(());
        }
        if metadata.len() > MAX_FILE_BYTES {
            self.too_large = self.too_large.saturating_add(1);
            return Ok(());
        }
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        if is_binary(reader.fill_buf()?) {
            return Ok(());
        }
        let mut before: VecDeque<(u64, Line)> = VecDeque::new();
        let mut number = 0_u64;
        let mut after = 0_usize;
        while let Some(line) = next_line(&mut reader, MAX_LINE_BYTES)? {
            number = number.saturating_add(1);
            if self.pattern.is_match(&line.kept) {
                if self.matches >= MAX_MATCHES || self.found.len() > MAX_TEXT_BYTES {
                    self.is_full = true;
                    return Ok(());
                }
                self.matches = self.matches.saturating_add(1);
                for (number, line) in before.drain(..) {
                    self.show(path, number, '-', &line);
                }
                self.show(path, number, ':', &line);
                after = self.around;
            } else if after > 0 {
                self.show(path, number, '-', &line);
                after = after.saturating_sub(1);
            } else if self.around > 0 {
                if before.len() >= self.around {
                    before.pop_front();
                }
                before.push_back((number, line));
            }
        }
        Ok(())
    }

    fn show(&mut self, path: &str, number: u64, mark: char, line: &Line) {
        let follows = |(last, at): &(String, u64)| last == path && at.saturating_add(1) == number;
        if self.around > 0 && self.last.as_ref().is_some_and(|last| !follows(last)) {
            self.found.push_str("--\n");
        }
        let text = line.text();
        let shown = head(&text, MAX_SHOWN_BYTES);
        let cut = if shown.len() < text.len() { " [cut]" } else { "" };
        self.found.push_str(&format!("{path}{mark}{number}{mark}{shown}{cut}\n"));
        match &mut self.last {
            Some((last, at)) if last == path => *at = number,
            last => *last = Some((path.to_owned(), number)),
        }
    }

    fn report(mut self, pattern: &str, walked: Walked) -> String {
        if self.matches == 0 {
            self.found = format!("Nothing matches `{pattern}`.\n");
        }
        if self.is_full {
            let count = self.matches;
            self.found
                .push_str(&format!("[only the first {count} matches are shown; narrow the pattern or the path]\n"));
        }
        if self.too_large > 0 {
            let count = self.too_large;
            self.found.push_str(&format!("[{count} files larger than {MAX_FILE_BYTES} bytes were not searched]\n"));
        }
        self.found.push_str(walked.note());
        self.found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    fn here() -> Fixture {
        let here = Fixture::new();
        here.put("a.txt", "one\nTwo ü\r\nthree\nfour\ntwo\nsix\n");
        here.put("src/b.rs", "two\n");
        here.put("binary", b"two\0");
        here.put(".git/c", "two\n");
        here
    }

    #[test]
    fn matches_are_shown_with_their_place() {
        let here = here();
        let cases = [
            (json!({"pattern": "two"}), "a.txt:5:two\nsrc/b.rs:1:two\n"),
            (json!({"pattern": "^two", "ignore_case": true, "glob": "*.txt"}), "a.txt:2:Two ü\na.txt:5:two\n"),
            (json!({"pattern": "ü$"}), "a.txt:2:Two ü\n"),
            (json!({"pattern": "two", "path": "src"}), "src/b.rs:1:two\n"),
            (json!({"pattern": "t", "path": "src/b.rs"}), "src/b.rs:1:two\n"),
            (json!({"pattern": "none"}), "Nothing matches `none`.\n"),
        ];
        for (input, expected) in cases {
            assert_eq!(here.text(&Grep, input.clone()), expected, "{input}");
        }
    }

    #[test]
    fn lines_around_are_shown_once() {
        let here = here();
        let text = here.text(&Grep, json!({"pattern": "one|^two", "context": 1}));
        let expected = "a.txt:1:one\na.txt-2-Two ü\n--\na.txt-4-four\na.txt:5:two\na.txt-6-six\n--\nsrc/b.rs:1:two\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn floods_and_long_lines_are_cut_and_say_so() {
        let here = Fixture::new();
        here.put("many", "x\n".repeat(1000));
        let text = here.text(&Grep, json!({"pattern": "x"}));
        assert!(text.ends_with("many:200:x\n[only the first 200 matches are shown; narrow the pattern or the path]\n"));
        here.put("many", format!("{}\n", "x".repeat(10_000)));
        let text = here.text(&Grep, json!({"pattern": "x"}));
        assert!(text.len() < 600 && text.ends_with(" [cut]\n"), "{}", text.len());
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        let here = here();
        assert!(here.refusal(&Grep, json!({"pattern": "("})).contains("is no valid regular expression"));
        assert!(
            here.refusal(&Grep, json!({"pattern": "(?:a{1000}){1000}"})).contains("is no valid regular expression")
        );
        assert!(here.refusal(&Grep, json!({"pattern": "x", "path": "../"})).contains("not inside the workspace"));
        assert!(here.refusal(&Grep, json!({"pattern": "x", "path": "none"})).contains("does not exist"));
        here.put("huge", "");
        std::fs::File::options().write(true).open(here.at("huge")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert!(here.text(&Grep, json!({"pattern": "x"})).contains("[1 files larger than"));
    }
}
