//! What a session costs inside the process, beside other libraries: `cargo run --release --bin inside [rounds]`.
//!
//! One thread calls a router with requests, as a server would, without any network. A bare handler that
//! gets the same `Cookie` header and answers the same is taken off each figure. All keep 10,000 sessions of ten
//! keys in memory.

use std::env;
use std::hint::black_box;
use std::ops::Range;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, header};
use axum::routing::get;
use axum_session::{SessionConfig, SessionNullPool, SessionStore};
use cpu_time::ThreadTime;
use sosa_peers::median;
use sosa_session::{CookieOptions, Secure, SessionLayer, SessionOptions, SigningKey};
use tokio::runtime::Runtime;
use tower::Service;
use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};

/// How many sessions there are.
const SESSIONS: usize = 10_000;

/// How many calls a contender makes in a turn.
const CALLS: usize = 10_000;

/// What a request may do.
const OPERATIONS: [(&str, &str, bool); 4] = [
    ("no cookie", "/untouched", false),
    ("untouched", "/untouched", true),
    ("read", "/read", true),
    ("write", "/write", true),
];

struct Contender {
    name: &'static str,
    router: Router,
    /// The `Cookie` header of each session.
    cookies: Vec<HeaderValue>,
}

/// What a session of a shop holds: ten keys and about 940 bytes of JSON.
fn contents() -> serde_json::Map<String, serde_json::Value> {
    let item = |sku, title, quantity, price| serde_json::json!({"sku": sku, "title": title, "quantity": quantity, "price": price});
    let contents = serde_json::json!({
        "user": {"id": 184_467, "name": "Ada Lovelace", "email": "ada@example.test", "roles": ["customer", "editor"],
            "address": {"street": "12 St James's Square", "city": "London", "postcode": "SW1Y 4LB", "country": "GB"}},
        "cart": [
            item("A-1001", "Notebook, squared, 96 pages", 2, 4.5),
            item("B-2040", "Fountain pen, fine nib", 1, 32.0),
            item("C-0007", "Ink, blue-black, 50 ml", 3, 8.75),
        ],
        "csrf": "q3Zk7Xn0cVbT5yLw2RmDfGh8JpUe1AsOiN4Kx6Qz9Bv",
        "theme": "dark",
        "locale": "en-GB",
        "seen": ["A-1001", "A-1002", "B-2040", "B-2041", "C-0007", "C-0019", "D-3301", "E-4410"],
        "return_to": "/products/stationery/pens-and-ink?sort=price&direction=down&page=3",
        "flash": [
            {"level": "info", "text": "Your cart was saved, and waits for you for thirty days."},
            {"level": "warning", "text": "The price of one of the things in it has changed since you put it there."},
        ],
        "logged_in_at": "2026-11-24T09:15:02.113Z",
        "views": 12,
    });
    match contents {
        serde_json::Value::Object(contents) => contents,
        _ => unreachable!("it is an object"),
    }
}

fn views() -> u32 {
    fastrand::u32(100_000_000..)
}

/// Answers as those with sessions do.
fn bare() -> Router {
    let answer = |headers: HeaderMap| async move {
        black_box(headers.get(header::COOKIE).map(|cookie| cookie.as_bytes().len()));
        views().to_string()
    };
    Router::new().route("/untouched", get(answer)).route("/read", get(answer)).route("/write", get(answer))
}

fn sosa(options: SessionOptions) -> Router {
    use sosa_session::{Result, Session};
    async fn untouched(_session: Session) -> String {
        views().to_string()
    }
    async fn read(session: Session) -> Result<String> {
        Ok(session.get::<u32>("views").await?.unwrap_or_default().to_string())
    }
    async fn write(session: Session) -> Result<String> {
        let views = views();
        session.insert("views", views).await?;
        Ok(views.to_string())
    }
    async fn fill(session: Session) -> Result<()> {
        for (key, value) in contents() {
            session.insert(&key, value).await?;
        }
        Ok(())
    }
    let options = options.cookie(CookieOptions::new().secure(Secure::Never));
    Router::new()
        .route("/untouched", get(untouched))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/fill", get(fill))
        .layer(SessionLayer::new(options))
}

fn tower_sessions() -> Router {
    use tower_sessions::Session;
    async fn untouched(_session: Session) -> String {
        views().to_string()
    }
    async fn read(session: Session) -> String {
        session.get::<u32>("views").await.expect("read").unwrap_or_default().to_string()
    }
    async fn write(session: Session) -> String {
        let views = views();
        session.insert("views", views).await.expect("written");
        views.to_string()
    }
    async fn fill(session: Session) {
        for (key, value) in contents() {
            session.insert(&key, value).await.expect("written");
        }
    }
    let expiry = Expiry::OnInactivity(time::Duration::days(1));
    Router::new()
        .route("/untouched", get(untouched))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/fill", get(fill))
        .layer(SessionManagerLayer::new(MemoryStore::default()).with_secure(false).with_expiry(expiry))
}

fn axum_session(runtime: &Runtime) -> Router {
    type Session = axum_session::Session<SessionNullPool>;
    async fn untouched(_session: Session) -> String {
        views().to_string()
    }
    async fn read(session: Session) -> String {
        session.get::<u32>("views").unwrap_or_default().to_string()
    }
    async fn write(session: Session) -> String {
        let views = views();
        session.set("views", views);
        views.to_string()
    }
    async fn fill(session: Session) {
        for (key, value) in contents() {
            session.set(&key, value);
        }
    }
    let store = runtime.block_on(SessionStore::<SessionNullPool>::new(None, SessionConfig::default()));
    Router::new()
        .route("/untouched", get(untouched))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/fill", get(fill))
        .layer(axum_session::SessionLayer::new(store.expect("a store")))
}

