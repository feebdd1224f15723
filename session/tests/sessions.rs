//! The rules of sessions, without any framework: what is stored, what is sent, and who wins.

mod store;

use std::time::Duration;

use futures_util::FutureExt;
use sosa_session::sosa::{self, Clock, Collection, CollectionExt, Outcome};
use sosa_session::{
    CookieOptions, ErrorKind, Field, Lifetime, RequestHead, Scheme, Secure, SessionData, SessionOptions, Sessions,
    TrustProxy,
};
use store::{DAY, Jar, site, site_with};

#[tokio::test]
async fn who_asks_nothing_costs_nothing_and_reading_costs_one_call() {
    let site = site();
    let jar = site.log_in().await;
    for jar in [&None, &jar, &Some("__Host-id=unknownunknownunknownunknownunk0".into())] {
        let session = site.open(jar);
        assert!(site.close(&session, &mut jar.clone()).await.is_none());
        assert_eq!(site.store.calls(), 0);
    }
    let session = site.open(&None);
    assert_eq!(session.get::<String>("user").await.unwrap(), None);
    assert!(session.is_new().await.unwrap());
    assert!(site.close(&session, &mut None).await.is_none());
    assert_eq!(site.store.calls(), 0, "there is nothing to look up");

    let session = site.open(&jar);
    assert_eq!(session.get::<String>("user").await.unwrap().as_deref(), Some("ada"));
    assert_eq!(session.keys().await.unwrap(), ["user"]);
    assert!(!session.is_new().await.unwrap());
    assert!(site.close(&session, &mut jar.clone()).await.is_none());
    assert_eq!(site.store.calls(), 1);
}

#[tokio::test]
async fn a_session_is_made_by_its_first_edit_and_announced_once() {
    let site = site();
    let mut jar = None;
    let session = site.open(&jar);
    let public_id = session.public_id().await.unwrap();
    session.insert("n", 1).await.unwrap();
    assert_eq!(session.rev().await.unwrap(), 0);
    let cookie = site.close(&session, &mut jar).await.unwrap();
    assert_eq!(site.store.calls(), 1);
    assert!(cookie.ends_with("; Path=/; HttpOnly; Secure; SameSite=Lax"), "{cookie}");
    assert_eq!(site.store.live().await, [public_id.to_string()], "it is stored under the public id that was shown");
    assert!(!cookie.contains(public_id.as_str()));

    let session = site.open(&jar);
    session.insert("n", 2).await.unwrap();
    session.save().await.unwrap();
    assert_eq!(session.rev().await.unwrap(), 2);
    session.insert("m", 3).await.unwrap();
    assert!(site.close(&session, &mut jar).await.is_none(), "the client has the cookie");
    let session = site.open(&jar);
    assert_eq!((session.rev().await.unwrap(), session.public_id().await.unwrap()), (3, public_id));
    assert_eq!(session.data().await.unwrap().iter().map(|(_, json)| json).collect::<Vec<_>>(), ["2", "3"]);
}

#[tokio::test]
async fn what_changes_nothing_is_not_saved() {
    let site = site();
    let mut jar = site.log_in().await;
    let session = site.open(&jar);
    session.insert("user", "eve").await.unwrap();
    session.insert("user", "ada").await.unwrap();
    assert!(!session.remove("nothing").await.unwrap());
    session.update("user", |user: Option<String>| user.unwrap_or_default()).await.unwrap();
    session.save().await.unwrap();
    assert_eq!((site.store.calls(), session.rev().await.unwrap()), (1, 1));
    session.clear().await.unwrap();
    session.insert("user", "ada").await.unwrap();
    site.close(&session, &mut jar).await;
    assert_eq!(site.store.calls(), 0);

    let session = site.open(&None);
    session.insert("n", 1).await.unwrap();
    session.remove("n").await.unwrap();
    assert!(site.close(&session, &mut None).await.is_none());
    assert_eq!(site.store.calls(), 0, "an empty new session is not stored");
}

#[tokio::test]
async fn an_unknown_id_is_never_taken_over() {
    let site = site();
    let planted = "__Host-id=plantedplantedplantedplantedplan".to_owned();
    let mut jar = Some(planted.clone());
    let session = site.open(&jar);
    session.insert("user", "ada").await.unwrap();
    site.close(&session, &mut jar).await.unwrap();
    assert_ne!(jar, Some(planted.clone()));
    assert_eq!(site.user(&Some(planted)).await, None);
    assert_eq!(site.user(&jar).await.as_deref(), Some("ada"));
}

#[tokio::test]
async fn concurrent_edits_lose_nothing() {
    let site = site();
    let mut jar = site.log_in().await;
    let (one, other) = (site.open(&jar), site.open(&jar));
    for (session, key) in [(&one, "one"), (&other, "other")] {
        session.insert(key, true).await.unwrap();
        session.insert("last", key).await.unwrap();
        session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await.unwrap();
        session.update("n", |n: Option<u32>| n.unwrap_or(0) * 10).await.unwrap();
    }
    other.remove("user").await.unwrap();
    for session in [&one, &other] {
        site.close(session, &mut jar).await;
    }
    let data = site.open(&jar).data().await.unwrap();
    assert_eq!((data.json("one"), data.json("other"), data.json("user")), (Some("true"), Some("true"), None));
    assert_eq!(data.json("last"), Some("\"other\""), "the later save wins");
    assert_eq!(data.json("n"), Some("110"), "both steps of each update are taken again, in order");
    assert_eq!(data.rev(), 3);
}

