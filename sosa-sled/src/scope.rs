//! What a call works on, and where it runs: where it is polled, or on a thread that may wait.

use std::sync::Arc;
use std::time::Instant;

use sosa::{Clock, Keyspace, Result};

use crate::database::Database;
use crate::engine::Health;
use crate::open_database::OpenDatabase;
use crate::table::{Done, Table};
use crate::thread::{self, Caller};
use crate::turn::Turn;

/// Of how many revisions a save of a large value checks the pieces, in case a process died and left some.
const PIECES: usize = 2;

/// The entries of a collection, for calls that may outlive it.
#[derive(Clone)]
pub(crate) struct Scope {
    database: Arc<Database>,
    table: Arc<Table>,
    pub(crate) keyspace: Keyspace,
    pub(crate) clock: Clock,
}

impl Scope {
    pub(crate) fn new(database: &OpenDatabase, keyspace: Keyspace, clock: Clock) -> Self {
        Self { database: database.database().clone(), table: database.table(keyspace.root()), keyspace, clock }
    }

    /// Returns the key in the tree: the path and the id.
    pub(crate) fn key(&self, id: &str) -> Result<Vec<u8>> {
        let key = self.keyspace.key(id)?;
        Ok([self.keyspace.path(), key.id()].concat().into_bytes())
    }

    /// Asks the engine for what it has, now.
    pub(crate) fn read<R>(&self, call: impl FnOnce(&Table, &Database) -> Result<R>) -> Result<R> {
        self.database.engine.read(|| call(&self.table, &self.database))
    }

    /// Asks the engine to write, now.
    pub(crate) fn write<R>(&self, call: impl FnOnce(&Table, &Database) -> Result<R>) -> Result<R> {
        self.database.engine.write(|| call(&self.table, &self.database))
    }

    /// Reads where this is polled, if the engine answers quickly; else on a thread that may wait.
    pub(crate) async fn read_inline<R: Send + 'static>(
        &self,
        key: Vec<u8>,
        read: impl FnOnce(&Self, &[u8]) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        if self.is_quick() {
            return self.timed(|| read(self, &key));
        }
        let scope = self.clone();
        thread::run(move |_| scope.timed(|| read(&scope, &key))).await
    }

    /// Writes where this is polled, if the engine answers quickly and nobody is writing the same; else on a thread
    /// that may wait.
    pub(crate) async fn write_inline<R: Send + 'static>(
        &self,
        key: Vec<u8>,
        write: impl FnOnce(&Self, &[u8], &Turn<'_>) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        if self.is_quick()
            && !self.database.group_commit.backlog().is_long()
            && let Some(turn) = self.database.turns.try_take(self.table.root(), &key)
        {
            return self.timed(|| write(self, &key, &turn));
        }
        let scope = self.clone();
        let write = move |caller: &Caller| {
            scope.catch_up();
            let turn = scope.database.turns.take(scope.table.root(), &key);
            caller.still_waits()?;
            scope.timed(|| write(&scope, &key, &turn))
        };
        thread::run(write).await
    }

    /// Waits for the disk, if much was written that it may not have yet. On a thread that may wait.
    pub(crate) fn catch_up(&self) {
        if self.database.group_commit.backlog().is_long() {
            // What fails here fails the write, if it must.
            drop(self.database.group_commit.sync_now());
        }
    }

    fn is_quick(&self) -> bool {
        self.table.is_open() && self.database.pace.is_quick() && self.database.engine.health() == Health::Working
    }

    /// Takes note of how long a call takes.
    fn timed<R>(&self, call: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        let result = call();
        self.database.pace.note(began.elapsed());
        result
    }

    /// Removes the pieces of a value that a call has replaced or removed, and returns what it found.
    pub(crate) async fn tidy<R>(&self, done: Done<R>) -> R {
        if let Some(revision) = done.leftover {
            let scope = self.clone();
            let remove = move |_: &Caller| scope.write(|table, database| table.remove_pieces(database, revision));
            // The call is done, whatever comes of this; a sweep makes up for it.
            drop(thread::run(remove).await);
        }
        done.result
    }

    /// Removes some of what has expired, if told to, and some pieces that no record names, while the caller goes on.
    pub(crate) fn sweep(&self, looks: Option<usize>) {
        let clock = self.clock.clone();
        let sweep = move |table: &Table, database: &Database| {
            if let Some(looks) = looks {
                table.sweep(database, &clock, looks)?;
            }
            table.sweep_pieces(database, looks.unwrap_or(PIECES))
        };
        let scope = self.clone();
        // The save is done, whatever comes of this; the next sweep makes up for it.
        thread::start(move || drop(scope.write(sweep)));
    }
}
