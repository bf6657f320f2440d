//! Who is here: the gateway itself, the clients, and what was reported by `system-event`.
//!
//! Entries are bounded in number and age. That somebody came or went is told to the others a moment later, so that a
//! thousand who come at once make a few events and not a million.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use leanclaw_types::Caller;
use leanclaw_types::frame::{ClientInfo, ProtocolVersion};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::gateway::State;
use crate::handshake::Session;
use crate::hub::{Event, Hub};
use crate::methods::READ;
use crate::methods::machine::host_name;

/// Time an entry is shown after it was last heard of, unless its connection is open.
const KEPT_FOR_MS: u64 = 5 * 60 * 1000;
const MAX_ENTRIES: usize = 200;
/// Time that changes are collected before they are told.
const COLLECTED_FOR: Duration = Duration::from_millis(100);
/// The sessions a client shows, in its entry.
const WATCHED: &str = "watchedSessions";

/// Everyone who is or was here.
#[derive(Debug)]
pub(crate) struct Presence {
    entries: Mutex<Vec<Entry>>,
    version: AtomicU64,
    changed: Notify,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Tells entries apart: a device, an instance, or a connection.
    key: String,
    /// The open connection it stands for.
    connection: Option<String>,
    at_ms: u64,
    shown: Map<String, Value>,
}

impl Entry {
    /// The entry of an open connection.
    fn of(session: &Session, now_ms: u64) -> Self {
        let mut shown = described(&session.client);
        shown.insert("ip".into(), json!(session.peer.ip().to_string()));
        shown.insert("reason".into(), json!("connect"));
        shown.insert("roles".into(), json!([session.caller.role]));
        if !session.caller.scopes.is_empty() {
            shown.insert("scopes".into(), json!(session.caller.scopes));
        }
        if let Some(device) = &session.device {
            shown.insert("deviceId".into(), json!(device));
        }
        Self { key: key_of(session), connection: Some(session.id.clone()), at_ms: now_ms, shown }
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self { entries: Mutex::default(), version: AtomicU64::new(1), changed: Notify::new() }
    }
}

impl Presence {
    /// Rises with every change.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Notes that a client came. A command line that comes and goes with every command is not shown.
    pub(crate) fn came(&self, session: &Session, now_ms: u64) {
        if is_shown(session) {
            self.put(Entry::of(session, now_ms), now_ms);
        }
    }

    /// Notes that a client went, which is no member of the hub any more. Where its device or instance has another connection,
    /// the entry stands for that from then on.
    pub(crate) fn went(&self, session: &Session, hub: &Hub, now_ms: u64) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = of_connection(&mut entries, session) else { return };
        // Asked under the lock: another one that goes meanwhile leaves the hub before it comes here, and so finds the entry.
        let heir = shared_name(session)
            .and_then(|name| hub.newest(|other| is_shown(other) && shared_name(other) == Some(name)));
        match heir {
            Some(heir) => *entry = Entry::of(&heir, now_ms),
            None => {
                entry.connection = None;
                entry.at_ms = now_ms;
                entry.shown.insert("reason".into(), json!("disconnect"));
                entry.shown.shift_remove(WATCHED);
            }
        }
        drop(entries);
        self.note_change();
    }

    /// Notes which sessions a client shows.
    pub(crate) fn watches(&self, session: &Session, keys: &[String], now_ms: u64) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = of_connection(&mut entries, session) else { return };
        let keys = (!keys.is_empty()).then(|| json!(keys));
        // Who tells the same again makes no work for everyone else.
        if entry.shown.get(WATCHED) == keys.as_ref() {
            return;
        }
        match keys {
            Some(keys) => entry.shown.insert(WATCHED.into(), keys),
            None => entry.shown.shift_remove(WATCHED),
        };
        entry.at_ms = now_ms;
        drop(entries);
        self.note_change();
    }

    /// Notes what a client reported.
    pub(crate) fn reported(
        &self,
        device: Option<&str>,
        instance: Option<&str>,
        shown: Map<String, Value>,
        now_ms: u64,
    ) {
        let text = shown.get("text").and_then(Value::as_str).unwrap_or_default();
        let key = key(device, instance, text);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) {
            entry.at_ms = now_ms;
            entry.shown.extend(shown);
            drop(entries);
            self.note_change();
            return;
        }
        drop(entries);
        self.put(Entry { key, connection: None, at_ms: now_ms, shown }, now_ms);
    }

    fn put(&self, entry: Entry, now_ms: u64) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|other| {
            other.key != entry.key && (other.connection.is_some() || other.at_ms + KEPT_FOR_MS > now_ms)
        });
        if entries.len() >= MAX_ENTRIES {
            // Who is gone makes room first, then who came first.
            let gone = entries.iter().position(|other| other.connection.is_none()).unwrap_or(0);
            entries.remove(gone);
        }
        entries.push(entry);
        drop(entries);
        self.note_change();
    }

    fn note_change(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Newest first; `with_sessions` says whether the keys of sessions are among it.
    fn shown(&self, now_ms: u64, with_sessions: bool) -> Vec<Value> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = entries.iter().filter(|entry| entry.connection.is_some() || entry.at_ms + KEPT_FOR_MS > now_ms);
        let mut shown: Vec<(u64, Value)> = fresh
            .map(|entry| {
                let mut shown = entry.shown.clone();
                if !with_sessions {
                    shown.shift_remove(WATCHED);
                }
                shown.insert("ts".into(), json!(entry.at_ms));
                (entry.at_ms, Value::Object(shown))
            })
            .collect();
        shown.sort_by_key(|(at_ms, _)| std::cmp::Reverse(*at_ms));
        shown.into_iter().map(|(_, entry)| entry).collect()
    }
}

