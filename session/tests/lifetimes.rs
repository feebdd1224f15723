//! How long sessions live: by class, with uses that move their deadline and others that do not.

mod store;

use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use sosa_session::sosa::{Clock, Collection, LoadOptions};
use sosa_session::{DeadCookie, ErrorKind, Lifetime, RequestHead, Scheme, Session, SessionOptions, Sessions};
use store::{DAY, Jar, Site, Store, site, site_with};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn remembered() -> Lifetime {
    Lifetime::new().idle(30 * DAY).absolute(90 * DAY).persistent()
}

/// Two hours idle, and thirty days for who stays signed in.
fn with_classes() -> Site {
    site_with(|options| {
        options.lifetime(Lifetime::new().idle(2 * HOUR).absolute(12 * HOUR)).class("remembered", remembered())
    })
}

async fn log_in_as(site: &Site, class: &str) -> (Jar, String) {
    let mut jar = None;
    let session = site.open(&jar);
    session.regenerate_as(class).await.unwrap();
    session.insert("user", "ada").await.unwrap();
    let cookie = site.close(&session, &mut jar).await.expect("a new session has a cookie");
    site.store.calls();
    (jar, cookie)
}

#[tokio::test]
async fn classes_live_as_long_as_their_lifetimes_say() {
    let site = with_classes();
    let plain = site.log_in().await;
    let (stays, cookie) = log_in_as(&site, "remembered").await;
    assert!(cookie.contains(".remembered; Path=/; Max-Age=7776000; HttpOnly"), "{cookie}");
    site.clock.advance(2 * HOUR);
    assert_eq!((site.user(&plain).await, site.user(&stays).await.as_deref()), (None, Some("ada")));
    for _ in 0..3 {
        site.clock.advance(29 * DAY);
        assert_eq!(site.user(&stays).await.as_deref(), Some("ada"));
    }
    // The absolute end.
    site.clock.advance(3 * DAY);
    assert_eq!(site.user(&stays).await, None);
}

/// An untouched request makes no call, a read one, a write two, whatever the class.
#[tokio::test]
async fn a_class_costs_no_call() {
    let site = with_classes();
    for jar in [site.log_in().await, log_in_as(&site, "remembered").await.0] {
        drop(site.close(&site.open(&jar), &mut jar.clone()).await);
        assert_eq!(site.store.calls(), 0);
        site.user(&jar).await;
        assert_eq!(site.store.calls(), 1);
        let session = site.open(&jar);
        session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await.unwrap();
        assert!(site.close(&session, &mut jar.clone()).await.is_none());
        assert_eq!(site.store.calls(), 2);
    }
}

#[tokio::test]
async fn who_changes_the_class_in_a_cookie_has_no_session() {
    let site = site_with(|options| options.class("a", Lifetime::new()).class("b", Lifetime::new()));
    let plain = site.log_in().await.unwrap();
    let (jar, _) = log_in_as(&site, "a").await;
    let other = jar.unwrap().replace(".a", ".b");
    // The options know the class: the store is asked, and knows no such session.
    for cookie in [format!("{plain}.a"), other.clone(), other.replace(".b", "")] {
        assert_eq!(site.user(&Some(cookie.clone())).await, None, "{cookie}");
        assert_eq!(site.store.calls(), 1);
    }
    for class in ["c", "", "A", "a.b", "seventeen-letters"] {
        assert_eq!(site.user(&Some(format!("{plain}.{class}"))).await, None);
        assert_eq!(site.store.calls(), 0, "an unknown class: {class}");
    }
}

