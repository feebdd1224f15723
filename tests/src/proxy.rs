//! A network that fails: a proxy in front of a server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A proxy on a free port of the loopback. It ends with this value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    trips: usize,
    sent: Vec<u8>,
    /// How many connections there were so far.
    connections: usize,
    /// So many of the first are forgotten.
    forgotten: usize,
}

/// What goes wrong, on connections that are there and on new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// An answer is held back until the client has sent nothing for so long: whatever it can send
    /// without that answer has been sent by then.
    Gather(Duration),
    /// Each answer comes later by this.
    Delay(Duration),
    /// One in so many answers is swallowed, and its connection closed: the server has done what was
    /// asked, and nobody is told.
    Cut(u32),
    /// Answers are swallowed, and the connection stays. New connections work, as when a router forgot
    /// those that it had.
    Swallow,
    /// Answers are replaced by what no Redis says.
    Garbage,
}

impl Proxy {
    /// Starts a proxy in front of a server.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State {
            fault: Fault::None,
            trips: 0,
            sent: Vec::new(),
            connections: 0,
            forgotten: 0,
        }));
        let accepting = tokio::spawn({
            let state = state.clone();
            async move {
                // Dropped with the proxy, and all connections with it.
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    let number = {
                        let mut state = lock(&state);
                        state.connections += 1;
                        state.connections
                    };
                    connections.spawn(pass(client, server, state.clone(), number));
                }
            }
        });
        Self { address, state, accepting }
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of the server behind it.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Makes something go wrong from now on.
    pub fn set(&self, fault: Fault) {
        lock(&self.state).fault = fault;
    }

    /// Forgets all connections that are there, as a router does that has no room: whatever is sent over them is lost, and
    /// nobody is told.
    pub fn forget(&self) {
        let mut state = lock(&self.state);
        state.forgotten = state.connections;
    }

    /// Returns the commands that were sent since this was last asked, and under [`Fault::Gather`] how many
    /// times the client waited for an answer before it sent more.
    pub fn take(&self) -> (Vec<String>, usize) {
        let mut state = lock(&self.state);
        (commands(&std::mem::take(&mut state.sent)), std::mem::take(&mut state.trips))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes on what goes through one connection, until it is closed or cut.
async fn pass(client: TcpStream, server: SocketAddr, state: Arc<Mutex<State>>, number: usize) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (request, mut requests) = mpsc::unbounded_channel();
    let swallows = Arc::new(Mutex::new(false));

    let forth = {
        let (state, swallows) = (state.clone(), swallows.clone());
        async move {
            let mut bytes = Vec::with_capacity(64 * 1024);
            while from_client.read_buf(&mut bytes).await? > 0 {
                {
                    let mut state = lock(&state);
                    if number <= state.forgotten {
                        bytes.clear();
                        continue;
                    }
                    state.sent.extend(&bytes);
                    // Only connections that are there when it begins lose their answers.
                    *swallows.lock().unwrap_or_else(PoisonError::into_inner) |= state.fault == Fault::Swallow;
                }
                let _ = request.send(());
                to_server.write_all(&bytes).await?;
                bytes.clear();
            }
            Ok(())
        }
    };
    let back = async move {
        let mut bytes = Vec::with_capacity(64 * 1024);
        while from_server.read_buf(&mut bytes).await? > 0 {
            let fault = lock(&state).fault;
            match fault {
                _ if *swallows.lock().unwrap_or_else(PoisonError::into_inner) => bytes.clear(),
                Fault::None | Fault::Swallow => {}
                Fault::Gather(quiet) => {
                    while timeout(quiet, requests.recv()).await.is_ok_and(|request| request.is_some()) {
                        // What answers it meanwhile belongs to the same trip.
                    }
                    while timeout(Duration::from_millis(1), from_server.read_buf(&mut bytes))
                        .await
                        .is_ok_and(|read| read.is_ok_and(|read| read > 0))
                    {}
                    lock(&state).trips += 1;
                }
                Fault::Delay(delay) => sleep(delay).await,
                Fault::Cut(one_in) if fastrand::u32(..one_in) == 0 => return Ok(()),
                Fault::Cut(_) => {}
                Fault::Garbage => bytes = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            }
            to_client.write_all(&bytes).await?;
            bytes.clear();
        }
        Ok(())
    };
    // Whichever ends takes the other with it.
    tokio::select! {
        ended = forth => ended,
        ended = back => ended,
    }
}

/// Returns the names of the commands in what a client sent.
fn commands(sent: &[u8]) -> Vec<String> {
    let mut commands = Vec::new();
    let mut rest = sent;
    while let Some((arguments, after)) = header(rest, b'*') {
        rest = after;
        for n in 0..arguments {
            let Some((length, after)) = header(rest, b'$') else { return commands };
            let Some((argument, after)) = after.split_at_checked(length) else { return commands };
            if n == 0 {
                commands.push(String::from_utf8_lossy(argument).into_owned());
            }
            rest = after.get(2..).unwrap_or_default();
        }
    }
    commands
}

/// Reads `*3\r\n` or `$3\r\n`.
fn header(bytes: &[u8], kind: u8) -> Option<(usize, &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let number = bytes[..end].strip_prefix(&[kind])?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, &bytes[end + 2..]))
}
