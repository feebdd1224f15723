//! A database is opened again as soon as it was closed, or its last handle dropped.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use sosa_sled::sosa::{Collection, ErrorKind};
use sosa_sled::{Durability, OpenOptions};

const TIMES: u64 = 40;

#[tokio::test]
async fn after_it_was_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    for time in 0..TIMES {
        let counts = sosa_sled::open(directory.path(), "").expect("opened").collection("counts");
        assert_eq!(counts.load("count").await.expect("loaded"), time.checked_sub(1));
        counts.save("count", &time).await.expect("saved");
    }
}

#[tokio::test]
async fn after_a_call_was_dropped_on_its_way() {
    let directory = tempfile::tempdir().expect("a directory");
    for time in 0..TIMES {
        let store = sosa_sled::open(directory.path(), "").expect("opened");
        let things = store.collection("things");
        let large = "x".repeat(200_000);
        let mut save = pin!(things.save("large", &large));
        let mut polls = time % 4;
        poll_fn(|context| match save.as_mut().poll(context) {
            Poll::Pending if polls > 0 => {
                polls -= 1;
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
        .await;
    }
}

/// With no patience at all: when it is closed, it is free.
#[tokio::test]
async fn after_it_was_closed() {
    let directory = tempfile::tempdir().expect("a directory");
    let impatient = OpenOptions::new().lock_timeout(Duration::ZERO);
    for time in 0..TIMES {
        let store = impatient.open(directory.path(), "").expect("opened").with_durability(Durability::Eventual);
        let counts = store.collection("counts");
        assert_eq!(counts.load("count").await.expect("loaded"), time.checked_sub(1));
        counts.save("count", &time).await.expect("saved");
        let clone = store.clone();
        store.close().await.expect("closed");
        // For all of its clones and collections.
        for error in
            [counts.load("count").await.expect_err("closed"), counts.destroy("count").await.expect_err("closed")]
        {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.to_string().contains("closed"), "{error}");
        }
        clone.close().await.expect("it is closed already");
    }
}

/// Each of them returns when it is free, and not when another began to close it.
#[tokio::test(flavor = "multi_thread")]
async fn after_all_of_several_closed_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let impatient = OpenOptions::new().lock_timeout(Duration::ZERO);
    for time in 0..TIMES {
        let store = impatient.open(directory.path(), "").expect("opened").with_durability(Durability::Eventual);
        store.collection("counts").save("count", &time).await.expect("saved");
        let others = [(); 3].map(|()| tokio::spawn(store.clone().close()));
        store.close().await.expect("closed");
        drop(impatient.open(directory.path(), "").expect("it is free"));
        for other in others {
            other.await.expect("no task fails").expect("closed");
        }
    }
}

#[tokio::test]
async fn while_another_holds_it_no_longer_than_the_timeout() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = sosa_sled::open(directory.path(), "").expect("opened");
    let began = Instant::now();
    let held = OpenOptions::new().lock_timeout(Duration::from_millis(50)).open(directory.path(), "");
    let error = held.expect_err("it is held");
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("holds it"), "{error}");
    // It ends while the other waits.
    let path = directory.path().to_owned();
    let waiting =
        std::thread::spawn(move || OpenOptions::new().lock_timeout(Duration::from_secs(30)).open(path, "").map(drop));
    store.close().await.expect("closed");
    waiting.join().expect("no panic").expect("opened");
}

#[test]
fn a_look_makes_no_database() {
    let directory = tempfile::tempdir().expect("a directory");
    for path in [directory.path().to_owned(), directory.path().join("mistyped")] {
        let error = sosa_sled::open_existing(&path, "").expect_err("there is none");
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert!(error.to_string().contains("there is none"), "{error}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
    drop(sosa_sled::open(directory.path(), "").expect("made"));
    drop(sosa_sled::open_existing(directory.path(), "").expect("opened"));
}
