//! What a renewal leaves behind: late requests, lost answers, other clocks, and records that name each other.

mod store;

use std::time::Duration;

use futures_util::FutureExt;
use sosa_session::sosa::{Clock, Collection, Outcome};
use sosa_session::{ErrorKind, RequestHead, Session, SessionData, SessionOptions, Sessions};
use store::{DAY, Jar, Site, Store, site};

/// Logs in under what a jar holds, as applications do, and returns what the browser then has.
async fn log_in(site: &Site, jar: &Jar, user: &str) -> Jar {
    let session = site.open(jar);
    session.regenerate().await.unwrap();
    session.insert("user", user).await.unwrap();
    let mut jar = jar.clone();
    site.close(&session, &mut jar).await.expect("a login is told of");
    jar
}

/// A WebSocket's handler goes on when its response was sent.
async fn socket(site: &Site, jar: &Jar) -> Session {
    let session = site.open(jar);
    session.get::<String>("user").await.unwrap();
    site.close(&session, &mut jar.clone()).await;
    session
}

#[tokio::test]
async fn what_came_with_a_renewal_that_cannot_be_told_of_goes_with_it() {
    let site = site();
    let visitor = site.log_in().await;
    let socket = socket(&site, &visitor).await;
    socket.renew().await.unwrap();
    socket.insert("user", "admin").await.unwrap();
    assert_eq!(socket.save().await.unwrap_err().kind(), ErrorKind::Closed);
    // An attacker may know the old id: nothing of the login may come under it.
    socket.insert("seen", 1).await.unwrap();
    socket.save().await.unwrap();
    assert_eq!(site.user(&visitor).await.as_deref(), Some("ada"));
    assert_eq!(site.open(&visitor).get("seen").await.unwrap(), Some(1));
    // Nor what is inserted into a new beginning.
    socket.regenerate().await.unwrap();
    socket.insert("user", "admin").await.unwrap();
    assert_eq!(socket.save().await.unwrap_err().kind(), ErrorKind::Closed);
    socket.insert("user", "eve").await.unwrap();
    assert_eq!(socket.save().await.unwrap_err().kind(), ErrorKind::Closed, "there is no session left");
    assert!(site.store.live().await.is_empty());
}

#[tokio::test]
async fn a_use_of_a_session_that_was_ended_elsewhere_is_told() {
    for ends in ["logout", "login"] {
        let site = site();
        let jar = site.log_in().await;
        let socket = socket(&site, &jar).await;
        if ends == "logout" {
            let logout = site.open(&jar);
            logout.destroy().await.unwrap();
            site.close(&logout, &mut jar.clone()).await.unwrap();
        } else {
            log_in(&site, &jar, "bob").await;
        }
        socket.touch().await.unwrap();
        let touched = socket.save().await.map_err(|error| error.kind());
        assert_eq!(touched, Err(ErrorKind::Ended), "by a {ends}");
        assert_eq!(socket.get::<String>("user").await.unwrap(), None);
        // At the end of a request that does nothing else it is nobody's loss.
        let late = site.open(&jar);
        late.touch().await.unwrap();
        assert!(site.close(&late, &mut jar.clone()).await.is_none());
    }
}

/// The table of what a request gets that comes with the cookie of before a login, of after, or with both.
#[tokio::test]
async fn under_a_marker() {
    #[derive(Clone, Copy, Debug)]
    enum Came {
        Old,
        New,
        Both,
    }
    for came in [Came::Old, Came::New, Came::Both] {
        let setting = async || {
            let site = site();
            let old = site.log_in().await;
            let new = log_in(&site, &old, "bob").await;
            let jar = match came {
                Came::Old => old,
                Came::New => new.clone(),
                Came::Both => Some([old, new.clone()].map(Option::unwrap).join("; ")),
            };
            (site, jar, new)
        };
        let is_old = matches!(came, Came::Old);

        // A form stores a token: under the old cookie alone that is dropped, since a cookie for it would take the place
        // of the login's.
        let (site, jar, new) = setting().await;
        let form = site.open(&jar);
        form.insert("token", 7).await.unwrap();
        assert!(site.close(&form, &mut jar.clone()).await.is_none(), "{came:?}");
        assert_eq!(site.open(&new).get::<u8>("token").await.unwrap(), (!is_old).then_some(7), "{came:?}");
        // The form is posted.
        assert_eq!(site.open(&jar).get::<u8>("token").await.unwrap(), (!is_old).then_some(7), "{came:?}");
        assert_eq!(site.user(&new).await.as_deref(), Some("bob"), "{came:?}");

        // A form of a login page that begins anew works under each.
        let (site, jar, _) = setting().await;
        let form = site.open(&jar);
        form.regenerate().await.unwrap();
        form.insert("token", 7).await.unwrap();
        let mut browser = jar.clone();
        site.close(&form, &mut browser).await.expect("a new beginning is told of");
        assert_eq!(site.open(&browser).get("token").await.unwrap(), Some(7), "{came:?}");

        // A login: again, since its answer was lost, or another.
        let (site, jar, _) = setting().await;
        let browser = log_in(&site, &jar, "carol").await;
        assert_eq!(site.user(&browser).await.as_deref(), Some("carol"), "{came:?}");

        // A logout ends the session, whichever of its cookies it came with.
        let (site, jar, new) = setting().await;
        let logout = site.open(&jar);
        logout.destroy().await.unwrap();
        let mut browser = jar.clone();
        site.close(&logout, &mut browser).await.unwrap();
        assert!(browser.is_none() && site.store.live().await.is_empty(), "{came:?}");
        assert_eq!(site.user(&new).await, None, "{came:?}");
    }
}

