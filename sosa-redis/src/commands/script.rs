//! Scripts that the server runs in one step.

use std::sync::LazyLock;

use redis::Cmd;
use sha1::{Digest, Sha1};
use sosa::Revision;

/// A script, known to the server by the SHA-1 of its text.
pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

/// Loads values together with when they expire.
pub(crate) static LOAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/load.lua")));

/// Replaces an entry, on condition of a revision if there is one.
pub(crate) static SAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/save.lua")));

/// Destroys, on condition of a revision if there is one.
pub(crate) static DESTROY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/destroy.lua")));

/// Reads a page of the index.
pub(crate) static PAGE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("lua/alive.lua"), include_str!("lua/page.lua"))));

/// Removes what has expired from a stretch of the index.
pub(crate) static SWEEP: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("lua/alive.lua"), include_str!("lua/sweep.lua"))));

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: revision(text.as_bytes()).to_string() }
    }

    pub(crate) fn by_hash(&self, arguments: impl Fn(&mut Cmd)) -> Cmd {
        command("EVALSHA", &self.hash, arguments)
    }

    pub(crate) fn by_text(&self, arguments: impl Fn(&mut Cmd)) -> Cmd {
        command("EVAL", self.text, arguments)
    }
}

fn command(name: &str, script: &str, arguments: impl Fn(&mut Cmd)) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script);
    arguments(&mut command);
    command
}

/// Returns the revision of a stored value: its SHA-1, which a script computes as `redis.sha1hex`. It tells the values apart
/// that well-meaning programs write; it is no protection against forged collisions.
pub(crate) fn revision(stored: &[u8]) -> Revision {
    Revision::new(&Sha1::digest(stored)).expect("a SHA-1 has 20 bytes")
}
