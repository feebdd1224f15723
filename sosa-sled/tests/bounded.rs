//! The disk is bounded by what lives: what has expired gives its room back, without a task and without `purge`, and
//! so does what was replaced, however large it is.

// The sizes are what this is for.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use sosa_sled::sosa::{Clock, Collection, CollectionExt, Expiry, ListOptions};
use sosa_sled::{Durability, SledCollection, sled};

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
    store.close().await.expect("closed");
    let store = sosa_sled::open(directory.path(), "").expect("nothing is damaged");
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

/// What the README promises: at most so many times what lives, and so much.
const FACTOR: u64 = 6;
const CONSTANT: u64 = 32 << 20;

/// How many entries live.
const LIVE: usize = 4;

/// A text that is another each time, over and over.
fn value(size: usize) -> String {
    let mut text: String = (0..997).map(|_| fastrand::alphanumeric()).cycle().take(size).collect();
    text.truncate(size);
    text
}

/// Counts how often something can be done in a fifth of a second.
async fn rate(mut call: impl AsyncFnMut()) -> f64 {
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(200) {
        call().await;
        count += 1;
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}

async fn saves(bytes: usize, most: usize, total: usize, durability: Durability, measures: bool) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = sosa_sled::open(directory.path(), "disk").expect("opened").with_durability(durability);
    let things: SledCollection<String> = store.collection("things");
    let saves = (total / bytes).clamp(8 * LIVE, most);
    let mut highest = 0;
    let mut loads = String::new();
    for save in 0..saves {
        let id = (save % LIVE).to_string();
        let value = value(bytes);
        things.save(&id, &value).await.expect("saved");
        highest = highest.max(size(directory.path()));
        if save + 1 == saves {
            assert_eq!(things.load(&id).await.expect("loaded").as_ref(), Some(&value));
            if measures {
                let bare = sled::Config::new().temporary(true).open().expect("a database");
                bare.insert("0", value.as_bytes()).expect("inserted");
                let bare = rate(async || drop(bare.get("0").expect("loaded").map(|value| value.to_vec()))).await;
                let ours = rate(async || drop(things.load(&id).await.expect("loaded"))).await;
                loads = format!("; {ours:.0} loads a second, {bare:.0} of the bytes from bare sled");
            }
        }
    }
    assert_eq!(things.clear().await.expect("cleared"), LIVE as u64);
    // Small writes, as they go on elsewhere: the engine frees a part of its log when it has gone on by another.
    let others = store.collection::<u64>("others");
    for other in 0..2000 {
        others.save("other", &other).await.expect("saved");
    }
    let destroyed = size(directory.path());
    let live = (bytes * LIVE) as u64;
    println!(
        "{bytes:>9} B {durability:?}: {saves:>4} saves; live {:>6} KiB, at its highest {:>7} KiB, after destroying all \
         {:>7} KiB{loads}",
        live / 1024,
        highest / 1024,
        destroyed / 1024,
    );
    assert!(highest <= FACTOR * live + CONSTANT, "{bytes} B: {highest} bytes on the disk for {live} that live");
    assert!(destroyed <= FACTOR * live + CONSTANT, "{bytes} B: {destroyed} bytes on the disk for none that live");
}

#[tokio::test]
async fn the_disk_is_bounded_by_what_lives() {
    let all = std::env::var_os("ALL_SIZES").is_some();
    let (sizes, most, total): (&[usize], _, _) = match all {
        true => {
            (&[1, 100, 1000, 4000, 5000, 16_000, 64_000, 130_000, 300_000, 1 << 20, 4 << 20, 16 << 20], 2000, 512 << 20)
        }
        false => (&[1, 1000, 5000, 64_000, 300_000, 4 << 20], 500, 48 << 20),
    };
    for &bytes in sizes {
        saves(bytes, most, total, Durability::Immediate, all).await;
        saves(bytes, most, total, Durability::Eventual, all).await;
    }
}
