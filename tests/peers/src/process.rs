//! This process, and others of the same program.

use std::process::Command;
use std::{env, fs};

/// Returns the bytes of memory that are resident.
pub fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Prepares another process of this program.
pub fn another() -> Command {
    Command::new(env::current_exe().expect("this program"))
}

/// Gives all memory that is free back to the system, which the allocator otherwise keeps for what comes next.
pub fn trim() {
    // SAFETY: it moves nothing that is in use, and takes the locks that it needs.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
