//! What another program kept, in the form in which the gateway keeps it: for an importer, which stores it while no gateway
//! runs. Nothing is stored here, and what would not be accepted from a client is not accepted either.

use leanclaw_types::session::{SessionKind, SessionRow};
use serde_json::{Map, json};

use crate::agents::{self, Agent};
use crate::groups::{self, Group};
use crate::sessions::{Key, agent_id};
use crate::snapshot::DEFAULT_AGENT;

/// A group of chats as records of kind `group` hold it, under its chat.
#[derive(Debug, Clone)]
pub struct AdoptedGroup {
    /// The chat.
    pub chat: String,
    /// Its name for people.
    pub name: String,
    /// The folder its sessions share.
    pub folder: String,
    /// What a message must begin with to wake the agent.
    pub trigger: Option<String>,
    /// Whether it must.
    pub requires_trigger: bool,
    /// Whether it is the one that administers the others.
    pub is_main: bool,
    /// When it was made, in milliseconds since the Unix epoch.
    pub added_at_ms: u64,
}

impl AdoptedGroup {
    /// The record's text. `others` are the groups that are there, as chat and text of their records.
    ///
    /// # Errors
    /// Why there cannot be such a group here.
    pub fn document(self, others: &[(String, String)]) -> Result<String, String> {
        let Self { chat, name, folder, trigger, requires_trigger, is_main, added_at_ms } = self;
        let agent_id = DEFAULT_AGENT.to_owned();
        let group = Group { name, folder, trigger, requires_trigger, is_main, agent_id, added_at_ms };
        groups::check_alone(&chat, &group).map_err(|error| error.message)?;
        for (other, body) in others {
            let Ok(taken) = serde_json::from_str::<Group>(body) else { continue };
            groups::check_beside(&group, other, &taken).map_err(|error| error.message)?;
        }
        serde_json::to_string(&group).map_err(|error| error.to_string())
    }
}

/// The record of kind `agent` for an agent of that id; gives the id as it is kept here, and the record's text.
///
/// # Errors
/// Why there cannot be such an agent here.
pub fn agent_document(
    id: &str,
    name: &str,
    model: Option<String>,
    created_at_ms: u64,
) -> Result<(String, String), String> {
    let id = agent_id(id).map_err(|error| error.message)?;
    let wish = agents::Wish { name: Some(name.to_owned()), model: model.clone(), ..agents::Wish::default() };
    agents::check(&wish).map_err(|error| error.message)?;
    let agent = Agent { name: Some(name.to_owned()), model, created_at_ms, ..Agent::default() };
    let body = serde_json::to_string(&agent).map_err(|error| error.to_string())?;
    Ok((id, body))
}

/// The session of a chat, with a new id.
///
/// # Errors
/// No key can be made of the chat's name.
pub fn chat_session(chat: &str, name: Option<&str>, is_group: bool, at_ms: u64) -> Result<SessionRow, String> {
    let key = Key::read(chat, None).map_err(|error| error.message)?;
    let mut entry = Map::new();
    entry.extend(name.map(|name| ("displayName".to_owned(), json!(name))));
    let kind = if is_group { SessionKind::Group } else { key.kind() };
    Ok(SessionRow {
        key: key.text,
        session_id: uuid::Uuid::new_v4().to_string(),
        agent: key.agent,
        kind,
        label: None,
        archived: false,
        created_ms: at_ms,
        updated_ms: at_ms,
        entry,
    })
}
