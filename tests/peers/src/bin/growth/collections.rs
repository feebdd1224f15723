//! The verbs of a collection, in memory, in sled and in Redis.

use std::collections::{BTreeSet, HashMap};
use std::hint::black_box;
use std::ops::{Bound, Range};
use std::sync::Arc;

use futures_util::future::join_all;
use sosa::{Collection, Cursor, ListOptions};
use sosa_peers::arguments::Arguments;
use sosa_peers::ids;
use sosa_peers::report::Table;
use sosa_redis::redis::Client;
use sosa_sled::Durability;
use sosa_sled::sled::{self, Tree};
use tokio::runtime::{Builder, Runtime};

use crate::table::{Kind, Subject, nanos, table};

const OPERATIONS: [&str; 4] = ["load", "save over one that is there", "save of a new one", "page of 1,000"];

/// How many entries a page has.
const PAGE: usize = 1000;

/// How many ids are made at a time when a collection is filled.
const FILLED: u64 = 100_000;

/// What holds entries.
#[expect(clippy::ptr_arg, reason = "a collection of strings takes a string")]
trait Store {
    fn load(&self, ids: &[String]);
    fn save(&mut self, ids: &[String], value: &String);
    fn remove(&mut self, ids: &[String]);
    /// Reads a page behind each of these places.
    fn pages(&self, places: &[String]);
}

/// The memory that has to be touched and nothing more: no locks, no deadlines, no revisions.
#[derive(Default)]
struct Maps {
    values: HashMap<Arc<str>, String>,
    order: BTreeSet<Arc<str>>,
}

impl Store for Maps {
    fn load(&self, ids: &[String]) {
        for id in ids {
            black_box(self.values[&**id].clone());
        }
    }

    fn save(&mut self, ids: &[String], value: &String) {
        for id in ids {
            if let Some(old) = self.values.get_mut(&**id) {
                *old = value.clone();
                continue;
            }
            let id: Arc<str> = (&**id).into();
            self.order.insert(id.clone());
            self.values.insert(id, value.clone());
        }
    }

    fn remove(&mut self, ids: &[String]) {
        for id in ids {
            self.order.remove(&**id);
            self.values.remove(&**id);
        }
    }

    fn pages(&self, places: &[String]) {
        for place in places {
            let behind = self.order.range::<str, _>((Bound::Excluded(&**place), Bound::Unbounded));
            let page: Vec<_> = behind.take(PAGE).map(|id| (id.to_string(), self.values[id].clone())).collect();
            assert_eq!(black_box(page).len(), PAGE);
        }
    }
}

/// The engine below sosa-sled.
struct Engine(Tree);

impl Store for Engine {
    fn load(&self, ids: &[String]) {
        for id in ids {
            black_box(text(&self.0.get(id).expect("loaded").expect("an entry")));
        }
    }

    fn save(&mut self, ids: &[String], value: &String) {
        for id in ids {
            self.0.insert(id, value.as_bytes()).expect("saved");
        }
    }

    fn remove(&mut self, ids: &[String]) {
        for id in ids {
            self.0.remove(id).expect("removed");
        }
    }

    fn pages(&self, places: &[String]) {
        for place in places {
            let page: Vec<_> = self
                .0
                .range(place.as_str()..)
                .take(PAGE)
                .map(|entry| {
                    let (id, value) = entry.expect("listed");
                    (text(&id), text(&value))
                })
                .collect();
            assert_eq!(black_box(page).len(), PAGE);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A collection of ours, which so many tasks use at once.
struct Ours<'a, C> {
    collection: C,
    runtime: &'a Runtime,
    tasks: usize,
}

impl<C: Collection<String>> Ours<'_, C> {
    fn each(&self, ids: &[String], operation: impl AsyncFn(&str)) {
        let operation = &operation;
        let parts = ids.chunks(ids.len().div_ceil(self.tasks)).map(|part| async move {
            for id in part {
                operation(id).await;
            }
        });
        self.runtime.block_on(join_all(parts));
    }
}

impl<C: Collection<String>> Store for Ours<'_, C> {
    fn load(&self, ids: &[String]) {
        self.each(ids, async |id| drop(black_box(self.collection.load(id).await.expect("loaded").expect("an entry"))));
    }

    fn save(&mut self, ids: &[String], value: &String) {
        self.each(ids, async |id| self.collection.save(id, value).await.expect("saved"));
    }

    fn remove(&mut self, ids: &[String]) {
        self.each(ids, async |id| assert!(self.collection.destroy(id).await.expect("destroyed")));
    }

    fn pages(&self, places: &[String]) {
        for place in places {
            let options = ListOptions::new().limit(PAGE).cursor(Cursor::after(place)).without_revision();
            let page = self.runtime.block_on(self.collection.list_with(options)).expect("a page");
            assert_eq!(black_box(page.items).len(), PAGE);
        }
    }
}

/// How often a turn does what.
#[derive(Clone, Copy)]
struct Calls {
    verbs: usize,
    pages: usize,
}

