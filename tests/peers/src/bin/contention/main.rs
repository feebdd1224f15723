//! Many writers of one session at once: `cargo run --release --bin contention [rounds] [race|turns] [--dry]`.
//!
//! In a race each writer is a request of its own, which counts one up, waits once as a handler that asks another service
//! does, and inserts a key of its own. Where turns are looked at, others write a session again and again, and one request
//! has to get through.

mod race;
mod turns;
mod workers;
mod writers;

use std::env;

use sosa_peers::arguments::Arguments;
use sosa_peers::median;
use sosa_peers::report::{Section, Table, thousands};

use crate::race::Race;
use crate::writers::How;

fn main() {
    let words: Vec<_> = env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == workers::WORKER) {
        return workers::work(&words[1..]);
    }
    if words.first().is_some_and(|word| word == turns::RIVAL) {
        return turns::write(&words[1..]);
    }
    let arguments = Arguments::read();
    if arguments.wants("race") {
        let mut section = Section::new(
            "contention",
            &["sosa-session", "sosa-memory", "sosa-redis", "tower-sessions"],
            &["redis-server --version"],
            "medians of the rounds; milliseconds from the common start on; what takes more than ten seconds is stopped",
        );
        for writers in [200, 2_000] {
            section.table(&table(writers, arguments.rounds(3)));
        }
        arguments.finish(section);
    }
    if arguments.wants("turns") {
        let rounds = arguments.rounds(20);
        let mut section = Section::new(
            "contention turns",
            &["sosa-session", "sosa-redis"],
            &["redis-server --version"],
            format!("{rounds} rounds"),
        );
        section.table(&turns::table(rounds));
        arguments.finish(section);
    }
}

fn table(writers: usize, rounds: usize) -> Table {
    let mut rows = Vec::new();
    for (how, what) in [(How::Sessions, "sosa-session"), (How::Loop, "a loop of load and save on condition")] {
        rows.push((format!("{what}, memory"), races(rounds, || Race::alone(how, writers))));
        for (processes, name) in [(1, "one process"), (2, "two processes")] {
            let name = format!("{what}, Redis, {name}");
            rows.push((name, races(rounds, || workers::race(how, writers, processes))));
        }
    }
    rows.push(("tower-sessions 0.15, memory".to_owned(), races(rounds, || Race::alone(How::Tower, writers))));
    let mut table = Table::new(format!("{} writers", thousands(writers as f64)));
    let mut column = |name, cell: &dyn Fn(&[Race]) -> String| {
        table.column(name, rows.iter().map(|(row, races)| (row.as_str(), cell(races))));
    };
    let of = |races: &[Race], figure: fn(&Race) -> f64| median(races.iter().map(figure).collect());
    column("finished", &|races| thousands(of(races, |race| race.finished() as f64)));
    column("updates lost", &|races| thousands(of(races, |race| race.lost as f64)));
    column("store calls a write", &|races| {
        format!("{:.2}", of(races, |race| race.calls as f64 / race.finished() as f64))
    });
    column("commands of Redis a write", &|races| match races[0].commands {
        0 => String::new(),
        _ => format!("{:.2}", of(races, |race| race.commands as f64 / race.finished() as f64)),
    });
    column("milliseconds of all", &|races| thousands(of(races, |race| race.all)));
    column("of a write, median", &|races| thousands(of(races, |race| race.at(0.5))));
    column("p99", &|races| thousands(of(races, |race| race.at(0.99))));
    column("slowest", &|races| thousands(of(races, |race| race.at(1.0))));
    table
}

fn races(rounds: usize, race: impl Fn() -> Race) -> Vec<Race> {
    (0..rounds).map(|_| race()).collect()
}
