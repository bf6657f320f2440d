//! Nodes that were given a token: how nodes of version 3 were paired before they were devices. One is announced, somebody
//! who may pair approves it and hands it its token, and whoever is shown a token can ask whether it is good.
//!
//! Nothing else follows from it. What may be asked of a node is decided on the device that connects
//! ([`super::Nodes::is_approved`]), so an id that somebody chose is no device's, and a token opens no door.
//!
//! A token is kept nowhere: it is made from the gateway's key and a salt, as those of devices are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leanclaw_types::Failure;
use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::redact::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::PAIRING;
use crate::devices::Keys;
use crate::phrase::no_nulls;
use crate::services::Records;
use crate::shelf::Shelf;

/// Requests that may wait; the oldest makes room.
const MAX_PENDING: usize = 64;
/// Time after which a request that nobody decided on is forgotten.
const PENDING_FOR_MS: u64 = 5 * 60 * 1000;
/// Nodes that may have a token.
const MAX_TOKENS: usize = 1024;
/// Bytes of what is said about one node.
const MAX_CLAIM_BYTES: usize = 16 * 1024;

/// A text that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Word(#[schemars(length(min = 1))] String);

/// What is said about a node when it is announced. Nobody checks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
pub(crate) struct Claim {
    #[schemars(length(min = 1))]
    pub(crate) node_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub(crate) display_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub(crate) platform: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub(crate) version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    core_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    ui_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub(crate) device_family: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    model_identifier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caps: Option<Vec<Word>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commands: Option<Vec<Word>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    remote_ip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    silent: Option<bool>,
}

impl Claim {
    fn fields(&self) -> Map<String, Value> {
        match json!(self) {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

/// What is kept of a node that has a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Holder {
    pub(crate) claim: Claim,
    salt: String,
    created_at_ms: u64,
    pub(crate) approved_at_ms: u64,
}

impl Holder {
    /// A node as version 3 is shown it, with its token.
    pub(crate) fn shown(&self, keys: &Keys) -> Value {
        let mut fields = self.claim.fields();
        fields.shift_remove("silent");
        fields.insert("token".into(), json!(self.token(keys).expose()));
        fields.insert("createdAtMs".into(), json!(self.created_at_ms));
        fields.insert("approvedAtMs".into(), json!(self.approved_at_ms));
        Value::Object(fields)
    }

    /// The same for version 4, which knows no tokens of nodes.
    pub(crate) fn shown_without(&self, keys: &Keys) -> Value {
        let mut shown = self.shown(keys);
        if let Some(fields) = shown.as_object_mut() {
            fields.shift_remove("token");
        }
        shown
    }

    fn token(&self, keys: &Keys) -> Secret {
        Secret::new(keys.node_token(&self.claim.node_id, &self.salt))
    }
}

/// A node that waits for its token.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) request_id: String,
    pub(crate) claim: Claim,
    is_repair: bool,
    ts: u64,
}

impl Asked {
    /// As it is shown. Version 4 has no such requests, so it is shown one as those of its own nodes are.
    pub(crate) fn shown(&self, version: ProtocolVersion) -> Value {
        let mut fields = self.claim.fields();
        fields.insert("requestId".into(), json!(self.request_id));
        fields.insert("ts".into(), json!(self.ts));
        match version {
            ProtocolVersion::V3 => drop(fields.insert("isRepair".into(), json!(self.is_repair))),
            ProtocolVersion::V4 => {
                fields.insert("requiredApproveScopes".into(), json!([PAIRING]));
                fields.insert("silent".into(), json!(self.claim.silent.unwrap_or_default()));
            }
        }
        Value::Object(fields)
    }
}

/// All of them.
pub(crate) struct Tokens {
    pub(crate) kept: Shelf<Holder>,
    pending: Mutex<Vec<Asked>>,
}

impl Tokens {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn open(records: &Arc<dyn Records>) -> Result<Self, Failure> {
        Ok(Self { kept: Shelf::open(records, "node-token")?, pending: Mutex::default() })
    }

