//! Who writes a session next: turns where requests of one process collide, and pauses where processes do.

// The tables are worth a look: `cargo test -p sosa-tests --test turns -- --nocapture`.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
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

/// Two processes that share nothing but the store: a request is beaten a few times at most, also by one client of the
/// other process that writes without pause, whose saves otherwise come between each of its looks and saves for ever.
#[tokio::test]
async fn a_process_lets_others_save() {
    const ROUNDS: usize = 20;
    println!("| request | writers elsewhere | lost, worst of {ROUNDS} | ms, worst |");
    for verb in Verb::ALL {
        for number in [1, 16] {
            let round = || async {
                let store = distant(Duration::from_millis(4));
                let [here, elsewhere] = [(); 2].map(|()| Sessions::new(SessionOptions::new(store.clone())));
                let cookie = new_session(&here).await;
                let writers = writers(&elsewhere, &cookie, number);
                store.reaches(5).await;
                let asked = Arc::<Asked>::default();
                let began = tokio::time::Instant::now();
                asked
                    .by(async {
                        let session = open(&here, &cookie);
                        verb.ask(&session).await.unwrap();
                        drop(here.close(&session).await.unwrap());
                    })
                    .await;
                writers.iter().for_each(JoinHandle::abort);
                (asked.conflicts(), began.elapsed().as_millis())
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
    let store = distant(Duration::ZERO);
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