#[tokio::test]
async fn a_session_changes_its_class_only_with_its_id() {
    let site = with_classes();
    let mut jar = site.log_in().await;
    site.clock.advance(HOUR);
    let public_id = {
        let session = site.open(&jar);
        session.renew_as("remembered").await.unwrap();
        assert_eq!(session.class().await.unwrap(), None, "it is not saved yet");
        session.save().await.unwrap();
        assert_eq!(session.class().await.unwrap().as_deref(), Some("remembered"));
        site.close(&session, &mut jar).await.expect("another id");
        session.public_id().await.unwrap()
    };
    let record = || async { site.store.inner.load(site.store.live().await[0].as_str()).await.unwrap().unwrap() };
    assert_eq!(record().await.class(), Some("remembered"));
    assert_eq!(record().await.created(), Some(site.clock.now()), "its lifetime begins anew");
    assert_eq!(site.user(&jar).await.as_deref(), Some("ada"), "and it keeps its data");

    site.clock.advance(DAY);
    let began = record().await.created();
    let session = site.open(&jar);
    session.renew().await.unwrap();
    let cookie = site.close(&session, &mut jar).await.unwrap();
    assert!(cookie.contains(".remembered;"), "a renewal keeps the class: {cookie}");
    assert_eq!((record().await.created(), record().await.class()), (began, Some("remembered")));
    assert_ne!(session.public_id().await.unwrap(), public_id);

    for begins in ["regenerate", "destroy"] {
        let (mut jar, _) = log_in_as(&site, "remembered").await;
        let session = site.open(&jar);
        match begins {
            "regenerate" => session.regenerate().await.unwrap(),
            _ => session.destroy().await.unwrap(),
        }
        session.insert("user", "eve").await.unwrap();
        let cookie = site.close(&session, &mut jar).await.unwrap();
        assert!(!cookie.contains("remembered"), "{begins} falls back to the default: {cookie}");
    }
}

#[tokio::test]
async fn the_class_of_a_session_to_come_is_that_of_the_last_request_for_it() {
    let site = site_with(|options| options.class("a", Lifetime::new()).class("b", Lifetime::new()));
    let mut jar = None;
    let session = site.open(&jar);
    let shown = session.public_id().await.unwrap();
    session.renew_as("a").await.unwrap();
    assert_ne!(session.public_id().await.unwrap(), shown, "the class is part of the id");
    // Nothing is to be stored yet.
    session.save().await.unwrap();
    session.renew_as("b").await.unwrap();
    session.insert("user", "ada").await.unwrap();
    assert!(site.close(&session, &mut jar).await.unwrap().contains(".b;"));

    // An end that is followed by a beginning.
    let session = site.open(&jar);
    session.destroy().await.unwrap();
    session.regenerate_as("a").await.unwrap();
    session.insert("user", "eve").await.unwrap();
    assert!(site.close(&session, &mut jar).await.unwrap().contains(".a;"));
    assert_eq!(site.store.live().await.len(), 1);
}

#[tokio::test]
async fn classes_that_cannot_be_are_refused() {
    let options = || SessionOptions::memory();
    for (options, word) in [
        (options().class("", Lifetime::new()), "1 to 16"),
        (options().class("Upper", Lifetime::new()), "1 to 16"),
        (options().class("seventeen-letters", Lifetime::new()), "1 to 16"),
        (options().class("a", Lifetime::new()).class("a", Lifetime::new()), "twice"),
        (options().class("a", Lifetime::new().idle(Duration::ZERO)), "idle lifetime of zero"),
    ] {
        let error = options.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Options);
        assert!(error.to_string().contains(word), "{error}");
    }
    let site = site();
    let jar = site.log_in().await;
    let session = site.open(&jar);
    for class in ["remembered", "", "no\nclass"] {
        assert_eq!(session.renew_as(class).await.unwrap_err().kind(), ErrorKind::Options);
        assert_eq!(session.regenerate_as(class).await.unwrap_err().kind(), ErrorKind::Options);
    }
    assert!(site.close(&session, &mut jar.clone()).await.is_none());
    assert_eq!(site.store.calls(), 0, "nothing is asked for");
}

