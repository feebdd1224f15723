//! What a page shows of a terminal, run literally.

use std::path::Path;

use tokio::process::Command;

/// Returns the commands of the page's first console block that uses `curl`, and what each is said to print.
///
/// # Panics
///
/// If there is no such block.
pub fn steps(page: &str) -> Vec<(String, String)> {
    let blocks: Vec<_> = page.split("```").collect();
    let transcript = blocks.iter().find(|block| block.starts_with("console\n$ curl")).expect("the page has one");
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in transcript.lines().skip(1) {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push((command.to_owned(), String::new())),
            None => steps.last_mut().expect("a command comes first").1.push_str(line),
        }
    }
    steps
}

/// Runs a command in a directory, and returns what it printed.
///
/// # Panics
///
/// If it fails.
pub async fn run(command: &str, directory: &Path) -> String {
    let command = command.replacen("curl", "curl -sS", 1);
    let output = Command::new("bash").args(["-c", &command]).current_dir(directory).output().await.expect("bash");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
