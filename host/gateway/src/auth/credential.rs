//! Deciding about one caller.

use std::sync::Arc;

use leanclaw_types::Caller;
use leanclaw_types::frame::{ClientInfo, ConnectParams, ErrorShape, ProtocolVersion, error_code};
use leanclaw_types::redact::Secret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::Peer;
use crate::auth::device::{self, Identity};
use crate::auth::lockout::{Kind, Lockout};
use crate::auth::refusal_words::{
    credential_refusal, device_token_refusal, distrusted, flawed, nothing_to_show, rate_limited,
};
use crate::auth::roles::Role;
use crate::config::{Auth, Fixed, LiveConfig};
use crate::devices::{Devices, covers};

/// A caller who may enter.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// How it proved itself: `token`, `password`, `device-token` or `none`.
    pub(crate) method: &'static str,
    /// Who it is, as the host vouches for it.
    pub(crate) caller: Caller,
    /// The device it proved to be.
    pub(crate) device: Option<String>,
    /// That device's token, and when it was made.
    pub(crate) token: Option<(String, u64)>,
}

/// A caller that has proved something. What it may do is decided next.
#[derive(Debug, Clone)]
pub(crate) struct Proven {
    /// What it showed.
    pub(crate) shown: Shown,
    /// The device it proved to be.
    pub(crate) identity: Option<Identity>,
}

/// What a caller was let in by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// As [`Access::method`].
    pub(crate) method: &'static str,
    /// Who that is, when no device says more: `token`, `password`, `loopback` or `user:<name>`.
    pub(crate) principal: String,
    /// What it is good for at most.
    pub(crate) role: Role,
}

impl Shown {
    fn new(method: &'static str, role: Role) -> Self {
        let principal = if method == "none" { "loopback" } else { method };
        Self { method, principal: principal.to_owned(), role }
    }

    /// Whether it is the gateway's own credential (and not one of the named ones or of a device) and good for all there is.
    fn is_all(&self) -> bool {
        matches!(self.method, "token" | "password") && self.principal == self.method && self.role == Role::Admin
    }

    /// The credential that one of the texts is, and which of those that were compared are none. `own` are held against the
    /// gateway's own credential, `any` (those among them) against the named ones. All are compared, whichever matches first.
    fn find<'a>(
        auth: &Auth,
        (method, secret): (&'static str, &Secret),
        own: &[&'a str],
        any: &[&'a str],
    ) -> (Option<Self>, Vec<&'a str>) {
        let mut right: Vec<&str> = Vec::new();
        let mut is = |given: &[&'a str], secret: &Secret| {
            let before = right.len();
            right.extend(given.iter().filter(|text| same(text, secret)));
            right.len() > before
        };
        let mut shown = is(own, secret).then(|| Self::new(method, auth.role));
        for credential in &auth.named {
            if is(any, &credential.secret) && shown.is_none() {
                let principal = format!("user:{}", credential.name);
                shown = Some(Self { method, principal, role: credential.role });
            }
        }
        let compared = if auth.named.is_empty() { own } else { any };
        (shown, compared.iter().copied().filter(|text| !right.contains(text)).collect())
    }
}

/// A caller who may not.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What it is told.
    pub(crate) error: ErrorShape,
    /// The detail code, for the audit row.
    pub(crate) code: &'static str,
}

impl Refusal {
    pub(super) fn new(top: &str, code: &'static str, message: impl Into<String>, details: Value) -> Self {
        Self { error: ErrorShape::new(top, message).details(details), code }
    }
}

/// What a decision is made from, besides the caller.
pub(crate) struct Door<'a> {
    pub(crate) config: &'a Fixed,
    pub(crate) live: Arc<LiveConfig>,
    pub(crate) lockout: &'a Lockout,
    pub(crate) devices: &'a Devices,
    pub(crate) now_ms: u64,
}

impl Door<'_> {
    /// How long nobody of that address can show a credential of that kind; none when it can be shown.
    fn locked(&self, peer: &Peer, kind: Kind) -> Option<u64> {
        self.lockout.locked(peer, kind, self.now_ms)
    }

    /// What the gateway asks for: `token` or `password`.
    fn kind(&self) -> &'static str {
        self.config.auth.credential().map_or("token", |(kind, _)| kind)
    }

    /// Counts a wrong credential.
    fn failed(&self, peer: &Peer, kind: Kind) {
        self.lockout.failed(peer, kind, self.now_ms);
    }
}

