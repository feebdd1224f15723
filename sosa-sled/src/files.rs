//! The files of a database, as they are brought to the disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::watermark::{Watermark, WatermarkFile};

/// Why a sync failed.
pub(crate) enum SyncError {
    /// Before anything was synced: the next one does all that this one should have done.
    Nothing(sled::Error),
    /// While it synced: the system may have forgotten what it could not write, and the next sync would succeed and
    /// prove nothing.
    Lost(sled::Error),
}

impl SyncError {
    fn nothing(error: io::Error) -> Self {
        Self::Nothing(error.into())
    }

    fn lost(error: io::Error) -> Self {
        Self::Lost(error.into())
    }
}

/// The files, as they are synced.
pub(crate) struct Files {
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

/// What a file system may round times to: two seconds, and some more for a clock that is not its own.
const TIMESTAMP: Duration = Duration::from_secs(3);

impl Files {
    /// Opens them when the engine has written the log up to this place.
    pub(crate) fn open(path: &Path, stable: i64) -> Result<Self, SyncError> {
        let log = File::open(path.join("db")).map_err(SyncError::nothing)?;
        let watermark = WatermarkFile::open(path).map_err(SyncError::nothing)?;
        let blobs = path.join("blobs");
        let conf = File::open(path.join("conf")).map_err(SyncError::nothing)?;
        conf.sync_data().map_err(SyncError::lost)?;
        // The names of what was just created; the engine does not sync them.
        for directory in [Some(blobs.as_path()), Some(path), path.parent()].into_iter().flatten() {
            File::open(directory).map_err(SyncError::nothing)?.sync_all().map_err(SyncError::lost)?;
        }
        let files = Self { log, blobs, synced: Mutex::new(Synced { watermark, up_to: 0, changed: None }) };
        // What the last watermark said is no longer of interest; it may be of a log that was cut off since.
        files.sync(stable)?;
        files.synced.lock().unwrap_or_else(PoisonError::into_inner).watermark.sync().map_err(SyncError::lost)?;
        Ok(files)
    }

    /// Syncs the file, and all blobs that the log names up to this place, and marks it.
    pub(crate) fn sync(&self, stable: i64) -> Result<(), SyncError> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let length = self.log.metadata().map_err(SyncError::nothing)?.len();
        self.sync_blobs(&mut synced, stable)?;
        self.log.sync_data().map_err(SyncError::lost)?;
        // It may be behind what is on the disk, and then the next one tells it.
        synced.watermark.write(Watermark { stable, length }).map_err(SyncError::nothing)
    }

    /// The engine writes blobs as files of their own, named by their place in the log, and syncs none.
    fn sync_blobs(&self, synced: &mut Synced, stable: i64) -> Result<(), SyncError> {
        let changed = fs::metadata(&self.blobs).and_then(|blobs| blobs.modified()).map_err(SyncError::nothing)?;
        // What changes twice within the time that is rounded to shows the same time.
        let is_settled = SystemTime::now().duration_since(changed).is_ok_and(|age| age > TIMESTAMP);
        if synced.changed == Some(changed) {
            return Ok(());
        }
        let (mut found, mut is_ahead) = (false, false);
        for blob in fs::read_dir(&self.blobs).map_err(SyncError::nothing)? {
            let blob = blob.map_err(SyncError::nothing)?;
            let place = blob.file_name().to_str().and_then(|name| name.parse::<i64>().ok());
            is_ahead |= place.is_some_and(|place| place > stable);
            if place.is_none_or(|place| place < synced.up_to || place > stable) {
                continue;
            }
            found = true;
            match File::open(blob.path()) {
                Ok(file) => file.sync_data().map_err(SyncError::lost)?,
                // The engine has removed it since, as it does what is no longer used.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(SyncError::nothing(error)),
            }
        }
        if found {
            let directory = File::open(&self.blobs).map_err(SyncError::nothing)?;
            directory.sync_all().map_err(SyncError::lost)?;
        }
        (synced.up_to, synced.changed) = (stable, (is_settled && !is_ahead).then_some(changed));
        Ok(())
    }
}
