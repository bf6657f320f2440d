//! Deciding about a `connect` whose parameters were read: who asks from where, what it shows, and what the gateway asks for,
//! all of it from the input. What must hold of a decision is said here in other words than the decision itself uses.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use leanclaw_types::Failure;
use leanclaw_types::audit::AuditRecord;
use leanclaw_types::frame::{ConnectParams, DeviceProof, ProtocolVersion, RequestFrame};
use leanclaw_types::redact::Secret;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::auth::credential::{Door, Shown};
use crate::auth::lockout::{Kind, Lockout};
use crate::auth::{self, Peer, Proven, Refusal, Role, device};
use crate::config::{Auth, Credential, Fixed, GatewayConfig, Limits, LiveConfig};
use crate::devices::{Devices, Keys};
use crate::services::{RecordChange, Records};
use crate::wire::{self, Id};

/// What the socket was challenged with, and when that is.
const NONCE: &str = "285aa08c-6437-4302-ad63-9a9553f4099a";
const NOW_MS: u64 = 1_795_362_452_016;
/// The secrets of the gateway; where the parameters show [`DEVICE_TOKEN`], they show the real one of the device.
const TOKEN: &str = "the-shared-token";
const PASSWORD: &str = "the-shared-password";
const NAMED: &str = "the-secret-of-a-guest";
const DEVICE_TOKEN: &str = "the-token-of-the-device";
/// What the device was approved for.
const APPROVED: [&str; 2] = ["operator.read", "operator.sessions.read"];
/// Wrong credentials that were shown before, at most.
const MOST_TRIES: usize = 20;

/// Stores nothing, and knows one device.
struct OneDevice {
    id: String,
    body: String,
}

#[async_trait]
impl Records for OneDevice {
    fn load(&self, kind: &str) -> Result<Vec<(String, String)>, Failure> {
        let device = (kind == "device").then(|| (self.id.clone(), self.body.clone()));
        Ok(device.into_iter().collect())
    }

    async fn change(&self, _: Vec<RecordChange>, _: Vec<AuditRecord>) -> Result<(), Failure> {
        Ok(())
    }
}

/// What all inputs find: a paired device, the key that it signs with, and its token.
struct World {
    devices: Devices,
    pair: Ed25519KeyPair,
    id: String,
    token: String,
}

static WORLD: LazyLock<Result<World, String>> = LazyLock::new(World::make);

impl World {
    fn make() -> Result<Self, String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).map_err(|error| error.to_string())?;
        let id = device::id_of(pair.public_key().as_ref());
        let body = json!({
            "deviceId": id, "publicKey": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()), "platform": "linux",
            "clientId": "cli", "clientMode": "cli", "roles": ["operator"], "scopes": APPROVED,
            "approvedVia": "owner", "createdAtMs": 1, "approvedAtMs": 1,
            "tokens": [{"role": "operator", "scopes": APPROVED, "salt": "s", "createdAtMs": 1}],
        });
        let records: Arc<dyn Records> = Arc::new(OneDevice { id: id.clone(), body: body.to_string() });
        let keys = Keys::open(&records).now_or_never().ok_or("nothing is waited for")?;
        let keys = Arc::new(keys.map_err(|failure| failure.to_string())?);
        let devices = Devices::open(&records, keys).map_err(|failure| failure.to_string())?;
        let (token, _) = devices.token_text(&id, "operator").ok_or("the device has a token")?;
        Ok(Self { devices, pair, id, token })
    }

    /// The proof of the device for these parameters.
    fn proof(&self, connect: &ConnectParams) -> DeviceProof {
        let mut proof = DeviceProof {
            id: self.id.clone(),
            public_key: URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref()),
            signature: String::new(),
            signed_at: NOW_MS,
            nonce: NONCE.to_owned(),
        };
        let signature = self.pair.sign(device::payload_v3(connect, &proof).as_bytes());
        proof.signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        proof
    }
}

/// Who asks, and whom.
struct Scene {
    config: Fixed,
    live: LiveConfig,
    peer: Peer,
    version: ProtocolVersion,
    connect: ConnectParams,
    /// Whether the device signed these very parameters.
    signed: bool,
    tries: usize,
    device_tries: usize,
    /// Whether nothing stands between this caller and the gateway, on one machine.
    is_direct: bool,
    /// Whether a page makes it call; with where that is from, if it says so.
    is_page: bool,
    origin: Option<String>,
}

/// Who had locked themselves out before.
#[derive(Clone, Copy)]
struct Locked {
    shared: bool,
    device: bool,
}

/// The headers of proxies: stated once more, so that one which is lost where it decides is missed here.
const OF_PROXIES: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
];

