//! What a session costs inside the process, beside other libraries: `cargo run --release --bin inside`.
//!
//! One thread calls a router with requests, as a server would, without any network. A bare handler that
//! gets the same `Cookie` header and answers the same is taken off each figure.
//!
//! `cargo run --release --bin inside gate` is a short run that fails where a request costs clearly more than
//! BENCHMARKS.md says.

use std::env;
use std::hint::black_box;
use std::ops::Range;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum_session::{SessionConfig, SessionNullPool, SessionStore};
use cpu_time::ThreadTime;
use sosa_peers::arguments::Arguments;
use sosa_peers::report::{Section, Table, range, thousands};
use sosa_peers::{apps, median, take_turns};
use sosa_session::{SessionOptions, SigningKey};
use tokio::runtime::Runtime;
use tower::Service;
use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};

/// How many calls a contender makes in a turn.
const CALLS: usize = 10_000;

/// How many requests are made before the clock starts: a server has just written the one that it serves, so that
/// it lies in the processor's cache.
const AT_ONCE: usize = 100;

/// What a site's other scripts have set.
const OTHERS: [&str; 2] = ["_ga=GA1.1.1817423017.1763971200; ", "; consent=necessary%2Cstatistics; theme=dark"];

struct Operation {
    name: &'static str,
    path: &'static str,
    /// What stands before and behind the session's cookie; nothing where there is none.
    around: Option<[&'static str; 2]>,
}

const NO_COOKIE: Operation = Operation { name: "no cookie", path: "/untouched", around: None };
const UNTOUCHED: Operation = Operation { name: "untouched", path: "/untouched", around: Some(["", ""]) };
const AMONG_OTHERS: Operation =
    Operation { name: "untouched, among four cookies", path: "/untouched", around: Some(OTHERS) };
const READ: Operation = Operation { name: "read one key", path: "/read", around: Some(["", ""]) };
const WRITE: Operation = Operation { name: "write one key", path: "/write", around: Some(["", ""]) };

/// What the sessions hold.
struct Size {
    name: &'static str,
    fill: &'static str,
    sessions: usize,
}

/// The same, in sessions of a class.
const IN_A_CLASS: Size = Size { name: "940 bytes", fill: "/remembered", sessions: 10_000 };
const SHOP: Size = Size { name: "940 bytes", fill: "/fill", sessions: 10_000 };
/// As many of each size as fill a megabyte or less: what differs is then not what the caches hold.
const SIZES: [Size; 3] = [
    Size { name: "30 bytes", fill: "/tiny", sessions: 10_000 },
    Size { name: "940 bytes", fill: "/fill", sessions: 1_000 },
    Size { name: "100 KB", fill: "/large", sessions: 10 },
];

struct Contender {
    name: &'static str,
    router: Router,
    /// The cookies of each session.
    cookies: Vec<String>,
}

impl Contender {
    /// Fills the store by requests, and keeps the cookies.
    fn new(name: &'static str, runtime: &Runtime, router: Router, size: &Size) -> Self {
        // As axum::serve does it once, not at each call.
        let mut router = router.with_state(());
        let cookies = runtime.block_on(async {
            let mut cookies = Vec::with_capacity(size.sessions);
            for _ in 0..size.sessions {
                let response = router.call(request(size.fill, None)).await.expect("infallible");
                let pairs: Vec<_> = response
                    .headers()
                    .get_all(header::SET_COOKIE)
                    .iter()
                    .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
                    .collect();
                assert!(!pairs.is_empty(), "{name} gave no cookie");
                cookies.push(pairs.join("; "));
            }
            cookies
        });
        Self { name, router, cookies }
    }

    /// Handlers without sessions; the cookies are somebody's, so that the requests are as long as theirs.
    fn without(name: &'static str, router: Router, somebody: &Self) -> Self {
        Self { name, router: router.with_state(()), cookies: somebody.cookies.clone() }
    }

    fn sosa(runtime: &Runtime, size: &Size) -> Self {
        Self::new("sosa-session", runtime, apps::sosa(SessionOptions::memory()), size)
    }

    fn signed(runtime: &Runtime, size: &Size) -> Self {
        let key = SigningKey::new("0123456789abcdef0123456789abcdef").expect("long enough");
        Self::new("sosa-session, signed", runtime, apps::sosa(SessionOptions::memory().signed([key])), size)
    }

    fn in_a_class(runtime: &Runtime) -> Self {
        Self::new("sosa-session, in a class", runtime, apps::sosa(SessionOptions::memory()), &IN_A_CLASS)
    }

    fn tower_sessions(runtime: &Runtime, size: &Size) -> Self {
        let expiry = Expiry::OnInactivity(time::Duration::days(1));
        let layer = SessionManagerLayer::new(MemoryStore::default()).with_secure(false).with_expiry(expiry);
        Self::new("tower-sessions", runtime, apps::tower_sessions(layer), size)
    }

