//! Load on a collection while something fails, and what became of it.

// The figures are worth a look.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use sosa::{Collection, CollectionExt, ErrorKind, ListOptions, Outcome};
use sosa_redis::RedisCollection;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The collection that is under load.
pub type Things = RedisCollection<u64>;

/// How many tasks there are.
pub const TASKS: u64 = 64;

/// How long a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a busy machine may add to a timeout.
pub const SLACK: Duration = Duration::from_millis(600);

/// 64 tasks that save new ids, load them, and count in a counter of their own, without a pause.
#[derive(Debug)]
pub struct Load {
    name: String,
    tasks: JoinSet<()>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    timeout: Duration,
    stop: AtomicBool,
    /// How many verbs succeeded, and how many failed.
    verbs: watch::Sender<(u64, u64)>,
    /// The ids of saves that were acknowledged.
    saved: Mutex<Vec<String>>,
    /// How often each kind of failure came, and the longest that one took, in milliseconds.
    failures: Mutex<BTreeMap<String, (u64, u128)>>,
    /// By counter: how many increments were acknowledged, and of how many nobody knows.
    counts: Mutex<BTreeMap<u64, (u64, u64)>>,
    /// How many acknowledged saves were not there a moment later.
    vanished: AtomicU64,
}

/// What a load saw, and what is left of what it did.
#[derive(Debug)]
pub struct Report {
    seen: Arc<Seen>,
    /// How many saves were acknowledged.
    pub saves: u64,
    /// How many of these are not there.
    pub lost_saves: u64,
    /// How many of those that are there are not listed.
    pub unlisted: u64,
    /// How many increments were acknowledged.
    pub increments: u64,
    /// How many failed such that nobody knows whether they were made.
    pub unknown_increments: u64,
    /// How many that were acknowledged are missing.
    pub lost_increments: u64,
    /// How many were made more than once.
    pub repeated_increments: u64,
}

impl Load {
    /// Starts it on a collection whose verbs end within this time.
    pub fn start(things: &Things, timeout: Duration) -> Self {
        let seen = Arc::new(Seen { timeout, ..Seen::default() });
        let (name, mut tasks) = (sosa::new_id(), JoinSet::new());
        for task in 0..TASKS {
            tasks.spawn(run(format!("{name} {task}"), task, things.clone(), seen.clone()));
        }
        Self { name, tasks, seen }
    }

    /// Waits until so many more verbs have succeeded.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub async fn progress(&self, verbs: u64) {
        let mut seen = self.seen.verbs.subscribe();
        let goal = seen.borrow().0 + verbs;
        let progress = timeout(PATIENCE, seen.wait_for(|(succeeded, _)| *succeeded >= goal)).await;
        assert!(progress.is_ok_and(|progress| progress.is_ok()), "no verb succeeds any more");
    }

    /// Waits until so many more verbs have failed.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub async fn failures(&self, verbs: u64) {
        let mut seen = self.seen.verbs.subscribe();
        let goal = seen.borrow().1 + verbs;
        let failures = timeout(PATIENCE, seen.wait_for(|(_, failed)| *failed >= goal)).await;
        assert!(failures.is_ok_and(|failures| failures.is_ok()), "no verb fails");
    }

    /// Returns how many verbs have succeeded, and how many have failed.
    pub fn verbs(&self) -> (u64, u64) {
        *self.seen.verbs.borrow()
    }

    /// Returns how long it takes until a verb succeeds that began after now.
    pub async fn recovery(&self) -> Duration {
        let began = Instant::now();
        // One of each task may have been answered before.
        self.progress(TASKS + 1).await;
        began.elapsed()
    }

    /// Ends it, and looks for what it did.
    ///
    /// # Panics
    ///
    /// If a wrong answer was given, or the collection does not serve.
    pub async fn stop(mut self, things: &Things) -> Report {
        self.seen.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a task sees nothing wrong");
        }
        let seen = self.seen;
        let saved = seen.saved.lock().expect("no panic").clone();
        let found = things.load_many(&saved).await.expect("it serves");
        let options = ListOptions::new().ids_only().starts_with(&*self.name);
        let listed: BTreeSet<_> = things.stream(options).map(|item| item.expect("it serves").id).collect().await;
        let unlisted = saved.iter().zip(&found).filter(|(id, value)| value.is_some() && !listed.contains(*id)).count();
        let mut report = Report {
            saves: saved.len() as u64,
            lost_saves: found.iter().filter(|value| value.is_none()).count() as u64,
            unlisted: unlisted as u64,
            increments: 0,
            unknown_increments: 0,
            lost_increments: 0,
            repeated_increments: 0,
            seen: seen.clone(),
        };
        let counts = seen.counts.lock().expect("no panic").clone();
        for (task, (acknowledged, unknown)) in counts {
            let counted = things.load(&format!("{} {task} counter", self.name)).await.expect("it serves");
            let counted = counted.unwrap_or_default();
            report.increments += acknowledged;
            report.unknown_increments += unknown;
            report.lost_increments += acknowledged.saturating_sub(counted);
            report.repeated_increments += counted.saturating_sub(acknowledged + unknown);
        }
        report
    }
}

