//! Whether the files of a database hold all that was brought to the disk, before the engine opens them.
//!
//! What the engine cannot read as it recovers it takes for the end of the log, cuts off, and overwrites. That is
//! right for what a crash left half written, and wrong for what was on the disk and was damaged since. So
//! this reads first, and writes nothing: the same stretch of the log as the recovery, up to the last place
//! that is known to have been on the disk. Older pages the engine checks itself, as it reads them.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::log::{self, Header, Message, Piece, SEGMENT, SEGMENT_HEADER, Snapshot};
use crate::mark::Mark;

/// Why a database should not be opened.
#[derive(Debug)]
pub(crate) enum Finding {
    /// Another has it open.
    Held,
    /// What was on the disk is not there any more, or no longer what it was.
    Damaged(String),
    /// It could not be read.
    Unread(io::Error),
}

impl From<io::Error> for Finding {
    fn from(error: io::Error) -> Self {
        Self::Unread(error)
    }
}

fn damaged(what: impl Into<String>) -> Finding {
    Finding::Damaged(what.into())
}

/// Looks whether the engine may open the database in this directory.
pub(crate) fn check(directory: &Path) -> Result<(), Finding> {
    let mark = Mark::read(directory).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => damaged(error.to_string()),
        _ => error.into(),
    })?;
    let db = match File::open(directory.join("db")) {
        Ok(db) => db,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A new one.
            return mark.map_or(Ok(()), |_| Err(damaged("`db` is missing")));
        }
        Err(error) => return Err(error.into()),
    };
    // The engine's own lock; nobody writes meanwhile.
    db.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Finding::Held,
        TryLockError::Error(error) => error.into(),
    })?;
    if !is_as_configured(directory, mark.is_some())? {
        return Ok(());
    }
    let length = db.metadata()?.len();
    // The engine itself makes the file shorter, by whole segments that it no longer uses.
    if mark.is_some_and(|mark| length < mark.length && length % SEGMENT != 0) {
        return Err(damaged(format!("`db` ends at byte {length}, too early")));
    }
    let snapshot = newest_snapshot(directory)?;
    let marked = mark.map_or(-1, |mark| mark.stable);
    Log { db, length, blobs: directory.join("blobs") }.check(snapshot, marked)
}

/// Returns whether the engine will open the log as it is read here; if not, it refuses it.
fn is_as_configured(directory: &Path, used: bool) -> Result<bool, Finding> {
    let bytes = match fs::read(directory.join("conf")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if bytes.len() <= 8 && !used {
        // A machine that stopped as the database was new; the engine writes it again.
        return Ok(true);
    }
    let (content, sum) = bytes.split_last_chunk().ok_or_else(|| damaged("`conf` is missing or cut off"))?;
    if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
        return Err(damaged("`conf` is damaged"));
    }
    let segment_size = format!("segment_size: {SEGMENT}\n");
    Ok(content.windows(segment_size.len()).any(|line| line == segment_size.as_bytes()))
}

/// Reads the snapshot that the engine would take.
fn newest_snapshot(directory: &Path) -> Result<Snapshot, Finding> {
    let mut newest: Option<PathBuf> = None;
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.starts_with("snap.") {
            continue;
        }
        if name.ends_with(".generating") {
            // A crash left it half written, beside the one before. The engine would take it for the newest,
            // and refuse it, and so the database, for ever.
            fs::remove_file(&path)?;
        } else if newest.as_ref().is_none_or(|newest| *newest < path) {
            newest = Some(path);
        }
    }
    // Without one the log is read from its beginning.
    let Some(path) = newest else { return Ok(Snapshot::default()) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Snapshot::read(&fs::read(&path)?).ok_or_else(|| damaged(format!("`{name}` is damaged")))
}

struct Log {
    db: File,
    length: u64,
    blobs: PathBuf,
}

/// Segments: when they begin, and where.
type Segments = BTreeMap<i64, u64>;

impl Log {
    /// Looks for all that was on the disk: what is behind the snapshot up to the mark, or up to where the log
    /// itself says that it was.
    fn check(&mut self, snapshot: Snapshot, marked: i64) -> Result<(), Finding> {
        let next = snapshot.next.unwrap_or(0);
        let first = begin(next);
        let (segments, claimed) = self.segments(first)?;
        let stable = claimed.max(marked).max(next - 1);
        // The last ones are not used again before they are on the disk.
        let mut last = begin(claimed.max(first));
        while last <= stable {
            if !segments.contains_key(&last) && last >= next {
                return Err(damaged("`db` lacks what was written last"));
            }
            last += SEGMENT as i64;
        }
        let pages = self.walk(snapshot, &segments, stable)?;
        self.check_pages(&pages)
    }

