//! Records: what is read is what a JSON parser reads, and an edit changes its key and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use sosa_fuzz::{Known, Site, now};
use sosa_session::SessionData;

static PLAIN: Known = Known::new(|| {
    let site = Site::plain();
    let cookie = site.log_in();
    (site, cookie)
});

fuzz_target!(|text: &[u8]| {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(data) = text.parse::<SessionData>() else { return };
    assert_eq!(data.as_json(), text);
    // Half a surrogate pair and numbers beyond all floats, which JavaScript writes or reads, are kept as they are, though
    // serde_json reads neither.
    let Ok(map) = serde_json::from_str::<Map<String, Value>>(text) else { return };
    let members: Map<String, Value> = data
        .iter()
        .map(|(key, json)| (key.into_owned(), serde_json::from_str(json).expect("a member is JSON")))
        .collect();
    let mut expected = map.clone();
    expected.retain(|key, _| members.contains_key(key));
    assert_eq!(members, expected);
    assert!(map.keys().filter(|key| !members.contains_key(*key)).all(|key| key == "sosa" || key == "cookie"));

    // A session of before may be any of them.
    let (site, cookie) = &*PLAIN;
    let own = site.record();
    let own: Map<String, Value> = serde_json::from_str(own.as_json()).expect("a record");
    let mut record = members;
    record.remove("sosa");
    record.insert("sosa".to_owned(), own["sosa"].clone());
    if !site.put(&Value::from(record.clone()).to_string()) {
        return;
    }
    let session = site.open(cookie.as_bytes());
    let Ok(keys) = now(session.keys()) else { return };
    record.remove("sosa");
    assert_eq!(keys.len(), record.len());
    let Some(first) = keys.first() else { return };
    if now(session.insert(first.clone(), "edited")).is_err() {
        return;
    }
    drop(now(site.sessions.close(&session)).expect("saved"));
    record.insert(first.clone(), "edited".into());
    let mut saved: Map<String, Value> = serde_json::from_str(site.record().as_json()).expect("a record");
    saved.remove("sosa");
    assert_eq!(saved, record);
});