/// A tab that was left open and asks once a minute.
#[tokio::test]
async fn what_is_unattended_keeps_no_session_alive() {
    let idle = 30 * MINUTE;
    for asks in ["looks", "writes", "touches", "renews", "reloads"] {
        let site = site_with(|options| options.lifetime(Lifetime::new().idle(idle)));
        let mut jar = site.log_in().await;
        let ends = site.clock.now() + idle;
        for minute in 1..30 {
            site.clock.advance(MINUTE);
            let session = site.open(&jar);
            session.unattended().unwrap();
            match asks {
                "looks" => drop(session.get::<String>("user").await.unwrap()),
                "writes" => session.insert("n", minute).await.unwrap(),
                "touches" => session.touch().await.unwrap(),
                "renews" => session.renew().await.unwrap(),
                _ => session.reload().await.unwrap(),
            }
            assert_eq!(session.expires().await.unwrap(), Some(ends), "{asks}, minute {minute}");
            site.close(&session, &mut jar).await;
            if asks == "looks" {
                assert_eq!(site.store.calls(), 1);
            }
        }
        site.clock.advance(MINUTE);
        assert_eq!(site.user(&jar).await, None, "{asks}");
    }
}

#[tokio::test]
async fn unattended_is_asked_for_before_the_first_look() {
    let site = site();
    let jar = site.log_in().await;
    let session = site.open(&jar);
    session.get::<String>("user").await.unwrap();
    assert_eq!(session.unattended().unwrap_err().kind(), ErrorKind::Options);
    // Who has said so may look, and say so again.
    let session = site.open(&jar);
    session.unattended().unwrap();
    session.get::<String>("user").await.unwrap();
    session.unattended().unwrap();
    // Where there is no session, none can be kept alive.
    let session = site.open(&None);
    assert!(session.is_new().await.unwrap());
    session.unattended().unwrap();
    session.insert("user", "eve").await.unwrap();
    session.save().await.unwrap();
    assert_eq!(session.expires().await.unwrap(), Some(site.clock.now() + DAY), "what begins has its lifetime");
    // To say so is no look.
    let session = site.open(&jar);
    site.store.calls();
    session.unattended().unwrap();
    let headers = site.sessions.close(&session).await.unwrap();
    assert_eq!((site.store.calls(), headers.besides([]).count()), (0, 0));
}

/// It renews by the deadline that the store has, which another request may have moved.
#[tokio::test]
async fn a_renewal_that_is_unattended_copies_the_deadline() {
    let site = site();
    let mut jar = site.log_in().await;
    for saves in [false, true] {
        let session = site.open(&jar);
        session.unattended().unwrap();
        session.get::<String>("user").await.unwrap();
        if saves {
            session.insert("n", 1).await.unwrap();
            session.save().await.unwrap();
        }
        site.clock.advance(HOUR);
        site.user(&jar).await;
        let used = site.clock.now();
        site.clock.advance(HOUR);
        session.renew().await.unwrap();
        site.close(&session, &mut jar).await.expect("another id");
        let session = site.open(&jar);
        session.unattended().unwrap();
        assert_eq!(session.expires().await.unwrap(), Some(used + DAY), "saves: {saves}");
    }
}

/// In whatever turn it comes, and whatever the clocks say.
#[tokio::test]
async fn a_renewal_that_is_unattended_goes_by_the_clock_of_the_store() {
    let (clock, of_store) = (Clock::manual(), Clock::manual());
    of_store.advance(HOUR);
    let store = Store::new(&of_store);
    let sessions = Sessions::new(SessionOptions::new(store).clock(clock.clone()));
    let site = Site { store: Store::new(&clock), clock, sessions };
    let mut jar = site.log_in().await;
    let ends = of_store.now() + DAY;
    let (writes, polls) = (site.open(&jar), site.open(&jar));
    polls.unattended().unwrap();
    for session in [&writes, &polls] {
        session.insert("n", 1).await.unwrap();
    }
    polls.renew().await.unwrap();
    // The poll meets that the other has saved.
    writes.save().await.unwrap();
    site.close(&polls, &mut jar).await.expect("another id");
    let session = site.open(&jar);
    session.unattended().unwrap();
    assert_eq!(session.expires().await.unwrap(), Some(ends));
}

