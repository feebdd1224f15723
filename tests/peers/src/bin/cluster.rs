//! Collections on a Redis cluster beside the bare driver, what a shard costs a page, and what an entry costs a
//! server: `cargo run --release --bin cluster [rounds] [verbs|pages|sizing]`. It starts the servers itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::AsyncCommands;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use serde_json::{Value, json};
use sosa::{Collection, CollectionExt, Cursor, Expiry, ListOptions, LoadOptions, SaveOptions};
use sosa_peers::arguments::Arguments;
use sosa_peers::report::{Section, Table, number_of, thousands};
use sosa_peers::{Contender, compare};
use sosa_redis::RedisCollection;
use sosa_tests::{Cluster, Redis};
use tokio::runtime::Runtime;

/// How many ids the tasks load from and save to.
const IDS: u64 = 1000;

const DAY: Duration = Duration::from_secs(86_400);

fn main() {
    let arguments = Arguments::read();
    let rounds = arguments.rounds(15);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if arguments.wants("verbs") {
        let mut section = section("cluster verbs", rounds);
        verbs(&runtime, rounds).iter().for_each(|table| section.table(table));
        arguments.finish(section);
    }
    if arguments.wants("pages") {
        let mut section = section("cluster pages", rounds);
        section.table(&pages(&runtime, rounds));
        arguments.finish(section);
    }
    if arguments.wants("sizing") {
        sizing(&runtime);
    }
}

fn section(name: &'static str, rounds: usize) -> Section {
    Section::new(name, &["redis 1"], &["redis-server --version", "rustc -V"], format!("{rounds} rounds"))
}

/// Ten keys and some 940 bytes of JSON, as a session may have.
fn session(n: u64) -> Value {
    let mut value =
        json!({ "sosa": { "v": 1, "rev": n, "created": 1_795_000_000_000_u64 }, "user": format!("user {n}") });
    for key in 0..8 {
        value[format!("key{key}")] = "a value of some length, ".repeat(4).into();
    }
    value
}

