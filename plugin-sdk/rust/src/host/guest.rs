//! Components: everything goes to the imports of the contract.

use crate::bindings::raw;
use crate::blob::{Blob, Source};
use crate::context::Caller;
use crate::convert;
use crate::failure::Failure;
use crate::http::{Request, Response};
use crate::json;
use crate::kv::Entry;
use crate::message::Inbound;
use crate::services;

mod wasi_http;

pub(crate) use wasi_http::{read_some, send as http_send_over_wasi, write_all};

/// A call that the host lends.
pub(crate) struct CallHandle<'call> {
    pub(crate) raw: &'call raw::call::Context,
}

impl CallHandle<'_> {
    pub(crate) fn id(&self) -> String {
        self.raw.id()
    }

    pub(crate) fn caller(&self) -> Caller {
        let caller = self.raw.caller();
        Caller {
            kind: caller.kind,
            id: caller.id,
            role: caller.role,
            scopes: caller.scopes,
            session_key: caller.session_key,
            extra: json::read_extra(caller.extra).unwrap_or_default(),
        }
    }

    pub(crate) fn remaining_ms(&self) -> u64 {
        self.raw.remaining_ms()
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.raw.cancelled()
    }

    pub(crate) fn progress(&self, done: u64, total: Option<u64>, note: Option<&str>) {
        self.raw.progress(done, total, note);
    }

    pub(crate) fn emit_text(&self, delta: &str) -> Result<(), Failure> {
        self.raw.emit_text(delta).map_err(Failure::from)
    }
}

/// A blob that the host holds.
struct HostBlob(raw::blobs::Blob);

impl Source for HostBlob {
    fn read(&mut self, max_bytes: u32) -> Result<Option<Vec<u8>>, Failure> {
        self.0.read(max_bytes).map_err(Failure::from)
    }

    fn into_raw(self: Box<Self>) -> Option<raw::blobs::Blob> {
        Some(self.0)
    }
}

/// Takes over a blob of the host's.
pub(crate) fn blob_from_raw(raw: raw::blobs::Blob) -> Blob {
    Blob::remote(raw.media_type(), raw.size(), Box::new(HostBlob(raw)))
}

pub(crate) fn log_write(level: &str, message: &str, fields: Vec<(String, String)>) {
    raw::log::write(level, message, &fields);
}

pub(crate) fn settings() -> String {
    raw::settings::get()
}

pub(crate) fn now_ms() -> u64 {
    services::system_now_ms()
}

pub(crate) fn kv_get(key: &str) -> Result<Option<Entry>, Failure> {
    Ok(raw::kv::get(key)?.map(|entry| Entry { value: entry.value, revision: entry.revision }))
}

pub(crate) fn kv_put(
    key: &str,
    value: &[u8],
    if_revision: Option<u64>,
    ttl_seconds: Option<u32>,
) -> Result<u64, Failure> {
    Ok(raw::kv::put(key, value, if_revision, ttl_seconds)?)
}

pub(crate) fn kv_delete(key: &str) -> Result<bool, Failure> {
    Ok(raw::kv::delete(key)?)
}

pub(crate) fn kv_keys(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Failure> {
    Ok(raw::kv::keys(prefix, after, limit)?)
}

pub(crate) fn credential_exists(name: &str) -> bool {
    raw::credentials::exists(name)
}

pub(crate) fn credential_hmac_sha256(name: &str, message: &[u8]) -> Result<Vec<u8>, Failure> {
    Ok(raw::credentials::hmac_sha256(name, message)?)
}

pub(crate) fn credential_verify_hmac_sha256(name: &str, message: &[u8], tag: &[u8]) -> Result<bool, Failure> {
    Ok(raw::credentials::verify_hmac_sha256(name, message, tag)?)
}

pub(crate) fn http_send(request: Request) -> Result<Response, Failure> {
    let raw = raw::http::Request {
        method: request.method,
        url: request.url,
        headers: convert::headers_to_raw(&request.headers),
        body: request.body.map(convert::blob_to_raw).transpose()?,
        timeout_ms: request.timeout_ms,
    };
    let response = raw::http::send(raw)?;
    Ok(Response {
        status: response.status,
        headers: convert::headers_from_raw(response.headers),
        body: blob_from_raw(response.body),
    })
}

pub(crate) fn event_emit(name: &str, payload: &str) -> Result<(), Failure> {
    Ok(raw::events::emit(name, payload)?)
}

pub(crate) fn inbox_submit(message: Inbound) -> Result<String, Failure> {
    Ok(raw::inbox::submit(convert::inbound_to_raw(message)?)?)
}
