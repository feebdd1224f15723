//! Sessions that an Express application and the `express` example share over one Redis, each from either side.

// The counts are what this is for.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use sosa_tests::{Redis, Response, Service, node};
use tokio::task::JoinSet;

const NONE: &[&str] = &[];

/// Express and Rust, over one Redis.
struct Site {
    redis: Redis,
    express: Service,
    rust: Service,
}

impl Site {
    async fn start(arguments: &[&str]) -> Self {
        Self::start_each(arguments, arguments).await
    }

    async fn start_each(express: &[&str], rust: &[&str]) -> Self {
        let redis = Redis::start(&[]);
        let with = |arguments| [owned(&["--redis", &redis.url()]), owned(arguments)].concat();
        let (express, rust) = (with(express), with(rust));
        let express = Service::node("server.mjs", &borrowed(&express)).await;
        let rust = Service::example("express", &borrowed(&rust)).await;
        Self { redis, express, rust }
    }

    /// Returns both, in both orders.
    fn both_ways(&self) -> [(&Service, &Service); 2] {
        [(&self.express, &self.rust), (&self.rust, &self.express)]
    }

    fn record(&self, cookie: &str) -> Option<String> {
        self.redis.tell(&format!("GET {}", key(cookie)))
    }

    fn set(&self, cookie: &str, record: &str) {
        let mut redis = self.redis.control();
        sosa_redis::redis::cmd("SET").arg(key(cookie)).arg(record).query::<()>(&mut redis).expect("set");
    }

