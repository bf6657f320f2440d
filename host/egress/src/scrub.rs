//! Takes secret values out of what comes back.
//!
//! A server may echo what it was sent. Before anything of an answer reaches a guest or a log, each known value is
//! replaced by `[secret:NAME]`, in the forms servers commonly echo: as it is, percent-encoded, JSON-escaped, and base64
//! at any alignment (so `Basic` credentials built around a value are found too). A server that wants to hand a value
//! back disguised can always do so; that is why a secret is only ever sent to the host it is declared for.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use leanclaw_types::redact::Secret;
use zeroize::Zeroizing;

use crate::inject::{PATH_SAFE, QUERY_SAFE, percent_encode};

/// The shortest value that can be scrubbed: replacing every occurrence of fewer bytes would ruin honest answers.
pub(crate) const MIN_SECRET_BYTES: usize = 4;

/// One form of one secret.
struct Form {
    bytes: Zeroizing<Vec<u8>>,
    replacement: Bytes,
}

/// Replaces the values of some secrets.
pub(crate) struct Scrubber {
    /// Longest first, so that the first that fits is the longest.
    forms: Vec<Form>,
    /// Whether a form begins with this byte: most bytes of an answer need no further look.
    first_bytes: [bool; 256],
}

/// What stands at one position.
enum Found<'a> {
    Nothing,
    /// A form of this many bytes.
    Form(usize, &'a Bytes),
    /// The text ends here in what may become a form.
    Unfinished,
}

impl Scrubber {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a Secret)>) -> Self {
        let mut forms: Vec<Form> = Vec::new();
        for (name, secret) in secrets {
            let replacement = Bytes::from(format!("[secret:{name}]"));
            for bytes in forms_of(secret.expose().as_bytes()) {
                let new = bytes.len() >= MIN_SECRET_BYTES && !forms.iter().any(|form| form.bytes == bytes);
                if new {
                    forms.push(Form { bytes, replacement: replacement.clone() });
                }
            }
        }
        forms.sort_by_key(|form| std::cmp::Reverse(form.bytes.len()));
        let mut first_bytes = [false; 256];
        for form in &forms {
            if let Some(slot) = form.bytes.first().and_then(|first| first_bytes.get_mut(usize::from(*first))) {
                *slot = true;
            }
        }
        Self { forms, first_bytes }
    }

    /// Whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    fn look(&self, rest: &[u8], at_end: bool) -> Found<'_> {
        for form in &self.forms {
            if rest.starts_with(&form.bytes) {
                return Found::Form(form.bytes.len(), &form.replacement);
            }
            if !at_end && form.bytes.starts_with(rest) {
                return Found::Unfinished;
            }
        }
        Found::Nothing
    }

    /// Copies `text` to `output` with the forms replaced, and gives how many bytes were decided: all of them at the
    /// end, otherwise all but a last piece that may be the beginning of a form.
    fn replace(&self, text: &[u8], at_end: bool, output: &mut Vec<u8>) -> usize {
        let mut position = 0;
        while let Some(rest) = text.get(position..).filter(|rest| !rest.is_empty()) {
            let begins = |byte: &u8| self.first_bytes.get(usize::from(*byte)).copied().unwrap_or(false);
            let plain = rest.iter().position(begins).unwrap_or(rest.len());
            let (before, rest) = rest.split_at(plain);
            output.extend_from_slice(before);
            position += plain;
            let Some(first) = rest.first() else { break };
            match self.look(rest, at_end) {
                Found::Form(length, replacement) => {
                    output.extend_from_slice(replacement);
                    position += length;
                }
                Found::Unfinished => break,
                Found::Nothing => {
                    output.push(*first);
                    position += 1;
                }
            }
        }
        position
    }

    /// The bytes with every form replaced.
    pub(crate) fn bytes(&self, text: &[u8]) -> Vec<u8> {
        let mut output = Vec::with_capacity(text.len());
        self.replace(text, true, &mut output);
        output
    }

    /// The text with every form replaced.
    pub(crate) fn text(&self, text: &str) -> String {
        if self.is_empty() {
            text.to_owned()
        } else {
            String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned()
        }
    }
}

