//! What others wait while one client writes a large session without pause: `cargo run --release --bin size [rounds]
//! [--dry]`.
//!
//! Four visitors write small sessions of their own, one request after the other with a pause between; beside them one
//! client writes as often as it can: two sessions in turn, since of one each twelfth save is followed by a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sosa::Collection;
use sosa_peers::arguments::Arguments;
use sosa_peers::browser::Browser;
use sosa_peers::median;
use sosa_peers::report::{Section, Table, range, thousands};
use sosa_redis::redis::Client;
use sosa_session::{SessionData, SessionOptions, Sessions};
use sosa_sled::Durability;
use sosa_tests::Redis;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;

const VISITORS: usize = 4;
const ROUND: Duration = Duration::from_secs(2);

/// What the client's session holds.
const SIZES: [(&str, usize); 4] = [
    ("1 KB", 1_000),
    ("16 KB", 16_000),
    ("256 KiB, the limit", 255 * 1024),
    ("8 MB, if the limit is raised", 8_000_000),
];

fn main() {
    let arguments = Arguments::read();
    let rounds = arguments.rounds(5);
    let mut section = Section::new(
        "size",
        &["sosa-session", "sosa-memory", "sosa-sled", "sosa-redis"],
        &["redis-server --version"],
        format!("{rounds} rounds of {} seconds; milliseconds of a visitor's write", ROUND.as_secs()),
    );
    let server = Redis::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let sled = |name: &str, durability| {
            let store = sosa_sled::open(directory.path().join(name), "size").expect("a database");
            Arc::new(store.with_durability(durability).collection("sessions")) as Arc<dyn Collection<SessionData>>
        };
        let client = Client::open(server.url()).expect("a URL");
        let stores: [(&str, Arc<dyn Collection<SessionData>>); 4] = [
            ("memory", Arc::new(sosa_memory::new("size").collection("sessions"))),
            ("sled, eventual", sled("eventual", Durability::Eventual)),
            ("sled, immediate", sled("immediate", Durability::Immediate)),
            ("Redis", Arc::new(sosa_redis::new(client, "size").collection("sessions"))),
        ];
        for (store, collection) in stores {
            section.table(&table(store, &collection, rounds).await);
        }
    });
    arguments.finish(section);
}

async fn table(store: &str, collection: &Arc<dyn Collection<SessionData>>, rounds: usize) -> Table {
    let sessions = Sessions::new(SessionOptions::new(collection.clone()).max_size(16_000_000));
    let mut measured: Vec<_> = SIZES.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for place in 0..SIZES.len() {
            let which = (place + round) % SIZES.len();
            measured[which].push(Waits::measure(&sessions, SIZES[which].1).await);
        }
    }
    let mut table = Table::new(format!("{store}: beside one who writes"));
    let small = measured[0].clone();
    let mut column = |name, cell: &dyn Fn(&[Waits]) -> String| {
        table.column(name, SIZES.iter().zip(&measured).map(|((row, _), waits)| (*row, cell(waits))));
    };
    let of = |waits: &[Waits], figure: fn(&Waits) -> f64| median(waits.iter().map(figure).collect());
    column("its writes a second", &|waits| thousands(of(waits, |waits| waits.writes)));
    column("of others, median", &|waits| format!("{:.2}", of(waits, |waits| waits.median)));
    column("p99", &|waits| {
        let ratios: Vec<_> = waits.iter().zip(&small).map(|(waits, small)| waits.p99 / small.p99).collect();
        let (least, greatest) = range(&ratios);
        let p99 = of(waits, |waits| waits.p99);
        format!("{p99:.2} ({:.2}; {least:.2}–{greatest:.2})", median(ratios))
    });
    column("slowest", &|waits| format!("{:.1}", of(waits, |waits| waits.slowest)));
    table
}

#[derive(Clone)]
struct Waits {
    /// Of the client, a second.
    writes: f64,
    median: f64,
    p99: f64,
    slowest: f64,
}

impl Waits {
    async fn measure(sessions: &Sessions, bytes: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let writes = Arc::new(AtomicUsize::new(0));
        let client = tokio::spawn({
            let (sessions, is_over, writes) = (sessions.clone(), is_over.clone(), writes.clone());
            async move {
                let mut browsers = [(); 2].map(|()| Browser::new(&sessions));
                while !is_over.load(Ordering::Relaxed) {
                    let write = writes.fetch_add(1, Ordering::Relaxed);
                    let browser = &mut browsers[write % 2];
                    let session = browser.open();
                    let text = char::from(b'a' + (write / 2 % 26) as u8).to_string();
                    session.insert("blob", text.repeat(bytes)).await.expect("inserted");
                    browser.close(&session).await.expect("saved");
                }
                for mut browser in browsers {
                    let session = browser.open();
                    session.destroy().await.expect("looked up");
                    browser.close(&session).await.expect("ended");
                }
            }
        });
        let mut visitors = JoinSet::new();
        for _ in 0..VISITORS {
            let (sessions, is_over) = (sessions.clone(), is_over.clone());
            visitors.spawn(async move {
                let mut browser = Browser::new(&sessions);
                let mut millis = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let session = browser.open();
                    session.update("count", |count: Option<u64>| count.unwrap_or(0) + 1).await.expect("updated");
                    browser.close(&session).await.expect("saved");
                    millis.push(began.elapsed().as_secs_f64() * 1e3);
                    sleep(Duration::from_millis(1)).await;
                }
                millis
            });
        }
        sleep(ROUND).await;
        let writes = writes.load(Ordering::Relaxed) as f64 / ROUND.as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        let mut millis = visitors.join_all().await.concat();
        client.await.expect("it ends");
        millis.sort_by(f64::total_cmp);
        let at = |share: f64| millis[((millis.len() - 1) as f64 * share) as usize];
        Self { writes, median: at(0.5), p99: at(0.99), slowest: at(1.0) }
    }
}