impl State {
    /// Who is here, the gateway itself first, as one who asks may see it.
    pub(crate) fn presence(&self, version: ProtocolVersion, caller: &Caller) -> Value {
        self.presence_of_all(version.is_newest() && caller.role == "operator" && caller.holds(READ))
    }

    fn presence_of_all(&self, with_sessions: bool) -> Value {
        let now_ms = self.now_ms();
        let own = json!({
            "host": host_name(),
            "version": self.config.version,
            "platform": std::env::consts::OS,
            "mode": "gateway",
            "reason": "self",
            "text": format!("Gateway: LeanClaw {} ({})", self.config.version, std::env::consts::OS),
            "ts": now_ms,
        });
        let mut all = vec![own];
        all.extend(self.presence.shown(now_ms, with_sessions));
        Value::Array(all)
    }

    /// Tells everyone who came and who went, until cancelled.
    pub(crate) async fn announce_presence(&self) {
        loop {
            self.presence.changed.notified().await;
            tokio::time::sleep(COLLECTED_FOR).await;
            let payload = |with_sessions| json!({"presence": self.presence_of_all(with_sessions)}).to_string();
            // Version 3 tells everyone, also who may not list sessions.
            let event = Event::new("presence", &payload(true))
                .payload_v3(&payload(false))
                .scope_v4(READ)
                .droppable()
                .state_version(self.state_version());
            self.hub.broadcast(event);
        }
    }
}

fn is_shown(session: &Session) -> bool {
    session.client.id != "cli" || session.caller.role != "operator"
}

/// The entry that stands for that connection.
fn of_connection<'a>(entries: &'a mut [Entry], session: &Session) -> Option<&'a mut Entry> {
    entries.iter_mut().find(|entry| entry.connection.as_ref() == Some(&session.id))
}

/// What connections with the same entry have in common: a device, else an instance, and whether it is a device. None where
/// there can be no other.
fn shared_name(session: &Session) -> Option<(bool, &str)> {
    let device = session.device.as_deref().map(|device| (true, device));
    device.or_else(|| session.client.instance_id.as_deref().map(|instance| (false, instance)))
}

fn key_of(session: &Session) -> String {
    key(session.device.as_deref(), session.client.instance_id.as_deref(), &session.id)
}

fn key(device: Option<&str>, instance: Option<&str>, otherwise: &str) -> String {
    match (device, instance) {
        (Some(device), _) => format!("device:{device}"),
        (None, Some(instance)) => format!("instance:{instance}"),
        (None, None) => format!("other:{otherwise}"),
    }
}

fn described(client: &ClientInfo) -> Map<String, Value> {
    let host = client.display_name.as_deref().unwrap_or(&client.id);
    let all = json!({
        "host": host, "version": client.version, "platform": client.platform, "mode": client.mode,
        "deviceFamily": client.device_family, "modelIdentifier": client.model_identifier,
        "timeZone": client.time_zone, "instanceId": client.instance_id,
        "text": format!("Client: {host} · {} · {}", client.version, client.mode),
    });
    let Value::Object(all) = all else { return Map::new() };
    all.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Map<String, Value> {
        json!({"text": text}).as_object().unwrap().clone()
    }

    #[test]
    fn entries_are_merged_forgotten_and_bounded() {
        let presence = Presence::default();
        presence.reported(None, Some("a"), text("first"), 1000);
        let mut more = text("second");
        more.insert("mode".into(), json!("node"));
        presence.reported(None, Some("a"), more, 2000);
        let shown = presence.shown(2000, true);
        assert_eq!(shown, [json!({"text": "second", "mode": "node", "ts": 2000})]);
        assert_eq!(presence.shown(2000 + KEPT_FOR_MS, true), Vec::<Value>::new());
        let before = presence.version();
        for number in 0..1000 {
            presence.reported(None, Some(&number.to_string()), text("x"), 3000 + number);
        }
        assert_eq!(presence.shown(4000, true).len(), MAX_ENTRIES);
        assert_eq!(presence.shown(4000, true)[0]["ts"], 3999, "the newest comes first and stays");
        assert_eq!(presence.version(), before + 1000);
    }
}
