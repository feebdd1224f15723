//! A server with its sessions, as clients meet it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sosa_peers::process::another;
use sosa_peers::shop::contents;
use sosa_tests::{Client, Redis};
use tempfile::TempDir;

use crate::names::{BARE, EXPRESS, SOSA};
use crate::{SESSIONS, wrk};

/// A server, and the cookies of its sessions.
pub struct Contender {
    pub name: &'static str,
    pub server: Server,
    pub cookies: Arc<[String]>,
    /// Where they are for wrk to read.
    file: PathBuf,
    /// Which has them, and wrk's script.
    directory: Arc<TempDir>,
}

/// A process that serves on a port of the loopback. It ends with this value, and at the latest with its input,
/// which is with the process that started it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    fn start(name: &str, redis: Option<&str>) -> Self {
        let mut command = if name == EXPRESS { express() } else { another() };
        if name == EXPRESS {
            command.arg(serde_json::to_string(&contents()).expect("JSON"));
        } else {
            command.args(["serve", name]);
        }
        let mut child = command
            .args(redis)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("it prints where it listens");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("{name} printed `{line}`"));
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the command that runs Express, whose packages it installs.
fn express() -> Command {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("express");
    if !directory.join("node_modules").exists() {
        let installed = Command::new("npm").args(["ci", "--silent", "--prefix"]).arg(&directory).status();
        assert!(installed.is_ok_and(|status| status.success()), "npm ci failed in {}", directory.display());
    }
    let mut command = Command::new("node");
    command.arg("server.mjs").current_dir(directory).env("NODE_ENV", "production");
    command
}

/// Starts all servers, fills them with sessions, and makes sure that they keep them.
pub fn start(names: &[&'static str], redis: Option<&Redis>) -> Vec<Contender> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    fs::write(directory.path().join("wrk.lua"), wrk::SCRIPT).expect("the script is written");
    let mut contenders = Vec::new();
    for (n, &name) in names.iter().enumerate() {
        let server = Server::start(name, redis.map(Redis::url).as_deref());
        let cookies = if name == BARE { [].into() } else { runtime.block_on(fill(name, server.address)) };
        let file = directory.path().join(format!("cookies {n}"));
        fs::write(&file, cookies.join("\n")).expect("the cookies are written");
        contenders.push(Contender { name, server, cookies, file, directory: directory.clone() });
    }
    // A handler without sessions gets requests of the same size.
    let ours = contenders.iter().position(|contender| contender.name == SOSA).expect("it takes part");
    let (cookies, file) = (contenders[ours].cookies.clone(), contenders[ours].file.clone());
    for contender in contenders.iter_mut().filter(|contender| contender.name == BARE) {
        (contender.cookies, contender.file) = (cookies.clone(), file.clone());
    }
    for contender in &contenders {
        runtime.block_on(contender.check(redis));
    }
    contenders
}

/// Makes sessions by requests, and returns the cookies of each.
async fn fill(name: &'static str, address: SocketAddr) -> Arc<[String]> {
    let left = Arc::new(AtomicUsize::new(SESSIONS));
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let left = left.clone();
            tokio::spawn(async move {
                let mut client = Client::connect(address).await.expect("it listens");
                let mut filled = Vec::new();
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let response = client.send("GET", "/fill", &[], b"").await.expect("an answer");
                    assert_eq!(response.status, 200, "{name} could not be filled");
                    // What a cookie takes back a browser would not send.
                    let cookies = response
                        .headers
                        .iter()
                        .filter(|(header, value)| header == "set-cookie" && !value.contains("Max-Age=0"));
                    let pairs: Vec<_> = cookies.filter_map(|(_, value)| value.split(';').next()).collect();
                    assert!(!pairs.is_empty(), "{name} gave no cookie");
                    filled.push(pairs.join("; "));
                }
                filled
            })
        })
        .collect();
    let mut cookies = Vec::new();
    for task in tasks {
        cookies.extend(task.await.expect("a task ends"));
    }
    cookies.into()
}

impl Contender {
    /// Makes sure that what is written is there when it is read, in all sessions that this looks at.
    pub async fn check(&self, redis: Option<&Redis>) {
        if self.name == BARE {
            return;
        }
        let mut client = Client::connect(self.server.address).await.expect("it listens");
        for cookies in self.cookies.iter().step_by(SESSIONS / 100) {
            // A new session in the place of one that was lost would hold nothing.
            assert_ne!(self.get(&mut client, "read", cookies).await, 0, "{} lost a session", self.name);
            redis.map(Redis::calls);
            let written = self.get(&mut client, "write", cookies).await;
            let saved =
                redis.is_none_or(|redis| redis.calls().keys().any(|call| ["set", "evalsha"].contains(&&**call)));
            assert!(saved, "{} did not write to Redis", self.name);
            let read = self.get(&mut client, "read", cookies).await;
            assert_eq!(read, written, "{} lost what was written", self.name);
        }
    }

    pub async fn get(&self, client: &mut Client, operation: &str, cookies: &str) -> u32 {
        let headers: [(&str, &[u8]); 1] = [("cookie", cookies.as_bytes())];
        let response = client.send("GET", &format!("/{operation}"), &headers, b"").await.expect("an answer");
        assert_eq!(response.status, 200, "{} failed: {}", self.name, response.body);
        response.body.parse().expect("a number")
    }

    /// Returns how many requests a second it answered, and the time in which 99 of 100 were answered, in
    /// milliseconds.
    pub fn measure(&self, operation: &str) -> (f64, f64) {
        let url = format!("http://{}/{operation}", self.server.address);
        wrk::run(&self.directory.path().join("wrk.lua"), &url, &self.file)
            .unwrap_or_else(|failure| panic!("{}: {failure}", self.name))
    }
}
