//! The sessions of an owner, on every backend, between two `Sessions` of one program that share nothing but the stores, as
//! those of two processes do: what known
//! implementations get wrong under races, many times over. `ROUNDS=200` for more of them.

// The figures of a race are worth a look.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use sosa::{Call, Collection, CollectionExt, Ending, Operation};
use sosa_session::{
    EndedAll, ErrorKind, Full, OwnerRecord, RequestHead, Session, SessionData, SessionOptions, Sessions, SignIn,
};
use sosa_tests::{Cluster, Distance, Distant, Redis};

const OWNER: &str = "ada";

/// The collections of one process.
type Stores = (Arc<dyn Collection<SessionData>>, Arc<dyn Collection<OwnerRecord>>);

/// What stands for two processes over the same stores.
struct Site {
    options: [SessionOptions; 2],
    processes: [Sessions; 2],
    stores: Stores,
    counts: Arc<Counts>,
}

/// What was asked of the owners' store.
#[derive(Default)]
struct Counts {
    saves: AtomicUsize,
    conflicts: AtomicUsize,
}

impl Counts {
    fn note(&self, call: &Call) {
        if call.operation == Operation::Save {
            self.saves.fetch_add(1, Ordering::SeqCst);
            let is_conflict = call.ending == Ending::Failed(sosa::ErrorKind::Conflict);
            self.conflicts.fetch_add(is_conflict.into(), Ordering::SeqCst);
        }
    }

    /// Returns how many saves and conflicts there were since this was last asked.
    fn take(&self) -> (usize, usize) {
        (self.saves.swap(0, Ordering::SeqCst), self.conflicts.swap(0, Ordering::SeqCst))
    }
}

impl Site {
    /// Counts, and lets others go between any two calls, by so much.
    async fn new(processes: [Stores; 2], distance: Distance) -> Self {
        let counts = Arc::<Counts>::default();
        let stores = processes[0].clone();
        for id in stores.1.list().await.expect("owners").ids() {
            stores.1.destroy(id).await.expect("destroyed");
        }
        let options = processes.map(|(sessions, owners)| {
            let counts = counts.clone();
            let owners = Distant::new(owners, distance).instrumented("owners", move |call: &Call| counts.note(call));
            SessionOptions::new(Distant::new(sessions, distance)).owners(owners)
        });
        let processes = options.clone().map(Sessions::new);
        Self { options, processes, stores, counts }
    }

    fn capped(&self, max: usize, full: Full) -> [Sessions; 2] {
        self.options.clone().map(|options| Sessions::new(options.max_per_owner(max, full)))
    }

    /// Returns how many of these cookies open a session of the owner, and how many devices are listed.
    async fn alive_and_listed(&self, cookies: &[String]) -> (usize, usize) {
        let opened = cookies
            .iter()
            .map(async |cookie| open(&self.processes[0], Some(cookie)).owner().await.expect("a look").is_some());
        let alive = join_all(opened).await.into_iter().filter(|is_alive| *is_alive).count();
        (alive, self.processes[1].owner(OWNER).list().await.expect("a list").len())
    }
}

fn open(sessions: &Sessions, cookie: Option<&String>) -> Session {
    sessions.open(RequestHead::new(cookie.map(|cookie| ("cookie", cookie.as_bytes()))))
}

/// Closes a session, and returns the cookie that the response carries; `None` too if it was ended by others.
async fn close(sessions: &Sessions, session: &Session) -> Option<String> {
    match sessions.close(session).await {
        Ok(headers) => {
            let cookie = headers.into_set_cookie()?.value().to_owned();
            Some(cookie.split(';').next()?.to_owned()).filter(|_| !cookie.contains("Max-Age=0"))
        }
        Err(error) => {
            let is_refused = matches!(error.kind(), ErrorKind::Ended | ErrorKind::TooManyDevices);
            assert!(is_refused, "{error} {error:?}");
            None
        }
    }
}

