//! How things stand: the health snapshot, kept as text so that answering `health` writes no JSON.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use leanclaw_types::frame::{ProtocolVersion, StateVersion};
use leanclaw_types::plugin::PluginState;
use serde_json::{Value, json};

use crate::gateway::State;
use crate::hub::Event;

/// The agent every session key without one belongs to.
pub(crate) const DEFAULT_AGENT: &str = "main";

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
}

impl HealthCache {
    pub(crate) fn new() -> Self {
        let nothing: Arc<str> = "{}".into();
        Self { latest: RwLock::new(Arc::new(Health { v3: Arc::clone(&nothing), v4: nothing, version: 0 })) }
    }

    pub(crate) fn latest(&self) -> Arc<Health> {
        Arc::clone(&self.latest.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, v3: &Value, v4: &Value) -> Arc<Health> {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        let health = Health { v3: v3.to_string().into(), v4: v4.to_string().into(), version: latest.version + 1 };
        *latest = Arc::new(health);
        Arc::clone(&latest)
    }
}

impl State {
    /// Takes the snapshot anew.
    pub(crate) fn refresh_health(&self) -> Arc<Health> {
        let began = Instant::now();
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
        let v3 = json!({
            "ok": true,
            "ts": self.now_ms(),
            "durationMs": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "channels": {},
            "channelOrder": [],
            "channelLabels": {},
            "heartbeatSeconds": 0,
            "defaultAgentId": DEFAULT_AGENT,
            "agents": [],
            "sessions": {"path": "", "count": 0, "recent": []},
        });
        let mut v4 = v3.clone();
        if let Some(object) = v4.as_object_mut() {
            object.insert("plugins".into(), json!({"loaded": loaded, "errors": errors, "unavailable": []}));
        }
        self.health.put(&v3, &v4)
    }

    /// Takes the snapshot anew and tells everyone.
    pub(crate) fn broadcast_health(&self) {
        let health = self.refresh_health();
        let event = Event::new("health", health.text(ProtocolVersion::V4))
            .payload_v3("health", health.text(ProtocolVersion::V3))
            .droppable()
            .state_version(self.state_version());
        self.hub.broadcast(event);
    }

    /// The counters that go with `presence` and `health`.
    pub(crate) fn state_version(&self) -> StateVersion {
        StateVersion { presence: self.presence.version(), health: self.health.latest().version }
    }
}