#[tokio::test]
async fn an_ended_session_stays_ended() {
    let site = site();
    let jar = site.log_in().await;
    let (late, told, never) = (site.open(&jar), site.open(&jar), site.open(&jar));
    for session in [&late, &told, &never] {
        session.insert("late", 1).await.unwrap();
    }
    let logout = site.open(&jar);
    logout.destroy().await.unwrap();
    let mut browser = jar.clone();
    let sent = site.close(&logout, &mut browser).await.unwrap();
    assert!(sent.starts_with("__Host-id=; ") && browser.is_none(), "{sent}");

    assert_eq!(told.save().await.unwrap_err().kind(), ErrorKind::Ended);
    assert_eq!(told.get::<u8>("late").await.unwrap(), None);
    told.insert("again", 1).await.unwrap();
    for session in [&late, &told, &never] {
        assert!(site.close(session, &mut jar.clone()).await.is_none(), "whose edits are dropped sends no cookie");
    }
    assert!(site.store.live().await.is_empty());
}

#[tokio::test]
async fn renew_keeps_the_data_under_a_new_id() {
    let site = site();
    let old = site.log_in().await;
    let mut jar = old.clone();
    let session = site.open(&jar);
    session.insert("role", "admin").await.unwrap();
    session.renew().await.unwrap();
    let before = session.public_id().await.unwrap();
    session.save().await.unwrap();
    assert_ne!(session.public_id().await.unwrap(), before);
    assert_eq!(session.rev().await.unwrap(), 2);
    site.close(&session, &mut jar).await.expect("the new id is announced");
    assert_ne!(jar, old);
    assert_eq!(site.user(&jar).await.as_deref(), Some("ada"));
    assert_eq!(site.user(&old).await, None);
    assert_eq!(site.store.live().await.len(), 1);
}

/// A page's other requests, still under the old cookie, must not wipe the login that renewed it.
#[tokio::test]
async fn a_late_edit_under_a_renewed_id_sends_no_cookie() {
    let site = site();
    let old = site.log_in().await;
    let mut jar = old.clone();
    let (under_way, login) = (site.open(&old), site.open(&old));
    under_way.insert("seen", 1).await.unwrap();
    login.renew().await.unwrap();
    site.close(&login, &mut jar).await.unwrap();
    let late = site.open(&old);
    late.insert("seen", 2).await.unwrap();
    for session in [&under_way, &late] {
        assert!(site.close(session, &mut jar).await.is_none());
    }
    let login_again = site.open(&old);
    login_again.renew().await.unwrap();
    login_again.insert("user", "bob").await.unwrap();
    let mut other_jar = old.clone();
    site.close(&login_again, &mut other_jar).await.expect("a login that is tried again works");
    assert_eq!(site.user(&other_jar).await.as_deref(), Some("bob"));
    assert_eq!(site.user(&jar).await.as_deref(), Some("ada"));

    // It is remembered for a while only, however often somebody comes back to it.
    site.clock.advance(Duration::from_secs(29));
    assert_eq!(site.user(&old).await, None);
    site.clock.advance(Duration::from_secs(1));
    let session = site.open(&old);
    session.insert("user", "eve").await.unwrap();
    assert!(site.close(&session, &mut None).await.is_some(), "now it is an id like any unknown one");
    assert_eq!(site.store.inner.list().await.unwrap().items.len(), 3, "three sessions and nothing else");
}

#[tokio::test]
async fn a_logout_under_a_renewed_id_ends_the_session() {
    for logs_out_before_close in [true, false] {
        let site = site();
        let mut jar = site.log_in().await;
        let logout = site.open(&jar);
        if logs_out_before_close {
            logout.destroy().await.unwrap();
        }
        for _ in 0..2 {
            let login = site.open(&jar);
            login.renew().await.unwrap();
            site.close(&login, &mut jar).await.unwrap();
        }
        logout.destroy().await.unwrap();
        site.close(&logout, &mut jar).await.unwrap();
        assert!(site.store.live().await.is_empty() && jar.is_none());
    }
}

#[tokio::test]
async fn renew_carries_what_others_saved_and_yields_to_a_logout() {
    let site = site();
    let mut jar = site.log_in().await;
    let (edit, login) = (site.open(&jar), site.open(&jar));
    edit.insert("cart", 1).await.unwrap();
    login.insert("role", "admin").await.unwrap();
    login.renew().await.unwrap();
    site.close(&edit, &mut jar).await;
    site.close(&login, &mut jar).await.unwrap();
    let data = site.open(&jar).data().await.unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["user", "cart", "role"]);

    let (logout, login) = (site.open(&jar), site.open(&jar));
    login.renew().await.unwrap();
    logout.destroy().await.unwrap();
    let mut gone = jar.clone();
    site.close(&logout, &mut gone).await;
    assert!(site.close(&login, &mut jar).await.is_none());
    assert!(site.store.live().await.is_empty());
}

