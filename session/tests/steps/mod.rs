//! What the tests of owners share: stores whose calls the test lets go one by one, an owner with some devices, what is done
//! with them, and what must hold whatever happens.

// Each test uses some of it.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sosa_session::sosa::{
    self, Clock, Collection, CollectionExt, DestroyOptions, Entry, ListOptions, LoadOptions, Model, Outcome, Page,
    Revision, SaveOptions, async_trait,
};
use sosa_session::{
    DeviceKey, Error, ErrorKind, Full, Lifetime, OwnerRecord, RequestHead, Session, SessionData, SessionOptions,
    Sessions, SignIn,
};

/// A call of a store that waits to be let go, or something else that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// What it reads or writes, by the order in which the calls name it, since ids are random; none for all there is.
    key: Option<usize>,
    writes: bool,
}

impl Step {
    /// Something that is told from before and after by every call.
    pub(crate) const OTHER: Self = Self { key: None, writes: true };

    /// Returns whether it makes no difference which of the two goes first.
    pub(crate) fn commutes_with(&self, other: &Self) -> bool {
        let keys = self.key.zip(other.key);
        keys.is_some_and(|(one, other)| one != other) || !(self.writes || other.writes)
    }
}

/// Lets calls go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Mutex<Gated>>);

#[derive(Debug, Default)]
struct Gated {
    is_granted: bool,
    /// The first call that waits.
    next: Option<Step>,
    /// The keys that calls have named.
    numbers: BTreeMap<String, usize>,
    /// What becomes of the next calls; those that follow are answered.
    fates: VecDeque<Fate>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Answered,
    /// It is not applied.
    Refused,
    /// It is, and its answer is lost.
    Lost,
}

impl Gate {
    async fn pass<T>(&self, key: String, writes: bool, call: impl Future<Output = sosa::Result<T>>) -> sosa::Result<T> {
        poll_fn(|_| {
            let mut gated = self.0.lock().unwrap();
            if std::mem::take(&mut gated.is_granted) {
                return Poll::Ready(());
            }
            let count = gated.numbers.len();
            let number = *gated.numbers.entry(key.clone()).or_insert(count);
            gated.next.get_or_insert(Step { key: Some(number), writes });
            Poll::Pending
        })
        .await;
        let fate = self.0.lock().unwrap().fates.pop_front();
        match fate.unwrap_or(Fate::Answered) {
            Fate::Answered => call.await,
            Fate::Refused => Err(sosa::Error::new(sosa::ErrorKind::Timeout, "no answer")),
            Fate::Lost => {
                call.await?;
                Err(sosa::Error::new(sosa::ErrorKind::Timeout, "no answer").with_outcome(Outcome::Unknown))
            }
        }
    }

    /// Answers so many calls, and then does this to those that follow.
    pub(crate) fn answer(&self, calls: usize, then: impl IntoIterator<Item = Fate>) {
        self.0.lock().unwrap().fates = std::iter::repeat_n(Fate::Answered, calls).chain(then).collect();
    }

    /// Lets all calls be answered again.
    pub(crate) fn mend(&self) {
        self.answer(0, []);
    }
}

/// A collection behind a gate.
#[derive(Clone)]
struct Stepped<T: Model> {
    name: &'static str,
    inner: sosa_memory::MemoryCollection<T>,
    gate: Gate,
}

impl<T: Model> fmt::Debug for Stepped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepped").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl<T: Model> Collection<T> for Stepped<T> {
    async fn load_with(&self, id: &str, options: LoadOptions) -> sosa::Result<Option<Entry<T>>> {
        let moves = options.touch.is_some();
        self.gate.pass(format!("{} {id}", self.name), moves, self.inner.load_with(id, options)).await
    }

    async fn save_with(&self, id: &str, value: &T, options: SaveOptions) -> sosa::Result<Revision> {
        self.gate.pass(format!("{} {id}", self.name), true, self.inner.save_with(id, value, options)).await
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> sosa::Result<bool> {
        self.gate.pass(format!("{} {id}", self.name), true, self.inner.destroy_with(id, options)).await
    }

    async fn list_with(&self, options: ListOptions) -> sosa::Result<Page<T>> {
        // Nothing here lists; it would touch everything.
        self.inner.list_with(options).await
    }
}

/// A browser's cookie.
pub(crate) type Jar = Option<String>;

