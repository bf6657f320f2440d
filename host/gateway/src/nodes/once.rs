//! Calls of nodes that are asked for again: the same idempotency key of the same caller runs a command once, however often
//! it is asked for, also by another connection of that caller.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use leanclaw_types::frame::ErrorShape;
use tokio::sync::watch;

use crate::connection::Outcome;

/// Calls that are remembered; beyond that the oldest that have ended are forgotten.
const MAX_KEPT: usize = 1000;
/// Time for which the outcome of a call is told again.
const TOLD_FOR_MS: u64 = 300_000;

/// What makes two calls the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) caller: String,
    pub(crate) node: String,
    pub(crate) idempotency_key: String,
}

struct Entry {
    /// The command with its parameters: a key stands for one of them.
    what: String,
    at_ms: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// What is remembered.
#[derive(Default)]
pub(crate) struct Once {
    entries: Mutex<HashMap<Call, Entry>>,
}

/// What to do with a call.
pub(crate) enum Turn {
    /// It is the first: run it, and say what became of it.
    First(watch::Sender<Option<Outcome>>),
    /// It runs, or has run.
    Again(watch::Receiver<Option<Outcome>>),
}

impl Once {
    /// Whether a call is the first of its kind.
    ///
    /// # Errors
    /// Its key stands for another call, or too many calls run.
    pub(crate) fn turn(&self, call: Call, what: String, now_ms: u64) -> Result<Turn, ErrorShape> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = |entry: &Entry| entry.outcome.borrow().is_none() && entry.outcome.has_changed().is_ok();
        entries.retain(|_, entry| runs(entry) || entry.at_ms.saturating_add(TOLD_FOR_MS) > now_ms);
        if let Some(entry) = entries.get(&call) {
            if entry.what != what {
                return Err(ErrorShape::invalid(
                    "this idempotencyKey was used for another call of the node; use a new one",
                ));
            }
            return Ok(Turn::Again(entry.outcome.clone()));
        }
        if entries.len() >= MAX_KEPT {
            let ended = entries.iter().filter(|(_, entry)| !runs(entry));
            let oldest = ended.min_by_key(|(_, entry)| entry.at_ms).map(|(call, _)| call.clone());
            let oldest = oldest.ok_or_else(|| crate::error::unavailable("too many calls run on nodes; retry later"))?;
            entries.remove(&oldest);
        }
        let (sender, outcome) = watch::channel(None);
        entries.insert(call, Entry { what, at_ms: now_ms, outcome });
        Ok(Turn::First(sender))
    }

    /// Forgets a call that never reached its node.
    pub(crate) fn forget(&self, call: &Call) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Payload;

    fn call(number: usize) -> Call {
        Call { caller: "client:token".into(), node: "n".into(), idempotency_key: number.to_string() }
    }

    #[test]
    fn a_key_stands_for_one_call_and_room_is_made_by_what_has_ended() {
        let once = Once::default();
        let Ok(Turn::First(first)) = once.turn(call(0), "a".into(), 0) else { panic!("it is the first") };
        assert!(matches!(once.turn(call(0), "a".into(), 1), Ok(Turn::Again(_))));
        assert!(once.turn(call(0), "b".into(), 1).is_err());
        let running: Vec<_> = (1..MAX_KEPT).map(|number| once.turn(call(number), "a".into(), 1).ok()).collect();
        assert!(once.turn(call(MAX_KEPT), "a".into(), 2).is_err(), "all of them run");
        first.send_replace(Some(Ok(Payload::Own("1".into()))));
        assert!(matches!(once.turn(call(MAX_KEPT), "a".into(), 2), Ok(Turn::First(_))));
        assert!(matches!(once.turn(call(1), "a".into(), TOLD_FOR_MS * 2), Ok(Turn::Again(_))), "it still runs");
        drop(running);
        assert!(matches!(once.turn(call(1), "a".into(), TOLD_FOR_MS * 2), Ok(Turn::First(_))));
    }
}
