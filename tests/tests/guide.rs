//! The guide *From Express to Rust, a route at a time*: its programs are those of the repository, and its transcript
//! is what a reader sees.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sosa_tests::{Redis, Service, transcript};
use tempfile::TempDir;

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

/// nginx between the two. It ends with this value.
struct Proxy {
    server: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Proxy {
    fn start(express: &Service, rust: &Service) -> Self {
        // Between looking for a free port and binding it somebody else may take it.
        for _ in 0..20 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let address = free.local_addr().expect("it is bound");
            drop(free);
            let directory = tempfile::tempdir().expect("a directory");
            let conf = PROXY
                .replace("127.0.0.1:8080", &address.to_string())
                .replace("127.0.0.1:3000", &express.address().to_string())
                .replace("127.0.0.1:4000", &rust.address().to_string());
            std::fs::write(directory.path().join("nginx.conf"), conf).expect("written");
            let mut server = Command::new("nginx")
                .arg("-p")
                .arg(directory.path())
                .args(["-c", "nginx.conf"])
                .stderr(Stdio::null())
                .spawn()
                .expect("nginx is installed; tests/run does so");
            while server.try_wait().expect("it is our child").is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self { server, address, directory };
                }
                std::thread::yield_now();
            }
        }
        panic!("nginx does not start");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its workers end with it.
        let id = Pid::from_raw(self.server.id() as i32);
        let _ = kill(id, Signal::SIGTERM);
        drop(self.server.wait());
    }
}

#[tokio::test]
async fn the_transcript_is_what_a_reader_sees() {
    let redis = Redis::start(&[]);
    let arguments = ["--redis", &redis.url(), "--port", "0"];
    let express = Service::node("guide.mjs", &arguments).await;
    let rust = Service::example("guide", &arguments).await;
    let proxy = Proxy::start(&express, &rust);
    let folder = tempfile::tempdir().expect("a directory");
    let steps = transcript::steps(GUIDE);
    assert!(steps.len() >= 6, "{steps:?}");
    for (command, expected) in steps {
        let command = command.replace("127.0.0.1:8080", &proxy.address.to_string());
        assert_eq!(transcript::run(&command, folder.path()).await, expected, "{command}");
    }
    let log = GUIDE.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the log");
    let path = proxy.directory.path().join("access.log");
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
