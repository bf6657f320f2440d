//! `read`: what is in a file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};

use agent_client_protocol_schema::v1::ToolKind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leanclaw_types::model::Block;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::lines::{Line, is_binary, next_line};
use super::{Context, Outcome, Refusal, Tool, parse, property, refuse, schema_of};
use crate::cap::MAX_TEXT_BYTES;

/// The most lines of one answer when none are asked for.
const DEFAULT_LINES: u64 = 2000;
/// What is shown of one line, in bytes.
const MAX_LINE_BYTES: usize = 2000;
/// The largest picture, in bytes; providers take no larger ones.
const MAX_IMAGE_BYTES: u64 = 3_750_000;

pub(crate) struct Read;

/// The input of `read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// The file, relative to the workspace.
    path: String,
    /// The first line to show, counted from 1.
    #[serde(default)]
    offset: Option<u64>,
    /// The most lines to show; 2000 when left out.
    #[serde(default)]
    limit: Option<u64>,
}

impl Tool for Read {
    fn name(&self) -> &'static str {
        "read"
    }

    fn description(&self) -> &'static str {
        "Reads a file of the workspace. Text comes with line numbers, up to 2000 lines at once; read on with `offset`. PNG, JPEG, GIF and WebP files come as pictures."
    }

    fn kind(&self) -> ToolKind {
        ToolKind::Read
    }

    fn schema(&self) -> Value {
        schema_of::<Input>()
    }

    fn subject<'i>(&self, input: &'i Value) -> Option<&'i str> {
        property(input, "path")
    }

    fn run(&self, input: &Value, context: &mut Context<'_>) -> Result<Outcome, Refusal> {
        let input: Input = parse(self.name(), input)?;
        let file = context.workspace.file(&input.path)?;
        let size_bytes = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let beginning = reader.fill_buf()?;
        if let Some(media_type) = image_type(beginning) {
            return picture(reader, media_type, size_bytes, &input.path);
        }
        if is_binary(beginning) {
            return refuse(format!("`{}` is not text: {size_bytes} bytes of binary data.", input.path));
        }
        text(reader, &input, context)
    }
}

