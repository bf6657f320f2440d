//! Who is connected at all: the cap on connections, and the moment when nobody is connected any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Every open connection, of whatever kind.
#[derive(Clone)]
pub(crate) struct Crowd {
    places: Arc<Semaphore>,
    most: usize,
    left: Arc<Notify>,
}

/// A connection's place; held as long as its socket lives.
pub(crate) struct Place {
    // Dropped in this order: whoever is told that somebody left finds the place free.
    _place: OwnedSemaphorePermit,
    _leaving: Leaving,
}

struct Leaving(Arc<Notify>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Crowd {
    /// Room for `most` connections.
    pub(crate) fn new(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), most, left: Arc::default() }
    }

    /// A place, if there is one.
    pub(crate) fn enter(&self) -> Option<Place> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { _place: place, _leaving: Leaving(Arc::clone(&self.left)) })
    }

    /// Waits until nobody left for as long as `pause` after somebody did, and nobody is there. Those who come and go within the
    /// pause count as one.
    pub(crate) async fn gone(&self, pause: Duration) {
        loop {
            self.left.notified().await;
            // Whoever else leaves meanwhile starts the pause anew, and is not told of once more.
            while tokio::time::timeout(pause, self.left.notified()).await.is_ok() {}
            if self.places.available_permits() == self.most {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn nobody_is_there_once_the_last_has_gone_and_not_before() {
        let crowd = Crowd::new(3);
        let is_gone = || async { tokio::time::timeout(PAUSE * 10, crowd.gone(PAUSE)).await.is_ok() };
        assert!(!is_gone().await, "nobody ever came");
        let (first, second) = (crowd.enter().unwrap(), crowd.enter().unwrap());
        drop(first);
        assert!(!is_gone().await, "one is still there");
        drop(second);
        assert!(is_gone().await);
        assert!(!is_gone().await, "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_begins_when_the_last_one_leaves() {
        let crowd = Crowd::new(3);
        let (first, last) = (crowd.enter().unwrap(), crowd.enter().unwrap());
        {
            let gone = crowd.gone(PAUSE);
            tokio::pin!(gone);
            drop(first);
            assert!(tokio::time::timeout(PAUSE / 2, gone.as_mut()).await.is_err());
            drop(last);
            assert!(tokio::time::timeout(PAUSE * 3 / 4, gone.as_mut()).await.is_err(), "less than a pause ago");
            assert!(tokio::time::timeout(PAUSE / 2, gone).await.is_ok());
        }
        assert!(tokio::time::timeout(PAUSE * 10, crowd.gone(PAUSE)).await.is_err(), "told once of both");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_within_the_pause_keeps_it_from_being_empty() {
        let crowd = Crowd::new(3);
        drop(crowd.enter());
        let gone = crowd.gone(PAUSE);
        tokio::pin!(gone);
        assert!(tokio::time::timeout(PAUSE / 2, gone.as_mut()).await.is_err());
        let late = crowd.enter();
        assert!(tokio::time::timeout(PAUSE * 10, gone.as_mut()).await.is_err());
        drop(late);
        gone.await;
    }

    #[test]
    fn there_are_so_many_places_and_no_more() {
        let crowd = Crowd::new(1);
        let only = crowd.enter();
        assert!(only.is_some() && crowd.enter().is_none());
        drop(only);
        assert!(crowd.enter().is_some());
    }
}
