//! A session whose record cannot be read: an error for who needs it, and for nobody else.

use sosa::{Collection, LoadOptions};
use sosa_redis::redis::{self, cmd};
use sosa_session::{RequestHead, Session, SessionOptions, Sessions};
use sosa_tests::Redis;

/// What is stored when a write was cut off, by another program, or by a later version that was rolled back.
const RECORDS: [&str; 7] =
    [r#"{"sosa":{"v":1,"re"#, "", "null", "[]", r#"{"user":"ada"}"#, r#"{"sosa":{"v":2}}"#, "\u{0}"];

struct Site {
    redis: redis::aio::MultiplexedConnection,
    sessions: Sessions,
}

impl Site {
    async fn start(server: &Redis) -> Self {
        let client = redis::Client::open(server.url()).expect("a URL");
        let redis = client.get_multiplexed_async_connection().await.expect("it runs");
        let sessions = Sessions::new(SessionOptions::new(sosa_redis::new(client, "app").collection("sessions")));
        Self { redis, sessions }
    }

    /// Logs in, and puts something else in the place of the record, for a minute. Returns cookie and key.
    async fn damaged(&mut self, record: &str) -> (String, String) {
        let first = self.sessions.open(RequestHead::new([]));
        first.insert("user", "ada").await.expect("inserted");
        let cookie = self.sessions.close(&first).await.expect("closed").into_set_cookie().expect("a cookie");
        let key = format!("app:sessions:{}", first.public_id().await.expect("a public id"));
        let () = cmd("SET").arg(&key).arg(record).arg("EX").arg(60).query_async(&mut self.redis).await.expect("set");
        (cookie.value().split(';').next().unwrap_or_default().to_owned(), key)
    }

    fn open(&self, cookie: &str) -> Session {
        self.sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]))
    }

    async fn seconds_left(&mut self, key: &str) -> i64 {
        cmd("TTL").arg(key).query_async(&mut self.redis).await.expect("asked")
    }
}

#[tokio::test]
async fn an_end_and_a_new_beginning_need_nothing_of_it() {
    let server = Redis::start(&[]);
    let mut site = Site::start(&server).await;
    for record in RECORDS {
        // A page that needs it tells, and nobody prolongs it.
        let (cookie, key) = site.damaged(record).await;
        for _ in 0..2 {
            let page = site.open(&cookie);
            for _ in 0..2 {
                assert_eq!(page.get::<String>("user").await.expect_err("unreadable").status(), 500, "{record:?}");
            }
            assert!(page.insert("seen", 1).await.is_err());
            assert!(site.sessions.close(&page).await.expect("nothing to save").into_set_cookie().is_none());
        }
        let left = site.seconds_left(&key).await;
        assert!((1..=60).contains(&left), "{record:?}: {left} seconds are left");

        // A login, by each of the two calls.
        for renews in [false, true] {
            let (cookie, key) = site.damaged(record).await;
            let login = site.open(&cookie);
            if renews {
                login.renew().await.expect("renewed");
            } else {
                login.regenerate().await.expect("regenerated");
            }
            login.insert("user", "bob").await.expect("inserted");
            let new = site.sessions.close(&login).await.expect("closed").into_set_cookie().expect("a cookie");
            let me = site.open(new.value().split(';').next().unwrap_or_default());
            assert_eq!(me.get::<String>("user").await.expect("loaded").as_deref(), Some("bob"), "{record:?}");
            // Nothing is left under the old id but that it was ended.
            let left = site.seconds_left(&key).await;
            assert!(left == -2 || (1..=30).contains(&left), "{record:?}: {left}");
        }

        // A logout.
        let (cookie, key) = site.damaged(record).await;
        let logout = site.open(&cookie);
        logout.destroy().await.expect("destroyed");
        let removal =
            site.sessions.close(&logout).await.expect("closed").into_set_cookie().expect("the cookie is taken back");
        assert!(removal.value().contains("Max-Age=0"), "{record:?}");
        assert_eq!(site.seconds_left(&key).await, -2, "{record:?}: it is still there");
    }
}

/// What a codec writes and could not read is refused before it takes the place of what is there: on the disk, in
/// sessions, and in memory where it is told to encode.
#[tokio::test]
async fn what_could_not_be_read_again_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = sosa_sled::open(directory.path(), "app").expect("opened").collection::<f64>("numbers");
    let memory = sosa_memory::new("app").encoded().collection::<f64>("numbers");
    for numbers in [&disk as &dyn Collection<f64>, &memory] {
        numbers.save("a", &1.5).await.expect("saved");
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = numbers.save("a", &bad).await.expect_err("it has no JSON form");
            assert_eq!(error.kind(), sosa::ErrorKind::Encode);
        }
        let entry = numbers.load_with("a", LoadOptions::new()).await.expect("loaded").expect("there");
        assert!((entry.value - 1.5).abs() < f64::EPSILON);
    }
    let sessions = Sessions::new(SessionOptions::memory());
    let session = sessions.open(RequestHead::new([]));
    session.insert("rate", 1.5).await.expect("inserted");
    let error = session.insert("rate", f64::NAN).await.expect_err("it has no JSON form");
    assert_eq!(error.kind(), sosa_session::ErrorKind::Encode);
    assert_eq!(session.get("rate").await.expect("it stays"), Some(1.5));
    session.destroy().await.expect("destroyed");
}
