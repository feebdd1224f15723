//! Values that are too large for one page: whole for every reader, and gone with their record.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use sosa_sled::sosa::{Clock, Collection, Condition, DestroyOptions, ErrorKind, Expiry, ListOptions, LoadOptions};
use sosa_sled::{Durability, SledCollection, sled};

struct Database {
    db: sled::Db,
    things: SledCollection<String>,
    clock: Clock,
}

impl Database {
    fn open() -> Self {
        let db = sled::Config::new().temporary(true).open().expect("a database");
        let clock = Clock::manual();
        let store = sosa_sled::new(db.clone(), "pieces").with_clock(clock.clone());
        Self { db, things: store.with_durability(Durability::Eventual).collection("things"), clock }
    }

    /// The tree of the pieces, as the README says.
    fn pieces(&self) -> sled::Tree {
        self.db.open_tree("pieces:things{pieces}").expect("a tree")
    }

    /// Leaves what a process leaves that died as it saved.
    fn leave(&self, revision: u64, entry: &str) {
        let pieces = self.pieces();
        for index in 0..5_u32 {
            let key = [&revision.to_be_bytes()[..], &index.to_be_bytes()].concat();
            let piece = if index == 0 { entry.as_bytes() } else { &[b'x'; 4096] };
            pieces.insert(key, piece).expect("inserted");
        }
    }
}

/// A text of which no half can be taken for a whole.
fn text(of: u8, bytes: usize) -> String {
    char::from(of).to_string().repeat(bytes)
}

