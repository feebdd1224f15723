//! What a writer does, one way or another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};
use sosa::{Call, Collection, CollectionExt, Condition, Expiry, LoadOptions, SaveOptions};
use sosa_peers::browser::Browser;
use sosa_peers::shop;
use sosa_redis::redis::Client;
use sosa_session::{SessionData, SessionOptions, Sessions};
use tokio::task::yield_now;
use tower_sessions::{MemoryStore, Session as TowerSession, session::Id};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Sessions of ours.
    Sessions,
    /// The same collection without them: who loses a race loads again and tries at once.
    Loop,
    /// Sessions of tower-sessions, in memory.
    Tower,
}

impl How {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Loop => "loop",
            Self::Tower => "tower",
        }
    }

    pub fn named(name: &str) -> Self {
        let all = [Self::Sessions, Self::Loop, Self::Tower];
        all.into_iter().find(|how| how.name() == name).expect("the name of a way")
    }
}

/// The record as the loop saves it.
type Record = Map<String, Value>;

/// Those who write one session.
pub struct Writers {
    way: Way,
    /// The cookie, or the id of the record.
    session: String,
    calls: Arc<AtomicU64>,
}

enum Way {
    Sessions(Sessions),
    Loop(Arc<dyn Collection<Record>>),
    Tower(Arc<MemoryStore>),
}

impl Writers {
    /// Makes a session in memory.
    pub async fn in_memory(how: How) -> Arc<Self> {
        let store = sosa_memory::new("bench");
        match how {
            How::Sessions => Self::of_sessions(store.collection("sessions"), None).await,
            How::Loop => Self::of_loop(store.collection("records"), None).await,
            How::Tower => Self::of_tower().await,
        }
    }

    /// Makes a session in Redis, or takes this one.
    pub async fn in_redis(how: How, url: &str, session: Option<&str>) -> Arc<Self> {
        let store = sosa_redis::new(Client::open(url).expect("a URL"), "bench");
        match how {
            How::Sessions => Self::of_sessions(store.collection("sessions"), session).await,
            How::Loop => Self::of_loop(store.collection("records"), session).await,
            How::Tower => unreachable!("it is measured in memory alone"),
        }
    }

    async fn of_sessions(collection: impl Collection<SessionData> + 'static, cookie: Option<&str>) -> Arc<Self> {
        let calls = Arc::default();
        let sessions = Sessions::new(SessionOptions::new(counted(collection, &calls)));
        let mut browser = Browser::new(&sessions);
        match cookie {
            Some(cookie) => browser = browser.with_cookie(cookie),
            None => {
                let session = browser.open();
                for (key, value) in shop::contents() {
                    session.insert(&key, value).await.expect("inserted");
                }
                browser.close(&session).await.expect("saved");
            }
        }
        // Once, so that the connection is there.
        browser.open().touch().await.expect("loaded");
        let session = browser.cookie().expect("a cookie").to_owned();
        Arc::new(Self { way: Way::Sessions(sessions), session, calls })
    }

    async fn of_loop(collection: impl Collection<Record> + 'static, id: Option<&str>) -> Arc<Self> {
        let calls = Arc::default();
        let collection = Arc::new(counted(collection, &calls));
        let session = id.unwrap_or("record").to_owned();
        if id.is_none() {
            collection.save(&session, &shop::contents()).await.expect("saved");
        }
        collection.load(&session).await.expect("loaded");
        Arc::new(Self { way: Way::Loop(collection), session, calls })
    }

    async fn of_tower() -> Arc<Self> {
        let store = Arc::new(MemoryStore::default());
        let session = TowerSession::new(None, store.clone(), None);
        for (key, value) in shop::contents() {
            session.insert(&key, value).await.expect("inserted");
        }
        session.save().await.expect("saved");
        let session = session.id().expect("an id").to_string();
        Arc::new(Self { way: Way::Tower(store), session, calls: Arc::default() })
    }

    /// Returns the cookie, or the id of the record.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Returns how often the verbs of the collection were called so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Is one writer.
    pub async fn write(&self, n: usize) {
        let key = format!("writer {n}");
        match &self.way {
            Way::Sessions(sessions) => {
                let mut browser = Browser::new(sessions).with_cookie(&*self.session);
                let session = browser.open();
                let counted = |count: Option<usize>| count.unwrap_or(0) + 1;
                session.update("count", counted).await.expect("updated");
                yield_now().await;
                session.insert(&key, n).await.expect("inserted");
                browser.close(&session).await.expect("saved");
            }
            Way::Loop(collection) => {
                while !self.try_to_write(&**collection, &key, n).await {
                    yield_now().await;
                }
            }
            Way::Tower(store) => {
                let session = self.of_tower_sessions(store);
                let count: usize = session.get("count").await.expect("read").unwrap_or(0);
                session.insert("count", count + 1).await.expect("inserted");
                yield_now().await;
                session.insert(&key, n).await.expect("inserted");
                session.save().await.expect("saved");
                self.calls.fetch_add(2, Ordering::Relaxed);
            }
        }
    }

    async fn try_to_write(&self, collection: &dyn Collection<Record>, key: &str, n: usize) -> bool {
        let loaded = collection.load_with(&self.session, LoadOptions::new()).await;
        let mut entry = loaded.expect("loaded").expect("an entry");
        let count = entry.value.get("count").and_then(Value::as_u64).unwrap_or(0);
        entry.value.insert("count".to_owned(), (count + 1).into());
        yield_now().await;
        entry.value.insert(key.to_owned(), n.into());
        let options = SaveOptions::new().expiry(Expiry::Keep).condition(Condition::Revision(entry.revision));
        match collection.save_with(&self.session, &entry.value, options).await {
            Ok(_) => true,
            Err(error) if error.is_conflict() => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn of_tower_sessions(&self, store: &Arc<MemoryStore>) -> TowerSession {
        let id: Id = self.session.parse().expect("an id");
        TowerSession::new(Some(id), store.clone(), None)
    }

    /// Returns the count, and how many keys of writers there are.
    pub async fn result(&self) -> (usize, usize) {
        let writers = |keys: &mut dyn Iterator<Item = &str>| keys.filter(|key| key.starts_with("writer ")).count();
        match &self.way {
            Way::Sessions(sessions) => {
                let session = Browser::new(sessions).with_cookie(&*self.session).open();
                let count = session.get("count").await.expect("read").unwrap_or(0);
                let keys = session.keys().await.expect("read");
                (count, writers(&mut keys.iter().map(String::as_str)))
            }
            Way::Loop(collection) => {
                let record = collection.load(&self.session).await.expect("loaded").expect("an entry");
                let count = record.get("count").and_then(Value::as_u64).unwrap_or(0);
                (count as usize, writers(&mut record.keys().map(String::as_str)))
            }
            Way::Tower(store) => {
                let session = self.of_tower_sessions(store);
                let count = session.get("count").await.expect("read").unwrap_or(0);
                let record = tower_sessions::SessionStore::load(&**store, &session.id().expect("an id")).await;
                let record = record.expect("loaded").expect("a record");
                (count, writers(&mut record.data.keys().map(String::as_str)))
            }
        }
    }
}

/// Counts the calls of a collection.
fn counted<T: sosa::Model>(
    collection: impl Collection<T> + 'static,
    calls: &Arc<AtomicU64>,
) -> impl Collection<T> + 'static {
    let calls = calls.clone();
    collection.instrumented("counted", move |_: &Call| {
        calls.fetch_add(1, Ordering::Relaxed);
    })
}