#[tokio::test]
async fn regenerate_and_destroy_start_a_new_session_if_something_is_inserted() {
    for destroy in [false, true] {
        let site = site();
        let old = site.log_in().await;
        let mut jar = old.clone();
        let session = site.open(&jar);
        session.insert("lost", 1).await.unwrap();
        let before = session.public_id().await.unwrap();
        if destroy {
            session.destroy().await.unwrap();
        } else {
            session.regenerate().await.unwrap();
        }
        assert_eq!((session.get::<u8>("user").await.unwrap(), session.rev().await.unwrap()), (None, 0));
        let after = session.public_id().await.unwrap();
        assert_ne!(after, before);
        session.insert("user", "bob").await.unwrap();
        site.close(&session, &mut jar).await.unwrap();
        assert_eq!(site.store.live().await, [after.to_string()]);
        assert_eq!((site.user(&old).await, site.user(&jar).await.as_deref()), (None, Some("bob")));

        let session = site.open(&jar);
        if destroy {
            session.destroy().await.unwrap();
        } else {
            session.regenerate().await.unwrap();
        }
        let sent = site.close(&session, &mut jar).await.unwrap();
        assert!(sent.contains("Max-Age=0"), "nothing was inserted: there is no session");
        assert!(site.store.live().await.is_empty());
    }
}

#[tokio::test]
async fn two_logins_at_once_leave_a_browser_logged_in() {
    let site = site();
    let jar = site.log_in().await;
    let logins = [site.open(&jar), site.open(&jar)];
    let mut browser = jar.clone();
    for login in &logins {
        login.regenerate().await.unwrap();
        login.insert("user", "bob").await.unwrap();
    }
    for login in &logins {
        site.close(login, &mut browser).await.unwrap();
        assert_eq!(site.user(&browser).await.as_deref(), Some("bob"));
    }
}

#[tokio::test]
async fn idle_and_absolute_lifetime() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let site = site_with(|options| options.lifetime(Lifetime::new().idle(minutes(10)).absolute(minutes(60))));
    let jar = site.log_in().await;
    for _ in 0..6 {
        site.clock.advance(minutes(9));
        assert_eq!(site.user(&jar).await.as_deref(), Some("ada"), "each use counts");
        assert_eq!(site.store.calls(), 1, "in the same call");
    }
    site.clock.advance(minutes(6));
    assert_eq!(site.user(&jar).await, None, "it was used 6 minutes ago, and began an hour ago");
    assert_eq!(site.store.inner.list().await.unwrap().items.len(), 0);

    let jar = site.log_in().await;
    site.clock.advance(minutes(9));
    let untouched = site.open(&jar);
    site.close(&untouched, &mut None).await;
    site.clock.advance(minutes(1));
    assert_eq!(site.user(&jar).await, None, "a request that asks nothing does not count");

    let jar = site.log_in().await;
    site.clock.advance(minutes(9));
    let stream = site.open(&jar);
    stream.touch().await.unwrap();
    site.close(&stream, &mut None).await;
    site.clock.advance(minutes(9));
    stream.touch().await.unwrap();
    stream.save().await.unwrap();
    site.clock.advance(minutes(9));
    assert_eq!(site.user(&jar).await.as_deref(), Some("ada"), "unless it says so");
}

#[tokio::test]
async fn renewing_does_not_begin_anew_and_a_persistent_cookie_says_what_is_left() {
    let site = site_with(|options| {
        let lifetime = Lifetime::new().idle(None).absolute(Duration::from_secs(100)).persistent();
        options.lifetime(lifetime)
    });
    let mut jar = None;
    let session = site.open(&jar);
    session.insert("user", "ada").await.unwrap();
    assert!(site.close(&session, &mut jar).await.unwrap().contains("; Max-Age=100;"));
    site.clock.advance(Duration::from_secs(60));
    let session = site.open(&jar);
    session.renew().await.unwrap();
    assert!(site.close(&session, &mut jar).await.unwrap().contains("; Max-Age=40;"));
    site.clock.advance(Duration::from_secs(39));
    assert_eq!(site.user(&jar).await.as_deref(), Some("ada"));
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(site.user(&jar).await, None);
}