/// Whether `[user@]host[:port]` is on the machine of whoever opens it.
fn is_here(authority: &str) -> bool {
    let host = authority.rsplit('@').next().unwrap_or_default();
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let bare = bare.unwrap_or_default().to_ascii_lowercase();
    let is_name = bare == "localhost" || bare.ends_with(".localhost");
    is_name || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

impl Scene {
    /// The first line are words, in any order; the rest are the parameters, as JSON.
    ///
    /// | word | |
    /// |---|---|
    /// | `token`, `password` | what the gateway asks for; without either, nothing |
    /// | `viewer`, `user` | what that is good for |
    /// | `allow=ORIGIN`, `proxy=ADDRESS` | what is allowed and trusted |
    /// | `from=ADDRESS:PORT` | where the socket comes from |
    /// | `tries=N` | wrong credentials from there before |
    /// | `device-tries=N` | wrong tokens of devices from there before |
    /// | `signed` | the device signs the parameters |
    /// | `NAME=VALUE` | a header of the request |
    fn read(text: &str, world: &World) -> Option<Self> {
        let (words, params) = text.split_once('\n')?;
        let mut connect: ConnectParams = serde_json::from_str(params).ok()?;
        let version = ProtocolVersion::negotiate(connect.min_protocol, connect.max_protocol)?;
        let (mut config, mut live) = GatewayConfig::new("0").parted();
        let named = Credential { name: "guest".to_owned(), secret: Secret::new(NAMED), role: Role::Viewer };
        config.auth = Auth { named: vec![named], ..Auth::default() };
        let mut headers = HeaderMap::new();
        let mut socket = SocketAddr::from(([127, 0, 0, 1], 5));
        let (mut signed, mut tries, mut device_tries) = (false, 0, 0);
        for word in words.split_whitespace() {
            match (word, word.split_once('=')) {
                ("token", _) => config.auth.token = Some(Secret::new(TOKEN)),
                ("password", _) => config.auth.password = Some(Secret::new(PASSWORD)),
                ("signed", _) => signed = true,
                (_, Some(("allow", origin))) => live.allowed_origins.push(origin.to_owned()),
                (_, Some(("proxy", address))) => live.trusted_proxies.extend(address.parse::<IpAddr>()),
                (_, Some(("from", address))) => socket = address.parse().ok()?,
                (_, Some(("tries", number))) => tries = number.parse::<usize>().ok()?.min(MOST_TRIES),
                (_, Some(("device-tries", number))) => device_tries = number.parse::<usize>().ok()?.min(MOST_TRIES),
                (_, Some((name, value))) => {
                    headers.append(name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?);
                }
                (role, None) => config.auth.role = Role::named(role)?,
            }
        }
        if let Some(auth) = &mut connect.auth {
            for field in [&mut auth.token, &mut auth.device_token].into_iter().flatten() {
                if field.as_str() == DEVICE_TOKEN {
                    field.clone_from(&world.token);
                }
            }
        }
        if signed {
            connect.device = Some(world.proof(&connect));
        }
        let first = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let ip = socket.ip().to_canonical();
        // A header that nobody can read was sent all the same.
        let is_direct = ip.is_loopback()
            && first("host").is_some_and(is_here)
            && OF_PROXIES.iter().all(|name| !headers.contains_key(*name))
            && live.trusted_proxies.iter().all(|proxy| proxy.to_canonical() != ip);
        let origin = headers.get("origin").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let is_page = origin.is_some() || headers.get("sec-fetch-site").is_some_and(|site| site != "none");
        let peer = Peer::new(socket, &headers, &live);
        Some(Self { config, live, peer, version, connect, signed, tries, device_tries, is_direct, is_page, origin })
    }

    /// Whether the page that calls may: it is named, or it and the caller are on this machine.
    fn page_is_allowed(&self) -> bool {
        let Some(origin) = self.origin.as_deref().filter(|origin| !origin.is_empty()) else { return false };
        let is_here = |(_, rest): (&str, &str)| is_here(rest.split(['/', '?', '#']).next().unwrap_or_default());
        self.live.allowed_origins.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(origin))
            || self.is_direct && origin.split_once("://").is_some_and(is_here)
    }

    /// Whether one of the fields that count in that version is this secret.
    fn shows(&self, field: &str, secret: &str) -> bool {
        let Some(auth) = &self.connect.auth else { return false };
        let (token, password) = (auth.token.as_deref() == Some(secret), auth.password.as_deref() == Some(secret));
        match field {
            "token" if self.version == ProtocolVersion::V3 => token,
            "password" if self.version == ProtocolVersion::V3 => password,
            _ => token || password,
        }
    }

    /// What the gateway asks for, and under which name.
    fn asks_for(&self) -> Option<(&'static str, &'static str)> {
        let auth = &self.config.auth;
        let password = auth.password.as_ref().map(|_| ("password", PASSWORD));
        password.or_else(|| auth.token.as_ref().map(|_| ("token", TOKEN)))
    }

    /// What is decided at a door that this caller tried before, and what it had locked itself out of.
    fn decided(&self, world: &World) -> (Result<Proven, Refusal>, Locked) {
        let lockout = Lockout::new(&Limits::default());
        for (kind, tries) in [(Kind::Shared, self.tries), (Kind::Device, self.device_tries)] {
            for _ in 0..tries {
                lockout.failed(&self.peer, kind, NOW_MS);
            }
        }
        let locked_after = |tries: usize| tries >= 10 && (self.is_page || !self.is_direct);
        let locked = Locked { shared: locked_after(self.tries), device: locked_after(self.device_tries) };
        let live = Arc::new(self.live.clone());
        let door = Door { config: &self.config, live, lockout: &lockout, devices: &world.devices, now_ms: NOW_MS };
        (auth::decide(&door, &self.peer, self.version, &self.connect, NONCE), locked)
    }

    /// Why this caller must not have been let in.
    fn objection(&self, proven: &Proven, world: &World, locked: Locked) -> Option<String> {
        let Proven { shown, identity } = proven;
        let connect = &self.connect;
        let role = connect.role.as_deref().unwrap_or("operator");
        let is_page = auth::is_page_client(&connect.client);
        if let Some(identity) = identity
            && (connect.device.is_none() || (identity.id == world.id && !self.signed))
        {
            return Some(format!("{} proved nothing", identity.id));
        }
        if identity.is_none() && (role == "node" || is_page) {
            return Some("a node or a page without a device".to_owned());
        }
        if (self.origin.is_some() || is_page) && !self.page_is_allowed() {
            return Some(format!("a page of {:?}", self.origin));
        }
        let is_locked = match shown.method {
            "device-token" => locked.device,
            "none" => false,
            _ => locked.shared,
        };
        if is_locked {
            return Some("it is locked out".to_owned());
        }
        (!self.is_earned(shown, identity.is_some(), role, world)).then(|| format!("{shown:?} was not earned"))
    }

    /// Whether what the caller was let in by is what it has.
    fn is_earned(&self, shown: &Shown, has_device: bool, role: &str, world: &World) -> bool {
        let guest = shown.principal == "user:guest" && shown.role == Role::Viewer;
        match (shown.method, self.asks_for()) {
            ("none", None) => self.is_direct && (has_device || !self.is_page),
            ("device-token", _) => {
                let auth = self.connect.auth.as_ref();
                let fields = auth.map(|auth| [auth.device_token.as_ref(), auth.token.as_ref()]).unwrap_or_default();
                let within = |scope: &String| APPROVED.contains(&scope.as_str());
                let shows = fields.into_iter().flatten().any(|text| *text == world.token);
                self.signed && role == "operator" && shows && self.connect.scopes.iter().all(within)
            }
            (method, Some((name, secret))) if method == name => {
                let own = shown.principal == name && shown.role == self.config.auth.role;
                own && self.shows(name, secret) || guest && self.shows("any", NAMED)
            }
            _ => false,
        }
    }

    /// Whether nothing speaks against this caller: an operator's program with the credential in its own field, and no device.
    fn is_welcome(&self, locked: Locked) -> bool {
        let Some((name, secret)) = self.asks_for() else { return false };
        let auth = self.connect.auth.as_ref();
        let given =
            auth.and_then(|auth| if name == "token" { auth.token.as_deref() } else { auth.password.as_deref() });
        given == Some(secret)
            && self.connect.role.as_deref().is_none_or(|role| role == "operator")
            && self.connect.device.is_none()
            && self.origin.is_none()
            && !auth::is_page_client(&self.connect.client)
            && !locked.shared
    }
}

