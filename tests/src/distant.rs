//! A collection that is some way off.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sosa::{
    Collection, Condition, DestroyOptions, Entry, ListOptions, LoadOptions, Model, Page, Result, Revision, SaveOptions,
    async_trait,
};
use tokio::sync::watch;
use tokio::task;
use tokio::time::sleep;

tokio::task_local! {
    static ASKED: Arc<Asked>;
}

/// What some task has asked of distant collections.
#[derive(Debug, Default)]
pub struct Asked {
    calls: AtomicUsize,
    conflicts: AtomicUsize,
}

impl Asked {
    /// Carries this out, and notes what it asks.
    pub async fn by<R>(self: &Arc<Self>, work: impl Future<Output = R>) -> R {
        ASKED.scope(self.clone(), work).await
    }

    /// Returns how many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Returns how many of them ended with a conflict.
    pub fn conflicts(&self) -> usize {
        self.conflicts.load(Ordering::SeqCst)
    }
}

/// How far off.
#[derive(Clone, Copy, Debug)]
pub enum Distance {
    /// There and back take so long together, and never less than a moment for others.
    Time(Duration),
    /// Up to so many others have their moment on the way there, and on the way back.
    Moments(u8),
}

impl Distance {
    async fn travel(self) {
        match self {
            Self::Time(Duration::ZERO) => task::yield_now().await,
            Self::Time(time) => sleep(time / 2).await,
            Self::Moments(most) => {
                for _ in 0..fastrand::u8(..most) {
                    task::yield_now().await;
                }
            }
        }
    }
}

/// A collection that is some way off, as one behind a network is, and counts.
#[derive(Clone)]
pub struct Distant<C> {
    inner: C,
    distance: Distance,
    /// How many saves over a revision have succeeded.
    updates: watch::Sender<usize>,
}

impl<C> Distant<C> {
    /// Puts a collection so far away.
    pub fn new(inner: C, distance: Distance) -> Self {
        Self { inner, distance, updates: watch::Sender::default() }
    }

    /// Returns how many saves on condition of a revision have succeeded, by whomever.
    pub fn updates(&self) -> usize {
        *self.updates.borrow()
    }

    /// Waits until there are so many of them.
    pub async fn reaches(&self, updates: usize) {
        let reached = self.updates.subscribe().wait_for(|so_far| *so_far >= updates).await.map(drop);
        reached.expect("this is a sender");
    }

    async fn call<R>(&self, call: impl Future<Output = Result<R>>) -> Result<R> {
        self.distance.travel().await;
        let answer = call.await;
        self.distance.travel().await;
        // Most tasks do not ask what they asked.
        let _ = ASKED.try_with(|asked| {
            asked.calls.fetch_add(1, Ordering::SeqCst);
            let is_conflict = answer.as_ref().is_err_and(sosa::Error::is_conflict);
            asked.conflicts.fetch_add(is_conflict.into(), Ordering::SeqCst);
        });
        answer
    }
}

#[async_trait]
impl<T: Model, C: Collection<T>> Collection<T> for Distant<C> {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        self.call(self.inner.load_with(id, options)).await
    }

    async fn save_with(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let is_update = matches!(options.condition, Condition::Revision(_));
        let saved = self.call(self.inner.save_with(id, value, options)).await;
        self.updates.send_if_modified(|updates| {
            *updates += usize::from(is_update && saved.is_ok());
            is_update
        });
        saved
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        self.call(self.inner.destroy_with(id, options)).await
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<T>> {
        self.call(self.inner.list_with(options)).await
    }
}

impl<C> fmt::Debug for Distant<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distant").field("distance", &self.distance).finish_non_exhaustive()
    }
}
