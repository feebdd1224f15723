//! Collections on a Redis cluster, and what becomes of them when it changes or fails. Each test prints what
//! was answered and how soon: `cargo test -p sosa-tests --test redis_cluster -- --nocapture`.

// The figures are worth a look.
#![allow(clippy::print_stdout)]

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use nix::sys::signal::Signal;
use sosa::{
    Collection, CollectionExt, Condition, DestroyOptions, ErrorKind, Expiry, ListOptions, LoadOptions, Outcome,
    SaveOptions,
};
use sosa_tests::{Cluster, Fault, Load, Proxy, Redis, SLOTS, TASKS, Things};

/// How long a verb may take in these tests.
const TIMEOUT: Duration = Duration::from_secs(1);

const EITHER: &[Outcome] = &[Outcome::NotApplied, Outcome::Unknown];

/// What may fail while a node is gone.
const GONE: &[(ErrorKind, &[Outcome])] = &[(ErrorKind::Unavailable, EITHER), (ErrorKind::Timeout, EITHER)];

fn things(cluster: &Cluster) -> Things {
    sosa_redis::from_url(&cluster.url(), "cluster").unwrap().with_timeout(TIMEOUT).collection("things")
}

/// The slot of the shard that an id is in.
fn slot(cluster: &Cluster, id: &str) -> u16 {
    let key = format!("cluster:things:{}", shard(cluster, id));
    cluster.nodes[0].tell(&format!("CLUSTER KEYSLOT {key}"))
}

/// The hash tag of the shard that an id is in.
fn shard(cluster: &Cluster, id: &str) -> String {
    let hash = format!("return redis.sha1hex('{id}')");
    let mut control = cluster.nodes[0].control();
    let hash: String = redis::cmd("EVAL").arg(hash).arg(0).query(&mut control).unwrap();
    format!("{{{:02o}--}}", u8::from_str_radix(&hash[..2], 16).unwrap() % 64)
}

/// Returns an id whose shard is served by this node.
fn id_at(cluster: &Cluster, node: usize) -> String {
    let mut ids = (0..).map(|n| format!("id {n}"));
    ids.find(|id| cluster.primary_of(slot(cluster, id)) == Some(node)).unwrap()
}

/// Values and index are on all primaries in proportion, and are one collection in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_spreads_over_all_primaries() {
    const ENTRIES: usize = 3000;
    let cluster = Cluster::shared();
    let things = sosa_redis::from_url(&cluster.url(), "spread").unwrap().collection::<usize>("things");
    let ids: Vec<_> = (0..ENTRIES).map(|n| format!("{n:04}")).collect();
    for (n, id) in ids.iter().enumerate() {
        things.save(id, &n).await.unwrap();
    }
    for node in &cluster.nodes[..3] {
        let keys: Vec<String> = node.tell("KEYS spread:*");
        let indexes = keys.iter().filter(|key| key.ends_with("--}")).count();
        println!("{} keys and {indexes} indexes", keys.len());
        assert!((20..=23).contains(&indexes), "{indexes} of 64 indexes on one of three nodes");
        assert!(keys.len() > ENTRIES / 4, "{} keys on one of three nodes", keys.len());
    }
    let loaded = things.load_many(&ids).await.unwrap();
    assert!(loaded.iter().enumerate().all(|(n, value)| *value == Some(n)));
    for (limit, reverse) in [(1000, false), (7, false), (100, true)] {
        let mut options = ListOptions::new().limit(limit);
        options.reverse = reverse;
        let (began, mut found, mut pages) = (Instant::now(), Vec::new(), 0);
        loop {
            let page = things.list_with(options.clone()).await.unwrap();
            found.extend(page.ids().map(str::to_owned));
            pages += 1;
            match page.next {
                Some(next) => options.cursor = Some(next),
                None => break,
            }
        }
        println!("{ENTRIES} ids by {limit}: {pages} pages in {:?}", began.elapsed());
        if reverse {
            found.reverse();
        }
        assert_eq!(found, ids);
    }
    let plain = things.unindexed();
    for (n, id) in ids.iter().enumerate() {
        plain.save(id, &n).await.unwrap();
    }
    for node in &cluster.nodes[..3] {
        let keys: Vec<String> = node.tell("KEYS spread:things:????");
        assert!((900..1100).contains(&keys.len()), "{} plain keys on one of three nodes", keys.len());
    }
}