impl Report {
    /// Asserts that nothing that was acknowledged is lost, that nothing was done twice, and that what is
    /// there is listed.
    ///
    /// # Panics
    ///
    /// If it is not so.
    #[track_caller]
    pub fn assert_kept(&self) -> &Self {
        assert_eq!(self.lost_saves, 0, "acknowledged saves are lost");
        assert_eq!(self.seen.vanished.load(Ordering::Relaxed), 0, "saves were not there at once");
        assert_eq!(self.lost_increments, 0, "acknowledged increments are lost");
        assert_eq!(self.repeated_increments, 0, "increments were made twice");
        assert_eq!(self.unlisted, 0, "saved entries are not listed");
        self
    }

    /// Prints what failed, and asserts that it is what was to be expected, and that something did.
    ///
    /// # Panics
    ///
    /// If it is not so.
    #[track_caller]
    pub fn assert_failures(&self, fault: &str, expected: &[(ErrorKind, &[Outcome])]) -> &Self {
        assert_ne!(self.seen.failures.lock().expect("no panic").is_empty(), !expected.is_empty(), "{fault}");
        self.allow_failures(fault, expected)
    }

    /// Prints what failed, and asserts that it is nothing but what may.
    ///
    /// # Panics
    ///
    /// If it is not so.
    #[track_caller]
    pub fn allow_failures(&self, fault: &str, expected: &[(ErrorKind, &[Outcome])]) -> &Self {
        let failures = self.seen.failures.lock().expect("no panic");
        println!("{fault}: {} verbs succeeded", self.seen.verbs.borrow().0);
        for (what, (count, longest)) in &*failures {
            println!("    {count} times {what}, within {longest} ms");
        }
        for what in failures.keys() {
            assert!(is_expected(what, expected), "{fault}: {what}");
        }
        self
    }
}

fn is_expected(what: &str, expected: &[(ErrorKind, &[Outcome])]) -> bool {
    expected
        .iter()
        .flat_map(|(kind, outcomes)| outcomes.iter().map(move |outcome| format!("{kind:?}, {outcome:?}")))
        .any(|expected| what.ends_with(&expected))
}

impl Seen {
    fn note<T>(&self, verb: &str, began: Instant, result: &sosa::Result<T>) {
        match result {
            Ok(_) => self.verbs.send_modify(|(succeeded, _)| *succeeded += 1),
            Err(error) => {
                let took = began.elapsed();
                // An update makes two requests, or more where it loses a race; nobody races here.
                let bound = if verb == "update" { 2 * self.timeout } else { self.timeout };
                assert!(took < bound + SLACK, "{verb} took {took:?}: {error}");
                let what = format!("{verb}: {:?}, {:?}", error.kind(), error.outcome());
                let mut failures = self.failures.lock().expect("no panic");
                let (count, longest) = failures.entry(what).or_default();
                *count += 1;
                *longest = (*longest).max(took.as_millis());
                drop(failures);
                self.verbs.send_modify(|(_, failed)| *failed += 1);
            }
        }
    }
}

async fn run(name: String, task: u64, things: Things, seen: Arc<Seen>) {
    let counter = format!("{name} counter");
    for n in 0.. {
        if seen.stop.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{name} {n}");
        let began = Instant::now();
        let saved = things.save(&id, &n).await;
        seen.note("save", began, &saved);
        if saved.is_ok() {
            seen.saved.lock().expect("no panic").push(id.clone());
        }
        let began = Instant::now();
        let loaded = things.load(&id).await;
        seen.note("load", began, &loaded);
        match (&saved, &loaded) {
            (Ok(()), Ok(None)) => drop(seen.vanished.fetch_add(1, Ordering::Relaxed)),
            (_, Ok(value)) => assert!(value.is_none_or(|value| value == n), "a wrong answer"),
            (_, Err(error)) => assert_eq!(error.outcome(), Outcome::NotApplied, "a load applies nothing"),
        }
        let began = Instant::now();
        let counted = things.update(&counter, |count| Some(count.unwrap_or(0) + 1)).await;
        seen.note("update", began, &counted);
        let mut counts = seen.counts.lock().expect("no panic");
        let (acknowledged, unknown) = counts.entry(task).or_default();
        match counted {
            Ok(_) => *acknowledged += 1,
            Err(error) if error.outcome() == Outcome::Unknown => *unknown += 1,
            Err(_) => {}
        }
    }
}
