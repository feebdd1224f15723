//! The example programs, with servers.

// Each has a `main`.
#![allow(dead_code)]

#[path = "../examples/pool.rs"]
mod pool;
#[path = "../examples/sentinel_pool.rs"]
mod sentinel_pool;

use sosa_tests::{Redis, Sentinels};

#[tokio::test]
async fn a_pool() {
    assert_eq!(pool::run(&Redis::shared().url()).await.unwrap(), "1815");
}

#[tokio::test]
async fn a_pool_of_what_sentinels_name() {
    let sentinels = Sentinels::shared().sentinels.iter().map(Redis::url).collect();
    assert_eq!(sentinel_pool::run("main", sentinels).await.unwrap(), Some(1815));
}
