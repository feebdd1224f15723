//! Databases that earlier versions wrote go on opening.

use std::fs;
use std::path::Path;

use sosa_sled::sosa::{Collection, LoadOptions};

/// Copies a directory, since a database is written to as it is opened.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).expect("copied");
        }
    }
}

fn body(bytes: usize) -> String {
    "0123456789".chars().cycle().take(bytes).collect()
}

/// Before values were cut into pieces, all were whole in their records, and large pages in files of their own.
#[tokio::test]
async fn values_that_were_kept_whole_are_read_and_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/databases/whole-values"), &path);
    for round in 0..2 {
        let store = sosa_sled::open_existing(&path, "old").expect("opened");
        let texts = store.collection::<String>("texts");
        let listed = texts.list().await.expect("listed").into_pairs().expect("decoded");
        let expected = [
            ("blob", 200_000),
            ("empty", 0),
            ("group", 30_000),
            ("lasting", 20),
            ("page", 5_000),
            ("replaced", 10),
            ("small", 100),
        ];
        assert_eq!(listed, expected.map(|(id, bytes)| (id.to_owned(), body(bytes))), "round {round}");
        for (id, bytes) in expected {
            assert_eq!(texts.load(id).await.expect("loaded"), Some(body(bytes)), "round {round}");
        }
        let lasting = texts.load_with("lasting", LoadOptions::new().with_expiry()).await.expect("loaded");
        assert!(matches!(lasting.expect("there").expiry, Some(sosa_sled::sosa::Expiry::At(_))));
        assert_eq!(texts.within("club").load("member").await.expect("loaded"), Some(body(30)));
        assert_eq!(store.collection::<u64>("numbers").load("seven").await.expect("loaded"), Some(7));
        // What is saved from here on lies in pieces.
        for (id, bytes) in expected {
            texts.save(id, &body(bytes)).await.expect("saved");
        }
        let hour = std::time::Duration::from_secs(3600);
        texts.save_with("lasting", &body(20), sosa_sled::sosa::Expiry::After(hour).into()).await.expect("saved");
        store.close().await.expect("closed");
    }
    let left = fs::read_dir(path.join("blobs")).expect("a directory").count();
    assert!(left < 5, "files of old values are left: {left}");
}
