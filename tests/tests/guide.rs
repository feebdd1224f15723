//! The guides *From Express to Rust, a route at a time* and *Staying signed in*: their programs are those of the
//! repository, and their transcripts are what a reader sees.

use std::time::Duration;

use sosa_tests::{Nginx, Redis, Service, transcript};

const GUIDE: &str = include_str!("../../session/EXPRESS.md");
const PROXY: &str = include_str!("../express/nginx.conf");

#[test]
fn the_guide_shows_the_programs_whole() {
    for (language, program) in [
        ("javascript", include_str!("../express/guide.mjs")),
        ("rust,no_run", include_str!("../../session/examples/guide.rs")),
        ("nginx", PROXY),
    ] {
        let block = format!("```{language}\n{program}```\n");
        assert!(GUIDE.contains(&block), "the {language} program is another");
    }
}

#[tokio::test]
async fn the_transcript_is_what_a_reader_sees() {
    let redis = Redis::start(&[]);
    let arguments = ["--redis", &redis.url(), "--port", "0"];
    let express = Service::node("guide.mjs", &arguments).await;
    let rust = Service::example("guide", &arguments).await;
    let configuration = PROXY
        .replace("127.0.0.1:3000", &express.address().to_string())
        .replace("127.0.0.1:4000", &rust.address().to_string());
    let proxy = Nginx::start(&configuration);
    let folder = tempfile::tempdir().expect("a directory");
    let steps = transcript::steps(GUIDE);
    assert!(steps.len() >= 6, "{steps:?}");
    for (command, expected) in steps {
        let command = command.replace("127.0.0.1:8080", &proxy.address().to_string());
        assert_eq!(transcript::run(&command, folder.path()).await, expected, "{command}");
    }
    let log = GUIDE.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the log");
    let path = proxy.directory().join("access.log");
    let logged = async {
        loop {
            // It is written after the answer.
            let logged = std::fs::read_to_string(&path).expect("a log");
            if logged.lines().count() >= log.lines().count() {
                return logged;
            }
            tokio::task::yield_now().await;
        }
    };
    let logged = tokio::time::timeout(Duration::from_secs(10), logged).await.expect("each request is logged");
    assert_eq!(logged, log);
}

#[tokio::test]
async fn staying_signed_in_shows_its_program_and_what_it_answers() {
    let guide = include_str!("../../session/STAYING_SIGNED_IN.md");
    let program = include_str!("../../session/examples/signed_in.rs");
    assert!(guide.contains(&format!("```rust,no_run\n{program}```\n")), "the program is another");
    let service = Service::example("signed_in", &["--port", "0"]).await;
    let folder = tempfile::tempdir().expect("a directory");
    let steps = transcript::steps(guide);
    assert!(steps.len() >= 7, "{steps:?}");
    for (command, expected) in steps {
        let command = command.replace("127.0.0.1:3000", &service.address().to_string());
        assert_eq!(transcript::run(&command, folder.path()).await, expected, "{command}");
    }
}
