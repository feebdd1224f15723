//! One connection to a server, or several: throughput, what small values wait beside a large one, and how many writes
//! fail where answers are cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deadpool_redis::{Config, PoolConfig, Runtime as PoolRuntime};
use sosa::Collection;
use sosa_peers::report::{Table, number_of, range, thousands};
use sosa_peers::{Contender, Document, compare, median, take_turns};
use sosa_redis::{RedisCollection, RedisStore};
use sosa_tests::{Fault, Proxy, Redis};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// How many connections a store has.
const COUNTS: [(&str, usize); 3] = [("1 connection", 1), ("2 connections", 2), ("4 connections", 4)];

const IDS: u64 = 1000;

/// How many tasks load or save small values.
const TASKS: usize = 16;

/// A value as large as a session may be.
const LARGE: usize = 256 * 1024;

/// How many small values each task loads beside a large one, one a millisecond at most.
const LOADS: usize = 1000;

/// How long one contender saves in one round, while answers are cut off.
const ROUND: Duration = Duration::from_secs(1);

pub fn tables(runtime: &Runtime, rounds: usize) -> [Table; 3] {
    let server = Redis::start(&[]);
    [throughput(runtime, rounds, &server), beside_large(runtime, rounds, &server), cut(runtime, rounds, &server)]
}

/// Makes a store over so many connections: those of a pool, which all tasks share.
fn store(url: &str, connections: usize) -> RedisStore {
    let mut config = Config::from_url(url);
    config.pool = Some(PoolConfig::new(connections));
    sosa_redis::new(config.create_pool(Some(PoolRuntime::Tokio1)).expect("a pool"), "bench")
}

fn throughput(runtime: &Runtime, rounds: usize, server: &Redis) -> Table {
    let mut table = Table::new("load, by connections");
    for (tasks, count) in [(1, 5_000), (64, 40_000), (512, 40_000)] {
        let contenders = COUNTS.map(|(name, connections)| {
            let things = Arc::new(store(&server.url(), connections).collection::<Document>("things").unindexed());
            runtime.block_on(fill(&things));
            Contender::new(name, runtime, move |_, n| {
                let things = things.clone();
                async move {
                    things.load(&(n % IDS).to_string()).await.expect("loaded").expect("there");
                }
            })
        });
        table.column(number_of(tasks as u64, "task"), compare(tasks, count, rounds, &contenders));
    }
    table
}

async fn fill(things: &RedisCollection<Document>) {
    for n in 0..IDS {
        things.save(&n.to_string(), &Document::new(n)).await.expect("saved");
    }
}

/// Milliseconds of a load of a small value, while one task saves and loads a large one without pause.
fn beside_large(runtime: &Runtime, rounds: usize, server: &Redis) -> Table {
    let stores = COUNTS.map(|(_, connections)| store(&server.url(), connections));
    let measured = take_turns(COUNTS.len(), rounds, |n| runtime.block_on(Waits::measure(&stores[n])));
    let columns: [Column<Waits>; 4] = [
        ("median", |waits| waits.median, decimals),
        ("p99", |waits| waits.p99, decimals),
        ("of these loads a second", |waits| waits.small, thousands),
        ("of the large a second", |waits| waits.large, thousands),
    ];
    of_each(format!("load beside one who saves and loads {} KiB, ms", LARGE / 1024), &measured, columns)
}

/// What one column of a table says of a round, and how it is written.
type Column<R> = (&'static str, fn(&R) -> f64, fn(f64) -> String);

fn decimals(value: f64) -> String {
    format!("{value:.2}")
}

fn of_each<R, const N: usize>(title: String, measured: &[Vec<R>], columns: [Column<R>; N]) -> Table {
    let mut table = Table::new(title);
    for (name, figure, write) in columns {
        let cell = |rounds: &Vec<R>| {
            let figures: Vec<_> = rounds.iter().map(figure).collect();
            let (least, greatest) = range(&figures);
            format!("{} ({}–{})", write(median(figures)), write(least), write(greatest))
        };
        table.column(name, COUNTS.map(|(row, _)| row).into_iter().zip(measured.iter().map(cell)));
    }
    table
}

struct Waits {
    median: f64,
    p99: f64,
    small: f64,
    large: f64,
}

impl Waits {
    async fn measure(store: &RedisStore) -> Self {
        let things = Arc::new(store.collection::<Document>("things").unindexed());
        let blobs = store.collection::<String>("blobs").unindexed();
        fill(&things).await;
        let is_over = Arc::new(AtomicBool::new(false));
        let large = tokio::spawn({
            let is_over = is_over.clone();
            async move {
                let blob = "x".repeat(LARGE);
                let mut done = 0.0;
                while !is_over.load(Ordering::Relaxed) {
                    blobs.save("blob", &blob).await.expect("saved");
                    blobs.load("blob").await.expect("loaded").expect("there");
                    done += 2.0;
                }
                done
            }
        });
        let (began, mut small) = (Instant::now(), JoinSet::new());
        for task in 0..TASKS {
            let things = things.clone();
            small.spawn(async move {
                let (id, mut paced) = (task.to_string(), interval(Duration::from_millis(1)));
                paced.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut millis = Vec::with_capacity(LOADS);
                for _ in 0..LOADS {
                    paced.tick().await;
                    let began = Instant::now();
                    things.load(&id).await.expect("loaded").expect("there");
                    millis.push(began.elapsed().as_secs_f64() * 1e3);
                }
                millis
            });
        }
        let mut millis = small.join_all().await.concat();
        let seconds = began.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        millis.sort_by(f64::total_cmp);
        let at = |share: f64| millis[((millis.len() - 1) as f64 * share) as usize];
        let large = large.await.expect("it ends") / seconds;
        Self { median: at(0.5), p99: at(0.99), small: millis.len() as f64 / seconds, large }
    }
}

/// Writes that fail where the network cuts off one answer in thirty, and the connection with it.
fn cut(runtime: &Runtime, rounds: usize, server: &Redis) -> Table {
    let proxy = runtime.block_on(Proxy::start(server.address()));
    proxy.set(Fault::Cut(30));
    let stores = COUNTS.map(|(_, connections)| store(&proxy.url(), connections));
    let measured = take_turns(COUNTS.len(), rounds, |n| runtime.block_on(Failures::measure(&stores[n])));
    let columns: [Column<Failures>; 2] = [
        ("of 100 that fail", |writes| writes.failed, decimals),
        ("writes a second", |writes| writes.a_second, thousands),
    ];
    of_each(format!("{TASKS} tasks that save, one packet of answers in thirty cut off"), &measured, columns)
}

struct Failures {
    failed: f64,
    a_second: f64,
}

impl Failures {
    async fn measure(store: &RedisStore) -> Self {
        let things = Arc::new(store.collection::<Document>("things").unindexed());
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let things = things.clone();
            tasks.spawn(async move {
                let (id, state) = (task.to_string(), Document::new(0));
                let (began, mut done, mut failed) = (Instant::now(), 0.0, 0.0);
                while began.elapsed() < ROUND {
                    match things.save(&id, &state).await {
                        Ok(()) => done += 1.0,
                        Err(_) => failed += 1.0,
                    }
                }
                (done, failed)
            });
        }
        let (done, failed) = tasks
            .join_all()
            .await
            .into_iter()
            .fold((0.0, 0.0), |(done, failed), task| (done + task.0, failed + task.1));
        Self { failed: 100.0 * failed / (done + failed), a_second: done / ROUND.as_secs_f64() }
    }
}
