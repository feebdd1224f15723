//! Races over HTTP, each between two servers that share nothing but a collection, so that a lock in
//! one process cannot be the answer.

// The figures of a race are worth a look.
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex};

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::future::{join, join_all};
use serde_json::Value;
use sosa::Collection;
use sosa_memory::MemoryCollection;
use sosa_session::{CookieOptions, Result, Secure, Session, SessionData, SessionLayer, SessionOptions};
use sosa_tests::{Client, Distance, Distant, Log, Response, Service};
use tokio::net::TcpListener;

const TRIALS: usize = 200;

async fn set(session: Session, Json(values): Json<serde_json::Map<String, Value>>) -> Result<()> {
    // The session is read before the edit, so that edits race for what they were made from.
    session.get::<Value>("user").await?;
    for (key, value) in &values {
        session.insert(key, value).await?;
    }
    session.save().await
}

/// Edits without saving: the layer saves when the handler has returned.
async fn seen(session: Session, Path(page): Path<String>) -> Result<()> {
    session.insert("page", page).await
}

async fn count(session: Session) -> Result<()> {
    session.update("count", |count: Option<u64>| count.unwrap_or(0) + 1).await?;
    session.save().await
}

async fn log_in(session: Session) -> Result<()> {
    session.renew().await?;
    session.insert("user", "ada").await
}

async fn log_out(session: Session) -> Result<StatusCode> {
    session.destroy().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(session: Session) -> Result<Json<Value>> {
    let data = session.data().await?;
    Ok(Json(serde_json::from_str(data.as_json()).expect("a record is JSON")))
}

/// Two servers over one collection.
struct Site {
    store: MemoryCollection<SessionData>,
    servers: [SocketAddr; 2],
}

/// All that is logged in this program, at the most verbose level.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
    log
});

