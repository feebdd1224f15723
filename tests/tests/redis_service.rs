//! Two `rest` processes that share one Redis.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::Value;
use sosa_tests::{Client, Redis, Response, Rest};

const JSON: (&str, &[u8]) = ("content-type", b"application/json");

/// Two processes of the service, and the server behind them.
struct Site {
    redis: Redis,
    services: [Rest; 2],
}

impl Site {
    async fn start(redis_options: &[&str]) -> Self {
        let redis = Redis::start(redis_options);
        let arguments = ["--store", &redis.url()];
        let services = [Rest::start(&arguments).await, Rest::start(&arguments).await];
        Self { redis, services }
    }

    /// Connects to one of the two, in turn.
    async fn connect(&self, turn: usize) -> Client {
        self.services[turn % 2].connect().await
    }

    /// Makes a session and returns its cookie.
    async fn log_in(&self) -> String {
        let mut client = self.connect(0).await;
        let response = client.send("POST", "/session", &[JSON], br#"{"user":"ada"}"#).await.unwrap();
        assert_eq!(response.status, 200, "{response:?}");
        response.cookie().expect("a new session has a cookie").to_owned()
    }

    async fn send(&self, turn: usize, method: &str, path: &str, cookie: &str, body: &[u8]) -> Response {
        let mut client = self.connect(turn).await;
        client.send(method, path, &[JSON, ("cookie", cookie.as_bytes())], body).await.unwrap()
    }

    async fn show(&self, turn: usize, cookie: &str) -> Value {
        let response = self.send(turn, "GET", "/session", cookie, b"").await;
        assert_eq!(response.status, 200, "{response:?}");
        serde_json::from_str(&response.body).unwrap()
    }

    /// Stops the services, and checks that they logged no id.
    async fn stop(self, cookies: &[&str]) {
        for service in self.services {
            let log = service.stop(Signal::SIGTERM).await;
            for cookie in cookies {
                assert!(log.contains("TRACE") && !log.contains(cookie.split_once('=').unwrap().1), "an id was logged");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_between_two_processes() {
    let site = Site::start(&[]).await;
    let cookie = site.log_in().await;
    let posts = (0..200).map(|n| {
        let (site, cookie) = (&site, &cookie);
        async move {
            let body = format!(r#"{{"key{n}":{n}}}"#);
            let response = site.send(n, "POST", "/session", cookie, body.as_bytes()).await;
            assert_eq!(response.status, 200, "{response:?}");
        }
    });
    join_all(posts).await;
    for turn in 0..2 {
        let session = site.show(turn, &cookie).await;
        assert!((0..200).all(|n| session[format!("key{n}")] == n), "some of the 200 keys are lost: {session}");
        assert_eq!(session["user"], "ada");
    }
    site.stop(&[&cookie]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_visits_are_counted() {
    const CLIENTS: usize = 40;
    const VISITS: usize = 25;
    let site = Site::start(&[]).await;
    let cookie = site.log_in().await;
    let visitors = (0..CLIENTS).map(|n| {
        let (site, cookie) = (&site, &cookie);
        async move {
            let mut client = site.connect(n).await;
            for _ in 0..VISITS {
                let response = client.send("POST", "/visits", &[("cookie", cookie.as_bytes())], b"").await.unwrap();
                assert_eq!(response.status, 200, "{response:?}");
            }
        }
    });
    join_all(visitors).await;
    for turn in 0..2 {
        assert_eq!(site.show(turn, &cookie).await["visits"], CLIENTS * VISITS);
    }
    site.stop(&[&cookie]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_destroys_is_gone_for_the_other() {
    let site = Site::start(&[]).await;
    let cookie = site.log_in().await;
    assert_eq!(site.show(1, &cookie).await["user"], "ada");
    let destroyed = site.send(0, "DELETE", "/session", &cookie, b"").await;
    assert_eq!(destroyed.status, 204);
    for turn in 0..2 {
        assert_eq!(site.show(turn, &cookie).await["user"], Value::Null);
    }
    // And stays so: under its cookie the other starts another session.
    let other = site.send(1, "POST", "/session", &cookie, br#"{"n":1}"#).await;
    assert_eq!(other.status, 200);
    assert!(other.cookie().is_some_and(|other| other != cookie), "{other:?}");
    assert_eq!(site.show(0, &cookie).await["rev"], 0);
    site.stop(&[&cookie]).await;
}

/// Redis dies: 503 within the timeout, nothing of the session is lost, and it comes back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_dies_is_503_until_it_is_back() {
    let mut site = Site::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let cookie = site.log_in().await;

    let refused = async |site: &Site, bound: Duration| {
        for turn in 0..2 {
            for (method, path) in [("GET", "/session"), ("POST", "/visits"), ("DELETE", "/session")] {
                let began = Instant::now();
                let response = site.send(turn, method, path, &cookie, b"").await;
                assert_eq!((response.status, response.header("set-cookie")), (503, None), "{response:?}");
                assert!(began.elapsed() < bound, "{method} took {:?}", began.elapsed());
            }
        }
    };
    site.redis.kill();
    refused(&site, Duration::from_millis(1500)).await;
    // What does not need the store is served.
    assert_eq!(site.send(0, "GET", "/nothing", &cookie, b"").await.status, 404);
    site.redis.restart();
    for turn in 0..2 {
        assert_eq!(site.show(turn, &cookie).await["user"], "ada");
    }

    site.redis.signal(Signal::SIGSTOP);
    // Two seconds are the default.
    let began = Instant::now();
    let response = site.send(0, "GET", "/session", &cookie, b"").await;
    assert_eq!(response.status, 503, "{response:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    site.redis.signal(Signal::SIGCONT);
    for turn in 0..2 {
        let visited = site.send(turn, "POST", "/visits", &cookie, b"").await;
        assert_eq!((visited.status, &*visited.body), (200, &*format!("{}\n", turn + 1)));
    }
    site.stop(&[&cookie]).await;
}
