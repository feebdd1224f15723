//! Entries move from backend to backend, and come back as they were.

use std::time::{Duration, UNIX_EPOCH};

use sosa::{Collection, CollectionExt, Copied, CopyOptions, Cursor, ErrorKind, Expiry, ListOptions, SaveOptions};
use sosa_sled::Durability;
use sosa_tests::Redis;

const ENTRIES: u64 = 100_000;

/// All entries with their deadlines.
async fn all(collection: &dyn Collection<String>) -> Vec<(String, String, Option<Expiry>)> {
    let (mut all, mut rest) = (Vec::new(), Some(ListOptions::new().limit(10_000).with_expiry()));
    while let Some(options) = rest {
        let page = collection.list_with(options.clone()).await.expect("listed");
        rest = page.next.clone().map(|next| options.cursor(next));
        for item in page.items {
            let entry = item.entry.expect("entries were asked for").expect("decoded");
            all.push((item.id, entry.value, entry.expiry));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_entries_come_back_from_sled_and_redis() {
    let server = Redis::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let memory = sosa_memory::new("from").collection::<String>("things");
    let sled = sosa_sled::open(directory.path(), "copy").expect("a database").collection::<String>("things");
    let redis = sosa_redis::from_url(&server.url(), "copy").expect("a URL").collection::<String>("things");
    let back = sosa_memory::new("back").collection::<String>("things");
    // A fixed time far from now, so that nothing ends on the way.
    let deadline = |n: u64| UNIX_EPOCH + Duration::from_millis(4_000_000_000_000 + n);
    for n in 0..ENTRIES {
        let expiry = if n % 3 == 0 { Expiry::Never } else { Expiry::At(deadline(n)) };
        let id = format!("{:x}:{n}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        memory.save_with(&id, &format!("value {n}"), SaveOptions::from(expiry)).await.expect("saved");
    }
    let copied = |copied: &Copied| (copied.saved, copied.present, copied.undecodable, copied.cursor.clone());
    let mut pages = 0;
    let there = sosa::copy(&memory, &sled, CopyOptions::new().progress(|_| pages += 1)).await.expect("copied");
    assert_eq!(copied(&there), (ENTRIES, 0, 0, None));
    assert!(pages >= ENTRIES / 1000, "{pages}");
    assert_eq!(copied(&sosa::copy(&sled, &redis, CopyOptions::new()).await.expect("copied")), (ENTRIES, 0, 0, None));
    assert_eq!(copied(&sosa::copy(&redis, &back, CopyOptions::new()).await.expect("copied")), (ENTRIES, 0, 0, None));
    assert!(all(&memory).await == all(&back).await, "something changed on the way");
}

#[tokio::test]
async fn what_is_there_stays_unless_told_otherwise() {
    let [from, to] = ["from", "to"].map(|name| sosa_memory::new(name).collection::<String>("things"));
    for id in ["a", "b", "c"] {
        from.save(id, &"new".to_owned()).await.expect("saved");
    }
    to.save("b", &"old".to_owned()).await.expect("saved");
    let copied = sosa::copy(&from, &to, CopyOptions::new().cursor(Cursor::after("a"))).await.expect("copied");
    assert_eq!((copied.saved, copied.present), (1, 1));
    assert_eq!(to.load_many(["a", "b", "c"]).await.expect("loaded"), [None, Some("old".into()), Some("new".into())]);
    let copied = sosa::copy(&from, &to, CopyOptions::new().overwrite().limit(2)).await.expect("copied");
    assert_eq!((copied.saved, copied.present), (3, 0));
    assert_eq!(to.load("b").await.expect("loaded"), Some("new".into()));
}

#[tokio::test]
async fn what_cannot_be_decoded_is_named_by_its_log_id_and_left_behind() {
    let db = sosa_sled::sled::Config::new().temporary(true).open().expect("a database");
    let store = sosa_sled::new(db, "copy").with_durability(Durability::Eventual);
    for id in ["a", "b", "c"] {
        store.collection::<u64>("things").save(id, &1).await.expect("saved");
    }
    store.collection::<String>("things").save("b", &"a secret".to_owned()).await.expect("saved");
    let to = sosa_memory::new("to").collection::<u64>("things");
    let copied = sosa::copy(&store.collection::<u64>("things"), &to, CopyOptions::new()).await.expect("copied");
    assert_eq!((copied.saved, copied.undecodable, copied.left), (2, 1, vec![sosa::log_id("b")]));
}

#[tokio::test]
async fn a_copy_that_was_broken_off_goes_on_at_its_cursor() {
    let from = sosa_memory::new("from").collection::<u64>("things");
    for n in 0..100 {
        from.save(&format!("{n:02}"), &n).await.expect("saved");
    }
    let small = sosa_memory::new("to").with_limit(50);
    let mut cursor = None;
    let options = CopyOptions::new().limit(20).progress(|copied| cursor = copied.cursor.clone());
    let error = sosa::copy(&from, &small.collection("things"), options).await.expect_err("it is full");
    assert_eq!(error.kind(), ErrorKind::CapacityExceeded);
    let cursor = cursor.expect("some pages were copied");
    assert_eq!(cursor.as_str(), "39");
    let to = sosa_memory::new("to").collection("things");
    let copied = sosa::copy(&from, &to, CopyOptions::new().cursor(cursor)).await.expect("copied");
    assert_eq!((copied.saved, copied.cursor), (60, None));
}
