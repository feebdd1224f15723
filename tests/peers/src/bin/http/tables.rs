//! What was measured, and how it is shown.

use std::collections::HashMap;
use std::thread;

use sosa_peers::report::{Table, range};
use sosa_peers::{cells, median, take_turns};
use sosa_tests::{Client, Redis};
use tokio::runtime::Runtime;

use crate::OPERATIONS;
use crate::contender::Contender;
use crate::names::*;

/// What each contender measured of an operation, a round at a time.
pub struct Measured {
    operation: &'static str,
    names: Vec<&'static str>,
    rates: Vec<Vec<f64>>,
    latencies: Vec<Vec<f64>>,
}

pub fn measure(contenders: &[Contender], rounds: usize) -> Vec<Measured> {
    let names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
    let measure = |operation| {
        let turns = take_turns(contenders.len(), rounds, |n| contenders[n].measure(operation));
        let (rates, latencies) = turns.into_iter().map(|turns| turns.into_iter().unzip()).unzip();
        Measured { operation, names: names.clone(), rates, latencies }
    };
    let measured = OPERATIONS.map(measure).into();
    // Those who lost their sessions meanwhile would have answered fast.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for contender in contenders {
        runtime.block_on(contender.check(None));
    }
    measured
}

pub fn rates(measured: &[Measured]) -> Table {
    let mut table = Table::new("requests a second");
    for Measured { operation, names, rates, .. } in measured {
        table.column(*operation, names.iter().copied().zip(cells(rates)));
    }
    table
}

pub fn latencies(measured: &[Measured]) -> Table {
    let mut table = Table::new("99th percentile in ms");
    for Measured { operation, names, latencies, .. } in measured {
        let medians = latencies.iter().map(|latencies| format!("{:.1}", median(latencies.clone())));
        table.column(*operation, names.iter().copied().zip(medians));
    }
    table
}

/// Compares ours with theirs, round by round: reads with those of the library that is most like it, writes
/// with all.
pub fn pairs(measured: &[Measured]) -> Table {
    let mut table = Table::new("sosa-session to");
    for Measured { operation, names, rates, .. } in measured {
        let rates: HashMap<_, _> = names.iter().copied().zip(rates).collect();
        let theirs = names.iter().filter(|&&name| match *operation {
            "read" => [TOWER_14, TOWER_14_SLIDING].contains(&name),
            _ => ![BARE, SOSA, SOSA_UNINDEXED].contains(&name),
        });
        let cells = theirs.map(|&name| {
            let ratios: Vec<_> = rates[SOSA].iter().zip(rates[name]).map(|(ours, theirs)| ours / theirs).collect();
            let (least, greatest) = range(&ratios);
            (name, format!("{:.2} ({least:.2}–{greatest:.2})", median(ratios)))
        });
        table.column(*operation, cells);
    }
    table
}

/// Says what Redis runs for a request, on the average of some. What a script calls counts as well. The sessions are
/// left alone before, as most are between two requests: axum_session saves on a read then.
pub fn commands(contenders: &[Contender], redis: &Redis) -> Table {
    let runtime = Runtime::new().expect("a runtime");
    let mut table = Table::new("commands that Redis runs for the first request in ten seconds");
    for operation in OPERATIONS {
        // By axum_session's own clock, which nobody else can move, and which it tells nobody of.
        thread::sleep(std::time::Duration::from_secs(10));
        let cells = contenders.iter().filter(|contender| contender.name != BARE).map(|contender| {
            redis.calls();
            runtime.block_on(async {
                let mut client = Client::connect(contender.server.address).await.expect("it listens");
                for cookies in contender.cookies.iter().take(100) {
                    contender.get(&mut client, operation, cookies).await;
                }
            });
            let calls = redis.calls();
            let calls = calls.iter().map(|(command, count)| format!("{command} {}", *count as f64 / 100.0));
            (contender.name, calls.collect::<Vec<_>>().join(", "))
        });
        table.column(operation, cells);
    }
    table
}
