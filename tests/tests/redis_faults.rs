//! What sosa-redis does when its server or the network fails. Each test prints what was answered and how
//! soon: `cargo test -p sosa-tests --test redis_faults -- --nocapture`.

// The figures are worth a look.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use nix::sys::signal::Signal;
use redis::Connection;
use sosa::{
    Collection, CollectionExt, Condition, DestroyOptions, Error, ErrorKind, ListOptions, LoadOptions, Outcome,
    SaveOptions,
};
use sosa_redis::Connections;
use sosa_tests::{Cluster, Fault, Load, Proxy, Redis, SLACK, Sentinels, TASKS, Things};

/// How long a verb may take in these tests.
const TIMEOUT: Duration = Duration::from_millis(400);

const MINUTE: Duration = Duration::from_secs(60);

fn things(url: &str) -> Things {
    sosa_redis::from_url(url, "faults").unwrap().with_timeout(TIMEOUT).collection("things")
}

fn tell(control: &mut Connection, command: &str) {
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    let _: redis::Value = command.arg(words.collect::<Vec<_>>()).query(control).unwrap();
}

const NOT_APPLIED: &[Outcome] = &[Outcome::NotApplied];
const EITHER: &[Outcome] = &[Outcome::NotApplied, Outcome::Unknown];

/// Killed and started again, with all that it acknowledged on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed() {
    let mut server = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let client = redis::Client::open(server.url()).unwrap();
    let pool = deadpool_redis::Config::from_url(server.url()).create_pool(Some(deadpool_redis::Runtime::Tokio1));
    // As a program must that wants the server's return to be seen soon.
    let config = redis::aio::ConnectionManagerConfig::new().set_max_delay(Duration::from_millis(250));
    let manager = redis::aio::ConnectionManager::new_with_config(client.clone(), config).await.unwrap();
    let clients: [(&str, Connections); 3] =
        [("Client", client.into()), ("Pool", pool.unwrap().into()), ("ConnectionManager", manager.into())];
    for (client, connections) in clients {
        let things = sosa_redis::new(connections, "faults").with_timeout(TIMEOUT).collection("things");
        let load = Load::start(&things, TIMEOUT);
        for _ in 0..2 {
            load.progress(1000).await;
            server.kill();
            load.failures(2 * TASKS).await;
            server.restart();
            let recovery = load.recovery().await;
            println!("{client}: serving again {recovery:?} after the server's return");
            assert!(recovery < Duration::from_secs(1), "{client}: serving again only after {recovery:?}");
        }
        let report = load.stop(&things).await;
        // While a manager waits between its attempts, so does a verb.
        let expected = [(ErrorKind::Unavailable, EITHER), (ErrorKind::Timeout, EITHER)];
        let expected = if client == "ConnectionManager" { &expected[..] } else { &expected[..1] };
        report.assert_kept().assert_failures(&format!("{client}: kill -9 and a restart, twice"), expected);
    }
}

/// It answers nobody for a while, in three ways.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still() {
    let server = Redis::start(&[]);
    let things = things(&server.url());
    let late = [(ErrorKind::Timeout, EITHER), (ErrorKind::Unavailable, EITHER)];

    let load = Load::start(&things, TIMEOUT);
    load.progress(1000).await;
    tell(&mut server.control(), "CLIENT PAUSE 900 ALL");
    tokio::time::sleep(Duration::from_millis(900)).await;
    let recovery = load.recovery().await;
    assert!(recovery < Duration::from_secs(1), "serving again only after {recovery:?}");
    load.stop(&things).await.assert_kept().assert_failures("CLIENT PAUSE for 0.9 s", &late);

    let load = Load::start(&things, TIMEOUT);
    load.progress(1000).await;
    server.signal(Signal::SIGSTOP);
    load.failures(3 * TASKS).await;
    server.signal(Signal::SIGCONT);
    let recovery = load.recovery().await;
    assert!(recovery < Duration::from_secs(1), "serving again only after {recovery:?}");
    load.stop(&things).await.assert_kept().assert_failures("SIGSTOP for three timeouts", &late);

    let load = Load::start(&things, TIMEOUT);
    load.progress(1000).await;
    let mut busy = server.control();
    let script = "local start = redis.call('TIME')[1] while redis.call('TIME')[1] - start < 2 do end";
    let blocked = std::thread::spawn(move || redis::cmd("EVAL").arg(script).arg(0).query::<()>(&mut busy));
    blocked.join().unwrap().unwrap();
    let recovery = load.recovery().await;
    assert!(recovery < Duration::from_secs(1), "serving again only after {recovery:?}");
    load.stop(&things).await.assert_kept().assert_failures("a script for 1 to 2 s", &late);
}