/// Every form a value is looked for in.
fn forms_of(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    if value.len() < MIN_SECRET_BYTES {
        return Vec::new();
    }
    let mut forms = vec![Zeroizing::new(value.to_vec()), json_escaped(value)];
    for safe in [PATH_SAFE, QUERY_SAFE, b"!'()*".as_slice()] {
        let encoded = percent_encode(value, safe);
        forms.push(Zeroizing::new(lower_case_escapes(&encoded)));
        let mut with_plus = Zeroizing::new(Vec::with_capacity(encoded.len()));
        let mut rest = encoded.as_slice();
        while let Some((first, tail)) = rest.split_first() {
            let space = tail.strip_prefix(b"20").filter(|_| *first == b'%');
            with_plus.push(if space.is_some() { b'+' } else { *first });
            rest = space.unwrap_or(tail);
        }
        forms.push(with_plus);
        forms.push(encoded);
    }
    for prefix_bytes in 0..3 {
        for url_safe in [false, true] {
            forms.push(base64_core(value, prefix_bytes, url_safe));
        }
    }
    forms.push(Zeroizing::new(STANDARD_NO_PAD.encode(value).into_bytes()));
    forms.push(Zeroizing::new(URL_SAFE_NO_PAD.encode(value).into_bytes()));
    forms
}

fn json_escaped(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut escaped = Zeroizing::new(Vec::with_capacity(value.len() * 2));
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

fn lower_case_escapes(encoded: &[u8]) -> Vec<u8> {
    let mut digits_left = 0;
    let lower = encoded.iter().map(|byte| {
        if *byte == b'%' {
            digits_left = 2;
            *byte
        } else if digits_left > 0 {
            digits_left -= 1;
            byte.to_ascii_lowercase()
        } else {
            *byte
        }
    });
    lower.collect()
}

/// The base64 characters that depend on the value alone when `prefix_bytes` other bytes (modulo 3) stand before it.
/// The characters at either end that share bits with a neighbour are not part of it.
fn base64_core(value: &[u8], prefix_bytes: usize, url_safe: bool) -> Zeroizing<Vec<u8>> {
    let mut padded = Zeroizing::new(vec![0_u8; prefix_bytes]);
    padded.extend_from_slice(value);
    let engine = if url_safe { &URL_SAFE_NO_PAD } else { &STANDARD_NO_PAD };
    let encoded = Zeroizing::new(engine.encode(padded.as_slice()).into_bytes());
    let start = (prefix_bytes * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    Zeroizing::new(encoded.get(start..end).unwrap_or_default().to_vec())
}

/// Scrubs a stream, also where a value is cut in two by a chunk border.
pub(crate) struct StreamScrubber {
    scrubber: std::sync::Arc<Scrubber>,
    /// The undecided end of what came so far; shorter than the longest form.
    held: Zeroizing<Vec<u8>>,
}

impl StreamScrubber {
    pub(crate) fn new(scrubber: std::sync::Arc<Scrubber>) -> Self {
        Self { scrubber, held: Zeroizing::new(Vec::new()) }
    }

    /// What can be passed on after `chunk` came. Only bytes that may be the beginning of a value are held back, so a
    /// stream of events is not delayed.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.scrubber.is_empty() {
            return chunk;
        }
        self.held.extend_from_slice(&chunk);
        self.drain(false)
    }

    /// What is left when nothing more comes.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.drain(true)
    }

    fn drain(&mut self, at_end: bool) -> Bytes {
        let mut output = Vec::with_capacity(self.held.len());
        let decided = self.scrubber.replace(&self.held, at_end, &mut output);
        let undecided = Zeroizing::new(self.held.get(decided..).unwrap_or_default().to_vec());
        self.held = undecided;
        Bytes::from(output)
    }
}

/// Writes a percent escape.
pub(crate) fn write_escape(output: &mut Vec<u8>, byte: u8) {
    // Writing into a Vec cannot fail.
    let _ = write!(output, "%{byte:02X}");
}

#[cfg(test)]
#[path = "tests/scrub.rs"]
mod tests;
