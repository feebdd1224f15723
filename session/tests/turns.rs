//! Who writes a session next: turns where requests of one process collide, and pauses where processes do.

// The tables are worth a look: `cargo test -p sosa-session --test turns -- --nocapture`.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use sosa_session::sosa::{
    self, Collection, Condition, DestroyOptions, Entry, ListOptions, LoadOptions, Page, Revision, SaveOptions,
    async_trait,
};
use sosa_session::{ErrorKind, RequestHead, Session, SessionData, SessionOptions, Sessions};
use tokio::task::{self, JoinHandle};

tokio::task_local! {
    /// What the request of this task asked the store for.
    static ASKED: Arc<Asked>;
}

#[derive(Default)]
struct Asked {
    calls: AtomicUsize,
    conflicts: AtomicUsize,
}

/// A collection in memory that is some way off, and counts.
#[derive(Clone, Debug)]
struct Distant {
    inner: sosa_memory::MemoryCollection<SessionData>,
    delay: Duration,
    /// How many saves over a revision have succeeded.
    saves: Arc<AtomicUsize>,
}

impl Distant {
    fn new(delay: Duration) -> Self {
        let inner = sosa_memory::new("test").collection("sessions");
        Self { inner, delay, saves: Arc::default() }
    }

    async fn call<T>(&self, call: impl Future<Output = sosa::Result<T>>) -> sosa::Result<T> {
        let travel = async || match self.delay {
            Duration::ZERO => task::yield_now().await,
            delay => tokio::time::sleep(delay / 2).await,
        };
        travel().await;
        let answer = call.await;
        travel().await;
        let is_conflict = answer.as_ref().is_err_and(sosa::Error::is_conflict);
        let _ = ASKED.try_with(|asked| {
            asked.calls.fetch_add(1, Ordering::SeqCst);
            asked.conflicts.fetch_add(is_conflict.into(), Ordering::SeqCst);
        });
        answer
    }
}

#[async_trait]
impl Collection<SessionData> for Distant {
    async fn load_with(&self, id: &str, options: LoadOptions) -> sosa::Result<Option<Entry<SessionData>>> {
        self.call(self.inner.load_with(id, options)).await
    }

    async fn save_with(&self, id: &str, value: &SessionData, options: SaveOptions) -> sosa::Result<Revision> {
        let is_update = matches!(options.condition, Condition::Revision(_));
        let saved = self.call(self.inner.save_with(id, value, options)).await;
        self.saves.fetch_add((is_update && saved.is_ok()).into(), Ordering::SeqCst);
        saved
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> sosa::Result<bool> {
        self.call(self.inner.destroy_with(id, options)).await
    }

    async fn list_with(&self, options: ListOptions) -> sosa::Result<Page<SessionData>> {
        self.call(self.inner.list_with(options)).await
    }
}

/// What the request does whose turn is looked at.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Renew,
    Regenerate,
    Destroy,
    Update,
}

const VERBS: [Verb; 4] = [Verb::Renew, Verb::Regenerate, Verb::Destroy, Verb::Update];

impl Verb {
    async fn ask(self, session: &Session) -> sosa_session::Result<()> {
        session.get::<u64>("count").await?;
        match self {
            Self::Renew => session.renew().await,
            Self::Regenerate => {
                session.regenerate().await?;
                session.insert("user", "ada").await
            }
            Self::Destroy => session.destroy().await,
            Self::Update => count(session).await,
        }
    }

    /// How many calls of the store one try of it makes, the look at the session included.
    fn calls(self) -> usize {
        match self {
            Self::Renew => 3,
            Self::Regenerate | Self::Destroy | Self::Update => 2,
        }
    }
}

async fn count(session: &Session) -> sosa_session::Result<()> {
    session.update("count", |count: Option<u64>| count.unwrap_or(0) + 1).await.map(drop)
}

fn open(sessions: &Sessions, cookie: &str) -> Session {
    sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]))
}

