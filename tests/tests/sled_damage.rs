//! What becomes of a sled database whose files were damaged: a clear error, and never a silent loss.

// The counts are what this is for.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastrand::Rng;
use sosa::{Collection, ErrorKind, ListOptions};
use sosa_sled::{SledCollection, SledStore};
use sosa_tests::Written;

/// All entries, by their ids.
type Entries = BTreeMap<String, Written>;

/// All files, by their names.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Reads a database's files.
fn read(directory: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(read(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            files.insert(path, bytes);
        }
    }
    files
}

/// Writes a copy of a database's files elsewhere.
fn copy(files: &Files, from: &Path, to: &Path) {
    fs::create_dir_all(to.join("blobs")).expect("created");
    for (path, bytes) in files {
        fs::write(to.join(path.strip_prefix(from).expect("inside")), bytes).expect("written");
    }
}

fn things(store: &SledStore) -> SledCollection<Written> {
    store.collection(Written::NAME)
}

/// Writes to a new database until it is killed, and returns its files as they were left, and as they are when
/// it was opened and closed once more, so that all is older than the last opening; and what is in both.
async fn written(path: &Path) -> ([Files; 2], Entries) {
    let mut random = Rng::with_seed(7);
    for _ in 0..3 {
        let things = things(&Written::open(path).expect("opened"));
        for id in 0..400 {
            let size = if random.u8(..50) == 0 { 200_000 } else { random.usize(..3000) };
            things.save(&format!("kept-{id}"), &Written::new(random.u64(..), size)).await.expect("saved");
        }
    }
    let mut writer = Command::new(env!("CARGO_BIN_EXE_sled_writer"))
        .arg(path)
        .arg("7")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writer starts");
    let (mut done, mut begun) = (0, BTreeMap::new());
    for line in BufReader::new(writer.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["begin", task, id, _] => drop(begun.insert(task.to_owned(), id.to_owned())),
            ["done", task] => drop((begun.remove(task), done += 1)),
            _ => panic!("the writer said `{line}`"),
        }
        if done == 1500 {
            writer.kill().expect("it runs");
        }
    }
    let status = writer.wait().expect("it is our child");
    assert!(done >= 1500, "the writer ended by itself with {status}");
    let killed = read(path);
    let page = things(&Written::open(path).expect("opened"))
        .list_with(ListOptions::new().limit(10_000))
        .await
        .expect("listed");
    // Closed and opened again, so that nothing is newer than the last opening.
    drop(Written::open(path).expect("opened"));
    drop(Written::open(path).expect("opened"));
    let mut entries: Entries = page.into_pairs().expect("decoded").into_iter().collect();
    // What was not acknowledged may be cut off.
    entries.retain(|id, _| !begun.values().any(|begun| begun == id));
    ([killed, read(path)], entries)
}

/// The unit in which the log grows and shrinks.
const SEGMENT: usize = 512 * 1024;

/// The least that a drive loses.
const SECTOR: usize = 512;

/// What was seen of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// The database is refused.
    Refused,
    /// Some entries are errors, all others are as they were.
    Reported,
    /// All is as it was: nothing used the place.
    Harmless,
    /// An entry is lost or older without a word, as the documentation says of a file that was cut exactly between two
    /// segments. It depends on how the engine had laid out its file, and is rare.
    Excepted,
}

