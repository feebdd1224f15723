//! What a large record costs who reads one key of it, counted byte by byte. Alone in its program, so that
//! nothing else is counted.

// The figures are what this is for.
#![allow(clippy::print_stdout)]

use cap::Cap;
use sosa::Collection;
use sosa_session::{ExpressOptions, RequestHead, SessionData, SessionOptions, Sessions};
use sosa_tests::Redis;

#[global_allocator]
static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

/// The cookie of this id, signed by `keyboard cat`.
const ID: &str = "Zr2kQ0pV7yXb3mNc8dLwTg5sHj1fAe9u";
const COOKIE: &str = "connect.sid=s%3AZr2kQ0pV7yXb3mNc8dLwTg5sHj1fAe9u.UHckYv5hsUh3YGv4ETmcQJr7A%2Bz%2FzaUl6tJPKAGOtoQ";

fn record(size: usize) -> SessionData {
    let values: String = (0..size / 1000).map(|n| format!(r#","k{n}":"{}""#, "x".repeat(990))).collect();
    format!(r#"{{"cookie":{{}},"user":"ada"{values}}}"#).parse().expect("a record")
}

/// Returns how many bytes are allocated while a request reads one key.
async fn read_one_key(sessions: &Sessions) -> usize {
    let before = ALLOCATOR.total_allocated();
    let session = sessions.open(RequestHead::new([("cookie", COOKIE.as_bytes())]));
    assert_eq!(session.get::<String>("user").await.expect("loaded").as_deref(), Some("ada"));
    sessions.close(&session).await.expect("touched").into_set_cookie();
    ALLOCATOR.total_allocated() - before
}

async fn cost(collection: impl Collection<SessionData> + Clone + 'static, size: usize) -> usize {
    collection.save(ID, &record(size)).await.expect("saved");
    let sessions = Sessions::new(SessionOptions::express(collection, ExpressOptions::new(["keyboard cat"])));
    // Connects, and makes room for such answers.
    for _ in 0..5 {
        read_one_key(&sessions).await;
    }
    read_one_key(&sessions).await
}

#[tokio::test(flavor = "current_thread")]
async fn to_read_one_key_costs_no_more_than_to_carry_the_record() {
    let memory = sosa_memory::new("test").collection("sess");
    let (small, large) = (cost(memory.clone(), 1000).await, cost(memory, 1_000_000).await);
    println!("in memory: {small} bytes of 1 KB, {large} of 1 MB");
    assert!(large <= small + 100, "it depends on the record's size");

    let redis = Redis::start(&[]);
    let collection = sosa_redis::from_url(redis.url().as_str(), "").expect("a URL").collection_at("sess:");
    let (small, large) = (cost(collection.clone(), 1000).await, cost(collection, 1_000_000).await);
    println!("on Redis: {small} bytes of 1 KB, {large} of 1 MB");
    // Two answers carry it, the second of which is the touch's; of each the driver makes one copy and the
    // decoder two, whatever is in it: one goes, the other is the session.
    assert!(large <= 2 * 3 * 1_100_000, "it is more than copied");
}
