//! What comes back of the memory of sessions that have expired.

use std::time::Duration;

use allocation_counter::measure;
use sosa::Clock;
use sosa_memory::MemoryCollection;
use sosa_peers::arguments::Arguments;
use sosa_peers::browser::Browser;
use sosa_peers::process;
use sosa_peers::report::{Table, thousands};
use sosa_session::{Lifetime, SessionData, SessionOptions, Sessions};
use tokio::runtime::{Builder, Runtime};

use crate::ALONE;
use crate::sessions::fill;

const HOUR: Duration = Duration::from_secs(3600);

/// After how many requests that save it is looked again.
const SAVES: [usize; 4] = [5_000, 50_000, 125_000, 250_000];

pub fn table(arguments: Arguments) -> Table {
    let (base, more) = (arguments.entries(100_000), arguments.entries(1_000_000));
    let output = process::another().args([ALONE, "expiry", &base.to_string(), &more.to_string()]).output();
    let printed = String::from_utf8(output.expect("it ran").stdout).expect("text");
    let lines: Vec<(&str, Vec<f64>)> = printed
        .lines()
        .map(|line| {
            let (name, figures) = line.rsplit_once(": ").expect("a name and figures");
            (name, figures.split(' ').map(|figure| figure.parse().expect("a number")).collect())
        })
        .collect();
    let mut table = Table::new("sessions of ten keys, in memory");
    for (column, name) in ["bytes in use", "bytes resident", "entries held"].into_iter().enumerate() {
        let start = lines[0].1[column];
        let cell = |figures: &Vec<f64>| format!("{} ({:.2})", thousands(figures[column]), figures[column] / start);
        table.column(name, lines.iter().map(|(name, figures)| (*name, cell(figures))));
    }
    table
}

/// One table of sessions, and the bytes that it has taken so far.
struct Site {
    clock: Clock,
    collection: MemoryCollection<SessionData>,
    runtime: Runtime,
    bytes: i64,
}

/// Fills a table twice with sessions that expire, and prints how much is in use after each step.
pub fn alone(base: u64, more: u64) {
    let clock = Clock::manual();
    let collection = sosa_memory::new("bench").with_clock(clock.clone()).collection("sessions");
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let mut site = Site { clock, collection, runtime, bytes: 0 };
    let staying = site.sessions(1000 * HOUR);
    let leaving = site.sessions(HOUR);
    let mut browsers = Vec::new();
    site.step(&format!("{} that live on: the start", thousands(base as f64)), |site| {
        browsers = site.fill(&staying, base);
    });
    let more_come = format!("and {} more", thousands(more as f64));
    site.step(&more_come, |site| drop(site.fill(&leaving, more)));
    site.clock.advance(2 * HOUR);
    site.step("when those have expired, after `purge`", |site| {
        assert_eq!(site.collection.purge() as u64, more);
    });
    site.step("and `malloc_trim`", |_| process::trim());
    site.step(&format!("{more_come}, again"), |site| drop(site.fill(&leaving, more)));
    site.clock.advance(2 * HOUR);
    let mut saved = 0;
    for saves in SAVES {
        let name = format!("when those have expired, after {} requests that save", thousands(saves as f64));
        site.step(&name, |site| site.save(&mut browsers, saves - saved));
        saved = saves;
    }
    site.step("and `malloc_trim` again", |_| process::trim());
}

impl Site {
    fn sessions(&self, idle: Duration) -> Sessions {
        let lifetime = Lifetime::new().idle(idle).absolute(None);
        Sessions::new(SessionOptions::new(self.collection.clone()).clock(self.clock.clone()).lifetime(lifetime))
    }

    fn step(&mut self, name: &str, step: impl FnOnce(&Self)) {
        self.bytes += measure(|| step(self)).bytes_current;
        println!("{name}: {} {} {}", self.bytes, process::resident(), self.collection.held());
    }

    /// Opens so many sessions, and returns those who have them, of a thousand at most.
    fn fill(&self, sessions: &Sessions, count: u64) -> Vec<Browser> {
        let mut browsers = Vec::new();
        self.runtime.block_on(async {
            for _ in 0..count {
                let mut browser = Browser::new(sessions);
                fill(&mut browser).await.expect("saved");
                if browsers.len() < 1000 {
                    browsers.push(browser);
                }
            }
        });
        browsers
    }

    fn save(&self, browsers: &mut [Browser], count: usize) {
        self.runtime.block_on(async {
            for n in 0..count {
                let browser = &mut browsers[n % 1000];
                let session = browser.open();
                session.insert("views", fastrand::u32(100_000_000..)).await.expect("inserted");
                browser.close(&session).await.expect("saved");
            }
        });
    }
}
