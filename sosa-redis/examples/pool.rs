//! A store on the pool that a program has already: `cargo run -p sosa-redis --example pool redis://127.0.0.1/`.
//!
//! The program checks connections out of its pool for its own commands; the store makes as many as the pool may hold
//! beside them, by the pool's manager, and never waits for one.

#![allow(clippy::print_stdout)]

use std::env;
use std::error::Error;

use sosa_redis::deadpool_redis::{Config, Runtime};
use sosa_redis::redis::AsyncCommands;
use sosa_redis::sosa::Collection;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1/".to_owned());
    println!("{}", run(&url).await?);
    Ok(())
}

/// Returns what other programs see of an entry.
pub(crate) async fn run(url: &str) -> Result<String, Box<dyn Error>> {
    let pool = Config::from_url(url).create_pool(Some(Runtime::Tokio1))?;
    let people = sosa_redis::new(pool.clone(), "pool-example").collection("people");
    people.save("ada", &1815).await?;
    Ok(pool.get().await?.get("pool-example:people:ada").await?)
}
