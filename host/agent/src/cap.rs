//! Bounds on what a tool may say.
//!
//! Everything a tool returns is read by a model that pays for each word, so nothing goes out unbounded, and nothing is cut
//! without a note on what was cut.

/// The longest text of one tool result, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 48 * 1024;

/// At most the first `max_bytes` of `text`, cut between characters.
pub(crate) fn head(text: &str, max_bytes: usize) -> &str {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

/// What notes may add to a text that is cut already, in bytes.
const SLACK_BYTES: usize = 16 * 1024;

/// `text`, or its beginning and a note that says that it was cut and what to do about it.
pub(crate) fn capped(text: String, hint: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES.saturating_add(SLACK_BYTES) {
        return text;
    }
    let kept = head(&text, MAX_TEXT_BYTES);
    format!("{kept}\n[cut: {} of {} bytes shown; {hint}]", kept.len(), text.len())
}

/// Collects bytes and keeps the first and the last of them. Only a shell's output needs both.
#[cfg(not(target_family = "wasm"))]
#[derive(Debug, Default)]
pub(crate) struct HeadAndTail {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    total_bytes: u64,
}

#[cfg(not(target_family = "wasm"))]
impl HeadAndTail {
    const HALF_BYTES: usize = MAX_TEXT_BYTES / 2;

    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total_bytes = self.total_bytes.saturating_add(bytes.len() as u64);
        let room = Self::HALF_BYTES.saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(Self::HALF_BYTES);
        self.tail.drain(..excess);
    }

    /// What is left, as text, with a note in the place of what was cut.
    pub(crate) fn text(&self, hint: &str) -> String {
        let kept = self.head.len().saturating_add(self.tail.len()) as u64;
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if kept >= self.total_bytes {
            // Joined before it is read, as a character may lie across the border.
            return String::from_utf8_lossy(&[self.head.as_slice(), &tail].concat()).into_owned();
        }
        format!(
            "{}\n[cut: {} of {} bytes left out here; {hint}]\n{}",
            String::from_utf8_lossy(&self.head),
            self.total_bytes.saturating_sub(kept),
            self.total_bytes,
            String::from_utf8_lossy(&tail)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_never_falls_within_a_character() {
        assert_eq!(head("aäb", 2), "a");
        assert_eq!(head("aäb", 3), "aä");
        assert_eq!(head("", 3), "");
    }

    #[test]
    fn short_text_stays_and_long_text_says_that_it_was_cut() {
        assert_eq!(capped("a".into(), "x"), "a");
        let long = capped("a".repeat(MAX_TEXT_BYTES + SLACK_BYTES + 1), "ask for less");
        assert!(long.ends_with("[cut: 49152 of 65537 bytes shown; ask for less]"), "{}", &long[49_000..]);
    }

    #[test]
    fn both_ends_of_a_flood_are_kept() {
        let mut kept = HeadAndTail::default();
        kept.push(b"begin");
        for _ in 0..1000 {
            kept.push(&[b'x'; 1000]);
        }
        kept.push("end ä".as_bytes());
        let text = kept.text("redirect it");
        assert!(text.starts_with("beginxx") && text.ends_with("xend ä"), "{}", text.len());
        assert!(text.contains("bytes left out here; redirect it"));
        assert!(text.len() < MAX_TEXT_BYTES + 100);
    }

    #[test]
    fn a_character_across_the_border_of_the_two_halves_survives() {
        let mut kept = HeadAndTail::default();
        kept.push(&vec![b'x'; HeadAndTail::HALF_BYTES - 1]);
        kept.push("ä!".as_bytes());
        assert!(kept.text("").ends_with("xä!"));
    }
}
