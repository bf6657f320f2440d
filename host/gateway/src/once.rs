//! Calls that are asked for again: the same idempotency key of the same caller runs a call of one method once, however
//! often it is asked for, also by another connection of that caller. It knows nothing of what a call does.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leanclaw_types::Caller;
use leanclaw_types::frame::ErrorShape;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::connection::{Answer, Outcome};
use crate::error::unavailable;
use crate::gateway::State;
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

/// What makes two calls the same, as its hash: a key may be long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Call([u8; 32]);

impl Call {
    /// A caller's key for a method. `target` is whom the method is about, where keys are told apart by that; else empty.
    pub(crate) fn of(caller: &Caller, method: &str, target: &str, key: &str) -> Self {
        Self(hash(&[&caller.kind, &caller.id, method, target, key]))
    }
}

/// What a call asks for, as its hash: a key stands for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct What([u8; 32]);

impl What {
    /// All that it asks for.
    pub(crate) fn of(parts: &[&str]) -> Self {
        Self(hash(parts))
    }
}

/// With the lengths, so that no part can pass for two.
fn hash(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// How a call has ended.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    /// Whether the same key tells this again; else it may run the call again, because it did not.
    pub(crate) is_final: bool,
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
enum Turn {
    /// It is the first: run it, and say with [`Once::end`] what became of it.
    First(watch::Sender<Option<Outcome>>),
    /// It was asked for before and runs.
    Runs(watch::Receiver<Option<Outcome>>),
    /// It was asked for before and has ended.
    Ended(Outcome),
}

/// Runs a call, unless it runs or has run: then its caller is told what becomes or became of that. `begin` is called for
/// the first only. Once it has begun it is gone on with to its end, whoever still waits: it may be asked for again.
///
/// # Errors
/// The key stands for another call, or what became of this one is not kept, or too many calls run, or it did not begin.
pub(crate) fn run<F>(
    state: &Arc<State>,
    call: Call,
    what: What,
    begin: impl FnOnce() -> Result<F, ErrorShape>,
) -> Result<Answer, ErrorShape>
where
    F: Future<Output = Ended> + Send + 'static,
{
    let sender = match state.once.turn(call, what, state.now_ms())? {
        Turn::First(sender) => sender,
        Turn::Runs(outcome) => return Ok(Answer::Later(Box::pin(said(outcome)))),
        Turn::Ended(outcome) => return Ok(Answer::Now(outcome)),
    };
    let work = begin().inspect_err(|_| state.once.forget(call))?;
    let (state, outcome) = (Arc::clone(state), sender.subscribe());
    tokio::spawn(async move {
        let ended = work.await;
        state.once.end(call, &sender, ended, state.now_ms());
    });
    Ok(Answer::Later(Box::pin(said(outcome))))
}

async fn said(mut outcome: watch::Receiver<Option<Outcome>>) -> Outcome {
    let broken_off = || Err(unavailable("the call was broken off; retry later"));
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(broken_off),
        Err(_) => broken_off(),
    }
}

impl Once {
    fn swept(&self, now_ms: u64) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.runs() || entry.at_ms.saturating_add(TOLD_FOR_MS) > now_ms);
        entries
    }

    fn turn(&self, call: Call, what: What, now_ms: u64) -> Result<Turn, ErrorShape> {
        let mut entries = self.swept(now_ms);
        if let Some(entry) = entries.get(&call) {
            return repeated(entry, what);
        }
        if entries.len() >= MAX_KEPT {
            let ended = entries.iter().filter(|(_, entry)| !entry.runs());
            let oldest = ended.min_by_key(|(_, entry)| entry.at_ms).map(|(call, _)| *call);
            let oldest = oldest.ok_or_else(|| unavailable("too many calls with idempotency keys run; retry later"))?;
            entries.remove(&oldest);
        }
        let (sender, outcome) = watch::channel(None);
        entries.insert(call, Entry { what, at_ms: now_ms, stand: Stand::Runs(outcome) });
        Ok(Turn::First(sender))
    }

    /// A call has ended: whoever waits for it is told, and whoever asks again for a while if that is final.
    fn end(&self, call: Call, told: &watch::Sender<Option<Outcome>>, ended: Ended, now_ms: u64) {
        let outcome = ended.outcome.map(Payload::shared);
        let bytes = match &outcome {
            Ok(payload) => payload.as_str().len(),
            Err(error) => serde_json::to_string(error).map_or(usize::MAX, |text| text.len()),
        };
        let mut entries = self.swept(now_ms);
        if !ended.is_final {
            entries.remove(&call);
        } else if let Some(entry) = entries.get_mut(&call) {
            entry.at_ms = now_ms;
            let kept = (bytes <= MAX_OUTCOME_BYTES).then(|| Kept { outcome: outcome.clone(), bytes });
            entry.stand = Stand::Ended(kept);
            make_room(&mut entries);
        }
        drop(entries);
        told.send_replace(Some(outcome));
    }

    /// Forgets a call that did not begin.
    fn forget(&self, call: Call) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&call);
    }
}

