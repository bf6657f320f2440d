//! Documents of one kind, kept in memory and stored before a change is answered.
//!
//! Reading takes no lock that a writer holds while it waits. Changes of one shelf happen one after the other, so what a
//! change was decided on is still true when it is stored. A change that is being stored is carried through, also when
//! whoever asked for it goes away: what is stored and what is shown are never two things.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use leanclaw_types::Failure;
use leanclaw_types::audit::AuditRecord;
use leanclaw_types::frame::ErrorShape;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedMutexGuard;

use crate::services::{RecordChange, Records};

/// Documents by id, in the order of their ids.
pub(crate) struct Shelf<T> {
    kind: &'static str,
    records: Arc<dyn Records>,
    items: Arc<RwLock<Items<T>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

type Items<T> = BTreeMap<String, Arc<T>>;

/// What a change comes to: the new documents (none takes one away) and the audit rows that go with them.
pub(crate) struct Change<T> {
    items: Vec<(String, Option<T>)>,
    audit: Vec<AuditRecord>,
}

impl<T> Change<T> {
    /// Nothing changes.
    pub(crate) fn nothing() -> Self {
        Self { items: Vec::new(), audit: Vec::new() }
    }

    pub(crate) fn put(mut self, id: impl Into<String>, item: T) -> Self {
        self.items.push((id.into(), Some(item)));
        self
    }

    pub(crate) fn remove(mut self, id: impl Into<String>) -> Self {
        self.items.push((id.into(), None));
        self
    }