/// The network cuts connections between request and answer, swallows answers, or is slow.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails() {
    let server = Redis::start(&[]);
    let proxy = Proxy::start(server.address()).await;
    let things = things(&proxy.url());
    let cut = [(ErrorKind::Unavailable, EITHER), (ErrorKind::Timeout, EITHER)];

    let load = Load::start(&things, TIMEOUT);
    load.progress(500).await;
    proxy.set(Fault::Cut(10));
    load.progress(5000).await;
    proxy.set(Fault::None);
    let recovery = load.recovery().await;
    assert!(recovery < Duration::from_secs(1), "serving again only after {recovery:?}");
    let report = load.stop(&things).await;
    report.assert_kept().assert_failures("one answer in ten cut off", &cut);
    println!("    {} increments acknowledged, {} unknown", report.increments, report.unknown_increments);
    assert!(report.unknown_increments > 0, "nothing was cut");

    // The connections of a pool have a timeout of their own, half a second; one of its two may be found
    // dead after the other.
    let pool = deadpool_redis::Config::from_url(proxy.url()).create_pool(Some(deadpool_redis::Runtime::Tokio1));
    let pool = pool.unwrap();
    pool.resize(2);
    let pooled = sosa_redis::new(pool, "faults").with_timeout(TIMEOUT * 2).collection("things");
    for (things, timeout) in [(&things, TIMEOUT), (&pooled, TIMEOUT * 2)] {
        let load = Load::start(things, timeout);
        load.progress(500).await;
        proxy.set(Fault::Swallow);
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.set(Fault::None);
        // Nothing tells that a connection is dead but that nobody is answered.
        let recovery = load.recovery().await;
        assert!(recovery < 2 * timeout + SLACK, "serving again only after {recovery:?}");
        load.stop(things).await.assert_kept().assert_failures("connections that swallow all answers", &cut);
    }

    let load = Load::start(&things, TIMEOUT);
    load.progress(500).await;
    proxy.set(Fault::Delay(TIMEOUT / 8));
    load.progress(500).await;
    assert_eq!(load.verbs().1, 0, "slow is no failure");
    proxy.set(Fault::Delay(TIMEOUT * 2));
    load.failures(3 * TASKS).await;
    proxy.set(Fault::None);
    let recovery = load.recovery().await;
    assert!(recovery < TIMEOUT * 2 + SLACK, "serving again only after {recovery:?}");
    load.stop(&things).await.assert_kept().assert_failures("answers that come after the timeout", &cut);

    let load = Load::start(&things, TIMEOUT);
    load.progress(500).await;
    proxy.set(Fault::Garbage);
    load.failures(3 * TASKS).await;
    proxy.set(Fault::None);
    let recovery = load.recovery().await;
    assert!(recovery < Duration::from_secs(1), "serving again only after {recovery:?}");
    load.stop(&things).await.assert_kept().assert_failures("answers that are garbage", &cut);
}

/// Asserts what a verb answered, and prints it.
#[track_caller]
fn assert_refused<T>(what: &str, result: sosa::Result<T>, kind: ErrorKind, outcome: Outcome, says: &str) -> Error {
    let error = result.err().unwrap_or_else(|| panic!("{what}: it succeeded"));
    println!("{what}: {:?}, {error}", error.kind());
    assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{what}: {error:?}");
    assert!(error.to_string().contains(says), "{what}: {error}");
    error
}

async fn revision(things: &Things, id: &str) -> sosa::Revision {
    things.load_with(id, LoadOptions::new()).await.unwrap().unwrap().revision
}

