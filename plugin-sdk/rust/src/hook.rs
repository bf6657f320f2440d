//! Hooks: a plugin that sees what happens and may veto or rewrite it.

use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::failure::Failure;

/// A plugin that is asked before or after something happens.
pub trait Hook: 'static {
    /// The events it wants, such as `before-send`. The manifest's `permissions.hooks` names them too.
    const EVENTS: &'static [&'static str];

    /// Judges one event.
    ///
    /// # Errors
    /// A [`Failure`] counts as no decision; what the host does then is its rule for the event.
    fn handle(&self, context: &Context<'_>, event: &str, payload: Value) -> Result<Decision, Failure>;
}

/// What a hook decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// `continue`, `skip`, `deny`, `replace`.
    pub verdict: String,
    /// Why, for a person.
    pub reason: Option<String>,
    /// The new payload of `replace`.
    pub payload: Option<Value>,
}

impl Decision {
    /// Lets it happen.
    #[must_use]
    pub fn proceed() -> Self {
        Self { verdict: "continue".into(), reason: None, payload: None }
    }

    /// Leaves it out without an error.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self { verdict: "skip".into(), reason: Some(reason.into()), payload: None }
    }

    /// Forbids it.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self { verdict: "deny".into(), reason: Some(reason.into()), payload: None }
    }

    /// Lets it happen with another payload.
    ///
    /// # Errors
    /// [`Failure`] when `payload` cannot be written as JSON.
    pub fn replace<T: Serialize>(payload: &T) -> Result<Self, Failure> {
        Ok(Self { verdict: "replace".into(), reason: None, payload: Some(serde_json::to_value(payload)?) })
    }
}
