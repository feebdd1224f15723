//! Collections on Redis beside the bare driver, a pool that is checked out for each operation, and another
//! session store: `cargo run --release --bin redis [rounds] [verbs|indexed|pages|connections]`. It starts the server
//! itself.

mod connections;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_redis::{Config, Runtime as PoolRuntime};
use redis::aio::ConnectionManager;
use redis::{AsyncCommands, Client, Script};
use sosa::{Collection, Condition, Cursor, ListOptions, SaveOptions};
use sosa_peers::arguments::Arguments;
use sosa_peers::report::{Section, Table, number_of, thousands};
use sosa_peers::{Contender, Document, cells, compare, rates};
use sosa_redis::RedisCollection;
use time::OffsetDateTime;
use tokio::runtime::Runtime;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::SessionStore;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike, Config as FredConfig, Pool as FredPool};

/// How many ids the tasks load from and save to.
const IDS: u64 = 1000;

fn main() {
    let arguments = Arguments::read();
    let rounds = arguments.rounds(15);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if arguments.wants("verbs") {
        let mut section = section("redis verbs", rounds);
        verbs(&runtime, rounds).iter().for_each(|table| section.table(table));
        arguments.finish(section);
    }
    if arguments.wants("indexed") {
        let mut section = section("redis indexed", rounds);
        for ids in [10_000, 1_000_000] {
            indexed(&runtime, rounds, ids).iter().for_each(|table| section.table(table));
        }
        arguments.finish(section);
    }
    if arguments.wants("pages") {
        let mut section = section("redis pages", rounds);
        section.table(&pages(&runtime, rounds));
        arguments.finish(section);
    }
    if arguments.wants("connections") {
        let mut section = section("redis connections", rounds);
        connections::tables(&runtime, rounds).iter().for_each(|table| section.table(table));
        arguments.finish(section);
    }
}

fn section(name: &'static str, rounds: usize) -> Section {
    let packages = ["redis 1", "deadpool-redis 0.23", "tower-sessions-redis-store", "fred"];
    Section::new(name, &packages, &["redis-server --version", "rustc -V"], format!("{rounds} rounds"))
}

fn key(n: u64) -> String {
    format!("bench:things:{n}")
}

