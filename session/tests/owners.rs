//! Who is signed in where: what sign-ins, renewals and ends do to the sessions of an owner.

// The figures are worth a look.
#![allow(clippy::print_stdout)]

mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::join_all;
use sosa_session::sosa::{
    self, Clock, Collection, DestroyOptions, Entry, Expiry, ListOptions, LoadOptions, Page, Revision, SaveOptions,
    async_trait,
};
use sosa_session::{
    Device, DeviceKey, ErrorKind, Full, Lifetime, OwnerRecord, RequestHead, Scheme, SessionOptions, Sessions, SignIn,
};
use store::{DAY, Jar, Site, site};

const MINUTE: Duration = Duration::from_secs(60);

/// The owners' records in memory, which count their calls and fail when told to.
#[derive(Clone, Debug)]
struct Owners {
    inner: sosa_memory::MemoryCollection<OwnerRecord>,
    calls: Arc<AtomicUsize>,
    /// The kind of error of each load, if there is one.
    fails: Arc<std::sync::Mutex<Option<sosa::ErrorKind>>>,
    /// The call that is not answered, counted from 1.
    hangs: Arc<AtomicUsize>,
}

impl Owners {
    fn new(clock: &Clock) -> Self {
        let inner = sosa_memory::new("test").with_clock(clock.clone()).collection("owners");
        Self { inner, calls: Arc::default(), fails: Arc::default(), hangs: Arc::default() }
    }

    fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    async fn call(&self) {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if self.hangs.load(Ordering::SeqCst) == call {
            std::future::pending::<()>().await;
        }
    }

    fn fail(&self, kind: impl Into<Option<sosa::ErrorKind>>) {
        *self.fails.lock().unwrap() = kind.into();
    }

    /// Returns the records as JSON.
    async fn records(&self) -> Vec<serde_json::Value> {
        let pairs = self.inner.list().await.unwrap().into_pairs().unwrap();
        pairs.into_iter().map(|(_, record)| serde_json::to_value(record).unwrap()).collect()
    }
}

#[async_trait]
impl Collection<OwnerRecord> for Owners {
    async fn load_with(&self, id: &str, options: LoadOptions) -> sosa::Result<Option<Entry<OwnerRecord>>> {
        self.call().await;
        let fails = *self.fails.lock().unwrap();
        if let Some(kind) = fails {
            return Err(sosa::Error::new(kind, "told to fail"));
        }
        self.inner.load_with(id, options).await
    }

