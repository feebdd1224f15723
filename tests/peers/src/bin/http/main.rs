//! What sessions cost over HTTP, beside other libraries, in memory and on Redis:
//! `cargo run --release --bin http [rounds] [memory|redis] [--dry]`.
//!
//! Each contender is a server of its own: this very program, started as `http serve NAME [REDIS-URL]`, or Node.
//! They share the cores with wrk, and take turns. With `--dry` the tables are printed and not written.

mod contender;
mod names;
mod servers;
mod tables;
mod wrk;

use std::env;

use sosa_peers::arguments::Arguments;
use sosa_peers::report::{Section, thousands};
use sosa_tests::Redis;

use crate::contender::start;
use crate::names::{IN_MEMORY, ON_REDIS};
use crate::tables::{commands, latencies, measure, pairs, rates};

/// How many sessions each contender keeps.
pub const SESSIONS: usize = 10_000;

/// How many connections make requests at once.
pub const CONNECTIONS: usize = 64;

/// What a request may do.
pub const OPERATIONS: [&str; 2] = ["read", "write"];

/// For how long they do, each time.
pub const SECONDS: u64 = 3;

fn main() {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() == Some("serve") {
        let name = arguments.next().expect("a name");
        return servers::serve(&name, arguments.next().as_deref());
    }
    let arguments = Arguments::read();
    if arguments.wants("memory") {
        in_memory(arguments);
    }
    if arguments.wants("redis") {
        on_redis(arguments);
    }
}

fn in_memory(arguments: Arguments) {
    let rounds = arguments.rounds(9);
    let contenders = start(&IN_MEMORY, None);
    let packages = ["axum", "sosa-session", "axum_session"];
    let mut section = Section::new("http memory", &packages, &["node --version"], how(rounds, &["express-session"]));
    let measured = measure(&contenders, rounds);
    section.table(&rates(&measured));
    section.table(&latencies(&measured));
    arguments.finish(section);
}

fn on_redis(arguments: Arguments) {
    let rounds = arguments.rounds(9);
    let redis = Redis::start(&[]);
    let contenders = start(&ON_REDIS, Some(&redis));
    let packages = [
        "axum",
        "sosa-session",
        "tower-sessions-redis-store",
        "axum_session",
        "axum_session_redispool",
        "actix-web",
        "actix-session",
    ];
    let programs = ["redis-server --version", "node --version"];
    let how = how(rounds, &["express-session", "connect-redis"]);
    let mut section = Section::new("http redis", &packages, &programs, how);
    let measured = measure(&contenders, rounds);
    section.table(&rates(&measured));
    section.table(&latencies(&measured));
    section.table(&pairs(&measured));
    section.table(&commands(&contenders, &redis));
    arguments.finish(section);
}

/// Says how it was measured, and with what of Node's packages.
fn how(rounds: usize, packages: &[&str]) -> String {
    let versions: serde_json::Value =
        serde_json::from_str(include_str!("../../../express/package.json")).expect("JSON");
    let packages = ["express"]
        .iter()
        .chain(packages)
        .map(|name| format!("{name} {}", versions["dependencies"][name].as_str().expect("a version")));
    format!(
        "{}; {CONNECTIONS} connections of wrk {} for {} s, medians of {} rounds, {} sessions for each",
        packages.collect::<Vec<_>>().join(", "),
        wrk::version(),
        SECONDS,
        rounds,
        thousands(SESSIONS as f64),
    )
}
