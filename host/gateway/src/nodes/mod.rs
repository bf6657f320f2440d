//! Nodes: devices that are asked to do things. What each may be asked for, what is asked of it now, and what waits for it.
//!
//! A node of version 4 is asked for nothing until somebody approved what it declares; what it declares later on top waits
//! again. A node of version 3 is good for what it declares once its device is paired, until somebody decides on it: what
//! was approved, refused, removed or waits holds for either version. Either way the platform's own list bounds it
//! ([`policy`]).

pub(crate) mod policy;
pub(crate) mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use leanclaw_types::Failure;
use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::gateway::State;
use crate::handshake::Session;
use crate::hub::Event;
use crate::methods::PAIRING;
use crate::services::Records;
use crate::shelf::{Change, Shelf};
use tokens::Tokens;

/// Requests that may wait; the oldest makes room.
const MAX_PENDING: usize = 64;
/// Calls that may run on one node at once.
const MAX_RUNNING: usize = 256;
/// Bytes of progress events that one call may send to who asked: a node that is out of order does not flood them.
pub(crate) const MAX_TOLD_BYTES: usize = 16 * 1024 * 1024;

/// What a node says it can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Declared {
    pub(crate) caps: Vec<String>,
    pub(crate) commands: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) permissions: BTreeMap<String, bool>,
}

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct About {
    pub(crate) node_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device_family: Option<String>,
    #[serde(flatten)]
    pub(crate) declared: Declared,
}

/// What is kept about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    #[serde(flatten)]
    pub(crate) about: About,
    pub(crate) created_at_ms: u64,
    /// When what it declares was approved; none when only its name is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) approved_at_ms: Option<u64>,
    /// When it was refused or removed; none once it is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) denied_at_ms: Option<u64>,
    /// A name that somebody gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What waits for it.
    #[serde(default, skip_serializing_if = "Queue::is_fresh")]
    pub(crate) queue: Queue,
}

impl Node {
    /// A node that nothing was decided on yet.
    pub(crate) fn undecided(id: &str, now_ms: u64) -> Self {
        let about = About {
            node_id: id.to_owned(),
            client_id: None,
            client_mode: None,
            display_name: None,
            platform: None,
            version: None,
            device_family: None,
            declared: Declared::default(),
        };
        let (approved_at_ms, denied_at_ms, name, queue) = (None, None, None, Queue::default());
        Self { about, created_at_ms: now_ms, approved_at_ms, denied_at_ms, name, queue }
    }

    /// As it is shown once it is approved. Version 3 shows it among the nodes that have a token; it has none.
    pub(crate) fn shown(&self, version: ProtocolVersion) -> Value {
        if version.is_newest() {
            let mut shown = json!(self);
            if let Some(shown) = shown.as_object_mut() {
                shown.shift_remove("queue");
            }
            return shown;
        }
        let About { node_id, display_name, platform, .. } = &self.about;
        let mut shown =
            json!({"nodeId": node_id, "createdAtMs": self.created_at_ms, "approvedAtMs": self.approved_at_ms});
        let name = if self.name.is_some() { &self.name } else { display_name };
        given(&mut shown, [("displayName", name), ("platform", platform)]);
        shown
    }
}

/// A node that waits for somebody's approval.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    pub(crate) request_id: String,
    #[serde(flatten)]
    pub(crate) about: About,
    pub(crate) required_approve_scopes: Vec<&'static str>,
    pub(crate) silent: bool,
    pub(crate) ts: u64,
    /// Whether something was approved of that node before.
    #[serde(skip)]
    pub(crate) is_repair: bool,
}

impl Request {
    /// As it is shown. Version 3 knows less of a request.
    pub(crate) fn shown(&self, version: ProtocolVersion) -> Value {
        if version.is_newest() {
            return json!(self);
        }
        let About { node_id, display_name, platform, declared, .. } = &self.about;
        let mut shown = json!({
            "requestId": self.request_id, "nodeId": node_id, "caps": declared.caps, "commands": declared.commands,
            "isRepair": self.is_repair, "ts": self.ts,
        });
        given(&mut shown, [("displayName", display_name), ("platform", platform)]);
        shown
    }
}

/// Adds the texts that there are.
fn given<'a>(shown: &mut Value, texts: impl IntoIterator<Item = (&'a str, &'a Option<String>)>) {
    let Some(fields) = shown.as_object_mut() else { return };
    fields.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?)))));
}

/// What a node answered.
pub(crate) type Reply = Result<(Option<Value>, Option<String>), (String, String)>;

struct Running {
    connection: String,
    answer: oneshot::Sender<Option<Reply>>,
    follower: Option<Follower>,
}

/// Who hears how a call on a node gets on.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    /// The connection that asked.
    pub(crate) connection: String,
    /// What it knows the call by.
    pub(crate) idempotency_key: String,
    pub(crate) command: String,
    /// Bytes it was told so far.
    told_bytes: Arc<AtomicUsize>,
}

