//! How many calls of Redis a request with a session makes, counted at the server.

use std::time::Duration;

use sosa_session::{CookieOptions, Lifetime, RequestHead, Secure, Session, SessionOptions, Sessions, SigningKey};
use sosa_tests::Redis;

/// Opens a session, and tells what was called until it was closed.
async fn calls<F: Future<Output = sosa_session::Result<()>>>(
    redis: &Redis,
    sessions: &Sessions,
    cookie: &str,
    handler: impl FnOnce(Session) -> F,
) -> (Vec<(String, u64)>, Option<String>) {
    redis.calls();
    let session = sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));
    handler(session.clone()).await.expect("handled");
    let cookie = sessions.close(&session).await.expect("closed").into_set_cookie();
    let pair = cookie.and_then(|cookie| cookie.value().split(';').next().map(str::to_owned));
    (redis.calls().into_iter().collect(), pair)
}

/// Whatever its class.
#[tokio::test]
async fn what_a_request_costs() {
    for class in [None, Some("remembered")] {
        of_a_session(class).await;
    }
}

async fn of_a_session(class: Option<&str>) {
    let redis = Redis::start(&[]);
    let collection =
        sosa_redis::from_url(redis.url().as_str(), "trips").expect("a URL").collection("sessions").unindexed();
    let key = SigningKey::new("0123456789abcdef0123456789abcdef").expect("long enough");
    let month = Duration::from_secs(30 * 86_400);
    let options = SessionOptions::new(collection)
        .cookie(CookieOptions::new().secure(Secure::Never))
        .class("remembered", Lifetime::new().idle(month).absolute(3 * month).persistent())
        .signed([key]);
    let sessions = Sessions::new(options);
    let one = |command: &str| vec![(command.to_owned(), 1)];

    let log_in = async |session: Session| {
        match class {
            Some(class) => session.regenerate_as(class).await?,
            None => session.regenerate().await?,
        }
        session.insert("user", "ada").await
    };
    let (made, cookie) = calls(&redis, &sessions, "", log_in).await;
    assert_eq!(made, one("set"), "a first write, as at a login");
    let cookie = cookie.expect("a new session has a cookie");

    let (untouched, _) = calls(&redis, &sessions, &cookie, async |_| Ok(())).await;
    assert_eq!(untouched, []);
    let read = async |session: Session| session.get::<String>("user").await.map(drop);
    // Connects where it did not yet, and brings the script of the next step.
    let (sliding_read, _) = calls(&redis, &sessions, &cookie, read).await;
    assert_eq!(sliding_read, one("getex"));

    let write = async |session: Session| session.insert("n", fastrand::u64(..)).await;
    calls(&redis, &sessions, &cookie, write).await;
    let (written, _) = calls(&redis, &sessions, &cookie, write).await;
    // What the script calls is counted too.
    let asked: Vec<_> = written.iter().filter(|(command, _)| !["get", "set"].contains(&command.as_str())).collect();
    assert_eq!(asked, [&("evalsha".to_owned(), 1), &("getex".to_owned(), 1)]);

    let expires = async |session: Session| {
        session.unattended()?;
        session.expires().await.map(drop)
    };
    calls(&redis, &sessions, &cookie, expires).await;
    let (told, _) = calls(&redis, &sessions, &cookie, expires).await;
    let asked: Vec<_> = told.iter().filter(|(command, _)| command.starts_with("eval")).collect();
    assert_eq!(asked.iter().map(|(_, calls)| calls).sum::<u64>(), 1, "when it ends, without a use: {told:?}");

    for refused in [cookie.replace("s%3A", "s%3Ax"), format!("{cookie}x"), "id=x".to_owned()] {
        let (called, _) = calls(&redis, &sessions, &refused, read).await;
        assert_eq!(called, [], "a refused cookie");
    }
}
