//! What grows with a collection and what does not: `cargo run --release --bin growth [rounds] [--dry] [--small]`.

mod bytes;
mod collections;
mod expiry;
mod sessions;
mod table;

use std::env;

use sosa_peers::arguments::Arguments;
use sosa_peers::report::Section;

/// Begins the arguments of a process that measures its memory, where nothing else has been.
const ALONE: &str = "alone";

fn main() {
    let words: Vec<_> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [ALONE, "bytes", what, entries] => return bytes::alone(what, entries.parse().expect("a number")),
        [ALONE, "expiry", base, more] => {
            return expiry::alone(base.parse().expect("a number"), more.parse().expect("a number"));
        }
        _ => {}
    }
    let arguments = Arguments::read();
    let mut section = Section::new(
        "growth",
        &["sosa-memory", "sosa-redis", "sosa-sled", "sosa-session", "dashmap"],
        &["redis-server --version"],
        "nanoseconds of one operation, in brackets the ratio to the smallest collection of the same kind; where the \
         time is in the logarithm, a hundred times 10,000 entries would be 1.50, and a thousand times 1.75",
    );
    section.table(&bytes::table(arguments));
    section.table(&expiry::table(arguments));
    let rounds = arguments.rounds(5);
    section.table(&collections::in_memory(arguments, rounds));
    section.table(&sessions::table_of_requests(arguments, rounds));
    section.table(&collections::in_sled(arguments, rounds));
    section.table(&collections::in_redis(arguments, rounds));
    arguments.finish(section);
}
