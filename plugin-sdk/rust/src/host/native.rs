//! Native builds: everything goes to the thread's test host.

use crate::context::Caller;
use crate::failure::Failure;
use crate::http::{Request, Response};
use crate::kv::Entry;
use crate::message::Inbound;
use crate::services;
use crate::testing::state;

/// A call that a test made up.
pub(crate) struct CallHandle<'call> {
    pub(crate) call: &'call state::CallState,
}

impl CallHandle<'_> {
    pub(crate) fn id(&self) -> String {
        self.call.id.clone()
    }

    pub(crate) fn caller(&self) -> Caller {
        self.call.caller.clone()
    }

    pub(crate) fn remaining_ms(&self) -> u64 {
        self.call.remaining_ms
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.call.cancelled
    }

    pub(crate) fn progress(&self, done: u64, total: Option<u64>, note: Option<&str>) {
        let note = note.map(str::to_owned);
        state::tell(|host| host.progress.push(crate::testing::Progress { done, total, note }));
    }

    #[expect(clippy::unnecessary_wraps, reason = "the component's counterpart may fail")]
    pub(crate) fn emit_text(&self, delta: &str) -> Result<(), Failure> {
        state::tell(|host| host.emitted_text.push_str(delta));
        Ok(())
    }
}

pub(crate) fn log_write(level: &str, message: &str, fields: Vec<(String, String)>) {
    let line = crate::testing::LogLine { level: level.to_owned(), message: message.to_owned(), fields };
    state::tell(|host| host.log.push(line));
}

pub(crate) fn settings() -> String {
    state::ask(|host| Ok(host.settings.to_string())).unwrap_or_else(|_| "{}".to_owned())
}

pub(crate) fn now_ms() -> u64 {
    state::ask(|host| Ok(host.now_ms)).unwrap_or_else(|_| services::system_now_ms())
}

pub(crate) fn kv_get(key: &str) -> Result<Option<Entry>, Failure> {
    state::ask(|host| host.kv()?.get(key))
}

pub(crate) fn kv_put(
    key: &str,
    value: &[u8],
    if_revision: Option<u64>,
    ttl_seconds: Option<u32>,
) -> Result<u64, Failure> {
    state::ask(|host| host.kv()?.put(key, value, if_revision, ttl_seconds))
}

pub(crate) fn kv_delete(key: &str) -> Result<bool, Failure> {
    state::ask(|host| Ok(host.kv()?.delete(key)))
}

pub(crate) fn kv_keys(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Failure> {
    state::ask(|host| Ok(host.kv()?.keys(prefix, after, limit)))
}

pub(crate) fn credential_exists(name: &str) -> bool {
    state::ask(|host| Ok(host.secrets.contains_key(name))).unwrap_or(false)
}

pub(crate) fn credential_hmac_sha256(name: &str, message: &[u8]) -> Result<Vec<u8>, Failure> {
    state::ask(|host| host.hmac_sha256(name, message))
}

pub(crate) fn credential_verify_hmac_sha256(name: &str, message: &[u8], tag: &[u8]) -> Result<bool, Failure> {
    Ok(credential_hmac_sha256(name, message)? == tag)
}

pub(crate) fn http_send(request: Request) -> Result<Response, Failure> {
    state::ask(|host| host.http_exchange(request))
}

pub(crate) fn http_send_over_wasi(request: Request) -> Result<Response, Failure> {
    state::ask(|host| host.http_exchange(request))
}

pub(crate) fn event_emit(name: &str, payload: &str) -> Result<(), Failure> {
    state::ask(|host| host.event(name, payload))
}

pub(crate) fn inbox_submit(message: Inbound) -> Result<String, Failure> {
    state::ask(|host| host.submit(message))
}
