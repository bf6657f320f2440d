//! The gateway's shared state: what every connection, route and method can reach.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::HeaderMap;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::clock::{Clock, SystemClock};
use leanclaw_types::{Caller, Failure};

use crate::agents::Agents;
use crate::approvals::Approvals;
use crate::auth::credential::Door;
use crate::auth::lockout::Lockout;
use crate::auth::open_counts::Counter;
use crate::auth::peer::network;
use crate::auth::repeats::Repeats;
use crate::auth::{Access, Peer};
use crate::config::{Fixed, GatewayConfig, Live, LiveConfig};
use crate::devices::{Devices, Keys};
use crate::error::GatewayError;
use crate::groups::ChatGroups;
use crate::handshake::Session;
use crate::hub::Hub;
use crate::nodes::Nodes;
use crate::once::Once;
use crate::plugins::PluginHost;
use crate::presence::Presence;
use crate::pulse::Pulse;
use crate::rate::Rates;
use crate::runs::{LiveRuns, watch};
use crate::services::{AuditSink, Readiness, Records, Runs, Sessions};
use crate::sessions::{Groups, Lists, Rows};
use crate::settings::Settings;
use crate::shelf::Shelf;
use crate::snapshot::HealthCache;

/// What the program lends the gateway.
#[derive(Clone)]
pub struct Services {
    /// Runs plugins.
    pub plugins: Arc<dyn PluginHost>,
    /// Keeps what the gateway must not forget.
    pub records: Arc<dyn Records>,
    /// Keeps sessions and what was said in them.
    pub sessions: Arc<dyn Sessions>,
    /// Keeps audit rows.
    pub audit: Arc<dyn AuditSink>,
    /// Runs agents.
    pub runs: Arc<dyn Runs>,
    /// What `/ready` waits for.
    pub readiness: Vec<Arc<dyn Readiness>>,
    /// The file the program writes its log to, one JSON object per line; none when it writes none.
    pub log_file: Option<PathBuf>,
    /// The folder of the agents' workspaces; none when agents have no files.
    pub agents_dir: Option<PathBuf>,
    /// The configuration file; none when the program has none.
    pub settings: Option<Arc<dyn Settings>>,
    /// What the program does once the last connection has been gone for [`Limits::alone_after`]: give back what only
    /// clients need. Called on a thread that serves connections, so it must not take long.
    ///
    /// [`Limits::alone_after`]: crate::Limits::alone_after
    pub rest: Option<Arc<dyn Fn() + Send + Sync>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Services {
    /// Services with the machine's clock and nothing that `/ready` waits for.
    pub fn new(
        plugins: Arc<dyn PluginHost>,
        records: Arc<dyn Records>,
        sessions: Arc<dyn Sessions>,
        audit: Arc<dyn AuditSink>,
        runs: Arc<dyn Runs>,
    ) -> Self {
        Self {
            plugins,
            records,
            sessions,
            audit,
            runs,
            readiness: Vec::new(),
            log_file: None,
            agents_dir: None,
            settings: None,
            rest: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// The gateway. Cheap to clone; [`serve`](crate::serve) runs it.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) state: Arc<State>,
}

impl Gateway {
    /// Puts a gateway together and reads what it kept. It serves nobody yet; it is told of runs from here on.
    ///
    /// # Errors
    /// [`GatewayError::Records`] when that cannot be read.
    pub async fn open(config: GatewayConfig, services: Services) -> Result<Self, GatewayError> {
        let (config, live) = config.parted();
        let live = Live::new(live);
        let unreadable = |failure: Failure| GatewayError::Records(failure.to_string());
        let keys = Arc::new(Keys::open(&services.records).await.map_err(unreadable)?);
        let devices = Devices::open(&services.records, Arc::clone(&keys)).map_err(unreadable)?;
        let pulse = Pulse::open(&services.records).map_err(unreadable)?;
        let nodes = Nodes::open(&services.records).map_err(unreadable)?;
        let approvals = Approvals::open(&services.records).map_err(unreadable)?;
        let agents = Agents::open(&services.records).map_err(unreadable)?;
        let chat_groups = ChatGroups::open(&services.records).map_err(unreadable)?;
        let groups = Groups::open(&services.records).map_err(unreadable)?;
        let voicewake = Shelf::open(&services.records, "voicewake").map_err(unreadable)?;
        let state = State {
            agents,
            chat_groups,
            keys,
            devices,
            lockout: Lockout::new(&config.limits),
            logins: Repeats::default(),
            refusals: Repeats::default(),
            denials: Repeats::default(),
            unnamed_behind: Mutex::default(),
            rates: Rates::new(live.clone()),
            live,
            hub: Hub::default(),
            presence: Presence::default(),
            nodes,
            once: Once::default(),
            approvals,
            pulse,
            groups,
            voicewake,
            lists: Lists::default(),
            rows: Rows::default(),
            live_runs: LiveRuns::default(),
            sockets: Arc::default(),
            connections: Arc::default(),
            health: HealthCache::new(),
            boot_id: uuid::Uuid::new_v4().to_string(),
            started: Instant::now(),
            draining: AtomicBool::new(false),
            settings_turn: tokio::sync::Mutex::default(),
            agent_files: tokio::sync::Mutex::default(),
            config,
            services,
        };
        let state = Arc::new(state);
        watch(&state);
        Ok(Self { state })
    }

    /// How many clients are connected, past their handshake.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.state.hub.len()
    }
}

pub(crate) struct State {
    pub(crate) config: Fixed,
    /// The part of the configuration that may change.
    pub(crate) live: Live,
    pub(crate) services: Services,
    pub(crate) agents: Agents,
    pub(crate) chat_groups: ChatGroups,
    pub(crate) keys: Arc<Keys>,
    pub(crate) devices: Devices,
    pub(crate) lockout: Lockout,
    /// Clients let in, by network and actor.
    logins: Repeats<(IpAddr, String)>,
    /// Clients refused at the door, by network.
    refusals: Repeats<IpAddr>,
    /// Calls refused to those who came in, by actor.
    denials: Repeats<String>,
    /// Trusted proxies of which the log said that they do not say who calls.
    pub(crate) unnamed_behind: Mutex<HashSet<IpAddr>>,
    /// How often who has called.
    pub(crate) rates: Rates,
    pub(crate) hub: Hub,
    pub(crate) presence: Presence,
    pub(crate) nodes: Nodes,
    /// Calls with an idempotency key.
    pub(crate) once: Once,
    pub(crate) approvals: Approvals,
    pub(crate) pulse: Pulse,
    pub(crate) groups: Groups,
    /// The words that nodes listen for: one document, none while they are the usual ones.
    pub(crate) voicewake: Shelf<Vec<String>>,
    pub(crate) lists: Lists,
    pub(crate) rows: Rows,
    /// What clients were told of the runs that go on.
    pub(crate) live_runs: LiveRuns,
    /// WebSockets before `hello-ok`, per address.
    pub(crate) sockets: Arc<Counter>,
    /// TCP connections that are not authenticated WebSockets, per address.
    pub(crate) connections: Arc<Counter>,
    pub(crate) health: HealthCache,
    pub(crate) boot_id: String,
    pub(crate) started: Instant,
    pub(crate) draining: AtomicBool,
    /// Held while files of agents are written, or moved away with their agent.
    pub(crate) agent_files: tokio::sync::Mutex<()>,
    /// Held while the configuration file is changed.
    pub(crate) settings_turn: tokio::sync::Mutex<()>,
}

impl State {
    pub(crate) fn now_ms(&self) -> u64 {
        self.services.clock.now_ms()
    }

    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn door(&self) -> Door<'_> {
        Door {
            config: &self.config,
            live: self.live.now(),
            lockout: &self.lockout,
            devices: &self.devices,
            now_ms: self.now_ms(),
        }
    }

    /// Has another configuration count from now on, for those who are there as well: who was let in by an origin or a proxy
    /// that is gone is sent away. `writer` is left for [`Self::look_again_at`], so that it hears what came of its wish.
    /// Returns the keys at which the two differ.
    pub(crate) fn go_by(&self, live: LiveConfig, writer: &Session) -> Vec<&'static str> {
        let before = self.live.swap(live);
        let now = self.live.now();
        if before.rates != now.rates {
            self.rates.changed();
        }
        self.hub.close_where(|session| session.peer.taken_back(&now).filter(|_| session.id != writer.id));
        now.differences(&before)
    }