#[tokio::test]
async fn the_end_of_a_session_is_told() {
    let site = site_with(|options| options.lifetime(Lifetime::new().idle(2 * HOUR).absolute(5 * HOUR)));
    let mut jar = None;
    let session = site.open(&jar);
    assert_eq!(session.expires().await.unwrap(), None, "it is not stored");
    session.insert("user", "ada").await.unwrap();
    site.close(&session, &mut jar).await;
    let began = site.clock.now();
    for (hours, ends) in [(1, 3), (2, 4), (3, 5), (4, 5)] {
        site.clock.advance(HOUR);
        let session = site.open(&jar);
        site.store.calls();
        assert_eq!(session.expires().await.unwrap(), Some(began + ends * HOUR), "after {hours} hours");
        assert_eq!(site.store.calls(), 2, "a use, and a look at the deadline");
        session.expires().await.unwrap();
        assert_eq!(site.store.calls(), 0, "it is known");
    }
    let session = site.open(&jar);
    session.get::<String>("user").await.unwrap();
    site.clock.advance(HOUR);
    assert_eq!(session.expires().await.unwrap_err().kind(), ErrorKind::Ended);
    let forever = site_with(|options| options.lifetime(Lifetime::new().idle(None).absolute(None)));
    let session = forever.open(&forever.log_in().await);
    assert_eq!(session.expires().await.unwrap(), None);
}

/// A stream that looks again and again.
#[tokio::test]
async fn a_look_in_a_response_that_is_under_way_is_no_use() {
    for is_kept in [false, true] {
        let site = site_with(|options| options.lifetime(Lifetime::new().idle(30 * MINUTE)));
        let jar = site.log_in().await;
        let stream = site.open(&jar);
        stream.get::<String>("user").await.unwrap();
        site.close(&stream, &mut jar.clone()).await;
        for _ in 0..29 {
            site.clock.advance(MINUTE);
            stream.reload().await.unwrap();
            assert_eq!(stream.get::<String>("user").await.unwrap().as_deref(), Some("ada"));
            if is_kept {
                stream.touch().await.unwrap();
                stream.save().await.unwrap();
            }
        }
        site.clock.advance(MINUTE);
        assert_eq!(site.user(&jar).await.is_some(), is_kept);
    }
}

#[tokio::test]
async fn a_touch_is_asked_for_with_its_slack() {
    let site = site_with(|options| options.lifetime(Lifetime::new().idle(HOUR).touch_after(5 * MINUTE)));
    let jar = site.log_in().await;
    let id = site.store.live().await.remove(0);
    let deadline = || async {
        let options = LoadOptions::new().with_expiry();
        site.store.inner.load_with(&id, options).await.unwrap().unwrap().expiry
    };
    let first = deadline().await;
    site.clock.advance(5 * MINUTE - Duration::from_millis(1));
    site.user(&jar).await;
    assert_eq!(deadline().await, first);
    site.clock.advance(Duration::from_millis(1));
    site.user(&jar).await;
    assert_ne!(deadline().await, first);
}

/// "Signed in as long as you come once a month."
#[tokio::test]
async fn a_cookie_without_an_absolute_end_is_sent_again() {
    let site = site_with(|options| options.lifetime(Lifetime::new().idle(30 * DAY).absolute(None).persistent()));
    let mut jar = None;
    let session = site.open(&jar);
    session.insert("user", "ada").await.unwrap();
    let cookie = site.close(&session, &mut jar).await.unwrap();
    assert!(cookie.contains("Max-Age=2592000"), "{cookie}");
    for round in 0..10 {
        site.clock.advance(3 * DAY - MINUTE);
        let session = site.open(&jar);
        session.get::<String>("user").await.unwrap();
        assert!(site.close(&session, &mut jar).await.is_none(), "it is not due");
        site.clock.advance(MINUTE);
        site.store.calls();
        // What is no use of the session sends no cookie.
        let poll = site.open(&jar);
        poll.unattended().unwrap();
        poll.insert("n", round).await.unwrap();
        assert!(site.close(&poll, &mut jar).await.is_none());
        assert_eq!(site.store.calls(), 2);

        let session = site.open(&jar);
        session.get::<String>("user").await.unwrap();
        let sent = site.close(&session, &mut jar).await.expect("it is due");
        assert_eq!(sent, cookie);
        assert_eq!(site.store.calls(), 2, "a look, and a save that notes it");
        let session = site.open(&jar);
        session.insert("n", round).await.unwrap();
        assert!(site.close(&session, &mut jar).await.is_none(), "once is enough");
    }
    // A renewal sends it in any case.
    site.clock.advance(2 * DAY);
    let session = site.open(&jar);
    session.renew().await.unwrap();
    site.close(&session, &mut jar).await.unwrap();
    site.clock.advance(2 * DAY);
    let session = site.open(&jar);
    session.get::<String>("user").await.unwrap();
    assert!(site.close(&session, &mut jar).await.is_none(), "it was sent two days ago");
}

