//! Devices: which may connect, which wait for an admin, and their tokens.
//!
//! A device is a key pair on a client's side ([`crate::auth::device`]). The first `connect` with the shared credential from
//! this very machine pairs it; any other, and every wish for more than was approved, waits for somebody with the scope
//! `operator.pairing`. A paired device gets a token of its own, so that it needs the shared credential no more, and one
//! device can be shut out without changing anything for the others.
//!
//! A token is made from the gateway's key and a salt, so that it can be handed out again without being kept anywhere.

mod admission;
mod keys;
mod record;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use leanclaw_types::Caller;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::frame::ErrorShape;

pub(crate) use admission::{Wish, admit, resolved};
pub(crate) use keys::Keys;
pub(crate) use record::{About, Device, Pending, Token};

use crate::nodes::{self, Nodes};
use crate::services::Records;
use crate::shelf::{Change, Shelf};

/// Time after which a request that nobody decided on is forgotten.
const PENDING_FOR_MS: u64 = 5 * 60 * 1000;
/// Requests that may wait; the oldest makes room.
const MAX_PENDING: usize = 64;
/// Devices that may be paired. Pairing one more needs another to be removed.
const MAX_DEVICES: usize = 10_000;

/// Every device the gateway knows.
pub(crate) struct Devices {
    paired: Shelf<Device>,
    pending: Mutex<Vec<Pending>>,
    /// When each device's token was last shown, by device and role. Not stored: a write for every connection would be
    /// all this costs.
    used: Mutex<HashMap<(String, String), u64>>,
    keys: Arc<Keys>,
}

/// Why a device may not simply enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    NotPaired,
    RoleUpgrade,
    ScopeUpgrade,
    MetadataUpgrade,
}

impl Reason {
    /// As clients know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotPaired => "not-paired",
            Self::RoleUpgrade => "role-upgrade",
            Self::ScopeUpgrade => "scope-upgrade",
            Self::MetadataUpgrade => "metadata-upgrade",
        }
    }

    /// Whether a client on this machine may get it without asking. A role or a platform that changes is never expected.
    pub(crate) fn may_be_silent(self) -> bool {
        matches!(self, Self::NotPaired | Self::ScopeUpgrade)
    }
}

impl Devices {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(records: &Arc<dyn Records>, keys: Arc<Keys>) -> Result<Self, leanclaw_types::Failure> {
        let paired = Shelf::open(records, "device")?;
        Ok(Self { paired, pending: Mutex::default(), used: Mutex::default(), keys })
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Device>> {
        self.paired.get(id)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Device>> {
        self.paired.all().into_iter().map(|(_, device)| device).collect()
    }

    /// What keeps a device from entering as it wishes.
    pub(crate) fn obstacle(&self, wish: &Wish) -> Option<Reason> {
        let Some(device) = self.get(&wish.about.device_id) else { return Some(Reason::NotPaired) };
        let same =
            |before: &str, now: &str| crate::auth::device::normalised(before) == crate::auth::device::normalised(now);
        let family = |about: &About| about.device_family.clone().unwrap_or_default();
        if !device.roles.contains(&wish.role) {
            return Some(Reason::RoleUpgrade);
        }
        if !same(&device.about.platform, &wish.about.platform) || !same(&family(&device.about), &family(&wish.about)) {
            return Some(Reason::MetadataUpgrade);
        }
        (!covers(&device.scopes, &wish.scopes)).then_some(Reason::ScopeUpgrade)
    }

    /// The token of a paired device that `given` is, if any.
    pub(crate) fn token_shown(&self, device: &Device, role: &str, given: &str) -> Option<Token> {
        let token = device.token(role)?;
        let text = leanclaw_types::redact::Secret::new(self.keys.token(&device.about.device_id, token));
        crate::auth::credential::same(given, &text).then(|| token.clone())
    }

    /// The text of a device's token for a role.
    pub(crate) fn token_text(&self, id: &str, role: &str) -> Option<(String, u64)> {
        let device = self.get(id)?;
        let token = device.token(role)?;
        Some((self.keys.token(id, token), token.rotated_at_ms.unwrap_or(token.created_at_ms)))
    }

    pub(crate) fn note_use(&self, id: &str, role: &str, now_ms: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert((id.to_owned(), role.to_owned()), now_ms);
    }

    pub(crate) fn last_used(&self, id: &str, role: &str) -> Option<u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).get(&(id.to_owned(), role.to_owned())).copied()
    }

