//! A Redis server, its replica, and the Sentinels that watch them.

use std::fs;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::redis::Redis;

/// What the Sentinels call the server.
const NAME: &str = "main";

/// How long they may take to find each other.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two servers, one of which follows the other, and three Sentinels. They end with this value.
#[derive(Debug)]
pub struct Sentinels {
    /// The first is the master to begin with.
    pub servers: [Redis; 2],
    /// All of which agree, and two of which decide.
    pub sentinels: Vec<Redis>,
}

impl Sentinels {
    /// Starts all and waits until they know each other.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(arguments, &[], || TempDir::new().expect("a directory"))
    }

    /// Starts all, which have files in their directories; the Sentinels with other arguments than the servers.
    /// Where these say that they replicate over TLS, they are watched over TLS.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn start_in(arguments: &[&str], of_sentinels: &[&str], directory: impl Fn() -> TempDir) -> Self {
        let master = Redis::start_in(directory(), arguments);
        let over_tls = of_sentinels.contains(&"--tls-replication");
        let port = if over_tls { master.other_ports()[1] } else { master.address().port() };
        let port = port.to_string();
        let replica = Redis::start_in(directory(), &[&["--replicaof", "127.0.0.1", &port], arguments].concat());
        let sentinels = (0..3).map(|_| {
            let directory = directory();
            let lines = [
                format!("sentinel monitor {NAME} 127.0.0.1 {port} 2"),
                format!("sentinel down-after-milliseconds {NAME} 500"),
                format!("sentinel failover-timeout {NAME} 3000"),
            ];
            fs::write(directory.path().join("sentinel.conf"), lines.join("\n")).expect("the directory is there");
            Redis::start_in(directory, &[&["{directory}/sentinel.conf", "--sentinel"], of_sentinels].concat())
        });
        let all = Self { sentinels: sentinels.collect(), servers: [master, replica] };
        all.wait_until_healthy();
        all
    }

    /// Returns those for all tests of this process, which keep out of each other's way by prefixes.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Sentinels> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// Returns the URL.
    pub fn url(&self) -> String {
        let sentinels: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.address().to_string()).collect();
        format!("redis-sentinel://{}/?sentinelMasterId={NAME}", sentinels.join(","))
    }

    /// Has the Sentinels make the replica the master.
    pub fn fail_over(&self) {
        self.sentinels[0].tell::<()>(&format!("SENTINEL FAILOVER {NAME}"));
    }

    /// Waits until all Sentinels know each other and a replica that follows its master.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn wait_until_healthy(&self) {
        let began = Instant::now();
        while !self.sentinels.iter().all(|sentinel| {
            let info: Vec<String> = sentinel.tell(&format!("SENTINEL MASTER {NAME}"));
            let value = |name: &str| info.iter().position(|found| found == name).map(|at| info[at + 1].as_str());
            let is_known = value("num-other-sentinels") == Some("2") && value("num-slaves") == Some("1");
            is_known && value("flags") == Some("master")
        }) || !self
            .servers
            .iter()
            .any(|server| server.tell::<String>("INFO replication").contains("link_status:up"))
        {
            assert!(began.elapsed() < PATIENCE, "the Sentinels do not agree");
            // They tell each other every second or two.
            sleep(Duration::from_millis(50));
        }
    }
}
