//! The README's transcript, run literally against the service that its command starts.

use std::path::Path;

use nix::sys::signal::Signal;
use sosa_tests::Service;
use tokio::process::Command;

/// Replaces every handle: 43 characters of base64url.
fn mask(text: &str) -> String {
    let is_id =
        |part: &str| part.len() == 43 && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    text.split('"').map(|part| if is_id(part) { "ID" } else { part }).collect::<Vec<_>>().join("\"")
}

#[tokio::test]
async fn the_transcript_is_what_a_newcomer_sees() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let blocks: Vec<_> = readme.split("```").collect();
    let transcript = blocks.iter().find(|block| block.starts_with("console\n$ curl")).expect("the README has one");
    let mut steps = Vec::new();
    for line in transcript.lines().skip(1) {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push((command, String::new())),
            None => steps.last_mut().expect("a command comes first").1.push_str(line),
        }
    }
    assert!(steps.len() >= 5, "{steps:?}");

    let rest = Service::rest(&[]).await;
    let folder = std::env::temp_dir().join(format!("sosa-readme-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let mut ids = Vec::new();
    for (command, expected) in steps {
        let command = command.replace("127.0.0.1:4000", &rest.address().to_string()).replacen("curl", "curl -sS", 1);
        let output = Command::new("bash").args(["-c", &command]).current_dir(&folder).output().await.unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let answer = String::from_utf8(output.stdout).unwrap();
        assert_eq!(mask(&answer), mask(&expected), "{command}");
        ids.push(answer.split('"').nth(3).unwrap_or_default().to_owned());
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(ids[0] != ids[1] && ids[1] == ids[2] && ids[2] != ids[4], "the same ids as in the README are the same");
    rest.stop(Signal::SIGTERM).await;
}