fn is_whole(text: &str) -> bool {
    text.bytes().all(|byte| byte == text.as_bytes()[0]) && [30_000, 300_000].contains(&text.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_sees_one_value_whole_while_others_are_saved() {
    let database = Database::open();
    database.things.save("a", &text(b'a', 30_000)).await.expect("saved");
    let done = Arc::new(AtomicBool::new(false));
    let readers = [false, true].map(|lists| {
        let (things, done) = (database.things.clone(), done.clone());
        tokio::spawn(async move {
            let mut read = 0;
            while !done.load(Ordering::Relaxed) {
                let found = match lists {
                    false => things.load("a").await.expect("loaded").expect("it is there throughout"),
                    true => {
                        let page = things.list().await.expect("listed").into_pairs().expect("nothing half is there");
                        page.into_iter().next().expect("it is there throughout").1
                    }
                };
                assert!(is_whole(&found), "a mix");
                read += 1;
            }
            read
        })
    });
    let writers = [b'b', b'c'].map(|of| {
        let things = database.things.clone();
        tokio::spawn(async move {
            for round in 0..100 {
                let bytes = if round % 2 == 0 { 300_000 } else { 30_000 };
                things.save("a", &text(of, bytes)).await.expect("saved");
            }
        })
    });
    for writer in writers {
        writer.await.expect("no task fails");
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.expect("no task fails") > 10, "hardly anything was read");
    }
}

#[tokio::test]
async fn no_piece_outlives_its_value() {
    let database = database_with_one().await;
    let large = text(b'b', 300_000);
    let lasts = database.pieces().len();
    assert!(lasts > 70, "one value in pieces");
    // Replaced by another, by a small one, destroyed, expired and met, by a save of no lifetime, and by a conflict.
    database.things.save("a", &large).await.expect("saved");
    assert_eq!(database.pieces().len(), lasts);
    database.things.save("a", &"small".to_owned()).await.expect("saved");
    assert_eq!(database.pieces().len(), 0);
    database.things.save("a", &large).await.expect("saved");
    let revision = database.things.load_with("a", LoadOptions::new()).await.expect("loaded").expect("there").revision;
    let stale = DestroyOptions::new().revision(7.into());
    assert!(database.things.destroy_with("a", stale).await.expect_err("another state").is_conflict());
    assert_eq!(database.pieces().len(), lasts);
    assert!(database.things.destroy_with("a", DestroyOptions::new().revision(revision)).await.expect("destroyed"));
    assert_eq!(database.pieces().len(), 0);
    let minute = Expiry::After(Duration::from_secs(60));
    for met in ["load", "list", "purge"] {
        database.things.save_with("a", &large, minute.into()).await.expect("saved");
        database.clock.advance(Duration::from_secs(60));
        match met {
            "load" => assert_eq!(database.things.load("a").await.expect("loaded"), None),
            "list" => assert!(database.things.list().await.expect("listed").items.is_empty()),
            _ => assert_eq!(database.things.purge().await.expect("purged"), 1),
        }
        assert_eq!(database.pieces().len(), 0, "met by {met}");
    }
    database.things.save_with("a", &large, Expiry::After(Duration::ZERO).into()).await.expect("nothing is left");
    let conflict = database.things.save_with("a", &large, Condition::Present.into()).await;
    assert!(conflict.expect_err("nothing is there").is_conflict());
    assert_eq!(database.pieces().len(), 0);
    // A touch keeps them.
    database.things.save_with("a", &large, minute.into()).await.expect("saved");
    database.things.load_with("a", LoadOptions::new().touch(Duration::from_secs(600))).await.expect("touched");
    database.clock.advance(Duration::from_secs(500));
    assert_eq!(database.things.load("a").await.expect("loaded"), Some(large));
}

async fn database_with_one() -> Database {
    let database = Database::open();
    database.things.save("a", &text(b'a', 300_000)).await.expect("saved");
    database
}

#[tokio::test]
async fn what_a_process_left_that_died_is_removed_by_later_saves_and_by_purge() {
    let database = database_with_one().await;
    let lasts = database.pieces().len();
    // Of an entry that is there in another state, and of one that is not.
    let leave = || {
        database.leave(1, ":a");
        database.leave(u64::MAX, ":gone");
    };
    leave();
    // The sweep of the save before may still be under way, and look at two revisions.
    assert!(database.pieces().len() > lasts);
    database.things.purge().await.expect("purged");
    assert_eq!(database.pieces().len(), lasts);
    leave();
    for _ in 0..4 {
        database.things.save("a", &text(b'b', 300_000)).await.expect("saved");
    }
    // The sweeps run while the saves go on: the next verb may come before the last of them has ended.
    let removed = async {
        while database.pieces().len() > lasts {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), removed).await.expect("pieces that no record names stay");
    assert_eq!(database.things.load("a").await.expect("loaded"), Some(text(b'b', 300_000)));
}

#[tokio::test]
async fn a_save_that_is_dropped_leaves_no_pieces() {
    let database = database_with_one().await;
    let lasts = database.pieces().len();
    for polls in 0..8 {
        {
            let value = text(b'b', 300_000);
            let mut save = pin!(database.things.save("a", &value));
            let mut left = polls;
            poll_fn(|context| {
                if left == 0 || save.as_mut().poll(context).is_ready() {
                    return Poll::Ready(());
                }
                left -= 1;
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
        let found = database.things.load("a").await.expect("loaded").expect("the old or the new");
        assert!(is_whole(&found));
    }
    // What runs on a thread ends by itself.
    let removed = async {
        loop {
            database.things.purge().await.expect("purged");
            if database.pieces().len() == lasts {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), removed).await.expect("pieces of a dropped save stay");
}

#[tokio::test]
async fn pieces_that_are_lost_are_an_error_of_their_entry_alone() {
    let database = database_with_one().await;
    database.things.save("b", &"small".to_owned()).await.expect("saved");
    let first = database.pieces().first().expect("read").expect("there").0;
    let second = [&first[..8], &1_u32.to_be_bytes()].concat();
    database.pieces().remove(second).expect("removed");
    let error = database.things.load("a").await.expect_err("a piece is missing");
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("damaged"), "{error}");
    let page = database.things.list_with(ListOptions::new()).await.expect("listed");
    let failed: Vec<_> = page.items.iter().map(|item| item.entry.as_ref().is_some_and(Result::is_err)).collect();
    assert_eq!(failed, [true, false]);
    database.things.save("a", &"mended".to_owned()).await.expect("saved");
    assert_eq!(database.pieces().len(), 0);
}

/// Two stores may be made from one database, and one of them writes the first large value when both are in use.
#[tokio::test]
async fn another_store_of_the_database_finds_them() {
    let database = Database::open();
    let other = sosa_sled::new(database.db.clone(), "pieces").with_clock(database.clock.clone());
    let other = other.with_durability(Durability::Eventual).collection::<String>("things");
    assert_eq!(other.load("a").await.expect("loaded"), None);
    let large = text(b'a', 300_000);
    database.things.save("a", &large).await.expect("saved");
    assert_eq!(other.load("a").await.expect("loaded"), Some(large.clone()));
    assert_eq!(other.list().await.expect("listed").into_pairs().expect("whole"), [("a".to_owned(), large)]);
    assert!(other.destroy("a").await.expect("destroyed"));
    assert_eq!(database.pieces().len(), 0);
}

/// The first calls of a collection open its trees, and some of them wait for their turn at one key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_first_calls_at_once_do_not_wait_for_each_other_for_ever() {
    let rounds = async {
        for _ in 0..50 {
            let database = Database::open();
            let mut calls = tokio::task::JoinSet::new();
            for call in 0..32 {
                let things = database.things.clone();
                calls.spawn(async move {
                    let bytes = if call % 2 == 0 { 10 } else { 30_000 };
                    things.save("a", &text(b'a', bytes)).await.expect("saved");
                    things.load("a").await.expect("loaded").expect("it is there").len()
                });
            }
            while let Some(found) = calls.join_next().await {
                assert!([10, 30_000].contains(&found.expect("no task fails")));
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), rounds).await.expect("calls wait for each other");
}