async fn sign_in(sessions: &Sessions) -> Option<String> {
    let session = open(sessions, None);
    session.sign_in(OWNER, SignIn::new()).await.expect("asked");
    close(sessions, &session).await
}

async fn renew(sessions: &Sessions, cookie: &String) -> Option<String> {
    let session = open(sessions, Some(cookie));
    session.renew().await.expect("asked");
    close(sessions, &session).await
}

async fn write(sessions: &Sessions, cookie: &String) {
    let session = open(sessions, Some(cookie));
    // It has ended by then, or it has not.
    drop(session.insert("seen", 1).await);
    close(sessions, &session).await;
}

/// Ends all, after up to so many reads and writes, so that it comes before, between and behind what others do.
async fn end_all_in_a_while(site: &Site, most: usize) -> sosa_session::Result<EndedAll> {
    let other = &site.processes[1];
    for _ in 0..fastrand::usize(..=most) {
        other.owner("nobody").list().await?;
        site.stores.1.save("nobody", &OwnerRecord::default()).await?;
    }
    other.owner(OWNER).end_all().await
}

/// What is found in so many rounds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Faults {
    lost_entries: usize,
    silent_successes: usize,
    escapes: usize,
    unlisted: usize,
}

/// How often what was under way was before an end, and how often behind it: a race that never happens shows nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Races {
    renewed: usize,
    not_renewed: usize,
    signed_in_before: usize,
    signed_in_behind: usize,
}

async fn faults(site: &Site, rounds: usize) -> (Faults, Races) {
    let (mut faults, mut races) = (Faults::default(), Races::default());
    let [one, other] = &site.processes;
    for round in 0..rounds {
        // Sign-ins at once lose no entry.
        let at_once = join_all((0..8).map(|index| sign_in(&site.processes[index % 2]))).await;
        let cookies: Vec<_> = at_once.into_iter().map(|cookie| cookie.expect("signed in")).collect();
        faults.lost_entries += usize::from(site.alive_and_listed(&cookies).await != (8, 8));

        // What is under way when all is ended neither goes on nor comes back.
        let under_way = cookies.iter().enumerate().map(async |(index, cookie)| {
            if index % 2 == 0 {
                renew(one, cookie).await
            } else {
                write(other, cookie).await;
                None
            }
        });
        let (renewed, ended) = join(join_all(under_way), end_all_in_a_while(site, 12)).await;
        assert!(ended.expect("ended").had_record);
        let renewed: Vec<_> = renewed.into_iter().flatten().collect();
        races.renewed += renewed.len();
        races.not_renewed += 4 - renewed.len();
        let cookies: Vec<_> = renewed.into_iter().chain(cookies).collect();
        faults.escapes += usize::from(site.alive_and_listed(&cookies).await != (0, 0));

        // A sign-in at the same time is before it or behind it.
        let most = if round % 2 == 0 { 0 } else { 6 };
        let (signed_in, ended) = join(sign_in(one), end_all_in_a_while(site, most)).await;
        assert!(ended.expect("ended").had_record);
        let cookies: Vec<_> = signed_in.into_iter().collect();
        let (alive, listed) = site.alive_and_listed(&cookies).await;
        faults.unlisted += usize::from(alive != listed);
        races.signed_in_before += 1 - alive;
        races.signed_in_behind += alive;

        // Without a record an end does not say that it has ended anything.
        let cookie = sign_in(one).await.expect("signed in");
        for id in site.stores.1.list().await.expect("owners").ids() {
            assert!(site.stores.1.destroy(id).await.expect("destroyed"));
        }
        let ended = other.owner(OWNER).end_all().await.expect("asked");
        let renewed = renew(one, &cookie).await.expect("it lives");
        let is_found = site.alive_and_listed(std::slice::from_ref(&renewed)).await == (1, 1);
        faults.silent_successes += usize::from(ended.had_record || !is_found);
        assert_eq!(other.owner(OWNER).end_all().await.expect("ended").devices, 1);
        assert_eq!(site.alive_and_listed(&[renewed]).await, (0, 0));
        // That of before, which lives without a record, is found by a scan.
        assert_eq!(one.owner(OWNER).end_all_by_scan().await.expect("a scan"), alive as u64);
    }
    (faults, races)
}

