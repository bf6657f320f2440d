//! What went wrong, in one shape for all providers: what kind of failure, whether to ask again, and what a person can do.

use std::time::Duration;

use http::StatusCode;
use leanclaw_egress::EgressError;
use leanclaw_types::Failure;
use leanclaw_types::failure::code;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::credential::Credential;
use crate::json;
use crate::retry::Retry;

/// The most characters of what a server said that are shown.
pub(crate) const MOST_SAID: usize = 500;
/// The status of a server that is overloaded.
const OVERLOADED: u16 = 529;
/// Refusals that time alone does not lift: what may be spent is spent.
const SPENT: &[&str] = &["contract_spend_limit_reached", "enforced_spend_limit_reached", "insufficient_quota"];
/// What providers call a conversation that is too long.
const TOO_LONG: &[&str] = &["context_length_exceeded", "exceed_context_size_error"];
/// Where they have no name for it, nothing but the words tells it from any other bad request.
const TOO_LONG_WORDS: &[&str] =
    &["prompt is too long", "context length", "context size", "context window", "maximum model length"];
/// What a server on this machine says while it reads its model, which takes longer than most troubles.
const LOADING: &str = "unavailable_error";

/// A failure, and what may be done about it here.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) failure: Failure,
    pub(crate) retry: Retry,
    /// The credential was refused.
    pub(crate) unauthorised: bool,
}

impl Problem {
    /// A failure that asking again does not change.
    pub(crate) fn last(failure: Failure) -> Self {
        Self { failure, retry: Retry::No, unauthorised: false }
    }
}

/// Who failed.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// The provider's id.
    pub(crate) id: String,
    /// The provider's name.
    pub(crate) name: String,
    /// Where its credential is set.
    pub(crate) setting: String,
    /// Where its address is set.
    pub(crate) base_url_setting: &'static str,
}

/// Puts `value` into what a failure says to programs.
pub(crate) fn set_extra(failure: &mut Failure, name: &str, value: Value) {
    if let Value::Object(fields) = failure.extra.get_or_insert_with(|| json!({})) {
        fields.insert(name.to_owned(), value);
    }
}

/// What a server says is wrong.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) kind: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
    /// The HTTP status, from servers that repeat it in the body.
    pub(crate) status: Option<u16>,
}

