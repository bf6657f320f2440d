//! The providers of models: one call in LeanClaw's words in, a stream of events in LeanClaw's words out.
//!
//! Owns each provider's wire format, when to try again, and what an error of theirs means for a person. It holds no
//! connection, no key and no budget: everything leaves through `leanclaw-egress` under a policy that allows the provider's
//! host alone ([`egress_policy`]), what proves who asks comes from [`Credentials`], and the caller counts what was used.
//!
//! [`Provider::stream`] gives a stream once something of the answer can be seen. So an error of `stream` means that nothing
//! was seen, all retries included, and another provider may be asked; an error of [`ModelStream::next`] means that
//! something was, and nobody asks again on its own account. An answer that ends without the end its format has is such an
//! error, never a success. Dropping the future or the stream closes the connection.
//!
//! There are [`anthropic`] and, for whatever else speaks Chat Completions, [`openai`]. What the two need alike is here: the
//! request and its retries, the event stream, what an error means, how the input of a tool is read.
//!
//! What can be learned of a failure stands in [`Failure::extra`]: `provider`, `status` (HTTP), `requestId`, `errorType` and
//! `errorCode` (the provider's own), `attempts`, and of an answer that broke off `usage` (what is known of it).

mod answer;
pub mod anthropic;
mod body;
mod client;
mod credential;
mod json;
pub mod openai;
mod parts;
mod policy;
mod problem;
mod retry;
pub mod sse;

#[cfg(test)]
mod tests;

use std::fmt;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, Stream};
pub use leanclaw_egress::Deadline;
use leanclaw_types::Failure;
use leanclaw_types::model::{ModelCall, ModelEvent};
use serde::Serialize;

pub use client::{Means, Timeouts};
pub use credential::{Credential, Credentials, FixedCredential};
pub use policy::egress_policy;
pub use retry::RetryPolicy;

/// A model as its provider lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelInfo {
    /// What [`ModelCall::model`] calls it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The most tokens of a conversation, where the provider says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u64>,
    /// The most tokens of an answer, where the provider says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// Whether it sees pictures, where the provider says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takes_images: Option<bool>,
    /// When it will be gone (RFC 3339), where that is decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retires_at: Option<String>,
}

/// Somebody whose models can be called.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Its id, such as `anthropic`.
    fn id(&self) -> &str;

    /// The models it offers, in its own order.
    ///
    /// # Errors
    /// When it cannot be asked or does not answer properly.
    async fn models(&self, deadline: Deadline) -> Result<Vec<ModelInfo>, Failure>;

    /// How many tokens a call would read, as the provider estimates it.
    ///
    /// # Errors
    /// `unsupported` from a provider that does not estimate; else as [`Provider::models`].
    async fn count_tokens(&self, call: &ModelCall, deadline: Deadline) -> Result<u64, Failure>;

    /// Calls a model.
    ///
    /// # Errors
    /// When there is no answer, or it broke before anything of it could be seen.
    async fn stream(&self, call: &ModelCall, deadline: Deadline) -> Result<ModelStream, Failure>;
}

/// A model's answer as it comes. What it is read from is let go with its last event.
pub struct ModelStream(Option<BoxStream<'static, Result<ModelEvent, Failure>>>);

impl ModelStream {
    /// An answer that consists of these events. Nothing is asked for after an error or [`ModelEvent::Finished`].
    pub fn new(events: impl Stream<Item = Result<ModelEvent, Failure>> + Send + 'static) -> Self {
        Self(Some(events.boxed()))
    }

    /// The next event; none after [`ModelEvent::Finished`] and after an error. Cancel-safe: waiting for it may be given up
    /// and begun anew.
    pub async fn next(&mut self) -> Option<Result<ModelEvent, Failure>> {
        let event = self.0.as_mut()?.next().await;
        if matches!(event, None | Some(Err(_) | Ok(ModelEvent::Finished { .. }))) {
            self.0 = None;
        }
        event
    }
}

impl fmt::Debug for ModelStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ModelStream").field("ended", &self.0.is_none()).finish()
    }
}