#[tokio::test]
async fn a_server_that_is_full() {
    let server = Redis::start(&[]);
    let (things, mut control) = (things(&server.url()), server.control());
    things.save("a", &1).await.unwrap();
    let read = revision(&things, "a").await;
    tell(&mut control, "CONFIG SET maxmemory 1");
    for options in [Condition::Always, Condition::Absent, Condition::Present, Condition::Revision(read)] {
        for things in [things.clone(), things.clone().unindexed()] {
            let id = if options == Condition::Absent { "b" } else { "a" };
            let saved = things.save_with(id, &2, options.into()).await;
            assert_refused("maxmemory", saved, ErrorKind::CapacityExceeded, Outcome::NotApplied, "maxmemory");
        }
    }
    // What needs no memory works, and nothing has changed.
    assert_eq!(things.load("a").await.unwrap(), Some(1));
    for options in [LoadOptions::new().with_expiry(), LoadOptions::new().touch(TIMEOUT).with_expiry()] {
        assert_eq!(things.load_with("a", options).await.unwrap().unwrap().value, 1);
    }
    assert_eq!(things.list_with(ListOptions::new().with_expiry()).await.unwrap().items.len(), 1);
    assert_eq!(things.load("b").await.unwrap(), None);
    assert!(things.list().await.unwrap().ids().eq(["a"]));
    assert!(things.destroy("a").await.unwrap());
    tell(&mut control, "CONFIG SET maxmemory 0");
    things.save("a", &3).await.unwrap();
}

#[tokio::test]
async fn a_replica_that_only_reads() {
    let primary = Redis::start(&[]);
    let address = primary.address();
    things(&primary.url()).save("a", &1).await.unwrap();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &address.port().to_string()]);
    let things = things(&replica.url());
    let mut control = primary.control();
    tell(&mut control, "SET marker 1");
    tell(&mut control, "WAIT 1 0");
    assert_eq!(things.load("a").await.unwrap(), Some(1));
    let read = revision(&things, "a").await;
    let refused = |what, result: sosa::Result<()>| {
        assert_refused(what, result, ErrorKind::Unavailable, Outcome::NotApplied, "primary");
    };
    refused("save to a replica", things.save("b", &2).await);
    refused("save, unindexed", things.clone().unindexed().save("b", &2).await);
    let options = SaveOptions::new().condition(Condition::Revision(read));
    refused("save on condition", things.save_with("a", &2, options).await.map(drop));
    refused("destroy", things.destroy("a").await.map(drop));
    refused("destroy on condition", things.destroy_with("a", DestroyOptions::new().revision(read)).await.map(drop));
    refused("touch", things.load_with("a", LoadOptions::new().touch(TIMEOUT)).await.map(drop));
    assert_eq!(things.load("a").await.unwrap(), Some(1));
    // An id whose value is gone is not listed, though it cannot be removed there.
    tell(&mut control, "DEL faults:things:a");
    tell(&mut control, "WAIT 1 0");
    assert_eq!(things.load("a").await.unwrap(), None);
    assert_eq!(things.list().await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn keys_of_another_type_in_our_place() {
    let server = Redis::start(&[]);
    let (things, mut control) = (things(&server.url()), server.control());
    for (n, id) in ["a", "b", "c"].into_iter().enumerate() {
        things.save(id, &(n as u64)).await.unwrap();
    }
    let read = revision(&things, "b").await;
    tell(&mut control, "DEL faults:things:b");
    tell(&mut control, "RPUSH faults:things:b sesame");
    let decode = |what, result: sosa::Result<()>| {
        let error = assert_refused(what, result, ErrorKind::Decode, Outcome::NotApplied, "rename or delete");
        assert!(!format!("{error:?}").contains("sesame"));
    };
    decode("load of a list", things.load("b").await.map(drop));
    decode("load with a touch", things.load_with("b", LoadOptions::new().touch(TIMEOUT)).await.map(drop));
    decode("load with its expiry", things.load_with("b", LoadOptions::new().with_expiry()).await.map(drop));
    let stale = things.save_with("b", &2, Condition::Revision(read).into()).await;
    assert!(stale.unwrap_err().is_conflict());
    assert!(things.save_with("b", &2, Condition::Absent.into()).await.unwrap_err().is_conflict());
    assert!(things.destroy_with("b", DestroyOptions::new().revision(read)).await.unwrap_err().is_conflict());
    for options in [ListOptions::new(), ListOptions::new().with_expiry()] {
        let page = things.list_with(options).await.unwrap();
        assert!(page.ids().eq(["a", "b", "c"]));
        assert_eq!(page.values().collect::<Vec<_>>(), [&0, &2]);
        decode("listed", page.into_pairs().map(drop));
    }
    things.save("b", &7).await.unwrap();
    assert_eq!(things.load("b").await.unwrap(), Some(7));

    // In the place of the index.
    let read = revision(&things, "a").await;
    tell(&mut control, "DEL faults:things");
    tell(&mut control, "SET faults:things sesame");
    let index = |what, result: sosa::Result<()>, kind, outcome| {
        let error = assert_refused(what, result, kind, outcome, "rename or delete");
        assert!(!format!("{error:?}").contains("sesame"));
    };
    index("save without its index", things.save("d", &4).await, ErrorKind::Other, Outcome::Unknown);
    index("destroy without its index", things.destroy("c").await.map(drop), ErrorKind::Other, Outcome::NotApplied);
    let options = SaveOptions::new().condition(Condition::Revision(read));
    let saved = things.save_with("a", &9, options).await.map(drop);
    index("save on condition without its index", saved, ErrorKind::Other, Outcome::NotApplied);
    let destroyed = things.destroy_with("a", DestroyOptions::new().revision(read)).await.map(drop);
    index("destroy on condition without its index", destroyed, ErrorKind::Other, Outcome::NotApplied);
    index("list without its index", things.list().await.map(drop), ErrorKind::Other, Outcome::NotApplied);
    assert_eq!(things.load("a").await.unwrap(), Some(0));
    assert!(things.clone().unindexed().destroy("a").await.unwrap());
}

/// Scripts that the server forgets are sent again, whoever is at it.
#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_are_flushed() {
    let server = Redis::start(&[]);
    let things = things(&server.url());
    let load = Load::start(&things, TIMEOUT);
    let mut control = server.control();
    for _ in 0..20 {
        load.progress(200).await;
        tell(&mut control, "SCRIPT FLUSH SYNC");
    }
    let report = load.stop(&things).await;
    report.assert_kept().assert_failures("SCRIPT FLUSH, twenty times", &[]);
    assert_eq!(things.stream(ListOptions::new()).count().await, (report.saves + TASKS) as usize);
}

