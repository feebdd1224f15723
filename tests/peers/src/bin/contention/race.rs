//! Writers that begin at once.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use crate::writers::{How, Writers};

/// How long they have.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Default)]
pub struct Race {
    /// How many milliseconds all of it took.
    pub all: f64,
    /// How many each of those who finished took, ascending.
    pub millis: Vec<f64>,
    /// How often the verbs of the collection were called.
    pub calls: u64,
    /// How many commands the server of Redis carried out, those within scripts included.
    pub commands: u64,
    /// How many updates of those who finished the session does not show.
    pub lost: usize,
}

impl Race {
    /// Lets writers in this process race for a session in its memory.
    pub fn alone(how: How, writers: usize) -> Self {
        let runtime = runtime();
        runtime.block_on(async {
            let all = Writers::in_memory(how).await;
            let mut race = Self::run(&all, 0..writers).await;
            race.judge(how, writers, &all.result().await);
            race
        })
    }

    /// Lets these writers begin, each in a task of its own.
    pub async fn run(writers: &Arc<Writers>, numbers: Range<usize>) -> Self {
        let (go, start) = watch::channel(None);
        let ready = Arc::new(Barrier::new(numbers.len() + 1));
        let mut running: JoinSet<f64> = JoinSet::new();
        for n in numbers {
            let (writers, ready, mut start) = (writers.clone(), ready.clone(), start.clone());
            running.spawn(async move {
                ready.wait().await;
                let began = start.wait_for(Option::is_some).await.expect("the start").unwrap_or_else(Instant::now);
                writers.write(n).await;
                began.elapsed().as_secs_f64() * 1e3
            });
        }
        ready.wait().await;
        let (before, began) = (writers.calls(), Instant::now());
        go.send(Some(began)).expect("writers");
        let mut race = Self::default();
        let end = tokio::time::Instant::now() + PATIENCE;
        while let Ok(Some(millis)) = tokio::time::timeout_at(end, running.join_next()).await {
            race.millis.push(millis.expect("a writer writes"));
        }
        race.all = began.elapsed().as_secs_f64() * 1e3;
        running.shutdown().await;
        race.calls = writers.calls() - before;
        race.millis.sort_by(f64::total_cmp);
        race
    }

    /// Adds those who raced in another process at the same time.
    pub fn add(&mut self, other: Self) {
        self.all = self.all.max(other.all);
        self.calls += other.calls;
        self.millis.extend(other.millis);
        self.millis.sort_by(f64::total_cmp);
    }

    /// Compares with what the session holds in the end: the count, and how many keys of writers.
    ///
    /// # Panics
    ///
    /// If a session of ours lost an update, or let anybody starve.
    pub fn judge(&mut self, how: How, writers: usize, &(count, keys): &(usize, usize)) {
        self.lost = self.finished().saturating_sub(count.min(keys));
        if how == How::Sessions {
            assert_eq!((self.finished(), count, keys), (writers, writers, writers), "finished, counted, and keys");
        }
    }

    pub fn finished(&self) -> usize {
        self.millis.len()
    }

    /// Returns the time within which this share of those who finished had done so.
    pub fn at(&self, share: f64) -> f64 {
        let place = (self.finished() as f64 * share).ceil() as usize;
        self.millis.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
