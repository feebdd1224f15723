//! Several cookies of our name, as browsers send them where a path or a domain was changed: every pair of states, and
//! the telling triples.

mod store;

use sosa_session::sosa::Collection;
use sosa_session::{
    CookieOptions, Lifetime, RequestHead, Secure, Session, SessionData, SessionOptions, Sessions, SigningKey,
};
use store::{Site, site, site_with};

/// The name of the cookie.
const NAME: &str = "__Host-id";

/// What one cookie of our name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Of the form of ours, and of no session.
    Unknown,
    Malformed,
    /// Where cookies are signed: by somebody else.
    BadlySigned,
    Live,
    /// Of a session that goes on under another id since a moment.
    Renewed,
    /// Of one that was logged out.
    LoggedOut,
    /// Not used for longer than the idle lifetime.
    Idle,
    /// Used, and older than the absolute lifetime.
    Old,
    /// Of a record that cannot be decoded.
    Unreadable,
    /// Of a record that is no session.
    Foreign,
}

use State::{BadlySigned, Foreign, Idle, Live, LoggedOut, Malformed, Old, Renewed, Unknown, Unreadable};

const STATES: [State; 10] = [Unknown, Malformed, BadlySigned, Live, Renewed, LoggedOut, Idle, Old, Unreadable, Foreign];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Read,
    Write,
    /// A new id, and the data dropped.
    Login,
    Logout,
}

const ACTIONS: [Action; 4] = [Action::Read, Action::Write, Action::Login, Action::Logout];

/// What a request gets.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// Which of the cookies opened a session; of a record that cannot be read, an error.
    opens: Result<Option<usize>, ()>,
    sent: Sent,
    /// Which sessions live on, the new ids of those that were renewed included.
    live: Vec<usize>,
    /// How many new sessions there are.
    new: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    /// The cookie of a new session.
    New,
    Removal,
}

/// The rules, as the documentation says them.
fn expected(states: &[State], action: Action) -> Outcome {
    let is = |of: &[State]| states.iter().position(|state| of.contains(state));
    let opens = match (is(&[Live]), is(&[Unreadable, Foreign])) {
        (Some(live), _) => Ok(Some(live)),
        (None, Some(_)) => Err(()),
        (None, None) => Ok(None),
    };
    let renewed = is(&[Renewed]).is_some();
    let mut live: Vec<_> = (0..states.len()).filter(|index| [Live, Renewed].contains(&states[*index])).collect();
    let (sent, new) = match action {
        Action::Read => (Sent::Nothing, 0),
        // A late edit makes no session whose cookie would take the place of the renewed one's.
        Action::Write if opens == Ok(None) && !renewed => (Sent::New, 1),
        Action::Write => (Sent::Nothing, 0),
        Action::Login => {
            live.retain(|index| opens != Ok(Some(*index)));
            (Sent::New, 1)
        }
        Action::Logout => {
            live.clear();
            // Also of a cookie that no server of ours gave out.
            (Sent::Removal, 0)
        }
    };
    Outcome { opens, sent, live, new }
}

/// The most calls of the store: one for each cookie that is looked up, one more for what is then to be forgotten or
/// removed; and for a logout as many again, and two for a session that goes on elsewhere.
fn most_calls(states: &[State], action: Action) -> usize {
    let looks: usize = states
        .iter()
        .map(|state| match state {
            Malformed | BadlySigned => 0,
            Unknown | LoggedOut | Idle | Live => 1,
            Renewed | Old | Unreadable | Foreign => 2,
        })
        .sum();
    let ends: usize = states
        .iter()
        .map(|state| match state {
            Malformed | BadlySigned => 0,
            Unknown | LoggedOut | Idle | Old => 1,
            Live | Unreadable | Foreign => 2,
            Renewed => 3,
        })
        .sum();
    looks
        + match action {
            Action::Read => 0,
            Action::Write => 1,
            Action::Login => 3,
            Action::Logout => ends,
        }
}

