//! Which headers a guest may set, and which of an answer it gets to see.

use http::header::{self, HeaderMap, HeaderName};

use crate::error::EgressError;
use crate::inject::{OPENING, Rules};

/// Headers that describe the connection. The host makes the connection, so it alone writes them.
const CONNECTION_HEADERS: &[&str] = &[
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn is_connection_header(name: &HeaderName) -> bool {
    CONNECTION_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("proxy-")
}

fn forbidden(name: &HeaderName, reason: &str) -> EgressError {
    EgressError::ForbiddenHeader { name: name.as_str().to_owned(), reason: reason.to_owned() }
}

/// Checks a guest's headers and takes out `content-length`, which is written anew from the body.
///
/// Gives the declared length, if any.
pub(crate) fn check_request(
    headers: &mut HeaderMap,
    rules: Rules<'_>,
    body_bytes: Option<u64>,
) -> Result<Option<u64>, EgressError> {
    let limit = rules.policy.limits.header_bytes;
    // Four bytes per line for `: ` and the line end.
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if rules.url.as_str().len() + lines.sum::<usize>() > limit {
        return Err(EgressError::TooLarge {
            what: "the address and headers of the request",
            limit_bytes: u64::try_from(limit).unwrap_or(u64::MAX),
        });
    }
    for (name, value) in headers.iter() {
        if is_connection_header(name) {
            return Err(forbidden(name, "the host makes the connection and sets it; leave it out"));
        }
        let has_placeholder = value.as_bytes().windows(OPENING.len()).any(|window| window == OPENING);
        if rules.fills_header(name) && !has_placeholder {
            return Err(forbidden(
                name,
                "a secret goes into it for this host; write the `{{secret:NAME}}` placeholder",
            ));
        }
    }
    declared_length(headers, body_bytes)
}

fn declared_length(headers: &mut HeaderMap, body_bytes: Option<u64>) -> Result<Option<u64>, EgressError> {
    let name = header::CONTENT_LENGTH;
    let mut declared = None;
    for value in headers.get_all(&name) {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length: u64 = digits
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| forbidden(&name, "it must be one whole number; it may be left out"))?;
        let agrees = declared.or(body_bytes).is_none_or(|other| other == length);
        if !agrees {
            return Err(forbidden(&name, "it differs from the length of the body; it may be left out"));
        }
        declared = Some(length);
    }
    headers.remove(&name);
    Ok(declared)
}

/// Whether the body of an answer is compressed or otherwise encoded.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().trim_ascii().is_empty() && !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Takes out of an answer what belongs to the connection.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"] {
        headers.remove(name);
    }
}
