//! The README's transcript, run literally against the service that its command starts.

use std::path::Path;

use nix::sys::signal::Signal;
use sosa_tests::{Service, transcript};

/// Replaces every handle: 43 characters of base64url.
fn mask(text: &str) -> String {
    let is_id =
        |part: &str| part.len() == 43 && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    text.split('"').map(|part| if is_id(part) { "ID" } else { part }).collect::<Vec<_>>().join("\"")
}

#[tokio::test]
async fn the_transcript_is_what_a_newcomer_sees() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let steps = transcript::steps(&readme);
    assert!(steps.len() >= 5, "{steps:?}");

    let rest = Service::rest(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for (command, expected) in steps {
        let command = command.replace("127.0.0.1:4000", &rest.address().to_string());
        let answer = transcript::run(&command, folder.path()).await;
        assert_eq!(mask(&answer), mask(&expected), "{command}");
        ids.push(answer.split('"').nth(3).unwrap_or_default().to_owned());
    }
    assert!(ids[0] != ids[1] && ids[1] == ids[2] && ids[2] != ids[4], "the same ids as in the README are the same");
    rest.stop(Signal::SIGTERM).await;
}
