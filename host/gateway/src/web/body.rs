//! Reading a request's body within a size and a time.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::reply::{self, Reply};
use crate::gateway::State;

/// The whole body, or the answer that refuses it.
pub(super) async fn read(
    state: &State,
    headers: &HeaderMap,
    body: Body,
    most_bytes: usize,
) -> Result<Bytes, Box<Reply>> {
    let too_large = || {
        let message = format!("Payload Too Large: at most {most_bytes} bytes are read");
        Box::new(reply::error(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", &message))
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > most_bytes as u64) {
        return Err(too_large());
    }
    let whole = Limited::new(body, most_bytes).collect();
    match tokio::time::timeout(state.config.limits.http_body_timeout, whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            Err(Box::new(reply::error(StatusCode::BAD_REQUEST, "invalid_request_error", "the body could not be read")))
        }
        Err(_) => {
            Err(Box::new(reply::error(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time")))
        }
    }
}
