//! Server-Sent Events, read from pieces of bytes as they come.
//!
//! Owns the grammar of the event stream as the HTML standard lays it down: line ends of all three kinds, a byte order mark,
//! comments, fields with and without colon, data of several lines. Pieces may be cut anywhere, within a line end and within
//! a character too. It knows nothing of what the data means, and drops what the standard drops: events without data, and
//! whatever was begun when the stream ends.
//!
//! Each byte is looked at once and copied at most twice, and what is held is bounded by [`SseLimits`].

use std::collections::VecDeque;

/// How much of a stream may be held at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SseLimits {
    /// Bytes of one line, without its end. Default 4 MiB.
    pub line_bytes: usize,
    /// Bytes of the data of one event. Default 8 MiB.
    pub event_bytes: usize,
}

impl Default for SseLimits {
    fn default() -> Self {
        Self { line_bytes: 4 * 1024 * 1024, event_bytes: 8 * 1024 * 1024 }
    }
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} of the event stream is larger than {limit_bytes} bytes")]
pub struct SseError {
    /// `a line` or `an event`.
    pub what: &'static str,
    /// The limit in bytes.
    pub limit_bytes: usize,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// Its name; empty when the stream gives none.
    pub name: String,
    /// Its data, lines parted by a line feed. It may be empty: `data:` alone is an event too.
    pub data: String,
}

/// Turns pieces of bytes into events.
#[derive(Debug, Default)]
pub struct SseParser {
    limits: SseLimits,
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The last piece ended with a carriage return, so a line feed at the start of the next belongs to it.
    after_return: bool,
    /// The first line is behind, and with it the place for a byte order mark.
    begun: bool,
    name: String,
    data: String,
    has_data: bool,
    events: VecDeque<SseEvent>,
    broken: Option<SseError>,
}

impl SseParser {
    /// A parser at the start of a stream.
    #[must_use]
    pub fn new(limits: SseLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next piece of the stream.
    ///
    /// # Errors
    /// When a line or an event is too large. Everything after that fails in the same way.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), SseError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if self.after_return && !piece.is_empty() {
            self.after_return = false;
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        while let Some(end) = piece.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let (line, rest) = piece.split_at(end);
            self.extend(line)?;
            self.end_line()?;
            piece = match rest {
                [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_return = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.extend(piece)
    }

    /// The next whole event.
    pub fn next_event(&mut self) -> Option<SseEvent> {
        self.events.pop_front()
    }

    fn fail(&mut self, what: &'static str, limit_bytes: usize) -> Result<(), SseError> {
        let error = SseError { what, limit_bytes };
        self.broken = Some(error);
        (self.line, self.data) = (Vec::new(), String::new());
        Err(error)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        if self.line.len().saturating_add(bytes.len()) > self.limits.line_bytes {
            return self.fail("a line", self.limits.line_bytes);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), SseError> {
        let mut line = std::mem::take(&mut self.line);
        let result = {
            let bytes = line.as_slice();
            let is_first = !std::mem::replace(&mut self.begun, true);
            let bytes = if is_first { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
            self.take_line(bytes)
        };
        // The room is used again, but a single long line does not hold it for the rest of the stream.
        line.clear();
        line.shrink_to(64 * 1024);
        self.line = line;
        result
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), SseError> {
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                let (field, value) = line.split_at(colon);
                let value = value.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, [].as_slice()),
        };
        match field {
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                // Bytes that are no text may take three times the room.
                let value = String::from_utf8_lossy(value);
                if self.data.len().saturating_add(value.len()).saturating_add(1) > self.limits.event_bytes {
                    return self.fail("an event", self.limits.event_bytes);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(&value);
                self.has_data = true;
            }
            // A comment has no name; `id` and `retry` are for clients that connect again, which would repeat the question.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        if std::mem::take(&mut self.has_data) {
            self.events.push_back(SseEvent { name, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece).unwrap();
            events.extend(std::iter::from_fn(|| parser.next_event()).map(|event| (event.name, event.data)));
        }
        events
    }

    fn event(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn every_way_to_write_an_event_reads_the_same() {
        let wanted = vec![event("a", "1\n2"), event("", "3")];
        for text in [
            "event: a\ndata: 1\ndata: 2\n\ndata: 3\n\n",
            "event: a\r\ndata: 1\r\ndata: 2\r\n\r\ndata: 3\r\n\r\n",
            "event: a\rdata: 1\rdata: 2\r\rdata: 3\r\r",
            "event:a\ndata:1\ndata:2\n\ndata:3\n\n",
            "\u{feff}event: a\n: comment\ndata: 1\nid: 7\nretry: 10\nnothing: x\ndata: 2\n\n:\n\ndata: 3\n\n",
            "event: b\nevent: a\r\ndata: 1\rdata: 2\n\r\ndata: 3\n\ndata: cut off\n",
        ] {
            assert_eq!(read(&[text.as_bytes()]), wanted, "{text:?}");
        }
    }

    #[test]
    fn what_the_standard_drops_is_dropped() {
        assert_eq!(read(&[b"event: a\n\nid\nevent\n\n"]), []);
        assert_eq!(
            read(&[b"data\n\n", b"data:\n\n", b"data:\ndata\n\n"]),
            [event("", ""), event("", ""), event("", "\n")]
        );
        assert_eq!(read(&[b"data:  two spaces\n\n"]), [event("", " two spaces")]);
        assert_eq!(read(&[b"data: a\xff\x00b\n\n"]), [event("", "a\u{fffd}\0b")]);
        assert_eq!(read(&[b"data: x\n\n\xef\xbb\xbfdata: only the first\n\n"]), [event("", "x")]);
    }

    #[test]
    fn what_is_too_large_ends_the_stream() {
        let limits = SseLimits { line_bytes: 10, event_bytes: 12 };
        let mut parser = SseParser::new(limits);
        parser.push(b"data: 1234\n").unwrap();
        parser.push(b"data: 1234\n").unwrap();
        let error = parser.push(b"data: 1234\n").unwrap_err();
        assert_eq!(error.to_string(), "an event of the event stream is larger than 12 bytes");
        assert_eq!(parser.push(b"\n").unwrap_err(), error);
        let mut parser = SseParser::new(limits);
        parser.push(b"data: ").unwrap();
        assert_eq!(parser.push(b"12345").unwrap_err().what, "a line");
        assert!(parser.line.is_empty());
    }

    /// Pieces of streams, so that most inputs hold events.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"data:".to_vec()),
            Just(b"data: ".to_vec()),
            Just(b"event: e".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\n\n".to_vec()),
            Just(b"\xef\xbb\xbf".to_vec()),
            Just("🌧️ü".as_bytes().to_vec()),
            Just(b":".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(bytes in stream(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let whole = read(&[bytes.as_slice()]);
            prop_assert_eq!(&read(&pieces), &whole);
            prop_assert_eq!(&read(&bytes.chunks(1).collect::<Vec<_>>()), &whole);
        }

        #[test]
        fn no_bytes_panic_and_no_more_is_held_than_allowed(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut parser = SseParser::new(SseLimits { line_bytes: 32, event_bytes: 48 });
            for piece in bytes.chunks(7) {
                let _ = parser.push(piece);
                prop_assert!(parser.line.len() <= 32 && parser.data.len() <= 48);
                while parser.next_event().is_some() {}
            }
        }
    }
}