fn rolling() -> Site {
    site_with(|options| options.lifetime(Lifetime::new().idle(10 * DAY).absolute(None).persistent()))
}

/// To note that a cookie is sent is worth no error, no turn and no lost edit.
#[tokio::test]
async fn a_cookie_that_cannot_be_noted_is_sent_later() {
    let site = rolling();
    let jar = site.log_in().await;
    site.clock.advance(DAY);
    for applied in [false, true] {
        site.store.fail_from(2, applied);
        let session = site.open(&jar);
        assert_eq!(session.get::<String>("user").await.unwrap().as_deref(), Some("ada"));
        let headers = site.sessions.close(&session).await.expect("only the note was lost");
        assert!(headers.set_cookie().is_none());
        site.store.mend();
    }
    // It was noted though no answer came; so it is due again when a tenth has passed.
    site.clock.advance(DAY);
    let session = site.open(&jar);
    session.get::<String>("user").await.unwrap();
    // A handler that can do without its session.
    session.discard().await;
    site.store.fail_from(1, false);
    assert!(site.sessions.close(&session).await.is_ok());
    site.store.mend();

    let at_once: Vec<_> = (0..10).map(|_| site.open(&jar)).collect();
    let writes = site.open(&jar);
    for session in &at_once {
        session.get::<String>("user").await.unwrap();
    }
    writes.insert("n", 1).await.unwrap();
    site.store.calls();
    let mut sent = 0;
    for session in &at_once {
        sent += u32::from(site.sessions.close(session).await.unwrap().set_cookie().is_some());
    }
    assert_eq!((sent, site.store.calls()), (1, 10), "one notes it, and the others meet that once");
    assert!(site.sessions.close(&writes).await.unwrap().set_cookie().is_some());
    let session = site.open(&jar);
    assert_eq!((session.get::<u32>("n").await.unwrap(), session.rev().await.unwrap()), (Some(1), 4));
}

#[tokio::test]
async fn a_cookie_that_is_due_goes_only_where_one_can() {
    let site = rolling();
    let jar = site.log_in().await;
    site.clock.advance(DAY);
    let cookie = jar.clone().unwrap();
    let head = RequestHead::new([("cookie", cookie.as_bytes())]).scheme(Scheme::Http);
    let plain = site.sessions.open(head);
    assert!(plain.get::<String>("user").await.unwrap().is_some());
    assert!(site.sessions.close(&plain).await.unwrap().set_cookie().is_none());
    assert_eq!(site.store.calls(), 1, "over plain http");

    let stream = site.open(&jar);
    assert!(site.close(&stream, &mut jar.clone()).await.is_none());
    stream.reload().await.unwrap();
    stream.save().await.unwrap();
    assert_eq!(site.store.calls(), 1, "in a response that is under way");
}

/// A renewal whose outcome nobody knows, tried again into a class: the session is kept, once.
#[tokio::test]
async fn a_renewal_may_be_tried_again_into_another_class() {
    for call in 1..=6 {
        for applied in [false, true] {
            let site = with_classes();
            let mut jar = site.log_in().await;
            let session = site.open(&jar);
            session.renew().await.unwrap();
            site.store.fail_from(call, applied);
            let failed = session.save().await;
            site.store.mend();
            session.renew_as("remembered").await.unwrap();
            session.save().await.unwrap_or_else(|error| panic!("{call}, applied: {applied}, {failed:?}: {error}"));
            site.close(&session, &mut jar).await.expect("another id");
            assert!(jar.as_ref().unwrap().ends_with(".remembered"));
            assert_eq!(site.user(&jar).await.as_deref(), Some("ada"), "{call}, applied: {applied}");
            assert_eq!(site.store.live().await.len(), 1, "{call}, applied: {applied}");
        }
    }
}

