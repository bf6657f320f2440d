//! The crate's errors, and the one place where a [`Failure`] becomes an error on the wire.

use std::net::SocketAddr;

use leanclaw_types::Failure;
use leanclaw_types::failure::code;
use leanclaw_types::frame::{ErrorShape, ProtocolVersion, error_code};
use serde_json::{Map, Value, json};

/// Why the gateway did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Others could reach it and nothing would stop them.
    #[error(
        "the gateway will not listen on {address} without a token: everyone who reaches that address could run plugins. \
         Set LEANCLAW_GATEWAY_API_KEY (gateway.auth.token in the config file), or listen on 127.0.0.1"
    )]
    OpenBind {
        /// The address it was told to listen on.
        address: SocketAddr,
    },
    /// What it keeps cannot be read.
    #[error("what the gateway keeps cannot be read: {0}")]
    Records(String),
    /// The listener cannot say where it listens.
    #[error("the gateway's listener cannot be used")]
    Listener(#[source] std::io::Error),
}

/// `UNAVAILABLE` with a message: it may go better later.
pub(crate) fn unavailable(message: &str) -> ErrorShape {
    ErrorShape { retryable: Some(true), ..ErrorShape::new(error_code::UNAVAILABLE, message) }
}

/// The error a client gets for a failure: message with its hints, `details {code, hints, extra}`.
pub(crate) fn failure_to_error(version: ProtocolVersion, failure: &Failure) -> ErrorShape {
    let top = match failure.code.as_str() {
        code::INVALID_INPUT | code::NOT_FOUND | code::CONFLICT | code::TOO_LARGE | code::UNSUPPORTED => {
            error_code::INVALID_REQUEST
        }
        code::DENIED | code::AUTH_REQUIRED if version.is_newest() => error_code::FORBIDDEN,
        code::DENIED | code::AUTH_REQUIRED => error_code::INVALID_REQUEST,
        _ => error_code::UNAVAILABLE,
    };
    let mut message = failure.message.clone();
    for hint in &failure.hints {
        message.push('\n');
        message.push_str(hint);
    }
    ErrorShape {
        code: top.into(),
        message,
        details: Some(failure_details(failure)),
        retryable: failure.retryable.then_some(true),
        retry_after_ms: failure.retry_after_ms,
    }
}

/// `{code, hints?, extra?}`.
pub(crate) fn failure_details(failure: &Failure) -> Value {
    let mut details = Map::new();
    details.insert("code".into(), json!(failure.code));
    if !failure.hints.is_empty() {
        details.insert("hints".into(), json!(failure.hints));
    }
    if let Some(extra) = &failure.extra {
        details.insert("extra".into(), extra.clone());
    }
    Value::Object(details)
}

/// The HTTP status for a failure.
pub(crate) fn failure_to_status(failure: &Failure) -> http::StatusCode {
    use http::StatusCode;
    match failure.code.as_str() {
        code::INVALID_INPUT => StatusCode::BAD_REQUEST,
        code::AUTH_REQUIRED => StatusCode::UNAUTHORIZED,
        code::DENIED => StatusCode::FORBIDDEN,
        code::NOT_FOUND => StatusCode::NOT_FOUND,
        code::CONFLICT => StatusCode::CONFLICT,
        code::TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        code::RATE_LIMITED | code::BUDGET_EXHAUSTED => StatusCode::TOO_MANY_REQUESTS,
        code::TIMED_OUT => StatusCode::GATEWAY_TIMEOUT,
        code::UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        code::UNSUPPORTED => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_forbidden_in_version_4_and_names_the_remedy_in_both() {
        let failure = Failure::denied("No grant.").hint("leanclaw plugin grant notes kv");
        let newest = failure_to_error(ProtocolVersion::V4, &failure);
        assert_eq!(newest.code, "FORBIDDEN");
        assert_eq!(newest.message, "No grant.\nleanclaw plugin grant notes kv");
        assert_eq!(newest.details, Some(json!({"code": "denied", "hints": ["leanclaw plugin grant notes kv"]})));
        assert_eq!(newest.retryable, None);
        assert_eq!(failure_to_error(ProtocolVersion::V3, &failure).code, "INVALID_REQUEST");
    }

    #[test]
    fn what_may_succeed_later_says_when() {
        let error = failure_to_error(ProtocolVersion::V3, &Failure::unavailable("busy").retry_after(70));
        assert_eq!((error.code.as_str(), error.retryable, error.retry_after_ms), ("UNAVAILABLE", Some(true), Some(70)));
    }
}
