//! What protects a server from one client, with figures:
//!
//! | a client that … | meets |
//! |---|---|
//! | makes its session ever larger | 256 KiB: 413, the session as it was; no call moves more |
//! | sends cookies without end | of those that have our form, eight are looked up |
//! | guesses, with signed cookies | eight signatures a key, no call of the store |
//! | writes its session without pause | turns: who waits is overtaken by nobody in its process, and loses to one other at most 32 times (`turns.rs`) |
//! | fills the queue of its session | 503 after five seconds, for that session alone; a logout is carried out |
//! | nests values deeply | 127 levels; more is refused before it is stored |
//! | chooses keys and values that are slow to compare | one pass: a few times what it takes to parse them |
//! | writes without a cookie, again and again | a session each; in memory at most 100,000, and those that are there go on |
//! | reads without a cookie, or with one of no session | no record |
//!
//! What it does not meet here, a server in front or a layer around has to bring: a limit on the size of bodies and
//! headers, and on how many requests one address sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Router, response::Response};
use cap::Cap;
use serde_json::Value;
use sosa::Collection;
use sosa_redis::redis::Client;
use sosa_session::{
    CookieOptions, ErrorKind, RequestHead, Result, Secure, Session, SessionData, SessionLayer, SessionOptions,
    Sessions, SigningKey,
};
use sosa_tests::rivals::{count, new_session, open};
use sosa_tests::{Asked, Distance, Distant, Redis};
use tokio::sync::RwLock;
use tower::ServiceExt;

/// Counts what is in use.
#[global_allocator]
static HEAP: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

/// The test that looks at the heap is alone.
static ALONE: RwLock<()> = RwLock::const_new(());

/// The limit of a record, unless told.
const LIMIT: usize = 256 * 1024;

/// What is moved besides the record: its key, what goes with it, and the question how much was moved.
const ASKING: usize = 8 * 1024;

/// Keeps what is posted.
async fn keep(session: Session, body: Bytes) -> Result<()> {
    session.insert("kept", String::from_utf8_lossy(&body)).await
}

async fn kept(session: Session) -> Result<String> {
    Ok(session.get("kept").await?.unwrap_or_default())
}

struct Site(Router);

impl Site {
    fn new(collection: Arc<dyn Collection<SessionData>>) -> Self {
        let cookie = CookieOptions::new().name("id").secure(Secure::Never);
        let layer = SessionLayer::new(SessionOptions::new(collection).cookie(cookie));
        let app = Router::new().route("/", post(keep).get(kept)).layer(layer);
        Self(app.layer(DefaultBodyLimit::disable()))
    }

    async fn ask(&self, method: &str, cookie: &str, body: String) -> Response {
        let request = Request::builder().method(method).uri("/").header("cookie", cookie).body(Body::from(body));
        self.0.clone().oneshot(request.unwrap()).await.unwrap()
    }

    async fn post(&self, cookie: &str, bytes: usize) -> (StatusCode, Option<String>) {
        let response = self.ask("POST", cookie, "x".repeat(bytes)).await;
        let cookie = response.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap());
        (response.status(), cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned()))
    }

    async fn get(&self, cookie: &str) -> usize {
        let body = self.ask("GET", cookie, String::new()).await.into_body();
        axum::body::to_bytes(body, usize::MAX).await.unwrap().len()
    }
}