    /// Notes that a device waits. One that already does keeps its request id.
    pub(crate) fn ask(&self, wish: Wish, reason: Reason, silent: bool, now_ms: u64) -> Pending {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        forget_old(&mut pending, now_ms);
        let known = pending.iter().position(|request| request.about.device_id == wish.about.device_id);
        let earlier = known.map(|at| pending.remove(at));
        if pending.len() >= MAX_PENDING {
            pending.remove(0);
        }
        let request = Pending {
            request_id: earlier.as_ref().map_or_else(|| uuid::Uuid::new_v4().to_string(), |one| one.request_id.clone()),
            roles: vec![wish.role.clone()],
            role: wish.role,
            scopes: wish.scopes,
            by: wish.by,
            about: wish.about,
            silent,
            is_repair: reason != Reason::NotPaired,
            ts: earlier.map_or(now_ms, |one| one.ts),
        };
        pending.push(request.clone());
        request
    }

    /// Requests that wait, oldest first.
    pub(crate) fn pending(&self, now_ms: u64) -> Vec<Pending> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        forget_old(&mut pending, now_ms);
        pending.clone()
    }

    /// Takes a request off the list, if `check` finds nothing against it. What is taken is what was looked at: a device
    /// that asks anew meanwhile keeps its request's id.
    ///
    /// # Errors
    /// There is none with that id, or what `check` says: then it goes on waiting.
    pub(crate) fn take(
        &self,
        request_id: &str,
        now_ms: u64,
        check: impl FnOnce(&Pending) -> Result<(), ErrorShape>,
    ) -> Result<Pending, ErrorShape> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        forget_old(&mut pending, now_ms);
        let at = pending.iter().position(|request| request.request_id == request_id);
        let at = at.ok_or_else(unknown_request)?;
        if let Some(request) = pending.get(at) {
            check(request)?;
        }
        Ok(pending.remove(at))
    }

    /// Puts a request back that could not be carried out.
    pub(crate) fn put_back(&self, request: Pending) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// Pairs a device, or gives a paired one more.
    ///
    /// # Errors
    /// It cannot be stored, or there are too many.
    pub(crate) async fn approve(&self, wish: Wish, via: &str, actor: &str, now_ms: u64) -> Result<Device, ErrorShape> {
        let salt = self.keys.salt()?;
        self.paired
            .change(|shelf| {
                let before = shelf.get(&wish.about.device_id);
                if before.is_none() && shelf.len() >= MAX_DEVICES {
                    return Err(ErrorShape::invalid(
                        "too many paired devices; remove one with `leanclaw devices remove`",
                    ));
                }
                let device = grown(before.as_deref(), wish, (via, salt, now_ms));
                let id = device.about.device_id.clone();
                let audit = paired(&id, "paired", &device.scopes, actor, now_ms);
                Ok((Change::nothing().put(id, device.clone()).audit(audit), device))
            })
            .await
    }

    /// Writes down that a device that waited was sent away. What it was approved for before stays.
    ///
    /// # Errors
    /// It cannot be stored.
    pub(crate) async fn rejected(&self, request: &Pending, actor: &str, now_ms: u64) -> Result<(), ErrorShape> {
        let row = paired(&request.about.device_id, "rejected", &request.scopes, actor, now_ms);
        self.paired.change(|_| Ok((Change::nothing().audit(row), ()))).await
    }

    /// Changes a paired device.
    ///
    /// # Errors
    /// There is none with that id, `change` refuses, or it cannot be stored.
    pub(crate) async fn change<R>(
        &self,
        id: &str,
        (action, actor, now_ms): (&str, &str, u64),
        change: impl FnOnce(&mut Device) -> Result<R, ErrorShape>,
    ) -> Result<R, ErrorShape> {
        self.paired
            .change(|shelf| {
                let mut device = shelf.get(id).map(|device| Device::clone(&device)).ok_or_else(unknown_device)?;
                let result = change(&mut device)?;
                let audit = paired(id, action, &device.scopes, actor, now_ms);
                Ok((Change::nothing().put(id, device).audit(audit), result))
            })
            .await
    }

    /// Notes that a paired device showed another credential than before: its own token is bound by that one from now on.
    ///
    /// # Errors
    /// It cannot be stored: nobody could say later what the device came in by.
    pub(crate) async fn shown_again(&self, id: &str, by: &str, now_ms: u64) -> Result<(), crate::auth::Refusal> {
        let is_same = |device: &Device| device.paired_by.as_deref().is_none_or(|before| before == by);
        if self.get(id).is_none_or(|device| is_same(&device)) {
            return Ok(());
        }
        let actor = format!("client:{by}");
        let noted = self.change(id, ("credential-changed", &actor, now_ms), |device| {
            device.paired_by = Some(by.to_owned());
            Ok(())
        });
        noted.await.map_err(|error| crate::auth::Refusal { error, code: "PAIRING_NOT_STORED" })
    }

    /// Forgets a device, and what it was approved for as a node: else that would count when it is paired again.
    ///
    /// # Errors
    /// There is none with that id, or it cannot be stored: then both are still there.
    pub(crate) async fn remove(&self, id: &str, nodes: &Nodes, actor: &str, now_ms: u64) -> Result<(), ErrorShape> {
        self.paired
            .change_with(&nodes.kept, |devices, nodes| {
                let device = devices.get(id).ok_or_else(unknown_device)?;
                let audit = paired(id, "removed", &device.scopes, actor, now_ms);
                Ok((Change::nothing().remove(id).audit(audit), nodes::forgotten(nodes, id), ()))
            })
            .await
    }

    /// A salt for a new token.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn salt(&self) -> Result<String, ErrorShape> {
        self.keys.salt()
    }
}

