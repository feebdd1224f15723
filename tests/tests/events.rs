//! What is logged. Alone in its program, since whoever listens to events listens to all of them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::{Router, routing::get};
use sosa::{
    Clock, Collection, DestroyOptions, Entry, Error, ErrorKind, ListOptions, LoadOptions, Outcome, Page, Revision,
    SaveOptions, async_trait,
};
use sosa_session::{
    CookieOptions, Lifetime, RequestHead, Scheme, Secure, Session, SessionData, SessionLayer, SessionOptions, Sessions,
    SigningKey, TrustProxy,
};
use sosa_tests::Log;
use tokio::sync::Mutex;
use tower::ServiceExt;
use tracing::Level;

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

/// Listens to all events of this program; there can be one listener.
fn listen() -> Log {
    static LOG: LazyLock<Log> = LazyLock::new(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    });
    LOG.clone()
}

/// One test at a time takes what is logged.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The events that say why a session is not there, or what a request asked for was not done: each once, with the peer.
#[tokio::test]
async fn each_end_has_an_event_of_its_own() {
    let _alone = ALONE.lock().await;
    let log = listen();
    let clock = Clock::manual();
    let hour = Duration::from_secs(3600);
    let key = SigningKey::new("0123456789abcdef0123456789abcdef").unwrap();
    let options = SessionOptions::memory()
        .clock(clock.clone())
        .lifetime(Lifetime::new().idle(hour).absolute(2 * hour))
        .signed([key])
        .scheme(Scheme::Http)
        .trust_proxy(TrustProxy::loopback());
    let sessions = Sessions::new(options);
    let head = |cookie: &str, proto: &str, peer: &str| {
        let headers = [("cookie", cookie.as_bytes().to_vec()), ("x-forwarded-proto", proto.as_bytes().to_vec())];
        (headers, peer.parse::<IpAddr>().unwrap())
    };
    let open = |cookie: &str, proto: &str, peer: &str| {
        let (headers, peer) = head(cookie, proto, peer);
        sessions.open(RequestHead::new(headers.iter().map(|(name, value)| (*name, &**value))).peer(peer))
    };
    let begin = async || {
        let session = open("", "https", "127.0.0.1");
        session.insert("user", "treasure").await.unwrap();
        let cookie = sessions.close(&session).await.unwrap().into_set_cookie().unwrap();
        cookie.value().split(';').next().unwrap().to_owned()
    };
    // What happened, and the one event of it at INFO or above.
    let mut told = Vec::new();
    let mut tells = |event: &str, level: &str| {
        let logged = log.take();
        let above: Vec<_> =
            logged.lines().filter(|line| [" INFO ", " WARN ", "ERROR "].iter().any(|it| line.contains(it))).collect();
        let [line] = above[..] else { panic!("{event}: {logged}") };
        assert!(line.contains(event) && line.contains(level) && line.contains("peer=127.0.0.1"), "{event}: {line}");
        told.push(logged);
    };

    let cookie = begin().await;
    log.take();
    let forged = format!("{}x", &cookie[..cookie.len() - 1]);
    drop(open(&forged, "https", "127.0.0.1"));
    tells("the signature of a session's cookie was refused", "INFO");

    let ended = begin().await;
    let logout = open(&ended, "https", "127.0.0.1");
    logout.destroy().await.unwrap();
    drop(sessions.close(&logout).await.unwrap());
    log.take();
    open(&ended, "https", "127.0.0.1").keys().await.unwrap();
    tells("a request came with the id of no session", "INFO");

    let idle = begin().await;
    let upload = open(&idle, "https", "127.0.0.1");
    upload.insert("uploaded", "video").await.unwrap();
    clock.advance(hour);
    log.take();
    drop(sessions.close(&upload).await.unwrap());
    tells("the session has expired while its request was under way", "WARN");

    let old = begin().await;
    for _ in 0..2 {
        clock.advance(hour * 59 / 60);
        open(&old, "https", "127.0.0.1").keys().await.unwrap();
    }
    clock.advance(hour / 20);
    log.take();
    open(&old, "https", "127.0.0.1").keys().await.unwrap();
    tells("a session has reached the end of its absolute lifetime", "INFO");

    let cookie = begin().await;
    let (late, logout) = (open(&cookie, "https", "127.0.0.1"), open(&cookie, "https", "127.0.0.1"));
    late.insert("user", "late").await.unwrap();
    logout.destroy().await.unwrap();
    drop(sessions.close(&logout).await.unwrap());
    log.take();
    drop(sessions.close(&late).await.unwrap());
    tells("the session was ended by another request", "WARN");

    let plain = open("", "http", "127.0.0.1");
    plain.insert("user", "plain").await.unwrap();
    drop(sessions.close(&plain).await.unwrap());
    tells("the session cookie is Secure, and the request came over plain http", "WARN");

    // Mistakes of the program are told once, however many requests meet them.
    for _ in 0..3 {
        drop(sessions.open(RequestHead::new([])));
    }
    let logged = log.take();
    assert_eq!(logged.matches("whose address is not known").count(), 1, "{logged}");
    let auto = CookieOptions::new().secure(Secure::Auto);
    let sessions = Sessions::new(SessionOptions::memory().cookie(auto).trust_proxy(TrustProxy::always()));
    for _ in 0..3 {
        drop(sessions.open(RequestHead::new([("x-forwarded-for", &b"192.0.2.1"[..])])));
    }
    let logged = log.take();
    assert_eq!(logged.matches("a trusted proxy does not say how requests come").count(), 1, "{logged}");
    let [inner, outer] = [(), ()].map(|()| SessionLayer::new(SessionOptions::memory()));
    let app = Router::new().route("/", get(async || ())).layer(inner).layer(outer);
    for _ in 0..3 {
        app.clone().oneshot(Request::new(Body::empty())).await.unwrap();
    }
    let logged = log.take();
    assert_eq!(logged.matches("their cookies have one name").count(), 1, "{logged}");
    let public = async |session: Session| -> sosa_session::Result<_> {
        session.insert("user", "ada").await?;
        Ok(([("cache-control", "public")], "for all"))
    };
    let app = Router::new().route("/", get(public)).layer(SessionLayer::new(SessionOptions::memory()));
    app.oneshot(Request::new(Body::empty())).await.unwrap();
    let logged = log.take();
    assert_eq!(logged.matches("every cache may keep it").count(), 1, "{logged}");
    for secret in [&*cookie, &forged, "treasure"] {
        assert!(!told.concat().contains(secret));
    }
}