/// Many ids are asked for at once, and a page is two latencies over all nodes.
#[tokio::test(flavor = "multi_thread")]
async fn many_ids_are_one_latency() {
    let (cluster, proxies) = behind_proxies(&[]).await;
    let things = things(&cluster);
    let ids: Vec<_> = (0..256).map(|n| n.to_string()).collect();
    for id in &ids {
        things.save(id, &1).await.unwrap();
    }
    // With all connections, and the scripts that it needs.
    drop((things.load_many(&ids).await.unwrap(), things.list().await.unwrap()));
    for proxy in &proxies {
        proxy.set(Fault::Gather(Duration::from_millis(60)));
        proxy.take();
    }
    let counted = |what: &str, commands: RangeInclusive<usize>, trips: usize| {
        let (sent, waited): (Vec<_>, Vec<_>) = proxies.iter().map(Proxy::take).unzip();
        assert!(commands.contains(&sent.iter().map(Vec::len).sum()), "{what}: {sent:?}");
        // Each proxy has eight connections, which wait at once.
        assert!(waited.iter().all(|waited| *waited <= 8 * trips), "{what}: {waited:?}");
    };
    assert!(things.load_many(&ids).await.unwrap().iter().all(Option::is_some));
    counted("load_many", 256..=256, 1);
    assert_eq!(things.list().await.unwrap().items.len(), 256);
    // One of the shards may be empty, or two.
    counted("a page", 64 + 60..=64 + 64, 2);
}

/// Three primaries, each of which tells clients the address of a proxy for its own.
async fn behind_proxies(arguments: &[&str]) -> (Cluster, Vec<Proxy>) {
    let cluster = Cluster::start(3, 0, arguments);
    let mut proxies = Vec::new();
    for node in &cluster.nodes {
        let proxy = Proxy::start(node.address()).await;
        node.tell::<()>(&format!("CONFIG SET cluster-announce-port {}", proxy.address().port()));
        proxies.push(proxy);
    }
    cluster.wait("all know the proxies", |cluster| {
        cluster.nodes.iter().all(|node| {
            let seen = cluster.seen_by(node);
            proxies.iter().all(|proxy| seen.contains_key(&proxy.address().port()))
        })
    });
    (cluster, proxies)
}

/// The driver by itself would send it again, and count twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_is_not_sent_again() {
    let (cluster, proxies) = behind_proxies(&[]).await;
    let nodes: Vec<_> = cluster.nodes.iter().map(Redis::url).collect();
    let client = redis::cluster::ClusterClient::new(nodes).unwrap();
    let stores = [
        ("URL", sosa_redis::from_url(&cluster.url(), "cluster").unwrap()),
        ("ClusterClient", sosa_redis::new(client, "cluster")),
    ];
    for (name, store) in stores {
        let timeout = Duration::from_secs(4);
        let things = store.with_timeout(timeout).collection("things");
        let load = Load::start(&things, timeout);
        load.progress(500).await;
        for proxy in &proxies {
            proxy.set(Fault::Cut(20));
        }
        load.progress(4000).await;
        for proxy in &proxies {
            proxy.set(Fault::None);
        }
        let recovery = load.recovery().await;
        let report = load.stop(&things).await;
        report.allow_failures(&format!("{name}: one answer in twenty cut off"), GONE);
        println!(
            "    serving again after {recovery:?}; {} increments acknowledged, {} unknown, {} made twice",
            report.increments, report.unknown_increments, report.repeated_increments
        );
        report.assert_kept();
        assert!(report.unknown_increments > 0, "nothing was cut");
    }
}