    fn axum_session(runtime: &Runtime, size: &Size) -> Self {
        let store = runtime.block_on(SessionStore::<SessionNullPool>::new(None, SessionConfig::default()));
        Self::new("axum_session", runtime, apps::axum_session(store.expect("a store")), size)
    }

    /// Makes calls with sessions of this part of them, and returns the CPU time of one in nanoseconds.
    fn time(&self, runtime: &Runtime, operation: &Operation, calls: usize, mine: Range<usize>) -> f64 {
        let mut router = self.router.clone();
        let mut nanos = 0.0;
        for _ in 0..calls / AT_ONCE {
            let requests = self.requests(operation, mine.clone());
            nanos += runtime.block_on(async {
                let began = ThreadTime::now();
                for request in requests {
                    let response = router.call(request).await.expect("infallible");
                    assert!(response.status().is_success());
                    black_box(response);
                }
                began.elapsed().as_nanos() as f64
            });
        }
        nanos / calls as f64
    }

    /// Makes the calls on two threads at once, each with sessions of its own, and returns the CPU time of one.
    fn time_on_two(&self, operation: &Operation, calls: usize) -> f64 {
        let half = |mine: Range<usize>| {
            let runtime = runtime();
            self.time(&runtime, operation, calls, mine)
        };
        let (all, middle) = (self.cookies.len(), self.cookies.len() / 2);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| half(0..middle));
            let mine = half(middle..all);
            (mine + other.join().expect("it ends")) / 2.0
        })
    }

    /// Returns how many allocations a call makes.
    fn allocations(&self, runtime: &Runtime, operation: &Operation) -> f64 {
        let mut router = self.router.clone();
        let requests = self.requests(operation, 0..self.cookies.len());
        let counted = allocation_counter::measure(|| {
            runtime.block_on(async {
                for request in requests {
                    black_box(router.call(request).await.expect("infallible"));
                }
            });
        });
        counted.count_total as f64 / AT_ONCE as f64
    }

    fn requests(&self, Operation { path, around, .. }: &Operation, mine: Range<usize>) -> Vec<Request<Body>> {
        let header = |[before, behind]: [&str; 2]| {
            let cookie = &self.cookies[fastrand::usize(mine.clone())];
            HeaderValue::from_str(&[before, cookie, behind].concat()).expect("a header")
        };
        (0..AT_ONCE).map(|_| request(path, around.map(header))).collect()
    }
}