    /// Sends a connection away that would not be let in any more. Where its own call asks for this right before its answer,
    /// the answer is on its way by then.
    pub(crate) fn look_again_at(&self, session: &Session) {
        if let Some(reason) = session.peer.taken_back(&self.live.now()) {
            self.hub.close_where(|other| (other.id == session.id).then_some(reason));
        }
    }

    pub(crate) fn audit(&self, actor: String, event: AuditEvent) {
        self.services.audit.audit(AuditRecord { at_ms: self.now_ms(), actor, event });
    }

    /// Where a request comes from. Of a trusted proxy that does not say so, the log tells once: everybody behind it is one
    /// caller then, for lockouts, rates and numbers of connections.
    pub(crate) fn peer(&self, socket: SocketAddr, headers: &HeaderMap) -> Peer {
        let peer = Peer::new(socket, headers, &self.live.now());
        if let Some(proxy) = peer.unnamed_behind
            && self.unnamed_behind.lock().unwrap_or_else(PoisonError::into_inner).insert(proxy)
        {
            tracing::warn!(
                %proxy,
                "requests through this trusted proxy do not say who makes them, so whoever is behind it counts as one \
                 caller: have it set X-Forwarded-For to the caller's address; if it is no proxy, take it out of \
                 gateway.trustedProxies"
            );
        }
        peer
    }

    /// Writes down that somebody was let in, soon: nobody waits for it. The same caller again from the same host within a
    /// minute is only counted, so that nobody fills the disk by coming and going. `client` is what it says it is.
    pub(crate) fn audit_login(&self, peer: &Peer, client: &str, access: &Access) {
        let (actor, now_ms) = (access.caller.actor(), self.now_ms());
        let who = (network(peer.ip()), actor.clone());
        let Some(repeated) = self.logins.note(who, access.method, now_ms) else { return };
        let event = AuditEvent::AuthAccepted {
            remote: peer.address.to_string(),
            client: client.to_owned(),
            method: access.method.to_owned(),
            device: access.device.clone(),
            repeated,
        };
        self.audit(actor, event);
    }

    /// Writes down that somebody was refused. The same refusal of the same host again within a minute is only counted, so
    /// that nobody fills the disk by knocking.
    pub(crate) fn audit_refusal(&self, peer: &Peer, code: &str) {
        let Some(repeated) = self.refusals.note(network(peer.ip()), code, self.now_ms()) else { return };
        let event = AuditEvent::AuthDenied { remote: peer.address.to_string(), code: code.to_owned(), repeated };
        self.audit("host:gateway".into(), event);
    }

    /// As [`Self::audit_refusal`], for a call of somebody who came in. `code` tells calls apart; `event` is given the number of
    /// equal ones since the last row.
    pub(crate) fn audit_denial(&self, caller: &Caller, code: &str, event: impl FnOnce(u64) -> AuditEvent) {
        let actor = caller.actor();
        let Some(repeated) = self.denials.note(actor.clone(), code, self.now_ms()) else { return };
        self.audit(actor, event(repeated));
    }
}