#[tokio::test]
async fn a_wrong_password() {
    let server = Redis::start(&["--requirepass", "sesame"]);
    let address = server.address();
    for user in ["", ":open", "ada:sesame", "sesame:sesame"] {
        for parameters in ["", "?protocol=resp3"] {
            let at = if user.is_empty() { "" } else { "@" };
            let things = things(&format!("redis://{user}{at}{address}/{parameters}"));
            let error = assert_refused(
                "a wrong password",
                things.save("a", &1).await,
                ErrorKind::PermissionDenied,
                Outcome::NotApplied,
                "user or password",
            );
            assert!(!format!("{error:?}").contains("sesame"), "{error:?}");
        }
    }
    things(&format!("redis://:sesame@{address}/")).save("a", &1).await.unwrap();
}

/// A user who may do what the documentation says, and nothing else.
#[tokio::test]
async fn a_user_with_few_rights() {
    let server = Redis::start(&[]);
    let readme = include_str!("../../sosa-redis/README.md");
    let line = readme.lines().find(|line| line.starts_with("ACL SETUSER")).unwrap();
    tell(&mut server.control(), &line.replace("PASSWORD", "sesame"));
    let store = sosa_redis::from_url(&format!("redis://myapp:sesame@{}/", server.address()), "myapp").unwrap();
    let things: Things = store.collection("things");
    for _ in 0..2 {
        for n in 0..100 {
            things.save_with(&n.to_string(), &n, sosa::Expiry::After(MINUTE).into()).await.unwrap();
        }
        things.update("7", |value| value.map(|value| value + 1)).await.unwrap();
        things.take("8").await.unwrap().unwrap();
        things.destroy("9").await.unwrap();
        things.load_with("7", LoadOptions::new().touch(MINUTE).with_expiry()).await.unwrap();
        assert_eq!(things.list_with(ListOptions::new().with_expiry()).await.unwrap().items.len(), 98);
        assert_eq!(things.list_with(ListOptions::new().ids_only()).await.unwrap().items.len(), 98);
        things.purge().await.unwrap();
        // Once more with scripts that are new to the server.
        tell(&mut server.control(), "SCRIPT FLUSH");
    }
    // Who may do less than that is told what is not certain.
    for (missing, id) in
        [("-multi", "m"), ("-exec", "e"), ("-set", "s"), ("-zadd", "z"), ("-evalsha", "v"), ("-del", "d")]
    {
        things.save(id, &1).await.unwrap();
        let read = revision(&things, id).await;
        tell(&mut server.control(), &format!("ACL SETUSER myapp {missing}"));
        let saved = things.save(id, &2).await;
        let destroyed = things.destroy_with(id, DestroyOptions::new().revision(read)).await;
        tell(&mut server.control(), &format!("ACL SETUSER myapp +{}", &missing[1..]));
        let left = things.load(id).await.unwrap();
        let may_be_saved = saved.as_ref().map_or_else(|error| error.outcome() == Outcome::Unknown, |()| true);
        let may_be_gone = destroyed.as_ref().map_or_else(|error| error.outcome() == Outcome::Unknown, |_| true);
        assert!(left != Some(2) || may_be_saved, "{missing}: {saved:?}");
        assert!(left.is_some() || may_be_gone, "{missing}: {destroyed:?}");
        for error in saved.err().into_iter().chain(destroyed.err()).filter(|error| !error.is_conflict()) {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{missing}: {error:?}");
        }
    }
    let others: Things = store.with_prefix("others").collection("things");
    let denied = |what, result: sosa::Result<()>| {
        assert_refused(what, result, ErrorKind::PermissionDenied, Outcome::NotApplied, "ACL");
    };
    denied("save elsewhere", others.save("a", &1).await);
    denied("load elsewhere", others.load("a").await.map(drop));
    denied("list elsewhere", others.list().await.map(drop));
    denied("take elsewhere", others.destroy_with("a", DestroyOptions::new().revision(1.into())).await.map(drop));
}

