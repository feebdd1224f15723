#![doc = include_str!("../README.md")]

mod backlog;
mod collection;
mod database;
mod durability;
mod engine;
mod error;
mod files;
mod group_commit;
mod open_database;
mod open_options;
mod pace;
mod pieces;
mod record;
mod scope;
mod sled_format;
mod store;
mod table;
mod thread;
mod turn;
mod verify;
mod watermark;

pub use collection::SledCollection;
pub use durability::Durability;
pub use open_options::{OpenOptions, open, open_existing};
pub use sled;
pub use sosa;
pub use store::{SledStore, new};