#[tokio::test]
async fn of_two_renewals_into_a_class_one_goes_on() {
    let site = with_classes();
    let jar = site.log_in().await;
    let (one, other) = (site.open(&jar), site.open(&jar));
    for session in [&one, &other] {
        session.renew_as("remembered").await.unwrap();
    }
    let mut first = jar.clone();
    site.close(&one, &mut first).await.expect("renewed");
    assert!(site.close(&other, &mut jar.clone()).await.is_none());
    assert_eq!((site.user(&first).await.as_deref(), site.store.live().await.len()), (Some("ada"), 1));
    // A logout that comes late, under the old cookie.
    let late = site.open(&jar);
    late.destroy().await.unwrap();
    site.close(&late, &mut jar.clone()).await;
    assert!(site.store.live().await.is_empty());
}

/// Whatever the visitor came with.
#[tokio::test]
async fn the_class_that_was_asked_for_is_kept_until_something_is_stored() {
    let options =
        |options: SessionOptions| options.class("a", Lifetime::new()).max_size(1000).dead_cookie(DeadCookie::Remove);
    for came in ["nothing", "a session", "a dead cookie"] {
        for fails in [false, true] {
            let site = site_with(options);
            let mut jar = match came {
                "nothing" => None,
                "a session" => site.log_in().await,
                _ => Some("__Host-id=deaddeaddeaddeaddeaddeaddeaddead".to_owned()),
            };
            let session = site.open(&jar);
            session.regenerate_as("a").await.unwrap();
            if fails {
                session.insert("user", "x".repeat(1000)).await.unwrap();
                assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::TooLarge);
            } else {
                session.save().await.unwrap();
            }
            session.insert("user", "eve").await.unwrap();
            let cookie = site.close(&session, &mut jar).await.expect("a new session");
            assert!(cookie.contains(".a;"), "came with {came}, fails: {fails}: {cookie}");
        }
    }
}

/// What follows an end says the class, and drops nothing.
#[tokio::test]
async fn after_an_end_only_the_class_is_said() {
    let site = site_with(|options| options.class("a", Lifetime::new()));
    for (last, class) in [(Some("a"), Some("a")), (None, None)] {
        let mut jar = site.log_in().await;
        let session = site.open(&jar);
        session.destroy().await.unwrap();
        session.insert("kept", 1).await.unwrap();
        session.regenerate_as("a").await.unwrap();
        match last {
            Some(last) => session.regenerate_as(last).await.unwrap(),
            None => session.regenerate().await.unwrap(),
        }
        site.close(&session, &mut jar).await.expect("a new session");
        let session = site.open(&jar);
        assert_eq!(session.get::<u32>("kept").await.unwrap(), Some(1));
        assert_eq!(session.class().await.unwrap().as_deref(), class);
    }
}

// Two processes whose clocks differ, a store with a clock of its own, and one browser.

/// What one request does.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Look,
    Write,
    Touch,
    Renew,
    RenewAs(usize),
    Regenerate,
    RegenerateAs(usize),
    Destroy,
    Reload,
    Expires,
}

const CLASSES: [&str; 3] = ["month", "short", "fixed"];

/// By class, the default one last; idle and absolute end.
const LIFETIMES: [(Option<Duration>, Option<Duration>); 4] = [
    (Some(Duration::from_secs(30 * 86_400)), None),
    (Some(Duration::from_secs(3600)), Some(Duration::from_secs(2 * 3600))),
    (None, Some(Duration::from_secs(6 * 3600))),
    (Some(Duration::from_secs(2 * 3600)), Some(Duration::from_secs(12 * 3600))),
];

