//! TLS by rustls, in a program that has not chosen its cryptography. Alone in its program, since that is chosen once.

use sosa_redis::redis::Client;
use sosa_redis::redis::cluster::ClusterClient;
use sosa_redis::rustls::crypto::ring;
use sosa_redis::sosa::{Collection, ErrorKind};

#[tokio::test]
async fn it_is_said_how_to_choose() {
    for url in ["rediss://127.0.0.1:1", "rediss-cluster://127.0.0.1:1", "rediss-sentinel://h:1?sentinelMasterId=main"] {
        let error = sosa_redis::from_url(url, "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert!(error.to_string().contains("ring::default_provider().install_default()"), "{error}");
    }
    let things = sosa_redis::new(Client::open("rediss://127.0.0.1:1").unwrap(), "").collection::<u8>("things");
    let error = things.load("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    let source = std::error::Error::source(&error).expect("what to do").to_string();
    assert!(source.contains("install_default"), "{source}");
    let nodes = ClusterClient::new(["rediss://127.0.0.1:1"]).unwrap();
    let error = sosa_redis::new(nodes, "").collection::<u8>("things").load("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOption);

    ring::default_provider().install_default().expect("it is the first");
    assert!(sosa_redis::from_url("rediss://127.0.0.1:1", "").is_ok());
    assert_eq!(things.load("a").await.unwrap_err().kind(), ErrorKind::Unavailable);
}
