//! What the crash test kills: it saves, updates, destroys and lists in a sled database, and tells on its
//! standard output of each operation before it begins and after it was acknowledged.
//!
//! `sled_writer PATH SEED [any]`. With `any` the values have 1 byte to 1 MB, as many of each order of size. A line is `begin TASK ID VALUE`, where the value is that of the entry afterwards or
//! `-` if there is none, or `done TASK`.

// Its output is its interface.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use sosa::{Collection, CollectionExt, Expiry, ListOptions};
use sosa_sled::SledCollection;
use sosa_tests::Written;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("a path");
    let seed: u64 = arguments.next().and_then(|seed| seed.parse().ok()).expect("a seed");
    let size = if arguments.next().is_some() { any_size } else { mostly_small };
    let things = Written::open(path).expect("the database opens").collection(Written::NAME);
    let mut tasks = JoinSet::new();
    for task in 0..Written::TASKS {
        tasks.spawn(write(task, things.clone(), Rng::with_seed(seed.wrapping_mul(Written::TASKS) + task), size));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task only ends with its process");
    }
}

/// Writes until it is killed.
async fn write(task: u64, things: SledCollection<Written>, mut random: Rng, size: fn(&mut Rng) -> usize) {
    let own = ListOptions::new().starts_with(Written::id(task, ""));
    let page = things.list_with(own.clone()).await.expect("listed");
    let mut plain: BTreeMap<_, _> = page.into_pairs().expect("decoded").into_iter().collect();
    loop {
        let id = Written::id(task, &random.u64(..12).to_string());
        let size = size(&mut random);
        let value = Written::new(random.u64(..), size);
        match random.u8(..10) {
            0..4 => {
                begin(task, &id, Some(&value));
                things.save(&id, &value).await.expect("saved");
                plain.insert(id, value);
            }
            4..6 => {
                begin(task, &id, Some(&value));
                let updated = things.update(&id, |_| Some(value.clone())).await.expect("updated");
                plain.insert(id, updated.expect("a value"));
            }
            6 => {
                begin(task, &id, None);
                let moment = Expiry::After(Duration::from_millis(1));
                things.save_with(&id, &value, moment.into()).await.expect("saved");
                // It stays on the disk until something meets it.
                while things.load(&id).await.expect("loaded").is_some() {
                    tokio::task::yield_now().await;
                }
                plain.remove(&id);
            }
            7..9 => {
                begin(task, &id, None);
                assert_eq!(things.destroy(&id).await.expect("destroyed"), plain.remove(&id).is_some());
            }
            _ => {
                let page = things.list_with(own.clone()).await.expect("listed");
                let listed: BTreeMap<_, _> = page.into_pairs().expect("decoded").into_iter().collect();
                assert_eq!(listed, plain, "a listing disagrees");
                continue;
            }
        }
        println!("done {task}");
    }
}

/// One in forty is cut into many pieces.
fn mostly_small(random: &mut Rng) -> usize {
    if random.u8(..40) == 0 { 200_000 } else { random.usize(..2000) }
}

fn any_size(random: &mut Rng) -> usize {
    1 << random.usize(..=20)
}

fn begin(task: u64, id: &str, value: Option<&Written>) {
    match value {
        Some(value) => println!("begin {task} {id} {}", value.number),
        None => println!("begin {task} {id} -"),
    }
}