/// As long as a session's, and in no order.
fn id(n: u64) -> String {
    format!("{:016x}{:027}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15), n)
}

fn verbs(runtime: &Runtime, rounds: usize) -> [Table; 2] {
    let (mut loads, mut saves) = (Table::new("load"), Table::new("save"));
    let cluster = Cluster::start(3, 0, &[]);
    let client = ClusterClient::new([cluster.nodes[0].url()]).expect("a URL");
    let bare = runtime.block_on(client.get_async_connection()).expect("a connection");
    let store = sosa_redis::from_url(&cluster.url(), "bench").expect("a URL");
    let indexed = Arc::new(store.collection::<Value>("things"));
    let plain = Arc::new(store.collection::<Value>("things").unindexed());
    runtime.block_on(async {
        for n in 0..IDS {
            plain.save(&id(n), &session(n)).await.expect("saved");
            indexed.save(&id(n), &session(n)).await.expect("saved");
        }
    });
    let (state, key) = (session(0), |n: u64| format!("bench:things:{}", id(n % IDS)));
    for (tasks, count) in [(1, 4_000), (64, 30_000), (512, 30_000)] {
        let load = |things: &Arc<RedisCollection<Value>>| {
            let things = things.clone();
            move |_, n: u64| {
                let things = things.clone();
                async move { drop(things.load(&id(n % IDS)).await.expect("loaded").expect("there")) }
            }
        };
        let save = |things: &Arc<RedisCollection<Value>>| {
            let (things, state) = (things.clone(), state.clone());
            move |_, n: u64| {
                let (things, state) = (things.clone(), state.clone());
                async move { things.save(&id(n % IDS), &state).await.expect("saved") }
            }
        };
        let bare_load = bare_operation(&bare, move |mut bare: ClusterConnection, n| async move {
            let bytes: Vec<u8> = bare.get(key(n)).await.expect("loaded");
            drop(serde_json::from_slice::<Value>(&bytes).expect("JSON"));
        });
        let value = state.clone();
        let bare_save = bare_operation(&bare, move |mut bare: ClusterConnection, n| {
            let value = value.clone();
            async move { bare.set(key(n), serde_json::to_vec(&value).expect("JSON")).await.expect("saved") }
        });
        loads.column(
            number_of(tasks as u64, "task"),
            compare(
                tasks,
                count,
                rounds,
                &[
                    Contender::new("redis-rs, ClusterConnection", runtime, bare_load),
                    Contender::new("sosa-redis, redis-cluster://", runtime, load(&plain)),
                ],
            ),
        );
        saves.column(
            number_of(tasks as u64, "task"),
            compare(
                tasks,
                count,
                rounds,
                &[
                    Contender::new("redis-rs, ClusterConnection", runtime, bare_save),
                    Contender::new("sosa-redis, without an index", runtime, save(&plain)),
                    Contender::new("sosa-redis, indexed", runtime, save(&indexed)),
                ],
            ),
        );
    }
    [loads, saves]
}

fn bare_operation<R, F: Fn(ClusterConnection, u64) -> R>(
    bare: &ClusterConnection,
    operation: F,
) -> impl Fn(usize, u64) -> R + use<R, F> {
    let bare = bare.clone();
    move |_, n| operation(bare.clone(), n)
}

/// A page of one index and of 64, on one server.
fn pages(runtime: &Runtime, rounds: usize) -> Table {
    let mut table = Table::new("pages a second");
    let server = Redis::start(&[]);
    let store = sosa_redis::from_url(&server.url(), "bench").expect("a URL").with_timeout(Duration::from_secs(60));
    let whole = Arc::new(store.collection::<u64>("whole"));
    let sharded = Arc::new(store.sharded().collection::<u64>("sharded"));
    const ENTRIES: u64 = 200_000;
    runtime.block_on(async {
        for things in [&whole, &sharded] {
            for start in (0..ENTRIES).step_by(500) {
                let saves = (start..start + 500).map(|n| {
                    let things = things.clone();
                    tokio::spawn(async move { things.save(&id(n), &n).await })
                });
                for save in saves.collect::<Vec<_>>() {
                    save.await.expect("no panic").expect("saved");
                }
            }
        }
    });
    for limit in [10, 100, 1000] {
        let page = |things: &Arc<RedisCollection<u64>>| {
            let things = things.clone();
            move |_, n: u64| {
                let things = things.clone();
                async move {
                    let options =
                        ListOptions::new().limit(limit).cursor(Cursor::after(format!("{:02x}", n * 37 % 255)));
                    drop(things.list_with(options).await.expect("listed"));
                }
            }
        };
        let both =
            [Contender::new("one index", runtime, page(&whole)), Contender::new("64 shards", runtime, page(&sharded))];
        table.column(format!("of {}", thousands(limit as f64)), compare(1, 300, rounds, &both));
    }
    table
}

/// What a session takes of a server's memory, and each verb of its time.
fn sizing(runtime: &Runtime) {
    const ENTRIES: u64 = 200_000;
    const TASKS: u64 = 64;
    println!("a session has {} bytes of JSON and an id of {}\n", session(1).to_string().len(), id(1).len());
    println!("| stored | bytes an entry |\n|---|---|");
    for (name, value, indexed, sharded) in [
        ("as it is, without an index", session as fn(u64) -> Value, false, false),
        ("with an index", session, true, false),
        ("with an index, in shards", session, true, true),
        ("10 bytes of JSON, without an index", |_| json!("12345678"), false, false),
        ("10 bytes of JSON, with an index", |_| json!("12345678"), true, false),
    ] {
        let server = Redis::start(&[]);
        let store = sosa_redis::from_url(&server.url(), "myapp").expect("a URL");
        let store = if sharded { store.sharded() } else { store };
        let things = store.collection::<Value>("sessions");
        let things = if indexed { things } else { things.unindexed() };
        let before = number(&server, "memory", "used_memory");
        each(runtime, TASKS, ENTRIES, &things, move |things, n| async move {
            let options = SaveOptions::from(Expiry::After(DAY)).without_revision();
            things.save_with(&id(n), &value(n), options).await.expect("saved");
        });
        println!("| {name} | {:.0} |", (number(&server, "memory", "used_memory") - before) / ENTRIES as f64);
        if sharded {
            moving(&server);
        }
    }

    println!("\n| verb | microseconds of the server | operations a second if it did nothing else |\n|---|---|---|");
    let server = Redis::start(&[]);
    let store = sosa_redis::from_url(&server.url(), "myapp").expect("a URL");
    let (plain, indexed) = (store.collection("plain").unindexed(), store.collection("indexed"));
    for things in [&plain, &indexed] {
        each(runtime, TASKS, ENTRIES / 10, things, |things, n| async move {
            things.save_with(&id(n), &session(n), Expiry::After(DAY).into()).await.expect("saved");
        });
    }
    const LIVING: u64 = ENTRIES / 10;
    let measure = |name: &str, things: &RedisCollection<Value>, operation: Operation| {
        let (cpu, began) = (cpu(&server), Instant::now());
        each(runtime, TASKS, ENTRIES, things, operation);
        let micros = (self::cpu(&server) - cpu) * 1e6 / ENTRIES as f64;
        let rate = ENTRIES as f64 / began.elapsed().as_secs_f64();
        println!("| {name} | {micros:.1} | {:.0} ({rate:.0} here) |", 1e6 / micros);
    };
    measure("a sliding read", &plain, |things, n| {
        Box::pin(async move {
            things.load_with(&id(n % LIVING), LoadOptions::new().touch(DAY)).await.expect("loaded").expect("there");
        })
    });
    let update: Operation = |things, n| {
        Box::pin(async move {
            things.update(&id(n % LIVING), |value| value).await.expect("updated");
        })
    };
    measure("a read and a save on condition", &plain, update);
    measure("the same, indexed", &indexed, update);
    let cycle: Operation = |things, n| {
        Box::pin(async move {
            let id = format!("new {}", id(n));
            things.save_with(&id, &session(n), Expiry::After(DAY).into()).await.expect("saved");
            things.destroy(&id).await.expect("destroyed");
        })
    };
    measure("a new session and its end", &plain, cycle);
    measure("the same, indexed", &indexed, cycle);
}

type Operation = fn(RedisCollection<Value>, u64) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Does something with each number, over so many tasks.
fn each<R: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    tasks: u64,
    count: u64,
    things: &RedisCollection<Value>,
    operation: impl Fn(RedisCollection<Value>, u64) -> R + Copy + Send + Sync + 'static,
) {
    runtime.block_on(async {
        let running = (0..tasks).map(|task| {
            let things = things.clone();
            tokio::spawn(async move {
                for n in (task..count).step_by(tasks as usize) {
                    operation(things.clone(), n).await;
                }
            })
        });
        for task in running.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
    });
}

/// How long two nodes stand still while the index of a shard moves between them, which is one key.
fn moving(server: &Redis) {
    let keys: Vec<String> = server.tell("KEYS *--}");
    let target = Redis::start(&[]);
    let (mut ids, began) = (0, Instant::now());
    for key in &keys {
        ids += server.tell::<u64>(&format!("ZCARD {key}"));
        let port = target.address().port();
        server.tell::<()>(&format!("MIGRATE 127.0.0.1 {port} {key} 0 60000"));
    }
    let micros = began.elapsed().as_secs_f64() * 1e6 / ids as f64;
    println!("|   (an index moves in {micros:.1} microseconds for each id of it) | |");
}

fn number(server: &Redis, section: &str, name: &str) -> f64 {
    let info: String = server.tell(&format!("INFO {section}"));
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.expect("it is told").parse().expect("a number")
}

fn cpu(server: &Redis) -> f64 {
    number(server, "cpu", "used_cpu_sys") + number(server, "cpu", "used_cpu_user")
}