/// Nor what is late: for the client's own timeout, and where no node can be asked for the map of the slots.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_late_is_not_sent_again() {
    let (cluster, proxies) = behind_proxies(&[]).await;
    let nodes: Vec<_> = cluster.nodes.iter().map(Redis::url).collect();
    let client = redis::cluster::ClusterClient::builder(nodes).response_timeout(Duration::from_millis(100));
    let store = sosa_redis::new(client.build().unwrap(), "cluster").with_timeout(TIMEOUT);
    let things = store.collection("things");
    let load = Load::start(&things, TIMEOUT);
    load.progress(500).await;
    for proxy in &proxies {
        proxy.set(Fault::Delay(Duration::from_millis(300)));
    }
    load.failures(5 * TASKS).await;
    for proxy in &proxies {
        proxy.set(Fault::None);
    }
    load.recovery().await;
    // All that was saved takes longer to read than that timeout, where the machine is busy.
    let report = load.stop(&self::things(&cluster)).await;
    report.assert_kept().assert_failures("answers after the client's timeout", GONE);

    let cluster = Cluster::start(1, 0, &[]);
    let patient = Duration::from_secs(4);
    let things = sosa_redis::from_url(&cluster.url(), "cluster").unwrap().with_timeout(patient).collection("things");
    for stopped in [1300, 2500] {
        let load = Load::start(&things, patient);
        load.progress(2000).await;
        cluster.nodes[0].signal(Signal::SIGSTOP);
        tokio::time::sleep(Duration::from_millis(stopped)).await;
        cluster.nodes[0].signal(Signal::SIGCONT);
        load.recovery().await;
        let report = load.stop(&things).await;
        report.assert_kept().allow_failures(&format!("all nodes stand still for {stopped} ms"), GONE);
    }
}

/// How long nothing is served of a shard whose primary is killed, and what its replica did not have yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_is_killed_and_failed_over() {
    let mut cluster = Cluster::start(3, 1, &[]);
    let things = things(&cluster);
    let id = id_at(&cluster, 1);
    let load = Load::start(&things, TIMEOUT);
    load.progress(5000).await;
    cluster.nodes[1].kill();
    let began = Instant::now();
    while things.save(&id, &1).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "never failed over");
    }
    let outage = began.elapsed();
    let recovery = load.recovery().await;
    assert!(recovery < Duration::from_secs(1), "serving again only after {recovery:?}");
    // The dead one comes back as the replica of the one that took its place, and nobody minds.
    cluster.nodes[1].restart();
    cluster.wait_until_healthy();
    load.progress(1000).await;
    let report = load.stop(&things).await;
    report.allow_failures("a primary killed", GONE);
    println!(
        "    its shards were not served for {outage:?}; replication lost {} of {} saves and {} of {} increments",
        report.lost_saves, report.saves, report.lost_increments, report.increments
    );
    assert_eq!((report.repeated_increments, report.unlisted), (0, 0));
    // Of what was acknowledged within the last moments before.
    assert!(report.lost_saves < report.saves / 10, "{} of {} saves are lost", report.lost_saves, report.saves);
}

/// Slots move with their keys from one node to another, under everybody's hands.
#[tokio::test(flavor = "multi_thread")]
async fn slots_move_to_another_node() {
    let cluster = Cluster::start(3, 0, &[]);
    let things = things(&cluster);
    let load = Load::start(&things, TIMEOUT);
    load.progress(2000).await;
    let began = Instant::now();
    // Those with a shard in them are all that hold something; there and back.
    let third = SLOTS / 3;
    let full: Vec<_> = (0..third)
        .filter(|slot| cluster.nodes[0].tell::<u64>(&format!("CLUSTER COUNTKEYSINSLOT {slot}")) > 0)
        .collect();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        cluster.move_slots(full.iter().copied(), from, to);
        load.progress(500).await;
    }
    println!("{} slots moved three times in {:?}", full.len(), began.elapsed());
    let report = load.stop(&things).await;
    report.assert_kept().assert_failures("slots moved", &[]);
    assert_eq!(things.stream(ListOptions::new()).count().await as u64, report.saves + TASKS);
}