/// Decides about a caller. The first line of the input says in words what the gateway asks for and where the caller stands, the
/// rest are the parameters of `connect`, as JSON; the files of the corpus show it.
///
/// # Errors
/// Which promise is broken.
pub fn decision(text: &str) -> Result<(), String> {
    let world = WORLD.as_ref().map_err(Clone::clone)?;
    let Some(scene) = Scene::read(text, world) else { return Ok(()) };
    let (first, locked) = scene.decided(world);
    let code = |decided: &Result<Proven, Refusal>| decided.as_ref().err().map(|refusal| refusal.code);
    if code(&first) != code(&scene.decided(world).0) {
        return Err("the same caller is judged twice in two ways".to_owned());
    }
    match first {
        Ok(proven) => match scene.objection(&proven, world, locked) {
            Some(objection) => Err(format!("let in by {:?}, and {objection}", proven.shown)),
            None => Ok(()),
        },
        Err(refusal) if scene.is_welcome(locked) => Err(format!("turned away: {}", refusal.error.message)),
        Err(refusal) => turned_away(text, refusal, world),
    }
}

/// Whoever is turned away gets an answer, and it holds no secret that it did not send.
fn turned_away(text: &str, refusal: Refusal, world: &World) -> Result<(), String> {
    let asked = r#"{"type":"req","id":"1","method":"connect"}"#;
    let frame = RequestFrame::read(asked).ok_or("the frame is one")?;
    let reason = wire::close_reason(&refusal.error.message);
    let answer = wire::response(&Id::of(&frame), &Err(refusal.error));
    for secret in [TOKEN, PASSWORD, NAMED, world.token.as_str()] {
        if !text.contains(secret) && answer.as_str().contains(secret) {
            return Err(format!("a secret is told: {answer}"));
        }
    }
    let answered: Value = serde_json::from_str(answer.as_str()).map_err(|error| format!("{error}: {answer}"))?;
    let details = answered.pointer("/error/details/code").and_then(Value::as_str);
    if details.is_some_and(|details| details != refusal.code) {
        return Err(format!("{} is told as {details:?}", refusal.code));
    }
    super::goodbye(Some(answer), &reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::device::Identity;

    /// What the fuzzer begins with is let in, and turned away, for every reason there is.
    #[test]
    fn the_corpus_reaches_both_sides_of_the_door() {
        let world = WORLD.as_ref().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for text in super::super::tests::corpus("decision") {
            let scene = Scene::read(&text, world).unwrap_or_else(|| panic!("no scene: {text}"));
            seen.insert(match scene.decided(world).0 {
                Ok(proven) => format!("{} {}", proven.shown.method, proven.identity.is_some()),
                Err(refusal) => refusal.code.to_owned(),
            });
        }
        for expected in [
            "token false",
            "token true",
            "password false",
            "none false",
            "none true",
            "device-token true",
            "AUTH_TOKEN_MISMATCH",
            "AUTH_TOKEN_MISSING",
            "AUTH_RATE_LIMITED",
            "AUTH_SCOPE_MISMATCH",
            "CONTROL_UI_DEVICE_IDENTITY_REQUIRED",
            "CONTROL_UI_ORIGIN_NOT_ALLOWED",
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            "DEVICE_IDENTITY_REQUIRED",
            "INVALID_ROLE",
        ] {
            assert!(seen.contains(expected), "{expected} is not in {seen:?}");
        }
    }

    /// The promise is not what the code under test says of itself.
    #[test]
    fn what_must_not_be_let_in_is_objected_to() {
        let world = WORLD.as_ref().unwrap();
        let identity = Identity { id: world.id.clone(), public_key: String::new() };
        let none = Shown { method: "none", principal: "loopback".to_owned(), role: Role::Admin };
        let token = Shown { method: "token", principal: "token".to_owned(), role: Role::Admin };
        for (words, shown, objection) in [
            ("signed host=localhost origin=http://localhost:3000", &none, ""),
            ("signed host=localhost origin=https://evil.example", &none, "a page of"),
            ("signed host=localhost origin=http://localhost.evil.example", &none, "a page of"),
            ("signed host=localhost:1 origin=http://[::1]:3000/", &none, ""),
            ("signed host=evil.example origin=http://localhost", &none, "a page of"),
            ("signed host=localhost origin=http://localhost x-forwarded-for=9.9.9.9", &none, "a page of"),
            ("signed host=localhost origin=http://localhost proxy=127.0.0.1", &none, "a page of"),
            ("signed host=localhost from=10.0.0.1:5", &none, "was not earned"),
            ("signed host=localhost x-real-ip=9.9.9.9", &none, "was not earned"),
            ("signed host=localhost", &none, ""),
            ("signed token host=localhost tries=10", &token, ""),
            ("signed token host=localhost tries=10 sec-fetch-site=cross-site", &token, "locked out"),
            ("signed token proxy=127.0.0.1 host=localhost tries=10", &token, "locked out"),
            ("signed token from=10.0.0.1:5 device-tries=10", &token, ""),
        ] {
            let params = json!({
                "minProtocol": 3, "maxProtocol": 3, "auth": {"token": TOKEN},
                "client": {"id": "cli", "version": "1", "platform": "linux", "mode": "cli"},
            });
            let scene =
                Scene::read(&format!("{words}\n{params}"), world).unwrap_or_else(|| panic!("no scene: {words}"));
            let locked = scene.decided(world).1;
            let proven = Proven { shown: shown.clone(), identity: Some(identity.clone()) };
            let said = scene.objection(&proven, world, locked).unwrap_or_default();
            assert!(said.contains(objection) && said.is_empty() == objection.is_empty(), "{words}: {said:?}");
        }
    }
}
