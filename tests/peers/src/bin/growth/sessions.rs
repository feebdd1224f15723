//! A request with a session, beside few and many others.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use sosa_peers::arguments::Arguments;
use sosa_peers::browser::Browser;
use sosa_peers::report::Table;
use sosa_peers::{ids, shop};
use sosa_session::{Result, SessionOptions, Sessions};
use tokio::runtime::{Builder, Runtime};

use crate::table::{Kind, Subject, nanos, table};

const OPERATIONS: [&str; 2] = ["read one key", "write one key"];

/// How many requests a turn makes.
const CALLS: usize = 50_000;

/// How many of the sessions are used; all of them where there are no more.
const USED: u64 = 100_000;

/// Opens a session with what a shop keeps.
pub async fn fill(browser: &mut Browser) -> Result<()> {
    let session = browser.open();
    for (key, value) in shop::contents() {
        session.insert(&key, value).await?;
    }
    browser.close(&session).await
}

/// Sessions in memory, and some of those who have one.
struct Site<'a> {
    browsers: Vec<Browser>,
    runtime: &'a Runtime,
}

impl<'a> Site<'a> {
    fn new(sessions: u64, runtime: &'a Runtime) -> Self {
        let site = Sessions::new(SessionOptions::memory());
        let every = sessions.div_ceil(USED);
        let mut browsers = Vec::new();
        runtime.block_on(async {
            for n in 0..sessions {
                let mut browser = Browser::new(&site);
                fill(&mut browser).await.expect("saved");
                if n % every == 0 {
                    browsers.push(browser);
                }
            }
        });
        Self { browsers, runtime }
    }
}

impl Subject for Site<'_> {
    fn nanos(&mut self, operation: usize) -> f64 {
        let turns: Vec<_> = (0..CALLS).map(|_| fastrand::usize(..self.browsers.len())).collect();
        nanos(CALLS, || {
            self.runtime.block_on(async {
                for turn in turns {
                    let browser = &mut self.browsers[turn];
                    let session = browser.open();
                    match OPERATIONS[operation] {
                        "read one key" => drop(black_box(session.get::<u32>("views").await.expect("read"))),
                        _ => session.insert("views", fastrand::u32(100_000_000..)).await.expect("inserted"),
                    }
                    browser.close(&session).await.expect("saved");
                }
            });
        })
    }
}

/// As much memory under as many keys: a request looks it up and reads all of it, or makes a copy of it.
struct Records {
    records: HashMap<String, Arc<[u8]>>,
    used: Vec<String>,
}

impl Records {
    fn new(sessions: u64) -> Self {
        let text = serde_json::to_vec(&shop::contents()).expect("JSON");
        let records = (0..sessions).map(|n| (ids::id(n), Arc::from(&*text))).collect();
        let every = sessions.div_ceil(USED);
        Self { records, used: (0..sessions).step_by(every as usize).map(ids::id).collect() }
    }
}

impl Subject for Records {
    fn nanos(&mut self, operation: usize) -> f64 {
        let turns: Vec<_> = (0..CALLS).map(|_| fastrand::usize(..self.used.len())).collect();
        nanos(CALLS, || {
            for turn in turns {
                let record = self.records.get_mut(&self.used[turn]).expect("a record");
                match OPERATIONS[operation] {
                    "read one key" => {
                        black_box(record.iter().map(|byte| u64::from(*byte)).sum::<u64>());
                    }
                    _ => *record = Arc::from(&**record),
                }
            }
        })
    }
}

pub fn table_of_requests(arguments: Arguments, rounds: usize) -> Table {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let sizes = [1, arguments.entries(10_000), arguments.entries(1_000_000)];
    let ours = |size: &u64| Box::new(Site::new(*size, &runtime)) as Box<dyn Subject + '_>;
    let theirs = |size: &u64| Box::new(Records::new(*size)) as Box<dyn Subject + '_>;
    let kinds = vec![
        Kind { name: "sosa-session", subjects: sizes.iter().map(ours).collect() },
        Kind { name: "HashMap of records", subjects: sizes.iter().map(theirs).collect() },
    ];
    table("a request, sessions in memory", &OPERATIONS, &sizes, kinds, rounds)
}
