//! What a system call trace of a writer shows: nothing is acknowledged that was not synced.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How many acknowledgements are looked at.
const LOOKED_AT: usize = 500;

/// `strace` writes a call that another thread's call interrupts in two lines.
enum Traced<'a> {
    Began(&'a str),
    Ended,
    Whole(&'a str),
}

fn traced<'a>(line: &'a str, name: &str) -> Option<Traced<'a>> {
    if line.contains(&format!("<... {name} resumed>")) {
        return Some(Traced::Ended);
    }
    let (_, arguments) = line.split_once(&format!("{name}("))?;
    Some(if line.ends_with("<unfinished ...>") { Traced::Began(arguments) } else { Traced::Whole(arguments) })
}

#[test]
fn between_a_save_and_its_acknowledgement_the_file_is_synced() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut writer = Command::new("strace")
        .args(["-f", "-y", "-s", "200", "-e", "trace=write,fdatasync", "-o", "|cat >&2"])
        .arg(env!("CARGO_BIN_EXE_sled_writer"))
        .arg(directory.path())
        .arg("1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace is installed; tests/run does it");
    let lines = BufReader::new(writer.stderr.take().expect("piped")).lines();
    // The time is that of the trace: its lines.
    let mut begun: HashMap<String, usize> = HashMap::new();
    let mut syncing: HashMap<String, usize> = HashMap::new();
    let (mut last_synced, mut acknowledged, mut syncs) = (None, 0, 0);
    let (mut traced_id, mut unsynced) = (None, None);
    for (now, line) in lines.enumerate() {
        let line = line.expect("text");
        let pid = line.split(' ').next().unwrap_or_default().to_owned();
        traced_id = traced_id.or_else(|| pid.parse().ok());
        match traced(&line, "fdatasync") {
            Some(Traced::Began(file)) if file.contains("/db>") => drop(syncing.insert(pid.clone(), now)),
            Some(Traced::Ended) if line.ends_with("= 0") => {
                if let Some(began) = syncing.remove(&pid) {
                    (last_synced, syncs) = (Some(began), syncs + 1);
                }
            }
            Some(Traced::Whole(file)) if file.contains("/db>") && line.ends_with("= 0") => {
                (last_synced, syncs) = (Some(now), syncs + 1);
            }
            _ => {}
        }
        let Some(Traced::Began(text) | Traced::Whole(text)) = traced(&line, "write") else { continue };
        let said = text.split('"').nth(1).and_then(|said| said.strip_suffix("\\n")).unwrap_or_default();
        match said.split(' ').collect::<Vec<_>>()[..] {
            ["begin", task, ..] => drop(begun.insert(task.to_owned(), now)),
            ["done", task] => {
                let began = begun.remove(task).expect("begun before it is done");
                if last_synced.is_none_or(|synced| synced <= began) {
                    unsynced = Some(line);
                    break;
                }
                acknowledged += 1;
            }
            _ => {}
        }
        if acknowledged == LOOKED_AT {
            break;
        }
    }
    // What is traced, and with it who traces.
    kill(Pid::from_raw(traced_id.expect("a traced process")), Signal::SIGKILL).expect("it runs");
    writer.wait().expect("it is our child");
    assert_eq!(unsynced, None, "acknowledged without a sync");
    assert_eq!(acknowledged, LOOKED_AT, "the writer ended by itself");
    assert!(syncs < acknowledged, "{syncs} syncs for {acknowledged} writes: they share none");
}
