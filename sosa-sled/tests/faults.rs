//! What fails harms what it should, and nothing else.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread::Thread;

use serde::{Deserialize, Deserializer, Serialize};
use sosa_sled::sosa::{Collection, Condition, DestroyOptions, ErrorKind, Outcome, Revision, SaveOptions};
use sosa_sled::{Durability, sled};

/// A model whose `Deserialize` panics over one value.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Fragile(u32);

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        assert_ne!(number, 13, "by the test");
        Ok(Self(number))
    }
}

#[tokio::test]
async fn a_model_that_panics_harms_its_own_call_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let things = sosa_sled::open(directory.path(), "").expect("opened").collection("things");
    things.save("good", &Fragile(7)).await.expect("saved");
    things.save("bad", &Fragile(13)).await.expect("saved");
    let (loads, lists) = (things.clone(), things.clone());
    assert!(tokio::spawn(async move { loads.load("bad").await }).await.expect_err("it panics").is_panic());
    assert!(tokio::spawn(async move { lists.list().await.map(drop) }).await.expect_err("it panics").is_panic());
    assert_eq!(things.load("good").await.expect("loaded"), Some(Fragile(7)));
    things.save("bad", &Fragile(8)).await.expect("saved");
    assert_eq!(things.list().await.expect("listed").items.len(), 2);
}

#[tokio::test]
async fn a_sync_that_failed_before_anything_was_synced_is_tried_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = sosa_sled::open(directory.path(), "").expect("opened");
    let things = store.collection("things");
    things.save("a", &1).await.expect("saved");
    // As where no descriptors are left, it cannot look into the directory.
    let (blobs, elsewhere) = (directory.path().join("blobs"), directory.path().join("elsewhere"));
    fs::rename(&blobs, &elsewhere).expect("renamed");
    let error = things.save("a", &2).await.expect_err("it is not synced");
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert!(error.to_string().contains("not on the disk yet"), "{error}");
    fs::rename(&elsewhere, &blobs).expect("renamed");
    things.save("b", &3).await.expect("saved");
    store.close().await.expect("closed");
    let things = sosa_sled::open(directory.path(), "").expect("opened").collection("things");
    assert_eq!((things.load("a").await.expect("loaded"), things.load("b").await.expect("loaded")), (Some(2), Some(3)));
}

#[tokio::test]
async fn what_is_no_record_is_in_no_state_that_a_condition_could_name() {
    let db = sled::Config::new().temporary(true).open().expect("a database");
    let things = sosa_sled::new(db.clone(), "p").with_durability(Durability::Eventual).collection::<u64>("things");
    let tree = db.open_tree("p:things").expect("a tree");
    tree.insert(":foreign", "of another program").expect("inserted");
    assert_eq!(things.load("foreign").await.expect_err("no record").kind(), ErrorKind::Decode);
    let none = SaveOptions::new().condition(Condition::Revision(Revision::NONE));
    assert!(things.save_with("foreign", &1, none).await.expect_err("a conflict").is_conflict());
    let none = DestroyOptions::new().revision(Revision::NONE);
    assert!(things.destroy_with("foreign", none).await.expect_err("a conflict").is_conflict());
    assert_eq!(tree.get(":foreign").expect("read").as_deref(), Some(&b"of another program"[..]));
}

async fn all_verbs(directory: &std::path::Path) {
    let store = sosa_sled::open(directory, "").expect("opened");
    let things = store.collection("things");
    for value in ["small".to_owned(), "large".repeat(10_000)] {
        things.save("a", &value).await.expect("saved");
        assert_eq!(things.load("a").await.expect("loaded"), Some(value));
        assert_eq!(things.list().await.expect("listed").items.len(), 1);
        assert!(things.destroy("a").await.expect("destroyed"));
    }
    assert_eq!(things.purge().await.expect("purged"), 0);
    store.close().await.expect("closed");
}

#[test]
fn it_needs_no_timers_and_no_runtime() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without timers");
    runtime.block_on(all_verbs(directory.path()));
    drop(runtime);
    block_on(all_verbs(directory.path()));
}

/// The least of an executor.
fn block_on(future: impl Future<Output = ()>) {
    struct Unpark(Thread, AtomicBool);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::SeqCst);
            self.0.unpark();
        }
    }
    let unpark = Arc::new(Unpark(std::thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(unpark.clone());
    let mut future = std::pin::pin!(future);
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        while !unpark.1.swap(false, Ordering::SeqCst) {
            std::thread::park();
        }
    }
}
