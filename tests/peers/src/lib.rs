//! What the benchmarks share: contenders that take turns, so that whatever else the machine does meets
//! all of them alike.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

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
}

/// Lets contenders take turns, and prints the operations a second of each, and the ratio to the first: the
/// medians of all rounds.
pub fn compare(title: &str, tasks: usize, count: u64, rounds: usize, contenders: &[Contender<'_>]) {
    let mut rates = vec![Vec::new(); contenders.len()];
    let mut turns: Vec<_> = (0..contenders.len()).collect();
    for round in 0..=rounds {
        // So that none always comes after the same other.
        fastrand::shuffle(&mut turns);
        for &n in &turns {
            (contenders[n].before)();
            let rate = (contenders[n].round)(tasks, count);
            // The first round warms up.
            if round > 0 {
                rates[n].push(rate);
            }
        }
    }
    for (n, contender) in contenders.iter().enumerate() {
        let ratio = median(rates[n].iter().zip(&rates[0]).map(|(rate, first)| rate / first).collect());
        let rate = median(rates[n].clone());
        println!("| {title} | {tasks} | {} | {:.0} | {ratio:.2} |", contender.name, rate);
    }
}

/// Returns the middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
