//! Full load for a long time, in which no session may be lost and no memory kept:
//! `cargo run --release --bin soak [minutes] [--dry]`.

mod tally;
mod visitor;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sosa::Collection;
use sosa_memory::MemoryCollection;
use sosa_peers::arguments::Arguments;
use sosa_peers::report::{Section, Table, thousands};
use sosa_peers::{median, process};
use sosa_redis::redis::Client;
use sosa_session::SessionData;
use sosa_tests::Redis;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::tally::{COUNTED, Tally};
use crate::visitor::{Site, Visitor};

/// How many visitors the stores have: in memory, where none of them ever waits, they take turns with those of Redis,
/// and many would leave those nothing.
const VISITORS: [usize; 2] = [32, 512];

/// How often it says how it goes.
const EVERY: Duration = Duration::from_secs(10);

/// How long a run has to be for its memory to be judged: the markers of sessions that were renewed live for half
/// a minute, and there have to be all of them in the second quarter.
const JUDGED: Duration = Duration::from_secs(5 * 60);

/// How much more may be resident in the last quarter than in the second. What Redis uses goes up and down with the
/// renewals of the last half minute, where this process keeps what it once had; so that is shown for each key.
const FLAT: f64 = 1.1;

/// The memory in use at some time.
struct Sample {
    resident: f64,
    /// What the server of Redis says that it uses.
    server: f64,
    /// How many keys it has.
    keys: f64,
}

fn main() {
    let arguments = Arguments::read();
    let length = Duration::from_secs_f64(arguments.number.unwrap_or(20.0) * 60.0);
    let server = Redis::start(&[]);
    let memory: MemoryCollection<SessionData> = sosa_memory::new("soak").collection("sessions");
    let redis =
        sosa_redis::new(Client::open(server.url()).expect("a URL"), "soak").collection::<SessionData>("sessions");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let tallies = [Arc::<Tally>::default(), Arc::default()];
    let mut section = Section::new(
        "soak",
        &["sosa-session", "sosa-memory", "sosa-redis"],
        &["redis-server --version"],
        format_args!(
            "{:.1} minutes, {} visitors in memory and {} in Redis at once",
            length.as_secs_f64() / 60.0,
            VISITORS[0],
            VISITORS[1],
        ),
    );

    let samples = runtime.block_on(async {
        let mut visitors = JoinSet::new();
        start(&mut visitors, VISITORS[0], memory.clone(), &tallies[0]);
        start(&mut visitors, VISITORS[1], redis, &tallies[1]);
        let samples = watch(&server, &memory, &tallies, length);
        for tally in &tallies {
            tally.stop.store(true, Ordering::Relaxed);
        }
        while let Some(visitor) = visitors.join_next().await {
            visitor.expect("a visitor goes by itself");
        }
        samples
    });

    let quarters: Vec<_> = samples.chunks(samples.len().div_ceil(4)).map(medians).collect();
    for (n, quarter) in quarters.iter().enumerate() {
        println!("quarter {}: {}, Redis {}", n + 1, megabytes(quarter.resident), by_key(quarter));
    }
    section.table(&table(&tallies, &quarters, length));
    for tally in &tallies {
        assert_eq!(tally.wrong(), (0, 0), "errors, and sessions lost or not ended");
    }
    if length >= JUDGED {
        let [_, second, .., last] = &quarters[..] else { panic!("four quarters") };
        assert!(last.resident <= FLAT * second.resident, "memory grows");
    }
    arguments.finish(section);
}

fn start(
    visitors: &mut JoinSet<()>,
    count: usize,
    collection: impl Collection<SessionData> + Clone + 'static,
    tally: &Arc<Tally>,
) {
    let site = Site::new(collection);
    for _ in 0..count {
        visitors.spawn(Visitor::new(&site, tally).stay());
    }
}

/// Takes a sample each second until the time is up.
fn watch(
    server: &Redis,
    memory: &MemoryCollection<SessionData>,
    tallies: &[Arc<Tally>; 2],
    length: Duration,
) -> Vec<Sample> {
    let (began, mut samples) = (Instant::now(), Vec::new());
    let (mut said, mut before) = (began, 0);
    while began.elapsed() < length {
        std::thread::sleep(Duration::from_secs(1));
        let info: String = server.tell("INFO memory");
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("the memory in use");
        samples.push(Sample {
            resident: process::resident() as f64,
            server: used.parse().expect("a number"),
            keys: server.tell::<u64>("DBSIZE") as f64,
        });
        if said.elapsed() < EVERY {
            continue;
        }
        let [ours, theirs] = tallies;
        let requests = ours.requests() + theirs.requests();
        let (errors, lost) = (ours.wrong().0 + theirs.wrong().0, ours.wrong().1 + theirs.wrong().1);
        let live = ours.live.load(Ordering::Relaxed) + theirs.live.load(Ordering::Relaxed);
        let last = samples.last().expect("a sample");
        println!(
            "{:4.0} s: {requests} requests, {:.0} a second, {errors} errors, {lost} lost; {}, Redis {}; {live} sessions \
             live, entries held in memory {}",
            began.elapsed().as_secs_f64(),
            (requests - before) as f64 / said.elapsed().as_secs_f64(),
            megabytes(last.resident),
            megabytes(last.server),
            memory.held(),
        );
        (said, before) = (Instant::now(), requests);
    }
    samples
}

fn medians(samples: &[Sample]) -> Sample {
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
    Sample {
        resident: of(|sample| sample.resident),
        server: of(|sample| sample.server),
        keys: of(|sample| sample.keys),
    }
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

fn by_key(sample: &Sample) -> String {
    format!("{}, {} bytes a key", megabytes(sample.server), thousands(sample.server / sample.keys))
}

fn table(tallies: &[Arc<Tally>; 2], quarters: &[Sample], length: Duration) -> Table {
    let mut table = Table::new("");
    for (n, name) in ["memory", "Redis"].into_iter().enumerate() {
        let tally = &tallies[n];
        let mut rows = vec![
            ("requests", thousands(tally.requests() as f64)),
            ("a second", thousands(tally.requests() as f64 / length.as_secs_f64())),
        ];
        rows.extend(COUNTED.iter().map(|(what, name)| (*name, thousands(tally.count(*what) as f64))));
        rows.push(("errors", tally.wrong().0.to_string()));
        rows.push(("sessions lost, or not ended", tally.wrong().1.to_string()));
        for (quarter, name) in [(1, "memory in use, second quarter"), (3, "memory in use, last quarter")] {
            if let Some(sample) = quarters.get(quarter) {
                rows.push((name, if n == 0 { megabytes(sample.resident) } else { by_key(sample) }));
            }
        }
        table.column(name, rows);
    }
    table
}
