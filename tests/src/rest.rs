//! The `rest` example as a process of its own.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command as StdCommand, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::client::Client;

/// A running service on a free port of the loopback, logging all it can. It ends with this value.
#[derive(Debug)]
pub struct Rest {
    child: Child,
    address: SocketAddr,
    log: JoinHandle<io::Result<String>>,
}

impl Rest {
    /// Starts the service and waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(built())
            .args(["--port", "0", "--log", "trace"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example was built");
        let mut stderr = child.stderr.take().expect("piped");
        let log = tokio::spawn(async move {
            let mut log = String::new();
            stderr.read_to_string(&mut log).await.map(|_| log)
        });
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).await.expect("the service prints where it listens");
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("the service printed `{line}`")), log }
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Connects to it.
    ///
    /// # Panics
    ///
    /// If it does not listen any more.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await.expect("the service listens")
    }

    /// Ends it without a warning.
    ///
    /// # Panics
    ///
    /// If it has ended already.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Stops it, and returns all that it logged.
    ///
    /// # Panics
    ///
    /// If it does not stop cleanly within ten seconds.
    pub async fn stop(mut self, signal: Signal) -> String {
        let id = self.child.id().expect("it runs");
        kill(Pid::from_raw(id as i32), signal).expect("it runs");
        let status = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        let status = status.expect("it stops in time").expect("it is our child");
        assert!(status.success(), "the service ended with {status}");
        self.log.await.expect("the log is read").expect("the log is text")
    }
}

/// Builds the example, once, and returns its program. In a run of all tests cargo has built it
/// before and this only looks.
fn built() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        // The whole workspace, so that dependencies have the features of the run of all tests.
        let built = StdCommand::new(cargo)
            .args(["build", "--quiet", "--workspace", "--all-features", "--example", "rest"])
            .status();
        assert!(built.is_ok_and(|status| status.success()), "the example `rest` could not be built");
        let test = std::env::current_exe().expect("a test is a program");
        let target = test.parent().and_then(|deps| deps.parent()).expect("target/debug/deps/test");
        target.join("examples").join("rest")
    })
}