impl Follower {
    pub(crate) fn new(connection: String, idempotency_key: String, command: String) -> Self {
        Self { connection, idempotency_key, command, told_bytes: Arc::default() }
    }

    /// Whether so many bytes more may be told of this call; if so they are counted.
    pub(crate) fn may_hear(&self, bytes: usize) -> bool {
        let told = self.told_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if told > MAX_TOLD_BYTES {
            self.told_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        told <= MAX_TOLD_BYTES
    }
}

/// Work that waits for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Work {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) priority: String,
    pub(crate) created_at_ms: u64,
    pub(crate) expires_at_ms: Option<u64>,
}

/// What waits for one node, and how often that changed. It is stored with the node, so a restart loses none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub(crate) revision: u64,
    /// One of a kind at most, and there are few kinds.
    pub(crate) work: Vec<Work>,
}

impl Queue {
    fn is_fresh(&self) -> bool {
        *self == Self::default()
    }

    /// The same without the work whose time is over.
    fn at(mut self, now_ms: u64) -> Self {
        self.work.retain(|work| work.expires_at_ms.is_none_or(|at_ms| at_ms > now_ms));
        self
    }
}

/// All of it.
pub(crate) struct Nodes {
    pub(crate) kept: Shelf<Node>,
    pending: Mutex<Vec<Request>>,
    running: Mutex<HashMap<String, Running>>,
    pub(crate) tokens: Tokens,
}

/// A call that runs on a node. Dropped, it is forgotten.
pub(crate) struct Ticket {
    state: Arc<State>,
    pub(crate) id: String,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.state.nodes.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Nodes {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(records: &Arc<dyn Records>) -> Result<Self, Failure> {
        let kept = Shelf::open(records, "node")?;
        let tokens = Tokens::open(records)?;
        Ok(Self { kept, pending: Mutex::default(), running: Mutex::default(), tokens })
    }

    pub(crate) fn pending(&self) -> Vec<Request> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A request that waits.
    ///
    /// # Errors
    /// There is none with that id.
    pub(crate) fn find(&self, request_id: &str) -> Result<Request, ErrorShape> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let found = pending.iter().find(|request| request.request_id == request_id);
        found.cloned().ok_or_else(unknown_request)
    }

    /// Takes a request off the list.
    ///
    /// # Errors
    /// There is none with that id.
    pub(crate) fn take(&self, request_id: &str) -> Result<Request, ErrorShape> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let at = pending.iter().position(|request| request.request_id == request_id);
        at.map(|at| pending.remove(at)).ok_or_else(unknown_request)
    }

    /// Puts back what could not be carried out, unless the node has asked anew.
    pub(crate) fn put_back(&self, request: Request) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() < MAX_PENDING && pending.iter().all(|other| other.about.node_id != request.about.node_id) {
            pending.push(request);
        }
    }

    /// Forgets what a node asked for.
    pub(crate) fn withdraw(&self, node: &str) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|request| request.about.node_id != node);
    }

    /// Whether a connected node may be asked for what it declares. It picks its version itself, so an old one is no way
    /// around what was decided: without approval only a node is good that nobody decided on and that does not wait.
    pub(crate) fn is_approved(&self, session: &Session) -> bool {
        let (Some(id), Some(declared)) = (&session.device, &session.declared) else { return false };
        let kept = self.kept.get(id);
        let Some(node) = kept.as_ref().filter(|node| node.approved_at_ms.is_some()) else {
            let denied = kept.is_some_and(|node| node.denied_at_ms.is_some());
            return session.version == ProtocolVersion::V3 && !denied && !self.waits(id);
        };
        let within = |known: &[String], wanted: &[String]| wanted.iter().all(|one| known.contains(one));
        let known = &node.about.declared;
        within(&known.commands, &declared.commands) && within(&known.caps, &declared.caps)
    }

    fn waits(&self, node: &str) -> bool {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.iter().any(|request| request.about.node_id == node)
    }

    /// Notes that a call runs on a connection, unless too many do.
    pub(crate) fn begin(
        &self,
        state: &Arc<State>,
        connection: &str,
        follower: Option<Follower>,
    ) -> Option<(Ticket, oneshot::Receiver<Option<Reply>>)> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.values().filter(|one| one.connection == connection).count() >= MAX_RUNNING {
            return None;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let (answer, waiting) = oneshot::channel();
        running.insert(id.clone(), Running { connection: connection.to_owned(), answer, follower });
        Some((Ticket { state: Arc::clone(state), id }, waiting))
    }

    /// Whether a call runs on that connection, and who hears how it gets on; no other connection may speak for it.
    pub(crate) fn runs_on(&self, id: &str, connection: &str) -> Option<Option<Follower>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(id).filter(|one| one.connection == connection).map(|one| one.follower.clone())
    }

    /// Ends a call with the answer of the connection that it runs on. False when there is no such call.
    pub(crate) fn finish(&self, id: &str, connection: &str, reply: Reply) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(id).is_none_or(|one| one.connection != connection) {
            return false;
        }
        running.remove(id).is_some_and(|one| one.answer.send(Some(reply)).is_ok())
    }

    /// What waits for a node.
    pub(crate) fn queue(&self, id: &str, now_ms: u64) -> Queue {
        self.kept.get(id).map(|node| node.queue.clone().at(now_ms)).unwrap_or_default()
    }

    /// Changes what waits for a node.
    ///
    /// # Errors
    /// What `change` says, or it cannot be stored: then nothing changed.
    pub(crate) async fn change_queue<R>(
        &self,
        id: &str,
        now_ms: u64,
        change: impl FnOnce(&mut Queue) -> Result<R, ErrorShape>,
    ) -> Result<R, ErrorShape> {
        let changed = self.kept.change(|shelf| {
            let before = shelf.get(id);
            let mut node = before.as_deref().map_or_else(|| Node::undecided(id, now_ms), Node::clone);
            let stored = node.queue.clone();
            node.queue = node.queue.at(now_ms);
            let result = change(&mut node.queue)?;
            let is_same = node.queue == stored;
            Ok((if is_same { Change::nothing() } else { Change::nothing().put(id, node) }, result))
        });
        changed.await
    }
}

