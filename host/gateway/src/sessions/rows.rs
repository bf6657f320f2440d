//! Sessions as lists show them, kept as text for as long as they stay as they are: a list is then put together without reading
//! or writing what did not change.
//!
//! It knows nothing of sessions. A text is good for the mark that it was kept under, and the store gives a session another
//! mark with every change. What is not asked for any more makes room, and what is told of a session that is gone goes with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use leanclaw_types::frame::ProtocolVersion;
use leanclaw_types::session::SessionMark;

/// Bytes of text in one half of what is kept.
const MAX_BYTES: usize = 1024 * 1024;
/// The longest text that is kept, in bytes.
const MAX_ROW_BYTES: usize = 16 * 1024;
/// What a text is taken for beside its bytes.
const ROW_COST_BYTES: usize = 128;

/// All that a row depends on beside its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Look {
    pub(crate) version: ProtocolVersion,
    /// With a title made from what was said.
    pub(crate) title: bool,
    /// With the last thing that was said.
    pub(crate) last: bool,
}

impl Look {
    /// Every look there is.
    fn all() -> impl Iterator<Item = Self> {
        let versions = [ProtocolVersion::V3, ProtocolVersion::V4].into_iter();
        let titled = versions.flat_map(|version| [false, true].map(|title| (version, title)));
        titled.flat_map(|(version, title)| [false, true].map(|last| Self { version, title, last }))
    }
}

/// Kept rows.
#[derive(Debug, Default)]
pub(crate) struct Rows(Mutex<Halves>);

/// What was used since the last change of halves, and what was used before it and not since.
#[derive(Debug, Default)]
struct Halves {
    young: HashMap<(i64, Look), (i64, Arc<str>)>,
    old: HashMap<(i64, Look), (i64, Arc<str>)>,
    young_bytes: usize,
}

impl Rows {
    /// What is kept of these sessions. `look` tells how the one at a place is to be shown.
    pub(crate) fn recall(&self, marks: &[SessionMark], look: impl Fn(usize) -> Look) -> Vec<Option<Arc<str>>> {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.iter().enumerate().map(|(place, mark)| halves.get(*mark, look(place))).collect()
    }

    /// Keeps a row. `mark` is the session's from before anything the text tells was read.
    pub(crate) fn keep(&self, mark: SessionMark, look: Look, text: &Arc<str>) {
        if text.len() <= MAX_ROW_BYTES {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).put(mark, look, Arc::clone(text));
        }
    }

    /// Drops what is kept of a session that is gone. A list that was being made meanwhile may keep a row of it once more: that is
    /// never shown, and makes room as any other does.
    pub(crate) fn forget(&self, session: i64) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for look in Look::all() {
            halves.old.remove(&(session, look));
            if let Some((_, text)) = halves.young.remove(&(session, look)) {
                halves.young_bytes -= cost(&text);
            }
        }
    }
}

/// What a kept text is taken for, in bytes.
fn cost(text: &Arc<str>) -> usize {
    text.len() + ROW_COST_BYTES
}

impl Halves {
    fn get(&mut self, mark: SessionMark, look: Look) -> Option<Arc<str>> {
        let key = (mark.session, look);
        if let Some((revision, text)) = self.young.get(&key) {
            return (*revision == mark.revision).then(|| Arc::clone(text));
        }
        let (revision, text) = self.old.remove(&key)?;
        (revision == mark.revision).then(|| {
            self.put(mark, look, Arc::clone(&text));
            text
        })
    }

    fn put(&mut self, mark: SessionMark, look: Look, text: Arc<str>) {
        if self.young_bytes + cost(&text) > MAX_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += cost(&text);
        if let Some((_, replaced)) = self.young.insert((mark.session, look), (mark.revision, text)) {
            self.young_bytes -= cost(&replaced);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { version: ProtocolVersion::V4, title: false, last: false };

    fn mark(session: i64, revision: i64) -> SessionMark {
        SessionMark { session, revision }
    }

    fn recalled(rows: &Rows, mark: SessionMark, look: Look) -> Option<String> {
        rows.recall(&[mark], |_| look).remove(0).map(|text| text.as_ref().to_owned())
    }

    #[test]
    fn a_row_is_good_for_one_state_and_one_look() {
        let rows = Rows::default();
        rows.keep(mark(7, 1), PLAIN, &"one".into());
        assert_eq!(recalled(&rows, mark(7, 1), PLAIN).unwrap(), "one");
        assert_eq!(recalled(&rows, mark(7, 2), PLAIN), None, "it changed");
        assert_eq!(recalled(&rows, mark(8, 1), PLAIN), None, "another session");
        for other in [
            Look { version: ProtocolVersion::V3, ..PLAIN },
            Look { title: true, ..PLAIN },
            Look { last: true, ..PLAIN },
        ] {
            assert_eq!(recalled(&rows, mark(7, 1), other), None, "{other:?}");
        }
        rows.keep(mark(7, 2), PLAIN, &"two".into());
        assert_eq!(recalled(&rows, mark(7, 2), PLAIN).unwrap(), "two");
        assert_eq!(recalled(&rows, mark(7, 1), PLAIN), None);
        let both = rows.recall(&[mark(8, 1), mark(7, 2)], |_| PLAIN);
        assert!(both[0].is_none() && both[1].as_deref() == Some("two"), "{both:?}");
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone() {
        let rows = Rows::default();
        let text: Arc<str> = "x".repeat(10_000).into();
        // Most of them grow old.
        for session in 0..150 {
            Look::all().for_each(|look| rows.keep(mark(session, 1), look, &text));
        }
        assert_eq!(Look::all().count(), 8);
        let known =
            |session: i64| Look::all().filter(|look| recalled(&rows, mark(session, 1), *look).is_some()).count();
        assert_eq!(known(149), 8);
        let is_old = |session: &i64| rows.0.lock().unwrap().old.contains_key(&(*session, PLAIN));
        let old = (0..149).find(is_old).unwrap();
        for session in [149, old] {
            rows.forget(session);
            assert_eq!(known(session), 0, "{session}");
        }
        (0..150).for_each(|session| rows.forget(session));
        let halves = rows.0.lock().unwrap();
        assert!(halves.young.is_empty() && halves.old.is_empty() && halves.young_bytes == 0, "{}", halves.young_bytes);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_used_stays() {
        let rows = Rows::default();
        rows.keep(mark(0, 1), PLAIN, &"x".repeat(MAX_ROW_BYTES + 1).into());
        assert_eq!(recalled(&rows, mark(0, 1), PLAIN), None, "too long");
        rows.keep(mark(0, 1), PLAIN, &"often".into());
        let text: Arc<str> = "x".repeat(10_000).into();
        for session in 1..1000 {
            rows.keep(mark(session, 1), PLAIN, &text);
            assert!(recalled(&rows, mark(0, 1), PLAIN).is_some(), "{session}");
            let halves = rows.0.lock().unwrap();
            let bytes: usize = halves.young.values().chain(halves.old.values()).map(|(_, text)| text.len()).sum();
            assert!(bytes <= 2 * MAX_BYTES && halves.young_bytes <= MAX_BYTES, "{bytes}");
        }
        assert_eq!(recalled(&rows, mark(1, 1), PLAIN), None, "what nobody asked for went");
        for revision in 0..10_000 {
            rows.keep(mark(0, revision), PLAIN, &text);
        }
        assert!(recalled(&rows, mark(999, 1), PLAIN).is_some(), "one session takes the room of one");
    }
}
