//! What is logged. Alone in its program, since whoever listens to events listens to all of them.

use sosa_session::{RequestHead, SessionOptions, Sessions};
use sosa_tests::Log;

#[tokio::test]
async fn what_is_lost_is_logged_once_and_no_secret_is() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
    let sessions = Sessions::new(SessionOptions::memory());
    let open = |cookie: &str| sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));

    let first = open("");
    first.insert("user", "treasure").await.unwrap();
    let cookie = sessions.close(&first).await.unwrap().unwrap().value().to_owned();
    let pair = cookie.split(';').next().unwrap();
    let handle = first.handle().await.unwrap();
    drop(first);
    let mut all = log.take();
    assert!(all.contains("a session was created") && all.contains(handle.as_str()), "{all}");

    let dropped = open(pair);
    dropped.insert("user", "treasure 2").await.unwrap();
    drop(dropped);
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
