//! The executor goes on while the disk is at work.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use sosa_sled::Durability;
use sosa_sled::sosa::{Collection, ListOptions};

/// Counts how often the executor came by while this was waited for.
async fn turns<F: Future>(work: F) -> (F::Output, usize) {
    let mut work = pin!(work);
    let mut turns = 0;
    poll_fn(|context| match Pin::as_mut(&mut work).poll(context) {
        Poll::Ready(output) => Poll::Ready((output, turns)),
        Poll::Pending => {
            turns += 1;
            // As another task would, that is always ready.
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

#[tokio::test(flavor = "current_thread")]
async fn what_waits_for_the_disk_or_takes_long_does_not_hold_the_executor() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = sosa_sled::open(directory.path(), "").expect("opened");
    let things = store.collection("things");
    let quick = things.clone().with_durability(Durability::Eventual);
    for id in 0..5000 {
        quick.save(&id.to_string(), &"x".repeat(100)).await.expect("saved");
    }
    let (saved, turns_of_save) = turns(things.save("one", &"x".to_owned())).await;
    saved.expect("saved");
    let (listed, turns_of_list) = turns(things.list_with(ListOptions::new().limit(5000))).await;
    assert_eq!(listed.expect("listed").items.len(), 5000);
    let (purged, turns_of_purge) = turns(things.purge()).await;
    assert_eq!(purged.expect("purged"), 0);
    let (large, turns_of_large) = turns(quick.save("large", &"x".repeat(1 << 20))).await;
    large.expect("saved");
    // Each takes far longer than a turn; one that held the executor would leave it none.
    let least = [turns_of_save, turns_of_list, turns_of_purge, turns_of_large].into_iter().min();
    assert!(least > Some(0), "{turns_of_save} {turns_of_list} {turns_of_purge} {turns_of_large}");
}
