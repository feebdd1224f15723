//! What the tests start where a database meets the limits of its disk.
//!
//! `sled_full open PATH` opens a database and prints the kind of the error. `sled_full fill PATH BY` writes to one
//! until the disk is full, by `small` values, by `large` ones, or `beside` it by another file; says what each verb
//! answers then, and after how many milliseconds; closes it, opens it on the full disk, makes room, opens it again,
//! and finds all that was acknowledged.

// Its output is its interface.
#![allow(clippy::print_stdout)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use sosa::{Collection, Expiry, LoadOptions, Result};
use sosa_sled::{Durability, SledCollection, SledStore};
use sosa_tests::Written;
use tokio::task::JoinSet;

/// How many tasks write at once as the disk becomes full.
const TASKS: u64 = 16;

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["open", path] => match sosa_sled::open(path, Written::PREFIX) {
            Ok(_) => println!("opened"),
            Err(error) => println!("{:?}: {error}", error.kind()),
        },
        ["fill", path, by] => fill(Path::new(path), by).await,
        _ => panic!("sled_full open PATH | sled_full fill PATH small|large|beside"),
    }
}

async fn fill(directory: &Path, by: &str) {
    let (ballast, data) = (directory.join("ballast"), directory.join("data"));
    // The engine fills the parts of its file with zeros that it could not write, before it uses them.
    let room = if by == "large" { 16 << 20 } else { 2 << 20 };
    fs::write(&ballast, vec![1; room]).expect("room for it");
    let store = sosa_sled::open(&data, Written::PREFIX).expect("opened");
    let things = things(&store);
    things.save("first", &Written::new(0, 100)).await.expect("saved");
    let hour = Expiry::After(Duration::from_secs(3600));
    things.save_with("sliding", &Written::new(0, 100), hour.into()).await.expect("saved");
    let size = if by == "large" { 1 << 20 } else { 300 };
    if by == "beside" {
        let mut beside = File::create(directory.join("beside")).expect("created");
        while beside.write_all(&[2; 4096]).is_ok() {}
    }
    // All tasks write until they are told that it is full.
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let things = things.clone();
        tasks.spawn(async move {
            for count in 0.. {
                let began = Instant::now();
                if let Err(error) = things.save(&format!("{task}-{count}"), &Written::new(count, size)).await {
                    return (task, count, began.elapsed(), error);
                }
            }
            unreachable!("the disk has an end")
        });
    }
    let writers = tasks.join_all().await;
    for (_, _, took, error) in &writers {
        answer("a writer", *took, Err(error));
    }
    tell("a save", things.save("again", &Written::new(0, 300))).await;
    tell("a large save", things.save("again", &Written::new(0, 1 << 20))).await;
    tell("a destroy", things.destroy("first")).await;
    tell("a touch", things.load_with("sliding", LoadOptions::new().touch(Duration::from_secs(60)))).await;
    tell("an eventual save", eventual(&store).save("again", &Written::new(0, 300))).await;
    tell("a load", things.load("first")).await;
    tell("a list", things.list()).await;
    let (mut answered, mut asked) = (0, 0);
    for (task, count, ..) in &writers {
        for count in 0..(*count).min(20) {
            asked += 1;
            answered += u32::from(things.load(&format!("{task}-{count}")).await.is_ok());
        }
    }
    println!("loads answered: {answered} of {asked}");
    tell("a close", store.clone().close()).await;
    // It is as good as gone, and frees the database.
    drop((things, store));
    let began = Instant::now();
    match sosa_sled::open(&data, Written::PREFIX) {
        // Where the file has room within, it may be used.
        Ok(store) => {
            answer("an open", began.elapsed(), Ok(()));
            drop(store);
        }
        Err(error) => {
            answer("an open", began.elapsed(), Err(&error));
            println!("it says: {error}");
        }
    }
    fs::remove_file(&ballast).expect("removed");
    let store = sosa_sled::open(&data, Written::PREFIX).expect("there is room");
    let things = self::things(&store);
    let mut found = 0;
    for (task, count, ..) in writers {
        for count in 0..count {
            let value = things.load(&format!("{task}-{count}")).await.expect("loaded");
            assert_eq!(value, Some(Written::new(count, size)), "acknowledged and lost");
            found += 1;
        }
    }
    assert_eq!(things.load("first").await.expect("loaded"), Some(Written::new(0, 100)));
    things.save("again", &Written::new(0, 300)).await.expect("there is room");
    println!("all {found} are there");
}

fn things(store: &SledStore) -> SledCollection<Written> {
    store.collection(Written::NAME)
}

fn eventual(store: &SledStore) -> SledCollection<Written> {
    things(store).with_durability(Durability::Eventual)
}

async fn tell<R>(who: &str, call: impl Future<Output = Result<R>>) {
    let began = Instant::now();
    let result = call.await;
    answer(who, began.elapsed(), result.as_ref().map(drop));
}

fn answer(who: &str, took: Duration, result: Result<(), &sosa::Error>) {
    let millis = took.as_millis();
    match result {
        Ok(()) => println!("{who}: Ok after {millis}"),
        Err(error) => println!("{who}: {:?} {:?} after {millis}", error.kind(), error.outcome()),
    }
}