/// Decides about a `connect`, in the order the real gateway checks.
pub(crate) fn decide(
    door: &Door<'_>,
    peer: &Peer,
    version: ProtocolVersion,
    connect: &ConnectParams,
    nonce: &str,
) -> Result<Proven, Refusal> {
    let role = connect.role.as_deref().unwrap_or("operator");
    if role != "operator" && role != "node" {
        return Err(Refusal { error: ErrorShape::invalid("invalid role"), code: "INVALID_ROLE" });
    }
    if !peer.is_told_by_trusted(&door.live) {
        return Err(distrusted());
    }
    check_page(door, peer, &connect.client)?;
    let knock = Knock { door, peer, version, connect, role };
    let held = knock.held();
    let own = TokenShown::of(connect);
    // Where nothing that is shown may be looked at, nothing else is.
    if let Shared::Locked(left_ms) = held.shared
        && (own.is_none() || door.locked(peer, Kind::Device).is_some())
    {
        return Err(rate_limited(version, left_ms));
    }
    let Some(proof) = &connect.device else {
        let shown = knock.settle(held)?;
        needs_device(role, &connect.client)?;
        return Ok(Proven { shown, identity: None });
    };
    let identity = device::verify(connect, proof, nonce, door.now_ms).map_err(flawed)?;
    let shown = match own {
        Some(own) if !matches!(held.shared, Shared::Right(_)) => knock.of_device(held, own, &identity)?,
        _ if matches!(held.shared, Shared::Page) => Shown::new("none", Role::Admin),
        _ => knock.settle(held)?,
    };
    Ok(Proven { shown, identity: Some(identity) })
}

/// A text that may be the token of the caller's device.
#[derive(Debug, Clone, Copy)]
struct TokenShown<'a> {
    text: &'a str,
    /// It stands in the field for it. In the other it may as well be meant for the gateway's credential.
    is_named: bool,
}

impl<'a> TokenShown<'a> {
    fn of(connect: &'a ConnectParams) -> Option<Self> {
        let auth = connect.auth.as_ref().filter(|_| connect.device.is_some())?;
        let filled = |field: &'a Option<String>| field.as_deref().filter(|text| !text.is_empty());
        let named = filled(&auth.device_token).map(|text| Self { text, is_named: true });
        named.or_else(|| filled(&auth.token).map(|text| Self { text, is_named: false }))
    }
}

/// What the shared credential came to.
#[derive(Debug)]
enum Shared {
    /// It is right, or none is configured and the caller is local.
    Right(Shown),
    /// None is configured, and a page on this machine asks: only a paired device may.
    Page,
    Wrong,
    Missing,
    /// Nothing at all was shown, or nothing could help.
    Nothing,
    /// Too many wrong ones, so this one was not looked at; milliseconds left.
    Locked(u64),
}

/// What holding the texts that were shown against the shared credential and the named ones came to.
#[derive(Debug)]
struct Held<'a> {
    shared: Shared,
    /// Those that were compared and are none of them.
    wrong: Vec<&'a str>,
}

impl Held<'_> {
    fn without_looking(shared: Shared) -> Self {
        Self { shared, wrong: Vec::new() }
    }
}

/// What the text that may be a device's own token came to.
enum OwnToken {
    /// It is that.
    Right,
    /// It is that, and not good for all that is asked.
    TooLittle(Refusal),
    /// It is said to be that, and is not.
    Wrong(Refusal),
    /// It is something else.
    Another,
}

/// One caller at the door.
struct Knock<'a> {
    door: &'a Door<'a>,
    peer: &'a Peer,
    version: ProtocolVersion,
    connect: &'a ConnectParams,
    role: &'a str,
}

