//! Ids and cookies that are no longer used are not left in memory. A program of its own, whose only thread takes its
//! memory from the heap that it looks through: `harness = false`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use sosa_session::{RequestHead, SessionOptions, Sessions, SigningKey};
use tokio::runtime::Builder;

const SESSIONS: usize = 200;

/// So that what is looked for is not found where it is kept.
fn hide(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte ^= 0x5a);
}

/// Returns what is in the heap.
fn heap() -> Vec<u8> {
    let maps = fs::read_to_string("/proc/self/maps").expect("a list");
    let heap = maps.lines().find(|line| line.ends_with("[heap]")).expect("there is a heap");
    let (range, _) = heap.split_once(' ').expect("a range");
    let (from, to) = range.split_once('-').expect("two addresses");
    let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).expect("an address"));
    // Larger than what the allocator takes from the heap, so that the copy is not in it.
    let length = (to - from) as usize;
    let mut bytes = vec![0; length.max(64 << 20)];
    File::open("/proc/self/mem").expect("our own").read_exact_at(&mut bytes[..length], from).expect("read");
    bytes.truncate(length);
    bytes
}

fn main() {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    for key in [None, Some(SigningKey::new("0123456789abcdef0123456789abcdef").expect("a key"))] {
        let is_signed = key.is_some();
        let options = SessionOptions::memory();
        let sessions = Sessions::new(match key {
            Some(key) => options.signed([key]),
            None => options,
        });
        let mut hidden = Vec::with_capacity(SESSIONS);
        for _ in 0..SESSIONS {
            let mut pair = runtime.block_on(async {
                let session = sessions.open(RequestHead::new([]));
                session.insert("user", "ada").await.expect("inserted");
                let cookie = sessions.close(&session).await.expect("saved").into_set_cookie().expect("a new one");
                cookie.value().split(';').next().expect("a pair").as_bytes().to_vec()
            });
            runtime.block_on(async {
                let session = sessions.open(RequestHead::new([("cookie", &*pair)]));
                assert_eq!(session.get::<String>("user").await.expect("read").as_deref(), Some("ada"));
                session.renew().await.expect("asked for");
                drop(sessions.close(&session).await.expect("renewed"));
            });
            hide(&mut pair);
            hidden.push(pair);
        }
        // What is in the heap is found, so that this can fail.
        let marker = ["a marker ", if is_signed { "with a signature" } else { "without one" }].concat();
        let heap = heap();
        let holds = |secret: &[u8]| heap.windows(secret.len()).any(|window| window == secret);
        assert!(holds(marker.as_bytes()), "the heap is read");
        let mut left = 0;
        for secret in &mut hidden {
            hide(secret);
            // The id alone: behind the name, and what stands before a signed one.
            let from = "__Host-id=".len() + if is_signed { "s%3A".len() } else { 0 };
            left += usize::from(holds(&secret[from..from + 32]));
        }
        assert_eq!(left, 0, "of {SESSIONS}, signed: {is_signed}");
    }
}