/// A double click: two logins under one cookie, both under way before either has ended.
#[tokio::test]
async fn two_logins_at_once_both_stand() {
    for keeps in [false, true] {
        let site = site();
        let jar = site.log_in().await;
        let logins = [site.open(&jar), site.open(&jar)];
        for (login, user) in logins.iter().zip(["bob", "carol"]) {
            if keeps {
                login.renew().await.unwrap();
            } else {
                login.regenerate().await.unwrap();
            }
            login.insert("user", user).await.unwrap();
        }
        for (login, user) in logins.iter().zip(["bob", "carol"]) {
            let mut browser = jar.clone();
            site.close(login, &mut browser).await.expect("whose handler saw itself logged in is told of");
            assert_eq!(site.user(&browser).await.as_deref(), Some(user), "renew: {keeps}");
        }
        assert_eq!(site.user(&jar).await, None);
    }
}

/// A login on a session that holds more, and replaces only the user, would leave behind what limits that user.
#[tokio::test]
async fn what_comes_second_begins_no_session_without_what_it_was_to_keep() {
    let site = site();
    let mut jar = site.log_in().await;
    let limit = site.open(&jar);
    limit.insert("read only", true).await.unwrap();
    site.close(&limit, &mut jar).await;
    // The other asks for a new id alone.
    for user in [Some("bob"), None] {
        let (first, second) = (site.open(&jar), site.open(&jar));
        for login in [&first, &second] {
            login.renew().await.unwrap();
        }
        if let Some(user) = user {
            second.insert("user", user).await.unwrap();
        }
        site.close(&first, &mut jar).await.unwrap();
        assert_eq!(second.save().await.unwrap_err().kind(), ErrorKind::Ended);
        assert_eq!(site.store.live().await.len(), 1, "the first alone stands");
        assert_eq!(site.open(&jar).get("read only").await.unwrap(), Some(true));
    }
}

/// What it reads on the way counts as well: here another limits the session, and a third renews it, before the second
/// is done.
#[tokio::test]
async fn what_it_met_on_the_way_is_kept_too() {
    let site = site();
    let jar = site.log_in().await;
    let (limit, second) = (site.open(&jar), site.open(&jar));
    second.renew().await.unwrap();
    second.insert("user", "bob").await.unwrap();
    limit.insert("read only", true).await.unwrap();
    site.close(&limit, &mut jar.clone()).await;
    // The new record, the end, which finds the old one changed, a look, the new record, and then the end again.
    let (other, same) = (site.clone(), jar.clone());
    site.store.before(5, async move {
        let third = other.open(&same);
        third.renew().await.unwrap();
        other.close(&third, &mut same.clone()).await.expect("renewed");
    });
    assert_eq!(second.save().await.unwrap_err().kind(), ErrorKind::Ended);
    assert_eq!(site.store.live().await.len(), 1, "the third alone stands");
}