    fn ttl(&self, cookie: &str) -> i64 {
        self.redis.tell(&format!("TTL {}", key(cookie)))
    }
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Returns the id in a cookie of ours.
fn id(cookie: &str) -> &str {
    let value = cookie.strip_prefix("connect.sid=s%3A").expect("a signed cookie");
    value.rsplit_once('.').expect("a signature").0
}

fn key(cookie: &str) -> String {
    format!("sess:{}", id(cookie))
}

async fn send(service: &Service, method: &str, path: &str, cookie: &str, body: &str) -> Response {
    let headers = [("cookie", cookie.as_bytes())];
    let headers = if cookie.is_empty() { &[] } else { &headers[..] };
    service.connect().await.send(method, path, headers, body.as_bytes()).await.expect("answered")
}

/// Makes a session and returns its cookie.
async fn begin(service: &Service, body: &str) -> String {
    let made = send(service, "POST", "/session", "", body).await;
    assert_eq!(made.status, 200, "{}", made.body);
    made.cookie().expect("a new session has a cookie").to_owned()
}

async fn get(service: &Service, cookie: &str) -> String {
    let shown = send(service, "GET", "/session", cookie, "").await;
    assert_eq!(shown.status, 200, "{}", shown.body);
    shown.body
}

const BLANK: &str = r#"{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"}}"#;

#[tokio::test]
async fn what_one_side_does_the_other_sees() {
    let site = Site::start(NONE).await;
    for (one, other) in site.both_ways() {
        let cookie = begin(one, r#"{"user":"zoë","n":1}"#).await;
        let expected = format!(r#"{},"user":"zoë","n":1}}"#, &BLANK[..BLANK.len() - 1]);
        assert_eq!(site.record(&cookie).as_ref(), Some(&expected));
        assert_eq!(get(other, &cookie).await, expected);
        assert_eq!(site.ttl(&cookie), 86_400);

        let changed = send(other, "POST", "/session", &cookie, r#"{"n":2,"more":{"a":[1,null]}}"#).await;
        assert_eq!((changed.status, changed.header("set-cookie")), (200, None));
        assert!(get(one, &cookie).await.ends_with(r#""user":"zoë","n":2,"more":{"a":[1,null]}}"#));
        for (service, views) in [(one, 1), (other, 2), (other, 3), (one, 4)] {
            assert_eq!(send(service, "GET", "/views", &cookie, "").await.body, format!(r#"{{"views":{views}}}"#));
        }
        for service in [one, other] {
            let expected = format!(r#"{{"id":"{}","user":"zoë"}}"#, id(&cookie));
            assert_eq!(send(service, "GET", "/whoami", &cookie, "").await.body, expected);
        }

        let regenerated = send(other, "POST", "/regenerate", &cookie, r#"{"user":"bob"}"#).await;
        let renewed = regenerated.cookie().expect("a new id").to_owned();
        assert_eq!(site.record(&cookie), None);
        assert_eq!(get(one, &cookie).await, BLANK);
        assert!(get(one, &renewed).await.ends_with(r#","user":"bob","regenerated":true}"#));

        assert_eq!(send(one, "DELETE", "/session", &renewed, "").await.status, 204);
        assert_eq!(site.record(&renewed), None);
        assert_eq!(get(other, &renewed).await, BLANK);
        let late = send(other, "POST", "/session", &renewed, r#"{"late":1}"#).await;
        assert_ne!(late.cookie().expect("another id"), renewed);
        assert_eq!(site.record(&renewed), None);
    }
}

/// Takes out of an answer what differs each time: ids, signatures, dates, and the millisecond that Express loses
/// where its clock moves on between two looks.
fn normal(text: &str) -> String {
    let is_of_word = |char: char| char.is_ascii_alphanumeric() || "-_".contains(char);
    let mut words = String::new();
    let mut rest = text;
    while let Some(from) = rest.find(is_of_word) {
        let (between, word) = rest.split_at(from);
        let (word, after) = word.split_at(word.find(|char| !is_of_word(char)).unwrap_or(word.len()));
        words.push_str(between);
        words.push_str(match (word.len(), word) {
            (32, _) => "ID",
            // Behind the colon of `s:`, which is encoded.
            (34, _) if word.starts_with("3A") => "3AID",
            (_, "59999") => "60000",
            _ => word,
        });
        rest = after;
    }
    words.push_str(rest);
    for (before, behind) in [("3AID.", ';'), ("Expires=", ';'), ("\"expires\":\"", '"')] {
        let mut parts = words.split(before);
        let first = parts.next().unwrap_or_default().to_owned();
        words = parts.fold(first, |done, part| {
            let kept = part.find(behind).map_or("", |at| &part[at..]);
            format!("{done}{before}*{kept}")
        });
    }
    words
}

/// Does the same to a service alone on a Redis, and returns what it answered and stored.
async fn act(redis: &Redis, service: &Service, header: Option<(&str, &str)>) -> Vec<String> {
    let mut seen = Vec::new();
    let mut cookies: Vec<String> = vec![String::new(), "connect.sid=s%3Anobody.x".to_owned()];
    // 0 is no cookie, 1 a refused one, then those that were given, in their order.
    for (method, path, cookie, body) in [
        ("GET", "/session", 0, ""),
        ("GET", "/session", 1, ""),
        ("DELETE", "/session", 0, ""),
        ("POST", "/session", 0, "{}"),
        ("POST", "/session", 0, r#"{"a":1}"#),
        ("GET", "/session", 2, ""),
        ("GET", "/nowhere", 2, ""),
        ("POST", "/session", 2, r#"{"a":1}"#),
        ("POST", "/session", 2, r#"{"b":[1,null],"id":5,"cookie":{"path":"/x"},"toString":1}"#),
        ("GET", "/whoami", 2, ""),
        ("POST", "/session", 1, r#"{"x":1}"#),
        ("POST", "/regenerate", 2, ""),
        ("GET", "/session", 2, ""),
        ("POST", "/session", 2, r#"{"late":1}"#),
        ("GET", "/session", 4, ""),
        ("GET", "/views", 4, ""),
        ("GET", "/views", 4, ""),
        ("GET", "/views", 0, ""),
        ("DELETE", "/session", 4, ""),
        ("GET", "/session", 4, ""),
        ("GET", "/views", 4, ""),
        ("POST", "/regenerate", 0, r#"{"new":true}"#),
        ("POST", "/session", 2, "[]"),
    ] {
        let mut headers = vec![("cookie", cookies[cookie].as_bytes())];
        headers.extend(header.map(|(name, value)| (name, value.as_bytes())));
        let client =
            service.connect().await.send(method, path, &headers[usize::from(cookie == 0)..], body.as_bytes()).await;
        let answer = client.expect("answered");
        let cookie_sent = answer.header("set-cookie").unwrap_or("-");
        if let Some(new) = answer.cookie().filter(|new| !cookies.iter().any(|known| known == new)) {
            cookies.push(new.to_owned());
        }
        let body = if answer.status == 200 { &*answer.body } else { "" };
        seen.push(normal(&format!("{method} {path} {cookie}: {} {cookie_sent} {body}", answer.status)));
        let mut stored: Vec<String> = redis
            .tell::<Vec<String>>("KEYS *")
            .iter()
            .map(|key| {
                let (record, ttl): (String, i64) =
                    (redis.tell(&format!("GET {key}")), redis.tell(&format!("PTTL {key}")));
                normal(&format!("  {record} for {}", (ttl + 999) / 1000))
            })
            .collect();
        stored.sort();
        seen.extend(stored);
    }
    seen
}

#[tokio::test]
async fn rust_answers_and_stores_what_express_does() {
    let https = Some(("x-forwarded-proto", "https"));
    for (arguments, header) in [
        (&[][..], None),
        (&["--max-age", "60000"], None),
        (&["--rolling"], None),
        (&["--max-age", "60000", "--rolling"], None),
        (&["--secure", "auto"], None),
        (&["--secure", "auto", "--trust-proxy", "--max-age", "60000"], https),
    ] {
        let (one, other) = (Redis::start(&[]), Redis::start(&[]));
        let with = |redis: &Redis| [owned(&["--redis", &redis.url()]), owned(arguments)].concat();
        let express = act(&one, &Service::node("server.mjs", &borrowed(&with(&one))).await, header).await;
        let rust = act(&other, &Service::example("express", &borrowed(&with(&other))).await, header).await;
        for (at, (express, rust)) in express.iter().zip(&rust).enumerate() {
            assert_eq!(rust, express, "{arguments:?}, line {at} of what was seen");
        }
        assert_eq!(rust.len(), express.len());
    }
}

#[tokio::test]
async fn secrets_rotate_on_either_side() {
    let site = Site::start_each(&["--secret", "old"], &["--secret", "new", "--secret", "old"]).await;
    let old = begin(&site.express, r#"{"user":"ada"}"#).await;
    let changed = send(&site.rust, "POST", "/session", &old, r#"{"n":1}"#).await;
    assert_eq!(changed.header("set-cookie"), None, "a session keeps the cookie that it came with");
    assert!(get(&site.express, &old).await.contains(r#""n":1"#));
    let new = begin(&site.rust, r#"{"user":"bob"}"#).await;
    assert_eq!(get(&site.express, &new).await, BLANK, "only the new secret has signed it");
    let regenerated = send(&site.rust, "POST", "/regenerate", &old, "").await;
    assert_eq!(get(&site.express, regenerated.cookie().expect("a new id")).await, BLANK);

    let url = site.redis.url();
    let later = Service::node("server.mjs", &["--redis", &url, "--secret", "new", "--secret", "old"]).await;
    for cookie in [&new, regenerated.cookie().expect("a new id")] {
        assert_ne!(get(&later, cookie).await, BLANK);
    }
    let last = Service::example("express", &["--redis", &url, "--secret", "new"]).await;
    assert_eq!(get(&last, &begin(&site.express, "{\"a\":1}").await).await, BLANK, "the old one counts no longer");
    assert_ne!(get(&last, &new).await, BLANK);
}

#[tokio::test]
async fn the_record_says_how_long_it_lives_whoever_made_it() {
    let site = Site::start_each(&["--max-age", "90000"], &["--max-age", "60000"]).await;
    for ((one, other), seconds) in site.both_ways().into_iter().zip([90, 60]) {
        let cookie = begin(one, r#"{"a":1}"#).await;
        for (method, path, body) in
            [("GET", "/session", ""), ("GET", "/nowhere", ""), ("POST", "/session", r#"{"a":2}"#)]
        {
            site.redis.tell::<i64>(&format!("EXPIRE {} 10", key(&cookie)));
            let answer = send(other, method, path, &cookie, body).await;
            assert!((seconds - 1..=seconds).contains(&site.ttl(&cookie)), "{}", site.ttl(&cookie));
            assert_eq!(answer.header("set-cookie").is_some(), method == "POST");
        }
        // A live key may hold a date in the past.
        let record = site.record(&cookie).expect("stored");
        let (before, after) = record.split_once("\"expires\":\"").expect("a date");
        let old = format!("{before}\"expires\":\"2001-01-01T00:00:00.000Z{}", &after[24..]);
        site.set(&cookie, &old);
        for service in [other, one] {
            assert_eq!(get(service, &cookie).await, old, "it is shown as it was stored");
            assert_eq!(site.record(&cookie).as_ref(), Some(&old), "a touch is of the deadline alone");
            assert!((seconds - 1..=seconds).contains(&site.ttl(&cookie)));
        }
        // It ends for both at once.
        site.redis.tell::<i64>(&format!("PEXPIRE {} 1", key(&cookie)));
        while site.record(&cookie).is_some() {}
        for service in [other, one] {
            assert!(!get(service, &cookie).await.contains("\"a\""));
        }
    }
}

#[tokio::test]
async fn a_refused_cookie_makes_no_call_and_a_read_makes_two() {
    let site = Site::start(NONE).await;
    let cookie = begin(&site.express, r#"{"a":1}"#).await;
    // Connects.
    get(&site.rust, &cookie).await;
    for (method, cookie, body, expected) in [
        ("GET", "", "", vec![]),
        ("GET", "connect.sid=s%3Aabc.def", "", vec![]),
        ("GET", &*cookie.replace("s%3A", "s%3Ax"), "", vec![]),
        ("GET", &*cookie, "", vec![("get", 1), ("getex", 1)]),
        ("POST", &*cookie, r#"{"a":1}"#, vec![("get", 1), ("getex", 1)]),
    ] {
        site.redis.calls();
        assert_eq!(send(&site.rust, method, "/session", cookie, body).await.status, 200);
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(command, count)| (command.to_owned(), count)).collect();
        assert_eq!(site.redis.calls(), expected, "{method} {body}");
    }
}

#[tokio::test]
async fn what_is_no_session_is_an_error_and_stays_until_a_login_or_logout() {
    let site = Site::start(NONE).await;
    let good = begin(&site.express, r#"{"user":"ada"}"#).await;
    let bad = begin(&site.express, r#"{"user":"eve"}"#).await;
    for record in [
        "no JSON",
        "",
        "null",
        "5",
        "[]",
        "{}",
        r#"{"cookie":null,"a":1}"#,
        r#"{"cookie":5}"#,
        r#"{"cookie":{"originalMaxAge":"60000","expires":null}}"#,
        r#"{"cookie":{"originalMaxAge":-1}}"#,
        r#"{"cookie":{"originalMaxAge":1.5}}"#,
        r#"{"sosa":{"v":1,"rev":1,"created":1},"a":1}"#,
    ] {
        site.set(&bad, record);
        for (method, path, body) in [
            ("GET", "/session", ""),
            ("GET", "/nowhere", ""),
            ("POST", "/session", r#"{"a":2}"#),
            ("GET", "/views", ""),
        ] {
            let answer = send(&site.rust, method, path, &bad, body).await;
            assert_eq!((answer.status, answer.header("set-cookie")), (500, None), "{method} {path} {record}");
            assert_eq!((site.record(&bad).as_deref(), site.ttl(&bad)), (Some(record), -1), "{method} {path}");
        }
        assert!(get(&site.rust, &good).await.contains("ada"), "others go on");
        // An end and a new beginning need nothing of it, where Express answers 500 as well.
        for (method, path, status) in [("POST", "/regenerate", 200), ("DELETE", "/session", 204)] {
            site.set(&bad, record);
            let answer = send(&site.rust, method, path, &bad, "").await;
            assert_eq!((answer.status, site.record(&bad)), (status, None), "{method} {path} {record}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rust_does_not_edit_keeps_its_bytes() {
    let site = Site::start(NONE).await;
    let seed = std::env::var("SEED").unwrap_or_else(|_| fastrand::u32(..).to_string());
    println!("SEED={seed}");
    let lines = node("awkward.mjs").args([&*seed, "300"]).output().await.expect("node runs");
    let lines = String::from_utf8(lines.stdout).expect("text");
    let mut records = 0;
    for line in lines.lines() {
        let cookie = begin(&site.express, if line == "{}" { "{\"a\":1}" } else { line }).await;
        let before = site.record(&cookie).expect("stored");
        let changed = send(&site.rust, "POST", "/session", &cookie, r#"{"added":1e+21}"#).await;
        assert_eq!(changed.status, 200, "SEED={seed}");
        let expected = format!(r#"{},"added":1e+21}}"#, &before[..before.len() - 1]);
        let after = site.record(&cookie).expect("stored");
        assert!(after == expected && changed.body == expected, "SEED={seed}: something else changed");
        // Express reads all of it, and would write it so itself.
        assert!(get(&site.express, &cookie).await == expected, "SEED={seed}: Express reads something else");
        records += 1;
    }
    assert_eq!(records, 300);
    println!("{records} records, {} bytes", lines.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_writers_of_one_session_lose_nothing() {
    let site = Site::start(NONE).await;
    let cookie = begin(&site.express, r#"{"user":"ada"}"#).await;
    let second = Service::example("express", &["--redis", &site.redis.url()]).await;
    let mut writers = JoinSet::new();
    for writer in 0..200 {
        let address = if writer % 2 == 0 { site.rust.address() } else { second.address() };
        let cookie = cookie.clone();
        writers.spawn(async move {
            let mut client = sosa_tests::Client::connect(address).await.expect("it listens");
            let body = format!(r#"{{"k{writer}":{writer}}}"#);
            let headers = [("cookie", cookie.as_bytes())];
            let answer = client.send("POST", "/session", &headers, body.as_bytes()).await.expect("answered");
            assert_eq!(answer.status, 200, "{}", answer.body);
            let viewed = client.send("GET", "/views", &headers, b"").await.expect("answered");
            assert_eq!(viewed.status, 200);
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("all are answered");
    }
    let record = get(&site.express, &cookie).await;
    let kept = (0..200).filter(|writer| record.contains(&format!(r#""k{writer}":{writer}"#))).count();
    assert_eq!(kept, 200);
    assert!(record.contains(r#""views":200"#), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_of_ours_brings_back_what_either_side_ended() {
    let site = Site::start(NONE).await;
    let (mut met, mut saved) = (0, 0);
    for round in 0..100 {
        let cookie = begin(&site.express, r#"{"user":"ada"}"#).await;
        let ender = if round % 2 == 0 { site.express.address() } else { site.rust.address() };
        let mut requests = JoinSet::new();
        for request in 0..6 {
            let address = if request == 3 { ender } else { site.rust.address() };
            let cookie = cookie.clone();
            requests.spawn(async move {
                let mut client = sosa_tests::Client::connect(address).await.expect("it listens");
                let (method, body) =
                    if request == 3 { ("DELETE", String::new()) } else { ("POST", format!(r#"{{"k{request}":1}}"#)) };
                let headers = [("cookie", cookie.as_bytes())];
                let answer = client.send(method, "/session", &headers, body.as_bytes()).await.expect("answered");
                (answer.status, answer.cookie().map(str::to_owned))
            });
        }
        while let Some(ended) = requests.join_next().await {
            let (status, new) = ended.expect("answered");
            assert!(matches!(status, 200 | 204 | 409), "{status}");
            // One that came after the end began another session.
            assert!(new.is_none_or(|new| new != cookie));
            met += usize::from(status == 409);
            saved += usize::from(status == 200);
        }
        assert_eq!(site.record(&cookie), None, "brought back");
    }
    println!("100 ends: {saved} writes before or after, {met} met the end, brought back: 0");
    assert!(met > 0, "no write met an end");
}

#[tokio::test]
async fn over_plain_http_nothing_is_saved_where_no_cookie_may_be_sent() {
    let site = Site::start_each(&["--secure", "true"], &["--secure", "always", "--trust-proxy"]).await;
    let refused = send(&site.rust, "POST", "/session", "", r#"{"a":1}"#).await;
    assert_eq!((refused.status, refused.header("set-cookie")), (200, None));
    assert_eq!(site.redis.tell::<u64>("DBSIZE"), 0, "Express leaves a record that nobody can come back to");
    let headers = [("x-forwarded-proto", &b"https"[..])];
    let made = site.rust.connect().await.send("POST", "/session", &headers, br#"{"a":1}"#).await.expect("answered");
    assert!(made.header("set-cookie").expect("sent").ends_with("; Path=/; HttpOnly; Secure"));
    let cookie = made.cookie().expect("sent");
    let before = site.record(cookie);
    assert_eq!(send(&site.rust, "POST", "/session", cookie, r#"{"a":2}"#).await.header("set-cookie"), None);
    assert_eq!(site.record(cookie), before);
}

#[tokio::test]
async fn no_secret_is_logged() {
    let site = Site::start(&["--secret", "a very secret secret"]).await;
    let cookie = begin(&site.rust, r#"{"user":"somebody"}"#).await;
    for (method, path, body) in [
        ("GET", "/session", ""),
        ("POST", "/session", r#"{"user":"somebody else"}"#),
        ("POST", "/session", r#"{"id":1,"a":1}"#),
        ("DELETE", "/session", ""),
        ("POST", "/session", r#"{"user":"somebody late"}"#),
    ] {
        send(&site.rust, method, path, &cookie, body).await;
    }
    site.set(&cookie, r#"{"cookie":{"originalMaxAge":"secret"},"user":"somebody"}"#);
    assert_eq!(send(&site.rust, "GET", "/session", &cookie, "").await.status, 500);
    let log = site.rust.stop(Signal::SIGTERM).await;
    assert!(log.contains("a session was created"), "it logs");
    for secret in [id(&cookie), "very secret", "somebody", "\"secret\""] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn the_vectors_are_what_express_makes_today() {
    let redis = Redis::start(&[]);
    let vectors: [(&str, &[u8]); 2] = [
        ("vectors.mjs", include_bytes!("../express/vectors.json")),
        ("setters.mjs", include_bytes!("../express/setters.json")),
    ];
    for (program, vectors) in vectors {
        let made = node(program).args(["--redis", &redis.url()]).output().await.expect("node runs");
        assert!(made.status.success(), "{program}: {}", String::from_utf8_lossy(&made.stderr));
        assert!(made.stdout == vectors, "{program}: make them anew, and see what changed");
    }
}
