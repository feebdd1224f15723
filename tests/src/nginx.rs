//! nginx, from a configuration.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A server in a directory of its own. It ends with this value.
#[derive(Debug)]
pub struct Nginx {
    server: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Nginx {
    /// Starts it on a free port, which stands in the place of `127.0.0.1:8080` in the configuration.
    ///
    /// # Panics
    ///
    /// If nginx is not installed, or does not start.
    pub fn start(configuration: &str) -> Self {
        // Between looking for a free port and binding it somebody else may take it.
        for _ in 0..20 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let address = free.local_addr().expect("it is bound");
            drop(free);
            let directory = tempfile::tempdir().expect("a directory");
            let configuration = configuration.replace("127.0.0.1:8080", &address.to_string());
            std::fs::write(directory.path().join("nginx.conf"), configuration).expect("written");
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

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its directory, where its logs are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it.
        let id = Pid::from_raw(self.server.id() as i32);
        let _ = kill(id, Signal::SIGTERM);
        drop(self.server.wait());
    }
}
