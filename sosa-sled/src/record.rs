//! How an entry is stored: a header, and the codec's bytes.

use sosa::{Deadline, Error, ErrorKind, Result, Revision};

/// The version of the layout: the first byte of every record.
const VERSION: u8 = 1;

/// Version, deadline and revision.
const HEADER: usize = 1 + 8 + 8;

/// What is stored under a key.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) deadline: Deadline,
    /// Drawn anew by each save, so that no state matches an older one.
    pub(crate) revision: u64,
    /// The value, as the codec encoded it.
    pub(crate) value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Writes the record out.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.value.len());
        bytes.push(VERSION);
        bytes.extend(self.deadline.as_millis().unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(self.revision.to_be_bytes());
        bytes.extend(self.value);
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` if it is no such record.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, value) = bytes.split_at_checked(HEADER)?;
        if header[0] != VERSION {
            return None;
        }
        let number = |at: usize| header[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        Some(Self { deadline: Deadline::from_millis(number(1)?), revision: number(9)?, value })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Stored data depends on this: a change is a breaking change of the stored format.
    #[test]
    fn golden_record() {
        let deadline = Deadline::from_millis(0x0102_0304_0506);
        let bytes = Record { deadline, revision: 0x1112_1314_1516_1718, value: b"{}" }.to_bytes();
        assert_eq!(bytes, b"\x01\0\0\x01\x02\x03\x04\x05\x06\x11\x12\x13\x14\x15\x16\x17\x18{}");
        let never = Record { deadline: Deadline::NEVER, revision: 0, value: b"" }.to_bytes();
        assert_eq!(never, b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn what_is_no_record_is_an_entry_all_the_same() {
        for bytes in [&b""[..], &[VERSION; HEADER - 1], &[VERSION + 1; HEADER]] {
            assert_eq!(Record::read(bytes).err().map(|error| error.kind()), Some(ErrorKind::Decode));
            assert_eq!(state(bytes), (Revision::NONE, Deadline::NEVER));
            assert!(!is_past(bytes, u64::MAX));
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back(millis: Option<u32>, revision: u64, value: Vec<u8>) {
            let deadline = millis.map_or(Deadline::NEVER, |millis| Deadline::from_millis(millis.into()));
            let bytes = Record { deadline, revision, value: &value }.to_bytes();
            let record = Record::parse(&bytes).unwrap();
            prop_assert_eq!((record.deadline, record.revision, record.value), (deadline, revision, &value[..]));
            prop_assert_eq!(state(&bytes), (Revision::from(revision), deadline));
        }
    }
}
