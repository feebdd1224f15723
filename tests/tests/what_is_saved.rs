//! Whatever a backend takes comes back equal; what it would not give back it refuses, and keeps what was there.

#[path = "../../sosa/tests/shapes/mod.rs"]
mod shapes;

use std::sync::Arc;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use shapes::{Shape, comes_back, shapes};
use sosa::{Collection, ErrorKind};
use sosa_session::{RequestHead, SessionOptions, Sessions};
use sosa_sled::Durability;
use sosa_tests::Redis;

/// How many shapes each backend is asked to keep.
const SHAPES: usize = 2000;

#[tokio::test]
async fn comes_back_from_every_backend() {
    let server = Redis::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let disk = sosa_sled::open(directory.path(), "shapes").expect("opened").with_durability(Durability::Eventual);
    let backends: [Arc<dyn Collection<Shape>>; 3] = [
        Arc::new(sosa_memory::new("shapes").encoded().collection("things")),
        Arc::new(disk.collection("things")),
        Arc::new(sosa_redis::from_url(&server.url(), "shapes").expect("a URL").collection("things")),
    ];
    let sessions = Sessions::new(SessionOptions::memory());
    let session = sessions.open(RequestHead::new([]));
    let (mut runner, mut before, mut refused) = (TestRunner::default(), Shape::Unit, 0);
    for things in &backends {
        things.save("a", &before).await.expect("saved");
    }
    session.insert("a", &before).await.expect("inserted");
    for _ in 0..SHAPES {
        let shape = shapes().new_tree(&mut runner).expect("a shape").current();
        let is_taken = comes_back(&shape);
        for things in &backends {
            match things.save("a", &shape).await {
                Ok(()) => assert!(is_taken, "{things:?} takes what does not come back: {shape:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Encode, "{things:?}: {shape:?}");
                    assert!(!is_taken, "{things:?} refuses for no reason: {error}: {shape:?}");
                }
            }
            let expected = if is_taken { &shape } else { &before };
            assert_eq!(things.load("a").await.expect("loaded").as_ref(), Some(expected), "{things:?}");
        }
        let inserted = session.insert("a", &shape).await;
        assert_eq!(inserted.is_ok(), is_taken, "a session: {shape:?}");
        let expected = if is_taken { &shape } else { &before };
        assert_eq!(session.get("a").await.expect("loaded").as_ref(), Some(expected), "a session");
        if is_taken { before = shape } else { refused += 1 }
    }
    session.destroy().await.expect("destroyed");
    assert!(refused > SHAPES / 100 && refused < SHAPES, "{refused} of {SHAPES} were refused");
}