#[tokio::test]
async fn where_no_cookie_may_be_sent_nothing_is_saved() {
    let site = site_with(|options| options.scheme(Scheme::Http).trust_proxy(TrustProxy::always()));
    let plain = site.open(&None);
    plain.insert("user", "ada").await.unwrap();
    let error = plain.save().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Insecure);
    assert!(error.to_string().contains("trust the proxy"));
    assert!(site.close(&plain, &mut None).await.is_none());
    assert_eq!(site.store.calls(), 0);

    let through = |proto: &'static str, jar: &Jar| {
        let cookie = jar.clone().unwrap_or_default();
        let headers = [("cookie", cookie.as_bytes()), ("x-forwarded-proto", proto.as_bytes())];
        site.sessions.open(RequestHead::new(headers))
    };
    let mut jar = None;
    for (proto, is_sent) in [("HTTPS, http", true), ("wss", true), ("ws", false), ("", false), ("spdy", false)] {
        let session = through(proto, &None);
        session.insert("user", "ada").await.unwrap();
        let mut received = None;
        assert_eq!(site.close(&session, &mut received).await.is_some(), is_sent, "{proto}");
        jar = received.or(jar);
    }
    let session = through("http", &jar);
    session.insert("user", "eve").await.unwrap();
    assert!(site.close(&session, &mut jar).await.is_none());
    assert_eq!(site.user(&jar).await.as_deref(), Some("ada"));
    let session = through("http", &jar);
    session.destroy().await.unwrap();
    assert!(site.close(&session, &mut jar).await.is_none());
    assert_eq!(site.store.live().await.len(), 1, "an end is honoured all the same");

    let site = site_with(|options| options.scheme(Scheme::Http));
    let head = RequestHead::new([("x-forwarded-proto", &b"https"[..])]);
    let session = site.sessions.open(head);
    session.insert("user", "eve").await.unwrap();
    assert!(site.close(&session, &mut None).await.is_none(), "a header of anybody is not believed");
}

#[tokio::test]
async fn an_automatic_secure_cookie_follows_the_scheme() {
    let site = site_with(|options| options.cookie(CookieOptions::new().secure(Secure::Auto)));
    for (scheme, secure) in [(Scheme::Http, false), (Scheme::Https, true), (Scheme::Unknown, false)] {
        let session = site.sessions.open(RequestHead::new([]).scheme(scheme));
        session.insert("user", "ada").await.unwrap();
        assert_eq!(site.close(&session, &mut None).await.unwrap().contains("; Secure"), secure);
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_an_error_for_its_key_alone() {
    const USER: Field<u32> = Field::new("user");
    let site = site();
    let mut jar = site.log_in().await;
    let session = site.open(&jar);
    let error = session.get(USER).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Decode, 500));
    assert!(!format!("{error} {error:?}").contains("ada"));
    assert_eq!(session.update(USER, |_| 1).await.unwrap_err().kind(), ErrorKind::Decode);
    session.insert("n", 1).await.unwrap();
    site.close(&session, &mut jar).await;
    let session = site.open(&jar);
    assert_eq!(session.get::<String>("user").await.unwrap().as_deref(), Some("ada"));
    assert_eq!(session.get::<u8>("n").await.unwrap(), Some(1));

    for refused in [session.insert("sosa", 1).await, session.remove("sosa").await.map(drop)] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReservedKey);
    }
    assert_eq!(session.get::<u8>("sosa").await.unwrap(), None);
    let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert_eq!(session.insert("map", no_json).await.unwrap_err().kind(), ErrorKind::Encode);
}

#[tokio::test]
async fn a_record_that_is_no_session_is_an_error_and_is_not_overwritten() {
    let site = site();
    let jar = site.log_in().await;
    let [id] = &site.store.live().await[..] else { panic!("one session") };
    let foreign: SessionData = r#"{"cookie":{},"user":"eve"}"#.parse().unwrap();
    site.store.inner.save(id, &foreign).await.unwrap();
    let session = site.open(&jar);
    for error in [session.get::<String>("user").await.unwrap_err(), session.insert("user", 1).await.unwrap_err()] {
        assert_eq!(error.store().unwrap().kind(), sosa::ErrorKind::Decode);
        assert_eq!(error.status(), 500);
    }
    assert!(site.close(&session, &mut None).await.is_none());
    assert_eq!(site.store.inner.load(id).await.unwrap(), Some(foreign));
}

#[tokio::test]
async fn a_store_that_fails_sends_no_cookie_and_leaves_nothing_behind() {
    let site = site();
    let session = site.open(&None);
    session.insert("user", "ada").await.unwrap();
    site.store.fail_at(1, false);
    let error = site.sessions.close(&session).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Store, 503));
    assert!(site.store.live().await.is_empty());

    let jar = site.log_in().await;
    for (call, applied) in [(1, false), (1, true), (2, false)] {
        let session = site.open(&jar);
        session.insert("n", 1).await.unwrap();
        session.renew().await.unwrap();
        site.store.fail_at(call, applied);
        assert_eq!(site.sessions.close(&session).await.unwrap_err().status(), 503);
        assert_eq!(site.store.live().await.len(), 1, "the record that nobody was told of is gone");
        assert_eq!(site.user(&jar).await.as_deref(), Some("ada"), "the old one works on");
    }
}

