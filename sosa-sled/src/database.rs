//! A database as all tables of a store share it.

use std::path::Path;
use std::sync::Arc;

use sled::Db;

use crate::engine::Engine;
use crate::group_commit::GroupCommit;
use crate::pace::Pace;
use crate::turn::Turns;

pub(crate) struct Database {
    pub(crate) engine: Arc<Engine>,
    pub(crate) group_commit: Arc<GroupCommit>,
    pub(crate) pace: Pace,
    pub(crate) turns: Arc<Turns>,
}

impl Database {
    pub(crate) fn new(db: Db) -> Self {
        // As it is now, since the program may change its directory later.
        let path = db.context.get_path();
        let path = std::path::absolute(&path).unwrap_or(path);
        let engine = Arc::new(Engine::new(db));
        Self {
            turns: Turns::of(&path),
            group_commit: Arc::new(GroupCommit::new(engine.clone(), path)),
            engine,
            pace: Pace::new(),
        }
    }

    /// Returns where the database is.
    pub(crate) fn path(&self) -> &Path {
        self.group_commit.path()
    }
}