/// A store that was filled.
struct Filled<S> {
    store: S,
    entries: u64,
    value: String,
    calls: Calls,
}

impl<S: Store> Filled<S> {
    fn new(mut store: S, entries: u64, calls: Calls) -> Self {
        let value = "v".repeat(64);
        for start in (0..entries).step_by(FILLED as usize) {
            store.save(&ids::all_of(start..(start + FILLED).min(entries)), &value);
        }
        Self { store, entries, value, calls }
    }

    /// Saves new ones and removes them again, a tenth of what is there at a time.
    fn save_new(&mut self) -> f64 {
        let new = 1 << 40..(1 << 40) + (self.calls.verbs / 4) as u64;
        let batch = self.entries / 10;
        let batches = new.clone().step_by(batch as usize).map(|start| start..(start + batch).min(new.end));
        let total: f64 = batches.map(|batch| self.save_batch(batch)).sum();
        total / (new.end - new.start) as f64
    }

    fn save_batch(&mut self, numbers: Range<u64>) -> f64 {
        let new = ids::all_of(numbers);
        let time = nanos(1, || self.store.save(&new, &self.value));
        self.store.remove(&new);
        time
    }
}

impl<S: Store> Subject for Filled<S> {
    fn nanos(&mut self, operation: usize) -> f64 {
        let Calls { verbs, pages } = self.calls;
        match OPERATIONS[operation] {
            "load" => {
                let ids = ids::some_of(0..self.entries, verbs);
                nanos(verbs, || self.store.load(&ids))
            }
            "save over one that is there" => {
                let ids = ids::some_of(0..self.entries, verbs);
                nanos(verbs, || self.store.save(&ids, &self.value))
            }
            "save of a new one" => self.save_new(),
            _ => {
                let places = ids::places(pages);
                nanos(pages, || self.store.pages(&places))
            }
        }
    }
}

pub fn in_memory(arguments: Arguments, rounds: usize) -> Table {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let sizes = [10_000, 1_000_000, 10_000_000].map(|size| arguments.entries(size));
    let calls = Calls { verbs: 80_000, pages: 100 };
    let ours = |size| {
        let collection = sosa_memory::new("bench").collection::<String>("things");
        boxed(Filled::new(Ours { collection, runtime: &runtime, tasks: 1 }, size, calls))
    };
    let theirs = |size| boxed(Filled::new(Maps::default(), size, calls));
    let kinds = vec![
        Kind { name: "sosa-memory", subjects: sizes.iter().map(|size| ours(*size)).collect() },
        Kind { name: "HashMap and BTreeSet", subjects: sizes.iter().map(|size| theirs(*size)).collect() },
    ];
    table("in memory, values of 64 bytes", &OPERATIONS, &sizes, kinds, rounds)
}

pub fn in_sled(arguments: Arguments, rounds: usize) -> Table {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let sizes = [10_000, 1_000_000].map(|size| arguments.entries(size));
    let calls = Calls { verbs: 20_000, pages: 50 };
    let directories = sizes.map(|_| tempfile::tempdir().expect("a directory"));
    let ours = |(size, directory): (&u64, &tempfile::TempDir)| {
        let store = sosa_sled::open(directory.path(), "bench").expect("a database");
        let collection = store.with_durability(Durability::Eventual).collection::<String>("things");
        boxed(Filled::new(Ours { collection, runtime: &runtime, tasks: 1 }, *size, calls))
    };
    let bare_directories = sizes.map(|_| tempfile::tempdir().expect("a directory"));
    let bare = |(size, directory): (&u64, &tempfile::TempDir)| {
        let tree = sled::open(directory.path()).expect("a database").open_tree("things").expect("a tree");
        boxed(Filled::new(Engine(tree), *size, calls))
    };
    let kinds = vec![
        Kind { name: "sosa-sled", subjects: sizes.iter().zip(&directories).map(ours).collect() },
        Kind { name: "sled", subjects: sizes.iter().zip(&bare_directories).map(bare).collect() },
    ];
    table("in sled, as it is in memory", &OPERATIONS, &sizes, kinds, rounds)
}

pub fn in_redis(arguments: Arguments, rounds: usize) -> Table {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let sizes = [10_000, 1_000_000].map(|size| arguments.entries(size));
    let calls = Calls { verbs: 40_000, pages: 20 };
    let servers = sizes.map(|_| sosa_tests::Redis::start(&[]));
    let ours = |(size, server): (&u64, &sosa_tests::Redis)| {
        let client = Client::open(server.url()).expect("a URL");
        let collection = sosa_redis::new(client, "bench").collection::<String>("things");
        boxed(Filled::new(Ours { collection, runtime: &runtime, tasks: 64 }, *size, calls))
    };
    let kind = Kind { name: "sosa-redis", subjects: sizes.iter().zip(&servers).map(ours).collect() };
    table("in Redis, 64 tasks", &OPERATIONS, &sizes, vec![kind], rounds)
}

fn boxed<'a>(subject: impl Subject + 'a) -> Box<dyn Subject + 'a> {
    Box::new(subject)
}
