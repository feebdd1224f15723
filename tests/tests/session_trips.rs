//! How many calls of Redis a request with a session makes, counted at the server.

use sosa_session::{CookieOptions, RequestHead, Secure, Session, SessionOptions, Sessions, SigningKey};
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

#[tokio::test]
async fn what_a_request_costs() {
    let redis = Redis::start(&[]);
    let collection =
        sosa_redis::from_url(redis.url().as_str(), "trips").expect("a URL").collection("sessions").unindexed();
    let key = SigningKey::new("0123456789abcdef0123456789abcdef").expect("long enough");
    let options = SessionOptions::new(collection).cookie(CookieOptions::new().secure(Secure::Never)).signed([key]);
    let sessions = Sessions::new(options);
    let one = |command: &str| vec![(command.to_owned(), 1)];

    let (made, cookie) = calls(&redis, &sessions, "", async |session| session.insert("user", "ada").await).await;
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

    for refused in [cookie.replace("s%3A", "s%3Ax"), format!("{cookie}x"), "id=x".to_owned()] {
        let (called, _) = calls(&redis, &sessions, &refused, read).await;
        assert_eq!(called, [], "a refused cookie");
    }
}