/// Between two nodes: some keys of a slot are here, some there. Every verb goes on, and nothing leaves the index
/// for being on the other side.
#[tokio::test(flavor = "multi_thread")]
async fn every_verb_goes_on_while_a_slot_is_between_two_nodes() {
    const ENTRIES: usize = 40;
    let cluster = Cluster::start(2, 0, &[]);
    let things = things(&cluster);
    let tag = shard(&cluster, "0");
    let mut ids: Vec<_> =
        (0..).map(|n: u32| n.to_string()).filter(|id| shard(&cluster, id) == tag).take(2 * ENTRIES).collect();
    let fresh = ids.split_off(ENTRIES);
    ids.sort_unstable();
    for (n, id) in (0..).zip(&ids) {
        things.save_with(id, &n, Expiry::After(Duration::from_secs(600)).into()).await.unwrap();
    }
    let slot = slot(&cluster, "0");
    let from = cluster.primary_of(slot).unwrap();
    let (to, index) = (1 - from, format!("cluster:things:{tag}"));
    let migrate = |keys: &[String]| {
        let port = cluster.nodes[to].address().port();
        let mut migrate = redis::cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(port).arg("").arg(0).arg(5000).arg("KEYS").arg(keys);
        let _: redis::Value = migrate.query(&mut cluster.nodes[from].control()).unwrap();
    };
    let key = |id: &String| format!("{index}:{id}");
    cluster.begin_move(slot, from, to);
    let mut fresh = fresh.into_iter();
    // Nothing is there yet; then some values; then the index and the place of the sweep, which are all that one
    // script needs to begin; then all but one value.
    let stages: [Vec<String>; 4] = [
        Vec::new(),
        ids[..10].iter().map(key).collect(),
        vec![index.clone(), format!("{index}:")],
        ids[10..30].iter().map(key).collect(),
    ];
    for keys in stages {
        if !keys.is_empty() {
            let _: () = redis::cmd("SET")
                .arg(format!("{index}:"))
                .arg("")
                .query(&mut cluster.nodes[from].control())
                .unwrap_or(());
            migrate(&keys);
        }
        for id in ids.iter().step_by(3) {
            things.update(id, |value| value.map(|value| value + 1)).await.unwrap();
            let entry = things.load_with(id, LoadOptions::new().with_expiry()).await.unwrap().unwrap();
            assert!(matches!(entry.expiry, Some(Expiry::At(_)) | Some(Expiry::Never)));
            let touch = LoadOptions::new().touch(Duration::from_secs(600));
            assert_eq!(things.load_with(id, touch).await.unwrap().unwrap().value, entry.value);
            things.save_with(id, &entry.value, Condition::Present.into()).await.unwrap();
        }
        // New ones, and one that goes again.
        let (id, gone) = (fresh.next().unwrap(), fresh.next().unwrap());
        things.save_with(&id, &7, Condition::Absent.into()).await.unwrap();
        assert!(things.save_with(&id, &7, Condition::Absent.into()).await.unwrap_err().is_conflict());
        things.save(&gone, &7).await.unwrap();
        let read = things.load_with(&gone, LoadOptions::new()).await.unwrap().unwrap().revision;
        assert!(
            things
                .save_with(&gone, &7, SaveOptions::from(Condition::Revision(1.into())))
                .await
                .unwrap_err()
                .is_conflict()
        );
        assert!(things.destroy_with(&gone, DestroyOptions::new().revision(read)).await.unwrap());
        assert!(!things.destroy(&gone).await.unwrap());
        ids.push(id);
        ids.sort_unstable();
        for options in [ListOptions::new(), ListOptions::new().ids_only(), ListOptions::new().with_expiry()] {
            assert_eq!(listed(&things, options).await, ids);
        }
        // It has no way to know what lives, and leaves it alone.
        drop(things.purge().await);
    }
    while cluster.move_keys(slot, from, to, 100) > 0 {}
    cluster.end_move(slot, to);
    assert_eq!(listed(&things, ListOptions::new()).await, ids);
    things.purge().await.unwrap();
    assert_eq!(listed(&things, ListOptions::new().ids_only()).await, ids);
}