fn image_type(beginning: &[u8]) -> Option<&'static str> {
    match beginning {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

fn picture(reader: BufReader<File>, media_type: &str, size_bytes: u64, path: &str) -> Result<Outcome, Refusal> {
    let mut bytes = Vec::new();
    reader.take(MAX_IMAGE_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_IMAGE_BYTES {
        return refuse(format!("The picture `{path}` has {size_bytes} bytes; at most {MAX_IMAGE_BYTES} can be shown."));
    }
    let block = Block::Image { media_type: media_type.to_owned(), data: STANDARD.encode(bytes) };
    Ok(Outcome { content: vec![block], is_error: false, change: None })
}

fn text(mut reader: BufReader<File>, input: &Input, context: &mut Context<'_>) -> Result<Outcome, Refusal> {
    let first = input.offset.unwrap_or(1).max(1);
    let limit = input.limit.unwrap_or(DEFAULT_LINES).max(1);
    let mut shown = String::new();
    let mut number = 0_u64;
    let mut has_crlf = false;
    let mut next = None;
    while let Some(line) = next_line(&mut reader, MAX_LINE_BYTES)? {
        number = number.saturating_add(1);
        if number.is_multiple_of(4096) && (context.cancelled)() {
            return refuse("Cancelled.");
        }
        if number < first {
            continue;
        }
        let formatted = numbered(number, &line);
        let is_full = shown.len().saturating_add(formatted.len()) > MAX_TEXT_BYTES && !shown.is_empty();
        if is_full || number.saturating_sub(first) >= limit {
            next = Some(number);
            break;
        }
        has_crlf |= line.is_crlf;
        shown.push_str(&formatted);
    }
    if number == 0 {
        return Ok(Outcome::text(format!("[`{}` is empty]", input.path)));
    }
    if shown.is_empty() {
        return refuse(format!("`{}` has {number} lines; there is no line {first}.", input.path));
    }
    if has_crlf {
        shown.push_str("[lines end with CRLF]\n");
    }
    if let Some(next) = next {
        shown.push_str(&format!("[there is more: read on with offset {next}]\n"));
    }
    Ok(Outcome::text(shown))
}

fn numbered(number: u64, line: &Line) -> String {
    format!("{number:>6}\t{}\n", line.text())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn text_has_line_numbers_and_can_be_read_in_parts() {
        let here = Fixture::new();
        here.put("a.txt", "one\ntwo ü\n\nfour");
        let all = here.text(&Read, json!({"path": "a.txt"}));
        assert_eq!(all, "     1\tone\n     2\ttwo ü\n     3\t\n     4\tfour\n");
        let part = here.text(&Read, json!({"path": "a.txt", "offset": 2, "limit": 2}));
        assert_eq!(part, "     2\ttwo ü\n     3\t\n[there is more: read on with offset 4]\n");
        let beyond = here.refusal(&Read, json!({"path": "a.txt", "offset": 9}));
        assert_eq!(beyond, "`a.txt` has 4 lines; there is no line 9.");
    }

    #[test]
    fn odd_files_are_named_for_what_they_are() {
        let here = Fixture::new();
        here.put("empty", "");
        here.put("binary", b"\x7fELF\0\0");
        here.put("crlf", "a\r\nb\r\n");
        here.put("latin", b"caf\xe9\n");
        assert_eq!(here.text(&Read, json!({"path": "empty"})), "[`empty` is empty]");
        assert_eq!(here.refusal(&Read, json!({"path": "binary"})), "`binary` is not text: 6 bytes of binary data.");
        assert_eq!(here.text(&Read, json!({"path": "crlf"})), "     1\ta\n     2\tb\n[lines end with CRLF]\n");
        assert_eq!(here.text(&Read, json!({"path": "latin"})), "     1\tcaf\u{fffd}\n");
        assert!(here.refusal(&Read, json!({"path": "."})).contains("is a folder"));
        assert!(here.refusal(&Read, json!({"path": "../x"})).contains("not inside the workspace"));
        assert!(here.refusal(&Read, json!({"path": "a\u{0}"})).contains("NUL"));
        assert!(here.refusal(&Read, json!({"path": "none"})).contains("does not exist"));
    }

    #[test]
    fn a_huge_file_is_read_in_bounded_parts() {
        let here = Fixture::new();
        here.put("huge", "0123456789\n".repeat(1_000_000));
        let text = here.text(&Read, json!({"path": "huge"}));
        assert!(text.ends_with("[there is more: read on with offset 2001]\n"));
        let last = here.text(&Read, json!({"path": "huge", "offset": 1_000_000}));
        assert_eq!(last, "1000000\t0123456789\n");
        here.put("wide", "ab".repeat(1_000_000));
        let text = here.text(&Read, json!({"path": "wide"}));
        assert!(text.len() < 3000 && text.ends_with("[cut: the line has 2000000 bytes]\n"));
        here.put("both", format!("{}\n", "x".repeat(1500)).repeat(100));
        let text = here.text(&Read, json!({"path": "both"}));
        assert!(text.len() < MAX_TEXT_BYTES + 100 && text.ends_with("[there is more: read on with offset 33]\n"));
    }

    #[test]
    fn pictures_come_as_pictures_unless_they_are_too_large() {
        let here = Fixture::new();
        here.put("a.png", b"\x89PNG\r\n\x1a\n\0");
        let outcome = here.run(&Read, json!({"path": "a.png"})).unwrap();
        let data = STANDARD.encode(b"\x89PNG\r\n\x1a\n\0");
        assert_eq!(outcome.content, [Block::Image { media_type: "image/png".into(), data }]);
        here.put("b.jpg", [&b"\xff\xd8\xff"[..], &vec![0; 4_000_000]].concat());
        assert!(here.refusal(&Read, json!({"path": "b.jpg"})).contains("has 4000003 bytes"));
    }
}
