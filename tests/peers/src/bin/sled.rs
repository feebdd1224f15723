//! Collections in sled beside the bare engine: `cargo run --release --bin sled [rounds] [verbs|durable]`.

use std::fs::File;
use std::sync::Arc;

use sosa::{Codec, Collection, Expiry, Json, Keyspace, LoadOptions, SaveOptions};
use sosa_peers::arguments::Arguments;
use sosa_peers::report::{Section, Table, number_of};
use sosa_peers::{Contender, Document, cells, compare, take_turns};
use sosa_sled::sled::Tree;
use sosa_sled::{Durability, SledCollection};
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

/// How many entries there are.
const IDS: u64 = 10_000;

/// How many savers there are at once, and how many saves a batch has.
const TOGETHER: u64 = 64;

struct Bench {
    directory: tempfile::TempDir,
    /// One for each contender: the engine writes nothing where the same is there already.
    trees: [Tree; 2],
    ours: [SledCollection<Document>; 2],
}

fn main() {
    let arguments = Arguments::read();
    let rounds = arguments.rounds(15);
    let section = |name| Section::new(name, &["sled"], &["rustc -V"], format!("{rounds} rounds"));
    let benches = [1, 2].map(|threads| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let bench = Bench::new(&runtime);
        (threads, runtime, bench)
    });
    if arguments.wants("verbs") {
        let mut tables = ["load", "save over one of 10,000", "save of a new one, its sweep included"].map(Table::new);
        for (threads, runtime, bench) in &benches {
            bench.verbs(runtime, rounds, *threads, &mut tables);
        }
        let mut section = section("sled verbs");
        tables.iter().for_each(|table| section.table(table));
        arguments.finish(section);
    }
    if arguments.wants("durable") {
        let [_, (_, runtime, bench)] = &benches;
        let mut section = section("sled durable");
        section.table(&bench.durable(runtime, rounds));
        arguments.finish(section);
    }
}

