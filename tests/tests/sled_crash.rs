//! A process that writes to a sled database is killed, again and again; nothing it was told is lost.

// The counts are what this is for.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use fastrand::Rng;
use sosa::{Collection, ListOptions};
use sosa_sled::sled;
use sosa_tests::Written;

/// What the entries are, by their ids, as the writer told.
#[derive(Default)]
struct Told {
    entries: BTreeMap<String, u64>,
    /// By task: what was begun and not acknowledged.
    begun: BTreeMap<u64, (String, Option<u64>)>,
    acknowledged: u64,
}

impl Told {
    fn hear(&mut self, line: &str) -> bool {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["begin", task, id, value] => {
                self.begun.insert(number(task), (id.to_owned(), value.parse().ok()));
                false
            }
            ["done", task] => {
                let (id, value) = self.begun.remove(&number(task)).expect("begun before it is done");
                match value {
                    Some(value) => self.entries.insert(id, value),
                    None => self.entries.remove(&id),
                };
                self.acknowledged += 1;
                true
            }
            _ => panic!("the writer said `{line}`"),
        }
    }

    /// Takes what was under way as it turned out, and compares all else.
    fn compare(&mut self, found: &BTreeMap<String, u64>, seed: u64) {
        for (id, value) in std::mem::take(&mut self.begun).into_values() {
            // A save of a moment is told as what becomes of it; meanwhile anything may be seen of it.
            let seen = found.get(&id).copied();
            let before = self.entries.get(&id).copied();
            assert!(seen == value || seen == before, "seed {seed}: what was under way became something else");
            match seen {
                Some(seen) => self.entries.insert(id, seen),
                None => self.entries.remove(&id),
            };
        }
        let lost = self.entries.iter().filter(|(id, value)| found.get(*id) != Some(value)).count();
        assert_eq!(lost, 0, "seed {seed}: acknowledged and lost");
        assert_eq!(found, &self.entries, "seed {seed}: brought back");
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// Reads all entries, by the listing and one by one.
async fn read(path: &Path) -> BTreeMap<String, u64> {
    let things = Written::open(path).expect("opened").collection::<Written>(Written::NAME);
    let (mut listed, mut options) = (BTreeMap::new(), ListOptions::new());
    loop {
        let page = things.list_with(options.clone()).await.expect("listed");
        let next = page.next.clone();
        listed.extend(page.into_pairs().expect("nothing half is there"));
        // A page of large values ends early.
        let Some(next) = next else { break };
        options = options.cursor(next);
    }
    for task in 0..Written::TASKS {
        for id in (0..12).map(|id| Written::id(task, &id.to_string())) {
            assert_eq!(things.load(&id).await.expect("loaded").as_ref(), listed.get(&id), "the listing disagrees");
        }
    }
    assert!(listed.values().all(Written::is_whole), "something half is there");
    listed.into_iter().map(|(id, value)| (id, value.number)).collect()
}

/// Returns how many pieces of values are there, and how many there should be.
fn pieces(path: &Path) -> (usize, usize) {
    let db = sled::open(path).expect("opened");
    let named = db.open_tree("crash:things").expect("a tree").iter().values().map(|record| {
        let record = record.expect("read");
        // The layout is in the README: what lies in pieces has its length behind version, deadline and revision.
        let length = (record[0] == 2).then(|| u64::from_be_bytes(record[17..25].try_into().expect("eight bytes")));
        length.map_or(0, |length| 1 + length.div_ceil(4096) as usize)
    });
    (db.open_tree("crash:things{pieces}").expect("a tree").len(), named.sum())
}

#[tokio::test]
async fn two_hundred_kills_lose_nothing_that_was_acknowledged() {
    kill_writers("KILLS", 200, &[]).await;
}

#[tokio::test]
async fn kills_among_values_of_up_to_a_megabyte_lose_nothing_and_leave_no_pieces() {
    kill_writers("LARGE_KILLS", 20, &["any"]).await;
}

/// Kills so many writers, unless a variable of the environment says otherwise.
async fn kill_writers(variable: &str, kills: u64, arguments: &[&str]) {
    let kills = std::env::var(variable).ok().and_then(|kills| kills.parse().ok()).unwrap_or(kills);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let (mut random, mut told) = (Rng::with_seed(seed), Told::default());
    let (mut unknown, mut early) = (0, 0);
    let mut left = 0;
    for round in 0..kills {
        let mut writer = Command::new(env!("CARGO_BIN_EXE_sled_writer"))
            .arg(path)
            .arg((seed.wrapping_add(round)).to_string())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the writer starts");
        // At any moment: also while it opens the database, and never at a pace of its own.
        let after = if random.u8(..10) == 0 { 0 } else { random.u64(1..300) };
        let lines = BufReader::new(writer.stdout.take().expect("piped")).lines();
        let (mut heard, mut killed) = (0, false);
        if after == 0 {
            std::thread::sleep(std::time::Duration::from_micros(random.u64(..20_000)));
            (killed, early) = (true, early + 1);
            writer.kill().expect("it runs");
        }
        for line in lines {
            heard += u64::from(told.hear(&line.expect("text")));
            if heard >= after && !killed {
                killed = true;
                writer.kill().expect("it runs");
            }
        }
        let status = writer.wait().expect("it is our child");
        assert!(killed, "seed {seed}: the writer ended by itself with {status}");
        unknown += told.begun.len();
        told.compare(&read(path).await, seed);
        let (found, named) = pieces(path);
        assert!(found >= named, "seed {seed}: pieces are lost");
        left += found - named;
    }
    // What the last ones left is removed.
    let store = Written::open(path).expect("opened");
    store.collection::<Written>(Written::NAME).purge().await.expect("purged");
    store.close().await.expect("closed");
    let (found, named) = pieces(path);
    assert_eq!(found, named, "seed {seed}: pieces that no record names stay");
    println!(
        "{kills} kills ({early} of them as it opened): {} operations acknowledged, lost: 0; {unknown} under way; {} entries; \
         {left} pieces were left, and removed",
        told.acknowledged,
        told.entries.len()
    );
    assert!(told.acknowledged > kills, "hardly anything was written");
    // The engine has no other opinion of the file.
    drop(sled::open(path).expect("it opens once more"));
}