    pub(crate) fn get(&self, node: &str) -> Option<Arc<Holder>> {
        self.kept.get(node)
    }

    /// The nodes that have a token, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<Holder>> {
        self.kept.all().into_iter().map(|(_, holder)| holder).collect()
    }

    fn waiting(&self, now_ms: u64) -> MutexGuard<'_, Vec<Asked>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|asked| asked.ts.saturating_add(PENDING_FOR_MS) > now_ms);
        pending
    }

    /// Requests that wait, oldest first.
    pub(crate) fn pending(&self, now_ms: u64) -> Vec<Asked> {
        self.waiting(now_ms).clone()
    }

    /// The request with that id, if it waits.
    pub(crate) fn find(&self, request_id: &str, now_ms: u64) -> Option<Asked> {
        self.waiting(now_ms).iter().find(|asked| asked.request_id == request_id).cloned()
    }

    /// Notes that a node waits, and whether it did not before. What one that does said first is what is decided on.
    ///
    /// # Errors
    /// Too much is said about it.
    pub(crate) fn ask(&self, claim: Claim, now_ms: u64) -> Result<(Asked, bool), ErrorShape> {
        let bytes = serde_json::to_string(&claim).map_or(usize::MAX, |text| text.len());
        if bytes > MAX_CLAIM_BYTES {
            let most = format!("what is said about a node may have {MAX_CLAIM_BYTES} bytes; this has {bytes}");
            return Err(ErrorShape::invalid(most));
        }
        let mut pending = self.waiting(now_ms);
        if let Some(same) = pending.iter().find(|asked| asked.claim.node_id == claim.node_id) {
            return Ok((same.clone(), false));
        }
        if pending.len() >= MAX_PENDING {
            pending.remove(0);
        }
        let is_repair = self.kept.get(&claim.node_id).is_some();
        let asked = Asked { request_id: uuid::Uuid::new_v4().to_string(), claim, is_repair, ts: now_ms };
        pending.push(asked.clone());
        Ok((asked, true))
    }

    /// Takes a request off the list.
    ///
    /// # Errors
    /// There is none with that id.
    pub(crate) fn take(&self, request_id: &str, now_ms: u64) -> Result<Asked, ErrorShape> {
        let mut pending = self.waiting(now_ms);
        let at = pending.iter().position(|asked| asked.request_id == request_id);
        at.map(|at| pending.remove(at)).ok_or_else(super::unknown_request)
    }

    /// Puts back what could not be carried out, unless the node was announced anew.
    pub(crate) fn put_back(&self, asked: Asked, now_ms: u64) {
        let mut pending = self.waiting(now_ms);
        if pending.len() < MAX_PENDING && pending.iter().all(|other| other.claim.node_id != asked.claim.node_id) {
            pending.push(asked);
        }
    }

    /// Forgets that a node waits.
    pub(crate) fn withdraw(&self, node: &str) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|asked| asked.claim.node_id != node);
    }

    /// A token for a node. One that it had before is good no more.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn made(&self, keys: &Keys, claim: Claim, now_ms: u64) -> Result<Holder, ErrorShape> {
        let created_at_ms = self.kept.get(&claim.node_id).map_or(now_ms, |before| before.created_at_ms);
        Ok(Holder { claim, salt: keys.salt()?, created_at_ms, approved_at_ms: now_ms })
    }

    /// The node whose token that is, if it is.
    pub(crate) fn verify(&self, keys: &Keys, node: &str, given: &str) -> Option<Arc<Holder>> {
        self.kept.get(node).filter(|holder| crate::auth::credential::same(given, &holder.token(keys)))
    }
}

/// What a new token needs room for.
///
/// # Errors
/// Too many nodes have one.
pub(crate) fn has_room(shelf: &Shelf<Holder>, node: &str) -> Result<(), ErrorShape> {
    if shelf.get(node).is_some() || shelf.len() < MAX_TOKENS {
        return Ok(());
    }
    Err(ErrorShape::invalid("too many nodes have a token; remove one with `leanclaw nodes remove`"))
}
