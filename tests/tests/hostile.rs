//! What the network may send: no 5xx, no crash, no foreign session, no adopted id, nothing logged.

use std::collections::HashSet;

use fastrand::Rng;
use nix::sys::signal::Signal;
use sosa_tests::{Client, Service};

const HEADERS: usize = 100_000;
const PIPELINED: usize = 50;

/// Makes a `Cookie` header that tries to be taken for something. It never holds the id of a session
/// whole, and never ends the header line.
fn hostile(rng: &mut Rng, id: &str) -> Vec<u8> {
    let bytes = |rng: &mut Rng, length: usize| -> Vec<u8> {
        (0..length).map(|_| rng.u8(..)).map(|byte| if byte < b' ' || byte == 0x7f { b'\t' } else { byte }).collect()
    };
    let length = rng.usize(..200);
    match rng.u8(..12) {
        0 => bytes(rng, length),
        1 => [b"sosa_session=", &bytes(rng, length)[..]].concat(),
        2 => format!("sosa_session={}", &id[..rng.usize(..id.len())]).into_bytes(),
        3 => format!("sosa_session={id}{}", rng.alphanumeric()).into_bytes(),
        4 => format!("sosa_session=\"{id}").into_bytes(),
        5 => format!("sosa_session=%{:02X}{}", id.as_bytes()[0], &id[1..]).into_bytes(),
        6 => format!("SOSA_SESSION={id}; sosa_ session={id}; xsosa_session={id}").into_bytes(),
        7 => format!("a=\"; sosa_session={}; b=\\\"", id.to_lowercase()).into_bytes(),
        // An id that could be one, but is nobody's.
        8 => [b"sosa_session=".to_vec(), (0..32).map(|_| rng.alphanumeric() as u8).collect()].concat(),
        9 => "sosa_session=; ".repeat(length).into_bytes(),
        10 => format!("sosa_session=s%3A{id}.{}", "A".repeat(43)).into_bytes(),
        _ => [id.as_bytes(), b"=sosa_session;;;=;=", &bytes(rng, length)[..]].concat(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_hostile_cookie_headers() {
    let rest = Service::rest(&[]).await;
    let mut client = rest.connect().await;
    let victim = client.send("POST", "/session", &[], br#"{"user":"victim"}"#).await.unwrap();
    let id = victim.cookie().unwrap().split_once('=').unwrap().1.to_owned();

    let batches = (0..4_u64).map(|seed| {
        let (address, id) = (rest.address(), id.clone());
        tokio::spawn(async move {
            let mut rng = Rng::with_seed(seed);
            let mut client = Client::connect(address).await.unwrap();
            let mut given = Vec::new();
            for _ in 0..HEADERS / 4 / PIPELINED {
                let requests: Vec<_> = (0..PIPELINED)
                    .map(|_| {
                        let write = rng.u8(..20) == 0;
                        let header = hostile(&mut rng, &id);
                        let cookie = [("cookie", &header[..])];
                        match write {
                            true => (write, Client::request("POST", "/session", &cookie, b"{\"user\":\"eve\"}")),
                            false => (write, Client::request("GET", "/session", &cookie, b"")),
                        }
                    })
                    .collect();
                let sent: Vec<_> = requests.iter().flat_map(|(_, request)| request.clone()).collect();
                client.write(&sent).await.unwrap();
                for (write, request) in &requests {
                    let shown = || String::from_utf8_lossy(request).into_owned();
                    let response = client.read(false).await.unwrap_or_else(|error| panic!("{error}: {}", shown()));
                    assert_eq!(response.status, 200, "{}", shown());
                    assert!(!response.body.contains("victim"), "{}", shown());
                    assert!(response.body.contains(if *write { "\"rev\":1" } else { "\"rev\":0" }), "{}", shown());
                    // Who writes begins a session of its own, under an id that it did not choose.
                    assert_eq!(response.cookie().is_some(), *write, "{}", shown());
                    let taken = response.cookie().map(|cookie| cookie.split_once('=').unwrap().1.to_owned());
                    assert!(taken.as_ref().is_none_or(|taken| !shown().contains(taken)), "an id was adopted");
                    given.extend(taken);
                }
            }
            given
        })
    });
    let mut given = Vec::new();
    for batch in futures_util::future::join_all(batches).await {
        given.extend(batch.unwrap());
    }
    assert!(given.len() > HEADERS / 100, "{} sessions were begun", given.len());

    // Longer than a client would: thousands of cookies, 64 KB of one, and more.
    let many: String = (0..5000).map(|n| format!("c{n}={n}; ")).collect();
    let ours = format!("sosa_session={id}");
    for (header, user) in [
        (format!("{many}{ours}").into_bytes(), Some("victim")),
        ([&b"x=\xff"[..], &vec![b'y'; 64 * 1024], b"; ", ours.as_bytes()].concat(), Some("victim")),
        (vec![b';'; 64 * 1024], None),
        (vec![b'='; 64 * 1024], None),
        ([b"sosa_session=", &vec![b'A'; 64 * 1024][..]].concat(), None),
    ] {
        let response = client.send("GET", "/session", &[("cookie", &header)], b"").await.unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.body.contains("victim"), user.is_some());
    }
    // What is no HTTP at all, or too much of it, ends its connection and nothing else.
    for header in [&b"\0"[..], b"a\x01b", b"a\r\nb", b"a\n\n", &vec![b'a'; 1024 * 1024]] {
        let mut client = rest.connect().await;
        let answer = client.send("GET", "/session", &[("cookie", header)], b"").await;
        assert!(answer.is_err() || (200..500).contains(&answer.unwrap().status));
    }

    let read = client.send("GET", "/session", &[("cookie", ours.as_bytes())], b"").await.unwrap();
    assert!(read.body.contains("\"rev\":1") && read.body.contains("victim"), "{}", read.body);
    let log = rest.stop(Signal::SIGTERM).await;
    assert!(log.contains("a request came with the id of no session"));
    given.push(id);
    // Taken apart once: an id is 32 characters between others.
    let logged: HashSet<_> = log.split(|char: char| !char.is_ascii_alphanumeric() && !"-_".contains(char)).collect();
    assert!(given.iter().all(|id| !logged.contains(id.as_str())), "an id was logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bodies() {
    let rest = Service::rest(&[]).await;
    let mut rng = Rng::with_seed(7);
    let mut client = rest.connect().await;
    let seed = br#"{"a":[1,2,{"b":"\u00e9\ud83d\ude00"}],"c":-1.5e+10,"d":{"e":null,"f":true}}"#;
    for _ in 0..5000 {
        let mut body = seed.to_vec();
        match rng.u8(..4) {
            0 => body.truncate(rng.usize(1..body.len())),
            1 => {
                let at = rng.usize(..body.len());
                body[at] = rng.u8(..);
            }
            2 => body = (0..rng.usize(1..200)).map(|_| rng.u8(..)).collect(),
            _ => {
                let (from, to) = (rng.usize(..body.len()), rng.usize(..body.len()));
                body.swap(from, to);
            }
        }
        let response = client.send("POST", "/session", &[], &body).await.unwrap();
        assert!([200, 400].contains(&response.status), "{}: {}", response.status, String::from_utf8_lossy(&body));
    }
    // A body whose keys were chosen to be many: no quadratic work.
    let body = |keys: usize| {
        let keys: Vec<_> = (0..keys).map(|n| format!("\"{n:x}\":0")).collect();
        format!("{{{}}}", keys.join(","))
    };
    let many = body(25_000);
    let posted = client.send("POST", "/session", &[], many.as_bytes()).await.unwrap();
    assert_eq!(posted.status, 200);
    let cookie = [("cookie", posted.cookie().unwrap().as_bytes())];
    let started = std::time::Instant::now();
    let again = client.send("POST", "/session", &cookie, many.replace(":0", ":1").as_bytes()).await.unwrap();
    assert_eq!(again.status, 200);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    let too_many = client.send("POST", "/session", &cookie, body(60_000).as_bytes()).await.unwrap();
    assert_eq!(too_many.status, 413);
    let log = rest.stop(Signal::SIGTERM).await;
    let (_, id) = posted.cookie().unwrap().split_once('=').unwrap();
    assert!(log.contains("a session was created") && !log.contains(id), "an id was logged");
}