/// What is done with an owner's devices. Those of a session come with the first device's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    SignIn,
    /// With the cookie of the first device, as the same owner.
    SignInAgain,
    /// With the cookie of the first device, as another owner.
    SignInOther,
    /// Where there may be two.
    SignInCapped,
    Renew,
    /// Into another class.
    RenewAs,
    Write,
    Logout,
    Regenerate,
    List,
    EndOne,
    EndOthers,
    EndAll,
}

/// What something has done that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    EndFirst,
    EndOthers,
    EndAll,
    /// The keys that are listed.
    List(BTreeSet<String>),
    Other,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes {
    pub(crate) act: Act,
    /// What it has done, or its error; none if it crashed.
    pub(crate) result: Option<Result<Did, ErrorKind>>,
    /// The cookie that the response carries.
    pub(crate) cookie: Jar,
}

impl Outcomes {
    pub(crate) fn crashed(act: Act) -> Self {
        Self { act, result: None, cookie: None }
    }
}

/// An owner `ada` whose devices are signed in.
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) gate: Gate,
    sessions: sosa_memory::MemoryCollection<SessionData>,
    owners: sosa_memory::MemoryCollection<OwnerRecord>,
    /// The cookies of the devices.
    pub(crate) cookies: Vec<String>,
    keys: Vec<DeviceKey>,
}

const DAY: Duration = Duration::from_secs(86_400);

impl World {
    pub(crate) fn new(devices: usize) -> Self {
        let clock = Clock::manual();
        let store = sosa_memory::new("test").with_clock(clock.clone());
        let mut world = Self {
            clock,
            gate: Gate::default(),
            sessions: store.collection("sessions"),
            owners: store.collection("owners"),
            cookies: Vec::new(),
            keys: Vec::new(),
        };
        for _ in 0..devices {
            let sessions = world.at_once();
            let (cookie, key) = async {
                let session = sessions.open(RequestHead::new([]));
                let key = session.sign_in("ada", SignIn::new()).await.unwrap();
                (pair(sessions.close(&session).await.unwrap().into_set_cookie()).unwrap(), key)
            }
            .now_or_never()
            .unwrap();
            world.cookies.push(cookie);
            world.keys.push(key);
        }
        world
    }

    /// Makes one in which a renewal of the first device has crashed more than a minute ago.
    pub(crate) fn after_a_crash(devices: usize) -> Self {
        let world = Self::new(devices);
        let mut renews = world.begin(Act::Renew);
        // It has looked at the session, read the record, and named the new one there.
        (0..3).for_each(|_| renews.step(&world.gate));
        drop(renews);
        world.clock.advance(Duration::from_secs(70));
        world
    }

    fn options(&self, sessions: SessionOptions) -> SessionOptions {
        let lifetime = Lifetime::new().idle(DAY).absolute(30 * DAY);
        sessions.clock(self.clock.clone()).lifetime(lifetime).class("long", lifetime.absolute(60 * DAY))
    }

    /// Sessions whose calls are made at once.
    fn at_once(&self) -> Sessions {
        Sessions::new(self.options(SessionOptions::new(self.sessions.clone())).owners(self.owners.clone()))
    }

    /// Sessions of a process of its own, whose calls wait to be let go.
    pub(crate) fn stepped(&self, cap: usize) -> Sessions {
        let sessions = Stepped { name: "session", inner: self.sessions.clone(), gate: self.gate.clone() };
        let owners = Stepped { name: "owner", inner: self.owners.clone(), gate: self.gate.clone() };
        let options = self.options(SessionOptions::new(sessions)).owners(owners);
        Sessions::new(options.max_per_owner(cap, Full::EndOldest))
    }

    /// Begins to do something, in a process of its own.
    pub(crate) fn begin(&self, act: Act) -> Task {
        self.begin_in(&self.stepped(if act == Act::SignInCapped { 2 } else { 100 }), act)
    }

    /// Begins to do something in this process.
    pub(crate) fn begin_in(&self, process: &Sessions, act: Act) -> Task {
        let (jar, key) = (self.cookies[0].clone(), self.keys[0]);
        Task { act, future: Some(Box::pin(run(act, process.clone(), jar, key))), next: None, outcomes: None }
    }

    /// Saves the session of the first device.
    pub(crate) fn save_first(&self, value: usize) {
        let session = self.at_once().open(RequestHead::new([("cookie", self.cookies[0].as_bytes())]));
        let saved = async {
            session.insert("n", value).await?;
            session.save().await
        };
        saved.now_or_never().unwrap().unwrap();
    }