/// What is the same for each request is an error once.
#[tokio::test]
async fn a_missing_layer_is_told_once() {
    let _alone = ALONE.lock().await;
    let log = listen();
    let app = Router::new().route("/", get(|_: Session| async {}));
    log.take();
    for _ in 0..3 {
        let response = app.clone().oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
    }
    let logged = log.take();
    let lines = |level| logged.lines().filter(|line| line.contains(level) && line.contains("SessionLayer")).count();
    assert_eq!((lines(" ERROR "), lines(" DEBUG ")), (1, 2), "{logged}");
}

#[tokio::test]
async fn what_is_lost_is_logged_once_and_no_secret_is() {
    let _alone = ALONE.lock().await;
    let log = listen();
    let is_silent = Arc::new(AtomicBool::new(false));
    let inner = sosa_memory::new("events").collection("sessions");
    let sessions = Sessions::new(SessionOptions::new(Silent { inner, is_silent: is_silent.clone() }));
    let open = |cookie: &str| sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));

    let first = open("");
    first.insert("user", "treasure").await.unwrap();
    let cookie = sessions.close(&first).await.unwrap().into_set_cookie().unwrap().value().to_owned();
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
    sessions.close(&uncertain).await.unwrap().into_set_cookie();
    drop(uncertain);
    let (late, logout) = (open(pair), open(pair));
    late.insert("user", "treasure 3").await.unwrap();
    logout.destroy().await.unwrap();
    sessions.close(&logout).await.unwrap().into_set_cookie();
    sessions.close(&late).await.unwrap().into_set_cookie();
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
