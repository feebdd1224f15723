//! What becomes of a store whose server Sentinels replace by its replica. Each test prints what was answered and
//! how soon: `cargo test -p sosa-tests --test redis_sentinel -- --nocapture`.

// The figures are worth a look.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sosa::{Collection, ErrorKind, Outcome};
use sosa_tests::{Load, Report, Sentinels, TASKS, Things};

/// How long a verb may take in these tests.
const TIMEOUT: Duration = Duration::from_millis(600);

const EITHER: &[Outcome] = &[Outcome::NotApplied, Outcome::Unknown];

/// What may fail while there is no master.
const GONE: &[(ErrorKind, &[Outcome])] = &[(ErrorKind::Unavailable, EITHER), (ErrorKind::Timeout, EITHER)];

fn things(sentinels: &Sentinels) -> Things {
    sosa_redis::from_url(&sentinels.url(), "sentinel").unwrap().with_timeout(TIMEOUT).collection("things")
}

async fn outage(things: &Things) -> Duration {
    let began = Instant::now();
    while things.save("probe", &1).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "never failed over");
    }
    began.elapsed()
}

fn assert_lost(outage: Duration, report: &Report) {
    println!(
        "    {outage:?} until the successor served; {} of {} saves and {} of {} increments are lost",
        report.lost_saves, report.saves, report.lost_increments, report.increments
    );
    assert_eq!((report.repeated_increments, report.unlisted), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_is_killed() {
    let mut sentinels = Sentinels::start(&[]);
    let things = things(&sentinels);
    let load = Load::start(&things, TIMEOUT);
    load.progress(5000).await;
    sentinels.servers[0].kill();
    load.failures(TASKS).await;
    let outage = outage(&things).await;
    let recovery = load.recovery().await;
    assert!(recovery < Duration::from_secs(1), "serving again only after {recovery:?}");
    let report = load.stop(&things).await;
    report.assert_failures("a master killed", GONE);
    assert_lost(outage, &report);
    assert!(report.lost_saves < report.saves / 10, "{} of {} saves are lost", report.lost_saves, report.saves);
}

/// The master is to step down for its replica, and goes on to take writes for ten seconds after that.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_steps_down() {
    let sentinels = Sentinels::start(&[]);
    let things = things(&sentinels);
    let load = Load::start(&things, TIMEOUT);
    load.progress(5000).await;
    sentinels.fail_over();
    let successor = &sentinels.servers[1];
    let began = Instant::now();
    while successor.tell::<String>("INFO replication").contains("role:slave") {
        assert!(began.elapsed() < Duration::from_secs(20), "the replica is not made the master");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let began = Instant::now();
    for n in 2.. {
        let saved = things.save("probe", &n).await;
        if saved.is_ok() && successor.tell::<Option<u64>>("GET sentinel:things:probe") == Some(n) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "what steps down is still asked");
    }
    let moved = began.elapsed();
    let report = load.stop(&things).await;
    report.allow_failures("a master that steps down", GONE);
    assert_lost(moved, &report);
}

/// Of three Sentinels one is enough to be told where the master is.
#[tokio::test(flavor = "multi_thread")]
async fn sentinels_are_gone() {
    let mut sentinels = Sentinels::start(&[]);
    let url = sentinels.url();
    sentinels.sentinels[0].kill();
    sentinels.sentinels[1].kill();
    let store = sosa_redis::from_url(&url, "sentinel").unwrap();
    let things: Things = store.collection("things");
    things.save("a", &1).await.unwrap();
    assert_eq!(things.load("a").await.unwrap(), Some(1));
    // Who knows where it is needs none.
    sentinels.sentinels[2].kill();
    assert_eq!(things.load("a").await.unwrap(), Some(1));
    let late = sosa_redis::from_url(&url, "sentinel").unwrap().collection::<u64>("things");
    let error = late.save("a", &2).await.unwrap_err();
    println!("no Sentinel: {error}");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error:?}");
    let other = url.replace("=main", "=other");
    drop(sentinels);
    let sentinels = Sentinels::start(&[]);
    let hosts = |url: &str| url.split(['/', '?']).nth(2).unwrap().to_owned();
    let unknown = other.replace(&hosts(&other), &hosts(&sentinels.url()));
    let unknown = sosa_redis::from_url(&unknown, "sentinel").unwrap().collection::<u64>("things");
    let error = unknown.save("a", &2).await.unwrap_err();
    println!("a name that no Sentinel knows: {error}");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error:?}");
}

/// The first Sentinel stands still, as one does that the network has cut off: it takes connections, and answers nothing.
#[tokio::test]
async fn the_first_sentinel_does_not_answer() {
    let mut sentinels = Sentinels::start(&[]);
    sentinels.sentinels[0].signal(Signal::SIGSTOP);
    let store = sosa_redis::from_url(&sentinels.url(), "sentinel").unwrap().with_timeout(Duration::from_secs(4));
    let things: Things = store.collection("things");
    let began = Instant::now();
    things.save("a", &1).await.unwrap();
    println!("connected after {:?}", began.elapsed());
    // It is asked again and again whether the server is still the one; and it is looked for anew.
    for _ in 0..2 {
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(1200)).await;
        tokio::time::resume();
        things.load("a").await.unwrap();
    }
    sentinels.servers[0].kill();
    let outage = outage(&things).await;
    println!("{outage:?} until the successor served");
    sentinels.sentinels[0].signal(Signal::SIGCONT);
}