async fn new_session(sessions: &Sessions) -> String {
    let session = sessions.open(RequestHead::new([]));
    count(&session).await.unwrap();
    let cookie = sessions.close(&session).await.unwrap().into_set_cookie().expect("a new session has a cookie");
    cookie.value().split(';').next().unwrap().to_owned()
}

/// Clients that write a session without pause, until it ends.
fn writers(sessions: &Sessions, cookie: &str, number: usize) -> Vec<JoinHandle<()>> {
    let write = |sessions: Sessions, cookie: String| async move {
        loop {
            let session = open(&sessions, &cookie);
            count(&session).await.unwrap();
            drop(sessions.close(&session).await.unwrap());
            if session.is_new().await.unwrap() {
                return;
            }
        }
    };
    (0..number).map(|_| tokio::spawn(write(sessions.clone(), cookie.to_owned()))).collect()
}

/// In one process nobody overtakes: while a request saves, each of the others saves once, and two more at most that had
/// begun before.
#[tokio::test(start_paused = true)]
async fn turns_are_fair() {
    println!("| request | writers | store, ms | saves of others | its calls | ms |");
    for verb in VERBS {
        for number in [1, 4, 16, 64] {
            for delay in [0, 1, 5].map(Duration::from_millis) {
                let store = Distant::new(delay);
                let sessions = Sessions::new(SessionOptions::new(store.clone()));
                let cookie = new_session(&sessions).await;
                let writers = writers(&sessions, &cookie, number);
                while store.saves.load(Ordering::SeqCst) < 2 * number {
                    task::yield_now().await;
                    tokio::time::sleep(delay / 3).await;
                }
                let asked = Arc::<Asked>::default();
                let (saves, took) = ASKED
                    .scope(asked.clone(), async {
                        let session = open(&sessions, &cookie);
                        verb.ask(&session).await.unwrap();
                        let (before, began) = (store.saves.load(Ordering::SeqCst), tokio::time::Instant::now());
                        drop(sessions.close(&session).await.unwrap());
                        (store.saves.load(Ordering::SeqCst) - before, began.elapsed().as_millis())
                    })
                    .await;
                let (delay, calls) = (delay.as_millis(), asked.calls.load(Ordering::SeqCst));
                println!("| {verb:?} | {number} | {delay} | {saves} | {calls} | {took} |");
                assert!(saves <= number + 2, "{verb:?} among {number}: {saves} saves of others");
                // Its first try, one in its turn, and one more that met a save which had begun before.
                assert!(calls <= 3 * verb.calls(), "{verb:?} among {number}: {calls} calls");
                writers.iter().for_each(JoinHandle::abort);
            }
        }
    }
}

/// What was counted is counted once each, and most turns cost one call, since each begins with what the one before left.
#[tokio::test(start_paused = true)]
async fn who_has_a_turn_begins_with_what_was_left() {
    let store = Distant::new(Duration::from_millis(5));
    let sessions = Sessions::new(SessionOptions::new(store.clone()));
    let cookie = new_session(&sessions).await;
    let asked = Arc::<Asked>::default();
    let write = || {
        ASKED.scope(asked.clone(), async {
            let session = open(&sessions, &cookie);
            count(&session).await.unwrap();
            drop(sessions.close(&session).await.unwrap());
        })
    };
    join_all((0..100).map(|_| write())).await;
    assert_eq!(open(&sessions, &cookie).get::<u64>("count").await.unwrap(), Some(101));
    // Each loads and saves; all but one have lost then; the first of them loads again, and each saves in its turn.
    assert_eq!(asked.calls.load(Ordering::SeqCst), 100 + 100 + 1 + 99);
}

