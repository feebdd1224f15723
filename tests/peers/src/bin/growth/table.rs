//! How growth is measured and shown.

use std::time::Instant;

use sosa_peers::report::{Table, range, thousands};
use sosa_peers::{cells, median, take_turns};

/// Something of some size, whose operations take some time.
pub trait Subject {
    /// Does an operation a number of times, and returns the nanoseconds of one.
    fn nanos(&mut self, operation: usize) -> f64;
}

/// Subjects of the same kind, ascending by size.
pub struct Kind<'a> {
    pub name: &'static str,
    pub subjects: Vec<Box<dyn Subject + 'a>>,
}

/// Times the work, of which each call is one. What it allocates is not counted, as counting takes time.
pub fn nanos(calls: usize, work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    allocation_counter::opt_out(work);
    began.elapsed().as_nanos() as f64 / calls as f64
}

/// Lets all subjects take turns at each of these operations. Of two kinds the second only touches as much memory
/// as the first has to: what the first grows beyond it is its own.
pub fn table(title: &str, operations: &[&str], sizes: &[u64], mut kinds: Vec<Kind<'_>>, rounds: usize) -> Table {
    let mut table = Table::new(title);
    let steps = sizes.len();
    for (operation, column) in operations.iter().enumerate() {
        let measured =
            take_turns(kinds.len() * steps, rounds, |n| kinds[n / steps].subjects[n % steps].nanos(operation));
        let by_kind: Vec<_> = measured.chunks(steps).collect();
        let mut rows = Vec::new();
        for (kind, measured) in kinds.iter().zip(&by_kind) {
            let names = sizes.iter().map(|size| format!("{}, {}", kind.name, thousands(*size as f64)));
            rows.extend(names.zip(cells(measured)));
        }
        if let [ours, theirs] = by_kind[..] {
            for (step, size) in sizes.iter().enumerate().skip(1) {
                let growth = |kind: &[Vec<f64>], round: usize| kind[step][round] / kind[0][round];
                let beyond: Vec<_> = (0..rounds).map(|round| growth(ours, round) / growth(theirs, round)).collect();
                let (least, greatest) = range(&beyond);
                let name = format!("growth beyond that of {}, {}", kinds[1].name, thousands(*size as f64));
                rows.push((name, format!("{:.2} ({least:.2}–{greatest:.2})", median(beyond))));
            }
        }
        table.column(*column, rows);
    }
    table
}
