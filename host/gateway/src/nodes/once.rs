//! Calls of nodes that are asked for again: the same idempotency key of the same caller runs a command once, however often
//! it is asked for, also by another connection of that caller.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use leanclaw_types::frame::ErrorShape;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::connection::Outcome;
use crate::wire::Payload;

/// Calls that are remembered; beyond that the oldest that have ended are forgotten.
const MAX_KEPT: usize = 1000;
/// Time after its end for which the outcome of a call is told again.
const TOLD_FOR_MS: u64 = 300_000;
/// Bytes of one outcome that is kept; of a longer one only that the call has run.
const MAX_OUTCOME_BYTES: usize = 256 * 1024;
/// Bytes of all outcomes that are kept; beyond that it is forgotten what became of the calls that ended first, and not that
/// they have run.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What makes two calls the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) caller: String,
    pub(crate) node: String,
    pub(crate) idempotency_key: String,
}

/// What a call asks for, as its hash: a key stands for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct What([u8; 32]);

impl What {
    pub(crate) fn of(command: &str, params: Option<&Value>) -> Self {
        let params = params.map(Value::to_string).unwrap_or_default();
        Self(Sha256::digest(format!("{command} {params}").as_bytes()).into())
    }
}

enum Stand {
    Runs(watch::Receiver<Option<Outcome>>),
    /// None when it is not kept what became of it.
    Ended(Option<Kept>),
}

struct Kept {
    outcome: Outcome,
    bytes: usize,
}

struct Entry {
    what: What,
    /// When it began or, once it has ended, when that was.
    at_ms: u64,
    stand: Stand,
}

impl Entry {
    fn runs(&self) -> bool {
        matches!(&self.stand, Stand::Runs(outcome) if outcome.has_changed().is_ok())
    }

    fn bytes(&self) -> usize {
        if let Stand::Ended(Some(kept)) = &self.stand { kept.bytes } else { 0 }
    }
}

type Entries = HashMap<Call, Entry>;

/// What is remembered.
#[derive(Default)]
pub(crate) struct Once {
    entries: Mutex<Entries>,
}

/// What to do with a call.
pub(crate) enum Turn {
    /// It is the first: run it, and say with [`Once::end`] what became of it.
    First(watch::Sender<Option<Outcome>>),
    /// It was asked for before.
    Again(Again),
}

/// A call that was asked for before.
pub(crate) enum Again {
    Runs(watch::Receiver<Option<Outcome>>),
    Ended(Outcome),
}

impl Once {
    fn swept(&self, now_ms: u64) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.runs() || entry.at_ms.saturating_add(TOLD_FOR_MS) > now_ms);
        entries
    }

    /// The call if it runs or has run; none for the first of its kind.
    ///
    /// # Errors
    /// Its key stands for another call, or what became of it is not kept.
    pub(crate) fn again(&self, call: &Call, what: What, now_ms: u64) -> Result<Option<Again>, ErrorShape> {
        self.swept(now_ms).get(call).map(|entry| repeated(entry, what)).transpose()
    }

    /// What to do with a call.
    ///
    /// # Errors
    /// As [`Once::again`], or too many calls run.
    pub(crate) fn turn(&self, call: Call, what: What, now_ms: u64) -> Result<Turn, ErrorShape> {
        let mut entries = self.swept(now_ms);
        if let Some(entry) = entries.get(&call) {
            return repeated(entry, what).map(Turn::Again);
        }
        if entries.len() >= MAX_KEPT {
            let ended = entries.iter().filter(|(_, entry)| !entry.runs());
            let oldest = ended.min_by_key(|(_, entry)| entry.at_ms).map(|(call, _)| call.clone());
            let oldest = oldest.ok_or_else(|| crate::error::unavailable("too many calls run on nodes; retry later"))?;
            entries.remove(&oldest);
        }
        let (sender, outcome) = watch::channel(None);
        entries.insert(call, Entry { what, at_ms: now_ms, stand: Stand::Runs(outcome) });
        Ok(Turn::First(sender))
    }

    /// A call has ended: whoever waits for it is told, and whoever asks again for a while.
    pub(crate) fn end(&self, call: &Call, told: &watch::Sender<Option<Outcome>>, outcome: Outcome, now_ms: u64) {
        let outcome = outcome.map(Payload::shared);
        let bytes = match &outcome {
            Ok(payload) => payload.as_str().len(),
            Err(error) => serde_json::to_string(error).map_or(usize::MAX, |text| text.len()),
        };
        let mut entries = self.swept(now_ms);
        if let Some(entry) = entries.get_mut(call) {
            entry.at_ms = now_ms;
            let kept = (bytes <= MAX_OUTCOME_BYTES).then(|| Kept { outcome: outcome.clone(), bytes });
            entry.stand = Stand::Ended(kept);
            make_room(&mut entries);
        }
        drop(entries);
        told.send_replace(Some(outcome));
    }

    /// Forgets a call that never reached its node.
    pub(crate) fn forget(&self, call: &Call) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(call);
    }
}

