//! The `rest` example, as its README describes it.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sosa_tests::{Client, Response, Service};

const HTTPS: (&str, &[u8]) = ("x-forwarded-proto", b"https");

fn body(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/json"));
    serde_json::from_str(&response.body).unwrap()
}

/// Checks that nothing of a cookie was logged, and that there was a log at all.
fn assert_secret(log: &str, cookies: &[String]) {
    assert!(log.contains("TRACE"), "nothing was logged");
    for cookie in cookies {
        let (_, id) = cookie.split_once('=').unwrap();
        assert!(!id.is_empty() && !log.contains(id), "an id was logged");
    }
}

#[tokio::test]
async fn a_session_from_its_first_save_to_its_end() {
    let rest = Service::rest(&[]).await;
    let mut client = rest.connect().await;
    let get = client.send("GET", "/", &[], b"").await.unwrap();
    let unsaved = body(&get);
    assert_eq!(unsaved["rev"], 0);
    assert_eq!(get.header("set-cookie"), None, "a read sends no cookie");

    let posted = client.send("POST", "/session", &[], br#"{"user":"ada","n":1}"#).await.unwrap();
    let first = body(&posted);
    assert_eq!((&first["rev"], &first["user"], &first["n"]), (&json!(1), &json!("ada"), &json!(1)));
    assert_ne!(first["id"], unsaved["id"]);
    let cookie = posted.cookie().expect("the first save sets the cookie").to_owned();
    assert!(cookie.starts_with("sosa_session="));
    let ours = [("cookie", cookie.as_bytes())];

    for (method, sent, rev) in [
        ("PUT", &br#"{"user":"ada"}"#[..], 1),
        ("POST", br#"{"n":2,"list":[1,{"a":null}]}"#, 2),
        ("POST", br#"{"ID":1,"Rev":9,"created":0,"uPdated":0}"#, 2),
    ] {
        let response = client.send(method, "/session", &ours, sent).await.unwrap();
        assert_eq!(body(&response)["rev"], rev);
        assert_eq!(response.header("set-cookie"), None, "later saves send no cookie");
    }
    for path in ["/", "/session"] {
        let read = body(&client.send("GET", path, &ours, b"").await.unwrap());
        let expected = json!({"id": first["id"], "rev": 2, "user": "ada", "n": 2, "list": [1, {"a": null}]});
        assert_eq!(read, expected);
        let head = client.send("HEAD", path, &ours, b"").await.unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0));
    }

    let deleted = client.send("DELETE", "/session", &ours, b"").await.unwrap();
    assert_eq!(deleted.status, 204);
    assert_eq!(
        deleted.header("set-cookie"),
        Some("sosa_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"),
        "the cookie is removed"
    );
    let fresh = body(&client.send("GET", "/session", &ours, b"").await.unwrap());
    assert_eq!((fresh["rev"].as_u64(), fresh.as_object().unwrap().len()), (Some(0), 2));
    assert_ne!(fresh["id"], first["id"]);
    assert_secret(&rest.stop(Signal::SIGTERM).await, &[cookie]);
}

#[tokio::test]
async fn what_a_client_gets_wrong() {
    let rest = Service::rest(&[]).await;
    let mut client = rest.connect().await;
    let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1024 * 1024)).into_bytes();
    for (method, path, sent, status) in [
        ("GET", "/nothing", &b""[..], 404),
        ("POST", "/", b"{}", 404),
        ("PATCH", "/session", b"{}", 404),
        ("POST", "/session/", b"{}", 404),
        ("POST", "/session", b"", 400),
        ("POST", "/session", b"{", 400),
        ("POST", "/session", b"[]", 400),
        ("POST", "/session", b"null", 400),
        ("POST", "/session", b"\xff", 400),
        ("POST", "/session", br#"{"a":"\ud83d"}"#, 400),
        ("POST", "/session", br#"{"a":1e999}"#, 400),
        ("POST", "/session", br#"{"a":1,"sosa":1}"#, 400),
        ("POST", "/session", &deep(100), 200),
        ("POST", "/session", &deep(50_000), 400),
        ("POST", "/session", &deep(50_000)[..60_000], 400),
        ("POST", "/session", b"{}", 200),
    ] {
        let response = client.send(method, path, &[], sent).await.unwrap();
        let start = String::from_utf8_lossy(&sent[..sent.len().min(30)]).into_owned();
        assert_eq!(response.status, status, "{method} {path} {start}");
        assert_eq!(response.header("set-cookie").is_some(), status == 200 && sent.len() > 2);
    }
    assert_eq!(rest.connect().await.send("POST", "/session", &[], &long).await.unwrap().status, 413);
    rest.stop(Signal::SIGINT).await;
}

#[tokio::test]
async fn a_secure_cookie_only_over_https() {
    let rest = Service::rest(&["--secure", "--trust-proxy"]).await;
    let mut client = rest.connect().await;
    let sent = br#"{"user":"ada"}"#;
    let plain = client.send("POST", "/session", &[], sent).await.unwrap();
    assert_eq!((&body(&plain)["rev"], plain.header("set-cookie")), (&json!(0), None));
    let secure = client.send("POST", "/session", &[HTTPS], sent).await.unwrap();
    assert!(secure.header("set-cookie").unwrap().ends_with("; HttpOnly; Secure; SameSite=Lax"));
    let cookie = ("cookie", secure.cookie().unwrap().as_bytes());
    let read = client.send("GET", "/session", &[HTTPS, cookie], b"").await.unwrap();
    assert_eq!((&body(&read)["rev"], &body(&read)["user"]), (&json!(1), &json!("ada")));
    let cookies = [secure.cookie().unwrap().to_owned()];
    assert_secret(&rest.stop(Signal::SIGTERM).await, &cookies);

    let rest = Service::rest(&["--secure"]).await;
    let untrusted = rest.connect().await.send("POST", "/session", &[HTTPS], sent).await.unwrap();
    assert_eq!((&body(&untrusted)["rev"], untrusted.header("set-cookie")), (&json!(0), None));
    rest.stop(Signal::SIGTERM).await;
}

#[tokio::test]
async fn no_neighbour_hides_our_cookie() {
    let rest = Service::rest(&[]).await;
    let mut client = rest.connect().await;
    let posted = client.send("POST", "/session", &[], br#"{"user":"ada"}"#).await.unwrap();
    let cookie = posted.cookie().unwrap().as_bytes();
    for neighbour in [
        &b"theme=dark"[..],
        "name=zo\u{eb}".as_bytes(),
        b"broken",
        b"=;;",
        b"\xff\xfe=\x80",
        b"quoted=\"",
        b"sosa_session=",
        b"sosa_session=%",
        b"sosa_session=\"",
        b"xsosa_session=1; sosa_session=tooshort",
    ] {
        for joined in [[neighbour, cookie].join(&b"; "[..]), [cookie, neighbour].join(&b"; "[..])] {
            let read = client.send("GET", "/session", &[("cookie", &joined)], b"").await.unwrap();
            assert_eq!(body(&read)["user"], "ada", "{}", String::from_utf8_lossy(neighbour));
        }
        let both = [("cookie", neighbour), ("cookie", cookie)];
        let read = client.send("GET", "/session", &both, b"").await.unwrap();
        assert_eq!(body(&read)["user"], "ada");
    }
    rest.stop(Signal::SIGTERM).await;
}

#[tokio::test]
async fn it_stops_though_a_client_never_ends_its_request() {
    let rest = Service::rest(&[]).await;
    let mut slow = rest.connect().await;
    let request = Client::request("POST", "/session", &[], br#"{"user":"ada"}"#);
    slow.write(&request[..request.len() - 1]).await.unwrap();
    // The service has accepted the connection once a later one is answered.
    rest.connect().await.send("GET", "/", &[], b"").await.unwrap();
    rest.stop(Signal::SIGTERM).await;
}

#[tokio::test]
async fn an_unknown_store_is_refused() {
    let started = tokio::spawn(async { Service::rest(&["--store", "nowhere"]).await });
    assert!(started.await.unwrap_err().is_panic());
}
