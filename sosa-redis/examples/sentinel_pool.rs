//! A store on the server that Sentinels name, from a pool: `cargo run -p sosa-redis --features sentinel --example
//! sentinel_pool main redis://127.0.0.1:26379/`.
//!
//! The connections of a pool are not watched: when its server steps down for another, they go on to write to it until it
//! refuses. A `SentinelClient` or a URL has the Sentinels asked once a second.

#![allow(clippy::print_stdout)]

use std::env;
use std::error::Error;

use sosa_redis::deadpool_redis::Runtime;
use sosa_redis::deadpool_redis::sentinel::{Config, SentinelServerType};
use sosa_redis::sosa::Collection;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "main".to_owned());
    println!("{:?}", run(&name, arguments.collect()).await?);
    Ok(())
}

/// Returns what is stored.
pub(crate) async fn run(name: &str, sentinels: Vec<String>) -> Result<Option<i32>, Box<dyn Error>> {
    let config = Config::from_urls(sentinels, name.to_owned(), SentinelServerType::Master);
    let pool = config.create_pool(Some(Runtime::Tokio1))?;
    let people = sosa_redis::new(pool, "pool-example").collection("people");
    people.save("ada", &1815).await?;
    Ok(people.load("ada").await?)
}
