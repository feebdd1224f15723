//! What the crash test writes.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sosa_sled::SledStore;

/// A value of which no half can be taken for a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// What it is known by.
    pub number: u64,
    body: String,
}

impl Written {
    /// The prefix of the store.
    pub const PREFIX: &str = "crash";
    /// The name of the collection.
    pub const NAME: &str = "things";
    /// How many tasks write, each to ids of its own.
    pub const TASKS: u64 = 8;

    /// Opens the database that they are in.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn open(path: impl AsRef<Path>) -> sosa::Result<SledStore> {
        sosa_sled::open(&path, Self::PREFIX)
    }

    /// Makes one of a size.
    pub fn new(number: u64, size: usize) -> Self {
        Self { number, body: Self::body(number, size) }
    }

    /// Returns whether it is as it was made.
    pub fn is_whole(&self) -> bool {
        self.body == Self::body(self.number, self.body.len())
    }

    /// Returns an id of a task's own.
    pub fn id(task: u64, id: &str) -> String {
        format!("{task}-{id}")
    }

    fn body(number: u64, size: usize) -> String {
        format!("{number} ").chars().cycle().take(size).collect()
    }
}
