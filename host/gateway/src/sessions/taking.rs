//! Messages of a connection that are being taken on: an end that it asks for afterwards is to find their runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::handshake::Session;

/// How many there are.
#[derive(Debug, Default)]
pub(crate) struct Taking {
    count: AtomicUsize,
    over: Notify,
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Begun(Arc<Session>);

impl Begun {
    pub(crate) fn by(session: &Arc<Session>) -> Self {
        session.taking.count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(session))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.0.taking.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.taking.over.notify_waiters();
        }
    }
}

impl Taking {
    /// Waits until each of them was taken on or refused.
    pub(crate) async fn is_over(&self) {
        loop {
            let mut over = std::pin::pin!(self.over.notified());
            over.as_mut().enable();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            over.await;
        }
    }
}
