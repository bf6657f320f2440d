//! Answers in their usual shapes.

use axum::body::Body;
use axum::response::IntoResponse;
use http::{HeaderValue, Response, StatusCode, header};
use leanclaw_types::Failure;
use serde_json::{Value, json};

use crate::auth::credential::HttpRefusal;
use crate::error::{failure_details, failure_to_status};

pub(crate) type Reply = Response<Body>;

/// A JSON answer.
pub(super) fn json_reply(status: StatusCode, body: &Value) -> Reply {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body.to_string()).into_response()
}

/// `{"error":{"message","type"}}`.
pub(super) fn error(status: StatusCode, kind: &str, message: &str) -> Reply {
    json_reply(status, &json!({"error": {"message": message, "type": kind}}))
}

pub(super) fn not_found() -> Reply {
    error(StatusCode::NOT_FOUND, "not_found", "Not Found")
}

pub(super) fn unauthorized() -> Reply {
    let mut reply = error(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized");
    reply.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    reply
}

pub(super) fn method_not_allowed(allow: &'static str) -> Reply {
    let headers = [
        (header::ALLOW, HeaderValue::from_static(allow)),
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
    ];
    (StatusCode::METHOD_NOT_ALLOWED, headers, "Method Not Allowed").into_response()
}

/// A refusal with its code for the audit row.
pub(super) fn refused(refusal: &HttpRefusal) -> (&'static str, Reply) {
    match refusal {
        HttpRefusal::Unauthorized => ("AUTH_UNAUTHORIZED", unauthorized()),
        HttpRefusal::Forbidden(why) => ("AUTH_REQUIRED", error(StatusCode::FORBIDDEN, "forbidden", why)),
        HttpRefusal::Locked(left_ms) => {
            let reply = error(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "too many failed authentication attempts (retry later)",
            );
            ("AUTH_RATE_LIMITED", retry_after(reply, *left_ms))
        }
    }
}

/// Adds `Retry-After`, in whole seconds.
pub(super) fn retry_after(mut reply: Reply, milliseconds: u64) -> Reply {
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1000).max(1)));
    reply
}

/// The answer to who calls too often.
pub(super) fn too_often(wait_ms: u64) -> Reply {
    let message = format!("rate limit exceeded; retry after {}s", wait_ms.div_ceil(1000));
    retry_after(error(StatusCode::TOO_MANY_REQUESTS, "rate_limited", &message), wait_ms)
}

/// The answer for a failure of a plugin or of the host.
pub(super) fn failed(failure: &Failure) -> Reply {
    let status = failure_to_status(failure);
    let reply = json_reply(
        status,
        &json!({"error": {"message": failure.message, "type": failure.code, "details": failure_details(failure)}}),
    );
    match failure.retry_after_ms {
        Some(milliseconds) => retry_after(reply, milliseconds),
        None => reply,
    }
}

/// Headers every answer carries unless it already says something stricter.
pub(crate) fn secure<B>(reply: &mut Response<B>) {
    let defaults = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    ];
    for (name, value) in defaults {
        reply.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
}
