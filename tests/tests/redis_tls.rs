//! TLS with an authority of one's own and a certificate of the client's, and a user with few rights: to a server, to
//! what Sentinels name, and to a cluster.

// The messages are worth a look.
#![allow(clippy::print_stdout)]

use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, TlsMode};
use sosa::{Collection, CollectionExt, DestroyOptions, ErrorKind, Expiry, ListOptions, LoadOptions, Outcome};
use sosa_redis::{Connections, RedisStore as Store};
use sosa_tests::{Cluster, Redis, Sentinels, Tls, user};

/// Does all that a collection does, more than once, so that each script was new to each server.
async fn assert_works(store: &Store) {
    let things = store.collection::<u64>("things");
    for things in [things.clone(), things.unindexed()] {
        for n in 0..200 {
            things
                .save_with(&n.to_string(), &n, Expiry::After(std::time::Duration::from_secs(60)).into())
                .await
                .unwrap();
        }
        for n in 0..100 {
            let id = n.to_string();
            things.update(&id, |value| value.map(|value| value + 1)).await.unwrap();
            let touch = LoadOptions::new().touch(std::time::Duration::from_secs(60));
            assert_eq!(things.load_with(&id, touch.with_expiry()).await.unwrap().unwrap().value, n + 1);
            let read = things.load_with(&id, touch).await.unwrap().unwrap().revision;
            assert!(things.destroy_with(&id, DestroyOptions::new().revision(read)).await.unwrap());
        }
    }
    let things = store.collection::<u64>("things");
    for options in [ListOptions::new(), ListOptions::new().ids_only(), ListOptions::new().with_expiry()] {
        assert_eq!(things.list_with(options).await.unwrap().items.len(), 100);
    }
    things.purge().await.unwrap();
    assert!(things.destroy("150").await.unwrap());
    let others = store.with_prefix("others").collection::<u64>("things");
    let error = others.save("a", &1).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::PermissionDenied, Outcome::NotApplied), "{error:?}");
}

/// Asserts that a store cannot be connected to, and says why.
async fn assert_refused(what: &str, connections: impl Into<Connections>, kind: ErrorKind, says: &str) {
    let things = sosa_redis::new(connections, "myapp").collection::<u64>("things");
    let error = things.save("a", &1).await.unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    println!("{what}: {error}: {source:?}");
    assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotApplied), "{what}: {error:?}");
    assert!(!format!("{error:?} {source:?}").contains("sesame"), "{what}: {error:?}");
    assert!(format!("{error}: {source:?}").contains(says), "{what}: {error}: {source:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls() {
    let tls = Tls::new("127.0.0.1");
    let user = user("myapp:*", &[]);
    let server = Redis::start_in(tls.directory(), &Tls::arguments(&user));
    let [_, port] = server.other_ports();
    let url = format!("rediss://myapp:sesame@127.0.0.1:{port}");
    let client = |of_client| Client::build_with_tls(url.as_str(), tls.certificates(of_client)).unwrap();
    assert_works(&sosa_redis::new(client(true), "myapp")).await;

    assert_refused("no certificate of the client's", client(false), ErrorKind::Unavailable, "CertificateRequired")
        .await;
    assert_refused(
        "an authority that nobody knows",
        Client::open(url.as_str()).unwrap(),
        ErrorKind::Unavailable,
        "UnknownIssuer",
    )
    .await;
    let other = Client::build_with_tls(url.as_str(), Tls::new("127.0.0.1").certificates(true)).unwrap();
    assert_refused("another authority", other, ErrorKind::Unavailable, "BadSignature").await;
    let name = url.replace("127.0.0.1", "localhost");
    let name = Client::build_with_tls(name, tls.certificates(true)).unwrap();
    assert_refused("another name", name, ErrorKind::Unavailable, "not valid for name").await;
    let plain = format!("rediss://127.0.0.1:{}", server.address().port());
    let plain = Client::build_with_tls(plain, tls.certificates(true)).unwrap();
    assert_refused("a server without TLS", plain, ErrorKind::Unavailable, "in time").await;
    let wrong = url.replace("sesame", "open");
    let wrong = Client::build_with_tls(wrong, tls.certificates(true)).unwrap();
    assert_refused("a wrong password", wrong, ErrorKind::PermissionDenied, "password").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_with_tls() {
    let tls = Tls::new("127.0.0.1");
    let user = user("myapp:*", &["+role"]);
    let over_tls = ["--tls-replication", "yes"];
    let servers = [Tls::arguments(&user), over_tls.to_vec()].concat();
    let sentinels = Sentinels::start_in(&servers, &[&Tls::ARGUMENTS[..], &over_tls].concat(), || tls.directory());
    let client = |password: &str, of_client| {
        let ports = sentinels.sentinels.iter().map(|sentinel| sentinel.other_ports()[1]);
        let host = || "127.0.0.1".to_owned();
        let sentinels =
            ports.map(|port| ConnectionAddr::TcpTls { host: host(), port, insecure: false, tls_params: None });
        SentinelClientBuilder::new(sentinels, "main", SentinelServerType::Master)
            .unwrap()
            .set_client_to_redis_username("myapp")
            .set_client_to_redis_password(password)
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(tls.certificates(of_client))
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(tls.certificates(of_client))
            .build()
            .unwrap()
    };
    assert_works(&sosa_redis::new(client("sesame", true), "myapp")).await;
    assert_refused(
        "no certificate of the client's",
        client("sesame", false),
        ErrorKind::Unavailable,
        "CertificateRequired",
    )
    .await;
    assert_refused("a wrong password", client("open", true), ErrorKind::PermissionDenied, "password").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_tls() {
    let tls = Tls::new("127.0.0.1");
    let user = user("myapp:*", &["+cluster|slots", "+asking"]);
    let nodes = [Tls::arguments(&user), vec!["--tls-cluster", "yes"]].concat();
    let cluster = Cluster::start_in(3, 0, &nodes, || tls.directory());
    let client = |password: &str, of_client| {
        let nodes = cluster.nodes.iter().map(|node| format!("rediss://127.0.0.1:{}", node.other_ports()[1]));
        let builder = ClusterClient::builder(nodes).username("myapp").password(password);
        builder.certs(tls.certificates(of_client)).build().unwrap()
    };
    assert_works(&sosa_redis::new(client("sesame", true), "myapp")).await;
    assert_refused(
        "no certificate of the client's",
        client("sesame", false),
        ErrorKind::Unavailable,
        "CertificateRequired",
    )
    .await;
    assert_refused("a wrong password", client("open", true), ErrorKind::PermissionDenied, "password").await;
}
