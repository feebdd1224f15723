//! Processes that share a session in Redis.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use sosa_peers::process;
use sosa_tests::Redis;

use crate::race::{Race, runtime};
use crate::writers::{How, Writers};

/// Begins the arguments of such a process.
pub const WORKER: &str = "worker";

/// Lets writers in so many processes race for a session in Redis.
pub fn race(how: How, writers: usize, processes: usize) -> Race {
    let server = Redis::start(&[]);
    let runtime = runtime();
    let all = runtime.block_on(Writers::in_redis(how, &server.url(), None));
    let mut workers: Vec<_> = (0..processes)
        .map(|process| {
            let (start, end) = (writers * process / processes, writers * (process + 1) / processes);
            Worker::start(&[how.name(), &server.url(), all.session(), &start.to_string(), &end.to_string()])
        })
        .collect();
    workers.iter_mut().for_each(|worker| assert_eq!(worker.read(), "ready"));
    drop(server.calls());
    workers.iter_mut().for_each(Worker::go);
    let mut race = Race::default();
    for worker in &mut workers {
        race.add(worker.race());
    }
    race.commands = server.calls().values().sum();
    race.judge(how, writers, &runtime.block_on(all.result()));
    race
}

/// A process with some of the writers: it says that it is ready, begins when it is told to, and says how it went.
struct Worker {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Worker {
    fn start(arguments: &[&str]) -> Self {
        let mut command = process::another();
        command.arg(WORKER).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("this program again");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, output }
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn go(&mut self) {
        self.process.stdin.as_mut().expect("piped").write_all(b"\n").expect("it reads");
    }

    fn race(&mut self) -> Race {
        let line = self.read();
        self.process.wait().expect("it ends");
        let mut figures = line.split(' ').map(|figure| figure.parse::<f64>().expect("a number"));
        let mut next = || figures.next().expect("a figure");
        let (all, calls) = (next(), next() as u64);
        Race { all, calls, millis: figures.collect(), ..Race::default() }
    }
}

/// Is such a process.
pub fn work(arguments: &[String]) {
    let [how, url, session, start, end] = arguments else { panic!("five arguments") };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    runtime().block_on(async {
        let writers = Writers::in_redis(How::named(how), url, Some(session)).await;
        println!("ready");
        std::io::stdin().read_line(&mut String::new()).expect("a line");
        let race = Race::run(&writers, number(start)..number(end)).await;
        let millis: Vec<_> = race.millis.iter().map(f64::to_string).collect();
        println!("{} {} {}", race.all, race.calls, millis.join(" "));
    });
}
