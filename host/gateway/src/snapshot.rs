//! How things stand: the health snapshot, kept as text so that answering `health` writes no JSON.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use leanclaw_types::frame::{ProtocolVersion, StateVersion};
use leanclaw_types::plugin::PluginState;
use leanclaw_types::session::AgentSessions;
use serde_json::{Value, json};

use crate::agents::Agent;
use crate::gateway::State;
use crate::hub::Event;
use crate::sessions::STORE_PATH;
use crate::wire::joined;

pub(crate) use leanclaw_types::session::DEFAULT_AGENT;

/// Sessions that are named in a snapshot.
const RECENT: u32 = 5;

/// One snapshot.
#[derive(Debug)]
pub(crate) struct Health {
    v3: Arc<str>,
    v4: Arc<str>,
    /// Rises with every refresh.
    pub(crate) version: u64,
}

impl Health {
    /// The snapshot as JSON text.
    pub(crate) fn text(&self, version: ProtocolVersion) -> &Arc<str> {
        match version {
            ProtocolVersion::V3 => &self.v3,
            ProtocolVersion::V4 => &self.v4,
        }
    }
}

/// The latest snapshot.
#[derive(Debug)]
pub(crate) struct HealthCache {
    latest: RwLock<Arc<Health>>,
    /// Something it tells of has changed since.
    outdated: AtomicBool,
}

impl HealthCache {
    pub(crate) fn new() -> Self {
        let nothing: Arc<str> = "{}".into();
        Self {
            latest: RwLock::new(Arc::new(Health { v3: Arc::clone(&nothing), v4: nothing, version: 0 })),
            outdated: AtomicBool::new(false),
        }
    }

    pub(crate) fn latest(&self) -> Arc<Health> {
        Arc::clone(&self.latest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the next reader take it anew.
    pub(crate) fn outdate(&self) {
        self.outdated.store(true, Ordering::Release);
    }

    fn put(&self, v3: &Value, v4: &Value) -> Arc<Health> {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        let health = Health { v3: v3.to_string().into(), v4: v4.to_string().into(), version: latest.version + 1 };
        *latest = Arc::new(health);
        Arc::clone(&latest)
    }
}

impl State {
    /// The latest snapshot, or a new one when sessions or agents have changed since.
    pub(crate) fn current_health(&self) -> Arc<Health> {
        if self.health.outdated.load(Ordering::Acquire) { self.refresh_health() } else { self.health.latest() }
    }

    /// How the sessions of these agents stand, together.
    fn sessions_now<'a>(&self, of: impl Iterator<Item = &'a AgentSessions> + Clone) -> Value {
        let now_ms = self.now_ms();
        let count: u64 = of.clone().map(|own| own.count).sum();
        let mut recent: Vec<&(String, u64)> = of.flat_map(|own| &own.recent).collect();
        recent.sort_by_key(|(_, updated_ms)| std::cmp::Reverse(*updated_ms));
        recent.truncate(usize::try_from(RECENT).unwrap_or(usize::MAX));
        let shown = |(key, updated_ms): &(String, u64)| json!({"key": key, "updatedAt": updated_ms, "age": now_ms.saturating_sub(*updated_ms)});
        let recent: Vec<Value> = recent.into_iter().map(shown).collect();
        json!({"path": STORE_PATH, "count": count, "recent": recent})
    }

    /// The agents there are, with or without sessions, and how theirs stand. What is left of a deleted one counts among all
    /// sessions only.
    fn agents_now(&self, sessions: &[AgentSessions]) -> Vec<Value> {
        let of: HashMap<&str, &AgentSessions> = sessions.iter().map(|own| (own.agent.as_str(), own)).collect();
        let shown = |(id, _): (String, Arc<Agent>)| {
            json!({
                "agentId": id,
                "isDefault": id == DEFAULT_AGENT,
                "heartbeat": {
                    "enabled": false, "every": "0m", "everyMs": null, "prompt": "", "target": "none", "ackMaxChars": 0,
                },
                "sessions": self.sessions_now(of.get(id.as_str()).copied().into_iter()),
            })
        };
        self.agents.all().into_iter().map(shown).collect()
    }

    /// Takes the snapshot anew.
    pub(crate) fn refresh_health(&self) -> Arc<Health> {
        let began = Instant::now();
        self.health.outdated.store(false, Ordering::Release);
        let sessions = self.services.sessions.at_a_glance(RECENT).unwrap_or_else(|failure| {
            tracing::warn!(%failure, "the sessions cannot be counted");
            Vec::new()
        });
        let mut loaded: Vec<String> = Vec::new();
        let mut errors: Vec<Value> = Vec::new();
        for plugin in self.services.plugins.list() {
            match plugin.state {
                PluginState::Ready => loaded.push(plugin.id.to_string()),
                PluginState::Faulted => errors.push(json!({
                    "id": plugin.id, "origin": "leanclaw", "activated": false, "error": plugin.reason,
                })),
                PluginState::Loading | PluginState::NeedsGrant | PluginState::Disabled => {}
            }
        }
        loaded.dedup();
        let (channels, order, labels) = crate::methods::channels::at_a_glance(self);
        let v3 = json!({
            "ok": true,
            "ts": self.now_ms(),
            "durationMs": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "channels": channels,
            "channelOrder": order,
            "channelLabels": labels,
            "heartbeatSeconds": 0,
            "defaultAgentId": DEFAULT_AGENT,
            "agents": self.agents_now(&sessions),
            "sessions": self.sessions_now(sessions.iter()),
        });
        let plugins = json!({"loaded": loaded, "errors": errors, "unavailable": []});
        let v4 = joined(v3.clone(), [("plugins", plugins)]);
        self.health.put(&v3, &v4)
    }

    /// Takes the snapshot anew and tells everyone.
    pub(crate) fn broadcast_health(&self) {
        let health = self.refresh_health();
        let event = Event::new("health", health.text(ProtocolVersion::V4))
            .payload_v3(health.text(ProtocolVersion::V3))
            .droppable()
            .state_version(self.state_version());
        self.hub.broadcast(event);
    }

    /// The counters that go with `presence` and `health`.
    pub(crate) fn state_version(&self) -> StateVersion {
        StateVersion { presence: self.presence.version(), health: self.health.latest().version }
    }
}
