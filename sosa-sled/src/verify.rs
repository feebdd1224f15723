//! Whether the files of a database hold all that was brought to the disk, before the engine opens them.
//!
//! What the engine cannot read as it recovers it takes for the end of the log, cuts off, and overwrites. That is
//! right for what a crash left half written, and wrong for what was on the disk and was damaged since. So
//! this reads first: the same stretch of the log as the recovery, up to the last place that is known to have
//! been on the disk. The watermark tells which. Without one the log's own word is taken, which the engine
//! gives before the file's length and the drive's cache are safe. Older pages the engine checks itself, as it
//! reads them.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::sled_format::{self, Header, Message, Piece, SEGMENT, SEGMENT_HEADER, Snapshot};
use crate::watermark::Watermark;

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
pub(crate) fn verify(directory: &Path) -> Result<(), Finding> {
    let watermark = || {
        Watermark::read(directory).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => damaged(error.to_string()),
            _ => error.into(),
        })
    };
    let db = match File::open(directory.join("db")) {
        Ok(db) => db,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A new one.
            return watermark()?.map_or(Ok(()), |_| Err(damaged("`db` is missing")));
        }
        Err(error) => return Err(error.into()),
    };
    // The engine's own lock; nobody writes meanwhile.
    db.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Finding::Held,
        TryLockError::Error(error) => error.into(),
    })?;
    let watermark = watermark()?;
    if !is_as_configured(directory, watermark.is_some())? {
        return Ok(());
    }
    let (snapshot, unfinished) = snapshots(directory)?;
    let length = db.metadata()?.len();
    Log { db, length, blobs: directory.join("blobs") }.check(snapshot, watermark)?;
    for path in unfinished {
        fs::remove_file(path)?;
    }
    Ok(())
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
    Ok(content == format!("segment_size: {SEGMENT}\nuse_compression: false\nversion: 0.34\n").as_bytes())
}

/// Reads the snapshot that the engine should take, and finds those that a crash left half written beside it:
/// the engine would take such a one for the newest, and refuse it, and so the database, for ever.
fn snapshots(directory: &Path) -> Result<(Snapshot, Vec<PathBuf>), Finding> {
    let (mut newest, mut unfinished): (Option<PathBuf>, _) = (None, Vec::new());
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.starts_with("snap.") {
            continue;
        }
        if name.ends_with(".generating") {
            unfinished.push(path);
        } else if newest.as_ref().is_none_or(|newest| *newest < path) {
            newest = Some(path);
        }
    }
    // Without one the log is read from its beginning.
    let Some(path) = newest else { return Ok((Snapshot::default(), unfinished)) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let snapshot = Snapshot::read(&fs::read(&path)?).ok_or_else(|| damaged(format!("`{name}` is damaged")))?;
    Ok((snapshot, unfinished))
}

struct Log {
    db: File,
    length: u64,
    blobs: PathBuf,
}

/// Segments: when they begin, and where.
type Segments = BTreeMap<i64, u64>;

impl Log {
    /// Looks for all that was on the disk: what is behind the snapshot up to the watermark.
    fn check(&mut self, snapshot: Snapshot, watermark: Option<Watermark>) -> Result<(), Finding> {
        let next = snapshot.next.unwrap_or(0);
        let first = begin(next);
        let Headers { segments, claimed, cleared, begins } = self.headers(first)?;
        let stable = watermark.map_or(claimed, |watermark| watermark.stable).max(next - 1);
        // The last ones are not used again before they are on the disk.
        let mut last = begin(claimed.max(first));
        while last <= stable {
            if !segments.contains_key(&last) {
                return Err(damaged("`db` lacks what was written last"));
            }
            last += SEGMENT as i64;
        }
        for at in cleared {
            let segment = self.segment(at)?;
            let numbers = number(first)..=number(stable);
            if segment.iter().any(|byte| *byte != 0) && holds_message(&segment, |number| numbers.contains(&number)) {
                return Err(damaged(format!("`db` is damaged at byte {at}")));
            }
        }
        let (pages, end) = self.walk(snapshot, &segments, stable)?;
        self.check_length(watermark, end)?;
        self.check_pages(&pages, &begins)
    }