/// However many sign in at once, so many stay as there may be.
async fn cap(backend: &str, site: &Site, full: Full) {
    const MAX: usize = 10;
    const AT_ONCE: usize = 50;
    let capped = site.capped(MAX, full);
    site.counts.take();
    let signed_in = join_all((0..AT_ONCE).map(|index| sign_in(&capped[index % 2]))).await;
    let (saves, conflicts) = site.counts.take();
    let cookies: Vec<_> = signed_in.into_iter().flatten().collect();
    let (alive, listed) = site.alive_and_listed(&cookies).await;
    println!(
        "{backend}, {full:?}: {AT_ONCE} sign-ins at once, {} of them refused; {saves} saves of the record, of which \
         {conflicts} conflicts",
        AT_ONCE - cookies.len()
    );
    assert_eq!((alive, listed), (MAX, MAX), "{backend}");
    let stored = site.stores.0.list().await.expect("a list").into_pairs().expect("sessions");
    let live = stored.iter().filter(|(_, session)| !session.has_ended()).count();
    assert_eq!(live, MAX, "{backend}: no other session is left");
    assert_eq!(site.processes[0].owner(OWNER).end_all().await.expect("ended").devices, MAX);
}

async fn on(backend: &str, processes: [Stores; 2]) {
    at(backend, processes, Distance::Moments(4)).await;
}

async fn at(backend: &str, processes: [Stores; 2], distance: Distance) {
    let rounds = std::env::var("ROUNDS").map_or(20, |rounds| rounds.parse().expect("a number"));
    let site = Site::new(processes, distance).await;
    let found = tokio::time::timeout(Duration::from_secs(300), faults(&site, rounds)).await;
    let (found, races) = found.expect("it ends");
    println!("{backend}: {rounds} rounds, {found:?} in {races:?}");
    let Races { renewed, not_renewed, signed_in_before, signed_in_behind } = races;
    for happened in [renewed, not_renewed, signed_in_before, signed_in_behind] {
        assert!(happened > 0, "{backend}: {races:?}");
    }
    assert_eq!(found, Faults::default(), "{backend}");
    for full in [Full::EndOldest, Full::Refuse] {
        cap(backend, &site, full).await;
    }
}

fn stores<S, O>(sessions: S, owners: O) -> Stores
where
    S: Collection<SessionData> + 'static,
    O: Collection<OwnerRecord> + 'static,
{
    (Arc::new(sessions), Arc::new(owners))
}

#[tokio::test]
async fn in_memory() {
    let store = sosa_memory::new("owners");
    on("memory", [(); 2].map(|()| stores(store.collection("sessions"), store.collection("owners")))).await;
}

#[tokio::test]
async fn in_memory_some_way_off() {
    let store = sosa_memory::new("owners");
    let processes = [(); 2].map(|()| stores(store.collection("sessions"), store.collection("owners")));
    at("memory, two milliseconds off", processes, Distance::Time(Duration::from_millis(2))).await;
}

#[tokio::test]
async fn on_sled() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = sosa_sled::open(directory.path(), "owners").expect("a database");
    on("sled", [(); 2].map(|()| stores(store.collection("sessions"), store.collection("owners")))).await;
}

#[tokio::test]
async fn on_redis() {
    let server = Redis::start(&[]);
    let processes = [(); 2].map(|()| {
        let store = sosa_redis::from_url(&server.url(), "owners").expect("a URL");
        stores(store.collection("sessions"), store.collection("owners"))
    });
    on("Redis", processes).await;
}

#[tokio::test]
async fn on_a_cluster() {
    let cluster = Cluster::start(3, 0, &[]);
    let processes = [(); 2].map(|()| {
        let store = sosa_redis::from_url(&cluster.url(), "owners").expect("a URL");
        stores(store.collection("sessions"), store.collection("owners"))
    });
    on("Redis Cluster", processes).await;
}
