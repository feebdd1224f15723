//! A load that touches with slack writes only what is due: counted by what the tree tells who watches it.

use std::time::Duration;

use sosa::{Clock, Collection, Expiry, LoadOptions};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_touch_that_is_not_due_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let db = sled::open(directory.path()).unwrap();
    let clock = Clock::manual();
    let things = sosa_sled::new(db.clone(), "p").with_clock(clock.clone()).collection::<u64>("things");
    things.save_with("a", &1, Expiry::After(HOUR).into()).await.unwrap();
    let mut writes = db.open_tree("p:things").unwrap().watch_prefix(b"");
    let touch = LoadOptions::new().touch(HOUR).slack(MINUTE);

    for _ in 0..59 {
        clock.advance(Duration::from_secs(1));
        assert_eq!(things.load_with("a", touch).await.unwrap().map(|entry| entry.value), Some(1));
    }
    assert!(writes.next_timeout(Duration::ZERO).is_err(), "it wrote though nothing was due");

    clock.advance(Duration::from_secs(1));
    for _ in 0..10 {
        things.load_with("a", touch).await.unwrap();
    }
    assert!(writes.next_timeout(Duration::ZERO).is_ok(), "the deadline was due");
    assert!(writes.next_timeout(Duration::ZERO).is_err(), "it wrote more than once");
    clock.advance(HOUR - MINUTE);
    assert_eq!(things.load("a").await.unwrap(), Some(1));
}