fn verbs(runtime: &Runtime, rounds: usize) -> [Table; 3] {
    let server = sosa_tests::Redis::start(&[]);
    let client = Client::open(server.url()).expect("a URL");
    let bare = runtime.block_on(ConnectionManager::new(client.clone())).expect("a connection");
    let pool = Config::from_url(server.url()).create_pool(Some(PoolRuntime::Tokio1)).expect("a pool");
    // One pointer to clone, as a connection of the driver is.
    let unindexed = |store: sosa_redis::RedisStore| Arc::new(store.collection::<Document>("things").unindexed());
    let on_manager = unindexed(sosa_redis::new(bare.clone(), "bench"));
    let on_client = unindexed(sosa_redis::new(client, "bench"));
    let on_pool = unindexed(sosa_redis::new(pool.clone(), "bench"));
    let fred = FredPool::new(FredConfig::from_url(&server.url()).expect("a URL"), None, None, None, 6).expect("a pool");
    runtime.block_on(fred.init()).expect("a connection");
    let tower_sessions = RedisStore::new(fred);

    let record = |n: u64| Record {
        id: Id(i128::from(n)),
        data: HashMap::from([("document".to_owned(), serde_json::to_value(Document::new(n)).expect("JSON"))]),
        expiry_date: OffsetDateTime::now_utc() + Duration::from_secs(86_400),
    };
    let states = [0, 1].map(Document::new);
    runtime.block_on(async {
        for n in 0..IDS {
            on_manager.save(&n.to_string(), &Document::new(n)).await.expect("saved");
            tower_sessions.create(&mut record(n)).await.expect("saved");
        }
    });
    let revisions = runtime.block_on(async {
        let mut revisions = Vec::new();
        for state in &states {
            revisions.push(on_manager.save_with("state", state, SaveOptions::new()).await.expect("saved"));
        }
        revisions
    });

    let mut loads = Table::new("load");
    let mut saves = Table::new("save, without an index");
    let mut conditional = Table::new("save on condition of a revision, without an index");
    for (tasks, count) in [(1, 5_000), (64, 40_000), (512, 40_000)] {
        let column = number_of(tasks as u64, "task");
        let load = |collection: &Arc<RedisCollection<Document>>| {
            let collection = collection.clone();
            move |_, n: u64| {
                let collection = collection.clone();
                async move {
                    collection.load(&(n % IDS).to_string()).await.expect("loaded").expect("there");
                }
            }
        };
        let (manager, pool_for_load, sessions) = (bare.clone(), pool.clone(), tower_sessions.clone());
        loads.column(
            &*column,
            compare(
                tasks,
                count,
                rounds,
                &[
                    Contender::new("redis-rs, ConnectionManager", runtime, move |_, n| {
                        let mut manager = manager.clone();
                        async move {
                            let bytes: Vec<u8> = manager.get(key(n % IDS)).await.expect("loaded");
                            serde_json::from_slice::<Document>(&bytes).expect("JSON");
                        }
                    }),
                    Contender::new("sosa-redis, ConnectionManager", runtime, load(&on_manager)),
                    Contender::new("sosa-redis, Client", runtime, load(&on_client)),
                    Contender::new("sosa-redis, deadpool", runtime, load(&on_pool)),
                    Contender::new("deadpool-redis, checked out", runtime, move |_, n| {
                        let pool = pool_for_load.clone();
                        async move {
                            let mut connection = pool.get().await.expect("a connection");
                            let bytes: Vec<u8> = connection.get(key(n % IDS)).await.expect("loaded");
                            serde_json::from_slice::<Document>(&bytes).expect("JSON");
                        }
                    }),
                    Contender::new("tower-sessions-redis-store", runtime, move |_, n| {
                        let sessions = sessions.clone();
                        async move {
                            sessions.load(&Id(i128::from(n % IDS))).await.expect("loaded").expect("there");
                        }
                    }),
                ],
            ),
        );

        let save = |collection: &Arc<RedisCollection<Document>>| {
            let (collection, states) = (collection.clone(), states.clone());
            move |_, n: u64| {
                let (collection, state) = (collection.clone(), states[n as usize % 2].clone());
                async move {
                    collection.save(&(n % IDS).to_string(), &state).await.expect("saved");
                }
            }
        };
        let (manager, pool_for_save, sessions) = (bare.clone(), pool.clone(), tower_sessions.clone());
        let (states_bare, states_pool) = (states.clone(), states.clone());
        let session_records = [0, 1].map(record);
        saves.column(
            &*column,
            compare(
                tasks,
                count,
                rounds,
                &[
                    Contender::new("redis-rs, ConnectionManager", runtime, move |_, n| {
                        let (mut manager, state) = (manager.clone(), states_bare[n as usize % 2].clone());
                        async move {
                            let bytes = serde_json::to_vec(&state).expect("JSON");
                            let _: () = manager.set(key(n % IDS), bytes).await.expect("saved");
                        }
                    }),
                    Contender::new("sosa-redis, ConnectionManager", runtime, save(&on_manager)),
                    Contender::new("sosa-redis, Client", runtime, save(&on_client)),
                    Contender::new("sosa-redis, deadpool", runtime, save(&on_pool)),
                    Contender::new("deadpool-redis, checked out", runtime, move |_, n| {
                        let (pool, state) = (pool_for_save.clone(), states_pool[n as usize % 2].clone());
                        async move {
                            let mut connection = pool.get().await.expect("a connection");
                            let bytes = serde_json::to_vec(&state).expect("JSON");
                            let _: () = connection.set(key(n % IDS), bytes).await.expect("saved");
                        }
                    }),
                    Contender::new("tower-sessions-redis-store", runtime, move |_, n| {
                        let (sessions, mut record) = (sessions.clone(), session_records[n as usize % 2].clone());
                        record.id = Id(i128::from(n % IDS));
                        async move { sessions.save(&record).await.expect("saved") }
                    }),
                ],
            ),
        );

        // Each task goes between two states of an entry of its own.
        let script = Arc::new(Script::new(include_str!("../../../../../sosa-redis/src/commands/lua/save.lua")));
        let (manager, states_bare) = (bare.clone(), states.clone());
        let hex = [revisions[0].to_string(), revisions[1].to_string()];
        let (collection, states, revisions) = (on_manager.clone(), states.clone(), revisions.clone());
        runtime.block_on(async {
            for task in 0..tasks {
                on_manager.save(&format!("bare {task}"), &states[0]).await.expect("saved");
                on_manager.save(&format!("sosa {task}"), &states[0]).await.expect("saved");
            }
        });
        let turns = || -> Arc<[AtomicUsize]> { (0..tasks).map(|_| AtomicUsize::new(0)).collect() };
        let (bare_turns, sosa_turns) = (turns(), turns());
        conditional.column(
            &*column,
            compare(
                tasks,
                count / 2,
                rounds,
                &[
                    Contender::new("redis-rs, the same script", runtime, move |task, _| {
                        let turn = bare_turns[task].fetch_add(1, Ordering::Relaxed);
                        let (mut manager, id) = (manager.clone(), format!("bench:things:bare {task}"));
                        let (read, state) = (hex[turn % 2].clone(), states_bare[(turn + 1) % 2].clone());
                        let script = script.clone();
                        async move {
                            let bytes = serde_json::to_vec(&state).expect("JSON");
                            let mut call = script.prepare_invoke();
                            call.key(id).arg(read).arg(bytes).arg(format!("bare {task}"));
                            let saved: Option<i64> = call.invoke_async(&mut manager).await.expect("asked");
                            assert!(saved.is_some());
                        }
                    }),
                    Contender::new("sosa-redis, ConnectionManager", runtime, move |task, _| {
                        let turn = sosa_turns[task].fetch_add(1, Ordering::Relaxed);
                        let (collection, state) = (collection.clone(), states[(turn + 1) % 2].clone());
                        let read = revisions[turn % 2];
                        async move {
                            let options = SaveOptions::new().condition(Condition::Revision(read)).without_revision();
                            collection.save_with(&format!("sosa {task}"), &state, options).await.expect("saved");
                        }
                    }),
                ],
            ),
        );
    }
    [loads, saves, conditional]
}

