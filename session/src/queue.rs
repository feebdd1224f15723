//! A fair queue for each session on which requests collide.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::id::PublicId;

/// Requests that lost a race for a session wait here, in the order in which they lost. It is no lock: requests that
/// have not lost do not ask, and the condition of each save decides all the same, across processes too. It only keeps
/// many requests from making each other's saves fail over and over.
#[derive(Clone, Default)]
pub(crate) struct Queues(Arc<StdMutex<HashMap<PublicId, Arc<Mutex<()>>>>>);

/// A turn: the next in the queue waits until it is dropped.
pub(crate) struct Turn {
    queues: Queues,
    id: PublicId,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Queues {
    /// Waits for a turn.
    pub(crate) async fn enter(&self, id: PublicId) -> Turn {
        let queue = self.lock().entry(id).or_default().clone();
        let mut turn = Turn { queues: self.clone(), id, turn: None };
        turn.turn = Some(queue.lock_owned().await);
        turn
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PublicId, Arc<Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Clones of a queue are made under this lock alone, so a count of one is the map's own.
        let mut queues = self.queues.lock();
        self.turn = None;
        if queues.get(&self.id).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.id);
        }
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queues")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SessionId;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn turns_come_in_order_and_nothing_is_left() {
        let queues = Queues::default();
        let id = SessionId::random().unwrap().public_id();
        let first = queues.enter(id).await;
        let mut second = Box::pin(queues.enter(id));
        let mut third = Box::pin(queues.enter(id));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "who came later waits");
        drop(second);
        drop(third.await);
        assert!(queues.lock().is_empty());
    }
}
