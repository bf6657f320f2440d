//! What a test host knows, and which one answers on this thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::kv::FakeKv;
use super::permissions::Permissions;
use super::{EmittedEvent, LogLine, Progress, SentRequest, Stub};
use crate::context::Caller;
use crate::failure::{Failure, code};
use crate::http::{Request, Response};
use crate::message::Inbound;

/// 1 January 2026, 00:00 UTC.
const FIRST_NOW_MS: u64 = 1_767_225_600_000;
const DEFAULT_KV_QUOTA_BYTES: u64 = 1024 * 1024;
const DEFAULT_REMAINING_MS: u64 = 30_000;
/// The largest request body the fake takes, in bytes.
const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

thread_local! {
    static CURRENT: RefCell<Option<Rc<RefCell<State>>>> = const { RefCell::new(None) };
}

/// Makes `state` the one that answers on this thread.
pub(super) fn enter(state: State) -> Rc<RefCell<State>> {
    let state = Rc::new(RefCell::new(state));
    CURRENT.set(Some(Rc::clone(&state)));
    state
}

/// Ends `state`'s turn, unless another took its place already.
pub(super) fn leave(state: &Rc<RefCell<State>>) {
    CURRENT.with_borrow_mut(|current| {
        if current.as_ref().is_some_and(|held| Rc::ptr_eq(held, state)) {
            *current = None;
        }
    });
}

/// Asks this thread's host.
pub(crate) fn ask<T>(question: impl FnOnce(&mut State) -> Result<T, Failure>) -> Result<T, Failure> {
    let current = CURRENT.with_borrow(Option::clone);
    let host = current.ok_or_else(|| {
        Failure::unavailable("There is no host on this thread: make a `TestHost` and keep it while the plugin runs.")
    })?;
    question(&mut host.borrow_mut())
}

/// Tells this thread's host something, if there is one.
pub(crate) fn tell(what: impl FnOnce(&mut State)) {
    if let Some(host) = CURRENT.with_borrow(Option::clone) {
        what(&mut host.borrow_mut());
    }
}

/// A call that the test made up.
pub(crate) struct CallState {
    pub(crate) id: String,
    pub(crate) caller: Caller,
    pub(crate) remaining_ms: u64,
    pub(crate) cancelled: bool,
}

/// What one URL answers, and whether it did already.
#[derive(Debug)]
pub(super) struct StubbedUrl {
    method: String,
    url: String,
    stub: Stub,
    used: bool,
}

impl StubbedUrl {
    pub(super) fn new(method: &str, url: &str, stub: Stub) -> Self {
        Self { method: method.to_owned(), url: url.to_owned(), stub, used: false }
    }
}

/// What a test host knows.
#[derive(Debug)]
pub(crate) struct State {
    permissions: Option<Permissions>,
    kv: FakeKv,
    calls: u64,
    pub(crate) now_ms: u64,
    pub(crate) settings: Value,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) caller: Caller,
    pub(crate) remaining_ms: u64,
    pub(crate) cancelled: bool,
    pub(super) stubs: Vec<StubbedUrl>,
    pub(crate) requests: Vec<SentRequest>,
    pub(crate) log: Vec<LogLine>,
    pub(crate) events: Vec<EmittedEvent>,
    pub(crate) inbox: Vec<Inbound>,
    pub(crate) inbox_answer: Result<String, Failure>,
    pub(crate) progress: Vec<Progress>,
    pub(crate) emitted_text: String,
}

impl State {
    pub(super) fn new(permissions: Option<Permissions>) -> Self {
        let quota_bytes = permissions.as_ref().map_or(DEFAULT_KV_QUOTA_BYTES, Permissions::kv_quota_bytes);
        let caller = Caller {
            kind: "client".into(),
            id: "test".into(),
            role: "operator".into(),
            scopes: vec!["operator.admin".into()],
            ..Caller::default()
        };
        Self {
            permissions,
            kv: FakeKv::new(quota_bytes, FIRST_NOW_MS),
            calls: 0,
            now_ms: FIRST_NOW_MS,
            settings: Value::Object(serde_json::Map::new()),
            secrets: BTreeMap::new(),
            caller,
            remaining_ms: DEFAULT_REMAINING_MS,
            cancelled: false,
            stubs: Vec::new(),
            requests: Vec::new(),
            log: Vec::new(),
            events: Vec::new(),
            inbox: Vec::new(),
            inbox_answer: Ok("accepted".into()),
            progress: Vec::new(),
            emitted_text: String::new(),
        }
    }

