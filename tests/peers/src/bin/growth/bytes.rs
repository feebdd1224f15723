//! What an entry takes beside its id and its value.

use std::time::Duration;

use allocation_counter::measure;
use dashmap::DashMap;
use sosa::{Collection, Expiry, SaveOptions};
use sosa_peers::arguments::Arguments;
use sosa_peers::report::{Table, thousands};
use sosa_peers::{ids, process};
use tokio::runtime::Builder;

use crate::ALONE;

/// How long the values are.
const VALUE: usize = 1024;

const CONTENDERS: [(&str, &str); 3] = [
    ("dashmap", "DashMap"),
    ("plain", "sosa-memory, that never expire"),
    ("expiring", "sosa-memory, each with a deadline of its own"),
];

pub fn table(arguments: Arguments) -> Table {
    let mut table = Table::new("bytes an entry, over those of id and value");
    for entries in [100_000, 1_000_000].map(|entries| arguments.entries(entries)) {
        let [mut in_use, mut resident] = [Vec::new(), Vec::new()];
        for (what, name) in CONTENDERS {
            let output = process::another().args([ALONE, "bytes", what, &entries.to_string()]).output();
            let printed = String::from_utf8(output.expect("it ran").stdout).expect("text");
            let bytes =
                printed.split_whitespace().map(|bytes| bytes.parse::<f64>().expect("a number") / entries as f64);
            for (bytes, cells) in bytes.zip([&mut in_use, &mut resident]) {
                cells.push((name, format!("{:.2} ({})", bytes / (VALUE + ids::LENGTH) as f64, thousands(bytes))));
            }
        }
        let entries = thousands(entries as f64);
        table.column(format!("asked for, {entries} entries"), in_use);
        table.column(format!("resident, {entries} entries"), resident);
    }
    table
}

/// Fills one, and prints the bytes that it asked for and those that have become resident.
pub fn alone(what: &str, entries: u64) {
    let (theirs, ours) = (DashMap::new(), sosa_memory::new("bench").collection::<String>("things"));
    let value = "v".repeat(VALUE);
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let before = process::resident();
    let counted = measure(|| {
        runtime.block_on(async {
            for n in 0..entries {
                let id = ids::id(n);
                // All at another time, within a day.
                let expiry = Expiry::After(Duration::from_millis(86_400_000 + n * 7919 % 86_400_000));
                match what {
                    "dashmap" => drop(theirs.insert(id, value.clone())),
                    "plain" => ours.save(&id, &value).await.expect("saved"),
                    _ => drop(ours.save_with(&id, &value, SaveOptions::from(expiry)).await.expect("saved")),
                }
            }
        });
    });
    println!("{} {}", counted.bytes_current, process::resident() - before);
}
