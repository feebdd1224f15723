//! The files of sled databases, whose checksums are right whatever they hold: the look at them before the engine opens
//! them refuses or allows, and ends. And of a log as the engine writes it no bit may change up to the watermark.
#![no_main]

// The look is no part of sosa-sled's interface, so that its files are built in.
#[path = "../../../../sosa-sled/src/sled_format.rs"]
#[allow(dead_code)]
mod sled_format;
#[path = "../../../../sosa-sled/src/verify.rs"]
#[allow(dead_code)]
mod verify;
#[path = "../../../../sosa-sled/src/watermark.rs"]
#[allow(dead_code)]
mod watermark;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sled_format::{LAST_LSN, SEGMENT, SEGMENT_HEADER};
use tempfile::TempDir;
use verify::{Finding, verify};
use watermark::{Watermark, WatermarkFile};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    if input.byte().is_multiple_of(2) { hostile(input) } else { intact(input) }
});

/// What is left to read of the input; behind its end all is zero.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// A number at which something might overflow, a place in the first segments, or any.
    fn number(&mut self) -> i64 {
        let segment = SEGMENT as i64;
        match self.byte() {
            kind @ 0..=31 => i64::from(kind) * segment,
            32 => -1,
            33 => LAST_LSN,
            34 => LAST_LSN / segment * segment,
            35 => i64::MAX,
            36 => i64::MIN,
            kind @ 37..=127 => i64::from(kind % 4) * segment + i64::from(self.byte()) * 256 + i64::from(self.byte()),
            _ => i64::from_le_bytes(self.bytes(8).try_into().expect("eight")),
        }
    }
}

/// Any segments with any messages, any snapshot, any watermark.
fn hostile(mut input: Input<'_>) {
    let directory = directory();
    let flags = input.byte();
    if flags & 1 > 0 {
        let watermark = Watermark { stable: input.number(), length: input.number().cast_unsigned() };
        WatermarkFile::open(directory.path()).and_then(|mut file| file.write(watermark)).expect("written");
    }
    if flags & 2 > 0 {
        let (next, length) = (input.number(), input.byte());
        let content = [&next.to_le_bytes()[..], &input.bytes(usize::from(length))].concat();
        let name = if flags & 4 > 0 { "snap.0000000000000001" } else { "snap.0000000000000001.generating" };
        fs::write(directory.path().join(name), with_trailer(&content)).expect("written");
    }
    for blob in 0..flags >> 6 {
        let content = input.bytes(4);
        let sum = if blob == 0 { crc32fast::hash(&content) } else { 0 };
        fs::write(directory.path().join(format!("blobs/{blob}")), [&sum.to_le_bytes()[..], &content].concat())
            .expect("written");
    }
    let mut db = File::create(directory.path().join("db")).expect("created");
    for place in 0..1 + u64::from(flags >> 4 & 3) {
        let (lsn, stable) = (input.number(), input.number());
        let mut segment = header(lsn, stable);
        for _ in 0..input.byte() % 32 {
            let number = match input.byte() % 4 {
                0 => input.number().cast_unsigned(),
                _ => lsn.max(0).cast_unsigned() / SEGMENT,
            };
            let (kind, page, length) = (input.byte() % 12, input.byte(), input.byte());
            let body = input.bytes(usize::from(length));
            segment.extend(message(kind, number, page.into(), &body));
        }
        write(&mut db, place * SEGMENT, &segment);
    }
    db.set_len(if flags & 8 > 0 { input.number().clamp(0, 4 * SEGMENT as i64).cast_unsigned() } else { 4 * SEGMENT })
        .expect("as long");
    let found = verify(directory.path());
    assert!(matches!(found, Ok(()) | Err(Finding::Damaged(_))), "{found:?}");
    assert_eq!(found.is_ok(), verify(directory.path()).is_ok(), "it depends on whether it was asked before");
}