/// Makes a cookie in this state, and returns its pair, and the public id of the session that is behind it.
async fn make(site: &Site, state: State, index: usize) -> (String, Option<String>) {
    if state == Malformed {
        return (format!("{NAME}=no-id"), None);
    }
    let mut jar = None;
    let begun = site.open(&jar);
    begun.insert("user", format!("user {index}")).await.unwrap();
    site.close(&begun, &mut jar).await.unwrap();
    let (cookie, public_id) = (jar.clone().unwrap(), begun.public_id().await.unwrap().to_string());
    let put =
        async |record: &str| site.store.inner.save(&public_id, &record.parse::<SessionData>().unwrap()).await.unwrap();
    let session = site.open(&jar);
    match state {
        Live => return (cookie, Some(public_id)),
        Renewed => {
            session.renew().await.unwrap();
            site.close(&session, &mut jar).await.unwrap();
            return (cookie, Some(session.public_id().await.unwrap().to_string()));
        }
        LoggedOut => {
            session.destroy().await.unwrap();
            site.close(&session, &mut jar).await.unwrap();
        }
        // What has expired is absent, whatever the store still has of it.
        Unknown | Idle => assert!(site.store.inner.destroy(&public_id).await.unwrap()),
        BadlySigned => {
            assert!(site.store.inner.destroy(&public_id).await.unwrap());
            let (end, other) = if cookie.ends_with('A') { ('A', 'B') } else { ('B', 'A') };
            return (
                format!("{}{}", &cookie[..cookie.len() - 1], if cookie.ends_with(end) { other } else { 'A' }),
                None,
            );
        }
        Old => put(r#"{"sosa":{"v":1,"rev":1,"created":1},"user":"of long ago"}"#).await,
        Foreign => put(r#"{"of":"another program"}"#).await,
        Unreadable => site.store.make_unreadable(&public_id),
        Malformed => unreachable!("it has no session"),
    }
    (cookie, None)
}

async fn play(signed: bool, states: &[State], action: Action) {
    let key = SigningKey::new("a key of thirty-two bytes or more").unwrap();
    let site = site_with(|options| if signed { options.signed([key]) } else { options });
    let (mut pairs, mut public_ids, mut old) = (Vec::new(), Vec::new(), Vec::new());
    for (index, state) in states.iter().enumerate() {
        let (pair, public_id) = make(&site, *state, index).await;
        if *state == Old {
            old = site.store.live().await;
            old.retain(|live| !public_ids.iter().flatten().any(|public_id| public_id == live));
        }
        pairs.push(pair);
        public_ids.push(public_id);
    }
    site.store.calls();

    let mut jar = Some(pairs.join("; "));
    let session = site.open(&jar);
    let user = session.get::<String>("user").await;
    let opens = match user {
        Ok(user) => Ok(user.map(|user| user.strip_prefix("user ").unwrap().parse().unwrap())),
        Err(error) => {
            assert_eq!(error.status(), 500);
            Err(())
        }
    };
    let done = match action {
        Action::Read => Ok(()),
        Action::Write => session.insert("seen", true).await,
        Action::Login => match session.regenerate().await {
            Ok(()) => session.insert("user", "new").await,
            error => error,
        },
        Action::Logout => session.destroy().await,
    };
    // Only what needs the record fails with it.
    assert_eq!(done.is_err(), opens.is_err() && action == Action::Write, "{states:?} {action:?}");
    let sent = match site.close(&session, &mut jar).await {
        None => Sent::Nothing,
        Some(_) if jar.is_none() => Sent::Removal,
        Some(_) => Sent::New,
    };
    let calls = site.store.calls();
    let mut live = site.store.live().await;
    // One that is older than any session may be opens none, even if nobody has looked at it and removed it.
    live.retain(|public_id| !old.contains(public_id));
    let still =
        (0..states.len()).filter(|index| public_ids[*index].as_ref().is_some_and(|public_id| live.contains(public_id)));
    let still: Vec<_> = still.collect();
    let found = Outcome { opens, sent, new: live.len() - still.len(), live: still };
    assert_eq!(found, expected(states, action), "signed: {signed}, {states:?}, {action:?}");
    let most = most_calls(states, action);
    assert!(calls <= most, "signed: {signed}, {states:?}, {action:?}: {calls} calls, and {most} at most");
}

#[tokio::test]
async fn every_state_alone_every_pair_and_the_telling_triples() {
    let mut played = 0;
    for signed in [false, true] {
        let states: Vec<_> = STATES.into_iter().filter(|state| signed || *state != BadlySigned).collect();
        let alone = states.iter().map(|state| vec![*state]);
        let pairs = states.iter().flat_map(|one| states.iter().map(|other| vec![*one, *other]));
        let triples = [
            vec![Renewed, Unreadable, Live],
            vec![Unknown, Renewed, Live],
            vec![Live, Renewed, Live],
            vec![Renewed, Renewed, Unknown],
            vec![Unreadable, Renewed, Unknown],
            vec![Malformed, Unknown, Live],
            vec![Foreign, Old, Live],
        ];
        for states in alone.chain(pairs).chain(triples) {
            for action in ACTIONS {
                play(signed, &states, action).await;
                played += 1;
            }
        }
    }
    assert_eq!(played, 4 * (9 + 81 + 7 + 10 + 100 + 7));
}

/// The path of the cookie was changed: the browser keeps both, and sends the longer first.
#[tokio::test]
async fn a_login_after_a_change_of_the_path_stays() {
    let collection = sosa_memory::new("myapp").collection("sessions");
    let cookie = CookieOptions::new().name("sid").secure(Secure::Never);
    let before = Sessions::new(SessionOptions::new(collection.clone()).cookie(cookie.clone().path("/app")));
    let now = Sessions::new(SessionOptions::new(collection).cookie(cookie));
    let open = |sessions: &Sessions, cookie: &str| sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));
    let close = async |sessions: &Sessions, session: &Session| {
        let cookie = sessions.close(session).await.unwrap().into_set_cookie().unwrap();
        cookie.value().split(';').next().unwrap().to_owned()
    };
    let visit = open(&before, "");
    visit.insert("seen", true).await.unwrap();
    let old = close(&before, &visit).await;
    let login = open(&now, &old);
    login.renew().await.unwrap();
    login.insert("user", "ada").await.unwrap();
    let new = close(&now, &login).await;
    // The redirect after the login, at once, with both cookies.
    let me = open(&now, &format!("{old}; {new}"));
    assert_eq!(me.get::<String>("user").await.unwrap().as_deref(), Some("ada"));
    me.insert("cart", 1).await.unwrap();
    me.save().await.unwrap();

    // A logout that says goodbye in a new session, by either order: it ends what it met, and not what it has made.
    for order in [format!("{old}; {new}"), format!("{new}; {old}")] {
        let logout = open(&now, &order);
        logout.destroy().await.unwrap();
        logout.insert("flash", "bye").await.unwrap();
        let bye = close(&now, &logout).await;
        assert_eq!(open(&now, &bye).get::<String>("flash").await.unwrap().as_deref(), Some("bye"), "{order}");
        assert!(open(&now, &new).is_new().await.unwrap(), "{order}");
    }
}