    async fn save_with(&self, id: &str, value: &OwnerRecord, options: SaveOptions) -> sosa::Result<Revision> {
        self.call().await;
        self.inner.save_with(id, value, options).await
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> sosa::Result<bool> {
        self.call().await;
        self.inner.destroy_with(id, options).await
    }

    async fn list_with(&self, options: ListOptions) -> sosa::Result<Page<OwnerRecord>> {
        self.inner.list_with(options).await
    }
}

/// A site that knows owners; sessions live for 30 days at most, those that are remembered for 90.
fn site_with_owners(more: impl FnOnce(SessionOptions) -> SessionOptions) -> (Site, Owners) {
    let site = site();
    let owners = Owners::new(&site.clock);
    let remembered = Lifetime::new().idle(30 * DAY).absolute(90 * DAY).persistent();
    let options = SessionOptions::new(site.store.clone())
        .clock(site.clock.clone())
        .class("remembered", remembered)
        .owners(owners.clone());
    (Site { sessions: Sessions::new(more(options)), ..site }, owners)
}

fn owned_site() -> (Site, Owners) {
    site_with_owners(|options| options)
}

/// Signs in from what a jar holds, and returns what the browser then has, and the key of the device.
async fn sign_in(site: &Site, jar: &Jar, owner: &str, sign_in: SignIn) -> (Jar, DeviceKey) {
    let session = site.open(jar);
    let key = session.sign_in(owner, sign_in).await.unwrap();
    let mut jar = jar.clone();
    site.close(&session, &mut jar).await.expect("a sign-in is told of");
    (jar, key)
}

async fn labels(site: &Site, owner: &str) -> Vec<String> {
    site.sessions.owner(owner).list().await.unwrap().into_iter().map(|device| device.label).collect()
}

async fn owner_of(site: &Site, jar: &Jar) -> Option<String> {
    site.open(jar).owner().await.unwrap().map(|owner| owner.name().to_owned())
}

/// A request that asks for something of its session and saves it; returns what its response sends.
async fn request(site: &Site, jar: &mut Jar, what: &str) {
    let session = site.open(jar);
    match what {
        "renew" => session.renew().await.unwrap(),
        "renew as remembered" => session.renew_as("remembered").await.unwrap(),
        "regenerate" => session.regenerate().await.unwrap(),
        "destroy" => session.destroy().await.unwrap(),
        "write" => session.insert("n", 1).await.unwrap(),
        _ => unreachable!(),
    }
    site.close(&session, jar).await;
}

#[tokio::test]
async fn a_sign_in_keeps_what_its_request_inserted_and_what_it_names() {
    let (site, _) = owned_site();
    let jar = site.log_in().await;
    let planted = site.open(&jar);
    planted.insert("cart", [1]).await.unwrap();
    planted.insert("token", "planted").await.unwrap();
    site.close(&planted, &mut jar.clone()).await;
    site.clock.advance(MINUTE);

    let session = site.open(&jar);
    session.insert("before", 1).await.unwrap();
    session.update("user", |user: Option<String>| user.unwrap_or("nobody".into())).await.unwrap();
    session.sign_in("ada", SignIn::new().keep(["cart", "absent"])).await.unwrap();
    session.insert("after", 2).await.unwrap();
    assert_eq!(session.keys().await.unwrap(), ["cart", "before", "user", "after"]);
    assert_eq!(session.owner().await.unwrap().unwrap().name(), "ada");
    let mut new = jar.clone();
    site.close(&session, &mut new).await.expect("a new session");
    let session = site.open(&new);
    assert_eq!(session.keys().await.unwrap(), ["cart", "before", "user", "after"]);
    assert_eq!(session.get::<String>("user").await.unwrap().as_deref(), Some("nobody"), "by the record that it has");
    assert_eq!(session.created().await.unwrap(), Some(UNIX_EPOCH + Duration::from_millis(site.clock.now_millis())));
    assert_eq!(site.user(&jar).await, None, "the old id opens nothing");
    assert_eq!(site.store.live().await.len(), 1);
}

#[tokio::test]
async fn a_device_is_the_same_for_as_long_as_it_is_signed_in() {
    let (site, _) = owned_site();
    let (mut jar, key) = sign_in(&site, &None, "ada", SignIn::new().label("phone").class("remembered")).await;
    let since = UNIX_EPOCH + Duration::from_millis(site.clock.now_millis());
    let until = since + 90 * DAY;
    sign_in(
        &site,
        &None,
        "ada",
        SignIn::new().label("a label with more than 64 bytes is cut off where a letter ends, é…"),
    )
    .await;
    site.clock.advance(DAY / 2);
    request(&site, &mut jar, "renew").await;
    site.clock.advance(DAY / 4);

    let session = site.open(&jar);
    let ada = session.owner().await.unwrap().unwrap();
    assert_eq!(ada.this(), Some(&key));
    let devices = ada.list().await.unwrap();
    let [phone, other] = &devices[..] else { panic!("{devices:?}") };
    assert_eq!(
        (phone.key, &*phone.label, phone.class.as_deref(), phone.this),
        (key, "phone", Some("remembered"), true)
    );
    assert_eq!((phone.since, phone.last_seen), (since, Some(since + DAY * 3 / 4)), "by this request");
    assert_eq!(phone.expires, since + DAY * 3 / 4 + 30 * DAY);
    assert_eq!((other.this, other.class.as_deref(), other.label.len()), (false, None, 64));
    assert_eq!((other.last_seen, other.expires), (Some(since), since + DAY));
    let shown = serde_json::to_value(phone).unwrap();
    assert_eq!((&shown["key"], &shown["since"]), (&key.to_string().into(), &millis(since).into()));
    assert_eq!(shown["last_seen"], millis(phone.last_seen.unwrap()));

    // Within an idle time of its absolute end nobody knows when it was used.
    let mut at = since + DAY * 3 / 4;
    while at < since + 61 * DAY {
        site.clock.advance(20 * DAY);
        at += 20 * DAY;
        request(&site, &mut jar, "write").await;
    }
    let devices = site.sessions.owner("ada").list().await.unwrap();
    let [phone] = &devices[..] else { panic!("the other has expired: {devices:?}") };
    assert_eq!((phone.last_seen, phone.expires), (None, until), "{at:?}");
    site.clock.advance(30 * DAY);
    assert_eq!(site.sessions.owner("ada").list().await.unwrap(), []);
}

fn millis(time: std::time::SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// The absolute end is fixed at the sign-in: other options later can only shorten it.
#[tokio::test]
async fn the_end_of_a_device_is_fixed_when_it_is_signed_in() {
    let days = |days| Lifetime::new().idle(None).absolute(days * DAY);
    for (before, after, ends) in [(20, 40, 20), (20, 10, 10)] {
        let (site, owners) = site_with_owners(|options| options.lifetime(days(before)));
        let (jar, _) = sign_in(&site, &None, "ada", SignIn::new()).await;
        let options = SessionOptions::new(site.store.clone()).clock(site.clock.clone()).owners(owners);
        let site = site_like(&site, &options.lifetime(days(after)));
        request(&site, &mut jar.clone(), "write").await;
        site.clock.advance(ends * DAY - MINUTE);
        assert_eq!(owner_of(&site, &jar).await.as_deref(), Some("ada"), "{before} and {after} days");
        site.clock.advance(MINUTE);
        assert_eq!(owner_of(&site, &jar).await, None, "{before} and {after} days");
    }
}

/// What is done with a device that is signed in, and what the owner's record then holds.
#[tokio::test]
async fn what_ends_a_device_and_what_does_not() {
    for (what, stays) in
        [("renew", true), ("renew as remembered", true), ("write", true), ("regenerate", false), ("destroy", false)]
    {
        let (site, owners) = owned_site();
        let (mut jar, _) = sign_in(&site, &None, "ada", SignIn::new().label("phone")).await;
        let old = jar.clone();
        request(&site, &mut jar, what).await;
        assert_eq!(labels(&site, "ada").await.len(), usize::from(stays), "{what}");
        assert_eq!(owner_of(&site, &jar).await.is_some(), stays, "{what}");
        assert_eq!(site.store.live().await.len(), usize::from(stays), "{what}");
        if what.starts_with("renew") {
            assert_eq!(owner_of(&site, &old).await, None);
        }
        assert_eq!(owners.records().await[0]["ending"], serde_json::Value::Null, "{what}");
    }
}

/// Of two sign-ins in one browser the second counts, whoever its owner is.
#[tokio::test]
async fn a_sign_in_signs_out_who_was_signed_in() {
    for other in ["ada", "bob"] {
        let (site, owners) = owned_site();
        let (jar, first) = sign_in(&site, &None, "ada", SignIn::new().label("first")).await;
        let (new, second) = sign_in(&site, &jar, other, SignIn::new().label("second")).await;
        assert_ne!(first, second);
        assert_eq!(labels(&site, other).await, ["second"]);
        if other != "ada" {
            assert_eq!(labels(&site, "ada").await, [""; 0]);
        }
        assert_eq!((owner_of(&site, &jar).await, owner_of(&site, &new).await.as_deref()), (None, Some(other)));
        assert_eq!(site.store.live().await.len(), 1);
        assert!(owners.records().await.iter().all(|record| record["ending"].is_null()));
    }
}

/// A logout, then a login in the same request; and a login that is called off.
#[tokio::test]
async fn what_is_asked_last_counts() {
    let (site, _) = owned_site();
    let (jar, _) = sign_in(&site, &None, "ada", SignIn::new()).await;
    let mut switched = jar.clone();
    let session = site.open(&jar);
    session.destroy().await.unwrap();
    session.sign_in("bob", SignIn::new().keep(["n"])).await.unwrap();
    site.close(&session, &mut switched).await.unwrap();
    assert_eq!(owner_of(&site, &switched).await.as_deref(), Some("bob"));
    assert_eq!((labels(&site, "ada").await.len(), labels(&site, "bob").await.len()), (0, 1));

    let session = site.open(&switched);
    session.sign_in("carol", SignIn::new()).await.unwrap();
    session.destroy().await.unwrap();
    site.close(&session, &mut switched).await.unwrap();
    assert_eq!((switched, labels(&site, "carol").await.len(), labels(&site, "bob").await.len()), (None, 0, 0));
}

#[tokio::test]
async fn ends_from_elsewhere() {
    let (site, _) = owned_site();
    let mut jars = Vec::new();
    for label in ["one", "two", "three", "four"] {
        jars.push(sign_in(&site, &None, "ada", SignIn::new().label(label)).await);
    }
    let bob = sign_in(&site, &None, "bob", SignIn::new()).await;
    let ada = site.sessions.owner("ada");
    assert!(ada.end(&jars[1].1).await.unwrap());
    assert!(!ada.end(&jars[1].1).await.unwrap(), "it is ended");
    assert!(!ada.end(&bob.1).await.unwrap(), "it is another's");
    assert_eq!(owner_of(&site, &jars[1].0).await, None);

    let session = site.open(&jars[2].0);
    assert_eq!(session.end_others().await.unwrap(), 2);
    assert_eq!(labels(&site, "ada").await, ["three"]);
    assert_eq!(owner_of(&site, &jars[2].0).await.as_deref(), Some("ada"));
    assert_eq!(site.open(&None).end_others().await.unwrap_err().kind(), ErrorKind::NotSignedIn);

    let ended = ada.end_all().await.unwrap();
    assert_eq!((ended.devices, ended.had_record), (1, true));
    let ended = site.sessions.owner("carol").end_all().await.unwrap();
    assert_eq!((ended.devices, ended.had_record), (0, false));
    assert_eq!(owner_of(&site, &bob.0).await.as_deref(), Some("bob"));
}

#[tokio::test]
async fn the_cap() {
    let (site, _) = site_with_owners(|options| options.max_per_owner(2, Full::EndOldest));
    let (first, _) = sign_in(&site, &None, "ada", SignIn::new().label("first")).await;
    let (second, _) = sign_in(&site, &None, "ada", SignIn::new().label("second")).await;
    // Which was used last does not matter.
    request(&site, &mut first.clone(), "write").await;
    sign_in(&site, &None, "ada", SignIn::new().label("third")).await;
    assert_eq!(
        (owner_of(&site, &first).await, labels(&site, "ada").await),
        (None, vec!["second".into(), "third".into()])
    );
    // One that takes another's place ends no third.
    sign_in(&site, &second, "ada", SignIn::new().label("second again")).await;
    assert_eq!(labels(&site, "ada").await, ["third", "second again"]);

    let (site, _) = site_with_owners(|options| options.max_per_owner(2, Full::Refuse));
    let (first, _) = sign_in(&site, &None, "ada", SignIn::new().label("first")).await;
    sign_in(&site, &None, "ada", SignIn::new().label("second")).await;
    let visitor = site.log_in().await;
    let session = site.open(&visitor);
    session.sign_in("ada", SignIn::new()).await.unwrap();
    let refused = session.save().await.unwrap_err();
    assert_eq!((refused.kind(), refused.status()), (ErrorKind::TooManyDevices, 409));
    assert!(site.close(&session, &mut visitor.clone()).await.is_none(), "the handler was told");
    assert_eq!(site.user(&visitor).await.as_deref(), Some("ada"), "the session stays as it was");
    let session = site.open(&None);
    session.sign_in("ada", SignIn::new()).await.unwrap();
    let refused = site.sessions.close(&session).await.unwrap_err();
    assert_eq!((refused.kind(), refused.headers().set_cookie().is_some()), (ErrorKind::TooManyDevices, false));
    // Who signs in on the same device takes its place, and one that has expired makes room.
    sign_in(&site, &first, "ada", SignIn::new().label("first again").class("remembered")).await;
    assert_eq!(labels(&site, "ada").await, ["second", "first again"]);
    site.clock.advance(2 * DAY);
    sign_in(&site, &None, "ada", SignIn::new().label("new")).await;
    assert_eq!(labels(&site, "ada").await, ["first again", "new"]);
}

/// However many sign in at once, from however many processes, as many stay as there may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cap_under_races() {
    for processes in [1, 2] {
        let clock = Clock::system();
        let (site, owners) = (site(), Owners::new(&clock));
        let options = SessionOptions::new(site.store.clone()).owners(owners.clone());
        let options = options.max_per_owner(10, Full::EndOldest);
        let processes: Vec<_> = (0..processes).map(|_| Sessions::new(options.clone())).collect();
        let signed_in = (0..50).map(|index| {
            let sessions = processes[index % processes.len()].clone();
            tokio::spawn(async move {
                let session = sessions.open(RequestHead::new([]));
                session.sign_in("ada", SignIn::new()).await.unwrap();
                sessions.close(&session).await.map(|headers| headers.into_set_cookie().unwrap().value().to_owned())
            })
        });
        let signed_in: Vec<_> = join_all(signed_in).await.into_iter().map(Result::unwrap).collect();
        let refused: Vec<_> = signed_in.iter().filter_map(|signed_in| signed_in.as_ref().err()).collect();
        assert!(refused.iter().all(|error| error.kind() == ErrorKind::Ended), "{refused:?}");
        assert_eq!((labels(&site_like(&site, &options), "ada").await.len(), site.store.live().await.len()), (10, 10));
        println!(
            "{} processes: {} refused, {} calls of the owners' store",
            processes.len(),
            refused.len(),
            owners.calls()
        );
    }
}

fn site_like(site: &Site, options: &SessionOptions) -> Site {
    Site { sessions: Sessions::new(options.clone()), ..site.clone() }
}

#[tokio::test]
async fn without_their_records() {
    let (site, owners) = owned_site();
    let (mut jar, key) = sign_in(&site, &None, "ada", SignIn::new().label("phone").class("remembered")).await;
    let (other, _) = sign_in(&site, &None, "ada", SignIn::new()).await;
    let id = owners.inner.list().await.unwrap().ids().next().unwrap().to_owned();

    // One that cannot be read is no silent success.
    owners.fail(sosa::ErrorKind::Decode);
    let ada = site.sessions.owner("ada");
    assert!(ada.list().await.unwrap_err().store().unwrap().kind() == sosa::ErrorKind::Decode);
    assert_eq!(ada.end_all().await.unwrap_err().status(), 500);
    let session = site.open(&jar);
    session.renew().await.unwrap();
    assert_eq!(session.save().await.unwrap_err().status(), 500);
    assert_eq!(owner_of(&site, &jar).await.as_deref(), Some("ada"), "the session stays as it was");
    owners.fail(None);

    // One that is lost hides its sessions until they are renewed.
    assert!(owners.inner.destroy(&id).await.unwrap());
    assert_eq!(ada.list().await.unwrap(), []);
    let ended = ada.end_all().await.unwrap();
    assert_eq!((ended.devices, ended.had_record), (0, false));
    request(&site, &mut jar, "renew").await;
    let devices = ada.list().await.unwrap();
    let [phone] = &devices[..] else { panic!("{devices:?}") };
    assert_eq!((phone.key, &*phone.label, phone.class.as_deref()), (key, "", Some("remembered")));
    assert_eq!((ada.end_all_by_scan().await.unwrap(), site.store.live().await.len()), (2, 0));
    assert_eq!((owner_of(&site, &jar).await, owner_of(&site, &other).await), (None, None));

    // It finds those of nobody else.
    sign_in(&site, &None, "bob", SignIn::new()).await;
    site.log_in().await;
    assert_eq!((ada.end_all_by_scan().await.unwrap(), site.store.live().await.len()), (0, 2));
}

#[tokio::test]
async fn a_sign_in_replaces_a_record_that_cannot_be_read() {
    let (site, owners) = owned_site();
    sign_in(&site, &None, "ada", SignIn::new().label("before")).await;
    let session = site.open(&None);
    session.sign_in("ada", SignIn::new().label("after")).await.unwrap();
    owners.fail(sosa::ErrorKind::Decode);
    session.save().await.unwrap();
    drop(site.sessions.close(&session).await.unwrap());
    owners.fail(None);
    assert_eq!(labels(&site, "ada").await, ["after"]);
}

/// A save that its handler gives up behind a time limit, wherever that is, and tries again.
#[tokio::test]
async fn a_sign_in_that_is_given_up_and_tried_again() {
    for before in [None, Some("ada"), Some("bob")] {
        for call in 1..=8 {
            let (site, owners) = owned_site();
            let jar = match before {
                Some(before) => sign_in(&site, &None, before, SignIn::new()).await.0,
                None => None,
            };
            let session = site.open(&jar);
            let key = session.sign_in("ada", SignIn::new().label("new")).await.unwrap();
            owners.calls();
            owners.hangs.store(call, Ordering::SeqCst);
            let is_given_up = session.save().now_or_never().is_none();
            owners.hangs.store(0, Ordering::SeqCst);
            session.save().await.unwrap();
            let mut new = jar.clone();
            site.close(&session, &mut new).await.expect("a sign-in is told of");
            let ada = site.open(&new).owner().await.unwrap().expect("it is signed in");
            assert_eq!((ada.name(), ada.this()), ("ada", Some(&key)), "{before:?}, {call}: {is_given_up}");
            assert_eq!(labels(&site, "ada").await, ["new"], "{before:?}, {call}: {is_given_up}");
            assert_eq!(owner_of(&site, &jar).await, None);
        }
    }
}

/// What a crash has left of a device stands beside it in `ending`, and is dropped without it.
#[tokio::test]
async fn what_is_left_of_a_renewal_is_none_of_the_device() {
    let (site, owners) = owned_site();
    let (jar, key) = sign_in(&site, &None, "ada", SignIn::new().label("phone")).await;
    // The session cannot be made that the record names.
    for _ in 0..10 {
        let session = site.open(&jar);
        session.renew().await.unwrap();
        site.store.fail_at(2, false);
        assert_eq!(session.save().await.unwrap_err().status(), 503);
        assert_eq!(owners.records().await[0]["entries"][0]["ids"].as_array().unwrap().len(), 1, "it is taken out");
    }
    // Nor can it be taken out.
    let session = site.open(&jar);
    session.renew().await.unwrap();
    owners.calls();
    owners.hangs.store(3, Ordering::SeqCst);
    assert!(session.save().now_or_never().is_none());
    owners.hangs.store(0, Ordering::SeqCst);
    session.discard().await;
    assert_eq!(owners.records().await[0]["entries"][0]["ids"].as_array().unwrap().len(), 2);
    site.clock.advance(2 * MINUTE);
    let ada = site.sessions.owner("ada");
    assert_eq!((ada.list().await.unwrap()[0].key, site.store.live().await.len()), (key, 1));
    assert_eq!(owners.records().await[0]["entries"][0]["ids"].as_array().unwrap().len(), 1);
    assert_eq!(owner_of(&site, &jar).await.as_deref(), Some("ada"));
    assert!(ada.end(&key).await.unwrap());
    assert_eq!((owner_of(&site, &jar).await, site.store.live().await.len()), (None, 0));
}

/// A logout is carried out even if the sign-in that was to follow is refused, and a second one keeps what the first kept.
#[tokio::test]
async fn beside_a_sign_in() {
    let (site, _) = site_with_owners(|options| options.max_per_owner(1, Full::Refuse));
    sign_in(&site, &None, "bob", SignIn::new()).await;
    let (jar, _) = sign_in(&site, &None, "ada", SignIn::new()).await;
    let session = site.open(&jar);
    session.destroy().await.unwrap();
    session.sign_in("bob", SignIn::new()).await.unwrap();
    let refused = site.sessions.close(&session).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooManyDevices);
    assert!(refused.headers().set_cookie().unwrap().value().contains("Max-Age=0"));
    assert_eq!((owner_of(&site, &jar).await, labels(&site, "ada").await.len()), (None, 0));