/// Opens a damaged database and reads all that was in it.
async fn look(path: &Path, expected: &Entries) -> Result<Seen, String> {
    let before = read(path);
    let store = match Written::open(path) {
        Ok(store) => store,
        Err(error) => {
            let says = |what| error.kind() == ErrorKind::Other && error.to_string().contains(what);
            return match (says("not all that was on the disk"), read(path) == before) {
                (true, true) => Ok(Seen::Refused),
                // The engine has panicked over what our own look let pass, perhaps as it had begun to mend it.
                (false, _) if says("it is damaged") => Ok(Seen::Refused),
                (true, false) => Err(format!("refused, and written to: {error}")),
                (false, _) => Err(format!("not clear: {error}")),
            };
        }
    };
    let things = things(&store);
    let mut seen = Seen::Harmless;
    for (id, value) in expected {
        match things.load(id).await {
            Ok(Some(found)) if found == *value => {}
            Ok(Some(_)) => return Err(format!("{id} is an older one")),
            Ok(None) => return Err(format!("{id} is lost")),
            Err(error) if matches!(error.kind(), ErrorKind::Other | ErrorKind::Unavailable) => seen = Seen::Reported,
            Err(error) => return Err(format!("not clear: {error}")),
        }
    }
    match things.list_with(ListOptions::new().limit(10_000)).await {
        Ok(page) => {
            let listed = page.items.iter().filter(|item| expected.contains_key(&item.id)).count();
            if listed < expected.len() {
                return Err(format!("{listed} listed of {}", expected.len()));
            }
        }
        Err(_) if seen == Seen::Reported => {}
        Err(error) => return Err(format!("only the listing fails: {error}")),
    }
    Ok(seen)
}

#[tokio::test]
async fn damage_is_refused_or_reported_and_loses_nothing_silently() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(200);
    println!("SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let origin = directory.path().join("origin");
    let (states, expected) = written(&origin).await;
    let mut counts: BTreeMap<(String, &str, Seen), usize> = BTreeMap::new();
    for round in 0..rounds {
        let path = directory.path().join(round.to_string());
        let mut damaged = states[round % 2].clone();
        // Most of it is the log; the others get their share.
        let names: Vec<_> = damaged.keys().cloned().collect();
        let db = origin.join("db");
        let name = if random.bool() { db } else { names[random.usize(..names.len())].clone() };
        let file = damaged.get_mut(&name).expect("there");
        let how = match random.u8(..6) {
            0 => {
                file.truncate(random.usize(..=file.len()));
                "cut off"
            }
            // Where the engine itself cuts it off.
            1 if file.len() > SEGMENT => {
                file.truncate(random.usize(..file.len() / SEGMENT) * SEGMENT);
                "cut off at a segment"
            }
            2 => {
                damaged.remove(&name);
                "removed"
            }
            _ if file.is_empty() => continue,
            // As a drive loses it.
            3 => {
                let sector = random.usize(..file.len()) / SECTOR * SECTOR;
                let end = file.len().min(sector + SECTOR);
                file[sector..end].fill(0);
                "one sector zeroed"
            }
            // The header of a segment is in it.
            4 if file.len() > SEGMENT => {
                let segment = random.usize(..file.len() / SEGMENT) * SEGMENT;
                file[segment..segment + SECTOR].fill(0);
                "the header of a segment zeroed"
            }
            _ => {
                let bit = random.usize(..file.len() * 8);
                file[bit / 8] ^= 1 << (bit % 8);
                "one bit flipped"
            }
        };
        copy(&damaged, &origin, &path);
        let name = name.strip_prefix(&origin).expect("inside").display().to_string();
        let kind =
            format!("{} {}", ["killed,", "closed,"][round % 2], name.split(['.', '/']).next().unwrap_or_default());
        let seen = match look(&path, &expected).await {
            Err(why)
                if how == "cut off at a segment" && (why.ends_with("is lost") || why.ends_with("an older one")) =>
            {
                println!("`{name}` {how}: {why}");
                Seen::Excepted
            }
            seen => seen.unwrap_or_else(|why| panic!("SEED={seed}: `{name}` {how}: {why}")),
        };
        *counts.entry((kind, how, seen)).or_default() += 1;
        fs::remove_dir_all(&path).expect("removed");
    }
    let noticed: usize = counts.iter().filter(|((.., seen), _)| *seen != Seen::Harmless).map(|(_, count)| count).sum();
    assert!(noticed > rounds / 10, "hardly any damage was noticed");
    let excepted: usize = counts.iter().filter(|((.., seen), _)| *seen == Seen::Excepted).map(|(_, count)| count).sum();
    assert!(excepted <= 1 + rounds / 500, "{excepted} of {rounds} are no exception");
    for ((file, how, seen), count) in &counts {
        println!("{file} {how}: {seen:?} {count} times");
    }
}
