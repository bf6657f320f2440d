//! What was told of one run, and what of its agent's words is still to be told.

use std::collections::HashMap;

use leanclaw_types::frame::ProtocolVersion;

use super::SILENT;

/// Bytes of one message of the agent that are told while it is being said; the whole of it comes with the end.
const MAX_TEXT_BYTES: usize = 512 * 1024;
/// How often version 3 is told of more words, in milliseconds.
const V3_EVERY_MS: u64 = 150;
/// Tools of one run that may go on at once; of more it is not told when they began.
const MAX_TOOLS: usize = 256;

/// How much of the message somebody was told, and when.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    bytes: usize,
    at_ms: Option<u64>,
    /// Whether what comes next takes the place of a message that was told before.
    replaces: bool,
}

/// Who is told of words on their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ear {
    /// Whoever hears `agent` events.
    Agent,
    /// Whoever hears `chat` events of that version.
    Chat(ProtocolVersion),
}

/// Words that somebody is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The message so far.
    pub(super) text: String,
    /// What of it is new.
    pub(super) delta: String,
    /// Whether the message takes the place of the one before.
    pub(super) replaces: bool,
}

/// Whose run it is.
#[derive(Debug, Default, Clone)]
pub(super) struct Whose {
    pub(super) agent: String,
    pub(super) session_id: Option<String>,
}

/// One run.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// As its session says, once that was read.
    pub(super) whose: Option<Whose>,
    /// Numbers of the `agent` events that version 3 and version 4 were told.
    seq: [u64; 2],
    /// When its turn came.
    pub(super) started_ms: Option<u64>,
    /// Messages that the agent began before this one.
    pub(super) messages: u64,
    /// What the agent is saying.
    text: String,
    /// Whether the agent has said it, so that the next words are another message.
    is_over: bool,
    agent: Told,
    chat: [Told; 2],
    /// When the tools began that are not over.
    tools: HashMap<String, u64>,
}

fn place(version: ProtocolVersion) -> usize {
    usize::from(version.is_newest())
}

impl Live {
    /// The number of the next `agent` event.
    pub(super) fn next_seq(&mut self, version: ProtocolVersion) -> u64 {
        self.seq.get_mut(place(version)).map_or(0, |seq| {
            *seq += 1;
            *seq
        })
    }

    /// The number of the last one.
    pub(super) fn seq(&self, version: ProtocolVersion) -> u64 {
        self.seq.get(place(version)).copied().unwrap_or(0)
    }

