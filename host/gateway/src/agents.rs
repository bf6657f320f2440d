//! Agents as records: who they are, not what they do.
//!
//! `main` is always there, with or without a record. An agent's id is made from the name it was given and never changes;
//! its files are in [`crate::workspace`].

use leanclaw_types::Failure;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::text::shown;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;

use crate::connection::Call;
use crate::groups::ChatGroups;
use crate::services::Records;
use crate::shelf::{Change, Shelf};
use crate::snapshot::DEFAULT_AGENT;

/// Agents that there may be.
const MAX_AGENTS: usize = 1000;
/// Characters of an id, as in a session key.
const MAX_ID_CHARS: usize = 64;

/// What is stored of an agent. Its id is the record's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Agent {
    /// The name for people; none of `main` until it is given one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) emoji: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) avatar: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    pub(crate) created_at_ms: u64,
}

/// What is changed of an agent: none leaves it, an empty text clears it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    pub(crate) name: Option<String>,
    pub(crate) emoji: Option<String>,
    pub(crate) avatar: Option<String>,
    pub(crate) model: Option<String>,
}

/// Who changes something, and when.
pub(crate) struct By {
    pub(crate) actor: String,
    pub(crate) at_ms: u64,
    pub(crate) version: ProtocolVersion,
}

impl By {
    /// Whoever calls, now.
    pub(crate) fn caller(call: &Call<'_>) -> Self {
        let caller = &call.session.caller;
        let actor = format!("{}:{}", caller.kind, caller.id);
        Self { actor, at_ms: call.state.now_ms(), version: call.session.version }
    }

    fn row(&self, agent: &str, action: &str) -> AuditRecord {
        let event = AuditEvent::AgentChanged { agent: agent.to_owned(), action: action.to_owned(), file: None };
        AuditRecord { at_ms: self.at_ms, actor: self.actor.clone(), event }
    }
}

/// The agents of this gateway.
pub(crate) struct Agents {
    shelf: Shelf<Agent>,
}

impl Agents {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(records: &Arc<dyn Records>) -> Result<Self, Failure> {
        Ok(Self { shelf: Shelf::open(records, "agent")? })
    }

    /// Every agent, `main` first.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Agent>)> {
        let mut all = vec![(DEFAULT_AGENT.to_owned(), self.shelf.get(DEFAULT_AGENT).unwrap_or_default())];
        all.extend(self.shelf.all().into_iter().filter(|(id, _)| id != DEFAULT_AGENT));
        all
    }

    /// The agent with that id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Agent>> {
        self.shelf.get(id).or_else(|| (id == DEFAULT_AGENT).then(Arc::default))
    }

    /// Makes an agent; gives its id and itself.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a name that gives no id or one that is taken; `UNAVAILABLE` when it cannot be stored.
    pub(crate) async fn create(&self, wish: Wish, by: &By) -> Result<(String, Agent), ErrorShape> {
        check(&wish)?;
        let name = wish.name.clone().unwrap_or_default();
        let id = id_of(&name).ok_or_else(|| ErrorShape::invalid(format!("no agent id can be made of {name:?}")))?;
        if id == DEFAULT_AGENT && by.version == ProtocolVersion::V3 {
            return Err(ErrorShape::invalid(format!("\"{id}\" is reserved")));
        }
        let agent = Agent { created_at_ms: by.at_ms, ..changed(Agent::default(), wish) };
        self.shelf
            .change(|shelf| {
                if id == DEFAULT_AGENT || shelf.get(&id).is_some() {
                    return Err(ErrorShape::invalid(format!("agent \"{id}\" already exists")));
                }
                if shelf.len() >= MAX_AGENTS {
                    return Err(ErrorShape::invalid(format!("there are {MAX_AGENTS} agents; delete one first")));
                }
                let change = Change::nothing().put(id.clone(), agent.clone()).audit(by.row(&id, "created"));
                Ok((change, (id.clone(), agent.clone())))
            })
            .await
    }

    /// Changes an agent.
    ///
    /// # Errors
    /// As [`Self::create`], and for an agent that is not there.
    pub(crate) async fn update(&self, id: &str, wish: Wish, by: &By) -> Result<(), ErrorShape> {
        check(&wish)?;
        self.shelf
            .change(|shelf| {
                let old =
                    shelf.get(id).or_else(|| (id == DEFAULT_AGENT).then(Arc::default)).ok_or_else(|| absent(id))?;
                let new = changed((*old).clone(), wish);
                let change = Change::nothing().put(id, new).audit(by.row(id, "updated"));
                Ok((change, ()))
            })
            .await
    }

    /// Takes an agent away, and in the same write gives its groups to the default one; how many those were. Its sessions and
    /// files stay where they are.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for `main` and for an agent that is not there; `UNAVAILABLE` when it cannot be stored.
    pub(crate) async fn delete(&self, id: &str, groups: &ChatGroups, by: &By) -> Result<usize, ErrorShape> {
        if id == DEFAULT_AGENT {
            return Err(ErrorShape::invalid(format!("\"{id}\" cannot be deleted")));
        }
        self.shelf
            .change_with(groups.shelf(), |shelf, groups| {
                shelf.get(id).ok_or_else(|| absent(id))?;
                let (unbound, count) = ChatGroups::unbound(groups, id, by);
                Ok((Change::nothing().remove(id).audit(by.row(id, "deleted")), unbound, count))
            })
            .await
    }
}

