#![doc = include_str!("../README.md")]

#[cfg(feature = "cluster")]
mod cluster;
mod collection;
mod command;
mod connections;
mod error;
mod link;
mod reply;
mod script;
#[cfg(feature = "sentinel")]
mod sentinel;
mod server;
mod shard;
mod shared;
mod store;
mod url;
mod wire;

pub use collection::RedisCollection;
pub use connections::Connections;
#[cfg(feature = "deadpool")]
pub use deadpool_redis;
pub use redis;
pub use sosa;
pub use store::{RedisStore, from_url, new};

#[doc = include_str!("../SCALING.md")]
pub mod scaling {}