    /// Reads the headers: which segments the recovery will read, and up to where they say that all was on
    /// the disk, or -1.
    fn segments(&mut self, first: i64) -> Result<(Segments, i64), Finding> {
        let (mut segments, mut claimed) = (Segments::new(), -1);
        let mut at = 0;
        while at + SEGMENT_HEADER as u64 <= self.length {
            let mut header = [0; SEGMENT_HEADER];
            self.db.seek(SeekFrom::Start(at))?;
            self.db.read_exact(&mut header)?;
            match Header::read(&header) {
                Header::Written { lsn, stable } if lsn >= first => {
                    if segments.insert(lsn, at).is_some() {
                        return Err(damaged(format!("`db` is damaged at byte {at}: this is there twice")));
                    }
                    claimed = claimed.max(stable);
                }
                Header::Written { .. } | Header::Empty => {}
                Header::Damaged => return Err(damaged(format!("`db` is damaged at byte {at}"))),
            }
            at += SEGMENT;
        }
        Ok((segments, claimed))
    }

    /// Follows the pages through the log, of which all must be whole up to this place.
    fn walk(
        &mut self,
        snapshot: Snapshot,
        segments: &Segments,
        stable: i64,
    ) -> Result<HashMap<u64, Vec<Piece>>, Finding> {
        let mut pages: HashMap<_, _> = (0..).zip(snapshot.pages).collect();
        let mut segment = Vec::new();
        for (&begins, &base) in segments {
            self.db.seek(SeekFrom::Start(base))?;
            segment.clear();
            Read::by_ref(&mut self.db).take(SEGMENT).read_to_end(&mut segment)?;
            let number = begins.cast_unsigned() / SEGMENT;
            let mut at = SEGMENT_HEADER;
            while log::may_begin(at) {
                let rest = segment.get(at..).unwrap_or_default();
                let on_the_disk = begins + at as i64 <= stable;
                let place = base + at as u64;
                let Some((message, _, length)) = log::message(rest).filter(|(_, of, _)| *of == number) else {
                    if !on_the_disk {
                        return Ok(pages);
                    }
                    if is_used_again(rest, number.max(stable.cast_unsigned() / SEGMENT)) {
                        break;
                    }
                    return Err(damaged(format!("`db` is damaged at byte {place}")));
                };
                at += length;
                if let Message::Replace { blob: Some(blob), .. } | Message::Link { blob: Some(blob), .. } = message {
                    match self.blob(blob)? {
                        Blob::Whole => {}
                        // It may have been replaced since.
                        Blob::Missing if on_the_disk => {}
                        Blob::Missing => continue,
                        Blob::Damaged if on_the_disk => return Err(damaged(format!("`blobs/{blob}` is damaged"))),
                        Blob::Damaged => return Ok(pages),
                    }
                }
                match message {
                    Message::Nothing => {}
                    Message::Cap => break,
                    Message::Replace { page, blob } => drop(pages.insert(page, vec![Piece { at: place, blob }])),
                    Message::Link { page, blob } => {
                        // Links to what is not there belong to a page that was written anew since.
                        if let Some(pieces) = pages.get_mut(&page).filter(|pieces| !pieces.is_empty()) {
                            pieces.push(Piece { at: place, blob });
                        }
                    }
                }
            }
        }
        Ok(pages)
    }

    /// Looks whether the pages are where they should be.
    fn check_pages(&self, pages: &HashMap<u64, Vec<Piece>>) -> Result<(), Finding> {
        for piece in pages.values().flatten() {
            if piece.at >= self.length {
                return Err(damaged(format!("`db` ends at byte {}, too early", self.length)));
            }
            if let Some(blob) = piece.blob
                && !self.blobs.join(blob.to_string()).try_exists()?
            {
                return Err(damaged(format!("`blobs/{blob}` is missing")));
            }
        }
        Ok(())
    }

    fn blob(&self, blob: i64) -> io::Result<Blob> {
        match fs::read(self.blobs.join(blob.to_string())) {
            Ok(bytes) if log::is_blob(&bytes) => Ok(Blob::Whole),
            Ok(_) => Ok(Blob::Damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Blob::Missing),
            Err(error) => Err(error),
        }
    }
}

enum Blob {
    Whole,
    Damaged,
    Missing,
}

/// Returns when the segment of this place begins.
fn begin(lsn: i64) -> i64 {
    lsn - lsn % SEGMENT as i64
}

/// Returns whether a segment was being used again when all ended: its second half was written before its
/// header. The engine does so only with one of which nothing is needed.
fn is_used_again(rest: &[u8], latest: u64) -> bool {
    (0..rest.len()).any(|at| log::message(&rest[at..]).is_some_and(|(_, number, _)| number > latest))
}
