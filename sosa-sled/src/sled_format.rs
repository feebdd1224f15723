//! The files of sled 0.34 as they lie on the disk, read without the engine.
//!
//! The log is the file `db`: segments of one size, of which each begins with a header and holds messages.
//! A message has a place in the file and, since segments are used again, another one in time: its
//! *lsn*. A page is where its last replacement and the links behind that are. A snapshot is where all pages
//! were at one lsn. What is large is a file of its own, a blob, named by an lsn. The format is that of the
//! engine's modules `pagecache::{logger, snapshot}` and `serialization`; it was frozen with the engine.

/// How long a segment is, unless the engine was configured otherwise.
pub(crate) const SEGMENT: u64 = 512 * 1024;

/// The last place in time that is believed: no log comes so far, and none of what is computed from it overflows.
pub(crate) const LAST_LSN: i64 = i64::MAX / 4;

/// How long the header of a segment is.
pub(crate) const SEGMENT_HEADER: usize = 20;

/// The room that the engine keeps for the header of a message: no message begins in the last of a segment.
const MESSAGE_HEADER: usize = 32;

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// Nothing was written here, or the engine has cleared it.
    Empty,
    /// When its first byte is, and up to where all was on the disk as it was begun.
    Written { lsn: i64, stable: i64 },
    /// Neither.
    Damaged,
}

impl Header {
    pub(crate) fn read(bytes: &[u8; SEGMENT_HEADER]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Empty;
        }
        let mut rest = &bytes[..];
        let (Some(sum), Some(lsn), Some(stable)) = (le32(&mut rest), le64(&mut rest), le64(&mut rest)) else {
            return Self::Damaged;
        };
        let (lsn, stable) = (lsn ^ i64::MAX, stable ^ i64::MAX);
        let is_lsn = (0..=LAST_LSN).contains(&lsn) && lsn % SEGMENT as i64 == 0;
        if crc32fast::hash(&bytes[4..]) != !sum || !is_lsn || !(-1..=LAST_LSN).contains(&stable) {
            return Self::Damaged;
        }
        Self::Written { lsn, stable }
    }
}

/// What a message says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Nothing: a write that was given up, or the end of a batch.
    Nothing,
    /// The rest of the segment is unused.
    Cap,
    /// The page is what is here, or in this blob, or nothing any more.
    Replace { page: u64, blob: Option<i64> },
    /// The page is changed by what is here, or in this blob.
    Link { page: u64, blob: Option<i64> },
}

/// Reads the message that begins here, and returns it with the number of its segment (its lsn by the length of
/// one) and its own length; `None` if none is whole.
pub(crate) fn message(bytes: &[u8]) -> Option<(Message, u64, usize)> {
    let mut rest = bytes;
    let sum = le32(&mut rest)?;
    let kind = byte(&mut rest)?;
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    let (number, page) = (varint(&mut rest)?, varint(&mut rest)?);
    let header = bytes.len() - rest.len();
    let body = rest.get(..length)?;
    let blob = || le64(&mut &body[..]);
    let message = match kind {
        1 | 3 => Message::Nothing,
        2 => Message::Cap,
        4..=6 | 8 => Message::Replace { page, blob: None },
        7 | 9 => Message::Replace { page, blob: Some(blob()?) },
        10 => Message::Link { page, blob: None },
        11 => Message::Link { page, blob: Some(blob()?) },
        _ => return None,
    };
    let mut hash = crc32fast::Hasher::new();
    hash.update(body);
    hash.update(&bytes[4..header]);
    (hash.finalize() == !sum).then_some((message, number, header + length))
}

/// Returns whether a message may begin here.
pub(crate) fn may_begin(at: usize) -> bool {
    at + MESSAGE_HEADER <= SEGMENT as usize
}

/// Returns whether a blob is whole.
pub(crate) fn is_blob(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    le32(&mut rest).is_some_and(|sum| !rest.is_empty() && crc32fast::hash(rest) == sum)
}

/// Where all pages were.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// When that was: the lsn of the message after. None if nothing was written yet.
    pub(crate) next: Option<i64>,
    /// The pieces of each page, by its number; none if it is free.
    pub(crate) pages: Vec<Vec<Piece>>,
}

/// Where a piece of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// When it was written.
    pub(crate) lsn: i64,
    /// In the file `db`.
    pub(crate) at: u64,
    pub(crate) blob: Option<i64>,
}

impl Snapshot {
    /// Reads a snapshot's file; `None` if it is not whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        // Behind it are its length, for those who compress it, and its checksum.
        let (content, trailer) = bytes.split_at_checked(bytes.len().checked_sub(12)?)?;
        if crc32fast::hash(content) != le32(&mut &trailer[8..])? {
            return None;
        }
        let mut rest = content;
        let next = match le64(&mut rest)? {
            0 => None,
            -1 => Some(-1),
            lsn => Some(lsn.checked_sub(1).filter(|lsn| (0..=LAST_LSN).contains(lsn))?),
        };
        // The segment in use: the log tells.
        varint(&mut rest)?;
        let mut pages = Vec::new();
        while !rest.is_empty() {
            pages.push(match byte(&mut rest)? {
                // A free page: since when, and where that is written.
                0 => {
                    Piece::read(&mut rest)?;
                    Vec::new()
                }
                pieces => (0..pieces)
                    .map(|_| {
                        let piece = Piece::read(&mut rest)?;
                        varint(&mut rest)?;
                        Some(piece)
                    })
                    .collect::<Option<_>>()?,
            });
        }
        Some(Self { next, pages })
    }
}

impl Piece {
    fn read(rest: &mut &[u8]) -> Option<Self> {
        let lsn = le64(rest)?;
        let kind = byte(rest)?;
        let at = varint(rest)?;
        let blob = match kind {
            0 => None,
            1 => Some(le64(rest)?),
            _ => return None,
        };
        Some(Self { lsn, at, blob })
    }
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, behind) = rest.split_first()?;
    *rest = behind;
    Some(*first)
}

fn le32(rest: &mut &[u8]) -> Option<u32> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_le_bytes(*first))
}

fn le64(rest: &mut &[u8]) -> Option<i64> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(i64::from_le_bytes(*first))
}

/// Small numbers in fewer bytes: as `SQLite` 4 writes them, but the long ones with the lowest byte first.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let first = u64::from(byte(rest)?);
    Some(match first {
        0..=240 => first,
        241..=248 => 240 + 256 * (first - 241) + u64::from(byte(rest)?),
        249 => 2288 + 256 * u64::from(byte(rest)?) + u64::from(byte(rest)?),
        _ => {
            let (low, behind) = rest.split_at_checked(first as usize - 247)?;
            *rest = behind;
            let mut number = [0; 8];
            number[..low.len()].copy_from_slice(low);
            u64::from_le_bytes(number)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_of_each_length() {
        for (bytes, number) in [
            (&[0][..], 0),
            (&[240], 240),
            (&[241, 0], 240),
            (&[248, 255], 2287),
            (&[249, 0, 0], 2288),
            (&[249, 255, 255], 67_823),
            (&[250, 1, 2, 3], 0x03_02_01),
            (&[255, 255, 255, 255, 255, 255, 255, 255, 255], u64::MAX),
        ] {
            assert_eq!(varint(&mut &bytes[..]), Some(number));
            assert_eq!(varint(&mut &bytes[..bytes.len() - 1]), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            Snapshot::read(&bytes);
            is_blob(&bytes);
            message(&bytes);
        }
    }
}