/// The shapes in which servers say so.
#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorBody {
    Nested {
        error: ErrorShape,
        request_id: Option<String>,
    },
    Flat(Flat),
    /// As web frameworks refuse what never comes to the provider.
    Detail {
        detail: Value,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorShape {
    Detailed(Box<Detailed>),
    Text(String),
}

#[derive(Deserialize)]
struct Detailed {
    r#type: Option<String>,
    code: Option<Value>,
    message: Option<String>,
    details: Option<Value>,
}

/// An error without anything around it, which nothing but the message tells from other JSON.
#[derive(Deserialize)]
struct Flat {
    message: String,
    r#type: Option<String>,
    code: Option<Value>,
}

impl Said {
    /// Reads the body of an error; of one that is not JSON (a proxy's page) the first of it is kept.
    pub(crate) fn read(body: &str) -> Self {
        let said = |kind, code: Option<&Value>, message| Self {
            kind,
            code: code.and_then(Value::as_str).map(str::to_owned),
            message,
            request_id: None,
            status: code.and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()),
        };
        match json::parse(body) {
            Err(_) => Self { message: body.trim().to_owned(), ..Self::default() },
            Ok(ErrorBody::Nested { error: ErrorShape::Text(message), request_id }) => {
                Self { message, request_id, ..Self::default() }
            }
            Ok(ErrorBody::Nested { error: ErrorShape::Detailed(error), request_id }) => {
                let Detailed { r#type: kind, code, message, details } = *error;
                let code = details.as_ref().and_then(|details| details.get("error_code")).or(code.as_ref());
                Self { request_id, ..said(kind, code, message.unwrap_or_default()) }
            }
            Ok(ErrorBody::Flat(Flat { message, r#type: kind, code })) => said(kind, code.as_ref(), message),
            Ok(ErrorBody::Detail { detail }) => {
                let message = detail.as_str().map_or_else(|| detail.to_string(), str::to_owned);
                Self { message, ..Self::default() }
            }
        }
    }

    /// Whether the provider's names for it, of whichever kind, are among `names`.
    fn is_one_of(&self, names: &[&str]) -> bool {
        [&self.code, &self.kind].into_iter().flatten().any(|name| names.contains(&name.as_str()))
    }

    fn is_spent(&self) -> bool {
        self.is_one_of(SPENT)
    }

    fn is_too_long(&self) -> bool {
        let message = self.message.to_lowercase();
        self.is_one_of(TOO_LONG) || TOO_LONG_WORDS.iter().any(|words| message.contains(words))
    }
}

impl About {
    /// A failure with the provider's name in it.
    pub(crate) fn failure(&self, code: &str, message: String) -> Failure {
        let mut failure = Failure::new(code, message);
        set_extra(&mut failure, "provider", json!(self.id));
        failure
    }

    /// What a server that answered with `status` means by it. `asked` is what it said of asking again: whether, and after
    /// which time.
    pub(crate) fn refusal(
        &self,
        status: u16,
        said: &Said,
        credential: &Credential,
        asked: (Option<bool>, Option<Duration>),
    ) -> Problem {
        let shown = credential.scrub(&said.message, MOST_SAID);
        let standard = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let reason = match (status, standard) {
            (OVERLOADED, _) => "Overloaded",
            (_, reason) => reason.unwrap_or("an error"),
        };
        let colon = if shown.is_empty() { "" } else { ": " };
        let mut failure = self
            .failure(self.code_of(status, said), format!("{} answered {status} ({reason}){colon}{shown}", self.name));
        failure.hints = self.hints(status, &failure.code, credential);
        set_extra(&mut failure, "status", json!(status));
        for (name, value) in [("errorType", &said.kind), ("errorCode", &said.code), ("requestId", &said.request_id)] {
            if let Some(value) = value {
                set_extra(&mut failure, name, json!(credential.scrub(value, 100)));
            }
        }
        let retry = verdict(status, said, asked);
        failure.retryable = retry != Retry::No;
        if let Retry::After(wait) = retry {
            failure = failure.retry_after(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        Problem { failure, retry, unauthorised: status == 401 }
    }

    fn code_of(&self, status: u16, said: &Said) -> &'static str {
        match status {
            401 => code::AUTH_REQUIRED,
            402 => code::BUDGET_EXHAUSTED,
            403 => code::DENIED,
            404 => code::NOT_FOUND,
            408 => code::TIMED_OUT,
            409 => code::CONFLICT,
            413 => code::TOO_LARGE,
            429 if said.is_spent() => code::BUDGET_EXHAUSTED,
            429 => code::RATE_LIMITED,
            400 | 422 if said.is_too_long() => code::TOO_LARGE,
            400..=499 => code::INVALID_INPUT,
            _ => code::UNAVAILABLE,
        }
    }

    fn hints(&self, status: u16, code: &str, credential: &Credential) -> Vec<String> {
        let setting = &self.setting;
        let hint = match (status, code) {
            (401, _) if *credential == Credential::None => format!("{} wants a key: set {setting}", self.name),
            (401, _) if credential.is_token() => format!("log in again, or set another token: {setting}"),
            (401, _) => format!("set a valid key: {setting}"),
            (402, _) | (429, code::BUDGET_EXHAUSTED) => {
                format!("raise the limit or add credit at {}, or use another provider", self.name)
            }
            (403, _) => format!("ask {} for this right, or use another key ({setting}) or model", self.name),
            (404, _) => format!("list the models there are and choose one; or check {}", self.base_url_setting),
            (_, code::TOO_LARGE) => "compact the conversation, or begin a new one".to_owned(),
            (429 | OVERLOADED, _) => "wait, or use another model".to_owned(),
            (500.., _) => "try again later, or use another model".to_owned(),
            (408 | 409, _) => "try again".to_owned(),
            _ => "see what the provider says about the request; the request id names it to them".to_owned(),
        };
        vec![hint]
    }

    /// A request that did not come to an answer, or whose answer broke off.
    pub(crate) fn lost(&self, error: &EgressError) -> Problem {
        let (code, retry) = match error {
            EgressError::ResolveFailed { .. } | EgressError::ConnectFailed { .. } | EgressError::Protocol { .. } => {
                (code::UNAVAILABLE, Retry::Soon)
            }
            EgressError::RateLimited { retry_after_ms, .. } => {
                (code::RATE_LIMITED, Retry::After(Duration::from_millis(*retry_after_ms)))
            }
            EgressError::TimedOut { .. } => (code::TIMED_OUT, Retry::No),
            EgressError::TooLarge { .. } => (code::TOO_LARGE, Retry::No),
            EgressError::Cancelled => (code::CANCELLED, Retry::No),
            error if error.is_denial() => (code::DENIED, Retry::No),
            _ => (code::UNAVAILABLE, Retry::No),
        };
        let mut failure = self.failure(code, format!("{}: {error}", self.name));
        failure.retryable = error.is_retryable();
        failure.retry_after_ms = error.retry_after_ms();
        failure.hints = vec![match error {
            EgressError::TooLarge { what: "the body of the request", .. } => {
                "compact the conversation, or leave out pictures".to_owned()
            }
            EgressError::TooLarge { .. } => "ask for a shorter answer".to_owned(),
            EgressError::TimedOut { .. } => "try again, allow more time, or use another model".to_owned(),
            EgressError::RateLimited { .. } | EgressError::Busy { .. } => "ask less at once".to_owned(),
            _ => format!("check the network and {}", self.base_url_setting),
        }];
        set_extra(&mut failure, "egress", json!(error.code()));
        Problem { failure, retry, unauthorised: false }
    }

    /// An answer that is not what it should be.
    pub(crate) fn garbled(&self, what: &str) -> Failure {
        self.failure(code::UNAVAILABLE, format!("{} did not answer properly: {what}", self.name)).hint(format!(
            "try again; where it stays, see what stands between here and {} ({})",
            self.name, self.base_url_setting
        ))
    }
}

fn verdict(status: u16, said: &Said, (should_retry, wait): (Option<bool>, Option<Duration>)) -> Retry {
    let by_status = matches!(status, 408 | 409 | 429 | 500..) && !said.is_spent();
    match (should_retry.unwrap_or(by_status), wait) {
        (false, _) => Retry::No,
        (true, Some(wait)) => Retry::After(wait),
        (true, None) if status == OVERLOADED || said.is_one_of(&[LOADING]) => Retry::Later,
        (true, None) => Retry::Soon,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_an_error_is_read() {
        for (body, kind, code, message, status) in [
            (r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#, Some("t"), Some("c"), "m", None),
            (r#"{"error":{"code":503,"message":"m","type":"t"}}"#, Some("t"), None, "m", Some(503)),
            (r#"{"object":"error","message":"m","type":"t","param":null,"code":400}"#, Some("t"), None, "m", Some(400)),
            (r#"{"error":"m"}"#, None, None, "m", None),
            (r#"{"error":{"details":{"error_code":"c"}}}"#, None, Some("c"), "", None),
            (r#"{"detail":"m"}"#, None, None, "m", None),
            (r#"{"detail":[{"loc":"x"}]}"#, None, None, r#"[{"loc":"x"}]"#, None),
            (" <html>\n", None, None, "<html>", None),
        ] {
            let said = Said::read(body);
            let read = (said.kind.as_deref(), said.code.as_deref(), said.message.as_str(), said.status);
            assert_eq!(read, (kind, code, message, status), "{body}");
        }
    }
}