fn request(path: &'static str, cookie: Option<HeaderValue>) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).expect("a request");
    request.headers_mut().extend(cookie.map(|cookie| (header::COOKIE, cookie)));
    request
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What contenders took over the bare handler, which is the first of them: of each the nanoseconds, and the ratios
/// to the second, of all rounds.
struct Over(Vec<Vec<f64>>);

impl Over {
    fn measure(
        contenders: &[Contender],
        runtime: &Runtime,
        operation: &Operation,
        rounds: usize,
        calls: usize,
    ) -> Self {
        Self(take_turns(contenders.len(), rounds, |n| {
            contenders[n].time(runtime, operation, calls, 0..contenders[n].cookies.len())
        }))
    }

    fn nanos(&self, n: usize) -> Vec<f64> {
        match n {
            0 => self.0[0].clone(),
            _ => self.0[n].iter().zip(&self.0[0]).map(|(ours, bare)| ours - bare).collect(),
        }
    }

    fn ratios(&self, n: usize) -> Vec<f64> {
        self.nanos(n).iter().zip(self.nanos(1)).map(|(ours, theirs)| ours / theirs).collect()
    }

    fn cell(&self, n: usize, allocations: f64) -> String {
        let nanos = thousands(median(self.nanos(n)));
        if n == 0 {
            return format!("{nanos}, {allocations:.0}");
        }
        let (least, greatest) = range(&self.ratios(n));
        format!("{nanos} ({:.2}; {least:.2}–{greatest:.2}), {allocations:.0}", median(self.ratios(n)))
    }
}

fn over_bare(contenders: &[Contender], runtime: &Runtime, operation: &Operation, n: usize) -> f64 {
    let allocations = |n: usize| contenders[n].allocations(runtime, operation);
    allocations(n) - if n == 0 { 0.0 } else { allocations(0) }
}

fn main() {
    let arguments = Arguments::read();
    let runtime = runtime();
    // axum_session starts a task as its layer is laid.
    let _entered = runtime.enter();
    if env::args().any(|word| word == "gate") {
        return gate(&runtime);
    }
    let rounds = arguments.rounds(15);
    let packages = ["tower-sessions", "axum_session", "axum"];
    let mut section = Section::new("inside", &packages, &["rustc -V"], format!("{rounds} rounds"));
    let sosa = Contender::sosa(&runtime, &SHOP);
    let contenders = [
        Contender::without("bare", apps::bare(), &sosa),
        Contender::tower_sessions(&runtime, &SHOP),
        Contender::axum_session(&runtime, &SHOP),
        Contender::without("a layer and an extension", apps::layered(), &sosa),
        sosa,
        Contender::signed(&runtime, &SHOP),
        Contender::in_a_class(&runtime),
    ];
    let names = || contenders.iter().map(|contender| contender.name);
    let mut costs = Table::new("nanoseconds, and allocations, over bare");
    let mut threads = Table::new("on two threads to one");
    for operation in [NO_COOKIE, UNTOUCHED, AMONG_OTHERS, READ, WRITE] {
        let over = Over::measure(&contenders, &runtime, &operation, rounds, CALLS);
        let cell = |n| over.cell(n, over_bare(&contenders, &runtime, &operation, n));
        costs.column(operation.name, names().zip((0..contenders.len()).map(cell)));
        let on_two = take_turns(contenders.len(), rounds, |n| {
            let one = contenders[n].time(&runtime, &operation, CALLS, 0..SHOP.sessions);
            contenders[n].time_on_two(&operation, CALLS) / one
        });
        let cells = on_two.into_iter().map(|ratios| {
            let (least, greatest) = range(&ratios);
            format!("{:.2}; {least:.2}–{greatest:.2}", median(ratios))
        });
        threads.column(operation.name, names().zip(cells));
    }
    section.table(&costs);
    section.table(&threads);
    section.table(&by_size(&runtime, rounds));
    arguments.finish(section);
}

/// Whether what a request does depends on how much else the session holds.
fn by_size(runtime: &Runtime, rounds: usize) -> Table {
    let mut table = Table::new("1 MB of sessions");
    for size in SIZES {
        let sosa = Contender::sosa(runtime, &size);
        let contenders =
            [Contender::without("bare", apps::bare(), &sosa), Contender::tower_sessions(runtime, &size), sosa];
        for operation in [READ, WRITE] {
            // A large session takes tower-sessions a millisecond.
            let calls = if size.fill == "/large" { CALLS / 50 } else { CALLS };
            let over = Over::measure(&contenders, runtime, &operation, rounds, calls);
            let cells = [1, 2].map(|n| {
                let allocations = over_bare(&contenders, runtime, &operation, n);
                (contenders[n].name, over.cell(n, allocations))
            });
            table.column(format!("{}, {}", operation.name, size.name), cells);
        }
    }
    table
}

/// What a request may cost at most, over a bare handler: of what tower-sessions costs in the same run, and in
/// allocations. It is half as much again as was measured, and some room.
const BOUNDS: [(Operation, f64, f64); 4] =
    [(NO_COOKIE, 0.80, 5.0), (UNTOUCHED, 0.50, 3.0), (READ, 0.25, 5.0), (WRITE, 0.25, 14.0)];

/// The same for signed cookies.
const SIGNED_BOUNDS: [(Operation, f64, f64); 2] = [(READ, 0.29, 6.0), (WRITE, 0.28, 15.0)];

/// How much more a request may cost where two threads serve, each its own sessions.
const THREADS_BOUND: f64 = 1.8;

/// Fails where a request costs clearly more than it did.
fn gate(runtime: &Runtime) {
    const ROUNDS: usize = 11;
    const CALLS: usize = 3_000;
    let sosa = Contender::sosa(runtime, &SHOP);
    let contenders = [
        Contender::without("bare", apps::bare(), &sosa),
        Contender::tower_sessions(runtime, &SHOP),
        sosa,
        Contender::signed(runtime, &SHOP),
        Contender::in_a_class(runtime),
    ];
    let mut failures = Vec::new();
    let mut check = |what: String, measured: f64, bound: f64| {
        println!("{what}: {measured:.2}, at most {bound:.2}");
        if measured > bound {
            failures.push(what);
        }
    };
    let plain = BOUNDS.into_iter().map(|bound| (2, bound));
    let signed = SIGNED_BOUNDS.into_iter().map(|bound| (3, bound));
    // A class costs nothing.
    let in_a_class = BOUNDS.into_iter().map(|bound| (4, bound));
    for (n, (operation, ratio, allocations)) in plain.chain(signed).chain(in_a_class) {
        let what = format!("{}, {}", contenders[n].name, operation.name);
        let over = Over::measure(&contenders, runtime, &operation, ROUNDS, CALLS);
        check(format!("{what}, of tower-sessions' time"), median(over.ratios(n)), ratio);
        check(format!("{what}, allocations"), over_bare(&contenders, runtime, &operation, n), allocations);
        let on_two = take_turns(1, ROUNDS, |_| {
            let one = contenders[n].time(runtime, &operation, CALLS, 0..SHOP.sessions);
            contenders[n].time_on_two(&operation, CALLS) / one
        });
        check(format!("{what}, on two threads to one"), median(on_two[0].clone()), THREADS_BOUND);
    }
    assert!(failures.is_empty(), "costs more than it did: {}", failures.join("; "));
}
