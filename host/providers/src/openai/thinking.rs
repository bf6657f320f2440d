//! Thinking that a server leaves in the words: `<think>` at the very beginning, and all up to `</think>`.

const BEGIN: &str = "<think>";
const END: &str = "</think>";
/// How much white space may stand before the mark, in bytes. More than that is an answer.
const MOST_SPACE_BYTES: usize = 64;

/// Parts the words of an answer from the thinking before them, however they are cut.
#[derive(Debug)]
pub(super) enum Splitter {
    /// What has come may yet become the mark.
    Unknown(String),
    /// Within the thinking; what has come may be the beginning of its end.
    Thinking(String),
    /// Behind the thinking, with nothing but white space since.
    Behind,
    /// Within the words.
    Words,
}

/// What came, parted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parted {
    pub(super) thinking: String,
    pub(super) words: String,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::Unknown(String::new())
    }
}

impl Splitter {
    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &str) -> Parted {
        let mut parted = Parted::default();
        let mut piece = piece.to_owned();
        loop {
            match self {
                Self::Words => {
                    parted.words.push_str(&piece);
                    return parted;
                }
                Self::Behind => {
                    let rest = piece.trim_start();
                    if rest.is_empty() {
                        return parted;
                    }
                    piece = rest.to_owned();
                    *self = Self::Words;
                }
                Self::Unknown(held) => {
                    held.push_str(&piece);
                    let begun = held.trim_start();
                    if let Some(rest) = begun.strip_prefix(BEGIN) {
                        piece = rest.to_owned();
                        *self = Self::Thinking(String::new());
                    } else if BEGIN.starts_with(begun) && held.len() <= MOST_SPACE_BYTES {
                        return parted;
                    } else {
                        piece = std::mem::take(held);
                        *self = Self::Words;
                    }
                }
                Self::Thinking(held) => {
                    held.push_str(&piece);
                    if let Some((thinking, rest)) = held.split_once(END) {
                        parted.thinking.push_str(thinking);
                        piece = rest.to_owned();
                        *self = Self::Behind;
                    } else {
                        let kept = (1..END.len())
                            .rev()
                            .find(|length| END.get(..*length).is_some_and(|part| held.ends_with(part)));
                        let tail = held.split_off(held.len().saturating_sub(kept.unwrap_or(0)));
                        parted.thinking.push_str(&std::mem::replace(held, tail));
                        return parted;
                    }
                }
            }
        }
    }

    /// What was held back when nothing more comes.
    pub(super) fn end(&mut self) -> Parted {
        match std::mem::replace(self, Self::Words) {
            Self::Unknown(words) => Parted { words, ..Parted::default() },
            Self::Thinking(thinking) => Parted { thinking, ..Parted::default() },
            Self::Behind | Self::Words => Parted::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: impl IntoIterator<Item = impl AsRef<str>>) -> (String, String) {
        let mut splitter = Splitter::default();
        let mut whole = Parted::default();
        let mut take = |parted: Parted| {
            whole.thinking.push_str(&parted.thinking);
            whole.words.push_str(&parted.words);
        };
        for piece in pieces {
            take(splitter.push(piece.as_ref()));
        }
        take(splitter.end());
        (whole.thinking, whole.words)
    }

    #[test]
    fn thinking_is_parted_from_the_words_at_every_cut() {
        for (text, thinking, words) in [
            ("<think>a < b</think>\n\nYes", "a < b", "Yes"),
            (" \n<think></think>Yes </think>", "", "Yes </think>"),
            ("<think>never ends </thin", "never ends </thin", ""),
            ("<thin", "", "<thin"),
            ("<thinly> <think>", "", "<thinly> <think>"),
            ("Say <think>x</think>", "", "Say <think>x</think>"),
            ("<think>ü</</think>ü", "ü</", "ü"),
            ("  ", "", "  "),
        ] {
            let wanted = (thinking.to_owned(), words.to_owned());
            assert_eq!(split([text]), wanted, "{text}");
            assert_eq!(split(text.chars().map(String::from)), wanted, "{text}");
        }
        let space = " ".repeat(MOST_SPACE_BYTES + 1);
        assert_eq!(split([space.as_str(), "<think>"]).0, "");
    }

    proptest! {
        #[test]
        fn no_cut_changes_what_comes_out(text in "(<think>|</think>|<|/|a|ü| ){0,12}", at in 0_usize..80) {
            let at = text.floor_char_boundary(at);
            let (before, after) = text.split_at(at);
            prop_assert_eq!(split([before, after]), split([text.as_str()]));
        }
    }
}
