//! Redis servers as processes of their own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sosa_redis::redis::{self, Client, Connection, FromRedisValue};
use tempfile::TempDir;

/// A running server on a free port of the loopback, with a directory of its own. It ends with this
/// value, and at the latest with the process that started it.
#[derive(Debug)]
pub struct Redis {
    arguments: Vec<String>,
    directory: TempDir,
    port: u16,
    /// For whatever else its arguments name: the bus of a cluster, and TLS.
    other_ports: [u16; 2],
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    server: Child,
    /// A shell that cleans up when this pipe is closed, even if the tests were killed.
    watchdog: (Child, ChildStdin),
}

/// How long a server may take to start, with a large append-only file too.
const PATIENCE: Duration = Duration::from_secs(30);

impl Redis {
    /// Starts a server with these arguments beside those for port and directory. It keeps nothing on
    /// the disk unless they say so. `{bus}` and `{tls}` among the arguments stand for other free ports,
    /// `{directory}` for the directory.
    ///
    /// # Panics
    ///
    /// If it does not start, or is not installed.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory for the server"), arguments)
    }

    /// Starts a server in a directory that has files for it, and is its own.
    ///
    /// # Panics
    ///
    /// If it does not start, or is not installed.
    pub fn start_in(directory: TempDir, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { arguments, directory, port: 0, other_ports: [0; 2], process: None };
        // Between looking for a free port and binding it somebody else may take it.
        for _ in 0..20 {
            let free = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
            let [port, other_ports @ ..] = free.map(|free| free.local_addr().expect("it is bound").port());
            (server.port, server.other_ports) = (port, other_ports);
            if server.try_restart() {
                return server;
            }
        }
        panic!("redis-server did not start; try it with {:?}", server.arguments);
    }

    /// Returns a server for all tests of this process, which keep out of each other's way by prefixes.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// Starts it again, on the same port and with the same data, after it was killed.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&mut self) {
        assert!(self.try_restart(), "redis-server did not start again");
    }

    /// Starts it again with more arguments, on the same port and with the same data.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart_with(&mut self, arguments: &[&str]) {
        self.kill();
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self.restart();
    }

    fn try_restart(&mut self) -> bool {
        let fill = |argument: &String| {
            let directory = self.directory.path().to_string_lossy();
            let argument = argument.replace("{directory}", &directory);
            let [bus, tls] = self.other_ports.map(|port| port.to_string());
            argument.replace("{bus}", &bus).replace("{tls}", &tls)
        };
        let mut server = Command::new("redis-server")
            // A Sentinel's file comes first.
            .args(self.arguments.iter().take_while(|argument| !argument.starts_with("--")).map(fill))
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--unixsocket", "redis.sock", "--loglevel", "notice"])
            .arg("--dir")
            .arg(self.directory.path())
            .args(self.arguments.iter().skip_while(|argument| !argument.starts_with("--")).map(fill))
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is missing: sudo apt-get install redis-server");
        let mut watchdog = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$0\"; rm -r \"$1\"", &server.id().to_string()])
            .arg(self.directory.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let pipe = watchdog.stdin.take().expect("piped");
        let mut log = BufReader::new(server.stdout.take().expect("piped"));
        self.process = Some(Process { server, watchdog: (watchdog, pipe) });
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|length| length > 0) {
                if line.contains("Ready to accept connections") || line.contains("Sentinel ID is") {
                    let _ = ready.send(());
                    // Until it ends, or it would wait for a reader.
                    drop(log.read_to_end(&mut Vec::new()));
                    return;
                }
                line.clear();
            }
        });
        match is_ready.recv_timeout(PATIENCE) {
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected) => {
                self.process = None;
                false
            }
            Err(RecvTimeoutError::Timeout) => panic!("redis-server is not ready after {PATIENCE:?}"),
        }
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the ports that `{bus}` and `{tls}` stand for in its arguments.
    pub fn other_ports(&self) -> [u16; 2] {
        self.other_ports
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    /// Returns the URL of its Unix socket.
    pub fn unix_url(&self) -> String {
        format!("redis+unix://{}", self.directory.path().join("redis.sock").display())
    }

    /// Connects to it by the driver, past what is tested.
    ///
    /// # Panics
    ///
    /// If it does not serve.
    pub fn control(&self) -> Connection {
        let client = Client::open(self.url()).expect("a URL");
        client.get_connection().expect("the server serves")
    }

    /// Sends it a command, its words parted by spaces, past what is tested.
    ///
    /// # Panics
    ///
    /// If it does not serve, or the answer is an error.
    pub fn tell<T: FromRedisValue>(&self, command: &str) -> T {
        let words: Vec<_> = command.split(' ').collect();
        let client = Client::open(self.url()).expect("a URL");
        let tell = || redis::cmd(words[0]).arg(&words[1..]).query(&mut client.get_connection()?);
        // Once more, as Sentinels close all connections of a server whose role changes.
        tell().or_else(|error| if error.is_io_error() { tell() } else { Err(error) }).unwrap_or_else(|error| {
            panic!("{command}: {error}");
        })
    }

    /// Returns how often each command was called since this was last asked, by those who use it.
    ///
    /// # Panics
    ///
    /// If it does not serve.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        let stats: String = self.tell("INFO commandstats");
        self.tell::<()>("CONFIG RESETSTAT");
        let calls = stats.lines().filter_map(|line| {
            let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((command.to_owned(), rest.split(',').next()?.parse().ok()?))
        });
        // Those of this very look, and of connections.
        let ours = ["config", "info", "client", "hello"];
        calls.filter(|(command, _)| !ours.iter().any(|ours| command.starts_with(ours))).collect()
    }

    /// Returns whether it runs.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends it a signal: SIGSTOP, and SIGCONT.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill(Pid::from_raw(process.server.id() as i32), signal).expect("it runs");
    }
}

/// Returns the arguments that give a server the user `myapp`, with the password `sesame` and the rights that the
/// documentation says it needs, on these keys.
///
/// # Panics
///
/// If the documentation has no such line.
pub fn user(keys: &str, more: &[&str]) -> Vec<String> {
    let readme = include_str!("../../sosa-redis/README.md");
    let line = readme.lines().find_map(|line| line.strip_prefix("ACL SETUSER ")).expect("a line for the user");
    let line = line.replace("PASSWORD", "sesame").replace("~myapp:*", &format!("~{keys}"));
    ["--user"].into_iter().chain(line.split(' ')).chain(more.iter().copied()).map(str::to_owned).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watchdog first: by the time that it wakes up the number may be another process's.
        let (watchdog, _pipe) = &mut self.watchdog;
        for child in [watchdog, &mut self.server] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