/// Each round is the new record, the end of the old one, and one look at what has become of that.
#[tokio::test]
async fn a_renewal_that_conflicts_looks_once_a_round() {
    let site = site();
    let mut jar = site.log_in().await;
    // Another process, which waits for no turn of this one.
    let elsewhere = Site { sessions: Sessions::new(SessionOptions::new(site.store.clone())), ..site.clone() };
    let visit = |site: Site, jar: Jar, visits: u32| async move {
        let session = site.open(&jar);
        session.insert("visits", visits).await.unwrap();
        session.save().await.unwrap();
    };
    let renewed = site.open(&jar);
    renewed.renew().await.unwrap();
    visit(elsewhere.clone(), jar.clone(), 1).await;
    site.store.before(5, visit(elsewhere, jar.clone(), 2));
    site.close(&renewed, &mut jar).await.expect("it is renewed");
    // Of these two are those of the other process.
    assert_eq!(site.store.calls(), 3 + 2 + 3 + 2);
    assert_eq!(site.store.live().await.len(), 1);
    assert_eq!(site.open(&jar).get("visits").await.unwrap(), Some(2));
}

#[tokio::test]
async fn what_follows_a_renewal_that_was_dropped_leaves_nothing_of_it() {
    for ends in ["destroy", "regenerate", "log in"] {
        let site = site();
        let jar = site.log_in().await;
        let session = site.open(&jar);
        session.renew().await.unwrap();
        // The new record is there, and the old one is not yet ended.
        site.store.hang_from(1);
        assert!(session.save().now_or_never().is_none());
        site.store.mend();
        assert_eq!(site.store.live().await.len(), 2);
        match ends {
            "destroy" => session.destroy().await.unwrap(),
            _ => session.regenerate().await.unwrap(),
        }
        if ends == "log in" {
            session.insert("user", "bob").await.unwrap();
        }
        site.close(&session, &mut jar.clone()).await.expect("it is told of");
        assert_eq!(site.store.live().await.len(), usize::from(ends == "log in"), "{ends}");
    }
}

/// One that replaces all that it had read begins by itself: what it computed goes by what it makes.
#[tokio::test]
async fn what_comes_second_and_replaces_all_is_a_session_of_its_own() {
    let count = |visits: Option<u32>| visits.unwrap_or(0) + 1;
    for clears in [false, true] {
        let site = site();
        let jar = site.log_in().await;
        let visit = site.open(&jar);
        visit.update("visits", count).await.unwrap();
        site.close(&visit, &mut jar.clone()).await;
        let (first, second) = (site.open(&jar), site.open(&jar));
        for (login, user) in [(&first, "bob"), (&second, "carol")] {
            login.renew().await.unwrap();
            if clears {
                login.clear().await.unwrap();
            }
            assert_eq!(login.update("visits", count).await.unwrap(), if clears { 1 } else { 2 });
            login.insert("user", user).await.unwrap();
        }
        for (login, visits, user) in [(&first, if clears { 1 } else { 2 }, "bob"), (&second, 1, "carol")] {
            let mut browser = jar.clone();
            site.close(login, &mut browser).await.expect("it is told of");
            assert_eq!(site.open(&browser).get("visits").await.unwrap(), Some(visits));
            assert_eq!(site.user(&browser).await.as_deref(), Some(user));
        }
    }
}

/// Whoever waits for a renewal may leave, at any of its calls, and ask again.
#[tokio::test]
async fn a_renewal_that_was_dropped_may_be_asked_for_again() {
    for answered in 0..2 {
        let site = site();
        let jar = site.log_in().await;
        let session = site.open(&jar);
        session.renew().await.unwrap();
        session.insert("role", "admin").await.unwrap();
        site.store.hang_from(answered + 1);
        assert!(session.save().now_or_never().is_none(), "it waits for call {}", answered + 1);
        site.store.mend();
        session.save().await.unwrap();
        let mut browser = jar.clone();
        site.close(&session, &mut browser).await.expect("the new id is told of");
        let data = site.open(&browser).data().await.unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["user", "role"], "{answered} calls were answered");
        assert_eq!(site.store.live().await.len(), 1, "{answered} calls were answered");
    }
}

/// A second look that fails takes nothing from what the first one knew.
#[tokio::test]
async fn a_new_session_is_told_of_though_a_reload_fails() {
    let site = site();
    let session = site.open(&None);
    session.insert("user", "ada").await.unwrap();
    session.save().await.unwrap();
    site.store.fail_from(1, false);
    session.reload().await.unwrap_err();
    let error = site.sessions.close(&session).await.unwrap_err();
    let cookie = error.headers().set_cookie().expect("it is told of").value().to_owned();
    let browser = cookie.split(';').next().map(str::to_owned);
    site.store.mend();
    assert_eq!(site.user(&browser).await.as_deref(), Some("ada"));
}