impl Site {
    async fn start() -> Self {
        LazyLock::force(&LOG);
        let store = sosa_memory::new("races").collection("sessions");
        let mut servers = Vec::new();
        for _ in 0..2 {
            let cookie = CookieOptions::new().name("sosa_session").secure(Secure::Never);
            let app = Router::new()
                .route("/session", get(show).post(set).delete(log_out))
                .route("/seen/{page}", post(seen))
                .route("/count", post(count))
                .route("/login", post(log_in))
                .layer(SessionLayer::new(
                    SessionOptions::new(Distant::new(store.clone(), Distance::Moments(6))).cookie(cookie),
                ));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            servers.push(listener.local_addr().unwrap());
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
        Self { store, servers: [servers[0], servers[1]] }
    }

    async fn connect(&self, server: usize) -> Client {
        Client::connect(self.servers[server % 2]).await.unwrap()
    }

    /// Makes a session and returns its cookie.
    async fn new_session(&self, client: &mut Client) -> String {
        let response = client.send("POST", "/session", &JSON, br#"{"made":1}"#).await.unwrap();
        response.cookie().expect("a new session has a cookie").to_owned()
    }

    async fn show(&self, cookie: &str) -> Value {
        let mut client = self.connect(0).await;
        let response = client.send("GET", "/session", &[("cookie", cookie.as_bytes())], b"").await.unwrap();
        assert_eq!(response.header("set-cookie"), None);
        serde_json::from_str(&response.body).unwrap()
    }

    /// Returns how many sessions can be opened.
    async fn live(&self) -> usize {
        self.store.list().await.unwrap().values().filter(|data| !data.has_ended()).count()
    }
}

/// Lets others go ahead by up to so many turns.
async fn start_late(most: u8) {
    for _ in 0..fastrand::u8(..most) {
        tokio::task::yield_now().await;
    }
}

const JSON: [(&str, &[u8]); 1] = [("content-type", b"application/json")];

fn with(cookie: &str) -> [(&'static str, &[u8]); 2] {
    [JSON[0], ("cookie", cookie.as_bytes())]
}

/// A browser's cookie jar: what arrives last counts.
#[derive(Default)]
struct Jar(Mutex<Option<String>>);

impl Jar {
    fn keep(&self, response: &Response) {
        if let Some(set) = response.header("set-cookie") {
            let pair = response.cookie().unwrap().to_owned();
            *self.0.lock().unwrap() = if set.contains("Max-Age=0") { None } else { Some(pair) };
        }
    }

    fn cookie(&self) -> Option<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Sends 200 posts of a key each at once, over connections to these servers in turn.
async fn post_keys(servers: &[SocketAddr], cookie: &str) {
    let mut clients = Vec::new();
    for n in 0..200 {
        clients.push(Client::connect(servers[n % servers.len()]).await.unwrap());
    }
    let posts = clients.into_iter().enumerate().map(async |(n, mut client)| {
        let body = format!("{{\"key{n}\":{n}}}");
        let response = client.send("POST", "/session", &with(cookie), body.as_bytes()).await.unwrap();
        assert_eq!((response.status, response.header("set-cookie")), (200, None));
    });
    join_all(posts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_posts_of_one_session_leave_two_hundred_keys() {
    let site = Site::start().await;
    let cookie = site.new_session(&mut site.connect(0).await).await;
    post_keys(&site.servers, &cookie).await;
    let session = site.show(&cookie).await;
    assert!((0..200).all(|n| session[format!("key{n}")] == n), "{session}");
    LOG.assert_secret(&cookie);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_posts_to_the_service_leave_two_hundred_keys() {
    let rest = Service::rest(&[]).await;
    let mut client = rest.connect().await;
    let first = client.send("POST", "/session", &[], br#"{"made":1}"#).await.unwrap();
    let cookie = first.cookie().unwrap();
    post_keys(&[rest.address()], cookie).await;
    let last = client.send("GET", "/session", &with(cookie), b"").await.unwrap();
    let session: Value = serde_json::from_str(&last.body).unwrap();
    assert!((0..200).all(|n| session[format!("key{n}")] == n), "{session}");
    assert_eq!(session["rev"], 201);
    let log = rest.stop(nix::sys::signal::Signal::SIGTERM).await;
    assert!(!log.contains(cookie.split_once('=').unwrap().1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_updates_add_up() {
    let site = Site::start().await;
    let cookie = site.new_session(&mut site.connect(0).await).await;
    let mut clients = Vec::new();
    for n in 0..100 {
        clients.push(site.connect(n).await);
    }
    join_all(clients.into_iter().map(async |mut client| {
        for _ in 0..5 {
            assert_eq!(client.send("POST", "/count", &with(&cookie), b"").await.unwrap().status, 200);
        }
    }))
    .await;
    assert_eq!(site.show(&cookie).await["count"], 500);
    LOG.assert_secret(&cookie);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_session_never_comes_back_under_its_cookie() {
    let site = Site::start().await;
    let (mut slow, mut late, mut logout) = (site.connect(0).await, site.connect(1).await, site.connect(1).await);
    let mut dropped = 0;
    for _ in 0..TRIALS {
        let cookie = site.new_session(&mut logout).await;
        // Both posts have sent all but the end of their body when the session is destroyed.
        let request = Client::request("POST", "/session", &with(&cookie), br#"{"late":1}"#);
        let (start, end) = request.split_at(request.len() - 1);
        for client in [&mut slow, &mut late] {
            client.write(start).await.unwrap();
        }
        let finish = async |client: &mut Client| {
            start_late(20).await;
            client.write(end).await.unwrap();
            client.read(false).await.unwrap()
        };
        let headers = with(&cookie);
        let deleting = logout.send("DELETE", "/session", &headers, b"");
        let (deleted, posted) = join(deleting, join(finish(&mut slow), finish(&mut late))).await;
        assert_eq!(deleted.unwrap().status, 204);
        let fresh = site.show(&cookie).await;
        assert_eq!(fresh, serde_json::json!({}), "the session came back");
        for response in [posted.0, posted.1] {
            match (response.status, response.cookie()) {
                // Saved before the end, or begun after it as a session of its own.
                (200, None) => {}
                (200, Some(other)) => assert_ne!(other, cookie),
                (409, None) => dropped += 1,
                other => panic!("{other:?}"),
            }
        }
        LOG.assert_secret(&cookie);
    }
    assert!(dropped > 0, "the race was none");
    println!("{dropped} of {} late posts found their session ended", 2 * TRIALS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_logs_in_among_other_requests_ends_logged_in() {
    let site = Site::start().await;
    let mut login = site.connect(0).await;
    let mut others = Vec::new();
    for n in 0..8 {
        others.push(site.connect(n).await);
    }
    for _ in 0..TRIALS {
        let cookie = site.new_session(&mut login).await;
        let jar = Jar(Mutex::new(Some(cookie.clone())));
        let headers = with(&cookie);
        let log_in = async {
            start_late(20).await;
            jar.keep(&login.send("POST", "/login", &headers, b"").await.unwrap());
        };
        // Two after another on each connection: some arrive before the login, some after it.
        let browse = join_all(others.iter_mut().enumerate().map(async |(n, client)| {
            for round in 0..2 {
                let (method, path) = match n % 4 {
                    0 => ("GET", "/session".to_owned()),
                    1 => ("POST", format!("/seen/{round}")),
                    2 => ("POST", "/count".to_owned()),
                    _ => ("POST", "/session".to_owned()),
                };
                let response = client.send(method, &path, &headers, b"{\"x\":1}").await.unwrap();
                assert!([200, 409].contains(&response.status), "{response:?}");
                jar.keep(&response);
            }
        }));
        join(log_in, browse).await;
        let cookie_now = jar.cookie().expect("nobody logged out");
        assert_ne!(cookie_now, cookie);
        assert_eq!(site.show(&cookie_now).await["user"], "ada");
        assert_eq!(site.show(&cookie).await, serde_json::json!({}), "the old id opens nothing");
        LOG.assert_secret(&cookie_now);
    }
    assert_eq!(site.live().await, TRIALS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_was_acknowledged_survives_a_renewal() {
    let site = Site::start().await;
    let (mut edit, mut login) = (site.connect(0).await, site.connect(1).await);
    let mut refused = 0;
    for trial in 0..TRIALS {
        let cookie = site.new_session(&mut login).await;
        let headers = with(&cookie);
        let (edited, renewed) = join(edit.send("POST", "/session", &headers, b"{\"edit\":1}"), async {
            start_late(20).await;
            login.send("POST", "/login", &headers, b"").await
        })
        .await;
        let (edited, renewed) = (edited.unwrap(), renewed.unwrap());
        assert_eq!(edited.header("set-cookie"), None);
        let session = site.show(renewed.cookie().expect("the login is announced")).await;
        assert_eq!((&session["user"], &session["made"]), (&"ada".into(), &1.into()));
        match edited.status {
            200 => assert_eq!(session["edit"], 1, "an acknowledged edit is lost"),
            409 => refused += 1,
            other => panic!("{other}"),
        }
        assert_eq!(site.live().await, trial + 1, "a live record is left behind");
        LOG.assert_secret(renewed.cookie().expect("the login is announced"));
    }
    println!("{refused} of {TRIALS} edits came too late, and were told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_that_races_with_a_renewal_leaves_no_live_record() {
    let site = Site::start().await;
    let (mut logout, mut login) = (site.connect(0).await, site.connect(1).await);
    let mut announced = 0;
    for _ in 0..TRIALS {
        let cookie = site.new_session(&mut login).await;
        let headers = with(&cookie);
        let (ended, renewed) = join(
            async {
                start_late(20).await;
                logout.send("DELETE", "/session", &headers, b"").await.unwrap()
            },
            login.send("POST", "/login", &headers, b""),
        )
        .await;
        assert_eq!(ended.status, 204);
        let renewed = renewed.unwrap();
        if let Some(new) = renewed.cookie() {
            announced += 1;
            // Either the renewal came first, and the logout meant the renewed session too; or the
            // logout did, and what remains is a login that began anew.
            let session = site.show(new).await;
            if session.get("user").is_some() {
                assert!(session.get("made").is_none(), "a session outlived its logout: {session}");
                let sent = logout.send("DELETE", "/session", &with(new), b"").await.unwrap();
                assert_eq!(sent.status, 204);
            }
        }
        assert_eq!(site.live().await, 0, "a live record is left behind");
        LOG.assert_secret(renewed.cookie().unwrap_or(&cookie));
    }
    println!("{announced} of {TRIALS} renewals were announced before the logout ended them, or began anew after it");
}
