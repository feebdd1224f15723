#![doc = include_str!("../README.md")]

mod collection;
mod database;
mod engine;
mod error;
mod group_commit;
mod pace;
mod record;
mod sled_format;
mod store;
mod table;
mod thread;
mod verify;
mod watermark;

pub use collection::SledCollection;
pub use sled;
pub use sosa;
pub use store::{Durability, SledStore, new, open};