    let mut jar = site.log_in().await;
    let session = site.open(&jar);
    session.sign_in("carol", SignIn::new().keep(["user"])).await.unwrap();
    session.sign_in("dave", SignIn::new().keep(["user"])).await.unwrap();
    site.close(&session, &mut jar).await.unwrap();
    assert_eq!((site.user(&jar).await.as_deref(), owner_of(&site, &jar).await.as_deref()), (Some("ada"), Some("dave")));
    assert_eq!(labels(&site, "carol").await, [""; 0]);
}

#[tokio::test]
async fn without_owners_in_the_options() {
    let (owned, _) = owned_site();
    let (jar, _) = sign_in(&owned, &None, "ada", SignIn::new()).await;
    let plain = Site {
        sessions: Sessions::new(SessionOptions::new(owned.store.clone()).clock(owned.clock.clone())),
        ..owned.clone()
    };
    assert_eq!(owner_of(&plain, &jar).await.as_deref(), Some("ada"));
    let session = plain.open(&jar);
    assert_eq!(session.renew().await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(session.sign_in("ada", SignIn::new()).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(session.owner().await.unwrap().unwrap().list().await.unwrap_err().kind(), ErrorKind::Unsupported);
    let mut browser = jar.clone();
    request(&plain, &mut browser, "destroy").await;
    assert_eq!((browser, owned.store.live().await.len()), (None, 0));
    assert_eq!(labels(&owned, "ada").await, [""; 0], "a look finds it gone");
}

#[tokio::test]
async fn what_is_refused_at_once() {
    let (site, owners) = owned_site();
    let session = site.open(&None);
    for (owner, sign_in) in [("", SignIn::new()), ("ada", SignIn::new().class("unknown"))] {
        assert_eq!(session.sign_in(owner, sign_in).await.unwrap_err().kind(), ErrorKind::Options);
    }
    assert!(site.close(&session, &mut None).await.is_none());
    // Over plain http nobody is signed in, and the request is not answered as if.
    let session = site.sessions.open(RequestHead::new([]).scheme(Scheme::Http));
    session.sign_in("ada", SignIn::new()).await.unwrap();
    assert_eq!(site.sessions.close(&session).await.unwrap_err().kind(), ErrorKind::Insecure);
    assert_eq!((owners.calls(), site.store.live().await.len()), (0, 0));
}

#[tokio::test]
async fn while_the_store_of_the_owners_is_out() {
    let (site, owners) = owned_site();
    let (jar, _) = sign_in(&site, &None, "ada", SignIn::new().label("phone")).await;
    owners.fail(sosa::ErrorKind::Unavailable);
    let session = site.open(&None);
    session.sign_in("ada", SignIn::new()).await.unwrap();
    let error = site.sessions.close(&session).await.unwrap_err();
    assert_eq!((error.status(), error.headers().set_cookie().is_some()), (503, false));
    let session = site.open(&jar);
    session.renew().await.unwrap();
    assert_eq!(site.sessions.close(&session).await.unwrap_err().status(), 503);
    assert_eq!(owner_of(&site, &jar).await.as_deref(), Some("ada"));
    // A logout is none of its business.
    let mut browser = jar.clone();
    request(&site, &mut browser, "destroy").await;
    assert_eq!((browser, site.store.live().await.len()), (None, 0));
    owners.fail(None);
    assert_eq!(labels(&site, "ada").await, [""; 0]);
}

/// What each operation costs, in calls of either store.
#[tokio::test]
async fn calls() {
    let (site, owners) = owned_site();
    let count = || (site.store.calls(), owners.calls());
    let (mut jar, _) = sign_in(&site, &None, "ada", SignIn::new()).await;
    assert_eq!(count(), (1, 3), "a sign-in of a visitor without a session");
    let visitor = site.log_in().await;
    sign_in(&site, &visitor, "ada", SignIn::new()).await;
    assert_eq!(count(), (3, 3), "of one with a session");
    assert_eq!(owner_of(&site, &jar).await.as_deref(), Some("ada"));
    assert_eq!(count(), (1, 0), "a look");
    request(&site, &mut jar, "write").await;
    assert_eq!(count(), (2, 0), "a write");
    request(&site, &mut jar, "renew").await;
    assert_eq!(count(), (3, 3), "a renewal");
    assert_eq!(labels(&site, "ada").await.len(), 2);
    assert_eq!(count(), (3, 1), "a list of two, one of which was renewed a moment ago");
    request(&site, &mut jar, "destroy").await;
    assert_eq!(count(), (5, 3), "a logout of one that was renewed a moment ago");
    let (mut jar, _) = sign_in(&site, &None, "ada", SignIn::new()).await;
    count();
    request(&site, &mut jar, "destroy").await;
    assert_eq!(count(), (2, 2), "a logout");
    let (jar, _) = sign_in(&site, &None, "ada", SignIn::new()).await;
    count();
    sign_in(&site, &jar, "ada", SignIn::new()).await;
    assert_eq!(count(), (5, 4), "a sign-in in the place of another");
    for _ in 0..8 {
        sign_in(&site, &None, "ada", SignIn::new()).await;
    }
    count();
    assert_eq!(site.sessions.owner("ada").end_all().await.unwrap().devices, 10);
    assert_eq!(count(), (20, 3), "the end of ten");

    let (site, owners) = site_with_owners(|options| options.max_per_owner(10, Full::EndOldest));
    for _ in 0..10 {
        sign_in(&site, &None, "ada", SignIn::new()).await;
    }
    (_, _) = (site.store.calls(), owners.calls());
    sign_in(&site, &None, "ada", SignIn::new()).await;
    assert_eq!((site.store.calls(), owners.calls()), (13, 3), "a sign-in where there are ten, and may be");
}

/// A field that a later version adds survives in the record, beside a process that does not know it.
#[tokio::test]
async fn unknown_fields_stay() {
    let (site, owners) = owned_site();
    let (mut jar, _) = sign_in(&site, &None, "ada", SignIn::new()).await;
    let id = owners.inner.list().await.unwrap().ids().next().unwrap().to_owned();
    let mut record = owners.records().await.remove(0);
    (record["new"], record["entries"][0]["newer"]) = (serde_json::json!({"a": [1]}), 2.5.into());
    owners.inner.save(&id, &serde_json::from_value(record).unwrap()).await.unwrap();
    request(&site, &mut jar, "renew").await;
    let record = owners.records().await.remove(0);
    assert_eq!((&record["new"], &record["entries"][0]["newer"]), (&serde_json::json!({"a": [1]}), &2.5.into()));
    let later = serde_json::json!({"v": 2, "entries": []});
    assert!(serde_json::from_value::<OwnerRecord>(later).is_err(), "it is of a later version");
}

/// What an owner costs at the cap, and however often a bot signs in.
#[tokio::test]
async fn the_size_of_a_record() {
    let (site, owners) = owned_site();
    let label = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    let size = async || owners.records().await[0].to_string().len();
    let (mut sizes, mut jars) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        jars.push(sign_in(&site, &None, "ada", SignIn::new().label(label)).await.0);
        site.clock.advance(MINUTE);
        sizes.push(size().await);
    }
    println!("an owner with one device has {} bytes, and {} with a hundred", sizes[0], sizes[99]);
    assert!(sizes[99] <= 100 * (150 + 64), "{} bytes", sizes[99]);
    assert!(sizes[100..].iter().all(|size| *size <= sizes[99] + 300), "{sizes:?}");
    assert_eq!(site.store.live().await.len(), 100);
    // However often they are renewed.
    for round in 0..10 {
        for jar in &mut jars[200..] {
            request(&site, jar, "renew").await;
        }
        let renewed = size().await;
        if round == 0 {
            println!("with a hundred that were just renewed {renewed}");
        }
        assert!(renewed <= 100 * (265 + 64), "{renewed} bytes");
    }
    // Of a renewal a minute ago little is left once somebody looks.
    site.clock.advance(MINUTE);
    assert_eq!(labels(&site, "ada").await.len(), 100);
    println!("and {} later", size().await);
    assert!(size().await <= 100 * (205 + 64), "{} bytes", size().await);
}

/// No record outlives its sessions by more than an hour, so that nothing is left of owners who do not come back.
#[tokio::test]
async fn records_expire() {
    let lifetime = Lifetime::new().idle(Duration::from_secs(1)).absolute(Duration::from_secs(2));
    let (site, owners) = site_with_owners(|options| options.lifetime(lifetime));
    let lasts = Duration::from_secs(2 + 3600);
    for round in 0..10 {
        for owner in 0..1000 {
            sign_in(&site, &None, &format!("owner {owner}"), SignIn::new()).await;
        }
        let page = owners.inner.list_with(ListOptions::new().limit(1000)).await.unwrap();
        for item in page.items {
            let entry = item.entry.unwrap().unwrap();
            let loaded = owners.inner.load_with(&item.id, LoadOptions::new().with_expiry()).await.unwrap().unwrap();
            let Some(Expiry::At(end)) = loaded.expiry else { panic!("{:?}", loaded.expiry) };
            assert!(millis(end) <= site.clock.now_millis() + lasts.as_millis() as u64, "{:?}", entry.value);
        }
        if round % 3 == 0 {
            site.clock.advance(Duration::from_millis(700));
        }
    }
    site.clock.advance(lasts);
    assert!(owners.inner.list().await.unwrap().items.is_empty() && site.store.live().await.is_empty());
}

#[test]
fn names_do_not_reach_debug() {
    let sessions = Sessions::new(SessionOptions::memory());
    assert!(!format!("{:?}", sessions.owner("ada@example.com")).contains("ada"));
}

#[allow(dead_code, reason = "it is plain data, and may be sent to where pages are made")]
fn device_is_plain_data(device: Device) -> impl Send + Sync + Clone + serde::Serialize + 'static {
    device
}
