//! Reading text line by line without ever holding more of a line than somebody wants to see.

use std::io::{self, BufRead};

/// What a file's beginning is looked through for to tell text from other data, in bytes.
pub(crate) const SNIFFED_BYTES: usize = 8192;

/// Whether these first bytes of a file are no text.
pub(crate) fn is_binary(beginning: &[u8]) -> bool {
    let sniffed = beginning.get(..SNIFFED_BYTES).unwrap_or(beginning);
    sniffed.contains(&0)
}

/// A line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// The line without its end, as far as it was kept.
    pub(crate) kept: Vec<u8>,
    /// How long it is without its end, in bytes.
    pub(crate) total_bytes: u64,
    /// Whether it ended with CR and LF.
    pub(crate) is_crlf: bool,
}

impl Line {
    /// The line as text, with a note when it was cut.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        if (self.kept.len() as u64) < self.total_bytes {
            // The cut may have fallen within a character.
            let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
            return format!("{text} [cut: the line has {} bytes]", self.total_bytes);
        }
        text.into_owned()
    }
}

/// The next line, of which at most `max_bytes` are kept; none at the end.
pub(crate) fn next_line(reader: &mut impl BufRead, max_bytes: usize) -> io::Result<Option<Line>> {
    let mut line = Line::default();
    let mut last_was_cr = false;
    let mut is_empty = true;
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok((!is_empty).then_some(line));
        }
        is_empty = false;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        let room = max_bytes.saturating_sub(line.kept.len()).min(part.len());
        line.kept.extend_from_slice(part.get(..room).unwrap_or_default());
        line.total_bytes = line.total_bytes.saturating_add(part.len() as u64);
        if let Some(last) = part.last() {
            last_was_cr = *last == b'\r';
        }
        let used = part.len().saturating_add(usize::from(end.is_some()));
        reader.consume(used);
        if end.is_some() {
            line.is_crlf = last_was_cr;
            if last_was_cr {
                line.total_bytes = line.total_bytes.saturating_sub(1);
                line.kept.truncate(usize::try_from(line.total_bytes).unwrap_or(usize::MAX));
            }
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn all(text: &[u8], capacity: usize, max_bytes: usize) -> Vec<(String, bool)> {
        let mut reader = BufReader::with_capacity(capacity, text);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader, max_bytes).unwrap() {
            lines.push((line.text(), line.is_crlf));
        }
        lines
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        for capacity in [1, 2, 3, 64] {
            let lines = all(b"a\r\n\nb\rc\n\r\nlast", capacity, 100);
            let expected = [("a", true), ("", false), ("b\rc", false), ("", true), ("last", false)];
            assert_eq!(lines, expected.map(|(text, is_crlf)| (text.to_owned(), is_crlf)), "{capacity}");
        }
        assert_eq!(all(b"", 4, 100), []);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(all("ääää\n".as_bytes(), 3, 3), [("ä [cut: the line has 8 bytes]".to_owned(), false)]);
        assert_eq!(all(b"abc\r\n", 3, 3), [("abc".to_owned(), true)]);
    }
}
