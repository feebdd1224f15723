//! What the fuzz targets share.

use std::sync::LazyLock;

use futures_util::FutureExt;
use sosa::Collection;
use sosa_memory::MemoryCollection;
use sosa_session::{ExpressOptions, RequestHead, Session, SessionData, SessionOptions, Sessions, SigningKey};

/// The secret of signed cookies.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Sessions over a store in memory, whose verbs are done when they are first polled.
pub struct Site {
    pub store: MemoryCollection<SessionData>,
    pub sessions: Sessions,
}

impl Site {
    fn new(options: impl FnOnce(MemoryCollection<SessionData>) -> SessionOptions) -> Self {
        let store = sosa_memory::new("fuzz").collection("sessions");
        Self { sessions: Sessions::new(options(store.clone())), store }
    }

    pub fn plain() -> Self {
        Self::new(SessionOptions::new)
    }

    pub fn signed() -> Self {
        Self::new(|store| SessionOptions::new(store).signed([SigningKey::from(SECRET)]))
    }

    pub fn express() -> Self {
        Self::new(|store| SessionOptions::express(store, ExpressOptions::new([SECRET])))
    }

    pub fn open(&self, cookie: &[u8]) -> Session {
        self.sessions.open(RequestHead::new([("cookie", cookie)]))
    }

    /// Makes a session that knows a user, and returns its cookie.
    pub fn log_in(&self) -> String {
        let session = self.sessions.open(RequestHead::new([]));
        now(session.insert("user", "ada")).expect("inserted");
        let headers = now(self.sessions.close(&session)).expect("saved");
        let cookie = headers.set_cookie().expect("a new session has a cookie").value().to_owned();
        cookie.split(';').next().expect("a pair").to_owned()
    }

    /// Stores a record under the id of a session, whatever it is; returns whether it is one.
    pub fn put(&self, record: &str) -> bool {
        let id = now(self.store.list()).expect("listed").ids().next().expect("a session").to_owned();
        let Ok(record) = record.parse::<SessionData>() else { return false };
        now(self.store.save(&id, &record)).is_ok()
    }

    /// Returns the record of the session.
    pub fn record(&self) -> SessionData {
        let id = now(self.store.list()).expect("listed").ids().next().expect("a session").to_owned();
        now(self.store.load(&id)).expect("loaded").expect("a record")
    }
}

/// Polls what does not wait.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory answers at once")
}

/// A site and the cookie of a session in it.
pub type Known = LazyLock<(Site, String)>;
