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
const SPENT: &[&str] = &["contract_spend_limit_reached", "enforced_spend_limit_reached"];

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
    pub(crate) id: &'static str,
    /// The provider's name.
    pub(crate) name: &'static str,
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
}

/// The shapes in which providers say so.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorShape,
    request_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorShape {
    Detailed { r#type: Option<String>, code: Option<Value>, message: Option<String>, details: Option<Value> },
    Text(String),
}

impl Said {
    /// Reads the body of an error; of one that is not JSON (a proxy's page) the first of it is kept.
    pub(crate) fn read(body: &str) -> Self {
        let Ok(ErrorBody { error, request_id }) = json::parse(body) else {
            return Self { message: body.trim().to_owned(), ..Self::default() };
        };
        match error {
            ErrorShape::Text(message) => Self { message, request_id, ..Self::default() },
            ErrorShape::Detailed { r#type: kind, code, message, details } => {
                let detail = details.as_ref().and_then(|details| details.get("error_code")).or(code.as_ref());
                let code = detail.and_then(Value::as_str).map(str::to_owned);
                Self { kind, code, message: message.unwrap_or_default(), request_id }
            }
        }
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
            429 if said.code.as_deref().is_some_and(|code| SPENT.contains(&code)) => code::BUDGET_EXHAUSTED,
            429 => code::RATE_LIMITED,
            // Nothing but the words tells a conversation that is too long from any other bad request.
            400 if said.message.contains("prompt is too long") => code::TOO_LARGE,
            400..=499 => code::INVALID_INPUT,
            _ => code::UNAVAILABLE,
        }
    }

    fn hints(&self, status: u16, code: &str, credential: &Credential) -> Vec<String> {
        let setting = &self.setting;
        let hint = match (status, code) {
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
    let spent = said.code.as_deref().is_some_and(|code| SPENT.contains(&code));
    let by_status = matches!(status, 408 | 409 | 429 | 500..) && !spent;
    match (should_retry.unwrap_or(by_status), wait) {
        (false, _) => Retry::No,
        (true, Some(wait)) => Retry::After(wait),
        (true, None) if status == OVERLOADED => Retry::Later,
        (true, None) => Retry::Soon,
    }
}
