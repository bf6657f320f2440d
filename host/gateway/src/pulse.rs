//! What waits for the next agent turn: system events that were queued by `wake`, and whether heartbeats are switched on.
//! Both are stored before they are answered.

use std::sync::Arc;

use leanclaw_types::Failure;
use leanclaw_types::frame::ErrorShape;
use serde::{Deserialize, Serialize};

use crate::services::Records;
use crate::shelf::{Change, Shelf};

/// Events that wait; the oldest makes room, as nobody reads a long list of old ones.
const MAX_QUEUED: usize = 20;
/// Characters of one event.
const MAX_TEXT: usize = 4000;
const SWITCH: &str = "enabled";

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Queued {
    pub(crate) text: String,
    /// `now` or `next-heartbeat`.
    pub(crate) mode: String,
    pub(crate) at_ms: u64,
}

/// What waits, and the switch.
pub(crate) struct Pulse {
    queue: Shelf<Queued>,
    switch: Shelf<bool>,
}

impl Pulse {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(records: &Arc<dyn Records>) -> Result<Self, Failure> {
        Ok(Self { queue: Shelf::open(records, "system-event")?, switch: Shelf::open(records, "heartbeat")? })
    }

    /// What waits, oldest first.
    pub(crate) fn queued(&self) -> Vec<Arc<Queued>> {
        self.queue.all().into_iter().map(|(_, event)| event).collect()
    }

    /// Whether heartbeats are switched on; they are until somebody switches them off.
    pub(crate) fn enabled(&self) -> bool {
        self.switch.get(SWITCH).is_none_or(|enabled| *enabled)
    }

    pub(crate) async fn switch(&self, enabled: bool) -> Result<(), ErrorShape> {
        self.switch.change(|_| Ok((Change::nothing().put(SWITCH, enabled), ()))).await
    }

    pub(crate) async fn queue(&self, mut event: Queued) -> Result<(), ErrorShape> {
        if let Some((end, _)) = event.text.char_indices().nth(MAX_TEXT) {
            event.text.truncate(end);
        }
        self.queue
            .change(|shelf| {
                let waiting = shelf.all();
                let last = waiting.last().and_then(|(id, _)| id.parse::<u64>().ok()).unwrap_or(0);
                // Ids have one length, so that their order is that of the events.
                let mut change = Change::nothing().put(format!("{:020}", last + 1), event);
                for (id, _) in waiting.iter().take((waiting.len() + 1).saturating_sub(MAX_QUEUED)) {
                    change = change.remove(id.clone());
                }
                Ok((change, ()))
            })
            .await
    }
}
