//! What becomes of runs that were taken on before the program ended.
//!
//! One whose turn had not come keeps its place. One that went on is run again when it left nothing behind: the agent writes
//! down what it is going to do before it does it, so nothing was done. One that had answered ends as answered. Else it ends, and says
//! so: doing things twice is worse than asking.

use std::sync::Arc;

use leanclaw_store::{StoreError, StoredRun};
use leanclaw_types::Failure;
use leanclaw_types::run::{RunRequest, RunState};
use leanclaw_types::session::TranscriptMessage;
use serde_json::Value;

use super::Inner;
use super::book::Running;
use super::turn::Ended;

/// How often a run's turn may come. What ends the program each time must not do so for ever.
const MOST_ATTEMPTS: u32 = 3;

impl Inner {
    /// Goes on with everything that was taken on.
    pub(super) async fn recover(self: &Arc<Self>) {
        let open = match self.means.store.open_runs().await {
            Ok(open) => open,
            Err(error) => {
                tracing::error!(%error, "runs of before cannot be read; they stay as they are until the next start");
                return;
            }
        };
        for stored in open {
            let run = Running::new(stored.request.clone(), stored.number);
            let is_waiting = stored.state == RunState::Waiting;
            let judged = if is_waiting { Ok(Verdict::Again) } else { self.judge(&stored).await };
            match judged {
                Ok(Verdict::Again) => {
                    tracing::info!(
                        run = stored.request.run_id,
                        attempts = stored.attempts,
                        "a run of before is taken up again"
                    );
                    self.enqueue(&run);
                }
                Ok(Verdict::Over(ended)) => {
                    self.finish(&run, Some((stored.started_ms.unwrap_or(stored.created_ms), *ended))).await;
                }
                Err(error) => tracing::error!(run = stored.request.run_id, %error, "a run of before cannot be judged"),
            }
        }
    }

    /// What becomes of a run that went on.
    async fn judge(&self, stored: &StoredRun) -> Result<Verdict, StoreError> {
        let RunRequest { run_id: id, session_key: key, .. } = &stored.request;
        let left = self.means.store.last_of_run(key, id, stored.message_id).await?;
        let over = |failure| Ok(Verdict::Over(Box::new(Ended::failed(failure))));
        if let Some(text) = left.as_ref().and_then(whole_reply) {
            return Ok(Verdict::Over(Box::new(Ended::replied(text))));
        }
        if left.is_some() {
            let message = "LeanClaw was ended while this was being answered.";
            return over(Failure::unavailable(message).hint("write again and the agent goes on from what there is"));
        }
        if stored.attempts >= MOST_ATTEMPTS {
            let message =
                format!("LeanClaw ended {MOST_ATTEMPTS} times while this was being answered; it is not tried again.");
            return over(Failure::unavailable(message).hint("the log says what ended it: leanclaw logs"));
        }
        self.means.store.put_run_back(id).await?;
        Ok(Verdict::Again)
    }
}

/// What becomes of a run that a crash cut short.
enum Verdict {
    /// Its turn comes again.
    Again,
    /// It ends like this.
    Over(Box<Ended>),
}

/// The words of a message with which a turn was over, and only its end was not stored.
fn whole_reply(message: &TranscriptMessage) -> Option<String> {
    let stop = message.body.get("stopReason").and_then(Value::as_str);
    let parts = message.body.get("content").and_then(Value::as_array)?;
    let is_over = message.role == "assistant" && matches!(stop, Some("stop" | "length"));
    let asks = parts.iter().any(|part| part.get("type").and_then(Value::as_str) == Some("toolCall"));
    let text = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
    (is_over && !asks).then(|| parts.iter().filter_map(text).collect::<Vec<_>>().join("\n"))
}