#[derive(Clone, Copy, Debug)]
struct Request {
    after: Duration,
    process: usize,
    unattended: bool,
    verb: Verb,
    /// What it does then, once that is saved.
    next: Option<Verb>,
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        4 => Just(Verb::Look),
        3 => Just(Verb::Write),
        1 => Just(Verb::Touch),
        2 => Just(Verb::Renew),
        2 => (0..CLASSES.len()).prop_map(Verb::RenewAs),
        1 => Just(Verb::Regenerate),
        2 => (0..CLASSES.len()).prop_map(Verb::RegenerateAs),
        1 => Just(Verb::Destroy),
        1 => Just(Verb::Reload),
        1 => Just(Verb::Expires),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let after = prop_oneof![
        3 => 0..120_u64,
        3 => 1000..7300_u64,
        1 => 7_200..50_000_u64,
        1 => 86_400..40 * 86_400_u64,
    ];
    (after, 0..2_usize, any::<bool>(), verb(), prop::option::of(verb())).prop_map(
        |(after, process, unattended, verb, next)| {
            let after = Duration::from_secs(after);
            Request { after, process, unattended, verb, next }
        },
    )
}

struct World {
    clocks: [Clock; 3],
    sessions: [Sessions; 2],
    /// The time that passed, by no clock of theirs.
    now: Duration,
    /// The browser's cookie, and when it forgets that.
    cookie: Option<(String, Option<Duration>)>,
    live: Option<Live>,
}

/// A session as it should be.
#[derive(Clone, Copy, Debug)]
struct Live {
    /// Its place in [`LIFETIMES`].
    class: usize,
    created: Duration,
    used: Duration,
}

/// How far apart clocks are, at most.
const APART: Duration = Duration::from_secs(3600);

impl World {
    fn new(ahead: [u64; 3]) -> Self {
        let clocks = ahead.map(|ahead| {
            let clock = Clock::manual();
            clock.advance(Duration::from_secs(ahead));
            clock
        });
        let store = Store::new(&clocks[2]);
        let sessions = [0, 1].map(|process| {
            let lifetime = |index: usize| {
                let (idle, absolute) = LIFETIMES[index];
                let lifetime = Lifetime::new().idle(idle).absolute(absolute);
                // The default ends with the browser, which does not end here.
                if index < CLASSES.len() { lifetime.persistent() } else { lifetime }
            };
            let options = SessionOptions::new(store.clone()).clock(clocks[process].clone());
            let options = options.lifetime(lifetime(CLASSES.len()));
            let options = (0..CLASSES.len()).fold(options, |options, n| options.class(CLASSES[n], lifetime(n)));
            Sessions::new(options)
        });
        Self { clocks, sessions, now: Duration::ZERO, cookie: None, live: None }
    }

    fn open(&self, process: usize) -> Session {
        let cookie = self.cookie.as_ref().map(|(pair, _)| ("cookie", pair.as_bytes()));
        self.sessions[process].open(RequestHead::new(cookie))
    }

    /// Whether a session must be alive, by any clock, and whether it may be.
    fn bounds(&self, live: Live) -> (bool, bool) {
        let (idle, absolute) = LIFETIMES[live.class];
        let (idled, aged) = (self.now - live.used, self.now - live.created);
        let slack = idle.map_or(Duration::ZERO, |idle| MINUTE.min(idle / 10));
        let must = idle.is_none_or(|idle| idled < idle - slack) && absolute.is_none_or(|end| aged + APART < end);
        let may = idle.is_none_or(|idle| idled < idle) && absolute.is_none_or(|end| aged < end + APART);
        (must, may)
    }

