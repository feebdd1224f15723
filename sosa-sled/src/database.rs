//! A database as all collections of a store share it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sled::Db;

use crate::engine::Engine;
use crate::group_commit::GroupCommit;
use crate::pace::Pace;
use crate::table::Table;

pub(crate) struct Database {
    pub(crate) engine: Engine,
    pub(crate) group_commit: GroupCommit,
    pub(crate) pace: Pace,
    /// The tables by the root of their keys.
    tables: Mutex<HashMap<String, Arc<Table>>>,
}

impl Database {
    pub(crate) fn new(db: Db) -> Self {
        // As it is now, since the program may change its directory later.
        let path = db.context.get_path();
        let path = std::path::absolute(&path).unwrap_or(path);
        Self {
            group_commit: GroupCommit::new(path),
            engine: Engine::new(db),
            pace: Pace::new(),
            tables: Mutex::default(),
        }
    }

    /// Returns where the database is.
    pub(crate) fn path(&self) -> &Path {
        self.group_commit.path()
    }

    /// Returns the table whose keys have this root.
    pub(crate) fn table(&self, root: &str) -> Arc<Table> {
        // A thread that panicked here left the map whole: it inserts in one step.
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(root) {
            return table.clone();
        }
        let table = Arc::new(Table::new(root));
        tables.insert(root.to_owned(), table.clone());
        table
    }
}

/// Shows where it is. The engine's own `Debug` shows all that is stored.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path()).finish_non_exhaustive()
    }
}
