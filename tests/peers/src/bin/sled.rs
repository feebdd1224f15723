//! Collections in sled beside the bare engine: `cargo run --release --bin sled [rounds] [verbs|durable]`.

use std::env;
use std::fs::File;
use std::sync::Arc;

use sosa::{Codec, Collection, Expiry, Json, Keyspace, LoadOptions, SaveOptions};
use sosa_peers::{Contender, Document, compare};
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
    let mut arguments = env::args().skip(1);
    let rounds = arguments.next().map_or(15, |rounds| rounds.parse().expect("a number of rounds"));
    let what = arguments.next().unwrap_or_default();
    println!("| operation | tasks | contender | operations a second | ratio |\n|---|---|---|---|---|");
    for threads in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let bench = Bench::new(&runtime);
        if what.is_empty() || what == "verbs" {
            bench.verbs(&runtime, rounds, threads);
        }
        if threads == 2 && (what.is_empty() || what == "durable") {
            bench.durable(&runtime, rounds);
        }
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

    fn verbs(&self, runtime: &Runtime, rounds: usize, threads: usize) {
        let bare = |runtime| {
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
        let loads = Contender::new("sosa-sled", runtime, move |_, n| {
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
        compare("load", threads, 100_000, rounds, &[bare(runtime), loads, with_expiry, waiting]);

        for (title, name) in [("save over one of 10,000", id as fn(u64) -> String), ("save of a new one", new_id)] {
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
            compare(title, threads, 10_000, rounds, &[bare, saves, expiring, waiting]);
        }
    }

    fn durable(&self, runtime: &Runtime, rounds: usize) {
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
            Contender::new("sosa-sled, Immediate", runtime, move |_, n| {
                let ours = ours.clone();
                async move { ours.save(&id(n), &Document::new(n)).await.expect("saved") }
            })
        };
        // The batches are one task's in either table: more tasks would not be batches of 64.
        compare("save to the disk", 1, 2_048, rounds, &[batches, saves(), each]);
        compare("save to the disk", TOGETHER as usize, 8_192, rounds, &[saves()]);
    }
}
