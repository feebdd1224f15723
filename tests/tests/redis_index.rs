//! The index of a collection on Redis: it follows what lives, and never parts from it.

// The figures are worth a look.
#![allow(clippy::print_stdout)]

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use redis::Connection;
use sosa::{Collection, ListOptions};
use sosa_redis::RedisCollection;
use sosa_tests::Redis;

/// Starts processes that save new entries until they are killed.
fn savers(server: &Redis, processes: usize, lifetime: Duration) -> Vec<Child> {
    let arguments = [server.url(), lifetime.as_millis().to_string()];
    (0..processes)
        .map(|_| Command::new(env!("CARGO_BIN_EXE_saver")).args(&arguments).spawn().expect("it was built"))
        .collect()
}

fn things(server: &Redis) -> RedisCollection<u64> {
    sosa_redis::from_url(&server.url(), "index").unwrap().collection("things")
}

/// Returns how many ids are in the index, and how many of them live, at one moment.
fn count(control: &mut Connection) -> (u64, u64) {
    const COUNT: &str = "
        local ids = redis.call('ZRANGE', 'index:things', 0, -1)
        local living = 0
        for _, id in ipairs(ids) do
            living = living + redis.call('EXISTS', 'index:things:' .. id)
        end
        return {#ids, living}";
    redis::cmd("EVAL").arg(COUNT).arg(0).query(control).unwrap()
}

/// Returns how many values were saved.
fn saves(control: &mut Connection) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(control).unwrap();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_zadd:calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// Waits until there are so many ids, for as long as the processes that save them run.
fn wait_for(ids: u64, control: &mut Connection, savers: &mut [Child]) {
    while count(control).0 < ids {
        assert!(savers.iter_mut().any(|saver| saver.try_wait().unwrap().is_none()), "all savers have ended");
    }
}

/// Returns how many values are not in the index.
fn unlisted(control: &mut Connection) -> u64 {
    const COUNT: &str = "
        local unlisted = 0
        for _, key in ipairs(redis.call('KEYS', 'index:things:?*')) do
            if not redis.call('ZSCORE', 'index:things', string.sub(key, 14)) then
                unlisted = unlisted + 1
            end
        end
        return unlisted";
    redis::cmd("EVAL").arg(COUNT).arg(0).query(control).unwrap()
}

/// At least a million entries that expire within it, saved by four processes.
#[tokio::test]
async fn it_stays_under_twice_what_lives() {
    const SAVES: u64 = 1_000_000;
    const STAY: u64 = 1000;
    let server = Redis::start(&[]);
    let (things, mut control) = (things(&server), server.control());
    for n in 0..STAY {
        things.save(&format!("stays {n:04}"), &n).await.unwrap();
    }
    let lifetime = Duration::from_secs(3);
    let began = Instant::now();
    let mut savers = savers(&server, 4, lifetime);
    let (mut lived, mut samples, mut saves, mut worst) = (Vec::new(), 0, 0, 0.0_f64);
    while saves < SAVES || samples < 10 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        saves = self::saves(&mut control);
        let (indexed, living) = count(&mut control);
        lived.push(living);
        // Steady is what the bound is for: not the beginning, where nothing expires yet, and where this
        // machine is slowed down it is what lived within the last lifetime that the index still follows.
        if began.elapsed() > 4 * lifetime {
            samples += 1;
            let lived = lived.iter().rev().take(6).max().unwrap();
            worst = worst.max(indexed as f64 / *lived as f64);
        }
        assert!(savers.iter_mut().all(|saver| saver.try_wait().unwrap().is_none()), "a saver has ended");
    }
    for mut saver in savers {
        saver.kill().unwrap();
        saver.wait().unwrap();
    }
    println!("{saves} saves in {:?}: at most {worst:.2} times what lives, of {samples} samples", began.elapsed());
    assert!(worst < 2.0, "the index held {worst:.2} times what lives");

    tokio::time::sleep(lifetime + Duration::from_millis(10)).await;
    let (dead, living) = count(&mut control);
    assert_eq!(living, STAY);
    assert_eq!(things.purge().await.unwrap(), dead - STAY);
    assert_eq!(count(&mut control), (STAY, STAY));
    let page = things.list_with(ListOptions::new().ids_only()).await.unwrap();
    assert!(page.ids().eq((0..STAY).map(|n| format!("stays {n:04}"))));
}

/// Processes are killed while they save, and the server too, which keeps all that it acknowledged.
#[tokio::test]
async fn index_and_values_never_part() {
    let mut server = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    for round in 0..3 {
        let mut savers = savers(&server, 2, Duration::from_secs(3600));
        let mut connection = server.control();
        let before = count(&mut connection).0;
        wait_for(before + 300, &mut connection, &mut savers);
        savers[0].kill().unwrap();
        wait_for(before + 500, &mut connection, &mut savers);
        server.kill();
        for mut saver in savers {
            drop(saver.kill());
            saver.wait().unwrap();
        }
        server.restart();
        let mut connection = server.control();
        let (indexed, living) = count(&mut connection);
        assert!(indexed >= before + 500, "round {round}: {indexed} are left");
        assert_eq!((living, unlisted(&mut connection)), (indexed, 0), "round {round}");
    }
}

/// Each listing and each sweep repairs what it meets; what lives stays, whatever was lost.
#[tokio::test]
async fn it_repairs_itself() {
    let server = Redis::start(&[]);
    let (things, mut control) = (things(&server), server.control());
    for n in 0..100 {
        things.save(&format!("{n:02}"), &n).await.unwrap();
    }
    // As eviction does.
    for n in 0..50 {
        let _: () = redis::cmd("DEL").arg(format!("index:things:{n:02}")).query(&mut control).unwrap();
    }
    assert_eq!(count(&mut control), (100, 50));
    let page = things.list_with(ListOptions::new().limit(10)).await.unwrap();
    assert_eq!((page.items.len(), page.next.is_some()), (0, true));
    assert_eq!(count(&mut control), (90, 50));
    assert_eq!(things.purge().await.unwrap(), 40);
    assert_eq!(count(&mut control), (50, 50));

    // Without its index nothing is listed; what is saved again is.
    let _: () = redis::cmd("DEL").arg("index:things").query(&mut control).unwrap();
    assert_eq!(things.list().await.unwrap().items.len(), 0);
    assert_eq!(things.load("70").await.unwrap(), Some(70));
    things.save("70", &71).await.unwrap();
    assert!(things.list().await.unwrap().ids().eq(["70"]));
    assert_eq!(things.purge().await.unwrap(), 0);
}

/// A purge goes on over many requests, and what is not indexed has nothing to purge.
#[tokio::test]
async fn a_purge_reaches_the_end() {
    let server = Redis::start(&[]);
    let (things, mut control) = (things(&server), server.control());
    let mut fill = redis::pipe();
    for n in 0..2600 {
        fill.zadd("index:things", format!("{n:04}"), 0).ignore();
        if n % 2 == 0 {
            fill.set(format!("index:things:{n:04}"), n).ignore();
        }
    }
    let _: () = fill.query(&mut control).unwrap();
    assert_eq!(things.purge().await.unwrap(), 1300);
    assert_eq!(count(&mut control), (1300, 1300));
    let error = things.unindexed().purge().await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (sosa::ErrorKind::Unsupported, Some(sosa::Operation::Purge)));
}