/// However many cookies somebody plants, so many are looked at and no more.
#[tokio::test]
async fn eight_cookies_are_looked_at() {
    let site = site();
    let (ours, _) = make(&site, Live, 0).await;
    let junk = |count: usize| (0..count).map(|n| format!("{NAME}={n:032}")).collect::<Vec<_>>().join("; ");
    let user = async |header: String| {
        site.store.calls();
        let session = site.open(&Some(header));
        let user: Option<String> = session.get("user").await.unwrap();
        (user.is_some(), site.store.calls())
    };
    assert_eq!(user(format!("{}; {ours}", junk(7))).await, (true, 8));
    assert_eq!(user(format!("{}; {ours}", junk(8))).await, (false, 8));
    assert_eq!(user(format!("{ours}; {}", junk(10_000))).await, (true, 1));
    // What has not the form of ours does not count, nor does the same one twice.
    let short = vec![format!("{NAME}=x"); 1000].join("; ");
    assert_eq!(user(format!("{short}; {ours}")).await, (true, 1));
    let same = vec![junk(1); 6].join("; ");
    assert_eq!(user(format!("{same}; {ours}")).await, (true, 2));
}

/// Who turns signing on may let those go on whose cookies are not signed; whatever else is in a cookie opens nothing.
#[tokio::test]
async fn unsigned_cookies_are_accepted_where_that_is_asked_for() {
    let store = site().store;
    let key = || SigningKey::new("0123456789abcdef0123456789abcdef").unwrap();
    let [unsigned, strict, lenient] = [
        SessionOptions::new(store.clone()),
        SessionOptions::new(store.clone()).signed([key()]),
        SessionOptions::new(store.clone()).signed([key()]).accept_unsigned(true),
    ]
    .map(Sessions::new);
    let begin = async |sessions: &Sessions| {
        let session = sessions.open(RequestHead::new([]));
        session.insert("user", "ada").await.unwrap();
        let cookie = sessions.close(&session).await.unwrap().into_set_cookie().unwrap();
        cookie.value().split(';').next().unwrap().to_owned()
    };
    let opens = async |sessions: &Sessions, cookie: &str| {
        let session = sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));
        !session.is_new().await.unwrap()
    };
    let (plain, signed) = (begin(&unsigned).await, begin(&lenient).await);
    assert!(signed.contains("s%3A"), "what is given out is signed");
    for (cookie, opened) in [(&plain, [true, false, true]), (&signed, [false, true, true])] {
        assert_eq!(
            [opens(&unsigned, cookie).await, opens(&strict, cookie).await, opens(&lenient, cookie).await],
            opened
        );
    }
    let last = if signed.ends_with('A') { 'B' } else { 'A' };
    let forged = format!("{}{last}", &signed[..signed.len() - 1]);
    assert!(!opens(&lenient, &forged).await);
}

