//! The watermark: how far a database had come when it was last brought to the disk.
//!
//! It is a file of ours beside the engine's, written after each sync and not synced itself, so that its place in
//! the log may be behind what is there, and never before it. What it names and is not there was lost.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::Path;

use crate::sled_format::LAST_LSN;

/// Its name in the directory of the database.
const NAME: &str = "sosa.mark";

/// The version of its layout, and what tells it from other files.
const MAGIC: &[u8; 8] = b"sosa\0\0\0\x01";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// The place in the log up to which all was on the disk, itself included.
    pub(crate) stable: i64,
    /// The length of the log's file.
    pub(crate) length: u64,
}

/// The file, as it is written.
pub(crate) struct WatermarkFile(File);

impl WatermarkFile {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        File::options().create(true).truncate(false).write(true).open(directory.join(NAME)).map(Self)
    }

    /// Brings it to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    pub(crate) fn write(&mut self, watermark: Watermark) -> io::Result<()> {
        // In one piece, which no page of the system's divides.
        self.0.rewind()?;
        self.0.write_all(&watermark.to_bytes())
    }
}

impl Watermark {
    /// Reads the watermark of a database: `None` if it has none, and an error of the kind `InvalidData` if it is
    /// damaged.
    pub(crate) fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read(directory.join(NAME)) {
            // A machine that stopped as the file was new leaves it empty, or without its content.
            Ok(bytes) if bytes.iter().all(|byte| *byte == 0) => Ok(None),
            Ok(bytes) => match Self::from_bytes(&bytes) {
                Some(watermark) => Ok(Some(watermark)),
                None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{NAME}` is damaged"))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn to_bytes(self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.stable.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_be_bytes());
        let sum = crc32fast::hash(&bytes[..24]);
        bytes[24..].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 28] = bytes.try_into().ok()?;
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let watermark = Self { stable: number(8)?.cast_signed(), length: number(16)? };
        let is_lsn = (-1..=LAST_LSN).contains(&watermark.stable);
        (is_lsn && watermark.to_bytes() == *bytes).then_some(watermark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_comes_back_and_no_bit_of_it_may_change() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Watermark::read(directory.path()).unwrap(), None);
        let mut file = WatermarkFile::open(directory.path()).unwrap();
        for watermark in [Watermark { stable: -1, length: 0 }, Watermark { stable: LAST_LSN, length: u64::MAX }] {
            file.write(watermark).unwrap();
            assert_eq!(Watermark::read(directory.path()).unwrap(), Some(watermark));
            for bit in 0..28 * 8 {
                let mut bytes = watermark.to_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Watermark::from_bytes(&bytes), None);
            }
        }
    }
}
