//! What is logged. Alone in its program, since whoever listens to events listens to all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sosa::{
    Collection, DestroyOptions, Entry, Error, ErrorKind, ListOptions, LoadOptions, Outcome, Page, Revision,
    SaveOptions, async_trait,
};
use sosa_session::{RequestHead, SessionData, SessionOptions, Sessions};
use sosa_tests::Log;

/// A collection that may save, and not answer.
#[derive(Debug)]
struct Silent {
    inner: sosa_memory::MemoryCollection<SessionData>,
    is_silent: Arc<AtomicBool>,
}

#[async_trait]
impl Collection<SessionData> for Silent {
    async fn load_with(&self, id: &str, options: LoadOptions) -> sosa::Result<Option<Entry<SessionData>>> {
        self.inner.load_with(id, options).await
    }

    async fn save_with(&self, id: &str, value: &SessionData, options: SaveOptions) -> sosa::Result<Revision> {
        let revision = self.inner.save_with(id, value, options).await?;
        match self.is_silent.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Timeout, "late").with_outcome(Outcome::Unknown)),
            false => Ok(revision),
        }
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> sosa::Result<bool> {
        self.inner.destroy_with(id, options).await
    }

    async fn list_with(&self, options: ListOptions) -> sosa::Result<Page<SessionData>> {
        self.inner.list_with(options).await
    }
}

#[tokio::test]
async fn what_is_lost_is_logged_once_and_no_secret_is() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
    let is_silent = Arc::new(AtomicBool::new(false));
    let inner = sosa_memory::new("events").collection("sessions");
    let sessions = Sessions::new(SessionOptions::new(Silent { inner, is_silent: is_silent.clone() }));
    let open = |cookie: &str| sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));

    let first = open("");
    first.insert("user", "treasure").await.unwrap();
    let cookie = sessions.close(&first).await.unwrap().unwrap().value().to_owned();
    let pair = cookie.split(';').next().unwrap();
    let public_id = first.public_id().await.unwrap();
    drop(first);
    let mut all = log.take();
    assert!(all.contains("a session was created") && all.contains(public_id.as_str()), "{all}");

    let dropped = open(pair);
    dropped.insert("user", "treasure 2").await.unwrap();
    drop(dropped);
    // Whoever was told that a save is uncertain has lost nothing without a word.
    let uncertain = open(pair);
    uncertain.insert("user", "treasure 4").await.unwrap();
    is_silent.store(true, Ordering::Relaxed);
    uncertain.save().await.unwrap_err();
    is_silent.store(false, Ordering::Relaxed);
    sessions.close(&uncertain).await.unwrap();
    drop(uncertain);
    let (late, logout) = (open(pair), open(pair));
    late.insert("user", "treasure 3").await.unwrap();
    logout.destroy().await.unwrap();
    sessions.close(&logout).await.unwrap();
    sessions.close(&late).await.unwrap();
    drop((late, logout));
    let warned = log.take();
    assert_eq!(warned.matches("a session was dropped with edits that were not saved").count(), 1, "{warned}");
    assert_eq!(warned.matches("the edits of a request were dropped").count(), 1, "{warned}");
    assert_eq!(warned.matches(" WARN ").count(), 2, "{warned}");

    open("__Host-id=plantedplantedplantedplantedplan").keys().await.unwrap();
    all.push_str(&warned);
    all.push_str(&log.take());
    assert!(all.contains("a request came with the id of no session"), "{all}");
    let (_, id) = pair.split_once('=').unwrap();
    for secret in [id, "plantedplanted", "treasure"] {
        assert!(!all.contains(secret), "{all}");
    }
}