    /// Loses the owners' records.
    pub(crate) fn lose(&self) {
        self.owners.clear().now_or_never().unwrap().unwrap();
    }

    /// Does something to its end, and returns how many calls that took.
    pub(crate) fn finish(&self, act: Act) -> (Outcomes, usize) {
        let mut task = self.begin(act);
        let mut calls = 0;
        while task.advance(&self.gate).is_some() {
            task.step(&self.gate);
            calls += 1;
        }
        (task.outcomes(), calls)
    }

    /// Returns the id under which a cookie's session lives.
    fn id_of(&self, cookie: &str) -> Option<String> {
        let sessions = self.at_once();
        let session = sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));
        let id = async {
            let id = session.public_id().await.unwrap();
            (!session.is_new().await.unwrap()).then(|| id.to_string())
        };
        id.now_or_never().unwrap()
    }

    /// Returns the live sessions by their ids, and the device of each.
    fn live(&self) -> BTreeMap<String, Option<String>> {
        let page = self.sessions.list_with(ListOptions::new().limit(1000)).now_or_never().unwrap().unwrap();
        let pairs = page.into_pairs().unwrap().into_iter().filter(|(_, data)| !data.has_ended());
        pairs.map(|(id, data)| (id, data.device_key().map(|key| key.to_string()))).collect()
    }

    /// Returns the ids that the owners' records name, of devices and of what is being ended.
    fn named(&self) -> (BTreeSet<String>, BTreeSet<String>, usize) {
        let page = self.owners.list_with(ListOptions::new().limit(1000)).now_or_never().unwrap().unwrap();
        let (mut entries, mut ending, mut devices) = (BTreeSet::new(), BTreeSet::new(), 0);
        for (_, record) in page.into_pairs().unwrap() {
            let record = serde_json::to_value(record).unwrap();
            for (list, ids) in [("entries", &mut entries), ("ending", &mut ending)] {
                for entry in record[list].as_array().into_iter().flatten() {
                    devices += usize::from(list == "entries");
                    let named = entry["ids"].as_array().unwrap().iter();
                    ids.extend(named.map(|named| named["id"].as_str().unwrap().to_owned()));
                }
            }
        }
        (entries, ending, devices)
    }

    /// Returns what is wrong after all of this, if anything is; if not, how many sessions live until they expire of which
    /// nobody was told, since those who made them crashed. If it took more than a minute, what was under way may have been
    /// given up for crashed.
    pub(crate) fn check(&self, outcomes: &[Outcomes], took_long: bool) -> Result<usize, String> {
        let wrong = |wrong: &str| Err(wrong.to_owned());
        let has_stopped = |outcome: &Outcomes| matches!(outcome.result, None | Some(Err(ErrorKind::Store)));
        let has_crashed = outcomes.iter().any(has_stopped);
        let are = |acts: &[Act]| outcomes.iter().all(|outcome| acts.contains(&outcome.act));
        let did = |act: Act| outcomes.iter().filter(move |outcome| outcome.act == act);
        let cookies = outcomes.iter().filter_map(|outcome| outcome.cookie.clone());
        let delivered: Vec<_> = self.cookies.iter().cloned().chain(cookies).collect();

        // Whose cookie was sent is found, before and after a look.
        let is_found = || {
            let (live, (entries, ending, _)) = (self.live(), self.named());
            let mut reachable = delivered.iter().filter_map(|cookie| self.id_of(cookie));
            reachable.all(|id| live[&id].is_none() || entries.contains(&id) || ending.contains(&id))
        };
        if !is_found() {
            return wrong("a session lives whose cookie was sent, and nobody finds it");
        }
        let capped = did(Act::SignInCapped).count();
        if capped == 1 && outcomes.len() == 1 && self.live().len() > 2 {
            return wrong("more than two sessions live, before anybody looks");
        }
        self.clock.advance(Duration::from_secs(120));
        self.gate.mend();
        let (looked, _) = self.finish(Act::List);
        let Some(Ok(Did::List(listed))) = looked.result else { return Err(format!("no list: {looked:?}")) };
        self.at_once().owner("bob").list().now_or_never().unwrap().unwrap();
        if !is_found() {
            return wrong("a session lives whose cookie was sent, and nobody finds it after a look");
        }
        let (live, (entries, ending, devices)) = (self.live(), self.named());
        if !ending.is_empty() {
            return wrong("a look does not finish what is being ended");
        }
        if !entries.iter().all(|id| self.is_stored(id)) {
            return wrong("a look leaves what is not there");
        }
        let unannounced = live.iter().filter(|(id, device)| device.is_some() && !entries.contains(*id)).count();
        if !has_crashed && unannounced > 0 {
            return wrong("a session lives of which nobody was told");
        }

        // What was ended opens nothing.
        let first = self.keys[0].to_string();
        let others: BTreeSet<_> = self.keys[1..].iter().map(ToString::to_string).collect();
        let reachable: BTreeSet<_> = delivered.iter().filter_map(|cookie| self.id_of(cookie)).collect();
        let open: BTreeSet<_> = reachable.iter().filter_map(|id| live[id].clone()).collect();
        for outcome in outcomes {
            let survives = match outcome.result {
                Some(Ok(Did::EndFirst)) => open.contains(&first),
                Some(Ok(Did::EndOthers)) => !others.is_disjoint(&open),
                Some(Ok(Did::EndAll)) => open.contains(&first) || !others.is_disjoint(&open),
                _ => false,
            };
            if survives {
                return Err(format!("a device has survived {:?}", outcome.act));
            }
        }

        // Nothing fails but what was ended, or found nobody signed in.
        for outcome in outcomes {
            let is_fair = match (outcome.act, &outcome.result) {
                (_, None | Some(Ok(_))) => true,
                (_, Some(Err(ErrorKind::Store))) => true,
                (Act::EndOthers, Some(Err(ErrorKind::NotSignedIn))) => true,
                (Act::List | Act::EndOne | Act::EndAll, Some(Err(_))) => false,
                (_, Some(Err(kind))) => *kind == ErrorKind::Ended,
            };
            if !is_fair {
                return Err(format!("a failure: {outcome:?}"));
            }
        }

        // Nobody is signed out by nobody, but if the answer of a renewal is lost.
        let opens = |outcome: &Outcomes| outcome.cookie.as_deref().and_then(|cookie| self.id_of(cookie)).is_some();
        let stays = &[Act::SignIn, Act::Renew, Act::RenewAs, Act::Write, Act::List, Act::EndOthers];
        if are(stays) {
            let is_left = live.values().flatten().any(|device| *device == first);
            let may_be_lost = !did(Act::Renew).chain(did(Act::RenewAs)).all(|outcome| outcome.result.is_some());
            let is_open = open.contains(&first) || may_be_lost || has_crashed || took_long;
            if !is_left || !is_open || !listed.contains(&first) {
                return wrong("the first device is signed out by nobody");
            }
            let mut lists = did(Act::List).filter_map(|outcome| outcome.result.as_ref()?.as_ref().ok());
            if !lists.all(|did| matches!(did, Did::List(listed) if listed.contains(&first))) {
                return wrong("a list leaves out a device that is signed in all the time");
            }
            if did(Act::EndOthers).next().is_none() && !others.is_subset(&open) {
                return wrong("another device is signed out by nobody");
            }
            let mut renewals = did(Act::Renew).chain(did(Act::RenewAs)).peekable();
            if !has_crashed && !took_long && renewals.peek().is_some() && !renewals.any(opens) {
                return wrong("no renewal has succeeded");
            }
        }
        let sign_ins = || did(Act::SignIn).chain(did(Act::SignInAgain)).chain(did(Act::SignInOther));
        let goes_on =
            &[Act::SignIn, Act::SignInAgain, Act::SignInOther, Act::Renew, Act::RenewAs, Act::Write, Act::List];
        if !has_crashed && !took_long && are(goes_on) && !sign_ins().all(opens) {
            return wrong("a sign-in has come to nothing");
        }
        // The ends of ada's devices are none of bob's, who may have signed in in the place of one.
        let of_first_cookie = [Act::SignInAgain, Act::SignInOther, Act::Logout, Act::Regenerate];
        let is_alone = outcomes.iter().filter(|outcome| of_first_cookie.contains(&outcome.act)).count() == 1;
        if is_alone && did(Act::SignInOther).any(|outcome| outcome.cookie.is_some() && !opens(outcome)) {
            return wrong("an end of one owner's devices has ended another's");
        }
        if capped == outcomes.len() && (devices > 2 || (!has_crashed && live.len() > 2)) {
            return Err(format!("{} sessions and {devices} devices, where there may be 2", live.len()));
        }
        Ok(unannounced)
    }

    fn is_stored(&self, id: &str) -> bool {
        self.sessions.load(id).now_or_never().unwrap().unwrap().is_some()
    }
}