fn repeated(entry: &Entry, what: What) -> Result<Turn, ErrorShape> {
    if entry.what != what {
        return Err(ErrorShape::invalid("this idempotencyKey was used for another call; use a new one"));
    }
    match &entry.stand {
        Stand::Runs(outcome) => Ok(Turn::Runs(outcome.clone())),
        Stand::Ended(Some(kept)) => Ok(Turn::Ended(kept.outcome.clone())),
        Stand::Ended(None) => Err(unavailable(
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
        Call(hash(&["client", "token", "m", "n", &number.to_string()]))
    }

    fn what(command: &str) -> What {
        What::of(&[command])
    }

    fn ended(outcome: Outcome) -> Ended {
        Ended { outcome, is_final: true }
    }

    fn first(once: &Once, number: usize, now_ms: u64) -> watch::Sender<Option<Outcome>> {
        let Ok(Turn::First(sender)) = once.turn(call(number), what("a"), now_ms) else { panic!("it is the first") };
        sender
    }

    fn kept(once: &Once) -> usize {
        once.entries.lock().unwrap().values().map(Entry::bytes).sum()
    }

    #[test]
    fn nothing_that_tells_calls_apart_can_pass_for_something_else() {
        let parts = [["ab", "c"], ["a", "bc"], ["abc", ""], ["", "abc"]];
        let hashes: std::collections::HashSet<_> = parts.iter().map(|parts| hash(parts)).collect();
        assert_eq!(hashes.len(), parts.len());
    }

    #[test]
    fn a_key_stands_for_one_call_and_room_is_made_by_what_has_ended() {
        let once = Once::default();
        let sender = first(&once, 0, 0);
        assert!(matches!(once.turn(call(0), what("a"), 1), Ok(Turn::Runs(_))));
        assert!(once.turn(call(0), what("b"), 1).is_err());
        let running: Vec<_> = (1..MAX_KEPT).map(|number| first(&once, number, 1)).collect();
        assert!(once.turn(call(MAX_KEPT), what("a"), 2).is_err(), "all of them run");
        once.end(call(0), &sender, ended(Ok(Payload::Own("1".into()))), 2);
        assert!(matches!(once.turn(call(MAX_KEPT), what("a"), 2), Ok(Turn::First(_))));
        assert!(matches!(once.turn(call(1), what("a"), TOLD_FOR_MS * 2), Ok(Turn::Runs(_))), "it still runs");
        drop(running);
        assert!(matches!(once.turn(call(1), what("a"), TOLD_FOR_MS * 2), Ok(Turn::First(_))));
    }

    #[test]
    fn an_outcome_is_told_again_for_a_time_that_begins_with_the_end() {
        let once = Once::default();
        let sender = first(&once, 0, 0);
        let late_ms = TOLD_FOR_MS * 2;
        once.end(call(0), &sender, ended(Ok(Payload::Own("1".into()))), late_ms);
        let last_ms = late_ms + TOLD_FOR_MS - 1;
        let Ok(Turn::Ended(Ok(outcome))) = once.turn(call(0), what("a"), last_ms) else { panic!("it is kept") };
        assert!(matches!(&outcome, Payload::Shared(text) if &**text == "1"), "nobody gets a copy of their own");
        assert!(matches!(once.turn(call(0), what("a"), last_ms + 1), Ok(Turn::First(_))));
    }

    #[test]
    fn what_is_not_final_is_told_to_who_waits_and_not_kept() {
        let once = Once::default();
        let sender = first(&once, 0, 0);
        let waits = sender.subscribe();
        once.end(call(0), &sender, Ended { outcome: Err(unavailable("busy")), is_final: false }, 1);
        assert!(waits.borrow().is_some());
        assert!(matches!(once.turn(call(0), what("b"), 1), Ok(Turn::First(_))), "also for another call");
    }

    #[test]
    fn outcomes_are_kept_within_a_number_of_bytes_and_that_a_call_has_run_beyond() {
        let once = Once::default();
        let text = "x".repeat(MAX_OUTCOME_BYTES);
        let most = MAX_BYTES / MAX_OUTCOME_BYTES;
        for number in 0..=most {
            let sender = first(&once, number, 0);
            once.end(call(number), &sender, ended(Ok(Payload::Own(text.clone()))), number as u64);
        }
        assert_eq!(kept(&once), MAX_BYTES);
        assert!(once.turn(call(0), what("a"), 1).is_err(), "it does not run again all the same");
        assert!(matches!(once.turn(call(1), what("a"), 1), Ok(Turn::Ended(_))));
        for outcome in [Ok(Payload::Own(format!("{text}x"))), Err(ErrorShape::invalid(text.clone()))] {
            let sender = first(&once, 900, 1);
            let waits = sender.subscribe();
            once.end(call(900), &sender, ended(outcome), 1);
            assert!(waits.borrow().is_some(), "who waits is told all of it");
            assert!(once.turn(call(900), what("a"), 1).is_err());
            assert_eq!(kept(&once), MAX_BYTES);
            once.forget(call(900));
        }
    }
}