/// Ids in no order, as those of sessions are.
fn id(n: u64) -> String {
    format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Fills an index, of which a quarter is dead, as it is where as many expire as are new.
async fn fill(manager: &mut ConnectionManager, ids: u64) {
    let value = serde_json::to_vec(&Document::new(0)).expect("JSON");
    for start in (0..ids).step_by(10_000) {
        let mut pipeline = redis::pipe();
        for n in start..start + 10_000 {
            pipeline.zadd("bench:things", id(n), 0).ignore();
            if n % 4 > 0 {
                pipeline.set(format!("bench:things:{}", id(n)), &value).ignore();
            }
        }
        let _: () = pipeline.query_async(manager).await.expect("filled");
    }
}

/// Removes what was inserted.
async fn remove(manager: &mut ConnectionManager, ids: impl Iterator<Item = u64>) {
    let mut pipeline = redis::pipe();
    for n in ids {
        pipeline.zrem("bench:things", id(n)).ignore().del(format!("bench:things:{}", id(n))).ignore();
    }
    let _: () = pipeline.query_async(manager).await.expect("removed");
}

fn patient(client: &Client, runtime: &Runtime) -> ConnectionManager {
    let config = redis::aio::ConnectionManagerConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
    runtime.block_on(ConnectionManager::new_with_config(client.clone(), config)).expect("a connection")
}

/// Where what a round inserts starts.
const NEW: u64 = 1_000_000_000;

fn indexed(runtime: &Runtime, rounds: usize, ids: u64) -> [Table; 2] {
    let server = sosa_tests::Redis::start(&[]);
    let bare = patient(&Client::open(server.url()).expect("a URL"), runtime);
    let things = Arc::new(sosa_redis::new(bare.clone(), "bench").collection::<Document>("things"));
    let state = Document::new(0);
    runtime.block_on(fill(&mut bare.clone(), ids));
    let of = thousands(ids as f64);
    let mut overwrites = Table::new(format!("save over one of {of} entries, indexed"));
    let mut inserts = Table::new(format!("save of a new entry beside {of}, indexed"));
    for (tasks, count) in [(1, 2_000), (64, 10_000), (512, 10_000)] {
        let set = |id_of: fn(u64, u64) -> u64| {
            let (manager, state) = (bare.clone(), state.clone());
            Contender::new("redis-rs, SET", runtime, move |_, n| {
                let (mut manager, state) = (manager.clone(), state.clone());
                async move {
                    let bytes = serde_json::to_vec(&state).expect("JSON");
                    let key = format!("bench:things:{}", id(id_of(n, count)));
                    let _: () = manager.set(key, bytes).await.expect("saved");
                }
            })
        };
        let transaction = |id_of: fn(u64, u64) -> u64| {
            let (manager, state) = (bare.clone(), state.clone());
            Contender::new("redis-rs, MULTI SET ZADD EXEC", runtime, move |_, n| {
                let (mut manager, state) = (manager.clone(), state.clone());
                async move {
                    let bytes = serde_json::to_vec(&state).expect("JSON");
                    let id = id(id_of(n, count));
                    let mut both = redis::pipe();
                    both.atomic().set(format!("bench:things:{id}"), bytes).ignore().zadd("bench:things", id, 0);
                    let _: (i64,) = both.query_async(&mut manager).await.expect("saved");
                }
            })
        };
        let save = |id_of: fn(u64, u64) -> u64| {
            let (things, state) = (things.clone(), state.clone());
            Contender::new("sosa-redis, indexed", runtime, move |_, n| {
                let (things, state) = (things.clone(), state.clone());
                async move { things.save(&id(id_of(n, count)), &state).await.expect("saved") }
            })
        };
        // The entry of an operation, by its number and the count of a round: one that lives, or a new one.
        let old: fn(u64, u64) -> u64 = |n, _| n % 2_000 * 4 + 1;
        let new: fn(u64, u64) -> u64 = |n, count| NEW + n % count;
        let compared = compare(tasks, count, rounds, &[set(old), transaction(old), save(old)]);
        overwrites.column(number_of(tasks as u64, "task"), compared);
        // Each round starts with the index as it was.
        let restore = || {
            runtime.block_on(async {
                let manager = &mut bare.clone();
                remove(manager, NEW..NEW + count).await;
                // What the sweeps of a round removed, as far as they get.
                if ids <= 10_000 {
                    fill(manager, ids).await;
                }
            });
        };
        let new = [set(new).before(restore), transaction(new).before(restore), save(new).before(restore)];
        inserts.column(number_of(tasks as u64, "task"), compare(tasks, count, rounds, &new));
    }
    [overwrites, inserts]
}

fn pages(runtime: &Runtime, rounds: usize) -> Table {
    let places = [(10_000_u64, 0_u64), (1_000_000, 0), (1_000_000, 1_000_000)].map(|(ids, foreign)| {
        let server = sosa_tests::Redis::start(&[]);
        let mut bare = patient(&Client::open(server.url()).expect("a URL"), runtime);
        let value = serde_json::to_vec(&Document::new(0)).expect("JSON");
        runtime.block_on(async {
            for start in (0..ids.max(foreign)).step_by(10_000) {
                let mut pipeline = redis::pipe();
                for n in start..start + 10_000 {
                    if n < ids {
                        pipeline.zadd("bench:things", id(n), 0).ignore();
                        pipeline.set(format!("bench:things:{}", id(n)), &value).ignore();
                    }
                    if n < foreign {
                        pipeline.set(format!("foreign:{n}"), "x").ignore();
                    }
                }
                let _: () = pipeline.query_async(&mut bare).await.expect("filled");
            }
        });
        (server, bare)
    });
    // From anywhere but the end, so that each is full.
    let start = |n: u64| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15) / 10 * 8);
    let ours = places.iter().map(|(_, bare)| {
        let things = Arc::new(sosa_redis::new(bare.clone(), "bench").collection::<Document>("things"));
        Contender::new("sosa-redis", runtime, move |_, n| {
            let things = things.clone();
            async move {
                let options = ListOptions::new().cursor(Cursor::after(start(n)));
                assert_eq!(things.list_with(options).await.expect("a page").items.len(), 1000);
            }
        })
    });
    let theirs = places.iter().map(|(_, bare)| {
        let manager = bare.clone();
        Contender::new("redis-rs, ZRANGE and MGET", runtime, move |_, n| {
            let mut manager = manager.clone();
            async move {
                let mut range = redis::cmd("ZRANGE");
                range.arg("bench:things").arg(format!("({}", start(n))).arg("+").arg("BYLEX");
                let ids: Vec<String> =
                    range.arg("LIMIT").arg(0).arg(1000).query_async(&mut manager).await.expect("a page");
                let keys: Vec<_> = ids.iter().map(|id| format!("bench:things:{id}")).collect();
                let values: Vec<Vec<u8>> = manager.mget(keys).await.expect("values");
                for value in &values {
                    serde_json::from_slice::<Document>(value).expect("JSON");
                }
                assert_eq!(values.len(), 1000);
            }
        })
    });
    let contenders: Vec<_> = theirs.chain(ours).collect();
    let rates = rates(1, 20, rounds, &contenders);
    let mut table = Table::new("a page of 1,000");
    for (n, of) in ["of 10,000 ids", "of 1,000,000 ids", "and 1,000,000 foreign keys"].into_iter().enumerate() {
        let both = cells(&[rates[n].clone(), rates[n + 3].clone()]);
        table.column(of, ["redis-rs, ZRANGE and MGET", "sosa-redis"].into_iter().zip(both));
    }
    table
}
