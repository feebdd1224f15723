//! The example services, and their counterpart on Express, as processes of their own.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::client::Client;

/// A running service on a free port of the loopback. It ends with this value.
#[derive(Debug)]
pub struct Service {
    child: Child,
    address: SocketAddr,
    log: JoinHandle<io::Result<String>>,
}

impl Service {
    /// Starts the example `rest`, logging all it can, and waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn rest(arguments: &[&str]) -> Self {
        Self::example("rest", arguments).await
    }

    /// Starts an example, logging all it can, and waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn example(name: &str, arguments: &[&str]) -> Self {
        Self::start(Command::new(built(name)).args(["--log", "trace"]).args(arguments)).await
    }

    /// Starts the example `rest` where this directory is a disk of its own, of a size that `mount` understands, and
    /// waits until it listens. [`path`](Self::path) says where others find that disk.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn rest_on_a_disk(size: &str, directory: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "bash", "-c"]);
        command.arg(r#"set -e; mount -t tmpfs -o size="$1" none "$2"; shift 2; exec "$@""#).arg("bash");
        command.arg(size).arg(directory).arg(built("rest")).args(["--log", "info"]).args(arguments);
        Self::start(&mut command).await
    }

    /// Returns where a file of its namespace is for others.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn path(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.child.id().expect("it runs"));
        Path::new(&root).join(path.strip_prefix("/").expect("a whole path"))
    }

    /// Starts a program of `tests/express` on Node, and waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not start, or its packages are not installed.
    pub async fn node(program: &str, arguments: &[&str]) -> Self {
        // It ends when its input does: at the latest with this process.
        Self::start(node(program).arg("--until-stdin-ends").args(arguments).stdin(Stdio::piped())).await
    }

    async fn start(command: &mut Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut stderr = child.stderr.take().expect("piped");
        let log = tokio::spawn(async move {
            let mut log = String::new();
            stderr.read_to_string(&mut log).await.map(|_| log)
        });
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).await.expect("the service prints where it listens");
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        let Some(address) = address else {
            drop(child.kill().await);
            panic!("the service printed `{line}` and logged {:?}", log.await);
        };
        Self { child, address, log }
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

/// Returns the command that runs a program of `tests/express`.
///
/// # Panics
///
/// If its packages are not installed.
pub fn node(program: &str) -> Command {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("express");
    assert!(directory.join("node_modules").exists(), "run `npm ci` in tests/express; tests/run does so");
    let mut command = Command::new("node");
    command.arg(program).current_dir(directory);
    command
}

/// Builds the examples, once, and returns the program of one. In a run of all tests cargo has built them
/// before and this only looks.
fn built(name: &str) -> PathBuf {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        // The whole workspace, so that dependencies have the features of the run of all tests.
        let mut build = StdCommand::new(cargo);
        build.args(["build", "--quiet", "--workspace", "--all-features", "--examples"]);
        // What cargo tells a test of its package makes some build scripts run again, and all behind them.
        let told = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|told| name.starts_with(told))
        });
        for (name, _) in told {
            build.env_remove(name);
        }
        let built = build.status();
        assert!(built.is_ok_and(|status| status.success()), "the examples could not be built");
        let test = std::env::current_exe().expect("a test is a program");
        let target = test.parent().and_then(|deps| deps.parent()).expect("target/debug/deps/test");
        target.join("examples")
    });
    programs.join(name)
}
