//! Group commit: one flush and one `fdatasync` for all writers that wait.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sled::Db;
use sosa::{Error, Outcome, Result};
use tokio::sync::oneshot;

use crate::backlog::Backlog;
use crate::engine::{Engine, Health};
use crate::error;
use crate::files::{Files, SyncError};

/// How long a sync may take: longer than the pauses of a disk that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a sync under way is looked at, and how many looks at none end the thread that looks.
const TICK: Duration = Duration::from_millis(100);
const IDLE_TICKS: u32 = 20;

/// For how long the thread that syncs waits for the next writer before it ends.
const LINGER: Duration = Duration::from_secs(1);

/// The files of a database, and the writers that wait for them.
pub(crate) struct GroupCommit {
    engine: Arc<Engine>,
    backlog: Backlog,
    path: PathBuf,
    files: OnceLock<Files>,
    state: Mutex<State>,
    /// Tells the thread that syncs of new writers.
    wake: Condvar,
}

#[derive(Default)]
struct State {
    /// Those for whom no sync has begun yet.
    waiting: Vec<Writer>,
    /// Those for whom the sync under way is, and since when that is.
    syncing: Vec<Writer>,
    began: Option<Instant>,
    /// A thread of its own syncs for as long as anybody waits, and a while longer.
    is_served: bool,
    /// A thread watches it.
    is_watched: bool,
}

/// A writer that waits.
type Writer = oneshot::Sender<Synced>;

/// What became of the writes before.
type Synced = std::result::Result<(), Failure>;

/// Why they may not be on the disk, for each of the writers.
#[derive(Clone)]
enum Failure {
    /// The engine writes no more.
    Engine(sled::Error),
    /// The engine panicked.
    Broken,
    /// It was closed before.
    Closed,
    /// Nothing was synced, and nothing was lost: the next sync does it.
    Postponed(sled::Error),
    /// It takes too long.
    Late,
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Self::Engine(error) => error::engine(error, Outcome::Unknown),
            Self::Broken => error::panicked(),
            Self::Closed => error::closed().with_outcome(Outcome::Unknown),
            Self::Postponed(error) => error::postponed(error),
            Self::Late => error::late(PATIENCE),
        }
    }
}

