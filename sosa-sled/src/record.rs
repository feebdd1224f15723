//! How an entry is stored: a header, and the codec's bytes, or how many of them lie in pieces elsewhere.

use sosa::{Deadline, Error, ErrorKind, Result, Revision};

/// The first byte of a record whose value follows its header.
const WHOLE: u8 = 1;

/// The first byte of a record whose value lies in [pieces](crate::pieces).
const IN_PIECES: u8 = 2;

/// Version, deadline and revision.
const HEADER: usize = 1 + 8 + 8;

/// What is stored under a key.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) deadline: Deadline,
    /// Drawn anew by each save, so that no state matches an older one.
    pub(crate) revision: u64,
    pub(crate) value: Value<'a>,
}

/// The value, as the codec encoded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Whole(&'a [u8]),
    /// It lies in pieces under the record's revision, and has this many bytes.
    InPieces(u64),
}

impl<'a> Record<'a> {
    /// Writes the record out.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let length;
        let (version, rest) = match self.value {
            Value::Whole(value) => (WHOLE, value),
            Value::InPieces(bytes) => {
                length = bytes.to_be_bytes();
                (IN_PIECES, &length[..])
            }
        };
        let mut bytes = Vec::with_capacity(HEADER + rest.len());
        bytes.push(version);
        bytes.extend(self.deadline.as_millis().unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(self.revision.to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` if it is no such record.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let u64_at = |at: usize| header[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let value = match header[0] {
            WHOLE => Value::Whole(rest),
            IN_PIECES => Value::InPieces(u64::from_be_bytes(rest.try_into().ok()?)),
            _ => return None,
        };
        Some(Self { deadline: Deadline::from_millis(u64_at(1)?), revision: u64_at(9)?, value })
    }

    /// Does as [`parse`](Self::parse), for those who want the value.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self> {
        Self::parse(bytes).ok_or_else(|| Error::new(ErrorKind::Decode, "what is stored is no record of this version"))
    }
}

/// What conditions are checked against. What is no record is an entry that never expires, in no state
/// that anybody has read.
pub(crate) fn state(bytes: &[u8]) -> (Revision, Deadline) {
    match Record::parse(bytes) {
        Some(record) => (record.revision.into(), record.deadline),
        None => (Revision::NONE, Deadline::NEVER),
    }
}

/// Returns whether the entry has expired.
pub(crate) fn is_past(bytes: &[u8], now_millis: u64) -> bool {
    state(bytes).1.is_past(now_millis)
}

/// Returns under which revision the value lies in pieces, if it does.
pub(crate) fn revision_of_pieces(bytes: &[u8]) -> Option<u64> {
    match Record::parse(bytes)? {
        Record { value: Value::InPieces(_), revision, .. } => Some(revision),
        Record { value: Value::Whole(_), .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Stored data depends on this: a change is a breaking change of the stored format.
    #[test]
    fn golden_record() {
        let deadline = Deadline::from_millis(0x0102_0304_0506);
        let record = Record { deadline, revision: 0x1112_1314_1516_1718, value: Value::Whole(b"{}") };
        assert_eq!(record.to_bytes(), b"\x01\0\0\x01\x02\x03\x04\x05\x06\x11\x12\x13\x14\x15\x16\x17\x18{}");
        let never = Record { deadline: Deadline::NEVER, revision: 0, value: Value::Whole(b"") };
        assert_eq!(never.to_bytes(), b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0");
        let in_pieces = Record { value: Value::InPieces(0x0203), ..record };
        let expected = b"\x02\0\0\x01\x02\x03\x04\x05\x06\x11\x12\x13\x14\x15\x16\x17\x18\0\0\0\0\0\0\x02\x03";
        assert_eq!(in_pieces.to_bytes(), expected);
    }

    #[test]
    fn what_is_no_record_is_an_entry_all_the_same() {
        for bytes in [&b""[..], &[WHOLE; HEADER - 1], &[IN_PIECES; HEADER], &[IN_PIECES + 1; HEADER + 8]] {
            assert_eq!(Record::read(bytes).err().map(|error| error.kind()), Some(ErrorKind::Decode));
            assert_eq!((state(bytes), revision_of_pieces(bytes)), ((Revision::NONE, Deadline::NEVER), None));
            assert!(!is_past(bytes, u64::MAX));
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back(millis: Option<u32>, revision: u64, value: Vec<u8>, length: Option<u64>) {
            let deadline = millis.map_or(Deadline::NEVER, |millis| Deadline::from_millis(millis.into()));
            let value = length.map_or(Value::Whole(&value), Value::InPieces);
            let bytes = Record { deadline, revision, value }.to_bytes();
            let record = Record::parse(&bytes).unwrap();
            prop_assert_eq!((record.deadline, record.revision, record.value), (deadline, revision, value));
            prop_assert_eq!(state(&bytes), (Revision::from(revision), deadline));
            prop_assert_eq!(revision_of_pieces(&bytes), length.map(|_| revision));
        }
    }
}