fn pair(cookie: Option<sosa_session::SetCookie>) -> Jar {
    let cookie = cookie?.value().to_owned();
    (!cookie.contains("Max-Age=0")).then(|| cookie.split(';').next().unwrap().to_owned())
}

async fn run(act: Act, sessions: Sessions, cookie: String, key: DeviceKey) -> (Result<Did, Error>, Jar) {
    let is_of_first = !matches!(act, Act::SignIn | Act::SignInCapped);
    let headers = is_of_first.then_some(("cookie", cookie.as_bytes()));
    let session = sessions.open(RequestHead::new(headers));
    let done = handle(act, &sessions, &session, key).await;
    match sessions.close(&session).await {
        Ok(headers) => (done, pair(headers.into_set_cookie())),
        Err(error) => {
            let cookie = pair(error.headers().clone().into_set_cookie());
            (done.and(Err(error)), cookie)
        }
    }
}

async fn handle(act: Act, sessions: &Sessions, session: &Session, key: DeviceKey) -> Result<Did, Error> {
    let mut did = Did::Other;
    if matches!(act, Act::Logout | Act::Regenerate | Act::SignInAgain | Act::SignInOther)
        && session.owner().await?.is_some()
    {
        // Under an id of which nobody knows any more what it was renewed as it ends nothing.
        did = Did::EndFirst;
    }
    match act {
        Act::SignIn | Act::SignInCapped | Act::SignInAgain => drop(session.sign_in("ada", SignIn::new()).await?),
        Act::SignInOther => drop(session.sign_in("bob", SignIn::new()).await?),
        Act::Renew => session.renew().await?,
        Act::RenewAs => session.renew_as("long").await?,
        Act::Write => session.insert("n", 1).await?,
        Act::Logout => session.destroy().await?,
        Act::Regenerate => session.regenerate().await?,
        Act::List => {
            let devices = sessions.owner("ada").list().await?;
            did = Did::List(devices.iter().map(|device| device.key.to_string()).collect());
        }
        Act::EndOne => {
            sessions.owner("ada").end(&key).await?;
            did = Did::EndFirst;
        }
        Act::EndOthers => {
            session.end_others().await?;
            did = Did::EndOthers;
        }
        Act::EndAll => {
            let ended = sessions.owner("ada").end_all().await?;
            assert!(ended.had_record);
            did = Did::EndAll;
        }
    }
    session.save().await?;
    Ok(did)
}

