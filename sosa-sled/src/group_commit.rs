//! What brings writes to the disk: one flush and one `fdatasync` for all that wait.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use sled::Db;
use sosa::{Error, Outcome, Result};
use tokio::sync::oneshot;

use crate::database::Database;
use crate::error;
use crate::thread;
use crate::watermark::{Watermark, WatermarkFile};

/// How long a write waits for the disk: longer than the pauses of one that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// The files of a database, and the writers that wait for them.
pub(crate) struct GroupCommit {
    path: PathBuf,
    files: OnceLock<Files>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    writers: Vec<oneshot::Sender<Settled>>,
    /// Somebody works for them.
    served: bool,
}

/// What became of the writes before.
type Settled = std::result::Result<(), Failure>;

/// Why they may not be on the disk, for each of the writers.
#[derive(Clone)]
enum Failure {
    Engine(sled::Error),
    Broken,
}

impl GroupCommit {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, files: OnceLock::new(), waiting: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the files. From then on writes can be brought to the disk.
    pub(crate) fn open(&self, stable: impl FnOnce() -> i64) -> Result<()> {
        if self.files.get().is_none() {
            let files = Files::open(&self.path, stable()).map_err(error::files)?;
            // Of two that came here at once either will do.
            drop(self.files.set(files));
        }
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until all that was written before is on the disk.
pub(crate) async fn wait_durable(database: &Arc<Database>) -> Result<()> {
    let (writer, settled) = oneshot::channel();
    let unserved = {
        let mut waiting = database.group_commit.waiting();
        waiting.writers.push(writer);
        !std::mem::replace(&mut waiting.served, true)
    };
    if unserved {
        let service = Service { database: database.clone(), ended: false };
        thread::start(move || service.run());
    }
    match thread::within(PATIENCE, settled).await {
        Some(Ok(settled)) => settled.map_err(Failure::into_error),
        Some(Err(_)) => Err(error::abandoned()),
        None => Err(error::late(PATIENCE)),
    }
}

/// Works for the writers until none is left.
struct Service {
    database: Arc<Database>,
    ended: bool,
}

impl Service {
    fn run(mut self) {
        loop {
            let writers = {
                let mut waiting = self.database.group_commit.waiting();
                if waiting.writers.is_empty() {
                    waiting.served = false;
                    self.ended = true;
                    return;
                }
                std::mem::take(&mut waiting.writers)
            };
            // What they wrote, they wrote before they came here.
            let settled = match self.database.engine.call(|| Ok(sync(&self.database))) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    // What a sync could not write it may have forgotten: the next one would succeed, and
                    // prove nothing.
                    self.database.engine.give_up();
                    Err(Failure::Engine(error))
                }
                Err(_) => Err(Failure::Broken),
            };
            for writer in writers {
                // One that was dropped meanwhile does not want to know.
                drop(writer.send(settled.clone()));
            }
        }
    }
}

/// A service that was never run, since its runtime had ended, leaves the writers to others.
impl Drop for Service {
    fn drop(&mut self) {
        if !self.ended {
            let mut waiting = self.database.group_commit.waiting();
            waiting.served = false;
            waiting.writers.clear();
        }
    }
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Self::Engine(error) => error::engine(error, Outcome::Unknown),
            Self::Broken => error::panicked(),
        }
    }
}

/// Brings to the disk all that was written before.
fn sync(database: &Database) -> sled::Result<()> {
    // On Linux the engine ends this with `sync_file_range`, which writes neither the file's length nor
    // what the drive has in its cache.
    database.engine.db().flush()?;
    let stable = stable(database.engine.db());
    match database.group_commit.files.get() {
        Some(files) => Ok(files.sync(stable)?),
        None => Ok(()),
    }
}

/// Returns the place in the log up to which the engine has written all to its file.
pub(crate) fn stable(db: &Db) -> i64 {
    db.context.pagecache.log.stable_offset()
}

/// The files, as they are synced.
struct Files {
    /// Our own handle of the engine's file, since the engine does not give out its own. What is written
    /// through one is synced through the other.
    log: File,
    /// The directory of what is too large for that file.
    blobs: PathBuf,
    synced: Mutex<Synced>,
}

/// What is on the disk.
struct Synced {
    watermark: WatermarkFile,
    /// The blobs that the log names up to this place.
    up_to: i64,
    /// When the directory was last changed, as it was read.
    changed: Option<SystemTime>,
}

/// What a file system may round times to.
const TICK: Duration = Duration::from_millis(100);

impl Files {
    /// Opens them when the engine has written the log up to this place.
    fn open(path: &Path, stable: i64) -> io::Result<Self> {
        let log = File::open(path.join("db"))?;
        let watermark = WatermarkFile::open(path)?;
        let blobs = path.join("blobs");
        File::open(path.join("conf"))?.sync_data()?;
        // The names of what was just created; the engine does not sync them.
        for directory in [Some(blobs.as_path()), Some(path), path.parent()].into_iter().flatten() {
            sync_directory(directory)?;
        }
        let files = Self { log, blobs, synced: Mutex::new(Synced { watermark, up_to: 0, changed: None }) };
        // What the last mark said is no longer of interest; it may be of a log that was cut off since.
        files.sync(stable)?;
        files.synced.lock().unwrap_or_else(PoisonError::into_inner).watermark.sync()?;
        Ok(files)
    }

    /// Syncs the file, and all blobs that the log names up to this place, and marks it.
    fn sync(&self, stable: i64) -> io::Result<()> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        self.sync_blobs(&mut synced, stable)?;
        let length = self.log.metadata()?.len();
        self.log.sync_data()?;
        synced.watermark.write(Watermark { stable, length })
    }

    /// The engine writes blobs as files of their own, named by their place in the log, and syncs none.
    fn sync_blobs(&self, synced: &mut Synced, stable: i64) -> io::Result<()> {
        let changed = fs::metadata(&self.blobs)?.modified()?;
        // What changes twice within a tick shows the same time.
        let settled = SystemTime::now().duration_since(changed).is_ok_and(|age| age > TICK);
        if synced.changed == Some(changed) {
            return Ok(());
        }
        let mut found = false;
        for blob in fs::read_dir(&self.blobs)? {
            let blob = blob?;
            let place = blob.file_name().to_str().and_then(|name| name.parse::<i64>().ok());
            if place.is_none_or(|place| place < synced.up_to || place > stable) {
                continue;
            }
            found = true;
            match File::open(blob.path()) {
                Ok(file) => file.sync_data()?,
                // The engine has removed it since, as it does what is no longer used.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if found {
            sync_directory(&self.blobs)?;
        }
        (synced.up_to, synced.changed) = (stable, settled.then_some(changed));
        Ok(())
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