    pub(crate) fn audit(mut self, record: AuditRecord) -> Self {
        self.audit.push(record);
        self
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Shelf<T> {
    /// Reads what is stored. A document that this program cannot read (a newer one wrote it) is left alone, with a
    /// warning.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(records: &Arc<dyn Records>, kind: &'static str) -> Result<Self, Failure> {
        let mut items = BTreeMap::new();
        for (id, body) in records.load(kind)? {
            match serde_json::from_str(&body) {
                Ok(item) => drop(items.insert(id, Arc::new(item))),
                Err(error) => tracing::warn!(kind, id, %error, "a stored document cannot be read; it is not used"),
            }
        }
        Ok(Self { kind, records: Arc::clone(records), items: Arc::new(RwLock::new(items)), turn: Arc::default() })
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<T>> {
        self.items.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All of them, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<(String, Arc<T>)> {
        let items = self.items.read().unwrap_or_else(PoisonError::into_inner);
        items.iter().map(|(id, item)| (id.clone(), Arc::clone(item))).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Decides on a change with no other in between, stores it, and only then shows it to readers.
    ///
    /// # Errors
    /// What `decide` says, or `UNAVAILABLE` when it cannot be stored: then nothing changed.
    pub(crate) async fn change<R>(
        &self,
        decide: impl FnOnce(&Self) -> Result<(Change<T>, R), ErrorShape>,
    ) -> Result<R, ErrorShape> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (change, result) = decide(self)?;
        let change = self.prepared(change)?;
        carried_out(&self.records, vec![change], vec![turn]).await?;
        Ok(result)
    }

    /// As [`Self::change`], of two shelves in one write: with no other change of either in between. Whoever changes the same
    /// two has to name them in the same order.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(crate) async fn change_with<U, R>(
        &self,
        other: &Shelf<U>,
        decide: impl FnOnce(&Self, &Shelf<U>) -> Result<(Change<T>, Change<U>, R), ErrorShape>,
    ) -> Result<R, ErrorShape>
    where
        U: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let turns = vec![Arc::clone(&self.turn).lock_owned().await, Arc::clone(&other.turn).lock_owned().await];
        let (own, others, result) = decide(self, other)?;
        let changes = vec![self.prepared(own)?, other.prepared(others)?];
        carried_out(&self.records, changes, turns).await?;
        Ok(result)
    }

    /// A change as it is stored, and what shows it afterwards.
    fn prepared(&self, change: Change<T>) -> Result<Prepared, ErrorShape> {
        let mut stored = Vec::with_capacity(change.items.len());
        for (id, item) in &change.items {
            let body = item.as_ref().map(serde_json::to_string).transpose();
            let body = body.map_err(|error| crate::error::unavailable(&format!("cannot be stored: {error}")))?;
            stored.push(RecordChange { kind: self.kind, id: id.clone(), body });
        }
        let items = Arc::clone(&self.items);
        let show = Box::new(move || {
            let mut items = items.write().unwrap_or_else(PoisonError::into_inner);
            for (id, item) in change.items {
                match item {
                    Some(item) => drop(items.insert(id, Arc::new(item))),
                    None => drop(items.remove(&id)),
                }
            }
        });
        Ok(Prepared { stored, audit: change.audit, show })
    }
}

/// A change of one shelf, decided on and not stored yet.
struct Prepared {
    stored: Vec<RecordChange>,
    audit: Vec<AuditRecord>,
    show: Box<dyn FnOnce() + Send>,
}

/// Stores changes in one write and shows them. Nobody else gets a turn before that.
async fn carried_out(
    records: &Arc<dyn Records>,
    changes: Vec<Prepared>,
    turns: Vec<OwnedMutexGuard<()>>,
) -> Result<(), ErrorShape> {
    let (mut stored, mut audit, mut shows) = (Vec::new(), Vec::new(), Vec::new());
    for change in changes {
        stored.extend(change.stored);
        audit.extend(change.audit);
        shows.push(change.show);
    }
    if stored.is_empty() && audit.is_empty() {
        return Ok(());
    }
    let records = Arc::clone(records);
    let storing = tokio::spawn(async move {
        let _turns = turns;
        records.change(stored, audit).await?;
        for show in shows {
            show();
        }
        Ok::<_, Failure>(())
    });
    let outcome = storing.await.unwrap_or_else(|_| Err(Failure::unavailable("the program ends")));
    outcome.map_err(|failure| crate::error::unavailable(&failure.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fake::MemoryRecords;

    #[tokio::test]
    async fn what_is_stored_is_there_for_the_next_and_what_is_not_changes_nothing() {
        let memory = Arc::new(MemoryRecords::default());
        let records: Arc<dyn Records> = memory.clone();
        let shelf: Shelf<u32> = Shelf::open(&records, "number").unwrap();
        shelf.change(|_| Ok((Change::nothing().put("a", 1).put("b", 2), ()))).await.unwrap();
        let took = shelf.change(|shelf| Ok((Change::nothing().remove("a"), shelf.get("a").map(|item| *item)))).await;
        assert_eq!(took.unwrap(), Some(1));
        memory.broken.store(true, std::sync::atomic::Ordering::SeqCst);
        let error = shelf.change(|_| Ok((Change::nothing().put("b", 3), ()))).await.unwrap_err();
        assert_eq!(error.code, "UNAVAILABLE");
        assert_eq!(shelf.get("b").as_deref(), Some(&2));
        memory.broken.store(false, std::sync::atomic::Ordering::SeqCst);
        let again: Shelf<u32> = Shelf::open(&records, "number").unwrap();
        assert_eq!(again.all(), [("b".to_owned(), Arc::new(2))]);
        let other: Shelf<String> = Shelf::open(&records, "number").unwrap();
        assert_eq!(other.len(), 0, "what cannot be read is left alone");
        assert_eq!(records.load("number").unwrap().len(), 1);
    }

    /// Stores when it is let.
    #[derive(Default)]
    struct SlowRecords {
        begun: tokio::sync::Notify,
        goes_on: tokio::sync::Notify,
    }

    #[async_trait::async_trait]
    impl Records for SlowRecords {
        fn load(&self, _: &str) -> Result<Vec<(String, String)>, Failure> {
            Ok(Vec::new())
        }

        async fn change(&self, _: Vec<RecordChange>, _: Vec<AuditRecord>) -> Result<(), Failure> {
            self.begun.notify_one();
            self.goes_on.notified().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_change_is_shown_also_when_whoever_asked_went_away_while_it_was_stored() {
        let slow = Arc::new(SlowRecords::default());
        let records: Arc<dyn Records> = slow.clone();
        let shelf: Arc<Shelf<u32>> = Arc::new(Shelf::open(&records, "number").unwrap());
        let asked = Arc::clone(&shelf);
        let asking = tokio::spawn(async move { asked.change(|_| Ok((Change::nothing().put("a", 1), ()))).await });
        slow.begun.notified().await;
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        assert_eq!(shelf.get("a"), None, "it is not stored yet");
        slow.goes_on.notify_one();
        // The next change has to wait for that one.
        slow.goes_on.notify_one();
        let next = shelf.change(|shelf| Ok((Change::nothing(), shelf.get("a").map(|item| *item)))).await;
        assert_eq!(next.unwrap(), Some(1));
    }

    #[tokio::test]
    async fn changes_are_decided_one_after_the_other() {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::default());
        let shelf: Arc<Shelf<u32>> = Arc::new(Shelf::open(&records, "number").unwrap());
        let add = |_| {
            let shelf = Arc::clone(&shelf);
            tokio::spawn(async move {
                let next = |shelf: &Shelf<u32>| shelf.get("n").map_or(0, |number| *number) + 1;
                shelf.change(|shelf| Ok((Change::nothing().put("n", next(shelf)), ()))).await.unwrap();
            })
        };
        for task in (0..50).map(add).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(shelf.get("n").as_deref(), Some(&50));
    }
}
