//! What the requests of all providers have in common.

use leanclaw_types::Failure;
use leanclaw_types::model::ModelCall;
use serde::Serialize;

/// # Errors
/// When an answer of nothing is asked for, which servers refuse or take for another question.
pub(crate) fn check_length(call: &ModelCall) -> Result<(), Failure> {
    match call.max_tokens {
        0 => Err(Failure::invalid("An answer of no tokens cannot be asked for: maxTokens is at least 1.")),
        _ => Ok(()),
    }
}

/// # Errors
/// When the last word is the model's (`ends_with_user` is false): some servers refuse that, others go on with it.
pub(crate) fn check_end(ends_with_user: bool) -> Result<(), Failure> {
    if ends_with_user {
        return Ok(());
    }
    Err(Failure::invalid("The conversation has to end with words of the user or a tool's result."))
}

/// A request as it is sent.
pub(crate) fn written(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body).map_err(|error| Failure::internal(format!("The call cannot be written as JSON: {error}.")))
}