#[tokio::test]
async fn a_logout_follows_many_renewals() {
    let site = site();
    let old = site.log_in().await;
    let mut jar = old.clone();
    for _ in 0..60 {
        let session = site.open(&jar);
        session.renew().await.unwrap();
        site.close(&session, &mut jar).await.unwrap();
    }
    let logout = site.open(&old);
    logout.destroy().await.unwrap();
    site.close(&logout, &mut old.clone()).await.unwrap();
    assert_eq!(site.user(&jar).await, None);
    assert!(site.store.live().await.is_empty());
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_may_be_asked_for_again() {
    // The calls of a renewal: the new record, the marker, and the look at the old one if its answer was lost.
    for (fails, applied) in [(1, true), (1, false), (2, true), (2, false)] {
        let site = site();
        let jar = site.log_in().await;
        let session = site.open(&jar);
        session.renew().await.unwrap();
        session.insert("role", "admin").await.unwrap();
        // Nor does the look that would tell what came of it succeed.
        site.store.fail_from(fails, applied);
        let error = session.save().await.unwrap_err();
        assert_eq!(error.store().unwrap().outcome() == Outcome::Unknown, applied);
        site.store.mend();
        session.insert("late", 1).await.unwrap();
        session.save().await.unwrap();
        let mut browser = jar.clone();
        site.close(&session, &mut browser).await.expect("the new id is told of");
        let data = site.open(&browser).data().await.unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["user", "role", "late"], "call {fails}, applied: {applied}");
        assert_eq!(site.user(&jar).await, None);
        assert_eq!(site.store.live().await.len(), 1, "call {fails}, applied: {applied}");
    }
}

/// A record under an id that a request has drawn is another's if it was there before.
#[tokio::test]
async fn what_is_not_of_this_request_is_not_discarded() {
    for asks in ["create", "regenerate"] {
        let site = site();
        let jar = if asks == "create" { None } else { site.log_in().await };
        let session = site.open(&jar);
        if asks == "regenerate" {
            session.regenerate().await.unwrap();
        }
        session.insert("user", "bob").await.unwrap();
        let shown = session.public_id().await.unwrap();
        let others: SessionData = r#"{"sosa":{"v":1,"rev":1,"created":1},"user":"eve"}"#.parse().unwrap();
        site.store.inner.save(shown.as_str(), &others).await.unwrap();
        assert!(session.save().await.is_err());
        assert!(site.store.inner.load(shown.as_str()).await.unwrap().is_some(), "{asks}");
    }
}

#[tokio::test]
async fn an_id_that_was_shown_stays_if_the_record_cannot_be_made() {
    let site = site();
    let session = site.open(&None);
    session.update("n", |n: Option<u8>| n.unwrap_or(0) + 1).await.unwrap();
    let shown = session.public_id().await.unwrap();
    site.store.fail_from(1, false);
    session.save().await.unwrap_err();
    site.store.mend();
    assert_eq!(session.public_id().await.unwrap(), shown);
    session.save().await.unwrap();
    assert_eq!(site.store.live().await, [shown.to_string()]);
}

/// A regeneration ends the session that it found, whether or not something is inserted then, and not what another
/// request has made of it.
#[tokio::test]
async fn a_regeneration_does_not_follow_a_renewal() {
    for inserts in [false, true] {
        let site = site();
        let jar = site.log_in().await;
        let late = site.open(&jar);
        late.regenerate().await.unwrap();
        if inserts {
            late.insert("user", "carol").await.unwrap();
        }
        let login = site.open(&jar);
        login.renew().await.unwrap();
        let mut browser = jar.clone();
        site.close(&login, &mut browser).await.unwrap();
        site.close(&late, &mut jar.clone()).await;
        assert_eq!(site.user(&browser).await.as_deref(), Some("ada"), "inserts: {inserts}");
    }
}