    /// Looks whether the file is as long as it was. The engine itself makes it shorter, by whole segments, and
    /// longer again by parts of one; but not both within one segment of the log.
    fn check_length(&self, watermark: Option<Watermark>, end: i64) -> Result<(), Finding> {
        match watermark {
            Some(Watermark { stable, length })
                if self.length < length && !self.length.is_multiple_of(SEGMENT) && end - stable <= SEGMENT as i64 =>
            {
                Err(damaged(format!("`db` ends at byte {}, too early", self.length)))
            }
            _ => Ok(()),
        }
    }

    fn segment(&mut self, at: u64) -> io::Result<Vec<u8>> {
        let mut segment = Vec::new();
        self.db.seek(SeekFrom::Start(at))?;
        Read::by_ref(&mut self.db).take(SEGMENT).read_to_end(&mut segment)?;
        Ok(segment)
    }

    /// Reads the headers of all segments.
    fn headers(&mut self, first: i64) -> Result<Headers, Finding> {
        let mut headers = Headers { segments: Segments::new(), claimed: -1, cleared: Vec::new(), begins: Vec::new() };
        let mut at = 0;
        while at + SEGMENT_HEADER as u64 <= self.length {
            let mut header = [0; SEGMENT_HEADER];
            self.db.seek(SeekFrom::Start(at))?;
            self.db.read_exact(&mut header)?;
            let header = Header::read(&header);
            headers.begins.push(match header {
                Header::Written { lsn, .. } => Some(lsn),
                Header::Empty | Header::Damaged => None,
            });
            match header {
                Header::Written { lsn, stable } if lsn >= first => {
                    if headers.segments.insert(lsn, at).is_some() {
                        return Err(damaged(format!("`db` is damaged at byte {at}: this is there twice")));
                    }
                    headers.claimed = headers.claimed.max(stable);
                }
                Header::Written { .. } => {}
                Header::Empty => headers.cleared.push(at),
                Header::Damaged => return Err(damaged(format!("`db` is damaged at byte {at}"))),
            }
            at += SEGMENT;
        }
        Ok(headers)
    }

    /// Follows the pages through the log, of which all must be whole up to this place, and returns where they
    /// are and where the log ends.
    fn walk(
        &mut self,
        snapshot: Snapshot,
        segments: &Segments,
        stable: i64,
    ) -> Result<(HashMap<u64, Vec<Piece>>, i64), Finding> {
        let mut end = snapshot.next.unwrap_or(0);
        let mut pages: HashMap<_, _> = (0..).zip(snapshot.pages).collect();
        for (&begins, &base) in segments {
            let segment = self.segment(base)?;
            let own = number(begins);
            let mut at = SEGMENT_HEADER;
            while sled_format::may_begin(at) {
                let rest = segment.get(at..).unwrap_or_default();
                let on_the_disk = begins + at as i64 <= stable;
                let place = base + at as u64;
                let Some((message, _, length)) = sled_format::message(rest).filter(|(_, of, _)| *of == own) else {
                    if !on_the_disk {
                        return Ok((pages, end));
                    }
                    // It was being used again when all ended, and its second half was written before its
                    // header. The engine does so only with one of which nothing is needed.
                    let latest = own.max(number(stable));
                    if holds_message(rest, |number| number > latest) {
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
                        Blob::Damaged => return Ok((pages, end)),
                    }
                }
                end = end.max(begins + at as i64);
                let piece = |blob| Piece { lsn: begins + (place - base) as i64, at: place, blob };
                match message {
                    Message::Nothing => {}
                    Message::Cap => break,
                    Message::Replace { page, blob } => drop(pages.insert(page, vec![piece(blob)])),
                    Message::Link { page, blob } => {
                        // Links to what is not there belong to a page that was written anew since.
                        if let Some(pieces) = pages.get_mut(&page).filter(|pieces| !pieces.is_empty()) {
                            pieces.push(piece(blob));
                        }
                    }
                }
            }
        }
        Ok((pages, end))
    }

