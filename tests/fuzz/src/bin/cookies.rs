//! Cookie headers: none opens a session but by its own id, whatever stands around it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sosa_fuzz::{Known, Site, now};

static PLAIN: Known = Known::new(|| {
    let site = Site::plain();
    let cookie = site.log_in();
    (site, cookie)
});

fuzz_target!(|header: &[u8]| {
    let (site, cookie) = &*PLAIN;
    let user = now(site.open(header).get::<String>("user")).expect("memory does not fail");
    let (_, id) = cookie.split_once('=').expect("a pair");
    let holds_id = header.windows(id.len()).any(|window| window == id.as_bytes());
    assert!(user.is_none() || holds_id, "a session was opened without its id");
    // Behind anything that ends with a semicolon, the right cookie counts: unless eight of our form come before it.
    let after = [header, b"; ", cookie.as_bytes()].concat();
    let candidates = header.windows(10).filter(|window| window.eq_ignore_ascii_case(b"__Host-id=")).count();
    if candidates < 8 && !header.contains(&b'"') {
        assert_eq!(now(site.open(&after).get::<String>("user")).expect("read").as_deref(), Some("ada"));
    }
});