/// A class is signed with the id, and is part of an unsigned one as well where those are taken.
#[tokio::test]
async fn a_class_is_covered_by_the_signature() {
    let key = || SigningKey::new("0123456789abcdef0123456789abcdef").unwrap();
    let classes = |options: SessionOptions| options.class("a", Lifetime::new()).class("b", Lifetime::new());
    let unsigned = site_with(classes);
    let begin = async |sessions: &Sessions| {
        let session = sessions.open(RequestHead::new([]));
        session.regenerate_as("a").await.unwrap();
        session.insert("user", "ada").await.unwrap();
        let cookie = sessions.close(&session).await.unwrap().into_set_cookie().unwrap();
        cookie.value().split(';').next().unwrap().to_owned()
    };
    let signs = |accepts| {
        let options = SessionOptions::new(unsigned.store.clone()).clock(unsigned.clock.clone()).signed([key()]);
        Sessions::new(classes(options.accept_unsigned(accepts)))
    };
    let (strict, lenient) = (signs(false), signs(true));
    let (plain, signed) = (begin(&unsigned.sessions).await, begin(&strict).await);
    assert!(signed.contains(".a.") && plain.ends_with(".a"), "{signed} {plain}");
    let opens = async |sessions: &Sessions, cookie: &str| {
        unsigned.store.calls();
        let session = sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));
        (session.get::<String>("user").await.unwrap().is_some(), unsigned.store.calls())
    };
    for (cookie, by_strict, by_lenient) in [
        (signed.clone(), (true, 1), (true, 1)),
        (signed.replace(".a.", ".b."), (false, 0), (false, 0)),
        (signed.replace(".a.", "."), (false, 0), (false, 0)),
        (plain.clone(), (false, 0), (true, 1)),
        (plain.replace(".a", ".b"), (false, 0), (false, 1)),
        (plain.replace(".a", ".c"), (false, 0), (false, 0)),
    ] {
        assert_eq!(
            (opens(&strict, &cookie).await, opens(&lenient, &cookie).await),
            (by_strict, by_lenient),
            "{cookie}"
        );
    }
}