/// Whether approved scopes hold every wanted one.
pub(crate) fn covers(approved: &[String], wanted: &[String]) -> bool {
    let holder = Caller::client("", "", approved.to_vec());
    wanted.iter().all(|scope| holder.holds(scope))
}

pub(crate) fn unknown_device() -> ErrorShape {
    ErrorShape::invalid("unknown deviceId").hint("leanclaw devices list shows the devices there are")
}

fn unknown_request() -> ErrorShape {
    ErrorShape::invalid("unknown requestId")
        .hint("leanclaw devices list shows what waits; nothing waits for longer than five minutes")
}

fn forget_old(pending: &mut Vec<Pending>, now_ms: u64) {
    pending.retain(|request| request.ts.saturating_add(PENDING_FOR_MS) > now_ms);
}

fn paired(id: &str, action: &str, scopes: &[String], actor: &str, now_ms: u64) -> AuditRecord {
    let event = AuditEvent::DeviceChanged { device: id.to_owned(), action: action.to_owned(), scopes: scopes.to_vec() };
    AuditRecord { at_ms: now_ms, actor: actor.to_owned(), event }
}

/// The device with what it wished for added.
fn grown(before: Option<&Device>, wish: Wish, (via, salt, now_ms): (&str, String, u64)) -> Device {
    let mut device = before.cloned().unwrap_or_else(|| Device {
        about: wish.about.clone(),
        roles: Vec::new(),
        scopes: Vec::new(),
        access: None,
        paired_by: None,
        label: None,
        approved_via: via.to_owned(),
        created_at_ms: now_ms,
        approved_at_ms: now_ms,
        tokens: Vec::new(),
    });
    device.about = wish.about;
    device.paired_by = Some(wish.by);
    device.approved_at_ms = now_ms;
    via.clone_into(&mut device.approved_via);
    if !device.roles.contains(&wish.role) {
        device.roles.push(wish.role.clone());
    }
    for scope in &wish.scopes {
        if !device.scopes.contains(scope) {
            device.scopes.push(scope.clone());
        }
    }
    device.scopes.sort();
    let mut scopes = device.token(&wish.role).map(|token| token.scopes.clone()).unwrap_or_default();
    scopes.extend(wish.scopes);
    scopes.sort();
    scopes.dedup();
    match device.tokens.iter_mut().find(|token| token.role == wish.role && token.revoked_at_ms.is_none()) {
        Some(token) => token.scopes = scopes,
        None => {
            device.tokens.retain(|token| token.role != wish.role);
            let made = (now_ms, None, None);
            let (created_at_ms, rotated_at_ms, revoked_at_ms) = made;
            device.tokens.push(Token { role: wish.role, scopes, salt, created_at_ms, rotated_at_ms, revoked_at_ms });
        }
    }
    device
}
