//! What the tests start where a database meets the limits of its disk.
//!
//! `sled_full open PATH` opens a database and prints the kind of the error. `sled_full fill PATH` writes to one
//! until the disk is full, then makes room, opens it anew, and finds all that was acknowledged.

// Its output is its interface.
#![allow(clippy::print_stdout)]

use std::path::Path;

use sosa::Collection;
use sosa_sled::SledCollection;
use sosa_tests::Written;

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["open", path] => match sosa_sled::open(path, Written::PREFIX) {
            Ok(_) => println!("opened"),
            Err(error) => println!("{:?}: {error}", error.kind()),
        },
        ["fill", path] => fill(Path::new(path)).await,
        _ => panic!("sled_full open|fill PATH"),
    }
}

async fn fill(directory: &Path) {
    let (ballast, data) = (directory.join("ballast"), directory.join("data"));
    std::fs::write(&ballast, vec![1; 2 << 20]).expect("room for it");
    let things = open(&data);
    let mut saved = 0;
    let error = loop {
        assert!(saved < 100_000, "the disk has no end");
        match things.save(&saved.to_string(), &Written::new(saved, 5000)).await {
            Ok(()) => saved += 1,
            Err(error) => break error,
        }
    };
    println!("{:?} {:?} after {saved}: {error}", error.kind(), error.outcome());
    // It goes on refusing, and does not hang.
    let again = things.save("again", &Written::new(0, 5000)).await.expect_err("it is full");
    println!("then {:?}", again.kind());
    drop(things);
    std::fs::remove_file(&ballast).expect("removed");
    let things = open(&data);
    for id in 0..saved {
        let found = things.load(&id.to_string()).await.expect("loaded");
        assert_eq!(found, Some(Written::new(id, 5000)), "acknowledged and lost");
    }
    things.save("again", &Written::new(0, 5000)).await.expect("there is room");
    println!("all there");
}

fn open(path: &Path) -> SledCollection<Written> {
    Written::open(path).expect("opened").collection(Written::NAME)
}
