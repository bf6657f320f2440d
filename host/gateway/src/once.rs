//! Calls that are asked for again: the same idempotency key of the same caller runs a call of one method once, however
//! often it is asked for, also by another connection of that caller. It knows nothing of what a call does.
//!
//! No caller can have another's calls forgotten or keep them from running: who has many makes room among its own first.

use std::collections::{HashMap, VecDeque};
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

/// Calls that are remembered; beyond that the oldest of their caller that have ended are forgotten, then the oldest of all.
const MAX_KEPT: usize = 16 * 1024;
/// Calls of one caller that may run at once.
const MAX_RUNNING: usize = 1000;
/// Time after its end for which the outcome of a call is told again.
const TOLD_FOR_MS: u64 = 300_000;
/// Bytes of one outcome that is kept; of a longer one only that the call has run.
const MAX_OUTCOME_BYTES: usize = 256 * 1024;
/// Bytes of all outcomes that are kept; beyond that it is forgotten what became of the calls that ended first, and not that
/// they have run.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Texts of any length, as their SHA-256.
type Sha256Sum = [u8; 32];

/// What makes two calls the same, as hashes: a key may be long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    by: Sha256Sum,
    what: Sha256Sum,
}

impl Call {
    /// A caller's key for a method. `target` is whom the method is about, where keys are told apart by that; else empty.
    pub(crate) fn of(caller: &Caller, method: &str, target: &str, key: &str) -> Self {
        Self { by: hash(&[&caller.kind, &caller.id]), what: hash(&[method, target, key]) }
    }

    /// A key for somebody who knows no callers: that of this caller and call, and of what is asked for. So no two calls that
    /// are told apart here are one there.
    pub(crate) fn key_for_others(&self, asked: What) -> String {
        let mut all = Sha256::new();
        for part in [self.by, self.what, asked.0] {
            all.update(part);
        }
        all.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a call asks for, as its hash: a key stands for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct What(Sha256Sum);

impl What {
    /// All that it asks for.
    pub(crate) fn of(parts: &[&str]) -> Self {
        Self(hash(parts))
    }
}

/// With the lengths, so that no part can pass for two.
fn hash(parts: &[&str]) -> Sha256Sum {
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
    /// When it has ended; what runs is not over at any time.
    ended_at_ms: u64,
    stand: Stand,
}

impl Entry {
    fn is_over(&self, now_ms: u64) -> bool {
        matches!(self.stand, Stand::Ended(_)) && self.ended_at_ms.saturating_add(TOLD_FOR_MS) <= now_ms
    }
}

/// Every call that runs or has ended a short while ago.
#[derive(Default)]
struct Entries {
    by_call: HashMap<Call, Entry>,
    /// Those that have ended, the first of them first, with the time. One that ran again since is among them by its old time.
    ended: VecDeque<(Call, u64)>,
    /// Of these, those whose outcome is kept.
    kept: VecDeque<(Call, u64)>,
    kept_bytes: usize,
    /// How many run, by caller.
    running: HashMap<Sha256Sum, usize>,
}

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

/// A call that runs. It has ended when this is dropped, whatever became of it.
struct Running {
    state: Arc<State>,
    call: Call,
    told: watch::Sender<Option<Outcome>>,
    ended: Option<Ended>,
}

impl Running {
    fn end(mut self, ended: Ended) {
        self.ended = Some(ended);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have done a part of its work, so it does not run again by itself.
        let ended = self.ended.take().unwrap_or_else(|| Ended { outcome: broken_off(), is_final: true });
        self.state.once.end(self.call, &self.told, ended, self.state.now_ms());
    }
}

fn broken_off() -> Outcome {
    Err(unavailable("the call was broken off; retry later"))
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
    let told = match state.once.turn(call, what, state.now_ms())? {
        Turn::First(told) => told,
        Turn::Runs(outcome) => return Ok(Answer::Later(Box::pin(said(outcome)))),
        Turn::Ended(outcome) => return Ok(Answer::Now(outcome)),
    };
    let work = begin().inspect_err(|_| state.once.forget(call))?;
    let outcome = told.subscribe();
    let running = Running { state: Arc::clone(state), call, told, ended: None };
    tokio::spawn(async move {
        let ended = work.await;
        running.end(ended);
    });
    Ok(Answer::Later(Box::pin(said(outcome))))
}

async fn said(mut outcome: watch::Receiver<Option<Outcome>>) -> Outcome {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(broken_off),
        Err(_) => broken_off(),
    }
}

impl Once {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, call: Call, what: What, now_ms: u64) -> Result<Turn, ErrorShape> {
        let mut entries = self.lock();
        entries.forget_what_is_over(now_ms);
        if let Some(entry) = entries.by_call.get(&call).filter(|entry| !entry.is_over(now_ms)) {
            return repeated(entry, what);
        }
        entries.make_room(&call)?;
        let (told, outcome) = watch::channel(None);
        entries.put(call, Entry { what, ended_at_ms: 0, stand: Stand::Runs(outcome) });
        *entries.running.entry(call.by).or_default() += 1;
        Ok(Turn::First(told))
    }