#[tokio::test]
async fn a_server_with_too_many_clients() {
    let server = Redis::start(&[]);
    let early = things(&server.url());
    early.save("a", &1).await.unwrap();
    let mut control = server.control();
    tell(&mut control, "CONFIG SET maxclients 2");
    for parameters in ["", "?protocol=resp3", "3"] {
        let late = things(&format!("{}{parameters}", server.url()));
        let saved = late.save("b", &2).await;
        assert_refused("maxclients", saved, ErrorKind::Unavailable, Outcome::NotApplied, "maxclients");
        // Who was there before goes on.
        assert_eq!(early.load("a").await.unwrap(), Some(1));
    }
    let late = things(&server.url());
    late.load("a").await.unwrap_err();
    tell(&mut control, "CONFIG SET maxclients 100");
    assert_eq!(late.load("a").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_server_without_enough_replicas() {
    let server = Redis::start(&["--min-replicas-to-write", "1"]);
    let things = things(&server.url());
    for things in [things.clone(), things.unindexed()] {
        let saved = things.save("a", &1).await;
        assert_refused("min-replicas-to-write", saved, ErrorKind::Unavailable, Outcome::NotApplied, "replicas");
        assert_eq!(things.load("a").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_database_that_is_not_there() {
    let server = Redis::start(&[]);
    let things = things(&format!("{}99", server.url()));
    let saved = things.save("a", &1).await;
    assert_refused("database 99", saved, ErrorKind::PermissionDenied, Outcome::NotApplied, "database");
}

/// Who asks and goes away, again and again, keeps nobody from being served; nor does who asks and does
/// not listen.
#[tokio::test]
async fn callers_that_do_not_wait() {
    let mut server = Redis::start(&[]);
    let things = things(&server.url());
    let kept = {
        let mut load = Box::pin(things.load("a"));
        assert!((&mut load).now_or_never().is_none());
        load
    };
    assert_eq!(things.load("a").await.unwrap(), None);
    assert_eq!(kept.await.unwrap(), None);
    server.kill();
    for _ in 0..3 {
        drop(things.load("a").await.unwrap_err());
    }
    server.restart();
    let began = Instant::now();
    while things.clone().load("a").await.is_err() {}
    assert!(began.elapsed() < Duration::from_secs(1), "served only after {:?}", began.elapsed());
    // Of those that wait for a millisecond at most, one comes when there is a connection.
    tell(&mut server.control(), "CLIENT KILL TYPE normal SKIPME yes");
    while tokio::time::timeout(Duration::from_millis(1), things.load("a")).await.is_err() {}
    assert!(began.elapsed() < Duration::from_secs(2), "served only after {:?}", began.elapsed());
    // And a timeout beyond all clocks is none.
    let patient = sosa_redis::from_url(&server.url(), "faults").unwrap().with_timeout(Duration::MAX);
    assert_eq!(patient.collection::<u64>("things").load("a").await.unwrap(), None);
}

/// Nothing is there at all: it fails at once, and quickly.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there() {
    let mut server = Redis::start(&[]);
    let things = things(&server.url());
    server.kill();
    let load = Load::start(&things, TIMEOUT);
    load.failures(4 * TASKS).await;
    server.restart();
    let recovery = load.recovery().await;
    assert!(recovery < Duration::from_secs(1), "serving again only after {recovery:?}");
    let report = load.stop(&things).await;
    report.assert_kept().assert_failures("nothing listens", &[(ErrorKind::Unavailable, NOT_APPLIED)]);
}

/// A connection that was closed while nobody used it costs a load nothing, and a save an error at most.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile() {
    let server = Redis::start(&[]);
    let things = things(&server.url());
    things.save("a", &1).await.unwrap();
    let mut control = server.control();
    for _ in 0..20 {
        tell(&mut control, "CLIENT KILL TYPE normal SKIPME yes");
        assert_eq!(things.load("a").await.unwrap(), Some(1));
        tell(&mut control, "CLIENT KILL TYPE normal SKIPME yes");
        let touch = LoadOptions::new().touch(Duration::from_secs(60));
        assert_eq!(things.load_with("a", touch).await.unwrap().unwrap().value, 1);
        tell(&mut control, "CLIENT KILL TYPE normal SKIPME yes");
        assert!(things.list().await.unwrap().ids().eq(["a"]));
        tell(&mut control, "CLIENT KILL TYPE normal SKIPME yes");
        if let Err(error) = things.save("a", &1).await {
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error:?}");
            things.save("a", &1).await.unwrap();
        }
    }
}

/// Moves the clock by more than a connection may be idle before it has to prove that it is alive.
async fn idle() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(1200)).await;
    tokio::time::resume();
}