/// The renewed session is all there is once the old one has ended, whoever knows of it.
#[tokio::test]
async fn a_renewal_whose_answer_is_lost_loses_no_session() {
    let site = site();
    let mut jar = site.log_in().await;
    let session = site.open(&jar);
    session.renew().await.unwrap();
    site.store.fail_at(2, true);
    site.close(&session, &mut jar).await.expect("it is found to have happened");
    assert_eq!(site.user(&jar).await.as_deref(), Some("ada"));

    let old = jar.clone();
    let session = site.open(&jar);
    session.insert("role", "admin").await.unwrap();
    session.renew().await.unwrap();
    session.save().await.unwrap();
    session.insert("n", 1).await.unwrap();
    site.store.fail_at(1, false);
    let error = site.sessions.close(&session).await.unwrap_err();
    let cookie = error.headers().set_cookie().expect("what was saved before is announced").value().to_owned();
    assert!(!format!("{error:?}").contains("__Host-id"));
    jar = cookie.split(';').next().map(str::to_owned);
    assert_eq!((site.user(&jar).await.as_deref(), site.user(&old).await), (Some("ada"), None));
}

#[tokio::test]
async fn a_public_id_that_was_shown_is_that_of_the_session_also_after_a_failed_save() {
    let site = site();
    let session = site.open(&None);
    let public_id = session.public_id().await.unwrap();
    session.insert("user", "ada").await.unwrap();
    site.store.fail_at(1, false);
    session.save().await.unwrap_err();
    session.save().await.unwrap();
    site.close(&session, &mut None).await.unwrap();
    assert_eq!(site.store.live().await, [public_id.to_string()]);

    let session = site.open(&None);
    session.insert("user", "eve").await.unwrap();
    site.store.fail_at(1, true);
    session.save().await.unwrap_err();
    assert!(site.close(&session, &mut None).await.is_none());
    assert_eq!(site.store.live().await.len(), 1, "what may have been saved, and nobody was told of, is gone");
}

#[tokio::test]
async fn a_save_that_the_handler_knows_has_failed_is_not_sent_again() {
    let site = site();
    let mut jar = site.log_in().await;
    let session = site.open(&jar);
    session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await.unwrap();
    site.store.fail_at(1, true);
    let error = session.save().await.unwrap_err();
    assert_eq!(error.store().unwrap().outcome(), Outcome::Unknown);
    assert!(site.close(&session, &mut jar).await.is_none());
    assert_eq!(site.open(&jar).get("n").await.unwrap(), Some(1));

    let session = site.open(&jar);
    session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await.unwrap();
    site.store.fail_at(1, false);
    session.save().await.unwrap_err();
    assert_eq!(site.store.calls(), 1);
    site.close(&session, &mut jar).await;
    assert_eq!((site.store.calls(), site.open(&jar).get("n").await.unwrap()), (0, Some(1)), "it was not applied");

    // More that is asked for is saved, and with it what was not applied.
    let session = site.open(&jar);
    session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await.unwrap();
    site.store.fail_at(1, false);
    session.save().await.unwrap_err();
    session.insert("more", 1).await.unwrap();
    site.close(&session, &mut jar).await;
    assert_eq!(site.open(&jar).get("n").await.unwrap(), Some(2));

    // What is asked for after such a save is not lost silently.
    let session = site.open(&jar);
    session.insert("m", 0).await.unwrap();
    site.store.fail_at(1, true);
    session.save().await.unwrap_err();
    session.insert("late", 1).await.unwrap();
    let error = site.sessions.close(&session).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Uncertain, 503));

    // An end may always be asked for again, and so may what comes after a look at what happened.
    let session = site.open(&jar);
    session.insert("m", 1).await.unwrap();
    site.store.fail_at(1, true);
    session.save().await.unwrap_err();
    session.reload().await.unwrap();
    assert_eq!(session.get("m").await.unwrap(), Some(1));
    session.insert("m", 2).await.unwrap();
    site.close(&session, &mut jar).await;
    let session = site.open(&jar);
    assert_eq!(session.get("m").await.unwrap(), Some(2));
    session.remove("m").await.unwrap();
    site.store.fail_at(1, true);
    session.save().await.unwrap_err();
    session.destroy().await.unwrap();
    site.close(&session, &mut jar).await.expect("the cookie is taken back");
    assert!(site.store.live().await.is_empty());
}

#[tokio::test]
async fn a_save_that_is_dropped_on_its_way_is_not_sent_again() {
    let site = site();
    let mut jar = site.log_in().await;
    let session = site.open(&jar);
    session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await.unwrap();
    // Applied at its first poll, and dropped before it can tell.
    site.store.hang_from(1);
    assert!(session.save().now_or_never().is_none());
    site.store.mend();
    assert!(site.close(&session, &mut jar).await.is_none());
    assert_eq!(site.open(&jar).get("n").await.unwrap(), Some(1));
}

#[tokio::test]
async fn who_finds_the_session_ended_announces_nothing_and_computes_nothing() {
    let site = site();
    let jar = site.log_in().await;
    let session = site.open(&jar);
    session.renew().await.unwrap();
    session.save().await.unwrap();
    session.insert("late", 1).await.unwrap();
    session.update("user", |user: Option<String>| user.expect("it is there")).await.unwrap();
    let logout = site.open(&jar);
    logout.destroy().await.unwrap();
    site.close(&logout, &mut jar.clone()).await.unwrap();
    assert!(site.close(&session, &mut jar.clone()).await.is_none(), "the id that it was to announce has ended");
    assert!(site.store.live().await.is_empty());
}