    /// A call has ended: whoever waits for it is told, and whoever asks again for a while if that is final.
    fn end(&self, call: Call, told: &watch::Sender<Option<Outcome>>, ended: Ended, now_ms: u64) {
        let outcome = ended.outcome.map(Payload::shared);
        let bytes = match &outcome {
            Ok(payload) => payload.as_str().len(),
            Err(error) => serde_json::to_string(error).map_or(usize::MAX, |text| text.len()),
        };
        let mut entries = self.lock();
        let entry = entries.take_running(&call);
        if let (Some(entry), true) = (entry, ended.is_final) {
            let kept = (bytes <= MAX_OUTCOME_BYTES).then(|| Kept { outcome: outcome.clone(), bytes });
            entries.put(call, Entry { ended_at_ms: now_ms, stand: Stand::Ended(kept), ..entry });
        }
        drop(entries);
        told.send_replace(Some(outcome));
    }

    /// Forgets a call that did not begin.
    fn forget(&self, call: Call) {
        self.lock().take_running(&call);
    }
}

impl Entries {
    fn put(&mut self, call: Call, entry: Entry) {
        let at_ms = entry.ended_at_ms;
        if let Stand::Ended(kept) = &entry.stand {
            self.ended.push_back((call, at_ms));
            if let Some(kept) = kept {
                self.kept.push_back((call, at_ms));
                self.kept_bytes = self.kept_bytes.saturating_add(kept.bytes);
            }
        }
        if let Some(old) = self.by_call.insert(call, entry) {
            self.no_longer_kept(&old);
        }
        self.keep_within_bytes();
    }

    fn no_longer_kept(&mut self, entry: &Entry) {
        if let Stand::Ended(Some(kept)) = &entry.stand {
            self.kept_bytes = self.kept_bytes.saturating_sub(kept.bytes);
        }
    }

    /// Forgets what became of the calls that ended first, until the others fit.
    fn keep_within_bytes(&mut self) {
        if self.kept.len() > 2 * MAX_KEPT {
            // Most of these made room for others.
            let by_call = &self.by_call;
            self.kept.retain(|(call, at_ms)| by_call.get(call).is_some_and(|entry| entry.ended_at_ms == *at_ms));
        }
        while self.kept_bytes > MAX_BYTES {
            let Some((call, at_ms)) = self.kept.pop_front() else { return };
            if let Some(entry) = self.by_call.get_mut(&call).filter(|entry| entry.ended_at_ms == at_ms)
                && let Stand::Ended(kept) = &mut entry.stand
            {
                self.kept_bytes = self.kept_bytes.saturating_sub(kept.take().map_or(0, |kept| kept.bytes));
            }
        }
    }

