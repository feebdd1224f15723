//! Collections in memory beside a concurrent map: `cargo run --release --bin memory [rounds] [--dry]`.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use sosa::{Collection, Expiry, LoadOptions, SaveOptions};
use sosa_memory::MemoryCollection;
use sosa_peers::arguments::Arguments;
use sosa_peers::report::{Section, Table, number_of, thousands};
use sosa_peers::{cells, ids, take_turns};
use tokio::runtime::{Builder, Runtime};

/// How many loads, and saves of what is there, a thread makes in a turn.
const CALLS: usize = 100_000;

const DAY: Duration = Duration::from_secs(86_400);

/// What is done with an entry. None of it ever waits; it is awaited because ours has to be.
#[expect(clippy::ptr_arg, reason = "a collection of strings takes a string")]
trait Store: Sync {
    async fn load(&self, id: &str) -> Option<String>;
    async fn save(&self, id: &str, value: &String);
    async fn remove(&self, id: &str);
}

impl Store for DashMap<String, String> {
    async fn load(&self, id: &str) -> Option<String> {
        self.get(id).map(|entry| entry.value().clone())
    }

    async fn save(&self, id: &str, value: &String) {
        self.insert(id.to_owned(), value.clone());
    }

    async fn remove(&self, id: &str) {
        DashMap::remove(self, id);
    }
}

impl Store for MemoryCollection<String> {
    async fn load(&self, id: &str) -> Option<String> {
        Collection::load(self, id).await.expect("loaded")
    }

    async fn save(&self, id: &str, value: &String) {
        Collection::save(self, id, value).await.expect("saved");
    }

    async fn remove(&self, id: &str) {
        self.destroy(id).await.expect("destroyed");
    }
}

/// As sessions use a collection: each load moves the deadline.
struct Expiring(MemoryCollection<String>);

impl Store for Expiring {
    async fn load(&self, id: &str) -> Option<String> {
        let loaded = self.0.load_with(id, LoadOptions::new().touch(DAY)).await;
        loaded.expect("loaded").map(|entry| entry.value)
    }

    async fn save(&self, id: &str, value: &String) {
        self.0.save_with(id, value, SaveOptions::from(Expiry::After(DAY))).await.expect("saved");
    }

    async fn remove(&self, id: &str) {
        self.0.destroy(id).await.expect("destroyed");
    }
}

#[derive(Clone, Copy)]
enum Operation {
    Load,
    Save,
    SaveNew,
}

fn main() {
    let arguments = Arguments::read();
    let mut section = Section::new(
        "memory",
        &["sosa-memory", "dashmap"],
        &[],
        "values of 1,024 bytes under ids of 43; nanoseconds of time for each operation of all threads together, the \
         ratio to DashMap's behind it",
    );
    let operations = [
        ("load", Operation::Load),
        ("save over one that is there", Operation::Save),
        ("save of a new one", Operation::SaveNew),
    ];
    let mut tables = operations.map(|(title, _)| Table::new(title));
    for entries in [100_000, 1_000_000].map(|entries| arguments.entries(entries)) {
        let bench = Bench::new(entries);
        for threads in [1, 2] {
            for ((_, operation), table) in operations.into_iter().zip(&mut tables) {
                let column = format!("{} entries, {}", thousands(entries as f64), number_of(threads as u64, "thread"));
                table.column(column, bench.compare(operation, threads, arguments.rounds(9)));
            }
        }
    }
    for table in &tables {
        section.table(table);
    }
    arguments.finish(section);
}

struct Bench {
    entries: u64,
    value: String,
    theirs: DashMap<String, String>,
    ours: MemoryCollection<String>,
    expiring: Expiring,
}

impl Bench {
    fn new(entries: u64) -> Self {
        let store = sosa_memory::new("bench");
        let bench = Self {
            entries,
            value: "v".repeat(1024),
            theirs: DashMap::new(),
            ours: store.collection("plain"),
            expiring: Expiring(store.collection("expiring")),
        };
        runtime().block_on(async {
            for id in (0..entries).map(ids::id) {
                bench.theirs.save(&id, &bench.value).await;
                Store::save(&bench.ours, &id, &bench.value).await;
                bench.expiring.save(&id, &bench.value).await;
            }
        });
        bench
    }

    fn compare(&self, operation: Operation, threads: usize, rounds: usize) -> Vec<(&'static str, String)> {
        let nanos = take_turns(3, rounds, |n| match n {
            0 => self.turn(&self.theirs, operation, threads),
            1 => self.turn(&self.ours, operation, threads),
            _ => self.turn(&self.expiring, operation, threads),
        });
        ["DashMap", "sosa-memory", "sosa-memory, for a day from each use"].into_iter().zip(cells(&nanos)).collect()
    }

    fn turn(&self, store: &impl Store, operation: Operation, threads: usize) -> f64 {
        let lists: Vec<_> = (0..threads as u64).map(|thread| self.ids(operation, thread)).collect();
        let nanos = self.nanos(store, operation, &lists);
        if matches!(operation, Operation::SaveNew) {
            runtime().block_on(async {
                for id in lists.iter().flatten() {
                    store.remove(id).await;
                }
            });
        }
        nanos
    }

    fn ids(&self, operation: Operation, thread: u64) -> Vec<String> {
        match operation {
            Operation::Load | Operation::Save => ids::some_of(0..self.entries, CALLS),
            // A tenth at most, so that it is still about as many entries.
            Operation::SaveNew => {
                let count = self.entries / 20;
                let start = (1 << 40) + thread * count;
                ids::all_of(start..start + count)
            }
        }
    }

    /// Lets each thread work off a list, and returns the time for each operation.
    fn nanos(&self, store: &impl Store, operation: Operation, lists: &[Vec<String>]) -> f64 {
        let barrier = Barrier::new(lists.len());
        let work = |list: &[String]| {
            let runtime = runtime();
            barrier.wait();
            let began = Instant::now();
            runtime.block_on(async {
                for id in list {
                    match operation {
                        Operation::Load => drop(black_box(store.load(id).await.expect("an entry"))),
                        Operation::Save | Operation::SaveNew => store.save(id, &self.value).await,
                    }
                }
            });
            (began, Instant::now())
        };
        let times: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = lists.iter().map(|list| scope.spawn(|| work(list))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
        });
        let began = times.iter().map(|(began, _)| *began).min().expect("a thread");
        let ended = times.iter().map(|(_, ended)| *ended).max().expect("a thread");
        let count: usize = lists.iter().map(Vec::len).sum();
        (ended - began).as_nanos() as f64 / count as f64
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}