/// Something that is being done, call by call.
pub(crate) struct Task {
    act: Act,
    future: Option<BoxFuture<'static, (Result<Did, Error>, Jar)>>,
    next: Option<Step>,
    outcomes: Option<Outcomes>,
}

impl Task {
    /// Goes on until the next call of a store, and returns which that is; none if there is no more to do.
    pub(crate) fn advance(&mut self, gate: &Gate) -> Option<&Step> {
        while self.next.is_none() && self.future.is_some() {
            self.poll(gate);
            if self.next.is_none() && self.future.is_some() {
                // It waits for a moment, having lost a race.
                std::thread::yield_now();
            }
        }
        self.next.as_ref()
    }

    /// Lets the next call go, and goes on until the one that follows.
    pub(crate) fn step(&mut self, gate: &Gate) {
        assert!(self.advance(gate).is_some(), "there is a call");
        gate.0.lock().unwrap().is_granted = true;
        self.next = None;
        self.poll(gate);
        assert!(!gate.0.lock().unwrap().is_granted, "the call has gone");
        self.advance(gate);
    }

    /// Goes on as far as it can, be it that it waits for its turn.
    pub(crate) fn poll(&mut self, gate: &Gate) {
        let Some(future) = &mut self.future else { return };
        gate.0.lock().unwrap().next = None;
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => self.next = gate.0.lock().unwrap().next.take(),
            Poll::Ready((result, cookie)) => {
                self.future = None;
                let result = Some(result.map_err(|error| error.kind()));
                self.outcomes = Some(Outcomes { act: self.act, result, cookie });
            }
        }
    }

    /// Returns what came of it; if it is not at its end, it has crashed.
    pub(crate) fn outcomes(self) -> Outcomes {
        self.outcomes.unwrap_or(Outcomes::crashed(self.act))
    }
}
