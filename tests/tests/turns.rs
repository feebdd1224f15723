//! Who writes a session next: turns where requests of one process collide, and pauses where processes do.

// The tables are worth a look: `cargo test -p sosa-tests --test turns -- --nocapture`.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use sosa::Collection;
use sosa_memory::MemoryCollection;
use sosa_session::{ErrorKind, SessionData, SessionOptions, Sessions};
use sosa_tests::rivals::{Verb, count, new_session, open, writers};
use sosa_tests::{Asked, Distance, Distant};
use tokio::task::JoinHandle;

fn distant(delay: Duration) -> Distant<MemoryCollection<SessionData>> {
    Distant::new(sosa_memory::new("test").collection("sessions"), Distance::Time(delay))
}

/// In one process nobody overtakes: while a request saves, each of the others saves once, and two more at most that had
/// begun before.
#[tokio::test(start_paused = true)]
async fn turns_are_fair() {
    println!("| request | writers | store, ms | saves of others | its calls | ms |");
    for verb in Verb::ALL {
        for number in [1, 4, 16, 64] {
            for delay in [0, 1, 5].map(Duration::from_millis) {
                let store = distant(delay);
                let sessions = Sessions::new(SessionOptions::new(store.clone()));
                let cookie = new_session(&sessions).await;
                let writers = writers(&sessions, &cookie, number);
                store.reaches(2 * number).await;
                let asked = Arc::<Asked>::default();
                let (saves, took) = asked
                    .by(async {
                        let session = open(&sessions, &cookie);
                        verb.ask(&session).await.unwrap();
                        let (before, began) = (store.updates(), tokio::time::Instant::now());
                        drop(sessions.close(&session).await.unwrap());
                        (store.updates() - before, began.elapsed().as_millis())
                    })
                    .await;
                let (delay, calls) = (delay.as_millis(), asked.calls());
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
    let store = distant(Duration::from_millis(5));
    let sessions = Sessions::new(SessionOptions::new(store.clone()));
    let cookie = new_session(&sessions).await;
    let asked = Arc::<Asked>::default();
    let write = || {
        asked.by(async {
            let session = open(&sessions, &cookie);
            count(&session).await.unwrap();
            drop(sessions.close(&session).await.unwrap());
        })
    };
    join_all((0..100).map(|_| write())).await;
    assert_eq!(open(&sessions, &cookie).get::<u64>("count").await.unwrap(), Some(101));
    // Each loads and saves; all but one have lost then; the first of them loads again, and each saves in its turn.
    assert_eq!(asked.calls(), 100 + 100 + 1 + 99);
}

/// Processes that share nothing but the store: a request is beaten a few times at most, even by one client of another
/// process that writes without pause, whose saves otherwise come between each of its looks and saves for ever.
#[tokio::test]
async fn a_process_lets_others_save() {
    const ROUNDS: usize = 20;
    println!("| request | other processes | writers in each | lost, worst of {ROUNDS} | ms, worst |");
    for verb in Verb::ALL {
        for (others, number) in [(1, 1), (1, 16), (2, 1), (2, 16)] {
            let round = async || {
                let store = distant(Duration::from_millis(4));
                let sessions = || Sessions::new(SessionOptions::new(store.clone()));
                let here = sessions();
                let cookie = new_session(&here).await;
                let writers: Vec<_> = (0..others).flat_map(|_| writers(&sessions(), &cookie, number)).collect();
                store.reaches(5).await;
                let asked = Arc::<Asked>::default();
                let began = tokio::time::Instant::now();
                let request = asked.by(async {
                    let session = open(&here, &cookie);
                    verb.ask(&session).await.unwrap();
                    drop(here.close(&session).await.unwrap());
                });
                tokio::time::timeout(Duration::from_secs(10), request).await.expect("it gets through");
                writers.iter().for_each(JoinHandle::abort);
                (asked.conflicts(), began.elapsed().as_millis())
            };
            let rounds = join_all((0..ROUNDS).map(|_| round())).await;
            let lost = rounds.iter().map(|(lost, _)| *lost).max().unwrap();
            let millis = rounds.iter().map(|(_, millis)| *millis).max().unwrap();
            println!("| {verb:?} | {others} | {number} | {lost} | {millis} |");
            // Two others do not pause at the same time: that it gets through is all that is sure then.
            assert!(others > 1 || lost <= 32, "{verb:?} beside {others} with {number}: beaten {lost} times");
        }
    }
}

/// A request whose future is left alone in its turn, as one is whose store never answers, holds up the others for a
/// moment.
#[tokio::test]
async fn who_is_left_alone_in_a_turn_holds_nobody_up() {
    const LONGEST_TURN: Duration = Duration::from_millis(50);
    let store = distant(Duration::ZERO);
    let sessions = Sessions::new(SessionOptions::new(store.clone()).max_wait(LONGEST_TURN * 5));
    let cookie = new_session(&sessions).await;
    let asked = [(); 6].map(|()| open(&sessions, &cookie));
    for session in &asked {
        count(session).await.unwrap();
    }
    let [first, abandoned, others @ ..] = &asked;
    drop(sessions.close(first).await.unwrap());
    let began = Instant::now();
    let mut abandoned = Box::pin(sessions.close(abandoned));
    // It has lost, has the turn, and looks again.
    step(&mut abandoned, ANSWERED);
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
    let store = distant(Duration::from_millis(20));
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

/// Less than it takes to serve a crowd, and ten times what a call takes.
const CROWDED: Duration = Duration::from_millis(250);

/// More clients than have their turns in time write a session until it ends, whatever comes of it.
fn crowd(sessions: &Sessions, cookie: &str) -> Vec<JoinHandle<()>> {
    let write = |sessions: Sessions, cookie: String| async move {
        loop {
            let session = open(&sessions, &cookie);
            if session.is_new().await.unwrap() {
                return;
            }
            count(&session).await.unwrap();
            drop(sessions.close(&session).await);
        }
    };
    (0..200).map(|_| tokio::spawn(write(sessions.clone(), cookie.to_owned()))).collect()
}

/// A logout is never refused for the crowd.
#[tokio::test]
async fn a_crowd_keeps_no_session_from_ending() {
    let round = async |n: u64| {
        let verb = if n.is_multiple_of(2) { Verb::Destroy } else { Verb::Regenerate };
        let store = distant(Duration::from_millis(4));
        let sessions = Sessions::new(SessionOptions::new(store.clone()).max_wait(CROWDED));
        let cookie = new_session(&sessions).await;
        let crowd = crowd(&sessions, &cookie);
        // It comes at any time between the ends of others' waits.
        tokio::time::sleep(Duration::from_millis(13 * n)).await;
        let logout = open(&sessions, &cookie);
        verb.ask(&logout).await.unwrap();
        drop(sessions.close(&logout).await.unwrap());
        assert!(open(&sessions, &cookie).is_new().await.unwrap(), "{verb:?}");
        crowd.iter().for_each(JoinHandle::abort);
    };
    join_all((0..20).map(round)).await;
}

/// A renewal that has made a new record, has lost, and waits too long for another try, leaves nothing behind.
#[tokio::test]
async fn a_renewal_that_is_refused_leaves_no_copy() {
    let store = distant(Duration::from_millis(4));
    let sessions = Sessions::new(SessionOptions::new(store.clone()).max_wait(CROWDED));
    let cookie = new_session(&sessions).await;
    let all: Vec<_> = (0..200).map(|_| open(&sessions, &cookie)).collect();
    join_all(all.iter().enumerate().map(async |(n, session)| {
        let verb = if n % 2 == 0 { Verb::Update } else { Verb::Renew };
        verb.ask(session).await.unwrap();
    }))
    .await;
    let closed = join_all(all.iter().map(|session| sessions.close(session))).await;
    let renewals = closed.iter().skip(1).step_by(2);
    let refused = renewals.filter(|closed| closed.as_ref().is_err_and(|error| error.kind() == ErrorKind::Busy));
    assert!(refused.count() > 0);
    // Under its new id, or under the old one if none was renewed.
    assert_eq!(live(&store).await.len(), 1);
}

/// Polls a future so often, which must not end by that.
fn step(future: &mut (impl Future + Unpin), times: usize) {
    for _ in 0..times {
        assert!(future.now_or_never().is_none());
    }
}

/// How often a request is polled until it has the answer to its save.
const ANSWERED: usize = 3;

/// Of two logins that waited in one queue the second begins no session without what it was to keep.
#[tokio::test]
async fn a_login_that_has_waited_loses_no_limit() {
    let store = distant(Duration::ZERO);
    let sessions = Sessions::new(SessionOptions::new(store.clone()));
    let cookie = new_session(&sessions).await;
    let limited = open(&sessions, &cookie);
    limited.insert("limit", "may only read").await.unwrap();
    drop(sessions.close(&limited).await.unwrap());

    let all = [(); 4].map(|()| open(&sessions, &cookie));
    let [first, holder, logins @ ..] = &all;
    for session in [first, holder] {
        count(session).await.unwrap();
    }
    for login in logins {
        login.get::<u64>("count").await.unwrap();
        login.renew().await.unwrap();
        login.insert("user", "ada").await.unwrap();
    }
    drop(sessions.close(first).await.unwrap());
    let mut holder = Box::pin(sessions.close(holder));
    step(&mut holder, ANSWERED);
    let (_, closed) = join(holder, join_all(logins.iter().map(|login| sessions.close(login)))).await;
    let cookies = closed.iter().filter(|closed| closed.as_ref().is_ok_and(|headers| headers.set_cookie().is_some()));
    assert_eq!(cookies.count(), 1, "{closed:?}");
    let live: Vec<_> = live(&store).await;
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].json("limit"), Some(r#""may only read""#));
}

async fn live(store: &Distant<MemoryCollection<SessionData>>) -> Vec<SessionData> {
    let page = Collection::<SessionData>::list(store).await.unwrap();
    page.into_pairs().unwrap().into_iter().map(|(_, data)| data).filter(|data| !data.has_ended()).collect()
}
