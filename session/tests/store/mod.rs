//! What the tests of sessions share: a store that counts, fails and hangs, and a site with a browser.

// Each test uses some of it.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sosa_session::sosa::{
    self, Clock, Collection, DestroyOptions, Entry, ListOptions, LoadOptions, Outcome, Page, Revision, SaveOptions,
    async_trait,
};
use sosa_session::{RequestHead, Session, SessionData, SessionOptions, Sessions};

/// The idle lifetime, unless told.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A collection in memory that counts its calls, and fails those that it is told to.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) inner: sosa_memory::MemoryCollection<SessionData>,
    calls: Arc<AtomicUsize>,
    /// The call that fails, counted from 1, and whether it is applied all the same.
    fails: Arc<(AtomicUsize, AtomicUsize)>,
    /// The call from which on none is answered.
    hangs: Arc<AtomicUsize>,
    /// What happens before a call, counted from 1.
    before: Arc<Mutex<Option<Event>>>,
    /// The call behind which all fail.
    down: Arc<AtomicUsize>,
    /// The ids of records that cannot be decoded.
    unreadable: Arc<Mutex<BTreeSet<String>>>,
}

/// What happens, and before which call.
type Event = (usize, BoxFuture<'static, ()>);

impl Store {
    pub(crate) fn new(clock: &Clock) -> Self {
        let inner = sosa_memory::new("test").with_clock(clock.clone()).collection("sessions");
        Self {
            inner,
            calls: Arc::default(),
            fails: Arc::default(),
            before: Arc::default(),
            hangs: Arc::new(AtomicUsize::new(usize::MAX)),
            down: Arc::new(AtomicUsize::new(usize::MAX)),
            unreadable: Arc::default(),
        }
    }

    /// Returns how many calls were made since this was last asked.
    pub(crate) fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    pub(crate) fn fail_at(&self, call: usize, applied: bool) {
        self.calls();
        self.fails.0.store(call, Ordering::SeqCst);
        self.fails.1.store(applied.into(), Ordering::SeqCst);
    }

    pub(crate) async fn live(&self) -> Vec<String> {
        let page = self.inner.list().await.unwrap();
        let is_live = |(id, data): &(String, SessionData)| data.created().is_some() && !self.is_unreadable(id);
        page.into_pairs().unwrap().into_iter().filter(is_live).map(|(id, _)| id).collect()
    }

    /// Fails this call, counted from 1, and all that follow, until it is mended; whether the first of them is applied
    /// all the same.
    pub(crate) fn fail_from(&self, call: usize, applied: bool) {
        self.fail_at(call, applied);
        self.down.store(call, Ordering::SeqCst);
    }

    /// Lets something else happen before this call, counted from 1.
    pub(crate) fn before(&self, call: usize, happens: impl Future<Output = ()> + Send + 'static) {
        self.calls();
        *self.before.lock().unwrap() = Some((call, happens.boxed()));
    }

    /// Applies this call, counted from 1, and all that follow, and answers none, until it is mended.
    pub(crate) fn hang_from(&self, call: usize) {
        self.calls();
        self.hangs.store(call, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.hangs.store(usize::MAX, Ordering::SeqCst);
        self.down.store(usize::MAX, Ordering::SeqCst);
        self.fails.0.store(0, Ordering::SeqCst);
    }

    /// Lets the record of this id be one that cannot be decoded, until it is destroyed or saved.
    pub(crate) fn make_unreadable(&self, id: &str) {
        self.unreadable.lock().unwrap().insert(id.to_owned());
    }

    fn is_unreadable(&self, id: &str) -> bool {
        self.unreadable.lock().unwrap().contains(id)
    }

    async fn call<T>(&self, call: impl Future<Output = sosa::Result<T>>) -> sosa::Result<T> {
        let count = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let happens = self.before.lock().unwrap().take_if(|(call, _)| *call == count);
        if let Some((_, happens)) = happens {
            happens.await;
        }
        if count >= self.hangs.load(Ordering::SeqCst) {
            call.await?;
            std::future::pending::<()>().await;
            unreachable!("nobody waits that long");
        }
        if self.fails.0.load(Ordering::SeqCst) != count {
            if count > self.down.load(Ordering::SeqCst) {
                return Err(sosa::Error::new(sosa::ErrorKind::Unavailable, "down"));
            }
            return call.await;
        }
        self.fails.0.store(0, Ordering::SeqCst);
        let error = sosa::Error::new(sosa::ErrorKind::Timeout, "late");
        if self.fails.1.load(Ordering::SeqCst) == 0 {
            return Err(error);
        }
        call.await?;
        Err(error.with_outcome(Outcome::Unknown))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

#[async_trait]
impl Collection<SessionData> for Store {
    async fn load_with(&self, id: &str, options: LoadOptions) -> sosa::Result<Option<Entry<SessionData>>> {
        let loaded = self.call(self.inner.load_with(id, options)).await?;
        match self.is_unreadable(id) {
            true => Err(sosa::Error::new(sosa::ErrorKind::Decode, "it is cut off")),
            false => Ok(loaded),
        }
    }

    async fn save_with(&self, id: &str, value: &SessionData, options: SaveOptions) -> sosa::Result<Revision> {
        let revision = self.call(self.inner.save_with(id, value, options)).await?;
        self.unreadable.lock().unwrap().remove(id);
        Ok(revision)
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> sosa::Result<bool> {
        let destroyed = self.call(self.inner.destroy_with(id, options)).await?;
        self.unreadable.lock().unwrap().remove(id);
        Ok(destroyed)
    }

    async fn list_with(&self, options: ListOptions) -> sosa::Result<Page<SessionData>> {
        self.call(self.inner.list_with(options)).await
    }
}

#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) sessions: Sessions,
}

/// A browser: what it sends as its cookie.
pub(crate) type Jar = Option<String>;

pub(crate) fn site_with(options: impl FnOnce(SessionOptions) -> SessionOptions) -> Site {
    let clock = Clock::manual();
    let store = Store::new(&clock);
    let sessions = Sessions::new(options(SessionOptions::new(store.clone()).clock(clock.clone())));
    Site { store, clock, sessions }
}

pub(crate) fn site() -> Site {
    site_with(|options| options)
}

impl Site {
    pub(crate) fn open(&self, jar: &Jar) -> Session {
        self.sessions.open(RequestHead::new(jar.iter().map(|cookie| ("Cookie", cookie.as_bytes()))))
    }

    /// Closes the session, keeps its cookie as a browser would, and returns what was sent.
    pub(crate) async fn close(&self, session: &Session, jar: &mut Jar) -> Option<String> {
        let sent =
            self.sessions.close(session).await.unwrap().into_set_cookie().map(|cookie| cookie.value().to_owned());
        if let Some(cookie) = &sent {
            let pair = cookie.split(';').next().unwrap().to_owned();
            *jar = if cookie.contains("Max-Age=0") { None } else { Some(pair) };
        }
        sent
    }

    /// Makes a session that holds `user: "ada"`.
    pub(crate) async fn log_in(&self) -> Jar {
        let mut jar = None;
        let session = self.open(&jar);
        session.insert("user", "ada").await.unwrap();
        self.close(&session, &mut jar).await.expect("a new session has a cookie");
        self.store.calls();
        jar
    }

    pub(crate) async fn user(&self, jar: &Jar) -> Option<String> {
        let session = self.open(jar);
        let user = session.get("user").await.unwrap();
        assert!(self.close(&session, &mut jar.clone()).await.is_none());
        user
    }
}