async fn listed(things: &Things, options: ListOptions) -> Vec<String> {
    things.stream(options).map(|item| item.unwrap().id).collect().await
}

/// A node comes, takes some slots of another's and all that is in them, gives them back and goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_added_and_removed() {
    let mut cluster = Cluster::start(2, 0, &[]);
    let things = things(&cluster);
    let load = Load::start(&things, TIMEOUT);
    load.progress(2000).await;
    cluster.add();
    let slots: Vec<_> = (0..SLOTS / 2)
        .filter(|slot| cluster.nodes[0].tell::<u64>(&format!("CLUSTER COUNTKEYSINSLOT {slot}")) > 0)
        .take(20)
        .collect();
    cluster.move_slots(slots.iter().copied(), 0, 2);
    load.progress(1000).await;
    assert!(cluster.nodes[2].tell::<u64>("DBSIZE") > 20, "the new node serves nothing");
    cluster.move_slots(slots.iter().copied(), 2, 0);
    cluster.remove(2);
    load.progress(1000).await;
    let report = load.stop(&things).await;
    report.assert_kept().allow_failures("a node added and removed", GONE);
}

/// As the documentation has it: what is sharded or has no index is a cluster's already, and the server itself
/// becomes its first node.
#[tokio::test(flavor = "multi_thread")]
async fn one_server_becomes_a_cluster() {
    const ENTRIES: u64 = 300;
    let hour = || SaveOptions::from(Expiry::After(Duration::from_secs(3600)));
    let server = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = sosa_redis::from_url(&server.url(), "grows").unwrap();
    let of = |store: &sosa_redis::RedisStore| {
        let things: [Things; 2] = [store.clone().sharded().collection("things"), store.collection("plain").unindexed()];
        things
    };
    for things in of(&store) {
        for n in 0..ENTRIES {
            things.save_with(&n.to_string(), &n, hour()).await.unwrap();
        }
    }
    let mut cluster = Cluster::of(server);
    // By the old URL, until all processes have the new one.
    let clustered = sosa_redis::from_url(&cluster.url(), "grows").unwrap();
    for (old, new) in of(&store).into_iter().zip(of(&clustered)) {
        for n in 0..ENTRIES {
            let id = n.to_string();
            let updated = old.update(&id, |value| value.map(|value| value + 1)).await.unwrap();
            assert_eq!((updated, new.load(&id).await.unwrap()), (Some(n + 1), Some(n + 1)));
        }
    }
    let error = store.collection::<u64>("index").save("a", &1).await.unwrap_err();
    println!("one index on a cluster: {error}");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unsupported, Outcome::NotApplied), "{error:?}");

    cluster.add();
    let keys_in = |slot: &u16| cluster.nodes[0].tell::<u64>(&format!("CLUSTER COUNTKEYSINSLOT {slot}"));
    let full: Vec<_> = (0..SLOTS / 2).filter(|slot| keys_in(slot) > 0).collect();
    cluster.move_slots(full, 0, 1);
    let [sharded, plain] = of(&clustered);
    for n in 0..ENTRIES {
        for things in [&sharded, &plain] {
            let entry = things.load_with(&n.to_string(), LoadOptions::new().with_expiry()).await.unwrap().unwrap();
            assert_eq!(entry.value, n + 1);
            assert!(matches!(entry.expiry, Some(Expiry::At(_))), "its deadline is lost");
        }
    }
    assert_eq!(listed(&sharded, ListOptions::new()).await.len() as u64, ENTRIES);
    let moved: Vec<String> = cluster.nodes[1].tell("KEYS grows:plain:*");
    let id = moved[0].rsplit(':').next().unwrap();
    let error = store.collection::<u64>("plain").unindexed().load(id).await.unwrap_err();
    println!("what has moved, by the old URL: {error}");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error:?}");
}

