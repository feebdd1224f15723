//! The contract, over this backend and each kind of client.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sosa_redis::redis::{Client, aio::ConnectionManager, cluster::ClusterClient};
use sosa_redis::sosa::conformance::{Fixture, Probe};
use sosa_redis::sosa::{Collection, async_trait, conformance};
use sosa_redis::{Connections, RedisCollection};
use sosa_tests::{Cluster, Redis, Tls, user};

struct Store {
    store: sosa_redis::RedisStore,
    open: fn(RedisCollection<Probe>) -> Arc<dyn Collection<Probe>>,
    keeps_order: bool,
}

#[async_trait]
impl Fixture for Store {
    fn collection(&self, prefix: &str, name: &str, path: &[&str]) -> Arc<dyn Collection<Probe>> {
        let root = self.store.with_prefix(prefix).collection(name);
        (self.open)(path.iter().fold(root, |parent, path| parent.within(path)))
    }

    fn failing(&self) -> Option<Arc<dyn Collection<Probe>>> {
        // Nothing listens there.
        Some(Arc::new(sosa_redis::from_url("redis://127.0.0.1:1/", "").ok()?.collection("things")))
    }

    async fn elapse(&self, duration: Duration) {
        // The server lets a value live through the millisecond of its deadline.
        tokio::time::sleep(duration + Duration::from_millis(2)).await;
    }

    fn keeps_order(&self) -> bool {
        self.keeps_order
    }
}

fn opened(store: sosa_redis::RedisStore, open: fn(RedisCollection<Probe>) -> Arc<dyn Collection<Probe>>) -> Store {
    Store { store, open, keeps_order: true }
}

fn indexed(client: impl Into<Connections>) -> Store {
    opened(sosa_redis::new(client, ""), |things| Arc::new(things))
}

/// A pool, or the several connections that there are to each node of a cluster.
fn by_several_ways(store: Store) -> Store {
    Store { keeps_order: false, ..store }
}

fn client(parameters: &str) -> Client {
    Client::open(Redis::shared().url() + parameters).expect("a URL")
}

async fn resp2() -> Store {
    indexed(client(""))
}

async fn resp3() -> Store {
    indexed(client("?protocol=resp3"))
}

async fn manager() -> Store {
    indexed(ConnectionManager::new(client("")).await.expect("a connection"))
}

async fn pool() -> Store {
    let config = deadpool_redis::Config::from_url(Redis::shared().url());
    by_several_ways(indexed(config.create_pool(Some(deadpool_redis::Runtime::Tokio1)).expect("a pool")))
}

async fn unix_socket() -> Store {
    let store = sosa_redis::from_url(&Redis::shared().unix_url(), "").expect("a URL");
    opened(store, |things| Arc::new(things))
}

async fn boxed() -> Store {
    opened(sosa_redis::new(client(""), ""), |things| Arc::new(Arc::new(things) as Arc<dyn Collection<Probe>>))
}

async fn unindexed() -> Store {
    opened(sosa_redis::new(client(""), ""), |things| Arc::new(things.unindexed()))
}

async fn sharded() -> Store {
    opened(sosa_redis::new(client(""), "").sharded(), |things| Arc::new(things))
}

async fn cluster() -> Store {
    let store = sosa_redis::from_url(&Cluster::shared().url(), "").expect("a URL");
    by_several_ways(opened(store, |things| Arc::new(things)))
}

async fn cluster_client() -> Store {
    let nodes = Cluster::shared().nodes.iter().take(1).map(|node| node.url() + "?protocol=resp3");
    by_several_ways(indexed(ClusterClient::new(nodes).expect("URLs")))
}

async fn cluster_unindexed() -> Store {
    let store = sosa_redis::from_url(&Cluster::shared().url(), "").expect("a URL");
    by_several_ways(opened(store, |things| Arc::new(things.unindexed())))
}

async fn sentinel() -> Store {
    opened(sosa_redis::from_url(&sosa_tests::Sentinels::shared().url(), "").expect("a URL"), |things| Arc::new(things))
}

static TLS: LazyLock<Tls> = LazyLock::new(|| Tls::new("127.0.0.1"));

/// With a certificate of the client's, as a user who may do no more than it needs.
async fn tls() -> Store {
    static SERVER: LazyLock<Redis> =
        LazyLock::new(|| Redis::start_in(TLS.directory(), &Tls::arguments(&user("*", &[]))));
    let url = format!("rediss://myapp:sesame@127.0.0.1:{}", SERVER.other_ports()[1]);
    indexed(Client::build_with_tls(url, TLS.certificates(true)).expect("a URL"))
}

async fn cluster_tls() -> Store {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
        let user = user("*", &["+cluster|slots", "+asking"]);
        let arguments = [Tls::arguments(&user), vec!["--tls-cluster", "yes"]].concat();
        Cluster::start_in(3, 0, &arguments, || TLS.directory())
    });
    let nodes = CLUSTER.nodes.iter().map(|node| format!("rediss://127.0.0.1:{}", node.other_ports()[1]));
    let client = ClusterClient::builder(nodes).username("myapp").password("sesame").certs(TLS.certificates(true));
    by_several_ways(indexed(client.build().expect("URLs")))
}

conformance!(resp2: resp2);
conformance!(resp3: resp3);
conformance!(manager: manager);
conformance!(pool: pool);
conformance!(unix_socket: unix_socket);
conformance!(boxed: boxed);
conformance!(unindexed: unindexed, not_indexed);
conformance!(sharded: sharded);
conformance!(sentinel: sentinel);
conformance!(tls: tls);
conformance!(cluster: cluster);
conformance!(cluster_tls: cluster_tls);
conformance!(cluster_client: cluster_client);
conformance!(cluster_unindexed: cluster_unindexed, not_indexed);
