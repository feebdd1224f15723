//! A sled database where the disk is full, or may not be written.

// The tables are what this is for.
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sosa_tests::{Client, Service};
use tokio::task::JoinSet;

/// How long anybody may wait. Two seconds are the aim, and milliseconds the rule.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs `sled_full` in a mount namespace of its own, after `prepare` has mounted something at the path.
fn run(prepare: &str, arguments: &[&str], path: &Path) -> String {
    let program = env!("CARGO_BIN_EXE_sled_full");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "bash", "-c"])
        .arg(format!(r#"set -e; {prepare}; exec "$2" "$3" "$1" ${{4+"$4"}}"#))
        .arg("bash")
        .args([path.as_os_str(), program.as_ref()])
        .args(arguments)
        .output()
        .expect("unshare is there");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "it needs user namespaces: {}\n{out}{err}", output.status);
    out.into_owned()
}

#[test]
fn a_full_disk_is_told_at_once_and_nothing_acknowledged_is_lost() {
    // Large enough for each kind to be acknowledged some times.
    for (by, size) in [("small", 24), ("large", 96), ("beside", 24)] {
        let directory = tempfile::tempdir().expect("a directory");
        let told = run(&format!(r#"mount -t tmpfs -o size={size}m none "$1""#), &["fill", by], directory.path());
        let mut writers: Vec<u64> = Vec::new();
        for line in told.lines() {
            let Some((who, answer)) = line.split_once(": ") else { continue };
            let Some((answer, millis)) = answer.rsplit_once(" after ") else { continue };
            let millis = millis.parse().expect("milliseconds");
            assert!(u128::from(millis) < LIMIT.as_millis(), "filled by {by}: {line}");
            match who {
                "a writer" => writers.push(millis),
                _ => println!("filled by {by}: {who} is {answer} after {millis} ms"),
            }
            match who {
                // The engine may have to write before it finds what is asked for.
                "a load" | "a list" | "an open" => {
                    assert!(answer == "Ok" || answer.starts_with("CapacityExceeded"), "{line}");
                }
                "a writer" | "a close" => assert!(answer.starts_with("CapacityExceeded"), "filled by {by}: {line}"),
                // What comes later is refused before it does anything.
                _ => assert_eq!(answer, "CapacityExceeded NotApplied", "filled by {by}: {line}"),
            }
        }
        let answered = told.lines().find_map(|line| line.strip_prefix("loads answered: ")).expect("it counts them");
        println!("filled by {by}: {answered} loads are answered");
        assert!(by == "beside" || !answered.starts_with("0 "), "filled by {by}: nothing is read");
        let longest = writers.iter().max().expect("some wrote");
        println!("filled by {by}: {} writers have their error within {longest} ms", writers.len());
        if let Some(said) = told.lines().find_map(|line| line.strip_prefix("it says: ")) {
            assert!(said.contains("make room"), "{said}");
        }
        let last = told.lines().last().unwrap_or_default();
        println!("filled by {by}: {last}");
        assert!(last.starts_with("all ") && last.ends_with(" are there"), "{told}");
    }
}

#[tokio::test]
async fn a_service_on_a_full_disk_answers_and_ends() {
    for (by, body) in [("small", 300), ("large", 250_000), ("beside", 0)] {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("data");
        let store = format!("sled:{}", data.display());
        let rest = Service::rest_on_a_disk("24m", directory.path(), &["--store", &store]).await;
        let mut client = rest.connect().await;
        let began = client.send("POST", "/session", &[], br#"{"user":"ada"}"#).await.expect("answered");
        assert_eq!(began.status, 200);
        let cookie = began.cookie().expect("a session").to_owned();
        if by == "beside" {
            let mut beside = File::create(rest.path(&directory.path().join("beside"))).expect("created");
            while beside.write_all(&[2; 4096]).is_ok() {}
        }
        let mut visitors = JoinSet::new();
        for _ in 0..8 {
            let mut client = rest.connect().await;
            visitors.spawn(async move {
                let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(body));
                loop {
                    let began = Instant::now();
                    let answer = client.send("POST", "/session", &[], body.as_bytes()).await.expect("answered");
                    if answer.status != 200 {
                        assert_eq!(answer.status, 503);
                        return began.elapsed();
                    }
                }
            });
        }
        let longest = visitors.join_all().await.into_iter().max().expect("eight");
        println!("filled by {by}: eight visitors have their 503 within {longest:?}");
        assert!(longest < LIMIT, "filled by {by}: {longest:?}");
        // Each on a connection of its own: none is kept waiting by the one before.
        for (method, path, of) in [
            ("POST", "/session", ""),
            ("POST", "/visits", &*cookie),
            ("GET", "/session", &*cookie),
            ("DELETE", "/session", &*cookie),
        ] {
            let mut client = Client::connect(rest.address()).await.expect("it listens");
            let headers = [("cookie", of.as_bytes())];
            let began = Instant::now();
            let answer = client
                .send(method, path, &headers[..usize::from(!of.is_empty())], br#"{"text":"small"}"#)
                .await
                .expect("answered");
            println!("filled by {by}: {method} {path} is {} after {:?}", answer.status, began.elapsed());
            assert!(began.elapsed() < LIMIT, "filled by {by}: {method} {path}");
            let may_be: &[u16] = match method {
                // Its deadline was moved a moment ago and stays; but the engine may have something to write first.
                "GET" => &[200, 503],
                _ => &[503],
            };
            assert!(may_be.contains(&answer.status), "filled by {by}: {method} {path}: {}", answer.status);
        }
        let began = Instant::now();
        drop(rest.stop(Signal::SIGTERM).await);
        println!("filled by {by}: it ends {:?} after SIGTERM", began.elapsed());
    }
}

#[test]
fn a_directory_that_may_not_be_written_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let read_only = run(r#"mount -t tmpfs -o ro none "$1""#, &["open"], directory.path());
    assert!(read_only.starts_with("PermissionDenied: "), "{read_only}");
    // Somebody else's.
    let prepare = r#"cd "$1"; chmod 555 .; set -- "$1/data" "$2" "$3"; exec unshare --user "$2" "$3" "$1""#;
    let forbidden = run(prepare, &["open"], directory.path());
    assert!(forbidden.starts_with("PermissionDenied: "), "{forbidden}");
}