/// A login may be written as an end and a new beginning, too.
#[tokio::test]
async fn a_late_edit_after_destroy_and_insert_sends_no_cookie() {
    let site = site();
    let old = site.log_in().await;
    let mut jar = old.clone();
    let login = site.open(&old);
    login.destroy().await.unwrap();
    login.insert("user", "bob").await.unwrap();
    site.close(&login, &mut jar).await.unwrap();
    let late = site.open(&old);
    late.insert("seen", 1).await.unwrap();
    assert!(site.close(&late, &mut jar).await.is_none());
    assert_eq!(site.user(&jar).await.as_deref(), Some("bob"));
}

/// Another application's cookie may have our name, a longer path, and the form of our ids.
#[tokio::test]
async fn a_foreign_cookie_of_our_name_does_not_hide_ours() {
    let site = site();
    let ours = site.log_in().await.unwrap();
    let theirs = "__Host-id=0123456789abcdef0123456789abcdef";
    for cookies in [format!("{theirs}; {ours}"), format!("{ours}; {theirs}"), format!("{theirs}; {theirs}; {ours}")] {
        let mut jar = Some(cookies);
        assert_eq!(site.user(&jar).await.as_deref(), Some("ada"));
        let session = site.open(&jar);
        session.insert("n", 1).await.unwrap();
        assert!(site.close(&session, &mut jar).await.is_none());
    }
    let session = site.open(&Some(format!("{theirs}; {theirs}")));
    session.insert("n", 1).await.unwrap();
    assert!(site.close(&session, &mut None).await.is_some());
}

#[test]
fn debug_of_a_request_shows_no_cookie() {
    let head = RequestHead::new([("cookie", &b"__Host-id=secret"[..])]);
    assert_eq!(format!("{head:?}"), "RequestHead { scheme: Unknown, peer: None, .. }");
}

#[tokio::test]
async fn sessions_in_memory_go_by_the_clock_of_the_options() {
    let clock = Clock::manual();
    let sessions = Sessions::new(SessionOptions::memory().clock(clock.clone()));
    let session = sessions.open(RequestHead::new([]));
    session.insert("user", "ada").await.unwrap();
    let cookie = sessions.close(&session).await.unwrap().into_set_cookie().unwrap();
    let pair = cookie.value().split(';').next().unwrap();
    clock.advance(Duration::from_secs(24 * 60 * 60));
    let session = sessions.open(RequestHead::new([("cookie", pair.as_bytes())]));
    assert!(session.is_new().await.unwrap());
}

#[tokio::test]
async fn after_the_response_edits_need_a_save_and_nothing_new_can_begin() {
    let site = site();
    let mut jar = site.log_in().await;
    let stream = site.open(&jar);
    stream.get::<String>("user").await.unwrap();
    assert!(site.close(&stream, &mut jar).await.is_none());
    stream.insert("progress", 50).await.unwrap();
    stream.save().await.unwrap();
    assert_eq!(site.open(&jar).get("progress").await.unwrap(), Some(50));
    assert!(site.sessions.close(&stream).await.unwrap().into_set_cookie().is_none(), "closing twice does nothing");
    stream.renew().await.unwrap();
    assert_eq!(stream.save().await.unwrap_err().kind(), ErrorKind::Closed);
    stream.insert("progress", 51).await.unwrap();
    stream.save().await.expect("the id stays");
    stream.destroy().await.unwrap();
    stream.save().await.unwrap();
    assert!(site.store.live().await.is_empty());

    let new = site.open(&None);
    site.close(&new, &mut None).await;
    new.insert("n", 1).await.unwrap();
    assert_eq!(new.save().await.unwrap_err().kind(), ErrorKind::Closed);
    new.reload().await.unwrap();
    assert_eq!(new.get::<u8>("n").await.unwrap(), None);
}

#[tokio::test]
async fn reload_shows_what_others_saved() {
    let site = site();
    let mut jar = site.log_in().await;
    let (one, other) = (site.open(&jar), site.open(&jar));
    one.insert("n", 1).await.unwrap();
    other.get::<u8>("n").await.unwrap();
    site.close(&one, &mut jar).await;
    assert_eq!(other.get::<u8>("n").await.unwrap(), None);
    other.insert("lost", 1).await.unwrap();
    other.destroy().await.unwrap();
    other.reload().await.unwrap();
    assert_eq!(other.get::<u8>("n").await.unwrap(), Some(1));
    assert_eq!(other.get::<u8>("lost").await.unwrap(), None);
    assert_eq!(other.clone().rev().await.unwrap(), 2);
    assert_eq!(site.store.inner.clear().await.unwrap(), 1);
    other.reload().await.unwrap();
    assert!(other.is_new().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_of_one_session_over_two_processes() {
    let site = site();
    let jar = site.log_in().await;
    // Nothing but the store is shared.
    let other = Sessions::new(SessionOptions::new(site.store.inner.clone()).clock(site.clock.clone()));
    let writers = (0..200).map(|n| {
        let sessions = if n % 2 == 0 { site.sessions.clone() } else { other.clone() };
        let cookie = jar.clone().unwrap();
        tokio::spawn(async move {
            let session = sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));
            session.insert(&format!("key{n}"), n).await.unwrap();
            tokio::task::yield_now().await;
            session.update("count", |count: Option<u32>| count.unwrap_or(0) + 1).await.unwrap();
            assert!(sessions.close(&session).await.unwrap().into_set_cookie().is_none());
        })
    });
    futures_util::future::try_join_all(writers).await.unwrap();
    let data = site.open(&jar).data().await.unwrap();
    assert_eq!(data.keys().count(), 202);
    assert_eq!(data.get("count").unwrap(), Some(200));
    assert_eq!(data.rev(), 201);
}

