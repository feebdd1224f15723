use std::borrow::Cow;

use super::*;
use crate::class::Class;
use proptest::prelude::*;

fn borrowed<'a>(members: &[(&'a str, &'a str)]) -> Vec<(Cow<'a, [u8]>, &'a [u8])> {
    members.iter().map(|(key, value)| (Cow::Borrowed(key.as_bytes()), value.as_bytes())).collect()
}

fn rewrite(base: &SessionData, own: NewOwn<'_>, members: &[(Cow<'_, [u8]>, &[u8])]) -> SessionData {
    base.record().rewrite(own, members).unwrap().into()
}

fn own(rev: u64, created: u64) -> NewOwn<'static> {
    NewOwn::Sosa(OwnMember { rev, created, ..OwnMember::default() }, None)
}

/// Stored records look like this: a change is a breaking change of the stored format.
#[test]
fn golden_records() {
    let members = borrowed(&[("user", "\"zoë\""), ("n", "1e+21"), ("cut", r#""\ud83d""#)]);
    let data = rewrite(&SessionData::default(), own(2, 1_700_000_000_000), &members);
    assert_eq!(
        data.as_json(),
        r#"{"sosa":{"v":1,"rev":2,"created":1700000000000},"user":"zoë","n":1e+21,"cut":"\ud83d"}"#
    );
    assert_eq!(serde_json::to_string(&data).unwrap(), data.as_json());
    let read: SessionData = serde_json::from_str(data.as_json()).unwrap();
    assert_eq!(read.0, data.0, "what was read is what was written");
    assert_eq!(read.get::<String>("user").unwrap().as_deref(), Some("zoë"));
    assert_eq!(read.json("cut"), Some(r#""\ud83d""#));
    assert_eq!(read.get::<String>("cut").unwrap_err().kind(), ErrorKind::Decode);
    assert_eq!(read.get::<u8>("sosa").unwrap(), None);

    let empty = rewrite(&SessionData::default(), own(1, 7), &[]);
    assert_eq!(empty.as_json(), r#"{"sosa":{"v":1,"rev":1,"created":7}}"#);
    assert_eq!(rewrite(SessionData::empty(), NewOwn::None, &members[..1]).as_json(), r#"{"user":"zoë"}"#);
    assert_eq!(rewrite(SessionData::empty(), NewOwn::None, &[]), SessionData::default());
}

#[test]
fn an_ended_record_says_where_the_session_went_on() {
    let public_id = "h".repeat(43).parse::<PublicId>().unwrap();
    let ended = SessionData::ended(5, public_id);
    assert!(ended.has_ended() && ended.created().is_none());
    assert_eq!(ended.ended_millis(), 5);
    assert_eq!(ended.renewed_as(), Some(public_id));
    assert_eq!(SessionData::default().renewed_as(), None);
    assert_eq!(ended.as_json(), format!(r#"{{"sosa":{{"v":1,"ended":5,"as":"{public_id}"}}}}"#));
}

#[test]
fn class_and_cookie_of_the_own_member() {
    let class = Class::parse(b"remembered").unwrap();
    let written = OwnMember { rev: 1, created: 7, class, ..OwnMember::default() };
    let data = rewrite(&SessionData::default(), NewOwn::Sosa(written, None), &[]);
    assert_eq!(data.as_json(), r#"{"sosa":{"v":1,"rev":1,"created":7,"class":"remembered"}}"#);
    assert_eq!((data.own(), data.class()), (written, Some("remembered")));
    let read: SessionData = data.as_json().parse().unwrap();
    assert_eq!(read.0, data.0, "what was read is what was written");

    let written = OwnMember { rev: 2, sent: 9, ..written };
    let sent = rewrite(&data, NewOwn::Sosa(written, None), &[]);
    assert_eq!(sent.as_json(), r#"{"sosa":{"v":1,"rev":2,"created":7,"class":"remembered","sent":9}}"#);
    let again =
        sent.record().splice(NewOwn::Sosa(OwnMember { rev: 3, ..written }, None), [].into_iter().collect()).unwrap();
    assert_eq!(SessionData::from(again).as_json(), sent.as_json().replace(r#""rev":2"#, r#""rev":3"#));
    for other in [OwnMember { sent: 10, ..written }, OwnMember { class: Class::DEFAULT, ..written }] {
        assert!(sent.record().splice(NewOwn::Sosa(other, None), [].into_iter().collect()).is_none(), "{other:?}");
    }
    // A load goes by the id, whatever stands there.
    let other: SessionData = r#"{"sosa":{"v":1,"rev":1,"created":7,"class":["x"]}}"#.parse().unwrap();
    assert_eq!(other.class(), None);
}

#[test]
fn unknown_fields_of_the_own_member_survive() {
    let data: SessionData = r#"{"a":1,"sosa":{"later":[1,{}],"v":1,"rev":3,"created":9}}"#.parse().unwrap();
    assert_eq!((data.rev(), data.keys().count()), (3, 1));
    let next = rewrite(&data, own(4, 9), &borrowed(&[("a", "2")]));
    assert_eq!(next.as_json(), r#"{"sosa":{"v":1,"rev":4,"created":9,"later":[1,{}]},"a":2}"#);
}

#[test]
fn what_is_no_session_is_refused() {
    for text in ["", "1", "[]", "null", "{", r#"{"sosa":1}"#, r#"{"sosa":{}}"#, r#"{"sosa":{"v":2,"rev":1}}"#] {
        let error = text.parse::<SessionData>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{text}");
    }
}

#[test]
fn awkward_records_are_kept_as_they_are() {
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let own_member = r#""sosa":{"v":1,"rev":1,"created":1}"#;
    let text = format!(r#" {{ "a" : 5e-324 , "\u0061\\b":{deep}, "twice":1, "twice":2, "\ud83d":0, {own_member} }} "#);
    let data: SessionData = text.parse().unwrap();
    assert_eq!(data.as_json(), text);
    assert_eq!(data.json("a\\b"), Some(&*deep));
    assert_eq!(data.json("a\\\\b"), None);
    assert_eq!(data.get::<u8>("twice").unwrap(), Some(2));
    assert_eq!(data.get::<u8>("a").unwrap_err().kind(), ErrorKind::Decode);
    assert_eq!(data.record().members().count(), 5);
    let own_10 = own(10, 1);
    // Its own member is not in front.
    assert!(data.record().splice(own_10, [].into_iter().collect()).is_none());
    let text = format!("{{{own_member}, {}", text.trim_start_matches(" {").replace(&format!(", {own_member}"), ""));
    let data: SessionData = text.parse().unwrap();
    assert!(data.record().splice_value("twice", b"3").is_none() && data.record().splice_value("b", b"3").is_none());
    let splices = ["a", "a\\b"].map(|key| data.record().splice_value(key, b"[]").unwrap());
    let spliced = SessionData::from(data.record().splice(own_10, splices.into_iter().collect()).unwrap());
    let expected = text.replace("5e-324", "[]").replace(&deep, "[]").replace(r#""rev":1"#, r#""rev":10"#);
    assert_eq!(spliced.as_json(), expected);
    assert_eq!(spliced.0, expected.parse::<SessionData>().unwrap().0);
    assert!(data.record().splice(own(10, 2), [].into_iter().collect()).is_none());
    assert!(data.record().splice(NewOwn::Express(b"{}"), [].into_iter().collect()).is_none());
    assert_eq!(data.keys().count(), 4);
}

#[cfg(feature = "express")]
#[test]
fn a_record_of_express_is_told_by_its_cookie() {
    let text = r#"{"cookie":{"originalMaxAge":null},"sosa":5,"a":1}"#;
    let data: SessionData = text.parse().unwrap();
    assert_eq!(data.record().cookie(), Some(&br#"{"originalMaxAge":null}"#[..]));
    assert_eq!(data.keys().collect::<Vec<_>>(), ["sosa", "a"]);
    assert_eq!((data.created(), data.rev(), data.has_ended()), (None, 0, false));
    let written = rewrite(SessionData::empty(), NewOwn::Express(b"{}"), &borrowed(&[("a", "1")]));
    assert_eq!(written.as_json(), r#"{"cookie":{},"a":1}"#);
    assert_eq!(written.as_json().parse::<SessionData>().unwrap().0, written.0);
    // JavaScript puts keys that look like indices before all others.
    let indexed: SessionData = r#"{"0":1,"7":2,"cookie":{},"a":3}"#.parse().unwrap();
    let members: Vec<_> = indexed.record().members().map(|(key, value)| (Cow::Borrowed(key), value)).collect();
    let written = rewrite(&indexed, NewOwn::Express(b"{\"path\":1}"), &members);
    assert_eq!(written.as_json(), r#"{"0":1,"7":2,"cookie":{"path":1},"a":3}"#);
    assert_eq!(written.record().cookie(), Some(&b"{\"path\":1}"[..]));
    assert_eq!(written.as_json().parse::<SessionData>().unwrap().0, written.0);
    assert_eq!(rewrite(&indexed, NewOwn::Express(b"{}"), &members[..1]).as_json(), r#"{"0":1,"cookie":{}}"#);
    // What else stays, or is new, does not come before the cookie.
    let awkward: SessionData = r#"{"0":1,"7":2,"cookie":{},"sosa":5,"a":1}"#.parse().unwrap();
    let members: Vec<_> = awkward.record().members().map(|(key, value)| (Cow::Borrowed(key), value)).collect();
    for (stay, expected) in [
        (&members[2..], r#"{"cookie":{},"sosa":5,"a":1}"#),
        (&members[1..], r#"{"7":2,"cookie":{},"sosa":5,"a":1}"#),
        (&members[3..], r#"{"cookie":{},"a":1}"#),
    ] {
        let written = rewrite(&awkward, NewOwn::Express(b"{}"), stay);
        assert_eq!(written.as_json(), expected);
        assert_eq!(expected.parse::<SessionData>().unwrap().0, written.0);
    }
    let versioned: SessionData = r#"{"cookie":{},"sosa":{"v":1,"rev":1,"created":9}}"#.parse().unwrap();
    assert_eq!((versioned.record().cookie(), versioned.keys().count()), (Some(&b"{}"[..]), 1));
    assert!(r#"{"sosa":{"v":2},"cookie":{}}"#.parse::<SessionData>().is_err());
    // Ours may hold something of that name.
    let ours: SessionData = r#"{"sosa":{"v":1,"rev":1,"created":9},"cookie":{"a":1}}"#.parse().unwrap();
    assert_eq!((ours.record().cookie(), ours.json("cookie")), (None, Some(r#"{"a":1}"#)));
    for none in [r#"{"cookie":null}"#, r#"{"cookie":"{}"}"#, r#"{"cookies":{}}"#] {
        assert_eq!(none.parse::<SessionData>().unwrap().record().cookie(), None);
    }
}

#[test]
fn debug_shows_no_value() {
    let data: SessionData = r#"{"key":"secret"}"#.parse().unwrap();
    let shown = format!("{data:?}");
    assert!(!shown.contains("secret") && !shown.contains("key\""), "{shown}");
}

proptest! {
    #[test]
    fn to_splice_values_is_to_write_all_members(
        values in prop::collection::vec(("[a-c]{0,5}", prop::option::of("[a-c]{0,9}")), 0..8),
        (old_rev, rev, created) in any::<(u64, u64, u64)>(),
        cookies in prop::option::of(("[a-c]{1,9}", "[a-c]{1,9}")),
    ) {
        let keys: Vec<_> = values.iter().enumerate().map(|(n, (key, _))| format!("{key}{n}")).collect();
        let text = |value: &str| format!("\"{value}\"");
        let old: Vec<_> = values.iter().map(|(key, _)| text(key)).collect();
        let new: Vec<_> = values.iter().map(|(key, new)| text(new.as_ref().unwrap_or(key))).collect();
        let write = |base: &SessionData, own, values: &[String]| {
            let members = keys.iter().zip(values).map(|(key, value)| (Cow::Borrowed(key.as_bytes()), value.as_bytes()));
            rewrite(base, own, &members.collect::<Vec<_>>())
        };
        let (before, after) = match &cookies {
            Some((before, after)) => (NewOwn::Express(before.as_bytes()), NewOwn::Express(after.as_bytes())),
            None => (own(old_rev, created), own(rev, created)),
        };
        let base = write(SessionData::empty(), before, &old);
        // From the end: their order is not that of the text.
        let changed = values.iter().zip(&keys).zip(&new).rev().filter(|(((_, new), _), _)| new.is_some());
        let splices = changed.map(|((_, key), value)| base.record().splice_value(key, value.as_bytes())).collect::<Option<_>>();
        let spliced = SessionData::from(base.record().splice(after, splices.unwrap()).unwrap());
        prop_assert_eq!(&spliced.0, &write(&base, after, &new).0);
    }

    #[test]
    fn a_cookie_stays_between_what_stood_around_it(
        before in prop::collection::vec((0..9_u8, any::<bool>()), 0..4),
        after in prop::collection::vec(("2[0-9]|a|sosa", any::<bool>()), 0..4),
        new in prop::collection::vec("[bc]|1[0-9]", 0..3),
    ) {
        let (pair, cookie) = (|key: &str| format!("\"{key}\":0"), "\"cookie\":{}".to_owned());
        let stand: Vec<_> = before.iter().map(|(key, stays)| (pair(&key.to_string()), *stays)).collect();
        let follow: Vec<_> = after.iter().map(|(key, stays)| (pair(key), *stays)).collect();
        let all = [stand, vec![(cookie, true)], follow].concat();
        let object = |members: Vec<String>| format!("{{{}}}", members.join(","));
        let base: SessionData = object(all.iter().map(|(text, _)| text.clone()).collect()).parse().unwrap();

        let mut stay = before.iter().map(|(_, stays)| *stays).chain(after.iter().map(|(_, stays)| *stays));
        let mut members: Vec<_> = base.record().members().map(|(key, value)| (Cow::Borrowed(key), value)).collect();
        members.retain(|_| stay.next().unwrap());
        members.extend(new.iter().map(|key| (Cow::Borrowed(key.as_bytes()), &b"0"[..])));
        let written = rewrite(&base, NewOwn::Express(b"{}"), &members);

        let kept = all.into_iter().filter(|(_, stays)| *stays).map(|(text, _)| text);
        let expected = object(kept.chain(new.iter().map(|key| pair(key))).collect());
        prop_assert_eq!(written.as_json(), &expected);
        prop_assert_eq!(&expected.parse::<SessionData>().unwrap().0, &written.0);
    }

    #[test]
    fn what_is_written_can_be_read(
        members in prop::collection::btree_map(any::<String>().prop_filter("its own key", |key| key != OWN_KEY), any::<String>(), 0..8),
        rev: u64,
        created: u64,
    ) {
        let values: Vec<_> =
            members.iter().map(|(key, value)| (key, serde_json::to_string(value).unwrap())).collect();
        let written: Vec<_> = values
            .iter()
            .map(|(key, value)| (Cow::Owned(json::escape(key).into_owned().into_bytes()), value.as_bytes()))
            .collect();
        let data = rewrite(&SessionData::default(), own(rev, created), &written);
        let read: SessionData = data.as_json().parse().unwrap();
        prop_assert_eq!(&read.0, &data.0);
        prop_assert_eq!((read.rev(), read.created_millis()), (rev, created));
        for (key, value) in &members {
            prop_assert_eq!(read.get::<String>(key).unwrap(), Some(value.clone()));
        }
    }
}
