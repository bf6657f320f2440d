//! Reading the program's log file from its end, a piece at a time.
//!
//! It owns the meaning of a cursor (a byte offset just after a line) and the bounds of one answer. Writing the file, and
//! replacing it when it is full, is the program's business.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::Serialize;

/// Most lines of one answer.
pub const MAX_LOG_LINES: usize = 5000;
/// Most bytes that are read for one answer.
pub const MAX_LOG_BYTES: u64 = 1_000_000;

/// What is wanted of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogWish {
    /// The cursor of the answer before; none asks for the end of the file.
    pub cursor: Option<u64>,
    /// The most lines, the newest count; 1 to [`MAX_LOG_LINES`].
    pub limit: usize,
    /// The most bytes of the file that are looked at; 1 to [`MAX_LOG_BYTES`].
    pub max_bytes: u64,
}

impl Default for LogWish {
    fn default() -> Self {
        Self { cursor: None, limit: 500, max_bytes: 250_000 }
    }
}

/// A piece of a log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogPiece {
    /// The file.
    pub file: String,
    /// Where the next piece starts, in bytes.
    pub cursor: u64,
    /// How long the file is, in bytes.
    pub size: u64,
    /// Whole lines, oldest first, without their line ends.
    pub lines: Vec<String>,
    /// Whether older lines were left out because of a bound.
    pub truncated: bool,
    /// Whether the piece does not follow the one before: the file was replaced, or grew by more than the bound.
    pub reset: bool,
}

/// Reads a piece of a log file. A file that is not there is an empty one.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read_log(path: &Path, wish: LogWish) -> io::Result<LogPiece> {
    let mut piece = LogPiece {
        file: path.display().to_string(),
        cursor: 0,
        size: 0,
        lines: Vec::new(),
        truncated: false,
        reset: false,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            piece.reset = wish.cursor.is_some_and(|cursor| cursor > 0);
            return Ok(piece);
        }
        Err(error) => return Err(error),
    };
    piece.size = file.metadata()?.len();
    let earliest = piece.size.saturating_sub(wish.max_bytes);
    let start = match wish.cursor {
        Some(cursor) if cursor <= piece.size && cursor >= earliest => cursor,
        other => {
            piece.reset = other.is_some();
            piece.truncated = earliest > 0;
            earliest
        }
    };
    // One byte more in front tells whether `start` is the start of a line.
    let from = start.saturating_sub(1);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(piece.size - from).read_to_end(&mut bytes)?;
    let mut whole: &[u8] = &bytes;
    if start > 0 {
        let after = whole.iter().position(|byte| *byte == b'\n').map_or(whole.len(), |at| at + 1);
        whole = whole.get(after..).unwrap_or_default();
    }
    // What is still being written is left for the next piece.
    let end = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let unfinished = u64::try_from(whole.len() - end).unwrap_or(u64::MAX);
    piece.cursor = piece.size.saturating_sub(unfinished);
    let text = String::from_utf8_lossy(whole.get(..end).unwrap_or_default());
    let lines: Vec<&str> = text.lines().collect();
    let newest = lines.len().saturating_sub(wish.limit);
    piece.truncated |= newest > 0;
    piece.lines = lines.iter().skip(newest).map(|line| (*line).to_owned()).collect();
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path, cursor: Option<u64>, limit: usize, max_bytes: u64) -> LogPiece {
        read_log(path, LogWish { cursor, limit, max_bytes }).unwrap()
    }

    /// A file of this test alone.
    struct Temporary(std::path::PathBuf);

    impl Temporary {
        fn new(text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("leanclaw-log-{}", uuid::Uuid::new_v4()));
            std::fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_cursor_continues_after_the_last_whole_line() {
        let file = Temporary::new("one\ntwo\nthr");
        let first = read(&file.0, None, 10, 1000);
        assert_eq!((first.lines.as_slice(), first.cursor, first.size), (&["one".into(), "two".into()][..], 8, 11));
        assert!(!first.truncated && !first.reset);
        std::fs::write(&file.0, "one\ntwo\nthree\nfour\n").unwrap();
        let next = read(&file.0, Some(first.cursor), 10, 1000);
        assert_eq!((next.lines, next.cursor), (vec!["three".to_owned(), "four".into()], 19));
        let nothing = read(&file.0, Some(19), 10, 1000);
        assert_eq!((nothing.lines.len(), nothing.cursor, nothing.reset), (0, 19, false));
    }

    #[test]
    fn bounds_keep_the_newest_and_say_so() {
        let file = Temporary::new("one\ntwo\nthree\n");
        let few = read(&file.0, None, 1, 1000);
        assert_eq!((few.lines, few.truncated, few.reset), (vec!["three".to_owned()], true, false));
        // The bound falls into `two`, of which no half is shown.
        let small = read(&file.0, None, 10, 8);
        assert_eq!((small.lines, small.truncated), (vec!["three".to_owned()], true));
        let behind = read(&file.0, Some(0), 10, 10);
        assert_eq!((behind.lines.len(), behind.truncated, behind.reset), (2, true, true));
        // The bound falls exactly on a line start.
        assert_eq!(read(&file.0, None, 10, 6).lines, ["three"]);
    }

    #[test]
    fn a_file_that_was_replaced_starts_anew() {
        let file = Temporary::new("new\n");
        let piece = read(&file.0, Some(100), 10, 1000);
        assert_eq!((piece.lines, piece.cursor, piece.reset), (vec!["new".to_owned()], 4, true));
        let gone = read(Path::new("/nonexistent/leanclaw.log"), Some(3), 10, 1000);
        assert_eq!((gone.cursor, gone.reset, gone.lines.len()), (0, true, 0));
    }
}
