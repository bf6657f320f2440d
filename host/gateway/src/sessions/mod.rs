//! Sessions as the gateway sees them: their keys, how they are shown, and who wants to hear of them.
//!
//! What is stored, and how, is the business of [`crate::Sessions`].

mod groups;
mod keys;
mod lists;
mod messages;
mod rows;
mod subscriptions;
mod taking;
mod view;

use leanclaw_types::frame::ProtocolVersion;
use leanclaw_types::run::RunModel;
use leanclaw_types::session::{SessionRow, TranscriptMessage};
use serde_json::json;

use crate::gateway::State;
use crate::hub::Event;
use crate::methods::READ;

pub(crate) use groups::{Defaults, Groups, Kept, MAX_GROUPS};
pub(crate) use keys::{Key, agent_id};
pub(crate) use lists::Lists;
pub(crate) use messages::{Caps, kept, preview, shown, text_of};
pub(crate) use rows::{Look, Rows};
pub(crate) use subscriptions::Subscriptions;
pub(crate) use taking::{Begun, Taking};
pub(crate) use view::{STORE_PATH, defaults, entry, listed, resolved};

impl State {
    /// The model that runs use where nothing else is said, if there is one.
    pub(crate) fn default_model(&self) -> Option<RunModel> {
        self.services.runs.models().into_iter().find(|model| model.is_default)
    }

    /// Tells those who asked that a session changed; `row` is what it is now, if it still is.
    pub(crate) fn session_changed(&self, key: &str, reason: &str, row: Option<&SessionRow>) {
        self.health.outdate();
        let now_ms = self.now_ms();
        let payload = |version| {
            let mut payload = json!({"sessionKey": key, "reason": reason, "ts": now_ms});
            if let (Some(row), Some(payload)) = (row, payload.as_object_mut()) {
                payload.insert("agentId".into(), json!(row.agent));
                payload.insert("sessionId".into(), json!(row.session_id));
                payload.insert("session".into(), listed(row, version));
            }
            payload.to_string()
        };
        self.tell("sessions.changed", |event| event.about_session(key), payload);
    }

    /// Tells those who follow a session what was said in it.
    pub(crate) fn session_said(&self, row: &SessionRow, message: &TranscriptMessage) {
        let payload = |version| {
            let (said, session) = (shown(message, version, &Caps::default()), listed(row, version));
            json!({
                "sessionKey": row.key, "agentId": row.agent, "messageId": message.id.to_string(),
                "messageSeq": message.seq, "message": said, "session": session,
            })
            .to_string()
        };
        self.tell("session.message", |event| event.said_in(&row.key), payload);
    }

    /// Tells each version of a session as its lists and transcripts show sessions.
    fn tell(&self, name: &str, about: impl Fn(Event) -> Event, payload: impl Fn(ProtocolVersion) -> String) {
        self.hub.broadcast_per_version(about(Event::new(name, "").scope(READ)), payload);
    }
}