impl<'a> Knock<'a> {
    /// Holds what is shown against the shared credential and the named ones.
    fn held(&self) -> Held<'a> {
        let Self { door, peer, version, connect, .. } = *self;
        let Some(credential) = door.config.auth.credential() else {
            return Held::without_looking(match (peer.direct_loopback, peer.from_page) {
                (true, false) => Shared::Right(Shown::new("none", Role::Admin)),
                // A page whose request says who it is was held against the allowed origins before.
                (true, true) if peer.origin.is_some() => Shared::Page,
                _ => Shared::Nothing,
            });
        };
        let auth = connect.auth.as_ref();
        let (token, password) =
            (auth.and_then(|auth| auth.token.as_deref()), auth.and_then(|auth| auth.password.as_deref()));
        let (own, other) = if credential.0 == "password" { (password, token) } else { (token, password) };
        let any = texts(connect);
        // Version 3 reads the secret from its own field only; version 4 takes it from either.
        let given = own.into_iter().chain(other.filter(|_| version.is_newest()));
        let mut given: Vec<&str> = given.filter(|text| any.contains(text)).collect();
        given.dedup();
        // Version 3 tells who shows nothing what is missing, also then.
        if let Some(left_ms) = door.locked(peer, Kind::Shared)
            && (version.is_newest() || !any.is_empty())
        {
            return Held::without_looking(Shared::Locked(left_ms));
        }
        let (shown, wrong) = Shown::find(&door.config.auth, credential, &given, &any);
        let shared = match shown {
            Some(shown) => Shared::Right(shown),
            None if !given.is_empty() => Shared::Wrong,
            None if connect.device.is_none() && !shows_anything(connect) => Shared::Nothing,
            None => Shared::Missing,
        };
        Held { shared, wrong }
    }

    /// Turns what the shared credential came to into an answer, and counts what was wrong. Only who is the admin by the
    /// gateway's own credential has nothing left to guess at, so that forgives; what anybody else shows forgives nothing.
    fn settle(&self, held: Held<'_>) -> Result<Shown, Refusal> {
        let Self { door, peer, version, connect, .. } = *self;
        match &held.shared {
            Shared::Right(shown) if shown.is_all() => door.lockout.succeeded(peer, Kind::Shared),
            _ => self.count_guesses(&held, None),
        }
        match held.shared {
            Shared::Right(shown) => Ok(shown),
            Shared::Locked(left_ms) => Err(rate_limited(version, left_ms)),
            Shared::Page | Shared::Nothing => Err(nothing_to_show(peer)),
            Shared::Missing => Err(credential_refusal(door.kind(), "missing", version, connect)),
            Shared::Wrong => Err(credential_refusal(door.kind(), "mismatch", version, connect)),
        }
    }

    /// Decides about a device that shows what may be its own token, where the shared credential did not let it in. Whatever
    /// was looked at and is wrong counts; what is known to be the device's token was no guess at another credential.
    fn of_device(&self, held: Held<'_>, own: TokenShown<'_>, identity: &Identity) -> Result<Shown, Refusal> {
        // Nothing is held against the token of a device that has none.
        let is_paired = self.door.devices.get(&identity.id).is_some();
        if let Some(left_ms) = self.door.locked(self.peer, Kind::Device)
            && (own.is_named || is_paired)
        {
            self.count_guesses(&held, None);
            return Err(rate_limited(self.version, left_ms));
        }
        let verdict = self.device_token(identity, own);
        if is_paired && matches!(verdict, OwnToken::Wrong(_) | OwnToken::Another) {
            self.door.failed(self.peer, Kind::Device);
        }
        match verdict {
            OwnToken::Right => {
                self.count_guesses(&held, Some(own.text));
                Ok(Shown::new("device-token", Role::Admin))
            }
            OwnToken::TooLittle(refusal) => {
                self.count_guesses(&held, Some(own.text));
                Err(refusal)
            }
            OwnToken::Wrong(refusal) => {
                self.count_guesses(&held, None);
                Err(refusal)
            }
            OwnToken::Another if matches!(held.shared, Shared::Page) => Ok(Shown::new("none", Role::Admin)),
            // What a paired device shows is most likely a token that it had once, and no guess at another credential.
            OwnToken::Another if is_paired && matches!(held.shared, Shared::Wrong) => {
                self.count_guesses(&held, Some(own.text));
                Err(credential_refusal(self.door.kind(), "mismatch", self.version, self.connect))
            }
            OwnToken::Another => self.settle(held),
        }
    }

    /// Counts the texts besides `known` that were held against the shared credential or the named ones, and are none.
    fn count_guesses(&self, held: &Held<'_>, known: Option<&str>) {
        for _ in held.wrong.iter().filter(|text| Some(**text) != known) {
            self.door.failed(self.peer, Kind::Shared);
        }
    }

    fn device_token(&self, identity: &Identity, own: TokenShown<'_>) -> OwnToken {
        let devices = self.door.devices;
        let device = devices.get(&identity.id);
        let token = device.and_then(|device| devices.token_shown(&device, self.role, own.text));
        let code = if own.is_named { "AUTH_DEVICE_TOKEN_MISMATCH" } else { "AUTH_TOKEN_MISMATCH" };
        let mismatch = || device_token_refusal(code, "device_token_mismatch", "device token mismatch");
        match token {
            None if own.is_named => OwnToken::Wrong(mismatch()),
            None => OwnToken::Another,
            Some(token) if covers(&token.scopes, &self.connect.scopes) => OwnToken::Right,
            Some(_) if self.version.is_newest() => OwnToken::TooLittle(device_token_refusal(
                "AUTH_SCOPE_MISMATCH",
                "scope_mismatch",
                "the device token is not approved for all requested scopes",
            )),
            Some(_) => OwnToken::TooLittle(mismatch()),
        }
    }
}