/// Without its replica a shard is served as before.
#[tokio::test(flavor = "multi_thread")]
async fn all_replicas_of_a_shard_are_gone() {
    let mut cluster = Cluster::start(3, 1, &[]);
    let things = things(&cluster);
    let load = Load::start(&things, TIMEOUT);
    load.progress(2000).await;
    cluster.nodes[3].kill();
    let port = cluster.nodes[3].address().port();
    cluster.wait("it is known to be gone", |cluster| cluster.seen_by(&cluster.nodes[0])[&port].fails);
    load.progress(5000).await;
    let report = load.stop(&things).await;
    report.assert_kept().assert_failures("all replicas of a shard gone", &[]);
}

/// A shard without a replica is down, or stands still. The others are served as if nothing were.
#[tokio::test(flavor = "multi_thread")]
async fn one_shard_is_down() {
    for stands_still in [false, true] {
        let mut cluster = Cluster::start(3, 0, &["--appendonly", "yes", "--appendfsync", "always"]);
        let things = things(&cluster);
        let (down, up) = (id_at(&cluster, 1), id_at(&cluster, 2));
        for id in [&down, &up] {
            things.save(id, &1).await.unwrap();
        }
        let others = Others::start(&things, up);
        let load = Load::start(&things, TIMEOUT);
        load.progress(2000).await;
        let before = others.rate().await;
        if stands_still {
            cluster.nodes[1].signal(Signal::SIGSTOP);
        } else {
            cluster.nodes[1].kill();
        }
        load.failures(2 * TASKS).await;
        let meanwhile = others.rate().await;
        let error = things.save(&down, &2).await.unwrap_err();
        println!("the shard that is down: {error}");
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
        if stands_still {
            cluster.nodes[1].signal(Signal::SIGCONT);
        } else {
            cluster.nodes[1].restart();
        }
        let began = Instant::now();
        while things.save(&down, &3).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "the shard never came back");
        }
        let recovery = began.elapsed();
        let longest = others.stop().await;
        let report = load.stop(&things).await;
        let what = if stands_still { "one shard stands still" } else { "one shard down" };
        report.assert_kept().assert_failures(what, GONE);
        println!(
            "    of the others {before:.0} loads a second before, {meanwhile:.0} meanwhile, the slowest {longest:?}"
        );
        println!("    serving again {recovery:?} after the shard's return");
        // The tasks of the load mostly wait meanwhile.
        assert!(meanwhile > before, "the others were held up");
    }
}

/// Loads from shards that serve, one after the other.
struct Others {
    loads: tokio::sync::watch::Receiver<u64>,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Duration>,
}

impl Others {
    fn start(things: &Things, id: String) -> Self {
        let (count, loads) = tokio::sync::watch::channel(0);
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let things = things.clone();
        let task = tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            while stopped.try_recv().is_err() {
                let began = Instant::now();
                things.load(&id).await.expect("its shard serves");
                longest = longest.max(began.elapsed());
                count.send_modify(|count| *count += 1);
            }
            longest
        });
        Self { loads, stop, task }
    }

    /// Returns how many succeed in a second.
    async fn rate(&self) -> f64 {
        let (before, began) = (*self.loads.borrow(), Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
        (*self.loads.borrow() - before) as f64 / began.elapsed().as_secs_f64()
    }

    /// Returns how long the slowest took.
    async fn stop(self) -> Duration {
        let _ = self.stop.send(());
        self.task.await.expect("all succeed")
    }
}

/// The driver's client for a cluster is a task, which ends with its runtime: nothing was sent then, and it is made anew.
#[test]
fn a_store_serves_one_runtime_after_another() {
    let cluster = Cluster::start(1, 0, &[]);
    let things = sosa_redis::from_url(&cluster.url(), "cluster").unwrap().collection("things");
    for n in 0..4_u64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            things.save("a", &n).await.unwrap();
            assert_eq!(things.load("a").await.unwrap(), Some(n));
        });
    }
}