/// An agent that is not there, as changes say it.
pub(crate) fn absent(id: &str) -> ErrorShape {
    ErrorShape::invalid(format!("agent \"{}\" not found", shown(id, 80)))
}

/// An agent that is not there, as questions say it.
pub(crate) fn unknown(version: ProtocolVersion, id: &str) -> ErrorShape {
    match version {
        ProtocolVersion::V3 => ErrorShape::invalid(format!("unknown agent id \"{}\"", shown(id, 80))),
        ProtocolVersion::V4 => absent(id),
    }
}

impl Agent {
    /// What `agents.list` says of its looks; none when nothing was given.
    pub(crate) fn identity(&self) -> Option<Value> {
        let parts = [("name", &self.name), ("emoji", &self.emoji), ("avatar", &self.avatar)];
        let identity: Map<String, Value> =
            parts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), json!(text.as_ref()?)))).collect();
        (!identity.is_empty()).then_some(Value::Object(identity))
    }

    /// The text or picture that stands for it: what was given, else its first letter.
    pub(crate) fn shown_avatar(&self) -> String {
        let letter = || self.name.as_ref().and_then(|name| name.chars().find(|letter| letter.is_alphanumeric()));
        let given = self.avatar.clone().or_else(|| self.emoji.clone());
        given.unwrap_or_else(|| letter().map_or_else(|| "A".to_owned(), |letter| letter.to_uppercase().collect()))
    }
}

fn changed(agent: Agent, wish: Wish) -> Agent {
    let text = |old: Option<String>, new: Option<String>| match new {
        None => old,
        Some(new) => Some(new.trim().to_owned()).filter(|new| !new.is_empty()),
    };
    Agent {
        name: text(agent.name, wish.name),
        emoji: text(agent.emoji, wish.emoji),
        avatar: text(agent.avatar, wish.avatar),
        model: text(agent.model, wish.model),
        created_at_ms: agent.created_at_ms,
    }
}

/// Texts are shown to people and kept for ever, so they are short and plain.
pub(crate) fn check(wish: &Wish) -> Result<(), ErrorShape> {
    let texts = [
        ("name", &wish.name, 128),
        ("emoji", &wish.emoji, 64),
        ("avatar", &wish.avatar, 2048),
        ("model", &wish.model, 256),
    ];
    for (field, text, most) in texts {
        let Some(text) = text else { continue };
        if text.chars().count() > most {
            return Err(ErrorShape::invalid(format!("{field} has more than {most} characters")));
        }
        if text.chars().any(char::is_control) {
            return Err(ErrorShape::invalid(format!("{field} holds control characters")));
        }
    }
    Ok(())
}

/// The id for a name: lower case, with one `-` for everything that no id may hold; none when nothing is left.
pub(crate) fn id_of(name: &str) -> Option<String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let parts: Vec<&str> = name.split(|letter| !plain(letter)).filter(|part| !part.is_empty()).collect();
    let id: String = parts.join("-").to_ascii_lowercase().chars().take(MAX_ID_CHARS).collect();
    let id = id.trim_matches(['-', '_']);
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_of_any_name() {
        for (name, id) in [("Work Bot", "work-bot"), ("  ../Ä b", "b"), ("a__b", "a__b"), ("MAIN", "main")] {
            assert_eq!(id_of(name).as_deref(), Some(id));
        }
        assert_eq!(id_of("漢字 ..").as_deref(), None);
        assert_eq!(id_of(&"x".repeat(100)).unwrap().len(), MAX_ID_CHARS);
    }

    #[test]
    fn what_stands_for_an_agent_is_what_was_given_or_its_letter() {
        let named = |name: &str| Agent { name: Some(name.into()), ..Agent::default() };
        assert_eq!(Agent::default().shown_avatar(), "A");
        assert_eq!(named("émile").shown_avatar(), "É");
        assert_eq!(Agent { emoji: Some("🦀".into()), ..named("x") }.shown_avatar(), "🦀");
        assert!(Agent::default().identity().is_none());
    }
}