/// The texts that may be the shared credential or a named one, each once. What is said to be the device's token as well, as
/// clients of version 3 send it, is that and no other.
fn texts(connect: &ConnectParams) -> Vec<&str> {
    let Some(auth) = &connect.auth else { return Vec::new() };
    let of_device = auth.device_token.as_deref().filter(|_| connect.device.is_some());
    let may_be = |text: &&str| !text.is_empty() && Some(*text) != of_device;
    let mut texts: Vec<&str> =
        [&auth.token, &auth.password].into_iter().flatten().map(String::as_str).filter(may_be).collect();
    texts.dedup();
    texts
}

/// Whether there is any credential in it, for whatever.
fn shows_anything(connect: &ConnectParams) -> bool {
    let Some(auth) = &connect.auth else { return false };
    let fields = [&auth.token, &auth.password, &auth.device_token, &auth.bootstrap_token];
    fields.into_iter().flatten().any(|text| !text.is_empty())
}

/// Nodes and pages are known by their device only.
fn needs_device(role: &str, client: &ClientInfo) -> Result<(), Refusal> {
    let code = match role {
        "node" => "DEVICE_IDENTITY_REQUIRED",
        _ if is_page_client(client) => "CONTROL_UI_DEVICE_IDENTITY_REQUIRED",
        _ => return Ok(()),
    };
    let message = match code {
        "DEVICE_IDENTITY_REQUIRED" => "device identity required",
        _ => "control ui requires device identity (use HTTPS or localhost secure context)",
    };
    Err(Refusal::new(error_code::NOT_PAIRED, code, message, json!({"code": code})))
}

/// Whether a client is a web page by its own account.
pub(crate) fn is_page_client(client: &ClientInfo) -> bool {
    client.mode == "webchat" || matches!(client.id.as_str(), "openclaw-control-ui" | "webchat-ui")
}

fn check_page(door: &Door<'_>, peer: &Peer, client: &ClientInfo) -> Result<(), Refusal> {
    if peer.origin.is_none() && !is_page_client(client) {
        return Ok(());
    }
    peer.check_origin(&door.live).map_err(|reason| {
        Refusal::new(
            error_code::INVALID_REQUEST,
            "CONTROL_UI_ORIGIN_NOT_ALLOWED",
            "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)",
            json!({"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason}),
        )
    })
}

/// What an HTTP caller without access is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HttpRefusal {
    /// No credential, or a wrong one.
    Unauthorized,
    /// A credential would not help; the text says what would.
    Forbidden(&'static str),
    /// Too many wrong credentials; milliseconds left.
    Locked(u64),
}

/// Decides about a request on an authenticated HTTP route. Who shows a credential may do
/// what its role may.
pub(crate) fn decide_http(door: &Door<'_>, peer: &Peer, authorization: Option<&str>) -> Result<Access, HttpRefusal> {
    if peer.hidden_behind_proxy {
        return Err(HttpRefusal::Forbidden(
            "this request came through a proxy on the gateway's machine; add the proxy to gateway.trustedProxies",
        ));
    }
    let access = |shown: Shown| {
        let scopes = shown.role.scopes().iter().map(|scope| (*scope).to_owned()).collect();
        let caller = Caller::client(shown.principal, "operator", scopes);
        Access { method: shown.method, caller, device: None, token: None }
    };
    let Some(credential) = door.config.auth.credential() else {
        if peer.is_local() {
            return Ok(access(Shown::new("none", Role::Admin)));
        }
        return Err(HttpRefusal::Forbidden(
            "without a token only direct callers on the gateway's own machine are let in; set LEANCLAW_GATEWAY_API_KEY \
             (gateway.auth.token) and send it as `Authorization: Bearer <token>`",
        ));
    };
    if let Some(left_ms) = door.locked(peer, Kind::Shared) {
        return Err(HttpRefusal::Locked(left_ms));
    }
    let Some(given) = authorization.and_then(bearer) else { return Err(HttpRefusal::Unauthorized) };
    let (Some(shown), _) = Shown::find(&door.config.auth, credential, &[given], &[given]) else {
        door.failed(peer, Kind::Shared);
        return Err(HttpRefusal::Unauthorized);
    };
    if shown.is_all() {
        door.lockout.succeeded(peer, Kind::Shared);
    }
    Ok(access(shown))
}

/// The credential in an `Authorization` header.
pub(crate) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, credential) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim()).filter(|credential| !credential.is_empty())
}

/// Compares in a time that tells nothing: neither where the two differ nor how long the token is.
pub(crate) fn same(given: &str, token: &Secret) -> bool {
    let digest = |text: &str| <[u8; 32]>::from(Sha256::digest(text.as_bytes()));
    bool::from(digest(given).ct_eq(&digest(token.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_read_and_compared() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for bad in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(bearer(bad), None, "{bad:?}");
        }
        let token = Secret::new("abc");
        assert!(same("abc", &token));
        for bad in ["", "ab", "abcd", "abC"] {
            assert!(!same(bad, &token), "{bad:?}");
        }
    }
}
