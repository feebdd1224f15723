#![doc = include_str!("../README.md")]

mod collection;
mod command;
mod connections;
mod error;
mod link;
mod reply;
mod script;
mod server;
mod shared;
mod store;

pub use collection::RedisCollection;
pub use connections::Connections;
#[cfg(feature = "deadpool")]
pub use deadpool_redis;
pub use redis;
pub use sosa;
pub use store::{Redis, connect, new};