/// It needs who writes to the store to make such records; a logout must end all the same.
#[tokio::test]
async fn a_logout_ends_though_markers_name_each_other() {
    let site = site();
    let jar = site.log_in().await;
    let public_id = site.open(&jar).public_id().await.unwrap();
    let other = "A".repeat(43);
    let now = site.clock.now_millis();
    let marker = |named: &str| -> SessionData {
        format!(r#"{{"sosa":{{"v":1,"ended":{now},"as":"{named}"}}}}"#).parse().unwrap()
    };
    for (first, second) in [(public_id.as_str(), public_id.as_str()), (&*other, public_id.as_str())] {
        site.store.inner.save(public_id.as_str(), &marker(first)).await.unwrap();
        site.store.inner.save(&other, &marker(second)).await.unwrap();
        site.store.calls();
        let logout = site.open(&jar);
        logout.destroy().await.unwrap();
        let mut browser = jar.clone();
        site.close(&logout, &mut browser).await.unwrap();
        assert!(browser.is_none() && site.store.calls() < 20);
    }
}

/// Another server of the same site, whose clock is another.
fn server(store: &Store, clock: &Clock) -> Sessions {
    Sessions::new(SessionOptions::new(store.inner.clone()).clock(clock.clone()))
}

fn open(sessions: &Sessions, jar: &Jar) -> Session {
    sessions.open(RequestHead::new(jar.iter().map(|cookie| ("cookie", cookie.as_bytes()))))
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Moves one of two clocks ahead of the other.
fn apart(behind: &Clock, ahead: &Clock, difference: Duration) {
    let millis = |from: &Clock, to: &Clock| Duration::from_millis(to.now_millis().saturating_sub(from.now_millis()));
    let (ahead_lags, behind_lags) = (millis(ahead, behind), millis(behind, ahead));
    ahead.advance(ahead_lags + difference);
    behind.advance(behind_lags);
}

#[tokio::test]
async fn late_requests_find_a_session_ended_whatever_the_clocks_say() {
    for difference in [Duration::ZERO, SECOND, 40 * SECOND, 5 * MINUTE, HOUR] {
        for login_is_ahead in [false, true] {
            let site = site();
            let other = Clock::manual();
            let (renews, meets) = if login_is_ahead { (&other, &site.clock) } else { (&site.clock, &other) };
            let old = site.log_in().await;
            let marker = site.open(&old).public_id().await.unwrap();
            apart(&site.clock, &other, difference);
            let (one, two) = (server(&site.store, renews), server(&site.store, meets));
            let login = open(&one, &old);
            login.renew().await.unwrap();
            login.insert("user", "bob").await.unwrap();
            let cookie = one.close(&login).await.unwrap().into_set_cookie().expect("the login is told of");
            let new = Some(cookie.value().split(';').next().unwrap().to_owned());
            let late = open(&two, &old);
            late.insert("seen", 1).await.unwrap();
            let sent = two.close(&late).await.unwrap().into_set_cookie();
            assert!(
                sent.is_none(),
                "{difference:?} apart, login ahead: {login_is_ahead}: it replaces the login's cookie"
            );
            assert_eq!(open(&two, &new).get::<String>("user").await.unwrap().as_deref(), Some("bob"));
            // Nothing that is to be forgotten stays: by the store's clock it is gone in half a minute at most.
            site.clock.advance(31 * SECOND);
            assert!(site.store.inner.load(marker.as_str()).await.unwrap().is_none());
        }
    }
}

#[tokio::test]
async fn an_absolute_end_errs_by_no_more_than_the_clocks() {
    for difference in [Duration::ZERO, 40 * SECOND, HOUR] {
        for maker_is_ahead in [false, true] {
            let site = site();
            let other = Clock::manual();
            apart(&site.clock, &other, difference);
            let (makes, meets) = if maker_is_ahead { (&other, &site.clock) } else { (&site.clock, &other) };
            let (one, two) = (server(&site.store, makes), server(&site.store, meets));
            let session = open(&one, &None);
            session.insert("user", "ada").await.unwrap();
            let cookie = one.close(&session).await.unwrap().into_set_cookie().unwrap();
            let jar = Some(cookie.value().split(';').next().unwrap().to_owned());
            let is_live = async |sessions: &Sessions| !open(sessions, &jar).is_new().await.unwrap();
            assert!(is_live(&two).await, "a session of a moment ago, by a clock {difference:?} away");
            let mut lived = Duration::ZERO;
            while is_live(&two).await {
                for clock in [&site.clock, &other] {
                    clock.advance(HOUR / 2);
                }
                lived += HOUR / 2;
                assert!(lived < 40 * DAY, "it never ends");
            }
            let error = lived.abs_diff(30 * DAY);
            // It is looked at every half an hour.
            assert!(
                error <= difference + HOUR / 2,
                "{difference:?} apart, maker ahead: {maker_is_ahead}: it lived {lived:?}"
            );
        }
    }
}
