#![doc = include_str!("../README.md")]

mod collection;
mod error;
mod index;
mod shard;
mod store;
mod table;

pub use collection::MemoryCollection;
pub use sosa;
pub use store::{MemoryStore, new};