/// A node has connected: what it declares may have to be approved.
pub(crate) fn came(state: &State, session: &Session) {
    let (Some(id), Some(declared)) = (&session.device, &session.declared) else { return };
    if state.nodes.is_approved(session) {
        return;
    }
    let about = About {
        node_id: id.clone(),
        client_id: Some(session.client.id.clone()),
        client_mode: Some(session.client.mode.clone()),
        display_name: session.client.display_name.clone(),
        platform: Some(session.client.platform.clone()),
        version: Some(session.client.version.clone()),
        device_family: session.client.device_family.clone(),
        declared: declared.clone(),
    };
    let request = {
        let mut pending = state.nodes.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = pending.iter().position(|request| request.about.node_id == *id).map(|at| pending.remove(at));
        if let Some(same) = earlier.as_ref().filter(|earlier| earlier.about == about) {
            pending.push(same.clone());
            return;
        }
        if pending.len() >= MAX_PENDING {
            pending.remove(0);
        }
        let request = Request {
            request_id: uuid::Uuid::new_v4().to_string(),
            required_approve_scopes: policy::approval_scopes(&about.declared.commands),
            about,
            silent: false,
            ts: state.now_ms(),
            is_repair: state.nodes.kept.get(id).is_some_and(|node| node.approved_at_ms.is_some()),
        };
        pending.push(request.clone());
        request
    };
    tracing::info!(
        node = id,
        request = request.request_id,
        "a node waits for approval; `leanclaw nodes list` shows it"
    );
    requested(state, |version| request.shown(version));
}

/// Tells those who may pair that a node waits.
pub(crate) fn requested(state: &State, shown: impl Fn(ProtocolVersion) -> Value) {
    const NAME: &str = "node.pair.requested";
    let [old, new] = [ProtocolVersion::V3, ProtocolVersion::V4].map(|version| shown(version).to_string());
    state.hub.broadcast(Event::new(NAME, &new).payload_v3(&old).scope(PAIRING));
}

/// A node has gone: nothing that runs on it will be answered.
pub(crate) fn went(state: &State, session: &Session) {
    if session.declared.is_none() {
        return;
    }
    let mut running = state.nodes.running.lock().unwrap_or_else(PoisonError::into_inner);
    let lost: Vec<String> =
        running.iter().filter(|(_, one)| one.connection == session.id).map(|(id, _)| id.clone()).collect();
    for id in lost {
        if let Some(one) = running.remove(&id) {
            // Who asked may have given up.
            let _ = one.answer.send(None);
        }
    }
}

/// What becomes of what is kept about a node whose device is removed: it goes. That it was refused stays, so that it is no
/// fresh one when its device is paired again.
pub(crate) fn forgotten(kept: &Shelf<Node>, id: &str) -> Change<Node> {
    let change = Change::nothing();
    match kept.get(id) {
        Some(node) if node.denied_at_ms.is_none() => change.remove(id),
        Some(node) if !node.queue.is_fresh() => change.put(id, Node { queue: Queue::default(), ..Node::clone(&node) }),
        _ => change,
    }
}

/// Tells those who may pair what became of a request.
pub(crate) fn resolved(state: &State, request: &str, node: &str, decision: &str) {
    let payload = json!({
        "requestId": request, "nodeId": node, "decision": decision, "ts": state.now_ms(),
    });
    state.hub.broadcast(Event::new("node.pair.resolved", &payload.to_string()).scope(PAIRING));
}

/// What is said of a request that waits no more, or never did.
pub(crate) fn unknown_request() -> ErrorShape {
    ErrorShape::invalid("unknown requestId").hint("leanclaw nodes list shows what waits")
}
