//! The `rest` example on the disk: what it answered outlives it.

use std::time::Duration;

use nix::sys::signal::Signal;
use sosa_tests::Service;

#[tokio::test]
async fn sessions_outlive_the_service_however_it_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = format!("sled:{}", directory.path().display());
    let arguments = ["--store", &store];
    let mut cookie = String::new();
    let mut expected = 0;
    for killed in [true, false, true, true, false] {
        let rest = Service::rest(&arguments).await;
        let mut client = rest.connect().await;
        for _ in 0..20 {
            let ours = [("cookie", cookie.as_bytes())];
            let visited =
                client.send("POST", "/visits", &ours[..usize::from(expected > 0)], b"").await.expect("answered");
            expected += 1;
            assert_eq!((visited.status, visited.body.trim()), (200, expected.to_string().as_str()));
            if let Some(new) = visited.cookie() {
                cookie = new.to_owned();
            }
        }
        if killed { rest.kill().await } else { drop(rest.stop(Signal::SIGTERM).await) }
    }
    // What was ended stays ended, too.
    let rest = Service::rest(&arguments).await;
    let ours = [("cookie", cookie.as_bytes())];
    let ended = rest.connect().await.send("DELETE", "/session", &ours, b"").await.expect("answered");
    assert_eq!(ended.status, 204);
    rest.kill().await;
    let rest = Service::rest(&arguments).await;
    let shown = rest.connect().await.send("GET", "/session", &ours, b"").await.expect("answered");
    assert!(shown.body.contains(r#""rev":0"#), "a session came back");
}

#[tokio::test]
async fn a_database_that_another_service_holds_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = format!("sled:{}", directory.path().display());
    let rest = Service::rest(&["--store", &store]).await;
    let second = sosa_sled::open(directory.path(), "rest").expect_err("it is held");
    assert_eq!(second.kind(), sosa::ErrorKind::Unavailable);
    assert!(second.to_string().contains("another process"), "{second}");
    let mut client = rest.connect().await;
    assert_eq!(client.send("POST", "/visits", &[], b"").await.expect("answered").status, 200);
}

/// As in a deployment that starts the new process before the old one has ended.
#[tokio::test]
async fn a_service_waits_for_the_one_that_is_about_to_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = format!("sled:{}", directory.path().display());
    let arguments = ["--store", &store];
    let old = Service::rest(&arguments).await;
    let visited = old.connect().await.send("POST", "/visits", &[], b"").await.expect("answered");
    let cookie = visited.cookie().expect("a session").to_owned();
    let end = async {
        // This long both live.
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(old.stop(Signal::SIGTERM).await);
    };
    let (new, ()) = tokio::join!(Service::rest(&arguments), end);
    let ours = [("cookie", cookie.as_bytes())];
    let visited = new.connect().await.send("POST", "/visits", &ours, b"").await.expect("answered");
    assert_eq!((visited.status, visited.body.trim()), (200, "2"));
}
