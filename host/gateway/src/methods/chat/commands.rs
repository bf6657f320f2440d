//! What is said to the gateway and not to an agent: that it shall stop, or that a conversation begins anew.

/// Words that end a run when nothing else is said, in small letters.
const STOP_WORDS: [&str; 43] = [
    "stop",
    "esc",
    "abort",
    "wait",
    "exit",
    "interrupt",
    "halt",
    "please stop",
    "stop please",
    "stop it",
    "stop now",
    "stop run",
    "stop the run",
    "stop agent",
    "stop the agent",
    "stop action",
    "stop leanclaw",
    "stop openclaw",
    // Spanish, Portuguese, Italian, French.
    "detente",
    "detén",
    "deten",
    "para",
    "pare",
    "parar",
    "basta",
    "ferma",
    "fermati",
    "arrête",
    "arrete",
    "arrêter",
    // German, Dutch, Swedish.
    "stopp",
    "anhalten",
    "aufhören",
    "halte an",
    "avbryt",
    // Russian, Turkish, Arabic, Hindi, Chinese, Japanese, Korean.
    "стоп",
    "остановись",
    "dur",
    "توقف",
    "रुको",
    "停止",
    "やめて",
    "멈춰",
];
/// Characters of the longest message that may be one of them.
const MAX_STOP_CHARS: usize = 40;

/// What somebody wants of the gateway.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    /// The runs of the session shall end.
    Stop,
    /// The session begins anew, with this message if there is one.
    Reset {
        /// `new` or `reset`.
        reason: &'a str,
        /// What is said in it at once; may be empty.
        then: &'a str,
    },
}

/// The command that a message is; none when it is for the agent.
pub(crate) fn command(message: &str) -> Option<Command<'_>> {
    let message = message.trim();
    let (first, rest) = message.split_once(char::is_whitespace).unwrap_or((message, ""));
    let then = rest.trim();
    for reason in ["new", "reset"] {
        if first.strip_prefix('/').is_some_and(|name| name.eq_ignore_ascii_case(reason)) {
            return Some(Command::Reset { reason, then });
        }
    }
    if message.chars().count() > MAX_STOP_CHARS {
        return None;
    }
    let said = message.to_lowercase();
    let said =
        said.trim_end_matches(|letter: char| letter.is_ascii_punctuation() || "。！？…،؟।".contains(letter)).trim();
    (said == "/stop" || STOP_WORDS.contains(&said)).then_some(Command::Stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_what_is_for_the_agent() {
        for stop in ["/stop", "stop", " STOP!! ", "Please stop.", "esc", "Wait...", "停止。", "СТОП", "Arrête !"]
        {
            assert_eq!(command(stop), Some(Command::Stop), "{stop:?}");
        }
        assert_eq!(command("/new"), Some(Command::Reset { reason: "new", then: "" }));
        assert_eq!(command(" /RESET  now this "), Some(Command::Reset { reason: "reset", then: "now this" }));
        let long = format!("stop{}", "!".repeat(40));
        for words in
            ["stop the music in the kitchen", "don't stop", "/status", "/newer", "new", "", "!", "/ stop", &long]
        {
            assert_eq!(command(words), None, "{words:?}");
        }
    }
}