    /// Takes a call out that runs.
    fn take_running(&mut self, call: &Call) -> Option<Entry> {
        if !matches!(self.by_call.get(call)?.stand, Stand::Runs(_)) {
            return None;
        }
        if let Some(count) = self.running.get_mut(&call.by) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(&call.by);
            }
        }
        self.by_call.remove(call)
    }

    /// Forgets a call that ended at that time, unless it ran again since.
    fn forget(&mut self, call: &Call, ended_at_ms: u64) {
        let is_that = |entry: &Entry| matches!(entry.stand, Stand::Ended(_)) && entry.ended_at_ms == ended_at_ms;
        if self.by_call.get(call).is_some_and(is_that)
            && let Some(entry) = self.by_call.remove(call)
        {
            self.no_longer_kept(&entry);
        }
    }

    fn forget_what_is_over(&mut self, now_ms: u64) {
        let is_over = |(_, at_ms): &(Call, u64)| at_ms.saturating_add(TOLD_FOR_MS) <= now_ms;
        while let Some((call, at_ms)) = self.ended.pop_front_if(|ended| is_over(ended)) {
            self.forget(&call, at_ms);
        }
        while self.kept.pop_front_if(|ended| is_over(ended)).is_some() {}
    }

    /// Sees to it that a call of that caller can be remembered.
    fn make_room(&mut self, call: &Call) -> Result<(), ErrorShape> {
        let too_many = || unavailable("too many calls with idempotency keys run; retry later");
        if self.running.get(&call.by).is_some_and(|count| *count >= MAX_RUNNING) {
            return Err(too_many());
        }
        while self.by_call.len() >= MAX_KEPT {
            let own = self.ended.iter().position(|(ended, _)| ended.by == call.by).unwrap_or(0);
            let (ended, at_ms) = self.ended.remove(own).ok_or_else(too_many)?;
            self.forget(&ended, at_ms);
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn call_of(by: usize, number: usize) -> Call {
        Call { by: hash(&[&by.to_string()]), what: hash(&["m", "n", &number.to_string()]) }
    }

    fn call(number: usize) -> Call {
        call_of(0, number)
    }

    fn what(command: &str) -> What {
        What::of(&[command])
    }

    fn done(text: &str) -> Ended {
        Ended { outcome: Ok(Payload::Own(text.into())), is_final: true }
    }

    fn first(once: &Once, call: Call, now_ms: u64) -> watch::Sender<Option<Outcome>> {
        let Ok(Turn::First(told)) = once.turn(call, what("a"), now_ms) else { panic!("it is the first") };
        told
    }

    /// The call runs and ends at once.
    fn pass(once: &Once, call: Call, ended: Ended, now_ms: u64) {
        let told = first(once, call, now_ms);
        once.end(call, &told, ended, now_ms);
    }

    fn is_known(once: &Once, call: Call) -> bool {
        once.lock().by_call.contains_key(&call)
    }

    /// What is counted is what is there.
    fn assert_whole(once: &Once) {
        let entries = once.lock();
        let bytes = |entry: &Entry| if let Stand::Ended(Some(kept)) = &entry.stand { kept.bytes } else { 0 };
        assert_eq!(entries.kept_bytes, entries.by_call.values().map(bytes).sum::<usize>());
        let runs = entries.by_call.values().filter(|entry| matches!(entry.stand, Stand::Runs(_))).count();
        assert_eq!(entries.running.values().sum::<usize>(), runs);
        assert!(entries.by_call.len() <= MAX_KEPT && entries.ended.len() + runs >= entries.by_call.len());
    }

    #[test]
    fn nothing_that_tells_calls_apart_can_pass_for_something_else() {
        let parts = [["ab", "c"], ["a", "bc"], ["abc", ""], ["", "abc"]];
        let hashes: std::collections::HashSet<_> = parts.iter().map(|parts| hash(parts)).collect();
        assert_eq!(hashes.len(), parts.len());
        let keys = [(call(0), "a"), (call(1), "a"), (call_of(1, 0), "a"), (call(0), "b")];
        let others: std::collections::HashSet<_> =
            keys.iter().map(|(call, asked)| call.key_for_others(what(asked))).collect();
        assert_eq!(others.len(), keys.len());
        assert_eq!(call(0).key_for_others(what("a")), call(0).key_for_others(what("a")));
    }

    #[test]
    fn a_key_stands_for_one_call_and_one_caller_cannot_keep_others_from_running() {
        let once = Once::default();
        let told = first(&once, call(0), 0);
        assert!(matches!(once.turn(call(0), what("a"), 1), Ok(Turn::Runs(_))));
        assert!(once.turn(call(0), what("b"), 1).is_err());
        let running: Vec<_> = (1..MAX_RUNNING).map(|number| first(&once, call(number), 1)).collect();
        assert!(once.turn(call(MAX_RUNNING), what("a"), 2).is_err(), "all that it may run do");
        drop(first(&once, call_of(1, 0), 2));
        once.end(call(0), &told, done("1"), 2);
        drop(first(&once, call(MAX_RUNNING), 2));
        assert!(matches!(once.turn(call(1), what("a"), TOLD_FOR_MS * 2), Ok(Turn::Runs(_))), "it still runs");
        once.forget(call(1));
        assert!(matches!(once.turn(call(1), what("a"), 3), Ok(Turn::First(_))), "it did not begin");
        assert_whole(&once);
        drop(running);
    }

    #[test]
    fn who_has_many_makes_room_among_its_own() {
        let once = Once::default();
        pass(&once, call_of(1, 0), done("1"), 0);
        for number in 1..MAX_KEPT {
            pass(&once, call(number), done("1"), 1);
        }
        assert_whole(&once);
        pass(&once, call(MAX_KEPT), done("1"), 2);
        assert!(is_known(&once, call_of(1, 0)) && !is_known(&once, call(1)) && is_known(&once, call(2)));
        assert!(matches!(once.turn(call_of(1, 0), what("a"), 2), Ok(Turn::Ended(_))), "another's is told as before");
        pass(&once, call_of(2, 0), done("1"), 3);
        assert!(!is_known(&once, call_of(1, 0)), "who has none takes the place of the oldest");
        assert_whole(&once);
    }

    #[test]
    fn an_outcome_is_told_again_for_a_time_that_begins_with_the_end() {
        let once = Once::default();
        let told = first(&once, call(0), 0);
        let late_ms = TOLD_FOR_MS * 2;
        once.end(call(0), &told, done("1"), late_ms);
        let last_ms = late_ms + TOLD_FOR_MS - 1;
        let Ok(Turn::Ended(Ok(outcome))) = once.turn(call(0), what("a"), last_ms) else { panic!("it is kept") };
        assert!(matches!(&outcome, Payload::Shared(text) if &**text == "1"), "nobody gets a copy of their own");
        pass(&once, call(0), done("22"), last_ms + 1);
        assert_eq!(once.lock().kept_bytes, 2);
        assert_whole(&once);
    }

    #[test]
    fn a_clock_that_goes_back_forgets_no_call_before_its_time() {
        let once = Once::default();
        pass(&once, call(0), done("1"), TOLD_FOR_MS);
        pass(&once, call(1), done("1"), 0);
        assert!(
            matches!(once.turn(call(1), what("a"), TOLD_FOR_MS), Ok(Turn::First(_))),
            "over, behind one that is not"
        );
        assert!(matches!(once.turn(call(0), what("a"), TOLD_FOR_MS), Ok(Turn::Ended(_))));
        assert!(
            matches!(once.turn(call(1), what("a"), TOLD_FOR_MS * 2), Ok(Turn::Runs(_))),
            "its old end is not its end"
        );
        assert_whole(&once);
    }

    #[test]
    fn what_is_not_final_is_told_to_who_waits_and_not_kept() {
        let once = Once::default();
        let told = first(&once, call(0), 0);
        let waits = told.subscribe();
        once.end(call(0), &told, Ended { outcome: Err(unavailable("busy")), is_final: false }, 1);
        assert!(waits.borrow().is_some());
        assert!(matches!(once.turn(call(0), what("b"), 1), Ok(Turn::First(_))), "also for another call");
    }

    #[test]
    fn outcomes_are_kept_within_a_number_of_bytes_and_that_a_call_has_run_beyond() {
        let once = Once::default();
        let text = "x".repeat(MAX_OUTCOME_BYTES);
        let most = MAX_BYTES / MAX_OUTCOME_BYTES;
        for number in 0..=most {
            pass(&once, call(number), done(&text), number as u64);
        }
        assert_eq!(once.lock().kept_bytes, MAX_BYTES);
        assert!(once.turn(call(0), what("a"), 1).is_err(), "it does not run again all the same");
        assert!(matches!(once.turn(call(1), what("a"), 1), Ok(Turn::Ended(_))));
        for (number, outcome) in [Ok(Payload::Own(format!("{text}x"))), Err(ErrorShape::invalid(text.clone()))]
            .into_iter()
            .enumerate()
            .map(|(number, outcome)| (900 + number, outcome))
        {
            let told = first(&once, call(number), 1);
            let waits = told.subscribe();
            once.end(call(number), &told, Ended { outcome, is_final: true }, 1);
            assert!(waits.borrow().is_some(), "who waits is told all of it");
            assert!(once.turn(call(number), what("a"), 1).is_err());
            assert_eq!(once.lock().kept_bytes, MAX_BYTES);
        }
        assert_whole(&once);
    }
}
