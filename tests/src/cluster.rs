//! A Redis cluster on the loopback.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::redis::Redis;

/// How many slots there are.
pub const SLOTS: u16 = 16384;

/// What makes a server a node.
const NODE: [&str; 12] = [
    "--cluster-enabled",
    "yes",
    "--cluster-port",
    "{bus}",
    "--cluster-node-timeout",
    "1000",
    // That one shard is down is no reason for the others to be.
    "--cluster-require-full-coverage",
    "no",
    "--cluster-allow-replica-migration",
    "no",
    "--repl-diskless-sync-delay",
    "0",
];

/// How long the nodes may take to agree.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster whose nodes are processes of their own. They end with this value.
#[derive(Debug)]
pub struct Cluster {
    /// The primaries first, each of which may turn into a replica of its replica.
    pub nodes: Vec<Redis>,
    arguments: Vec<String>,
}

/// What a node says of one in the cluster.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its id, as `CLUSTER` commands take it.
    pub id: String,
    /// The id of its primary, if it is a replica.
    pub primary: Option<String>,
    /// Whether it is connected, as far as the others know.
    pub fails: bool,
    /// Its slots, from and to.
    pub slots: Vec<(u16, u16)>,
}

impl Cluster {
    /// Starts so many primaries, with as many replicas each, and waits until they serve.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn start(primaries: u16, replicas: u16, arguments: &[&str]) -> Self {
        Self::start_in(primaries, replicas, arguments, || TempDir::new().expect("a directory for the node"))
    }

    /// Starts a cluster whose nodes have files in their directories. They meet over TLS if the arguments say so,
    /// without which clients do not learn of the ports for it.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn start_in(primaries: u16, replicas: u16, arguments: &[&str], directory: impl Fn() -> TempDir) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut cluster = Self { nodes: Vec::new(), arguments };
        for _ in 0..primaries * (1 + replicas) {
            cluster.nodes.push(cluster.node(directory()));
        }
        for (number, node) in cluster.nodes.iter().enumerate() {
            node.tell::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1));
            cluster.introduce(node);
        }
        let (first, rest) = cluster.nodes.split_at(primaries.into());
        for (number, node) in (0..).zip(first) {
            let slot = |number: u16| u32::from(number) * u32::from(SLOTS) / u32::from(primaries);
            node.tell::<()>(&format!("CLUSTER ADDSLOTSRANGE {} {}", slot(number), slot(number + 1) - 1));
        }
        cluster.wait("all know all", Self::all_know_all);
        for (number, node) in rest.iter().enumerate() {
            node.tell::<()>(&format!("CLUSTER REPLICATE {}", id(&first[number % first.len()])));
        }
        cluster.wait_until_healthy();
        cluster
    }

    /// Makes a cluster of one server, which keeps its data, as `redis-cli --cluster fix` does.
    ///
    /// # Panics
    ///
    /// If it does not become one.
    pub fn of(mut server: Redis) -> Self {
        server.restart_with(&NODE);
        let mut fix = Command::new("redis-cli")
            .args(["--cluster", "fix", &server.address().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-cli comes with redis-server");
        // It asks whether it shall take the slots without keys too.
        let told = fix.stdin.take().expect("piped").write_all(b"yes\n");
        assert!(told.is_ok() && fix.wait().expect("it is ours").success());
        let cluster = Self { nodes: vec![server], arguments: Vec::new() };
        cluster.wait_until_healthy();
        cluster
    }

    /// Returns a cluster of three primaries with a replica each for all tests of this process, which keep out of
    /// each other's way by prefixes.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(3, 1, &[]))
    }

    /// Starts a node that no other knows yet.
    fn node(&self, directory: TempDir) -> Redis {
        let mut arguments = NODE.to_vec();
        arguments.extend(self.arguments.iter().map(String::as_str));
        Redis::start_in(directory, &arguments)
    }

    /// Makes a node known to the first, and so to all.
    fn introduce(&self, node: &Redis) {
        let [bus, tls] = node.other_ports();
        let over_tls = self.arguments.iter().any(|argument| argument == "--tls-cluster");
        let port = if over_tls { tls } else { node.address().port() };
        self.nodes[0].tell::<()>(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
    }

    fn all_know_all(&self) -> bool {
        self.nodes.iter().all(|node| self.seen_by(node).len() == self.nodes.len())
    }

    /// Starts another node, which has no slots.
    pub fn add(&mut self) -> &Redis {
        let node = self.node(TempDir::new().expect("a directory for the node"));
        self.introduce(&node);
        self.nodes.push(node);
        self.wait("all know all", Self::all_know_all);
        self.wait_until_healthy();
        self.nodes.last().expect("it was pushed")
    }

    /// Ends a node that has no slots, after the others have forgotten it.
    pub fn remove(&mut self, number: usize) {
        let node = self.nodes.remove(number);
        for other in &self.nodes {
            other.tell::<()>(&format!("CLUSTER FORGET {}", id(&node)));
        }
    }

    /// Returns the URL, which names three of the nodes.
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().take(3).map(|node| node.address().to_string()).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// Returns the cluster as a node sees it, by the ports of the nodes.
    pub fn seen_by(&self, node: &Redis) -> BTreeMap<u16, Seen> {
        let nodes = node.tell::<String>("CLUSTER NODES");
        nodes.lines().filter_map(seen).collect()
    }

    /// Returns the number of the node that serves a slot.
    pub fn primary_of(&self, slot: u16) -> Option<usize> {
        let seen = self.seen_by(self.nodes.iter().find(|node| node.runs())?);
        self.nodes.iter().position(|node| {
            let seen = &seen[&node.address().port()];
            !seen.fails && seen.slots.iter().any(|(from, to)| (*from..=*to).contains(&slot))
        })
    }

    /// Waits until all that run agree that all slots are served, and each replica follows its primary.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn wait_until_healthy(&self) {
        self.wait("it is healthy", |cluster| {
            cluster.nodes.iter().filter(|node| node.runs()).all(|node| {
                let info = node.tell::<String>("CLUSTER INFO") + &node.tell::<String>("INFO replication");
                let replicates = info.contains("role:master") || info.contains("master_link_status:up");
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384") && replicates
            })
        });
        // A node that was just told of another may not yet serve what the rest agrees on.
        self.wait("all agree", |cluster| {
            let running = || cluster.nodes.iter().filter(|node| node.runs());
            let owners = |node: &Redis| -> Vec<_> {
                let seen = cluster.seen_by(node);
                seen.into_iter().filter(|(_, seen)| !seen.fails).map(|(port, seen)| (port, seen.slots)).collect()
            };
            running().all(|node| running().next().is_some_and(|first| owners(first) == owners(node)))
        });
    }

    /// Waits until each replica has all that its primary has, while nobody writes.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn wait_until_replicated(&self) {
        let offset = |info: &str, name: &str| {
            let offset = info.split(['\n', ',']).find_map(|word| word.trim().strip_prefix(name)?.parse::<u64>().ok());
            offset.unwrap_or_default()
        };
        self.wait("all is replicated", |cluster| {
            let infos: Vec<String> = cluster.nodes.iter().map(|node| node.tell("INFO replication")).collect();
            let mut primaries = infos.iter().filter(|info| info.contains("role:master"));
            primaries.all(|info| offset(info, "offset=") == offset(info, "master_repl_offset:"))
        });
    }

    /// Moves slots from node to node with all that is in them, as `redis-cli --cluster reshard` does.
    pub fn move_slots(&self, slots: impl IntoIterator<Item = u16>, from: usize, to: usize) {
        for slot in slots {
            self.begin_move(slot, from, to);
            while self.move_keys(slot, from, to, 100) > 0 {}
            self.end_move(slot, to);
        }
    }

    /// Lets both nodes know that a slot is on its way.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let [source, target] = [&self.nodes[from], &self.nodes[to]];
        target.tell::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", id(source)));
        source.tell::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", id(target)));
    }

    /// Moves some keys of a slot, and returns how many.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize, count: usize) -> usize {
        let source = &self.nodes[from];
        let mut control = source.control();
        let mut keys = sosa_redis::redis::cmd("CLUSTER");
        keys.arg("GETKEYSINSLOT").arg(slot).arg(count);
        let keys: Vec<Vec<u8>> = keys.query(&mut control).expect("the keys of the slot");
        if !keys.is_empty() {
            let mut migrate = sosa_redis::redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(self.nodes[to].address().port()).arg("").arg(0).arg(5000);
            migrate.arg("KEYS").arg(&keys);
            migrate.query::<()>(&mut control).expect("the keys are moved");
        }
        keys.len()
    }

    /// Lets all know where a slot is now.
    pub fn end_move(&self, slot: u16, to: usize) {
        let target = id(&self.nodes[to]);
        let seen = self.seen_by(&self.nodes[to]);
        let is_primary = |node: &&Redis| node.runs() && seen[&node.address().port()].primary.is_none();
        // The target first, so that no node sends anybody to one that does not know.
        let others = self.nodes.iter().enumerate().filter(|(number, _)| *number != to).map(|(_, node)| node);
        for node in std::iter::once(&self.nodes[to]).chain(others).filter(is_primary) {
            node.tell::<()>(&format!("CLUSTER SETSLOT {slot} NODE {target}"));
        }
    }

    /// Waits until it is so.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "after {PATIENCE:?} it is not so that {what}");
            // The nodes tell each other every 100 ms.
            sleep(Duration::from_millis(20));
        }
    }
}

/// Returns the id of a node.
fn id(node: &Redis) -> String {
    node.tell("CLUSTER MYID")
}

/// Reads a line of `CLUSTER NODES`.
fn seen(line: &str) -> Option<(u16, Seen)> {
    let mut words = line.split(' ');
    let (id, address, flags, primary) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let port = address.split('@').next()?.rsplit(':').next()?.parse().ok()?;
    let slots = words.skip(4).filter(|slots| !slots.starts_with('['));
    let slots = slots.filter_map(|slots| {
        let (from, to) = slots.split_once('-').unwrap_or((slots, slots));
        Some((from.parse().ok()?, to.parse().ok()?))
    });
    let seen = Seen {
        id: id.to_owned(),
        primary: (primary != "-").then(|| primary.to_owned()),
        fails: flags.contains("fail") || flags.contains("handshake") || flags.contains("noaddr"),
        slots: slots.collect(),
    };
    Some((port, seen))
}