    /// Looks whether the pages are where they should be.
    fn check_pages(&self, pages: &HashMap<u64, Vec<Piece>>, begins: &[Option<i64>]) -> Result<(), Finding> {
        for piece in pages.values().flatten() {
            if piece.at >= self.length {
                return Err(damaged(format!("`db` ends at byte {}, too early", self.length)));
            }
            // A segment is used again when nothing in it is needed: then what has replaced this is lost.
            let segment = usize::try_from(piece.at / SEGMENT).ok().and_then(|segment| begins.get(segment));
            if segment != Some(&Some(begin(piece.lsn))) {
                return Err(damaged("`db` lacks what had replaced an older page"));
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
            Ok(bytes) if sled_format::is_blob(&bytes) => Ok(Blob::Whole),
            Ok(_) => Ok(Blob::Damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Blob::Missing),
            Err(error) => Err(error),
        }
    }
}

struct Headers {
    /// Those that the recovery will read.
    segments: Segments,
    /// Up to where they say that all was on the disk, or -1.
    claimed: i64,
    /// Those that are said to hold nothing.
    cleared: Vec<u64>,
    /// When each segment of the file begins.
    begins: Vec<Option<i64>>,
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

/// Returns the number of the segment of this place.
fn number(lsn: i64) -> u64 {
    lsn.max(0).cast_unsigned() / SEGMENT
}

/// Returns whether a whole message of such a segment is anywhere in these bytes.
fn holds_message(bytes: &[u8], of: impl Fn(u64) -> bool) -> bool {
    (0..bytes.len()).any(|at| sled_format::message(&bytes[at..]).is_some_and(|(_, number, _)| of(number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watermark::WatermarkFile;
    use proptest::prelude::*;

    /// Numbers at which something might overflow, and others.
    fn numbers() -> impl Strategy<Value = i64> {
        let segment = SEGMENT as i64;
        let edges = [i64::MIN, i64::MIN + 1, -segment, -2, -1, 0, 1, segment, i64::MAX / segment * segment, i64::MAX];
        prop_oneof![
            prop::sample::select(edges.to_vec()),
            any::<i64>(),
            any::<i64>().prop_map(move |n| n / segment * segment)
        ]
    }

    fn segment_header(lsn: i64, stable: i64) -> Vec<u8> {
        let content = [(lsn ^ i64::MAX).to_le_bytes(), (stable ^ i64::MAX).to_le_bytes()].concat();
        [&(!crc32fast::hash(&content)).to_le_bytes()[..], &content].concat()
    }

    fn snapshot(next: i64) -> Vec<u8> {
        // And no segment in use.
        let content = [&next.to_le_bytes()[..], &[0]].concat();
        let sum = crc32fast::hash(&content).to_le_bytes();
        [&content[..], &(content.len() as u64).to_le_bytes(), &sum].concat()
    }

    proptest! {
        /// Files whose checksums are right may still hold any number.
        #[test]
        fn hostile_numbers_are_refused_or_read(
            lsns in prop::collection::vec((numbers(), numbers()), 1..4),
            next in numbers(),
            watermark in prop::option::of((numbers(), any::<u64>())),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            let mut db = Vec::new();
            for (lsn, stable) in lsns {
                db.extend(segment_header(lsn, stable));
                db.resize(db.len().next_multiple_of(SEGMENT as usize), 0);
            }
            fs::write(path.join("db"), db).unwrap();
            fs::write(path.join("snap.0000000000000001"), snapshot(next)).unwrap();
            let conf = format!("segment_size: {SEGMENT}\nuse_compression: false\nversion: 0.34\n").into_bytes();
            let sum = crc32fast::hash(&conf).to_le_bytes();
            fs::write(path.join("conf"), [&conf[..], &sum].concat()).unwrap();
            if let Some((stable, length)) = watermark {
                WatermarkFile::open(path).unwrap().write(Watermark { stable, length }).unwrap();
            }
            let verified = verify(path);
            prop_assert!(matches!(verified, Ok(()) | Err(Finding::Damaged(_))), "{:?}", verified);
        }
    }
}
