//! The calls of a model in one turn: what comes is sent on to the agent, and what is known of it is kept for the messages that the
//! agent makes of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leanclaw_egress::Deadline;
use leanclaw_types::Failure;
use leanclaw_types::agent::{MODEL_EVENT, ModelStreamed};
use leanclaw_types::model::{ModelCall, ModelEvent, StopReason, TokenUsage};

use super::frame;
use super::models::Choice;
use super::wire::ToAgent;
use super::words::Answered;

/// How long one may take; its run may end it before.
const MODEL_CALL: Duration = Duration::from_secs(30 * 60);

/// The calls of one turn. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct ModelCalls(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Why the latest one failed, if it did.
    failure: Option<Failure>,
    /// The answer that is not written down yet.
    last: Option<(Answered, StopReason)>,
    /// Who answered last.
    latest: Option<Answered>,
    usage: TokenUsage,
}

impl ModelCalls {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the answer of a model on, piece by piece.
    ///
    /// # Errors
    /// There is no answer, or it broke off.
    pub(super) async fn stream(
        &self,
        choice: &Choice,
        call: &ModelCall,
        call_id: &str,
        wire: &ToAgent,
    ) -> Result<(), Failure> {
        let mut stream = choice.provider.stream(call, Deadline::after(MODEL_CALL)).await?;
        let mut answered =
            Answered { provider: choice.provider.id().to_owned(), model: choice.model.clone(), ..Answered::default() };
        while let Some(event) = stream.next().await {
            let event = event?;
            match &event {
                ModelEvent::Started { model } => answered.model.clone_from(model),
                ModelEvent::Finished { reason, usage } => {
                    answered.usage = *usage;
                    // Known before the agent hears of it, as it writes the answer down then.
                    let mut known = self.known();
                    known.usage.add(usage);
                    known.latest = Some(answered.clone());
                    known.last = Some((answered.clone(), *reason));
                }
                ModelEvent::Text { .. } | ModelEvent::Thinking { .. } | ModelEvent::Block { .. } => {}
            }
            let streamed = ModelStreamed { call_id: call_id.to_owned(), event };
            wire.send(frame::notification(MODEL_EVENT, &streamed));
        }
        Ok(())
    }

    /// A call is over, with this failure if it failed.
    pub(super) fn ended(&self, failure: Option<&Failure>) {
        self.known().failure = failure.cloned();
    }

    /// Why the latest call failed, if it did.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.known().failure.take()
    }

    /// The answer that is not written down yet, and why it ended.
    pub(super) fn take_last(&self) -> Option<(Answered, StopReason)> {
        self.known().last.take()
    }

    /// Who answered last, and what all answers used.
    pub(super) fn sum(&self) -> (Option<Answered>, TokenUsage) {
        let known = self.known();
        (known.latest.clone(), known.usage)
    }
}
