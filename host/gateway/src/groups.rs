//! Groups as records: which chat belongs to which folder and agent, and who may wake the agent there.

use std::sync::Arc;

use leanclaw_types::Failure;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::frame::ErrorShape;
use leanclaw_types::text::shown;
use serde::{Deserialize, Serialize};

use crate::agents::{Agents, By, absent};
use crate::services::Records;
use crate::shelf::{Change, Shelf};
use crate::snapshot::DEFAULT_AGENT;

/// Groups that there may be.
const MAX_GROUPS: usize = 10_000;

/// What is stored of a group. Its chat is the record's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Group {
    pub(crate) name: String,
    /// The folder that its sessions share; never changes.
    pub(crate) folder: String,
    /// What a message must begin with to wake the agent; none is the agent's own name.
    #[serde(default)]
    pub(crate) trigger: Option<String>,
    pub(crate) requires_trigger: bool,
    /// Whether it is the one group that administers the others.
    pub(crate) is_main: bool,
    pub(crate) agent_id: String,
    pub(crate) added_at_ms: u64,
}

/// What is changed of a group; none leaves it, and an empty trigger takes the group's own away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    pub(crate) name: Option<String>,
    pub(crate) trigger: Option<String>,
    pub(crate) requires_trigger: Option<bool>,
    pub(crate) agent_id: Option<String>,
}

/// The groups of this gateway.
pub(crate) struct ChatGroups {
    shelf: Shelf<Group>,
}

impl ChatGroups {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(records: &Arc<dyn Records>) -> Result<Self, Failure> {
        Ok(Self { shelf: Shelf::open(records, "group")? })
    }

    /// Every group by its chat.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Group>)> {
        self.shelf.all()
    }

    /// Registers a chat. Nothing that is there is replaced: a chat has one group, a folder belongs to one, and one is main.
    ///
    /// # Errors
    /// `INVALID_REQUEST` says which of that would not hold, or which text is not acceptable; `UNAVAILABLE` when it cannot be
    /// stored.
    pub(crate) async fn register(
        &self,
        chat: &str,
        group: Group,
        agents: &Agents,
        by: &By,
    ) -> Result<Group, ErrorShape> {
        check_alone(chat, &group)?;
        self.shelf
            .change(|shelf| {
                check(&group, agents)?;
                if shelf.get(chat).is_some() {
                    return Err(ErrorShape::invalid(format!("group \"{chat}\" is registered already")));
                }
                for (other, taken) in shelf.all() {
                    check_beside(&group, &other, &taken)?;
                }
                if shelf.len() >= MAX_GROUPS {
                    return Err(ErrorShape::invalid(format!("there are {MAX_GROUPS} groups; remove one first")));
                }
                Ok((Change::nothing().put(chat, group.clone()).audit(row(by, chat, "registered")), group))
            })
            .await
    }

    /// Changes a group.
    ///
    /// # Errors
    /// As [`Self::register`], and for a chat that has none.
    pub(crate) async fn update(&self, chat: &str, wish: Wish, agents: &Agents, by: &By) -> Result<Group, ErrorShape> {
        self.shelf
            .change(|shelf| {
                let old = shelf.get(chat).ok_or_else(|| unknown(chat))?;
                let group = Group {
                    name: wish.name.unwrap_or_else(|| old.name.clone()),
                    trigger: wish.trigger.map_or_else(|| old.trigger.clone(), Some).filter(|text| !text.is_empty()),
                    requires_trigger: wish.requires_trigger.unwrap_or(old.requires_trigger),
                    agent_id: wish.agent_id.unwrap_or_else(|| old.agent_id.clone()),
                    ..(*old).clone()
                };
                check(&group, agents)?;
                Ok((Change::nothing().put(chat, group.clone()).audit(row(by, chat, "updated")), group))
            })
            .await
    }

    /// Where they are kept, for a change that goes with another's.
    pub(crate) fn shelf(&self) -> &Shelf<Group> {
        &self.shelf
    }

    /// What becomes of the groups of an agent that goes: they belong to the default one from then on. And how many there are.
    pub(crate) fn unbound(shelf: &Shelf<Group>, agent: &str, by: &By) -> (Change<Group>, usize) {
        let own: Vec<_> = shelf.all().into_iter().filter(|(_, group)| group.agent_id == agent).collect();
        let count = own.len();
        let change = own.into_iter().fold(Change::nothing(), |change, (chat, group)| {
            let audit = row(by, &chat, "updated");
            change.put(chat, Group { agent_id: DEFAULT_AGENT.to_owned(), ..(*group).clone() }).audit(audit)
        });
        (change, count)
    }

    /// Takes a group away. Its folder stays where it is.
    ///
    /// # Errors
    /// The chat has none, or it cannot be stored.
    pub(crate) async fn remove(&self, chat: &str, by: &By) -> Result<(), ErrorShape> {
        self.shelf
            .change(|shelf| {
                shelf.get(chat).ok_or_else(|| unknown(chat))?;
                Ok((Change::nothing().remove(chat).audit(row(by, chat, "removed")), ()))
            })
            .await
    }
}

fn row(by: &By, chat: &str, action: &str) -> AuditRecord {
    let event = AuditEvent::GroupChanged { group: chat.to_owned(), action: action.to_owned() };
    AuditRecord { at_ms: by.at_ms, actor: by.actor.clone(), event }
}

fn unknown(chat: &str) -> ErrorShape {
    ErrorShape::invalid(format!("group \"{}\" not found", shown(chat, 80)))
}

/// What must hold of a group whatever else there is.
pub(crate) fn check_alone(chat: &str, group: &Group) -> Result<(), ErrorShape> {
    check_text("jid", chat, 256)?;
    check_folder(&group.folder)?;
    check_texts(group)
}

/// What must hold of a group beside another one.
pub(crate) fn check_beside(group: &Group, other: &str, taken: &Group) -> Result<(), ErrorShape> {
    if taken.folder.eq_ignore_ascii_case(&group.folder) {
        let folder = &group.folder;
        return Err(ErrorShape::invalid(format!("folder \"{folder}\" belongs to group \"{other}\"")));
    }
    if taken.is_main && group.is_main {
        return Err(ErrorShape::invalid(format!("group \"{other}\" is the main one already")));
    }
    Ok(())
}

fn check_texts(group: &Group) -> Result<(), ErrorShape> {
    check_text("name", &group.name, 128)?;
    group.trigger.as_deref().map_or(Ok(()), |trigger| check_text("trigger", trigger, 128))
}

fn check(group: &Group, agents: &Agents) -> Result<(), ErrorShape> {
    check_texts(group)?;
    agents.get(&group.agent_id).map(drop).ok_or_else(|| absent(&group.agent_id))
}

fn check_text(field: &str, text: &str, most: usize) -> Result<(), ErrorShape> {
    let problem = if text.trim().is_empty() {
        "is empty".to_owned()
    } else if text.chars().count() > most {
        format!("has more than {most} characters")
    } else if text.chars().any(char::is_control) {
        "holds control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(ErrorShape::invalid(format!("{field} {problem}")))
}

/// A folder's name leads nowhere else, on any system.
fn check_folder(folder: &str) -> Result<(), ErrorShape> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let begins = folder.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    let reserved = folder.eq_ignore_ascii_case("global");
    if begins && folder.len() <= 64 && folder.bytes().all(plain) && !reserved {
        return Ok(());
    }
    Err(ErrorShape::invalid(
        "folder must have 1 to 64 of A-Z, a-z, 0-9, `_`, `-`, begin with a letter or digit, and not be `global`",
    ))
}
