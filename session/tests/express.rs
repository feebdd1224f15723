//! Sessions in Express's format, without any server: the vectors that Express has made, and who wins.

mod store;

use std::time::Duration;

use serde::Deserialize;
use sosa_memory::MemoryCollection;
use sosa_session::sosa::{Clock, Collection, Expiry, LoadOptions};
use sosa_session::{
    ErrorKind, ExpressOptions, Lifetime, RequestHead, Session, SessionData, SessionOptions, Sessions, SigningKey,
};

#[derive(Deserialize)]
struct Vectors {
    accepted: Vec<Accepted>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Accepted {
    note: String,
    secret: Secrets,
    sid: String,
    signed: String,
    cookie_value: String,
    set_cookie: String,
    record: String,
    ttl_s: u64,
}

#[derive(Deserialize)]
struct Refused {
    note: String,
    secret: Secrets,
    cookie_value: String,
    signed: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Secrets {
    One(String),
    Several(Vec<String>),
}

impl Secrets {
    fn keys(&self) -> Vec<SigningKey> {
        let secrets = match self {
            Self::One(secret) => std::slice::from_ref(secret),
            Self::Several(secrets) => secrets,
        };
        secrets.iter().map(|secret| SigningKey::from(&**secret)).collect()
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/express/vectors.json")).expect("the vectors")
}

type Records = MemoryCollection<SessionData>;

fn records(clock: &Clock) -> Records {
    sosa_memory::new("test").with_clock(clock.clone()).collection("sess")
}

fn open(sessions: &Sessions, value: &str) -> Session {
    sessions.open(RequestHead::new([("cookie", format!("connect.sid={value}").as_bytes())]))
}

/// Takes the date out of a `Set-Cookie`.
fn undated(cookie: &str) -> String {
    let parts = cookie.split("; ").map(|part| if part.starts_with("Expires=") { "Expires" } else { part });
    parts.collect::<Vec<_>>().join("; ")
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn what_express_accepts_and_makes() {
    let clock = Clock::manual();
    for vector in vectors().accepted {
        let note = &vector.note;
        let records = records(&clock);
        records.save(&vector.sid, &vector.record.parse().expect("a record")).await.unwrap();
        let express = ExpressOptions::new(vector.secret.keys()).rolling(true);
        let options = SessionOptions::express(records.clone(), express).clock(clock.clone());
        let sessions = Sessions::new(options);
        for value in [&vector.cookie_value, &vector.signed, &percent(&vector.signed), &format!("\"{}\"", vector.signed)]
        {
            // A header is one line of ASCII, and a semicolon ends a cookie.
            let session = open(&sessions, value);
            assert_eq!(session.expose_id().await.unwrap(), vector.sid, "{note}");
            assert_eq!(session.data().await.unwrap().as_json(), vector.record, "{note}");
            let cookie = sessions.close(&session).await.unwrap().into_set_cookie().expect("rolling");
            assert_eq!(undated(cookie.value()), undated(&vector.set_cookie), "{note}");
        }
        let touched = records.load_with(&vector.sid, LoadOptions::new().with_expiry()).await.unwrap().unwrap();
        assert_eq!(touched.value.as_json(), vector.record, "{note}: a touch is of the deadline alone");
        let deadline = clock.now() + Duration::from_secs(vector.ttl_s);
        assert_eq!(touched.expiry, Some(Expiry::At(deadline)), "{note}");
    }
}

/// What a setter of express-session has stored, and what Express made of that.
#[derive(Deserialize)]
struct Setter {
    note: String,
    sid: String,
    cookie_value: String,
    record: Option<String>,
    read: Option<Answer>,
    write: Option<Answer>,
    rolling: Option<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    user: String,
    expires: Option<String>,
    record: String,
    ttl_s: u64,
}

/// Whatever express-session's own setters store is read as Express reads it, and saved as it saves it.
#[tokio::test]
async fn what_the_setters_of_express_store() {
    let setters: Vec<Setter> = serde_json::from_str(include_str!("../../tests/express/setters.json")).unwrap();
    let mut looked_at = 0;
    for setter in &setters {
        let Some(stored) = &setter.record else { continue };
        for (how, expected) in [("read", &setter.read), ("write", &setter.write), ("rolling", &setter.rolling)] {
            let Some(expected) = expected else { continue };
            let note = format!("{}, {how}", setter.note);
            let clock = Clock::manual();
            // When they were made.
            clock.advance(Duration::from_millis(1_893_456_000_629 - clock.now_millis()));
            let records = records(&clock);
            records.save(&setter.sid, &stored.parse().unwrap()).await.unwrap();
            let express = ExpressOptions::new(["keyboard cat"]).rolling(how == "rolling");
            let sessions = Sessions::new(SessionOptions::express(records.clone(), express).clock(clock.clone()));
            let session = open(&sessions, &setter.cookie_value);
            assert_eq!(session.get::<String>("user").await.unwrap().as_ref(), Some(&expected.user), "{note}");
            if how == "write" {
                session.insert("n", 1).await.unwrap();
            }
            let headers = sessions.close(&session).await.unwrap();
            let sent = headers.set_cookie().map(sosa_session::SetCookie::value);
            let expires = sent.and_then(|sent| sent.split("; ").find_map(|part| part.strip_prefix("Expires=")));
            assert_eq!(expires, expected.expires.as_deref(), "{note}");
            let entry = records.load_with(&setter.sid, LoadOptions::new().with_expiry()).await.unwrap().unwrap();
            // What is not there is to Express as null is.
            let cookie = |record: &str| {
                let record: serde_json::Value = serde_json::from_str(record).unwrap();
                ["originalMaxAge", "expires"].map(|name| record["cookie"][name].clone())
            };
            assert_eq!(cookie(entry.value.as_json()), cookie(&expected.record), "{note}");
            let deadline = clock.now() + Duration::from_secs(expected.ttl_s);
            assert_eq!(entry.expiry, Some(Expiry::At(deadline)), "{note}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 60, "{looked_at}");
}

#[tokio::test]
async fn what_express_refuses() {
    let clock = Clock::manual();
    for vector in vectors().refused {
        let records = records(&clock);
        // Whatever id it means, there is a session.
        for id in vectors().accepted.iter().map(|accepted| &accepted.sid) {
            records.save(id, &r#"{"cookie":{},"user":"ada"}"#.parse().unwrap()).await.unwrap();
        }
        let sessions = Sessions::new(SessionOptions::express(records, ExpressOptions::new(vector.secret.keys())));
        for value in [&vector.cookie_value, &vector.signed] {
            let session = open(&sessions, value);
            assert!(session.is_new().await.unwrap(), "{}", vector.note);
            assert!(sessions.close(&session).await.unwrap().into_set_cookie().is_none());
        }
    }
}

fn new_express() -> ExpressOptions {
    ExpressOptions::new(["keyboard cat"])
}

fn site() -> (Sessions, Records, Clock) {
    let clock = Clock::manual();
    let records = records(&clock);
    let options = SessionOptions::express(records.clone(), new_express()).clock(clock.clone());
    (Sessions::new(options), records, clock)
}

/// Makes a session and returns its cookie's value and its id.
async fn begin(sessions: &Sessions) -> (String, String) {
    let session = sessions.open(RequestHead::new([]));
    session.insert("user", "ada").await.unwrap();
    let cookie = sessions.close(&session).await.unwrap().into_set_cookie().unwrap();
    let value = cookie.value().split(';').next().unwrap().split_once('=').unwrap().1.to_owned();
    (value, session.expose_id().await.unwrap())
}

#[tokio::test]
async fn only_the_first_cookie_counts_and_the_record_lies_under_its_id() {
    let (sessions, records, _) = site();
    let (good, id) = begin(&sessions).await;
    assert!(records.load(&id).await.unwrap().is_some());
    for (header, opens) in [
        (format!("connect.sid={good}; connect.sid=x"), true),
        (format!("connect.sid=x; connect.sid={good}"), false),
        (format!("other=1; connect.sid =  {good} ;"), true),
        (format!("Connect.sid={good}"), false),
    ] {
        let session = sessions.open(RequestHead::new([("cookie", header.as_bytes())]));
        assert_eq!(!session.is_new().await.unwrap(), opens, "{opens}");
    }
    let session = sessions.open(RequestHead::new([
        ("cookie", &b"connect.sid=x"[..]),
        ("cookie", format!("connect.sid={good}").as_bytes()),
    ]));
    assert!(session.is_new().await.unwrap());
}

#[tokio::test]
async fn a_write_that_express_made_meanwhile_is_kept() {
    let (sessions, records, _) = site();
    let (cookie, id) = begin(&sessions).await;
    let session = open(&sessions, &cookie);
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap();
    // As Express does it: whatever was there.
    let theirs = r#"{"cookie":{"originalMaxAge":null,"expires":null},"user":"bob","n":6,"new":[1e+21]}"#;
    records.save(&id, &theirs.parse().unwrap()).await.unwrap();
    sessions.close(&session).await.unwrap().into_set_cookie();
    let expected = theirs.replace("\"n\":6", "\"n\":7");
    assert_eq!(records.load(&id).await.unwrap().unwrap().as_json(), expected);
}

#[tokio::test]
async fn what_was_destroyed_meanwhile_stays_so() {
    let (sessions, records, _) = site();
    for renew in [false, true] {
        let (cookie, id) = begin(&sessions).await;
        let session = open(&sessions, &cookie);
        session.insert("late", 1).await.unwrap();
        if renew {
            session.renew().await.unwrap();
        }
        records.destroy(&id).await.unwrap();
        assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Ended);
        assert!(sessions.close(&session).await.unwrap().into_set_cookie().is_none());
        assert!(records.list().await.unwrap().items.is_empty(), "nothing is left, under whatever id");
    }
}

#[tokio::test]
async fn a_rolling_cookie_is_not_sent_of_a_session_that_ended_meanwhile() {
    let clock = Clock::manual();
    let records = records(&clock);
    let options = SessionOptions::express(records.clone(), new_express().rolling(true)).clock(clock.clone());
    let sessions = Sessions::new(options);
    let (cookie, id) = begin(&sessions).await;
    for ended in [false, true] {
        let session = open(&sessions, &cookie);
        session.get::<String>("user").await.unwrap();
        if ended {
            records.destroy(&id).await.unwrap();
        }
        assert_eq!(sessions.close(&session).await.unwrap().into_set_cookie().is_some(), !ended);
    }
}

#[tokio::test]
async fn a_key_of_our_own_name_is_an_ordinary_one() {
    let (sessions, _, _) = site();
    let (cookie, _) = begin(&sessions).await;
    let session = open(&sessions, &cookie);
    session.insert("sosa", serde_json::json!({"v": 1, "rev": 1, "created": 1})).await.unwrap();
    sessions.close(&session).await.unwrap().into_set_cookie();
    let session = open(&sessions, &cookie);
    assert_eq!(session.keys().await.unwrap(), ["user", "sosa"]);
}

#[tokio::test]
async fn a_renewed_session_leaves_nothing_behind() {
    let (sessions, records, _) = site();
    let (cookie, id) = begin(&sessions).await;
    let session = open(&sessions, &cookie);
    session.renew().await.unwrap();
    assert!(sessions.close(&session).await.unwrap().into_set_cookie().is_some());
    let page = records.list().await.unwrap().into_pairs().unwrap();
    let [(new, data)] = &page[..] else { panic!("{} records", page.len()) };
    assert_ne!(*new, id);
    assert_eq!(data.json("user"), Some("\"ada\""));
}

#[tokio::test]
async fn a_session_may_live_longer_than_others() {
    let (sessions, records, clock) = site();
    let (cookie, id) = begin(&sessions).await;
    let month = Duration::from_secs(30 * 86_400);
    let session = open(&sessions, &cookie);
    session.set_max_age(month).await.unwrap();
    let header = sessions.close(&session).await.unwrap().into_set_cookie().expect("it has an end now");
    assert!(header.value().contains("; Expires="));
    let entry = records.load_with(&id, LoadOptions::new().with_expiry()).await.unwrap().unwrap();
    assert_eq!(entry.expiry, Some(Expiry::At(clock.now() + month)));
    assert!(entry.value.as_json().starts_with(r#"{"cookie":{"originalMaxAge":2592000000,"expires":"2"#));

    // It is no change to say so again; and it can be taken back, which the client learns of in vain, as with Express.
    let session = open(&sessions, &cookie);
    session.set_max_age(month).await.unwrap();
    assert!(sessions.close(&session).await.unwrap().into_set_cookie().is_none());
    session.set_max_age(None).await.unwrap();
    session.save().await.unwrap();
    assert!(
        records
            .load(&id)
            .await
            .unwrap()
            .unwrap()
            .as_json()
            .starts_with(r#"{"cookie":{"originalMaxAge":null,"expires":null,"#)
    );

    // Of a session that is not stored it makes none, and waits for one.
    let session = sessions.open(RequestHead::new([]));
    session.set_max_age(month).await.unwrap();
    session.save().await.unwrap();
    assert!(session.is_new().await.unwrap());
    session.insert("user", "bob").await.unwrap();
    let header = sessions.close(&session).await.unwrap().into_set_cookie().expect("it is made now");
    assert!(header.value().contains("; Expires="));
    let error = session.set_max_age(Duration::from_nanos(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Options);
}

/// What is unattended moves no deadline and sends no cookie, unless it asks for another age.
#[tokio::test]
async fn what_is_unattended_keeps_no_session_of_express_alive() {
    let clock = Clock::manual();
    let records = records(&clock);
    let hour = Duration::from_secs(3600);
    let options = SessionOptions::express(records.clone(), new_express().max_age(hour).rolling(true));
    let sessions = Sessions::new(options.clock(clock.clone()));
    let (cookie, id) = begin(&sessions).await;
    let expiry = async || {
        let options = LoadOptions::new().with_expiry();
        records.load_with(&id, options).await.unwrap().unwrap().expiry
    };
    let ends = expiry().await;
    for writes in [false, true] {
        clock.advance(hour / 4);
        let session = open(&sessions, &cookie);
        session.unattended().unwrap();
        assert_eq!(session.get::<String>("user").await.unwrap().as_deref(), Some("ada"));
        if writes {
            session.insert("n", 1).await.unwrap();
        }
        assert!(sessions.close(&session).await.unwrap().set_cookie().is_none());
        assert_eq!(expiry().await, ends, "writes: {writes}");
    }
    let session = open(&sessions, &cookie);
    session.unattended().unwrap();
    session.set_max_age(2 * hour).await.unwrap();
    assert!(sessions.close(&session).await.unwrap().set_cookie().is_some());
    // And one that is attended does both.
    let session = open(&sessions, &cookie);
    session.get::<String>("user").await.unwrap();
    assert!(sessions.close(&session).await.unwrap().set_cookie().is_some());
    assert_ne!(expiry().await, ends);
}

#[tokio::test]
async fn what_the_format_does_not_have_is_said_to_be_so() {
    let (sessions, _, _) = site();
    let (cookie, id) = begin(&sessions).await;
    let session = open(&sessions, &cookie);
    assert_eq!(session.rev().await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(session.created().await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(session.renew_as("a").await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(session.regenerate_as("a").await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(session.class().await.unwrap(), None);
    for key in ["cookie", "id", "save", "__proto__", "hasOwnProperty"] {
        assert_eq!(session.insert(key, 1).await.unwrap_err().kind(), ErrorKind::ReservedKey);
        assert_eq!(session.remove(key).await.unwrap_err().kind(), ErrorKind::ReservedKey);
    }
    // Ours is an ordinary key there.
    session.insert("sosa", 1).await.unwrap();
    sessions.close(&session).await.unwrap().into_set_cookie();
    let session = open(&sessions, &cookie);
    assert_eq!(
        (session.get::<u8>("sosa").await.unwrap(), session.keys().await.unwrap()),
        (Some(1), vec!["user".to_owned(), "sosa".to_owned()])
    );
    assert_eq!(session.clear().await.map_err(|error| error.kind()), Ok(()));
    assert_eq!(
        session.data().await.unwrap().as_json(),
        r#"{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"}}"#
    );
    sessions.close(&session).await.unwrap().into_set_cookie();
    assert!(!format!("{session:?} {sessions:?}").contains(&id));

    let ours = Sessions::new(SessionOptions::memory());
    let session = ours.open(RequestHead::new([]));
    assert_eq!(session.expose_id().await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(session.set_max_age(None).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(session.created().await.unwrap(), None);
}

#[tokio::test]
async fn sessions_of_our_own_can_be_signed_too() {
    let key = |letter: &str| SigningKey::new(letter.repeat(32)).unwrap();
    let clock = Clock::manual();
    let records = records(&clock);
    let options = || SessionOptions::new(records.clone()).clock(clock.clone()).lifetime(Lifetime::new());
    let with = |keys: Vec<SigningKey>| Sessions::new(options().signed(keys));
    let (old, both, new, plain) =
        (with(vec![key("a")]), with(vec![key("b"), key("a")]), with(vec![key("b")]), Sessions::new(options()));
    let session = old.open(RequestHead::new([]));
    session.insert("user", "ada").await.unwrap();
    let cookie = old.close(&session).await.unwrap().into_set_cookie().unwrap();
    let pair = cookie.value().split(';').next().unwrap();
    assert!(pair.starts_with("__Host-id=s%3A"), "it is signed");
    let id = &pair["__Host-id=s%3A".len()..][..32];
    assert!(records.load(id).await.unwrap().is_none(), "it is stored under its hash all the same");
    for (sessions, cookie, opens) in [
        (&old, pair, true),
        (&both, pair, true),
        (&new, pair, false),
        (&plain, pair, false),
        (&old, &*format!("__Host-id={id}"), false),
        (&plain, &*format!("__Host-id={id}"), true),
    ] {
        let session = sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));
        assert_eq!(!session.is_new().await.unwrap(), opens);
    }
}

/// An end and a new beginning need nothing of the record; what needs it tells.
#[tokio::test]
async fn a_record_that_cannot_be_read_can_be_left_behind() {
    for asks in ["destroy", "regenerate", "renew"] {
        let clock = Clock::manual();
        let records = records(&clock);
        let options = SessionOptions::express(records.clone(), new_express()).clock(clock.clone());
        let sessions = Sessions::new(options);
        let first = sessions.open(RequestHead::new([]));
        first.insert("user", "ada").await.unwrap();
        let cookie = sessions.close(&first).await.unwrap().into_set_cookie().unwrap();
        let value = cookie.value().split(';').next().unwrap().split_once('=').unwrap().1.to_owned();
        let id = first.expose_id().await.unwrap();
        let unreadable: SessionData = r#"{"cookie":{"originalMaxAge":"no number"},"user":"ada"}"#.parse().unwrap();
        records.save(&id, &unreadable).await.unwrap();

        let page = open(&sessions, &value);
        assert_eq!(page.get::<String>("user").await.unwrap_err().status(), 500);
        assert!(sessions.close(&page).await.unwrap().into_set_cookie().is_none());

        let session = open(&sessions, &value);
        match asks {
            "destroy" => session.destroy().await.unwrap(),
            "regenerate" => session.regenerate().await.unwrap(),
            _ => session.renew().await.unwrap(),
        }
        session.insert("user", "bob").await.unwrap();
        let cookie = sessions.close(&session).await.unwrap().into_set_cookie().expect("a new session is told of");
        let value = cookie.value().split(';').next().unwrap().split_once('=').unwrap().1.to_owned();
        assert_eq!(open(&sessions, &value).get::<String>("user").await.unwrap().as_deref(), Some("bob"), "{asks}");
        assert!(records.load(&id).await.unwrap().is_none(), "{asks}: it is still there");
    }
}

/// A handler that was told by `save` that the store is out answers as it likes, here as well.
#[tokio::test]
async fn what_a_handler_was_told_of_is_not_told_again() {
    let store = store::Store::new(&Clock::manual());
    let sessions = Sessions::new(SessionOptions::express(store.clone(), new_express()));
    let (cookie, _) = begin(&sessions).await;
    store.fail_from(1, false);
    let session = open(&sessions, &cookie);
    session.get::<String>("user").await.unwrap_err();
    session.save().await.unwrap_err();
    assert!(sessions.close(&session).await.is_ok());
    assert_eq!(store.calls(), 1);
}
