#![doc = include_str!("../README.md")]

mod check;
mod collection;
mod database;
mod disk;
mod error;
mod log;
mod mark;
mod pace;
mod record;
mod store;
mod table;
mod thread;

pub use collection::SledCollection;
pub use sled;
pub use sosa;
pub use store::{Durability, Sled, new, open};
