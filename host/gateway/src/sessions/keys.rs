//! Session keys: `agent:<agent>:<rest>` in small letters, or one of the two that belong to no agent.

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::{DEFAULT_AGENT, SessionKind};

/// Characters of a key.
const MAX_CHARS: usize = 512;
/// Characters of an agent's id.
const MAX_AGENT_CHARS: usize = 64;
/// The session that a client means by `main`.
const MAIN: &str = "main";

/// A key that is well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// As it is stored.
    pub(crate) text: String,
    /// The agent it belongs to.
    pub(crate) agent: String,
}

/// The key of an agent's main session.
fn main_key(agent: &str) -> String {
    format!("agent:{agent}:{MAIN}")
}

impl Key {
    /// What a client means by `given`: a whole key, or what follows the agent in one. `agent` is the agent it named
    /// beside the key.
    ///
    /// # Errors
    /// The key is too long, holds control characters, or names another agent.
    pub(crate) fn read(given: &str, agent: Option<&str>) -> Result<Self, ErrorShape> {
        let text = given.trim();
        if text.is_empty() {
            return Err(ErrorShape::invalid("invalid session key: it is empty"));
        }
        if text.chars().count() > MAX_CHARS {
            return Err(ErrorShape::invalid(format!("invalid session key: it has more than {MAX_CHARS} characters")));
        }
        if text.chars().any(char::is_control) {
            return Err(ErrorShape::invalid("invalid session key: it holds a control character"));
        }
        let text = text.to_lowercase();
        let named = agent.map(agent_id).transpose()?;
        if text == "global" || text == "unknown" {
            return Ok(Self { text, agent: named.unwrap_or_else(|| DEFAULT_AGENT.to_owned()) });
        }
        let Some(inner) = text.strip_prefix("agent:") else {
            let agent = named.unwrap_or_else(|| DEFAULT_AGENT.to_owned());
            return Ok(Self { text: format!("agent:{agent}:{text}"), agent });
        };
        let Some((own, rest)) = inner.split_once(':').filter(|(_, rest)| !rest.trim().is_empty()) else {
            return Err(ErrorShape::invalid("invalid session key: it must look like agent:<agent>:<name>"));
        };
        let own = agent_id(own)?;
        if let Some(named) = named.filter(|named| *named != own) {
            let message = format!("invalid session key: it belongs to agent \"{own}\", not to \"{named}\"");
            return Err(ErrorShape::invalid(message));
        }
        Ok(Self { text: format!("agent:{own}:{rest}"), agent: own })
    }

    /// Whether it is its agent's main session.
    pub(crate) fn is_main(&self) -> bool {
        self.text == main_key(&self.agent)
    }

    /// What kind of session it names.
    pub(crate) fn kind(&self) -> SessionKind {
        let rest = self.text.splitn(3, ':').nth(2);
        match rest {
            None if self.text == "global" => SessionKind::Global,
            None => SessionKind::Unknown,
            Some(rest) if rest.starts_with("cron:") => SessionKind::Cron,
            Some(rest) if rest.split(':').any(|part| part == "group" || part == "channel") => SessionKind::Group,
            Some(_) => SessionKind::Direct,
        }
    }

    /// Whether another session made it, so that it may say which.
    pub(crate) fn may_be_spawned(&self) -> bool {
        let rest = self.text.splitn(3, ':').nth(2).unwrap_or_default();
        rest.starts_with("subagent:") || rest.starts_with("acp:")
    }
}

/// An agent's id in small letters.
pub(crate) fn agent_id(given: &str) -> Result<String, ErrorShape> {
    let id = given.trim().to_lowercase();
    let good = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '_';
    let begins_well = id.chars().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if !begins_well || !id.chars().all(good) || id.len() > MAX_AGENT_CHARS {
        let shown: String = given.chars().take(MAX_AGENT_CHARS).collect();
        let message = format!("invalid agent id {shown:?}: letters, digits, - and _, at most {MAX_AGENT_CHARS}");
        return Err(ErrorShape::invalid(message));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &str) -> String {
        Key::read(given, None).unwrap().text
    }

    #[test]
    fn short_names_belong_to_the_default_agent() {
        assert_eq!(read("main"), "agent:main:main");
        assert_eq!(read(" Main "), "agent:main:main");
        assert_eq!(read("agent:Ada:WhatsApp:group:1@g.us"), "agent:ada:whatsapp:group:1@g.us");
        assert_eq!(read("whatsapp:group:1"), "agent:main:whatsapp:group:1");
        assert_eq!(read("global"), "global");
        assert_eq!(Key::read("notes", Some("Ada")).unwrap().text, "agent:ada:notes");
        assert!(Key::read("agent:bob:x", Some("ada")).unwrap_err().message.contains("\"bob\", not to \"ada\""));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = "x".repeat(513);
        for bad in ["", "  ", "a\0b", "a\nb", &long, "agent:", "agent:main", "agent:main:", "agent::x", "agent:a/b:x"] {
            assert!(Key::read(bad, None).is_err(), "{bad:?}");
        }
        assert!(Key::read(&"ä".repeat(512), None).is_ok());
        assert!(Key::read("x", Some("../etc")).is_err());
    }

    #[test]
    fn kinds_come_from_keys() {
        let kind = |key: &str| Key::read(key, None).unwrap().kind().as_str();
        assert_eq!(kind("main"), "direct");
        assert_eq!(kind("telegram:group:5"), "group");
        assert_eq!(kind("agent:main:slack:channel:c1"), "group");
        assert_eq!(kind("cron:7"), "cron");
        assert_eq!((kind("global"), kind("unknown")), ("global", "unknown"));
    }
}