#[tokio::test]
async fn a_record_has_at_most_256_kib() {
    let _others = ALONE.read().await;
    let server = Redis::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let sled = sosa_sled::open(directory.path().join("db"), "abuse").unwrap();
    let redis = sosa_redis::new(Client::open(server.url()).unwrap(), "abuse");
    let stores: [(&str, Arc<dyn Collection<SessionData>>); 3] = [
        ("memory", Arc::new(sosa_memory::new("abuse").collection("sessions"))),
        ("sled", Arc::new(sled.collection("sessions"))),
        ("redis", Arc::new(redis.collection("sessions"))),
    ];
    // What the server has received and sent since this was last asked, and the asking itself, which is less than 8 KiB.
    let moved = || {
        let stats: String = server.tell("INFO stats");
        let figure = |name| stats.lines().find_map(|line| line.strip_prefix(name)?.parse::<usize>().ok()).unwrap();
        let moved = (figure("total_net_input_bytes:"), figure("total_net_output_bytes:"));
        server.tell::<()>("CONFIG RESETSTAT");
        moved
    };
    for (name, store) in stores {
        let site = Site::new(store);
        let fits = LIMIT - 1024;
        let (status, cookie) = site.post("", fits).await;
        let cookie = cookie.expect("a new session has a cookie");
        assert_eq!(status, 200, "{name}");
        for bytes in [LIMIT, 10 * LIMIT, 100 * LIMIT] {
            moved();
            assert_eq!(site.post(&cookie, bytes).await, (StatusCode::PAYLOAD_TOO_LARGE, None), "{name}");
            let (received, sent) = moved();
            assert!(received < ASKING, "{name}: what is too large is not sent, but {received} bytes");
            assert!(sent < LIMIT + ASKING, "{name}: {sent} bytes are read");
            assert_eq!(site.get(&cookie).await, fits, "{name}: the session is as it was");
        }
        // A server that does not know the script of a save yet is sent it, and the record once more.
        assert_eq!(site.post(&cookie, fits - 1).await.0, 200, "{name}");
        moved();
        assert_eq!(site.post(&cookie, fits).await.0, 200, "{name}");
        let (received, sent) = moved();
        assert!(received < LIMIT + ASKING && sent < LIMIT + ASKING, "{name}: {received} bytes written, {sent} read");
    }
}

#[tokio::test]
async fn of_any_number_of_cookies_eight_are_looked_up() {
    let _others = ALONE.read().await;
    let header: Vec<_> = (0..5_000).map(|n| format!("__Host-id={n:032}")).collect();
    let header = header.join("; ");
    assert!(header.len() > 200_000);
    for (signed, calls) in [(false, 8), (true, 0)] {
        let store = Distant::new(sosa_memory::new("abuse").collection("sessions"), Distance::Moments(1));
        let mut options = SessionOptions::new(store);
        if signed {
            options = options.signed([SigningKey::from("0123456789abcdef0123456789abcdef")]);
        }
        let sessions = Sessions::new(options);
        let asked = Arc::<Asked>::default();
        asked.by(async { assert!(open(&sessions, &header).is_new().await.unwrap()) }).await;
        assert_eq!(asked.calls(), calls, "signed: {signed}");
    }
}

/// One session's queue is of no concern to others.
#[tokio::test]
async fn a_queue_holds_up_its_own_session_alone() {
    let _others = ALONE.read().await;
    let store =
        Distant::new(sosa_memory::new("abuse").collection("sessions"), Distance::Time(Duration::from_millis(2)));
    let options = SessionOptions::new(store).max_wait(Duration::from_millis(40));
    let sessions = Sessions::new(options);
    let (crowded, quiet) = (new_session(&sessions).await, new_session(&sessions).await);
    let write = async |cookie: &str| {
        let asked = Arc::<Asked>::default();
        let closed = asked
            .by(async {
                let session = open(&sessions, cookie);
                count(&session).await.unwrap();
                sessions.close(&session).await
            })
            .await;
        (closed.err().map(|error| (error.kind(), error.status())), asked.calls())
    };
    let crowd = futures_util::future::join_all((0..200).map(|_| write(&crowded)));
    let (crowd, (error, calls)) = futures_util::future::join(crowd, write(&quiet)).await;
    assert!(crowd.iter().any(|(error, _)| error == &Some((ErrorKind::Busy, 503))), "{crowd:?}");
    assert_eq!((error, calls), (None, 2), "as if there was nobody");
}

fn nested(depth: usize) -> Value {
    (1..depth).fold(Value::from(vec![0]), |inner, _| Value::from(vec![inner]))
}

#[tokio::test]
async fn values_nest_127_deep() {
    let _others = ALONE.read().await;
    // The record itself is the first level of 128.
    const DEEPEST: usize = 127;
    let sessions = Sessions::new(SessionOptions::memory());
    let cookie = new_session(&sessions).await;
    for (depth, fits) in [(DEEPEST, true), (DEEPEST + 1, false), (5_000, false)] {
        let session = open(&sessions, &cookie);
        let inserted = session.insert("deep", nested(depth)).await;
        assert_eq!(inserted.as_ref().err().map(sosa_session::Error::kind), (!fits).then_some(ErrorKind::Encode));
        drop(sessions.close(&session).await.unwrap());
        let kept: Value = open(&sessions, &cookie).get("deep").await.unwrap().unwrap();
        assert_eq!(kept, nested(DEEPEST), "what is refused harms nothing");
    }
}

/// The quickest of some tries, as others use the machine, too.
fn quickest<R>(mut work: impl FnMut() -> R) -> Duration {
    let mut time = || {
        let began = Instant::now();
        drop(work());
        began.elapsed()
    };
    (0..5).map(|_| time()).min().expect("some tries")
}