impl GroupCommit {
    pub(crate) fn new(engine: Arc<Engine>, path: PathBuf) -> Self {
        let (files, state, wake) = (OnceLock::new(), Mutex::default(), Condvar::new());
        Self { engine, backlog: Backlog::default(), path, files, state, wake }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how much was written that the file may not have yet.
    pub(crate) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Opens the files. From then on writes can be brought to the disk.
    pub(crate) fn open(&self) -> Result<()> {
        if self.files.get().is_none() {
            let stable = self.engine.with_db(stable)?;
            let files = Files::open(&self.path, stable).map_err(|error| match error {
                SyncError::Nothing(error) => error::engine(error, Outcome::NotApplied),
                SyncError::Lost(error) => self.engine.failed(error).with_outcome(Outcome::NotApplied),
            })?;
            // Of two that came here at once either will do.
            drop(self.files.set(files));
        }
        Ok(())
    }

    /// Waits until all that was written before is on the disk.
    pub(crate) async fn wait_durable(self: &Arc<Self>) -> Result<()> {
        if let Some(failure) = failure(&self.engine) {
            return Err(failure.into_error());
        }
        match self.submit().await {
            Ok(synced) => synced.map_err(Failure::into_error),
            Err(_) => Err(error::abandoned()),
        }
    }

    /// Does so on a thread that may wait.
    pub(crate) fn sync_now(self: &Arc<Self>) -> Result<()> {
        match self.submit().blocking_recv() {
            Ok(synced) => synced.map_err(Failure::into_error),
            Err(_) => Err(error::abandoned()),
        }
    }

    /// Asks for a sync of all that was written before.
    fn submit(self: &Arc<Self>) -> oneshot::Receiver<Synced> {
        let (writer, synced) = oneshot::channel();
        let (unserved, unwatched) = {
            let mut state = self.state();
            state.waiting.push(writer);
            let unserved = !std::mem::replace(&mut state.is_served, true);
            (unserved, !std::mem::replace(&mut state.is_watched, true))
        };
        if unserved {
            let served = self.clone();
            let serve = thread::Builder::new().name("sosa-sled-sync".to_owned()).spawn(move || served.serve());
            if serve.is_err() {
                // Who waits learns it as its sender is dropped.
                let mut state = self.state();
                state.is_served = false;
                state.waiting.clear();
            }
        } else {
            self.wake.notify_one();
        }
        if unwatched {
            let watched = self.clone();
            let watch = thread::Builder::new().name("sosa-sled-watch".to_owned()).spawn(move || watched.watch());
            if watch.is_err() {
                self.state().is_watched = false;
            }
        }
        synced
    }

    /// Syncs until nobody has waited for a while.
    fn serve(&self) {
        loop {
            {
                let nobody_waits = |state: &mut State| state.waiting.is_empty();
                let waited = self.wake.wait_timeout_while(self.state(), LINGER, nobody_waits);
                let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                if state.waiting.is_empty() {
                    state.is_served = false;
                    return;
                }
                state.syncing = std::mem::take(&mut state.waiting);
                state.began = Some(Instant::now());
            }
            // What they wrote, they wrote before they came here.
            let synced = self.sync();
            let mut state = self.state();
            state.began = None;
            let writers = std::mem::take(&mut state.syncing);
            drop(state);
            answer(writers, &synced);
        }
    }

    /// Brings to the disk all that was written before.
    fn sync(&self) -> Synced {
        let Self { engine, files, .. } = self;
        self.backlog.clear();
        let synced = engine.sync(|| {
            // On Linux the engine ends a flush with `sync_file_range`, which writes neither the file's length nor
            // what the drive has in its cache.
            // By a handle of its own: it may take long, and nobody who closes the database waits for it.
            let db = engine.with_db(Db::clone)?;
            let flushed = db.flush().map(|_| stable(&db));
            Ok(flushed.map_err(SyncError::Lost).and_then(|stable| match files.get() {
                Some(files) => files.sync(stable),
                None => Ok(()),
            }))
        });
        match synced {
            Ok(Ok(())) => Ok(()),
            Ok(Err(SyncError::Lost(error))) => {
                drop(engine.failed(error.clone()));
                Err(Failure::Engine(error))
            }
            Ok(Err(SyncError::Nothing(error))) => Err(Failure::Postponed(error)),
            Err(_) => Err(failure(engine).unwrap_or(match engine.health() {
                Health::Closed => Failure::Closed,
                _ => Failure::Broken,
            })),
        }
    }

    /// Sees to it that nobody waits for a sync that will not end.
    ///
    /// Where a write of the engine fails, it notes that, but wakes only some of the threads that wait for the write; and
    /// where it cannot even begin one, it notes nothing and waits for ever.
    fn watch(&self) {
        let engine = &self.engine;
        let mut idle = 0;
        loop {
            thread::sleep(TICK);
            let (is_waited_for, is_late) = {
                let mut state = self.state();
                let is_waited_for = state.began.is_some() || !state.waiting.is_empty();
                idle = if is_waited_for { 0 } else { idle + 1 };
                if idle == IDLE_TICKS {
                    state.is_watched = false;
                    return;
                }
                (is_waited_for, state.began.is_some_and(|began| began.elapsed() > PATIENCE))
            };
            if is_waited_for
                && let Some(db) = engine.handle()
                && let Err(error) = db.context.global_error()
            {
                drop(engine.failed(error));
                // It finds the error at once, and wakes all others, who then find it too.
                drop(db.flush());
            }
            match failure(engine) {
                None if is_late => answer(self.state().take_all(), &Err(Failure::Late)),
                None => {}
                // Who comes later starts another watch.
                Some(failure) => {
                    let mut state = self.state();
                    let writers = state.take_all();
                    state.is_watched = false;
                    drop(state);
                    return answer(writers, &Err(failure));
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes all who wait, those of the sync under way first.
    fn take_all(&mut self) -> Vec<Writer> {
        let mut writers = std::mem::take(&mut self.syncing);
        writers.append(&mut self.waiting);
        writers
    }
}

fn answer(writers: Vec<Writer>, synced: &Synced) {
    for writer in writers {
        // One that was dropped meanwhile does not want to know.
        drop(writer.send(synced.clone()));
    }
}

/// Returns why no sync will ever succeed again, if that is so.
fn failure(engine: &Engine) -> Option<Failure> {
    match engine.failure() {
        Some(error) => Some(Failure::Engine(error)),
        None => (engine.health() == Health::Broken).then_some(Failure::Broken),
    }
}

/// Returns the place in the log up to which the engine has written all to its file.
fn stable(db: &Db) -> i64 {
    db.context.pagecache.log.stable_offset()
}