#[tokio::test]
async fn a_session_is_closed_by_those_that_opened_it() {
    let (site, other) = (site(), site());
    let session = site.open(&None);
    session.insert("user", "ada").await.unwrap();
    assert_eq!(other.sessions.close(&session).await.unwrap_err().kind(), ErrorKind::Options);
    assert_eq!(site.sessions.cookie_name(), "__Host-id");
    let cookie = site.sessions.clone().close(&session).await.unwrap().into_set_cookie().expect("it is not closed yet");
    assert!(cookie.value().starts_with("__Host-id="));
}

/// A cookie that opens no session is taken back when the user goes to a page: of several requests at once another may
/// have begun a session meanwhile, and its cookie must stay.
#[tokio::test]
async fn a_dead_cookie_is_taken_back_on_navigation() {
    use sosa_session::DeadCookie::{self, Keep, Remove, RemoveOnNavigation};

    const UNKNOWN: &str = "__Host-id=unknownunknownunknownunknownunkn";
    let by = |dead_cookie: DeadCookie| site_with(|options| options.dead_cookie(dead_cookie));
    for (option, mode, removes) in [
        (RemoveOnNavigation, Some("navigate"), true),
        (RemoveOnNavigation, Some("cors"), false),
        (RemoveOnNavigation, None, false),
        (Remove, None, true),
        (Keep, Some("navigate"), false),
    ] {
        let site = by(option);
        let live = site.log_in().await.unwrap();
        let both = format!("{UNKNOWN}; {live}");
        let ask = async |cookie: &str, waits: u64, asks: &str| {
            let mode = mode.iter().map(|mode| ("sec-fetch-mode", mode.as_bytes()));
            let session = site.sessions.open(RequestHead::new([("cookie", cookie.as_bytes())].into_iter().chain(mode)));
            site.clock.advance(Duration::from_secs(waits));
            match asks {
                "nothing" => {}
                "reads" => drop(session.keys().await.unwrap()),
                _ => session.insert("user", "bob").await.unwrap(),
            }
            let cookie = site.sessions.close(&session).await.unwrap().into_set_cookie();
            cookie.map(|cookie| cookie.value().starts_with("__Host-id=;"))
        };
        let removed = removes.then_some(true);
        assert_eq!(ask(UNKNOWN, 0, "reads").await, removed, "{option:?}, {mode:?}");
        assert_eq!(ask("__Host-id=malformed", 0, "reads").await, removed, "{option:?}, {mode:?}");
        assert_eq!(ask(UNKNOWN, 20, "reads").await, removed, "{option:?}, {mode:?}");
        // Later it may be one of a session that was renewed after the request was sent.
        assert_eq!(ask(UNKNOWN, 21, "reads").await, None, "{option:?}, {mode:?}");
        assert_eq!(ask(UNKNOWN, 0, "nothing").await, None, "nobody has looked whether it is dead");
        assert_eq!(ask("another=1", 0, "reads").await, None, "there is none of ours");
        assert_eq!(ask(&both, 0, "reads").await, None, "one of them lives");
        assert_eq!(ask(UNKNOWN, 0, "writes").await, Some(false), "a new one takes its place");
    }
}

