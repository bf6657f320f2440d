//! What becomes of runs that were taken on before the program ended.
//!
//! One whose turn had not come keeps its place. One that went on is run again when it left nothing behind: the agent writes
//! down what it is going to do before it does it, so nothing was done. Else it ends, and says so: doing things twice is worse
//! than asking.

use std::sync::Arc;

use leanclaw_store::{StoreError, StoredRun};
use leanclaw_types::Failure;
use leanclaw_types::run::RunState;

use super::book::Running;
use super::turn::Ended;
use super::{Inner, words};

/// How often a run's turn may come. What ends the program each time must not do so for ever.
const MOST_ATTEMPTS: u32 = 3;
/// How much of a transcript is looked at, in bytes.
const LOOKED_AT_BYTES: usize = 4 * 1024 * 1024;

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
            let run = Running::new(stored.request.clone(), stored.message_id, stored.number);
            let judged = if stored.state == RunState::Waiting { Ok(None) } else { self.judge(&stored).await };
            match judged {
                Ok(None) => {
                    tracing::info!(
                        run = stored.request.run_id,
                        attempts = stored.attempts,
                        "a run of before is taken up again"
                    );
                    self.enqueue(&run);
                }
                Ok(Some(failure)) => {
                    let ended = Ended {
                        result: Some(Err(failure)),
                        text: String::new(),
                        answered: None,
                        usage: leanclaw_types::model::TokenUsage::default(),
                    };
                    self.finish(&run, Some((stored.started_ms.unwrap_or(stored.created_ms), ended))).await;
                }
                Err(error) => tracing::error!(run = stored.request.run_id, %error, "a run of before cannot be judged"),
            }
        }
    }

    /// What a run that went on ends with; none when it is run again.
    async fn judge(&self, stored: &StoredRun) -> Result<Option<Failure>, StoreError> {
        let id = &stored.request.run_id;
        if stored.attempts >= MOST_ATTEMPTS {
            let message =
                format!("LeanClaw ended {MOST_ATTEMPTS} times while this was being answered; it is not tried again.");
            return Ok(Some(Failure::unavailable(message).hint("the log says what ended it: leanclaw logs")));
        }
        let said = self.means.store.history(&stored.request.session_key, None, LOOKED_AT_BYTES).await?;
        let is_of_run =
            |message: &&leanclaw_types::session::TranscriptMessage| words::run_of(message) == Some(id.as_str());
        if said.iter().filter(is_of_run).any(|message| message.id != stored.message_id) {
            let message = "LeanClaw was ended while this was being answered.";
            return Ok(Some(
                Failure::unavailable(message).hint("write again and the agent goes on from what there is"),
            ));
        }
        self.means.store.put_run_back(id).await?;
        Ok(None)
    }
}