/// Two processes that share nothing but the store: a request is beaten a few times at most, also by one client of the
/// other process that writes without pause, whose saves otherwise come between each of its looks and saves for ever.
#[tokio::test]
async fn a_process_lets_others_save() {
    const ROUNDS: usize = 20;
    println!("| request | writers elsewhere | lost, worst of {ROUNDS} | ms, worst |");
    for verb in VERBS {
        for number in [1, 16] {
            let round = || async {
                let store = Distant::new(Duration::from_millis(4));
                let [here, elsewhere] = [(); 2].map(|()| Sessions::new(SessionOptions::new(store.clone())));
                let cookie = new_session(&here).await;
                let writers = writers(&elsewhere, &cookie, number);
                while store.saves.load(Ordering::SeqCst) < 5 {
                    tokio::time::sleep(store.delay / 3).await;
                }
                let asked = Arc::<Asked>::default();
                let began = tokio::time::Instant::now();
                ASKED
                    .scope(asked.clone(), async {
                        let session = open(&here, &cookie);
                        verb.ask(&session).await.unwrap();
                        drop(here.close(&session).await.unwrap());
                    })
                    .await;
                writers.iter().for_each(JoinHandle::abort);
                (asked.conflicts.load(Ordering::SeqCst), began.elapsed().as_millis())
            };
            let rounds = join_all((0..ROUNDS).map(|_| round())).await;
            let lost = rounds.iter().map(|(lost, _)| *lost).max().unwrap();
            let millis = rounds.iter().map(|(_, millis)| *millis).max().unwrap();
            println!("| {verb:?} | {number} | {lost} | {millis} |");
            assert!(lost <= 32, "{verb:?} beside {number}: beaten {lost} times");
        }
    }
}

/// A request whose future is left alone in its turn, as one is whose store never answers, holds up the others for a
/// moment.
#[tokio::test]
async fn who_is_left_alone_in_a_turn_holds_nobody_up() {
    const LONGEST_TURN: Duration = Duration::from_millis(50);
    let store = Distant::new(Duration::ZERO);
    let sessions = Sessions::new(SessionOptions::new(store.clone()).max_wait(LONGEST_TURN * 5));
    let cookie = new_session(&sessions).await;
    let asked = [(); 6].map(|()| open(&sessions, &cookie));
    for session in &asked {
        count(session).await.unwrap();
    }
    let [first, abandoned, others @ ..] = &asked;
    drop(sessions.close(first).await.unwrap());
    let mut abandoned = Box::pin(sessions.close(abandoned));
    for step in ["sends its save", "has the answer on its way", "has lost, has the turn, and looks again"] {
        assert!(abandoned.as_mut().now_or_never().is_none(), "it {step}");
    }
    let began = Instant::now();
    let closed = join_all(others.iter().map(|session| sessions.close(session))).await;
    assert!(closed.iter().all(Result::is_ok));
    assert!(began.elapsed() >= LONGEST_TURN, "it had the turn");
    assert_eq!(open(&sessions, &cookie).get::<u64>("count").await.unwrap(), Some(6));
    // It goes on all the same, should it be polled again.
    drop(abandoned.await.unwrap());
    assert_eq!(open(&sessions, &cookie).get::<u64>("count").await.unwrap(), Some(7));
}

/// Who waits for too long is told, and nothing of it is saved.
#[tokio::test]
async fn a_wait_ends_with_busy() {
    let store = Distant::new(Duration::from_millis(20));
    let sessions = Sessions::new(SessionOptions::new(store.clone()).max_wait(Duration::from_millis(50)));
    let cookie = new_session(&sessions).await;
    let write = || async {
        let session = open(&sessions, &cookie);
        count(&session).await.unwrap();
        sessions.close(&session).await
    };
    let closed = join_all((0..64).map(|_| write())).await;
    let busy: Vec<_> = closed.iter().filter_map(|closed| closed.as_ref().err()).collect();
    assert!(busy.len() > 32, "{}", busy.len());
    for error in &busy {
        assert_eq!((error.kind(), error.status()), (ErrorKind::Busy, 503));
        assert!(error.retry_after().is_some());
    }
    let counted = open(&sessions, &cookie).get::<u64>("count").await.unwrap();
    assert_eq!(counted, Some((1 + closed.len() - busy.len()) as u64));
}
