//! A host in the test's own process: a plugin's logic is tested with plain `cargo test`, no component, no gateway.
//!
//! [`TestHost::new`] makes a host for this thread; until it is dropped, everything the plugin asks of the host (`kv`,
//! `settings`, `http`, ...) is answered by it. [`TestHost::with_manifest`] also holds the plugin to what its manifest asks for, so that a
//! forgotten permission fails a test and not an installation. Time stands still until the test moves it.
//!
//! It is not the real host: schemas are not checked (types are), calls do not time out, and the network is what the test
//! says. Run `leanclaw plugin run` for the real thing.

mod kv;
mod permissions;
pub(crate) mod state;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::blob::Blob;
use crate::context::{Caller, Context};
use crate::failure::Failure;
use crate::headers::Headers;
use crate::host::CallHandle;
use crate::message::Inbound;
use crate::methods::Methods;
use crate::skill::{Output, Skill};

use permissions::Permissions;
use state::{CallState, State};

/// A line of the plugin's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// `trace`, `debug`, `info`, `warn`, `error`.
    pub level: String,
    /// The text.
    pub message: String,
    /// Key-value pairs of the macro, and `target`.
    pub fields: Vec<(String, String)>,
}

/// An event that was emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct EmittedEvent {
    /// The name without the plugin's id.
    pub name: String,
    /// Its payload.
    pub payload: Value,
}

/// What [`Context::progress`] was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How much is done.
    pub done: u64,
    /// Of how much.
    pub total: Option<u64>,
    /// What is being done.
    pub note: Option<String>,
}

/// An HTTP request that was sent. Secrets are still placeholders: the plugin never has their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRequest {
    /// Such as `GET`.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Its headers.
    pub headers: Headers,
    /// Its body; empty when there is none.
    pub body: Vec<u8>,
    /// The bound on its time, if the plugin set one.
    pub timeout_ms: Option<u64>,
}

/// What a stubbed URL answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Stub(Result<StubResponse, Failure>);

#[derive(Debug, Clone, PartialEq)]
struct StubResponse {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
}

impl Stub {
    /// An empty response.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self(Ok(StubResponse { status, headers: Headers::new(), body: Vec::new() }))
    }

    /// A response of status 200 with a body.
    pub fn body(media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = [("content-type", media_type)].into_iter().collect();
        Self(Ok(StubResponse { status: 200, headers, body: body.into() }))
    }

    /// A JSON response of status 200; [`Stub::failure`] when `value` cannot be written.
    pub fn json<T: Serialize>(value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::body("application/json", body),
            Err(error) => Self::failure(error.into()),
        }
    }

    /// No response: the host refuses, the connection breaks, ...
    #[must_use]
    pub fn failure(failure: Failure) -> Self {
        Self(Err(failure))
    }

    /// Sets a header of the response.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Ok(response) = &mut self.0 {
            response.headers.set(name, value);
        }
        self
    }
}

/// A host for the plugin under test, on this thread. A new one takes the place of the one before.
#[derive(Debug)]
pub struct TestHost {
    state: Rc<RefCell<State>>,
}

impl Default for TestHost {
    fn default() -> Self {
        Self::new()
    }
}

impl TestHost {
    /// A host that allows everything: 1 MiB of kv, no settings, no secrets, no stubs, the time 1 January 2026.
    #[must_use]
    pub fn new() -> Self {
        crate::logging::install();
        Self { state: state::enter(State::new(None)) }
    }

    /// A host that allows what a manifest asks for; `manifest` is its text, as from
    /// `include_str!("../leanclaw.plugin.json")`.
    ///
    /// # Errors
    /// [`Failure`] when it is not JSON or its `permissions` have an unknown shape.
    pub fn with_manifest(manifest: &str) -> Result<Self, Failure> {
        let permissions = Permissions::of_manifest(manifest)?;
        crate::logging::install();
        Ok(Self { state: state::enter(State::new(Some(permissions))) })
    }

    /// Sets the plugin's settings.
    pub fn set_settings(&self, settings: Value) {
        self.state.borrow_mut().settings = settings;
    }

    /// Sets a secret, as `leanclaw plugin secret set` does.
    pub fn set_secret(&self, name: &str, value: &str) {
        self.state.borrow_mut().secrets.insert(name.to_owned(), value.to_owned());
    }