impl Contender {
    /// Fills the store by requests, and keeps the cookies.
    fn new(name: &'static str, runtime: &Runtime, router: Router) -> Self {
        // As axum::serve does it once, not at each call.
        let mut router = router.with_state(());
        let cookies = runtime.block_on(async {
            let mut cookies = Vec::with_capacity(SESSIONS);
            for _ in 0..SESSIONS {
                let response = router.call(request("/fill", None)).await.expect("infallible");
                let pairs: Vec<_> = response
                    .headers()
                    .get_all(header::SET_COOKIE)
                    .iter()
                    .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
                    .collect();
                assert!(!pairs.is_empty(), "{name} gave no cookie");
                cookies.push(HeaderValue::from_str(&pairs.join("; ")).expect("a header"));
            }
            cookies
        });
        Self { name, router, cookies }
    }

    /// Makes calls with sessions of this range, and returns the CPU time of one in nanoseconds.
    fn time(&self, runtime: &Runtime, path: &'static str, with_cookie: bool, mine: Range<usize>) -> f64 {
        let mut router = self.router.clone();
        let requests = self.requests(CALLS, path, with_cookie, mine);
        runtime.block_on(async {
            let began = ThreadTime::now();
            for request in requests {
                let response = router.call(request).await.expect("infallible");
                assert!(response.status().is_success());
                black_box(response);
            }
            began.elapsed().as_nanos() as f64 / CALLS as f64
        })
    }

    /// Returns how many allocations a call makes.
    fn allocations(&self, runtime: &Runtime, path: &'static str, with_cookie: bool) -> f64 {
        let mut router = self.router.clone();
        let requests = self.requests(100, path, with_cookie, 0..SESSIONS);
        let counted = allocation_counter::measure(|| {
            runtime.block_on(async {
                for request in requests {
                    black_box(router.call(request).await.expect("infallible"));
                }
            });
        });
        counted.count_total as f64 / 100.0
    }

    fn requests(&self, count: usize, path: &'static str, with_cookie: bool, mine: Range<usize>) -> Vec<Request<Body>> {
        let cookie = || with_cookie.then(|| self.cookies[fastrand::usize(mine.clone())].clone());
        (0..count).map(|_| request(path, cookie())).collect()
    }
}

fn request(path: &'static str, cookie: Option<HeaderValue>) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).expect("a request");
    request.headers_mut().extend(cookie.map(|cookie| (header::COOKIE, cookie)));
    request
}

fn main() {
    let rounds: usize = env::args().nth(1).map_or(15, |rounds| rounds.parse().expect("a number of rounds"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // axum_session starts a task as its layer is laid.
    let _entered = runtime.enter();
    let key = SigningKey::new("0123456789abcdef0123456789abcdef").expect("long enough");
    let sosa_plain = Contender::new("sosa-session", &runtime, sosa(SessionOptions::memory()));
    let contenders = [
        Contender { name: "bare", router: bare().with_state(()), cookies: sosa_plain.cookies.clone() },
        Contender::new("tower-sessions", &runtime, tower_sessions()),
        Contender::new("axum_session", &runtime, axum_session(&runtime)),
        Contender::new("sosa-session, signed", &runtime, sosa(SessionOptions::memory().signed([key]))),
        sosa_plain,
    ];
    println!(
        "| operation | contender | ns over bare | of tower-sessions | allocations over bare | on two threads |\n|---|---|---|---|---|---|"
    );
    for (operation, path, with_cookie) in OPERATIONS {
        let mut times = vec![Vec::new(); contenders.len()];
        let mut turns: Vec<_> = (0..contenders.len()).collect();
        for round in 0..=rounds {
            // So that none always comes after the same other.
            fastrand::shuffle(&mut turns);
            for &n in &turns {
                let one = contenders[n].time(&runtime, path, with_cookie, 0..SESSIONS);
                let two = on_two_threads(&contenders[n], path, with_cookie);
                // The first round warms up.
                if round > 0 {
                    times[n].push((one, two));
                }
            }
        }
        let allocations = |n: usize| contenders[n].allocations(&runtime, path, with_cookie);
        for (n, contender) in contenders.iter().enumerate() {
            let over = |n: usize| times[n].iter().zip(&times[0]).map(|(mine, bare)| mine.0 - bare.0);
            let ratio = median(over(n).zip(over(1)).map(|(ours, theirs)| ours / theirs).collect());
            let threads = median(times[n].iter().map(|(one, two)| two / one).collect());
            let nanos = match n {
                0 => median(times[0].iter().map(|(one, _)| *one).collect()),
                _ => median(over(n).collect()),
            };
            let allocations = allocations(n) - if n == 0 { 0.0 } else { allocations(0) };
            println!(
                "| {operation} | {} | {nanos:.0} | {ratio:.2} | {allocations:.1} | {threads:.2} |",
                contender.name
            );
        }
    }
}

/// Makes the calls on two threads at once, each with sessions of its own, and returns the CPU time of one.
fn on_two_threads(contender: &Contender, path: &'static str, with_cookie: bool) -> f64 {
    let half = |mine: Range<usize>| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        contender.time(&runtime, path, with_cookie, mine)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(0..SESSIONS / 2));
        let mine = half(SESSIONS / 2..SESSIONS);
        (mine + other.join().expect("it ends")) / 2.0
    })
}