/// A log as the engine writes it, and one bit of it changed.
fn intact(mut input: Input<'_>) {
    let directory = directory();
    let mut db = File::create(directory.path().join("db")).expect("created");
    let segments = 1 + u64::from(input.byte() % 3);
    // Which bytes of the file hold something.
    let mut written = Vec::new();
    let mut stable = 0;
    for number in 0..segments {
        let lsn = (number * SEGMENT).cast_signed();
        let mut segment = header(lsn, lsn - 1);
        for _ in 0..1 + input.byte() % 16 {
            // A page that is replaced, or something to be passed over.
            let kind = [4, 5, 6, 8, 1, 3][usize::from(input.byte() % 6)];
            let (page, length) = (input.byte(), input.byte());
            let body = input.bytes(usize::from(length));
            segment.extend(message(kind, number, page.into(), &body));
        }
        if number + 1 < segments {
            segment.extend(message(2, number, 0, &[]));
        }
        // The order of segments in the file is their own affair.
        let place = (segments - 1 - number) * SEGMENT;
        write(&mut db, place, &segment);
        written.extend(place..place + segment.len() as u64);
        stable = lsn + segment.len() as i64 - 1;
    }
    let length = segments * SEGMENT;
    db.set_len(length).expect("as long");
    let watermark = Watermark { stable, length };
    WatermarkFile::open(directory.path()).and_then(|mut file| file.write(watermark)).expect("written");
    let found = verify(directory.path());
    assert!(found.is_ok(), "an intact log is refused: {found:?}");

    let bit = u32::from_le_bytes(input.bytes(4).try_into().expect("four")) as usize % (written.len() * 8);
    let path = directory.path().join("db");
    let mut bytes = fs::read(&path).expect("read");
    bytes[written[bit / 8] as usize] ^= 1 << (bit % 8);
    fs::write(&path, bytes).expect("written");
    let found = verify(directory.path());
    assert!(matches!(found, Err(Finding::Damaged(_))), "bit {bit}: {found:?}");
}

/// A directory in which the engine would open a log. In memory, where there is such a place.
fn directory() -> TempDir {
    static MEMORY: LazyLock<bool> = LazyLock::new(|| Path::new("/dev/shm").is_dir());
    let directory = if *MEMORY { tempfile::tempdir_in("/dev/shm") } else { tempfile::tempdir() }.expect("created");
    let conf = format!("segment_size: {SEGMENT}\nuse_compression: false\nversion: 0.34\n").into_bytes();
    let sum = crc32fast::hash(&conf).to_le_bytes();
    fs::write(directory.path().join("conf"), [&conf[..], &sum].concat()).expect("written");
    fs::create_dir(directory.path().join("blobs")).expect("created");
    directory
}

fn write(db: &mut File, place: u64, segment: &[u8]) {
    db.seek(SeekFrom::Start(place)).and_then(|_| db.write_all(segment)).expect("written");
}

/// The header of a segment.
fn header(lsn: i64, stable: i64) -> Vec<u8> {
    let content = [(lsn ^ i64::MAX).to_le_bytes(), (stable ^ i64::MAX).to_le_bytes()].concat();
    let header = [&(!crc32fast::hash(&content)).to_le_bytes()[..], &content].concat();
    assert_eq!(header.len(), SEGMENT_HEADER);
    header
}

/// A message, whole.
fn message(kind: u8, number: u64, page: u64, body: &[u8]) -> Vec<u8> {
    let mut header = vec![kind];
    for number in [body.len() as u64, number, page] {
        // The longest form, which holds any number.
        header.push(255);
        header.extend(number.to_le_bytes());
    }
    let mut hash = crc32fast::Hasher::new();
    hash.update(body);
    hash.update(&header);
    [&(!hash.finalize()).to_le_bytes()[..], &header, body].concat()
}

/// The content of a snapshot's file, with its length and its checksum.
fn with_trailer(content: &[u8]) -> Vec<u8> {
    let sum = crc32fast::hash(content).to_le_bytes();
    [content, &(content.len() as u64).to_le_bytes(), &sum].concat()
}