    /// Sets the time, in milliseconds since the Unix epoch.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.state.borrow_mut().set_now_ms(now_ms);
    }

    /// The time, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.state.borrow().now_ms
    }

    /// Moves the time on.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.state.borrow_mut();
        let now_ms = state.now_ms.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        state.set_now_ms(now_ms);
    }

    /// Bounds what keys and values of the kv store may take together, in bytes.
    pub fn set_kv_quota_bytes(&self, quota_bytes: u64) {
        self.state.borrow_mut().set_kv_quota_bytes(quota_bytes);
    }

    /// Lets another instance write `key` right after the plugin's next read of it, to see that no write is lost.
    pub fn write_after_next_read(&self, key: &str, value: &[u8]) {
        self.state.borrow_mut().write_after_next_read(key, value);
    }

    /// Says what `method url` answers. Several stubs of one URL answer in turn; the last one stays.
    pub fn stub_http(&self, method: &str, url: &str, stub: Stub) {
        self.state.borrow_mut().stubs.push(state::StubbedUrl::new(method, url, stub));
    }

    /// Says what becomes of messages that are handed in; at first `accepted`.
    pub fn set_inbox_answer(&self, answer: Result<&str, Failure>) {
        self.state.borrow_mut().inbox_answer = answer.map(str::to_owned);
    }

    /// Sets who is behind the calls; at first an operator with `operator.admin`.
    pub fn set_caller(&self, caller: Caller) {
        self.state.borrow_mut().caller = caller;
    }

    /// Sets whether the caller has taken the calls back.
    pub fn set_cancelled(&self, cancelled: bool) {
        self.state.borrow_mut().cancelled = cancelled;
    }

    /// Sets how long a call may still take; at first 30 seconds.
    pub fn set_remaining(&self, remaining: Duration) {
        self.state.borrow_mut().remaining_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
    }

    /// The requests that were sent, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<SentRequest> {
        self.state.borrow().requests.clone()
    }

    /// The lines that were logged, in order.
    #[must_use]
    pub fn log(&self) -> Vec<LogLine> {
        self.state.borrow().log.clone()
    }

    /// The events that were emitted, in order.
    #[must_use]
    pub fn events(&self) -> Vec<EmittedEvent> {
        self.state.borrow().events.clone()
    }

    /// The messages that were handed in, in order; takes them out.
    #[must_use]
    pub fn take_inbox(&self) -> Vec<Inbound> {
        std::mem::take(&mut self.state.borrow_mut().inbox)
    }

    /// What was said about progress, in order.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        self.state.borrow().progress.clone()
    }

    /// The text that was streamed, put together.
    #[must_use]
    pub fn emitted_text(&self) -> String {
        self.state.borrow().emitted_text.clone()
    }

    /// Runs `work` with the context of a new call.
    pub fn call<R>(&self, work: impl FnOnce(&Context<'_>) -> R) -> R {
        let call: CallState = self.state.borrow_mut().new_call();
        work(&Context { handle: CallHandle { call: &call } })
    }

    /// Calls a method of a fresh plugin, the way a gateway client does.
    ///
    /// # Errors
    /// What the method fails with; `not-found` when there is no such method; `invalid-input` when `params` do not fit.
    pub fn call_method<P: Methods + Default>(&self, name: &str, params: Value) -> Result<Value, Failure> {
        let result = self.call(|context| P::methods().invoke(&P::default(), context, name, &params.to_string()))?;
        Ok(serde_json::from_str(&result)?)
    }

    /// Calls a tool of a fresh plugin, the way an agent does.
    ///
    /// # Errors
    /// What the tool fails with; `not-found` when there is no such tool; `invalid-input` when `input` does not fit.
    pub fn call_tool<P: Skill + Default>(&self, name: &str, input: Value) -> Result<Output, Failure> {
        self.call(|context| P::tools().invoke(&P::default(), context, name, &input.to_string()))
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        state::leave(&self.state);
    }
}

impl StubResponse {
    fn into_response(self) -> crate::http::Response {
        let media_type = self.headers.get("content-type").unwrap_or("application/octet-stream").to_owned();
        crate::http::Response { status: self.status, headers: self.headers, body: Blob::new(media_type, self.body) }
    }
}

#[cfg(test)]
mod tests;
