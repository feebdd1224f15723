//! Tells an observer of each call.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::{
    Collection, DestroyOptions, Entry, ErrorKind, ListOptions, LoadOptions, Model, Operation, Page, Result, Revision,
    SaveOptions,
};

/// Gets told of each call of an [`Instrumented`] collection, once it has ended. A function of a
/// [`Call`] is one.
///
/// It runs within the call, so it should be quick.
pub trait Observer: Send + Sync {
    /// Takes note of a call.
    fn observe(&self, call: &Call);
}

impl<F: Fn(&Call) + Send + Sync> Observer for F {
    fn observe(&self, call: &Call) {
        self(call);
    }
}

/// A call that has ended. It holds no id and no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The name that the collection was given.
    pub backend: &'static str,
    /// The verb; a load that touches is [`Operation::Touch`].
    pub operation: Operation,
    /// How it ended.
    pub ending: Ending,
    /// How long it took.
    pub duration: Duration,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// It did what was asked.
    Done,
    /// There was no entry to load or destroy.
    Absent,
    /// It failed.
    Failed(ErrorKind),
    /// The caller dropped it before it had ended, at a timeout for example.
    Dropped,
}

/// A collection that tells an [`Observer`] of each call. Made by
/// [`CollectionExt::instrumented`](crate::CollectionExt::instrumented).
///
/// ```
/// use sosa::{Call, Collection, CollectionExt, Ending, Operation};
/// use std::sync::{Arc, Mutex};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa::Result<()> {
/// let calls = Arc::new(Mutex::new(Vec::new()));
/// let observer = {
///     let calls = calls.clone();
///     move |call: &Call| calls.lock().unwrap().push((call.operation, call.ending))
/// };
/// let people = sosa_memory::new("myapp").collection::<String>("people").instrumented("memory", observer);
/// people.load("ada").await?;
/// assert_eq!(*calls.lock().unwrap(), [(Operation::Load, Ending::Absent)]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Instrumented<C, O> {
    inner: C,
    backend: &'static str,
    observer: O,
}

impl<C, O: Observer> Instrumented<C, O> {
    /// Tells the observer of each call, under this name of the backend.
    pub fn new(inner: C, backend: &'static str, observer: O) -> Self {
        Self { inner, backend, observer }
    }

    /// Returns the collection within, of whose calls the observer is not told.
    pub fn inner(&self) -> &C {
        &self.inner
    }

    fn start(&self, operation: Operation) -> Started<'_> {
        let observer = &self.observer;
        Started { observer, backend: self.backend, operation, ending: Ending::Dropped, started: Instant::now() }
    }
}

/// A call under way. The observer is told when it is dropped, so that one which is dropped early is
/// told of as well.
struct Started<'a> {
    observer: &'a dyn Observer,
    backend: &'static str,
    operation: Operation,
    ending: Ending,
    started: Instant,
}

impl Started<'_> {
    fn end<R>(mut self, result: Result<R>, absent: impl FnOnce(&R) -> bool) -> Result<R> {
        self.ending = match &result {
            Ok(value) if absent(value) => Ending::Absent,
            Ok(_) => Ending::Done,
            Err(error) => Ending::Failed(error.kind()),
        };
        result
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let Self { observer, backend, operation, ending, started } = self;
        observer.observe(&Call { backend, operation: *operation, ending: *ending, duration: started.elapsed() });
    }
}

#[async_trait]
impl<T: Model, C: Collection<T>, O: Observer> Collection<T> for Instrumented<C, O> {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        let call = self.start(if options.touch.is_some() { Operation::Touch } else { Operation::Load });
        call.end(self.inner.load_with(id, options).await, Option::is_none)
    }

    async fn save_with(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let call = self.start(Operation::Save);
        call.end(self.inner.save_with(id, value, options).await, |_| false)
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let call = self.start(Operation::Destroy);
        call.end(self.inner.destroy_with(id, options).await, |destroyed| !destroyed)
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<T>> {
        let call = self.start(Operation::List);
        call.end(self.inner.list_with(options).await, |_| false)
    }
}

impl<C: fmt::Debug, O> fmt::Debug for Instrumented<C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, backend, observer: _ } = self;
        f.debug_struct("Instrumented").field("inner", inner).field("backend", backend).finish_non_exhaustive()
    }
}