fn repeated(entry: &Entry, what: What) -> Result<Again, ErrorShape> {
    if entry.what != what {
        return Err(ErrorShape::invalid("this idempotencyKey was used for another call of the node; use a new one"));
    }
    match &entry.stand {
        Stand::Runs(outcome) => Ok(Again::Runs(outcome.clone())),
        Stand::Ended(Some(kept)) => Ok(Again::Ended(kept.outcome.clone())),
        Stand::Ended(None) => Err(crate::error::unavailable(
            "this call has run, and what became of it is no longer kept; use a new idempotencyKey to run it again",
        )),
    }
}

/// Forgets what became of the calls that ended first, until the others fit.
fn make_room(entries: &mut Entries) {
    let mut bytes: usize = entries.values().map(Entry::bytes).sum();
    while bytes > MAX_BYTES {
        let kept = entries.values_mut().filter(|entry| entry.bytes() > 0);
        let Some(oldest) = kept.min_by_key(|entry| entry.at_ms) else { return };
        bytes = bytes.saturating_sub(oldest.bytes());
        oldest.stand = Stand::Ended(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: usize) -> Call {
        Call { caller: "client:token".into(), node: "n".into(), idempotency_key: number.to_string() }
    }

    fn what(command: &str) -> What {
        What::of(command, None)
    }

    fn first(once: &Once, number: usize, now_ms: u64) -> watch::Sender<Option<Outcome>> {
        let Ok(Turn::First(sender)) = once.turn(call(number), what("a"), now_ms) else { panic!("it is the first") };
        sender
    }

    fn kept(once: &Once) -> usize {
        once.entries.lock().unwrap().values().map(Entry::bytes).sum()
    }

    #[test]
    fn a_key_stands_for_one_call_and_room_is_made_by_what_has_ended() {
        let once = Once::default();
        let sender = first(&once, 0, 0);
        assert!(matches!(once.turn(call(0), what("a"), 1), Ok(Turn::Again(Again::Runs(_)))));
        assert!(once.turn(call(0), what("b"), 1).is_err());
        let running: Vec<_> = (1..MAX_KEPT).map(|number| first(&once, number, 1)).collect();
        assert!(once.turn(call(MAX_KEPT), what("a"), 2).is_err(), "all of them run");
        once.end(&call(0), &sender, Ok(Payload::Own("1".into())), 2);
        assert!(matches!(once.turn(call(MAX_KEPT), what("a"), 2), Ok(Turn::First(_))));
        assert!(
            matches!(once.turn(call(1), what("a"), TOLD_FOR_MS * 2), Ok(Turn::Again(Again::Runs(_)))),
            "it still runs"
        );
        drop(running);
        assert!(matches!(once.turn(call(1), what("a"), TOLD_FOR_MS * 2), Ok(Turn::First(_))));
    }

    #[test]
    fn an_outcome_is_told_again_for_a_time_that_begins_with_the_end() {
        let once = Once::default();
        let sender = first(&once, 0, 0);
        let late_ms = TOLD_FOR_MS * 2;
        once.end(&call(0), &sender, Ok(Payload::Own("1".into())), late_ms);
        let last_ms = late_ms + TOLD_FOR_MS - 1;
        let Ok(Some(Again::Ended(Ok(outcome)))) = once.again(&call(0), what("a"), last_ms) else {
            panic!("it is kept")
        };
        assert!(matches!(&outcome, Payload::Shared(text) if &**text == "1"), "nobody gets a copy of their own");
        assert!(matches!(once.again(&call(0), what("a"), last_ms + 1), Ok(None)));
    }

    #[test]
    fn outcomes_are_kept_within_a_number_of_bytes_and_that_a_call_has_run_beyond() {
        let once = Once::default();
        let text = "x".repeat(MAX_OUTCOME_BYTES);
        let most = MAX_BYTES / MAX_OUTCOME_BYTES;
        for number in 0..=most {
            let sender = first(&once, number, 0);
            once.end(&call(number), &sender, Ok(Payload::Own(text.clone())), number as u64);
        }
        assert_eq!(kept(&once), MAX_BYTES);
        assert!(once.again(&call(0), what("a"), 1).is_err(), "it does not run again all the same");
        assert!(matches!(once.again(&call(1), what("a"), 1), Ok(Some(Again::Ended(_)))));
        for outcome in [Ok(Payload::Own(format!("{text}x"))), Err(ErrorShape::invalid(text.clone()))] {
            let sender = first(&once, 900, 1);
            let waits = sender.subscribe();
            once.end(&call(900), &sender, outcome, 1);
            assert!(waits.borrow().is_some(), "who waits is told all of it");
            assert!(once.again(&call(900), what("a"), 1).is_err());
            assert_eq!(kept(&once), MAX_BYTES);
            once.forget(&call(900));
        }
    }
}