/// The first write after the server, or a balancer, has closed an idle connection is not lost, since nothing was sent.
#[tokio::test]
async fn idle_connections_are_closed() {
    let server = Redis::start(&[]);
    let (cluster, sentinels) = (Cluster::start(1, 0, &[]), Sentinels::shared());
    let client = redis::Client::open(server.url()).unwrap();
    let pool = deadpool_redis::Config::from_url(server.url()).create_pool(Some(deadpool_redis::Runtime::Tokio1));
    let manager = redis::aio::ConnectionManager::new(client.clone()).await.unwrap();
    let nodes = redis::cluster::ClusterClient::new(cluster.nodes.iter().map(Redis::url).collect::<Vec<_>>()).unwrap();
    let stores = [
        ("URL", sosa_redis::from_url(&server.url(), "faults").unwrap()),
        ("Client", sosa_redis::new(client, "faults")),
        ("Pool", sosa_redis::new(pool.unwrap(), "faults")),
        ("ConnectionManager", sosa_redis::new(manager, "faults")),
        ("Sentinels", sosa_redis::from_url(&sentinels.url(), "idle").unwrap()),
        ("cluster", sosa_redis::from_url(&cluster.url(), "faults").unwrap()),
        ("ClusterClient", sosa_redis::new(nodes, "faults")),
    ];
    for (verb, n) in [("save", 1), ("update", 2), ("destroy", 3)] {
        for (name, store) in &stores {
            store.collection("things").save(name, &n).await.unwrap();
        }
        for server in [&server].into_iter().chain(&cluster.nodes).chain(&sentinels.servers) {
            server.tell::<u32>("CLIENT KILL TYPE normal SKIPME yes");
        }
        idle().await;
        for (name, store) in &stores {
            let things = store.collection::<u32>("things");
            let done = match verb {
                "save" => things.save(name, &7).await,
                // A condition that the script checks, without a load before.
                "update" => things.save_with(name, &7, Condition::Present.into()).await.map(drop),
                _ => things.destroy(name).await.map(drop),
            };
            assert!(done.is_ok(), "{name}, {verb}: {done:?}");
        }
    }
}

/// A router forgets connections that nobody used: what is sent over them is lost without a word.
#[tokio::test]
async fn a_router_forgets() {
    let server = Redis::start(&[]);
    let proxy = Proxy::start(server.address()).await;
    let things = sosa_redis::from_url(&proxy.url(), "faults").unwrap().collection::<u32>("things");
    things.save("a", &1).await.unwrap();
    // Reads that begin at once are answered over another connection.
    proxy.forget();
    let loads = futures_util::future::join_all((0..20).map(|_| things.load("a"))).await;
    let answered = loads.iter().filter(|load| load.as_ref().is_ok_and(|value| *value == Some(1))).count();
    assert_eq!(answered, 20, "{loads:?}");
    // A write finds out before it is sent.
    idle().await;
    proxy.forget();
    let began = Instant::now();
    things.save("a", &2).await.unwrap();
    println!("a save over a connection that was forgotten: {:?}", began.elapsed());
    assert_eq!(things.load("a").await.unwrap(), Some(2));
}
