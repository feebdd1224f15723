//! Signed values: only the very one that the server gave out opens its session.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sosa_fuzz::{Known, Site, now};

static SIGNED: Known = Known::new(|| {
    let site = Site::signed();
    let cookie = site.log_in();
    (site, cookie)
});

fn decoded(value: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
        match (first, hex(after.first()), hex(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

// The input says which bytes of the right value are changed, or is a value itself.
fuzz_target!(|input: &[u8]| {
    let (site, cookie) = &*SIGNED;
    let (name, right) = cookie.split_once('=').expect("a pair");
    let value = match input.split_first() {
        Some((0, edits)) => {
            let mut value = right.as_bytes().to_vec();
            for edit in edits.chunks_exact(2) {
                let at = usize::from(edit[0]) % value.len();
                value[at] = edit[1];
            }
            value
        }
        Some((1, more)) => [right.as_bytes(), more].concat(),
        Some((2, more)) => [more, right.as_bytes()].concat(),
        _ => input.to_vec(),
    };
    if value.iter().any(|byte| b";\"".contains(byte)) {
        return;
    }
    let header = [name.as_bytes(), b"=", &value].concat();
    let user = now(site.open(&header).get::<String>("user")).expect("memory does not fail");
    let is_right = decoded(value.trim_ascii()) == decoded(right.as_bytes());
    assert_eq!(user.is_some(), is_right, "{:?}", String::from_utf8_lossy(&value));
});