    fn ask(&mut self, session: &Session, verb: Verb) -> Result<(), TestCaseError> {
        let begins = |class| Some(Live { class, created: self.now, used: self.now });
        let default = CLASSES.len();
        let insert = || now(session.insert("n", self.now.as_millis() as u64)).unwrap();
        match verb {
            Verb::Look => {}
            Verb::Write => {
                insert();
                self.live = self.live.or(begins(default));
            }
            Verb::Touch => now(session.touch()).unwrap(),
            Verb::Renew => {
                now(session.renew()).unwrap();
                insert();
                self.live = self.live.or(begins(default));
            }
            Verb::RenewAs(class) => {
                now(session.renew_as(CLASSES[class])).unwrap();
                insert();
                self.live = begins(class);
            }
            Verb::Regenerate => {
                now(session.regenerate()).unwrap();
                insert();
                self.live = begins(default);
            }
            Verb::RegenerateAs(class) => {
                now(session.regenerate_as(CLASSES[class])).unwrap();
                insert();
                self.live = begins(class);
            }
            Verb::Destroy => {
                now(session.destroy()).unwrap();
                self.live = None;
            }
            Verb::Reload => now(session.reload()).unwrap(),
            Verb::Expires => {
                let expires = now(session.expires()).unwrap();
                prop_assert_eq!(expires.is_some(), self.live.is_some());
                if let (Some(expires), Some(live)) = (expires, self.live) {
                    let (idle, absolute) = LIFETIMES[live.class];
                    // By the clock that nobody has, give or take what the clocks differ.
                    let ends = expires.duration_since(self.clocks[2].now()).unwrap_or_default() + self.now;
                    let end = idle.map(|idle| live.used + idle).into_iter();
                    let end = end.chain(absolute.map(|absolute| live.created + absolute)).min().expect("an end");
                    prop_assert!(ends <= end + APART && ends + APART + MINUTE >= end, "{ends:?} of {live:?}");
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, request: Request) -> Result<(), TestCaseError> {
        let Request { after, process, unattended, verb, next } = request;
        self.now += after;
        self.clocks.iter().for_each(|clock| clock.advance(after));
        if self.cookie.as_ref().is_some_and(|(_, forgets)| forgets.is_some_and(|forgets| forgets <= self.now)) {
            self.cookie = None;
            if let Some(live) = self.live.take() {
                let (idle, absolute) = LIFETIMES[live.class];
                let is_near_its_end = match absolute {
                    Some(absolute) => self.now - live.created + APART >= absolute,
                    // A tenth passes before it is sent again, and as much by a clock that is behind.
                    None => self.now - live.used + APART >= idle.unwrap_or_default() * 9 / 10,
                };
                prop_assert!(is_near_its_end, "the browser forgot {live:?} at {:?}", self.now);
            }
        }
        let session = self.open(process);
        if unattended {
            session.unattended().unwrap();
        }
        let is_alive = !now(session.is_new()).unwrap();
        if let Some(live) = &mut self.live {
            let live_then = *live;
            if is_alive && !unattended {
                live.used = self.now;
            }
            let (must, may) = self.bounds(live_then);
            prop_assert!(is_alive || !must, "{live_then:?} ended early, at {:?}", self.now);
            prop_assert!(!is_alive || may, "{live_then:?} lives too long, at {:?}", self.now);
        } else {
            prop_assert!(!is_alive, "a session came back");
        }
        self.live = self.live.filter(|_| is_alive);
        self.ask(&session, verb)?;
        if let Some(next) = next {
            now(session.save()).unwrap();
            self.ask(&session, next)?;
        }
        let headers = now(self.sessions[process].close(&session)).unwrap();
        if let Some(cookie) = headers.set_cookie().map(|cookie| cookie.value().to_owned()) {
            let (pair, attributes) = cookie.split_once(';').expect("attributes");
            let age = attributes.split("; ").find_map(|attribute| attribute.strip_prefix("Max-Age="));
            let age = age.map(|age| Duration::from_secs(age.parse().expect("seconds")));
            let pair = pair.to_owned();
            self.cookie = Some((pair, age.map(|age| self.now + age))).filter(|_| age != Some(Duration::ZERO));
            if self.cookie.is_some() {
                // Whatever the other process's clock says, and without a use.
                let other = self.open(1 - process);
                other.unattended().unwrap();
                let is_there = !now(other.is_new()).unwrap();
                let (must, _) = self.bounds(self.live.expect("a cookie is sent of what lives"));
                prop_assert!(is_there || !must, "a cookie without a record");
            }
        }
        Ok(())
    }
}

/// In memory all is done when it is first polled.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory answers at once")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Nothing is prolonged by what is unattended; no cookie is sent without a record; nothing outlives its absolute end,
    /// and nobody is logged out early, by more than the slack and what the clocks differ.
    #[test]
    fn sessions_live_as_long_as_they_should(
        ahead in [0..3600_u64, 0..3600, 0..3600],
        requests in prop::collection::vec(request(), 1..40),
    ) {
        let mut world = World::new(ahead);
        for request in requests {
            world.carry_out(request)?;
        }
    }
}
