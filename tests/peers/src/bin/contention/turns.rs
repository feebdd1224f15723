//! How long a request waits whose session others write without pause, in this process or in another.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sosa_peers::process;
use sosa_peers::report::Table;
use sosa_redis::RedisCollection;
use sosa_redis::redis::Client;
use sosa_session::{SessionData, SessionOptions, Sessions};
use sosa_tests::rivals::{Verb, new_session, open, writers};
use sosa_tests::{Asked, Distance, Distant, Redis};
use tokio::task::JoinHandle;

use crate::race::runtime;

/// Begins the arguments of the process whose writers are in the way.
pub const RIVAL: &str = "rival";

/// More often nobody may lose.
const MOST_LOST: usize = 32;

type Store = Distant<RedisCollection<SessionData>>;

/// Measures all cases.
pub fn table(rounds: usize) -> Table {
    let (server, runtime) = (Redis::start(&[]), runtime());
    let mut table = Table::new("of a request that …, while so many write the same session");
    let mut columns: Vec<Vec<(String, String)>> = vec![Vec::new(); 6];
    for millis in [0, 1, 5] {
        let mut rival = Rival::start(&server.url(), millis);
        let store = store(&server.url(), millis);
        let sessions = Sessions::new(SessionOptions::new(store.clone()));
        for (verb, what) in [(Verb::Renew, "logs in"), (Verb::Destroy, "logs out"), (Verb::Update, "saves")] {
            for number in [1, 4, 16, 64] {
                let row = format!("{what}; {number} writing, the store {millis} ms away");
                for (processes, rival) in [None, Some(&mut rival)].into_iter().enumerate() {
                    let round = Round { store: &store, sessions: &sessions, verb, number };
                    let turns = runtime.block_on(round.repeat(rounds, rival));
                    for (column, cell) in turns.cells().into_iter().enumerate() {
                        columns[3 * processes + column].push((row.clone(), cell));
                    }
                }
            }
        }
    }
    let names = ["lost, at most", "calls, at most", "ms, median and most"];
    let processes = ["in one process", "in another process"];
    for ((process, name), column) in processes.iter().flat_map(|process| names.map(|name| (process, name))).zip(columns)
    {
        table.column(format!("{process}: {name}"), column);
    }
    table
}

fn store(url: &str, millis: u64) -> Store {
    let collection = sosa_redis::new(Client::open(url).expect("a URL"), "turns").collection("sessions");
    Distant::new(collection, Distance::Time(Duration::from_millis(millis)))
}

/// What is done again and again.
struct Round<'a> {
    store: &'a Store,
    sessions: &'a Sessions,
    verb: Verb,
    number: usize,
}

/// What it took.
#[derive(Default)]
struct Turns {
    lost: usize,
    calls: usize,
    millis: Vec<f64>,
}

impl Turns {
    fn cells(mut self) -> [String; 3] {
        self.millis.sort_by(f64::total_cmp);
        let (median, most) = (self.millis[self.millis.len() / 2], self.millis.last().copied().unwrap_or(f64::NAN));
        [self.lost.to_string(), self.calls.to_string(), format!("{median:.1} and {most:.1}")]
    }
}

impl Round<'_> {
    async fn repeat(&self, rounds: usize, mut rival: Option<&mut Rival>) -> Turns {
        let mut turns = Turns::default();
        for _ in 0..rounds {
            // Anywhere between two pauses.
            let warm = fastrand::usize(4..24);
            let cookie = new_session(self.sessions).await;
            let writing = match &mut rival {
                Some(rival) => {
                    rival.write(&cookie, self.number, warm);
                    Vec::new()
                }
                None => {
                    let before = self.store.updates();
                    let writing = writers(self.sessions, &cookie, self.number);
                    self.store.reaches(before + warm).await;
                    writing
                }
            };
            let asked = Arc::<Asked>::default();
            let began = Instant::now();
            asked.by(self.act(&cookie, self.verb)).await;
            turns.millis.push(began.elapsed().as_secs_f64() * 1e3);
            assert!(
                asked.conflicts() <= MOST_LOST,
                "{:?} beside {}: lost {}",
                self.verb,
                self.number,
                asked.conflicts()
            );
            (turns.lost, turns.calls) = (turns.lost.max(asked.conflicts()), turns.calls.max(asked.calls()));
            if self.verb == Verb::Update {
                self.act(&cookie, Verb::Destroy).await;
            }
            // All of them end, since their session has.
            futures_util::future::join_all::<Vec<JoinHandle<()>>>(writing).await;
        }
        turns
    }

    async fn act(&self, cookie: &str, verb: Verb) {
        let session = open(self.sessions, cookie);
        verb.ask(&session).await.expect("looked up");
        drop(self.sessions.close(&session).await.expect("saved"));
    }
}

/// A process that writes sessions.
struct Rival {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Rival {
    fn start(url: &str, millis: u64) -> Self {
        let mut command = process::another();
        command.arg(RIVAL).args([url, &millis.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("this program again");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, output }
    }

    /// Lets so many of its clients write a session without pause, until it ends, and waits for so many saves of theirs.
    fn write(&mut self, cookie: &str, number: usize, warm: usize) {
        writeln!(self.process.stdin.as_mut().expect("piped"), "{cookie} {number} {warm}").expect("it reads");
        self.output.read_line(&mut String::new()).expect("it says that they do");
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Is such a process.
pub fn write(arguments: &[String]) {
    let [url, millis] = arguments else { panic!("two arguments") };
    let runtime = runtime();
    let store = store(url, millis.parse().expect("a number"));
    let sessions = Sessions::new(SessionOptions::new(store.clone()));
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let [cookie, number, warm] = *line.split(' ').collect::<Vec<_>>() else { panic!("a cookie and two numbers") };
        let [number, warm] = [number, warm].map(|number| number.parse::<usize>().expect("a number"));
        runtime.block_on(async {
            let before = store.updates();
            drop(writers(&sessions, cookie, number));
            store.reaches(before + warm).await;
        });
        println!("going");
    }
}