/// How many times longer than a parser something may take that has to look at all of it: here and now it is one to five.
const TIMES: u32 = 40;

#[tokio::test]
async fn to_compare_values_and_to_look_keys_up_is_one_pass() {
    let _others = ALONE.read().await;
    let sessions = Sessions::new(SessionOptions::memory().max_size(2 * 1024 * 1024));
    // As large and as deep as it may be, and as many keys as there may be.
    let leaves = |end: &str| format!("[{}\"{end}\"]", "0,".repeat(500_000));
    let deep = |end: &str| "[".repeat(124) + &leaves(end) + &"]".repeat(124);
    let keys: Vec<_> = (0..60_000).map(|n| format!("{n:x}")).collect();
    let many = |value: usize| keys.iter().map(|key| (key.clone(), value.into())).collect::<serde_json::Map<_, _>>();
    let text = deep("end");
    let parse = quickest(|| serde_json::from_str::<Value>(&text).unwrap());

    let new = sessions.open(RequestHead::new([]));
    new.insert("deep", serde_json::from_str::<Value>(&text).unwrap()).await.unwrap();
    let cookie = sessions.close(&new).await.unwrap().into_set_cookie().unwrap().value().to_owned();
    let mut least = Duration::MAX;
    for end in ["end", "END", "end"] {
        let value: Value = serde_json::from_str(&deep(end)).unwrap();
        let session = open(&sessions, &cookie);
        let began = Instant::now();
        session.insert("deep", value).await.unwrap();
        drop(sessions.close(&session).await.unwrap());
        least = least.min(began.elapsed());
    }
    assert!(least < parse * TIMES, "{least:?} to compare, {parse:?} to parse");

    let parse = quickest(|| serde_json::from_value::<serde_json::Map<_, Value>>(many(0).into()).unwrap());
    let new = sessions.open(RequestHead::new([]));
    for key in &keys {
        new.insert(key, 0).await.unwrap();
    }
    let cookie = sessions.close(&new).await.unwrap().into_set_cookie().unwrap().value().to_owned();
    let began = Instant::now();
    let session = open(&sessions, &cookie);
    for key in &keys {
        session.get::<u64>(key).await.unwrap();
        session.insert(key, 1).await.unwrap();
    }
    drop(sessions.close(&session).await.unwrap());
    let took = began.elapsed();
    assert!(took < parse * TIMES, "{took:?} to look up and change, {parse:?} to parse");
}

#[tokio::test]
async fn writes_without_a_cookie_fill_no_memory() {
    const MOST: usize = 100_000;
    let _alone = ALONE.write().await;
    let sessions = Sessions::new(SessionOptions::memory());
    let write = async || {
        let session = sessions.open(RequestHead::new([]));
        session.insert("cart", [1, 2, 3]).await.unwrap();
        sessions.close(&session).await
    };
    let cookie = new_session(&sessions).await;
    let before = HEAP.allocated();
    for _ in 1..MOST {
        drop(write().await.unwrap());
    }
    let each = (HEAP.allocated() - before) / MOST;
    assert!(each < 1000, "{each} bytes a session");
    for _ in 0..1000 {
        let error = write().await.unwrap_err();
        assert_eq!(error.store().unwrap().kind(), sosa::ErrorKind::CapacityExceeded);
        assert_eq!(error.status(), 503);
    }
    assert!((HEAP.allocated() - before) / MOST < 1000);
    let session = open(&sessions, &cookie);
    count(&session).await.unwrap();
    drop(sessions.close(&session).await.expect("those that are there go on"));
    assert_eq!(open(&sessions, &cookie).get::<u64>("count").await.unwrap(), Some(2));
}

#[tokio::test]
async fn who_only_reads_leaves_nothing() {
    let _others = ALONE.read().await;
    let collection = sosa_memory::new("abuse").collection("sessions");
    let sessions = Sessions::new(SessionOptions::new(collection.clone()));
    for cookie in ["", "__Host-id=", "__Host-id=AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", "__Host-id=%00; __Host-id=x"] {
        let session = open(&sessions, cookie);
        assert_eq!(session.get::<String>("user").await.unwrap(), None);
        session.remove("user").await.unwrap();
        session.touch().await.unwrap();
        session.renew().await.unwrap();
        drop(sessions.close(&session).await.unwrap());
    }
    assert_eq!(collection.held(), 0);
}
