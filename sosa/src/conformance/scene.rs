//! Where a rule plays: fresh places in a store, cleared afterwards.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::future::join_all;

use super::fixture::Fixture;
use super::probe::Probe;
use crate::{
    Collection, Condition, DestroyOptions, Entry, ErrorKind, Expiry, Item, ListOptions, LoadOptions, Page, Result,
    Revision, SaveOptions,
};

/// What one rule works with: collections under a prefix that nobody else has, and the store's time.
pub(super) struct Scene {
    fixture: Arc<dyn Fixture>,
    prefix: String,
    indexed: bool,
    written: Written,
}

/// Each place that was written to, and each id in it.
type Written = Arc<Mutex<BTreeSet<(Place, String)>>>;

/// Prefix, name and path.
type Place = (String, String, Vec<String>);

/// A handle, as the rules use it.
pub(super) type Handle = Arc<dyn Collection<Probe>>;

impl Scene {
    pub(super) fn new(fixture: Arc<dyn Fixture>, indexed: bool) -> Self {
        let prefix = format!("conformance {}", crate::new_id());
        Self { fixture, prefix, indexed, written: Written::default() }
    }

    /// Opens the collection that most rules need.
    pub(super) fn open(&self) -> Handle {
        self.at("", "things", &[])
    }

    /// Opens a collection under the scene's prefix and what is appended to it.
    pub(super) fn at(&self, prefix: &str, name: &str, path: &[&str]) -> Handle {
        let prefix = format!("{}{prefix}", self.prefix);
        Arc::new(Recorded {
            inner: self.fixture.collection(&prefix, name, path),
            place: (prefix, name.to_owned(), path.iter().map(|part| (*part).to_owned()).collect()),
            written: self.written.clone(),
        })
    }

    /// Opens the collection again, with a probe saved under each of these ids, its text the id.
    pub(super) async fn with_ids(&self, ids: &[&str]) -> Handle {
        let things = self.open();
        for id in ids {
            things.save(id, &Probe::new(*id)).await.expect("a plain save succeeds");
        }
        things
    }

    pub(super) fn fixture(&self) -> &dyn Fixture {
        &*self.fixture
    }

    pub(super) fn now(&self) -> SystemTime {
        self.fixture.now()
    }

    pub(super) fn short(&self) -> Duration {
        self.fixture.short()
    }

    pub(super) async fn elapse(&self, duration: Duration) {
        self.fixture.elapse(duration).await;
    }

    /// Asserts that exactly these ids are listed, or that listing is unsupported where it is.
    pub(super) async fn assert_listed(&self, things: &Handle, expected: &[&str]) {
        if self.indexed {
            assert_eq!(walk(things, ListOptions::new().limit(7)).await, expected, "other ids are listed");
        } else {
            assert_eq!(things.list().await.unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }

    /// Destroys all that was written.
    pub(super) async fn clear(&self) {
        let written = std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        let written: Vec<_> = written.into_iter().collect();
        for written in written.chunks(100) {
            let destroys = written.iter().map(async |((prefix, name, path), id)| {
                let path: Vec<_> = path.iter().map(String::as_str).collect();
                let _ = self.fixture.collection(prefix, name, &path).destroy(id).await;
            });
            join_all(destroys).await;
        }
    }
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene").field("prefix", &self.prefix).field("indexed", &self.indexed).finish_non_exhaustive()
    }
}

/// Walks all pages and returns the ids as they came.
pub(super) async fn walk(things: &Handle, options: ListOptions) -> Vec<String> {
    items(things, options).await.into_iter().map(|item| item.id).collect()
}

/// Walks all pages and returns the items as they came. A listing that does not end fails.
pub(super) async fn items(things: &Handle, options: ListOptions) -> Vec<Item<Probe>> {
    let mut items = Vec::new();
    let mut rest = Some(options);
    let mut empty = 0;
    while let Some(options) = rest {
        let page = things.list_with(options.clone()).await.expect("a page is listed");
        empty = if page.items.is_empty() { empty + 1 } else { 0 };
        items.extend(page.items);
        assert!(empty < 1000 && items.len() < 100_000, "the listing does not end");
        if let (Some(last), Some(next)) = (&options.cursor, &page.next) {
            assert!(last != next, "the listing does not go on");
        }
        rest = page.next.map(|next| options.cursor(next));
    }
    items
}

/// Loads a text.
pub(super) async fn text(things: &Handle, id: &str) -> Option<String> {
    things.load(id).await.expect("a load succeeds").map(|probe| probe.text())
}

/// Saves a text with options that are met.
pub(super) async fn put(things: &Handle, id: &str, text: &str, options: impl Into<SaveOptions>) -> Revision {
    things.save_with(id, &Probe::new(text), options.into()).await.expect("a save succeeds")
}

/// Loads an entry that is there.
pub(super) async fn entry(things: &Handle, id: &str) -> Entry<Probe> {
    things.load_with(id, LoadOptions::new()).await.expect("a load succeeds").expect("the entry is there")
}

/// Loads when an entry that is there expires.
pub(super) async fn expiry(things: &Handle, id: &str) -> Expiry {
    let entry = things.load_with(id, LoadOptions::new().with_expiry()).await.expect("a load succeeds");
    entry.expect("the entry is there").expiry.expect("the expiry was asked for")
}

/// Remembers what is written, so that it can be cleared.
#[derive(Debug)]
struct Recorded {
    inner: Handle,
    place: Place,
    written: Written,
}

#[async_trait]
impl Collection<Probe> for Recorded {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<Probe>>> {
        self.inner.load_with(id, options).await
    }

    async fn save_with(&self, id: &str, value: &Probe, options: SaveOptions) -> Result<Revision> {
        let written = (self.place.clone(), id.to_owned());
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(written);
        self.inner.save_with(id, value, options).await
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        self.inner.destroy_with(id, options).await
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<Probe>> {
        self.inner.list_with(options).await
    }
}

/// Saves an entry under each number, many at once.
pub(super) async fn fill(things: &Handle, numbers: std::ops::Range<usize>) {
    let ids: Vec<_> = numbers.map(|n| format!("{n:05}")).collect();
    for ids in ids.chunks(100) {
        join_all(ids.iter().map(async |id| put(things, id, id, Condition::Always).await)).await;
    }
}
