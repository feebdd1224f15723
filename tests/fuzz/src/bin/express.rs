//! Records of Express: whatever is in them, they are read or refused, and an edit leaves all else as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use sosa_fuzz::{Known, Site, now};

static EXPRESS: Known = Known::new(|| {
    let site = Site::express();
    let cookie = site.log_in();
    (site, cookie)
});

fuzz_target!(|text: &[u8]| {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (site, cookie) = &*EXPRESS;
    if !site.put(text) {
        return;
    }
    // See `records`.
    let Ok(before) = serde_json::from_str::<Map<String, Value>>(text) else { return };
    let session = site.open(cookie.as_bytes());
    let read = now(session.keys());
    if read.is_ok() {
        now(session.insert("edited", 1)).expect("a key of no meaning");
        if now(site.sessions.close(&session)).is_ok() {
            let mut after: Map<String, Value> = serde_json::from_str(site.record().as_json()).expect("a record");
            assert_eq!(after.remove("edited"), Some(1.into()));
            let mut before = before;
            before.remove("edited");
            let (old, new) = (before.remove("cookie"), after.remove("cookie"));
            assert_eq!(after, before);
            let only_date = |cookie: Option<Value>| {
                let mut cookie = cookie.and_then(|cookie| cookie.as_object().cloned()).unwrap_or_default();
                cookie.remove("expires");
                cookie
            };
            assert_eq!(only_date(new), only_date(old));
        }
    } else {
        now(session.discard());
        drop(now(site.sessions.close(&session)));
    }
    // What is to be tried next needs a record, which a request may have removed.
    if now(sosa::Collection::list(&site.store)).expect("listed").ids().next().is_none() {
        std::process::abort();
    }
});