    /// What the agent is saying, or has said last.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn message_is_over(&mut self) {
        self.is_over = true;
    }

    /// Whether the next words are of another message than those before.
    pub(super) fn is_between_messages(&self) -> bool {
        self.is_over
    }

    /// More words.
    pub(super) fn add(&mut self, words: &str) {
        if std::mem::take(&mut self.is_over) {
            self.messages += 1;
            self.text.clear();
            for told in self.chat.iter_mut().chain([&mut self.agent]) {
                let was_told = told.bytes > 0 || told.replaces;
                *told = Told { bytes: 0, at_ms: told.at_ms, replaces: was_told };
            }
        }
        let mut end = words.len().min(MAX_TEXT_BYTES.saturating_sub(self.text.len()));
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        self.text.push_str(words.get(..end).unwrap_or_default());
    }

    /// What is to be told at that time while more may come. Nothing while all that was said may yet turn out to say nothing.
    pub(super) fn piece(&mut self, ear: Ear, at_ms: u64) -> Option<Piece> {
        let is_early = match ear {
            Ear::Chat(ProtocolVersion::V3) => {
                let last_ms = self.told(ear).and_then(|told| told.at_ms);
                last_ms.is_some_and(|last_ms| at_ms < last_ms.saturating_add(V3_EVERY_MS))
            }
            _ => false,
        };
        if is_early || SILENT.starts_with(self.text.trim()) { None } else { self.rest(ear, at_ms) }
    }

    /// What is to be told although no more comes; nothing when the message says nothing.
    pub(super) fn rest(&mut self, ear: Ear, at_ms: u64) -> Option<Piece> {
        if super::is_silent(&self.text) {
            return None;
        }
        let text = self.text.clone();
        let told = self.told(ear)?;
        let delta = text.get(told.bytes..).filter(|delta| !delta.is_empty())?.to_owned();
        let replaces = told.replaces && told.bytes == 0;
        *told = Told { bytes: text.len(), at_ms: Some(at_ms), replaces: told.replaces };
        Some(Piece { text, delta, replaces })
    }

    fn told(&mut self, ear: Ear) -> Option<&mut Told> {
        match ear {
            Ear::Agent => Some(&mut self.agent),
            Ear::Chat(version) => self.chat.get_mut(place(version)),
        }
    }

    pub(super) fn tool_began(&mut self, call_id: &str, at_ms: u64) {
        if self.tools.len() < MAX_TOOLS {
            self.tools.insert(call_id.to_owned(), at_ms);
        }
    }

    /// When a tool began that is over now.
    pub(super) fn tool_ended(&mut self, call_id: &str) -> Option<u64> {
        self.tools.remove(call_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3: Ear = Ear::Chat(ProtocolVersion::V3);
    const V4: Ear = Ear::Chat(ProtocolVersion::V4);

    fn piece(text: &str, delta: &str, replaces: bool) -> Option<Piece> {
        Some(Piece { text: text.to_owned(), delta: delta.to_owned(), replaces })
    }

    #[test]
    fn version_3_is_told_seldom_and_version_4_of_each_piece() {
        let mut live = Live::default();
        live.add("One");
        assert_eq!(
            (live.piece(V3, 1000), live.piece(V4, 1000)),
            (piece("One", "One", false), piece("One", "One", false))
        );
        live.add(" two");
        assert_eq!((live.piece(V3, 1149), live.piece(V4, 1149)), (None, piece("One two", " two", false)));
        live.add(" three");
        assert_eq!(live.piece(V3, 1150), piece("One two three", " two three", false));
        assert_eq!((live.rest(V3, 1150), live.piece(V4, 1150)), (None, piece("One two three", " three", false)));
        live.message_is_over();
        live.add("Next");
        assert_eq!((live.piece(V4, 1300), live.messages), (piece("Next", "Next", true), 1));
        live.add("!");
        assert_eq!(live.piece(V4, 1300), piece("Next!", "!", false));
        assert_eq!(live.piece(Ear::Agent, 1300), piece("Next!", "Next!", false), "it was told of none before");
    }

    #[test]
    fn what_may_be_a_silent_reply_is_held_back() {
        let mut live = Live::default();
        for words in [" NO", "_", "REPLY"] {
            live.add(words);
            assert_eq!(live.piece(V4, 1), None, "{words}");
        }
        assert_eq!(live.rest(V4, 2), None, "it is one");
        live.add("ING");
        assert_eq!(live.piece(V4, 3), piece(" NO_REPLYING", " NO_REPLYING", false));
        let mut live = Live::default();
        live.add("NO");
        assert_eq!((live.piece(V4, 1), live.rest(V4, 1)), (None, piece("NO", "NO", false)));
    }

    #[test]
    fn what_is_kept_of_a_run_is_bounded() {
        let mut live = Live::default();
        for _ in 0..3 {
            live.add(&"ä".repeat(MAX_TEXT_BYTES / 4 - 1));
        }
        live.add("äöü");
        live.add("the end");
        assert!(live.text().len() <= MAX_TEXT_BYTES, "{}", live.text().len());
        for number in 0..1000 {
            live.tool_began(&number.to_string(), number);
        }
        assert_eq!(live.tools.len(), MAX_TOOLS);
        assert_eq!((live.tool_ended("3"), live.tool_ended("3")), (Some(3), None));
    }
}