/// What is too large is refused, and the session is as it was; one that is too large from before can shrink and end.
#[tokio::test]
async fn a_session_does_not_grow_beyond_its_limit() {
    const MAX: usize = 1000;
    let site = site_with(|options| options.max_size(MAX));
    let large = |bytes: usize| "x".repeat(bytes);
    let jar = site.log_in().await;
    let id = site.store.live().await.remove(0);
    let stored = async || site.store.inner.load(&id).await.unwrap().unwrap();

    // By the handler's own save, at the end of the request, for a new session, and for a new id.
    let session = site.open(&jar);
    session.insert("blob", large(MAX)).await.unwrap();
    let error = session.save().await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::TooLarge, 413));
    assert!(error.to_string().ends_with(" bytes, and may have 1000"), "{error}");
    assert_eq!(session.keys().await.unwrap(), ["user"], "the edits are dropped");
    session.insert("small", 1).await.unwrap();
    site.close(&session, &mut jar.clone()).await;
    assert_eq!(stored().await.keys().collect::<Vec<_>>(), ["user", "small"]);
    for (jar, renews) in [(&jar, false), (&jar, true), (&None, false)] {
        let session = site.open(jar);
        if renews {
            session.renew().await.unwrap();
        }
        session.insert("blob", large(MAX)).await.unwrap();
        site.store.calls();
        assert_eq!(site.sessions.close(&session).await.unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(site.store.calls(), 0, "nothing is moved");
    }
    assert_eq!(site.store.live().await, [id.as_str()]);

    // The last byte that fits.
    let room = MAX - stored().await.size() - r#","blob":"""#.len();
    for (bytes, fits) in [(room + 1, false), (room, true)] {
        let session = site.open(&jar);
        session.insert("blob", large(bytes)).await.unwrap();
        assert_eq!(site.sessions.close(&session).await.is_ok(), fits, "{bytes}");
    }
    assert_eq!(stored().await.size(), MAX);

    // One of before the limit.
    let old = Sessions::new(SessionOptions::new(site.store.clone()).clock(site.clock.clone()));
    let session = old.open(RequestHead::new(jar.iter().map(|cookie| ("cookie", cookie.as_bytes()))));
    session.insert("blob", large(5 * MAX)).await.unwrap();
    drop(old.close(&session).await.unwrap());
    for (edit, is_allowed) in [(large(5 * MAX + 60), false), (large(4 * MAX), true), (large(4 * MAX + 60), false)] {
        let session = site.open(&jar);
        assert_eq!(session.get::<String>("user").await.unwrap().as_deref(), Some("ada"), "it opens");
        session.insert("blob", edit).await.unwrap();
        assert_eq!(site.sessions.close(&session).await.is_ok(), is_allowed);
    }
    let session = site.open(&jar);
    session.destroy().await.unwrap();
    site.close(&session, &mut jar.clone()).await.expect("it ends");
    assert!(site.store.live().await.is_empty());
}

/// What is too large to be saved leaves no login under an id that may have been planted, and hinders no logout.
#[tokio::test]
async fn what_is_too_large_hinders_no_end_and_no_new_id() {
    const MAX: usize = 1000;
    for begins in ["regenerate", "renew", "destroy"] {
        for saves in [true, false] {
            let site = site_with(|options| options.max_size(MAX));
            let jar = site.log_in().await;
            let planted = site.store.live().await;
            let session = site.open(&jar);
            match begins {
                "regenerate" => session.regenerate().await.unwrap(),
                "renew" => session.renew().await.unwrap(),
                _ => session.destroy().await.unwrap(),
            }
            session.insert("cart", "x".repeat(MAX)).await.unwrap();
            let error = if saves {
                let error = session.save().await.unwrap_err();
                session.insert("user", "bob").await.unwrap();
                let mut new = None;
                site.close(&session, &mut new).await.expect("under a new id");
                assert_eq!(site.user(&new).await.as_deref(), Some("bob"), "{begins}");
                error
            } else {
                site.sessions.close(&session).await.unwrap_err()
            };
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{begins}");
            // Only a renewal that was not carried out leaves the session as it was.
            let lives = begins == "renew" && !saves;
            assert_eq!(site.store.live().await.contains(&planted[0]), lives, "{begins}, saves: {saves}");
            let removes = error.headers().set_cookie().is_some_and(|cookie| cookie.value().contains("Max-Age=0"));
            assert_eq!(removes, begins != "renew" && !saves, "{begins}, saves: {saves}");
        }
    }
}

#[tokio::test]
async fn a_touch_of_a_record_that_cannot_be_read_says_so() {
    let site = site();
    let jar = site.log_in().await;
    let id = site.store.live().await.remove(0);
    let stream = site.open(&jar);
    stream.keys().await.unwrap();
    site.store.make_unreadable(&id);
    stream.touch().await.unwrap();
    let error = stream.save().await.unwrap_err();
    assert_eq!(error.store().unwrap().kind(), sosa_session::sosa::ErrorKind::Decode);
}

/// A use moves the end: what is gone after it was ended by somebody, and did not expire.
#[tokio::test]
async fn a_session_that_is_in_use_does_not_expire() {
    let site = site();
    let jar = site.log_in().await;
    let stream = site.open(&jar);
    stream.keys().await.unwrap();
    for _ in 0..3 {
        site.clock.advance(DAY * 3 / 4);
        stream.touch().await.unwrap();
        stream.save().await.unwrap();
    }
    let logout = site.open(&jar);
    logout.destroy().await.unwrap();
    site.close(&logout, &mut jar.clone()).await;
    stream.insert("n", 1).await.unwrap();
    assert!(stream.save().await.unwrap_err().to_string().contains("ended by another request"));

    let site = self::site();
    let jar = site.log_in().await;
    let upload = site.open(&jar);
    upload.insert("uploaded", "video").await.unwrap();
    site.clock.advance(DAY);
    let error = upload.save().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ended);
    assert!(error.to_string().contains("has expired"), "{error}");
}
