//! What has expired gives its room back, without a task and without `purge`.

// The sizes are what this is for.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Duration;

use sosa_sled::Durability;
use sosa_sled::sosa::{Clock, Collection, ErrorKind, Expiry, ListOptions};

const ENTRIES: usize = 100_000;
const LIFETIME: Duration = Duration::from_secs(60);

/// Returns what all files take, in bytes.
fn size(path: &Path) -> u64 {
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        if path.is_dir() { size(&path) } else { path.metadata().map_or(0, |metadata| metadata.len()) }
    };
    std::fs::read_dir(path).expect("a directory").map(of).sum()
}

#[tokio::test]
async fn a_million_entries_that_expire_take_the_room_of_a_few() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Clock::manual();
    let store = sosa_sled::open(directory.path(), "").expect("opened").with_clock(clock.clone());
    let things = store.clone().with_durability(Durability::Eventual).collection("things");
    let value = "x".repeat(100);
    let mut sizes = Vec::new();
    for round in 0..10 {
        for entry in 0..ENTRIES {
            // Half of them are the same ones each time, the others are new.
            let id = if entry % 2 == 0 { format!("same-{entry}") } else { format!("{round}-{entry}") };
            things.save_with(&id, &value, Expiry::After(LIFETIME).into()).await.expect("saved");
        }
        sizes.push(size(directory.path()) / 1024);
        clock.advance(LIFETIME + Duration::from_secs(1));
    }
    println!("KiB after each round: {sizes:?}");
    // The engine itself lets a file become five times what it holds; and it holds what expired in the last
    // rounds. From about the tenth round on it grows no more.
    let worst = sizes.iter().max().expect("ten");
    assert!(*worst < 7 * sizes[0], "it grows: {sizes:?} KiB");
    assert!(things.list_with(ListOptions::new().ids_only()).await.expect("listed").items.is_empty());
    let purged = things.purge().await.expect("purged");
    println!("{purged} were left for the purge");
    assert!(purged < 2 * ENTRIES as u64, "{purged} expired entries were left");

    // What became shorter, and longer again, since it was last synced is no damage.
    for entry in 0..3000 {
        things.save(&entry.to_string(), &value).await.expect("saved");
    }
    println!("{} KiB at last", size(directory.path()) / 1024);
    drop((store, things));
    let store = loop {
        match sosa_sled::open(directory.path(), "") {
            // The engine's threads hold it for a moment.
            Err(error) if error.kind() == ErrorKind::Unavailable => std::thread::yield_now(),
            opened => break opened.expect("nothing is damaged"),
        }
    };
    let page = store.collection::<String>("things").list_with(ListOptions::new().limit(4000)).await.expect("listed");
    assert_eq!(page.items.len(), 3000);
}

#[tokio::test]
async fn what_never_expires_does_not_keep_what_does_from_being_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Clock::manual();
    let store = sosa_sled::open(directory.path(), "").expect("opened").with_clock(clock.clone());
    let things = store.with_durability(Durability::Eventual).collection("things");
    // Long enough for the sweeps to find that nothing expires here.
    for entry in 0..5000 {
        things.save(&format!("lasting-{entry}"), &entry).await.expect("saved");
    }
    for entry in 0..5000 {
        things.save_with(&format!("passing-{entry}"), &entry, Expiry::After(LIFETIME).into()).await.expect("saved");
    }
    clock.advance(LIFETIME);
    for entry in 0..15_000 {
        things.save(&format!("later-{entry}"), &entry).await.expect("saved");
    }
    let left = things.purge().await.expect("purged");
    assert!(left < 2500, "{left} of 5000 were left");
}