/// Ids in an order that is none.
fn id(n: u64) -> String {
    format!("{:016x}", (n % IDS).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn key(n: u64) -> String {
    format!(":{}", id(n))
}

fn new_id(n: u64) -> String {
    format!("{:016x}", (IDS + n).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn encode(n: u64) -> Vec<u8> {
    let place = Keyspace::new("bench", "bare");
    Json.encode(&place.key("id").expect("an id"), &Document::new(n)).expect("JSON")
}

fn decode(bytes: &[u8]) -> Document {
    let place = Keyspace::new("bench", "bare");
    Json.decode(&place.key("id").expect("an id"), bytes).expect("JSON")
}

impl Bench {
    fn new(runtime: &Runtime) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let db = sosa_sled::sled::open(directory.path()).expect("a database");
        let trees = ["a", "b"].map(|name| db.open_tree(name).expect("a tree"));
        let store = sosa_sled::new(db, "bench").with_durability(Durability::Eventual);
        let ours = ["a", "b"].map(|name| store.collection(name));
        runtime.block_on(async {
            for n in 0..IDS {
                for (tree, ours) in trees.iter().zip(&ours) {
                    tree.insert(key(n), encode(n)).expect("saved");
                    ours.save(&id(n), &Document::new(n)).await.expect("saved");
                }
            }
        });
        Self { directory, trees, ours }
    }

    fn verbs(&self, runtime: &Runtime, rounds: usize, threads: usize, tables: &mut [Table; 3]) {
        let column = number_of(threads as u64, "thread");
        let [loads, saves @ ..] = tables;
        let bare = {
            let tree = self.trees[0].clone();
            Contender::new("sled, get", runtime, move |_, n| {
                let tree = tree.clone();
                async move {
                    let found = tree.get(key(n)).expect("loaded").expect("an entry");
                    std::hint::black_box(decode(&found));
                }
            })
        };
        let waiting = {
            let tree = self.trees[0].clone();
            Contender::new("sled, get in spawn_blocking", runtime, move |_, n| {
                let tree = tree.clone();
                async move {
                    let found = spawn_blocking(move || tree.get(key(n))).await.expect("a thread");
                    std::hint::black_box(decode(&found.expect("loaded").expect("an entry")));
                }
            })
        };
        let ours = Arc::new(self.ours[0].clone());
        let plain = Contender::new("sosa-sled", runtime, move |_, n| {
            let ours = ours.clone();
            async move {
                std::hint::black_box(ours.load(&id(n)).await.expect("loaded").expect("an entry"));
            }
        });
        let ours = Arc::new(self.ours[0].clone());
        let with_expiry = Contender::new("sosa-sled, with_expiry and revision", runtime, move |_, n| {
            let ours = ours.clone();
            async move {
                let loaded = ours.load_with(&id(n), LoadOptions::new().with_expiry()).await;
                std::hint::black_box(loaded.expect("loaded").expect("an entry"));
            }
        });
        loads.column(&*column, compare(threads, 100_000, rounds, &[bare, plain, with_expiry, waiting]));

        for (table, name) in saves.iter_mut().zip([id as fn(u64) -> String, new_id]) {
            let tree = self.trees[0].clone();
            let bare = Contender::new("sled, insert", runtime, move |_, n| {
                let tree = tree.clone();
                async move {
                    tree.insert(format!(":{}", name(n)), encode(n)).expect("saved");
                }
            });
            let tree = self.trees[1].clone();
            let waiting = Contender::new("sled, insert in spawn_blocking", runtime, move |_, n| {
                let tree = tree.clone();
                async move {
                    let encoded = encode(n);
                    let saved = spawn_blocking(move || tree.insert(format!(":{}", name(n)), encoded)).await;
                    saved.expect("a thread").expect("saved");
                }
            });
            let ours = Arc::new(self.ours[0].clone());
            let saves = Contender::new("sosa-sled, Eventual", runtime, move |_, n| {
                let ours = ours.clone();
                async move { ours.save(&name(n), &Document::new(n)).await.expect("saved") }
            });
            let ours = Arc::new(self.ours[1].clone());
            let expiring = Contender::new("sosa-sled, Eventual, for a day", runtime, move |_, n| {
                let ours = ours.clone();
                async move {
                    let day = Expiry::After(std::time::Duration::from_secs(86_400));
                    let options = SaveOptions::from(day);
                    ours.save_with(&name(n), &Document::new(n), options).await.expect("saved");
                }
            });
            table.column(&*column, compare(threads, 10_000, rounds, &[bare, saves, expiring, waiting]));
        }
    }

    fn durable(&self, runtime: &Runtime, rounds: usize) -> Table {
        let file = Arc::new(File::open(self.directory.path().join("db")).expect("the engine's file"));
        let (tree, log) = (self.trees[0].clone(), file.clone());
        // Counted in batches: one task makes all of them.
        let batches = Contender::new("sled, batches of 64 and one sync", runtime, move |_, n| {
            let (tree, log) = (tree.clone(), log.clone());
            async move {
                tree.insert(key(n), encode(n)).expect("saved");
                if n % TOGETHER == TOGETHER - 1 {
                    let synced = spawn_blocking(move || tree.flush().and_then(|_| Ok(log.sync_data()?))).await;
                    synced.expect("a thread").expect("synced");
                }
            }
        });
        let (tree, log) = (self.trees[1].clone(), file);
        let each = Contender::new("sled, a sync after each", runtime, move |_, n| {
            let (tree, log) = (tree.clone(), log.clone());
            async move {
                let saved = spawn_blocking(move || {
                    tree.insert(key(n), encode(n))?;
                    tree.flush()?;
                    Ok::<_, sosa_sled::sled::Error>(log.sync_data()?)
                });
                saved.await.expect("a thread").expect("saved");
            }
        });
        let ours = Arc::new(self.ours[0].clone().with_durability(Durability::Immediate));
        let saves = || {
            let ours = ours.clone();
            // The table has their names.
            Contender::new("", runtime, move |_, n| {
                let ours = ours.clone();
                async move { ours.save(&id(n), &Document::new(n)).await.expect("saved") }
            })
        };
        // The batches are one task's: more tasks would not be batches of 64.
        let contenders = [
            ("sled, batches of 64, one sync each", batches, 1),
            ("sosa-sled, 64 savers", saves(), TOGETHER),
            ("sosa-sled, one saver", saves(), 1),
            ("sled, a sync after each, one saver", each, 1),
        ];
        let measured = take_turns(contenders.len(), rounds, |n| {
            let (_, contender, tasks) = &contenders[n];
            contender.rate(*tasks as usize, 2_048 * (1 + tasks / 16))
        });
        let mut table = Table::new("save to the disk");
        table.column("saves a second", contenders.iter().map(|(name, ..)| *name).zip(cells(&measured)));
        table
    }
}