    pub(super) fn new_call(&mut self) -> CallState {
        self.calls += 1;
        CallState {
            id: format!("call-{}", self.calls),
            caller: self.caller.clone(),
            remaining_ms: self.remaining_ms,
            cancelled: self.cancelled,
        }
    }

    pub(super) fn set_now_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.kv.set_now_ms(now_ms);
    }

    pub(super) fn set_kv_quota_bytes(&mut self, quota_bytes: u64) {
        self.kv.set_quota_bytes(quota_bytes);
    }

    pub(super) fn write_after_next_read(&mut self, key: &str, value: &[u8]) {
        self.kv.write_after_next_read(key, value);
    }

    /// The kv store, if the manifest asks for it.
    pub(crate) fn kv(&mut self) -> Result<&mut FakeKv, Failure> {
        self.permit(Permissions::kv)?;
        Ok(&mut self.kv)
    }

    pub(crate) fn hmac_sha256(&self, name: &str, message: &[u8]) -> Result<Vec<u8>, Failure> {
        self.permit(|permissions| permissions.hmac(name))?;
        let value = self
            .secrets
            .get(name)
            .ok_or_else(|| Failure::unavailable(format!("No value is stored for the secret `{name}`.")))?;
        let mut mac = Hmac::<Sha256>::new_from_slice(value.as_bytes())
            .map_err(|error| Failure::internal(format!("The secret `{name}` cannot be a key: {error}.")))?;
        mac.update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }

    pub(crate) fn event(&mut self, name: &str, payload: &str) -> Result<(), Failure> {
        self.permit(|permissions| permissions.event(name))?;
        self.events.push(EmittedEvent { name: name.to_owned(), payload: serde_json::from_str(payload)? });
        Ok(())
    }

    pub(crate) fn submit(&mut self, message: Inbound) -> Result<String, Failure> {
        self.permit(Permissions::inbox)?;
        if message.id.is_empty() {
            return Err(Failure::invalid_input("A message needs an `id`."));
        }
        let answer = self.inbox_answer.clone()?;
        if self.inbox.iter().any(|known| known.id == message.id) {
            return Ok("duplicate".into());
        }
        if matches!(answer.as_str(), "accepted" | "pairing-required") {
            self.inbox.push(message);
        }
        Ok(answer)
    }

    pub(crate) fn http_exchange(&mut self, request: Request) -> Result<Response, Failure> {
        self.permit(|permissions| permissions.http(&request.url))?;
        let body = request.body.map(|body| body.bytes(MAX_REQUEST_BYTES)).transpose()?.unwrap_or_default();
        let sent = SentRequest {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body,
            timeout_ms: request.timeout_ms,
        };
        let answer = self.stubbed(&sent.method, &sent.url);
        self.requests.push(sent);
        answer?.0.map(super::StubResponse::into_response)
    }

    /// The first stub of this URL that has not answered yet, else the last one.
    fn stubbed(&mut self, method: &str, url: &str) -> Result<Stub, Failure> {
        let mut fitting = self.stubs.iter_mut().filter(|stubbed| stubbed.method == method && stubbed.url == url);
        let mut chosen = fitting.next().ok_or_else(|| {
            Failure::new(code::UNAVAILABLE, format!("The test has no stub for `{method} {url}`: add `stub_http`."))
        })?;
        for next in fitting {
            if !chosen.used {
                break;
            }
            chosen = next;
        }
        chosen.used = true;
        Ok(chosen.stub.clone())
    }

    fn permit(&self, check: impl FnOnce(&Permissions) -> Result<(), Failure>) -> Result<(), Failure> {
        self.permissions.as_ref().map_or(Ok(()), check)
    }
}
