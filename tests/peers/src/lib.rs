//! What the benchmarks share: contenders that take turns, so that whatever else the machine does meets
//! all of them alike.

pub mod apps;
pub mod arguments;
pub mod browser;
pub mod ids;
pub mod process;
pub mod report;
pub mod shop;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::report::cell;

/// About a kilobyte of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    name: String,
    numbers: Vec<u32>,
    body: String,
}

impl Document {
    /// Makes one of many.
    pub fn new(n: u64) -> Self {
        let mut body = "a value of some length, ".repeat(38);
        body.push_str(&n.to_string());
        Self { name: format!("document {n}"), numbers: (100..110).collect(), body }
    }
}

/// One way to do something.
pub struct Contender<'a> {
    name: &'static str,
    before: Box<dyn Fn() + 'a>,
    round: Box<dyn Fn(usize, u64) -> f64 + 'a>,
}

impl<'a> Contender<'a> {
    /// Makes a contender of an operation, which gets the number of the task and of the operation.
    pub fn new<F, R>(name: &'static str, runtime: &'a Runtime, operation: F) -> Self
    where
        F: Fn(usize, u64) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send,
    {
        let operation = Arc::new(operation);
        // Numbers go on from round to round: what is inserted is new each time.
        let next = Arc::new(AtomicU64::new(0));
        let round = move |tasks: usize, count: u64| {
            let start = next.fetch_add(count, Ordering::Relaxed);
            let turn = Arc::new(AtomicU64::new(start));
            runtime.block_on(async {
                let began = Instant::now();
                let running: Vec<_> = (0..tasks)
                    .map(|task| {
                        let (operation, turn) = (operation.clone(), turn.clone());
                        tokio::spawn(async move {
                            loop {
                                let n = turn.fetch_add(1, Ordering::Relaxed);
                                if n >= start + count {
                                    return;
                                }
                                operation(task, n).await;
                            }
                        })
                    })
                    .collect();
                for task in running {
                    task.await.expect("an operation succeeds");
                }
                count as f64 / began.elapsed().as_secs_f64()
            })
        };
        Self { name, before: Box::new(|| ()), round: Box::new(round) }
    }

    /// Does something before each round, which is not measured.
    #[must_use]
    pub fn before(mut self, before: impl Fn() + 'a) -> Self {
        self.before = Box::new(before);
        self
    }

    /// Does so many operations in so many tasks, and returns how many that are a second.
    pub fn rate(&self, tasks: usize, count: u64) -> f64 {
        (self.before)();
        (self.round)(tasks, count)
    }
}

/// Lets contenders take turns, and returns of each its name, and the operations a second with the ratio to the
/// first: the medians of all rounds.
pub fn compare(tasks: usize, count: u64, rounds: usize, contenders: &[Contender<'_>]) -> Vec<(&'static str, String)> {
    let cells = cells(&rates(tasks, count, rounds, contenders));
    contenders.iter().map(|contender| contender.name).zip(cells).collect()
}

/// Lets contenders take turns, and returns the operations a second of each, in all rounds.
pub fn rates(tasks: usize, count: u64, rounds: usize, contenders: &[Contender<'_>]) -> Vec<Vec<f64>> {
    take_turns(contenders.len(), rounds, |n| contenders[n].rate(tasks, count))
}

/// Lets so many contenders take turns, in another order in each round, so that none always comes after the
/// same other. Returns what each measured, without the first round, which warms up.
pub fn take_turns<R>(contenders: usize, rounds: usize, mut measure: impl FnMut(usize) -> R) -> Vec<Vec<R>> {
    let mut measured: Vec<_> = (0..contenders).map(|_| Vec::new()).collect();
    let mut turns: Vec<_> = (0..contenders).collect();
    for round in 0..=rounds {
        fastrand::shuffle(&mut turns);
        for &n in &turns {
            let result = measure(n);
            if round > 0 {
                measured[n].push(result);
            }
        }
    }
    measured
}

/// Writes of each contender the median of what it measured, and the ratio to the first in the same round; of the
/// first, that to its own median.
pub fn cells(measured: &[Vec<f64>]) -> Vec<String> {
    let usual = median(measured[0].clone());
    let ratios = |n: usize| {
        measured[n].iter().zip(&measured[0]).map(move |(ours, first)| ours / if n == 0 { usual } else { *first })
    };
    (0..measured.len()).map(|n| cell(&measured[n], &ratios(n).collect::<Vec<_>>())).collect()
}

/// Returns the middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
