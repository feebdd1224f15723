//! A connection to one node of a cluster, as the driver's client for clusters uses it.
//!
//! The driver retries what failed, unless it does not know the error's code. So a request that was sent and not answered
//! fails here with such a code, and one that was not sent with one upon which the driver asks which node serves the slot.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::Connect;
use redis::{
    Arg, AsyncConnectionConfig, Cmd, IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult, ServerError,
    Value, make_extension_error,
};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, timeout};

use crate::transport::connector::Connector;
use crate::transport::limits::{
    ABANDONED, CONNECT, KNOWN_LOST, LOOK_AROUND, LOST_NODE, SILENT_NODE, SLOTS, SLOTS_OF_LOST_NODE,
};
use crate::transport::reconnect::Reconnecting;
use crate::transport::request::{Delivery, Request, Retry, Track, Undelivered};
use crate::transport::single::{exchange, not_sent};
use crate::transport::tls;

/// Codes of errors that the driver does not know and passes on: the request was sent, and may have been applied.
pub(crate) const LOST: &str = "SOSALOST";
pub(crate) const LATE: &str = "SOSALATE";

/// The same for a request that was not sent.
pub(crate) const UNSENT: &str = "SOSAUNSENT";

/// Requests in flight, and whether each was sent, keyed by the address of the command's buffer, which is stable across
/// the driver's retries (1.8.1).
static REQUESTS: Mutex<BTreeMap<usize, InFlight>> = Mutex::new(BTreeMap::new());

/// A request in flight.
#[derive(Clone)]
struct InFlight {
    sent: Arc<AtomicBool>,
    retry: Retry,
}

fn requests() -> MutexGuard<'static, BTreeMap<usize, InFlight>> {
    REQUESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request in flight. When its caller is done with it, or is dropped, the caller's track says whether it was sent.
pub(crate) struct Registered<'a> {
    address: usize,
    sent: Arc<AtomicBool>,
    track: &'a Track,
}

impl<'a> Registered<'a> {
    pub(crate) fn new(word: &[u8], retry: Retry, track: &'a Track) -> Self {
        let (address, sent) = (word.as_ptr() as usize, Arc::<AtomicBool>::default());
        requests().insert(address, InFlight { sent: sent.clone(), retry });
        Self { address, sent, track }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut requests = requests();
        // Once the driver is done with one, another may be at its address.
        if requests.get(&self.address).is_some_and(|found| Arc::ptr_eq(&found.sent, &self.sent)) {
            requests.remove(&self.address);
        }
        if !self.sent.load(Ordering::Relaxed) {
            self.track.set_sent(false);
        }
    }
}

/// The right to send a request. It is given back if the request was not sent, or was refused.
struct Sending {
    sent: Arc<AtomicBool>,
    retry: Retry,
    track: Track,
    is_refused: bool,
}

impl Sending {
    /// Returns it unless the request was sent before, or its caller is gone.
    fn new(address: usize) -> Option<Self> {
        // Under the lock, under which the caller reads it when it leaves.
        let requests = requests();
        let InFlight { sent, retry } = requests.get(&address)?.clone();
        let was_sent = sent.swap(true, Ordering::Relaxed);
        (!was_sent).then(|| Self { sent, retry, track: Track::default(), is_refused: false })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.is_refused || !self.track.is_sent() {
            self.sent.store(false, Ordering::Relaxed);
        }
    }
}

/// The nodes to which connections are lost, by address, and when that was noted last. A client of the driver's that is
/// made meanwhile asks any node for the slots, and all its requests would wait for one that does not answer.
static LOST_NODES: Mutex<BTreeMap<Arc<str>, Instant>> = Mutex::new(BTreeMap::new());

fn lost_nodes() -> MutexGuard<'static, BTreeMap<Arc<str>, Instant>> {
    let mut nodes = LOST_NODES.lock().unwrap_or_else(PoisonError::into_inner);
    nodes.retain(|_, noted| noted.elapsed() < KNOWN_LOST);
    nodes
}

/// A connection to one node. It is made when it is first needed, so that only requests to a node wait for that node.
#[derive(Clone)]
pub(crate) struct Node {
    address: Arc<str>,
    connection: Arc<Reconnecting<MultiplexedConnection>>,
    /// When the driver was last told to refresh its map of the slots.
    told: Arc<Mutex<Option<Instant>>>,
    /// The next request is for a slot that is migrating to this node. The driver sends ASKING by itself, and another
    /// task's request could come between the two.
    asking: bool,
}

impl Connect for Node {
    fn connect_with_config<'a, T>(info: T, config: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        let node = info.into_connection_info().and_then(|info| {
            tls::check(info.addr())?;
            let address = info.addr().to_string().into();
            let connector = Connector::new(CONNECT, move || {
                MultiplexedConnection::connect_with_config(info.clone(), config.clone())
            });
            let connection = Arc::new(Reconnecting::new(connector.in_background()));
            Ok(Self { address, connection, told: Arc::default(), asking: false })
        });
        future::ready(node).boxed()
    }
}

impl Node {
    /// Sends a request, known by the address of its first word, and waits for its answer.
    async fn ask(&self, request: Request<'_>, address: usize) -> RedisResult<Value> {
        let lost = |code: &str, what: &str| Err(make_extension_error(code.to_owned(), Some(what.to_owned())));
        let Some(mut sending) = Sending::new(address) else {
            return lost(LOST, "sent before");
        };
        let (began, answers) = (Instant::now(), self.connection.answers());
        let answer = {
            // Without the cooperative budget of the driver's task: see `cluster::AT_ONCE`.
            let mut answer = pin!(unconstrained(self.exchange(request, sending.retry, &sending.track)));
            let soon = if self.connection.is_failing() { LOST_NODE } else { SILENT_NODE };
            let late = || io::Error::from(io::ErrorKind::TimedOut).into();
            match unconstrained(timeout(soon, &mut answer)).await {
                Ok(answer) => answer,
                Err(_) if !sending.track.is_sent() && self.connection.is_failing() => Err(not_sent(late())),
                Err(_) => {
                    self.connection.give_up(began, answers);
                    // The caller has a time limit of its own.
                    let answer = unconstrained(timeout(ABANDONED, answer)).await;
                    answer.unwrap_or_else(|_| Err(Undelivered::new(sending.track.late(), late())))
                }
            }
        };
        match answer {
            Ok(answer) => {
                sending.is_refused = is_refused(&answer);
                Ok(answer)
            }
            Err(Undelivered { delivery: Delivery::NotSent, error }) => {
                Err(if error.is_io_error() { self.unsent() } else { error })
            }
            Err(Undelivered { delivery: Delivery::Late, error }) => lost(LATE, error.category()),
            // A server's error is an answer, and never comes here.
            Err(Undelivered { error, .. }) => lost(LOST, error.category()),
        }
    }

    async fn exchange(&self, request: Request<'_>, retry: Retry, track: &Track) -> Result<Value, Undelivered> {
        let mut open = self.connection.get().await.map_err(not_sent)?;
        exchange(&self.connection, &mut open, request, retry, track).await
    }

    /// Returns the error for a request that was not sent. Now and then it is one upon which the driver refreshes its map
    /// of the slots, and sends the request where that leads.
    fn unsent(&self) -> RedisError {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told.is_none_or(|told| now - told > LOOK_AROUND) {
            *told = Some(now);
            lost_nodes().insert(self.address.clone(), now);
            let answer = redis::parse_redis_value(b"-READONLY the node cannot be asked\r\n");
            if let Err(error) = answer.and_then(Value::extract_error) {
                return error;
            }
        }
        make_extension_error(UNSENT.to_owned(), None)
    }

    async fn command(&mut self, command: &Cmd) -> RedisResult<Value> {
        match name(command) {
            b"ASKING" => {
                self.asking = true;
                return Ok(Value::Okay);
            }
            // Connections are kept here, and replicas are never read from.
            b"PING" | b"READONLY" => return Ok(Value::Okay),
            b"CLUSTER" => return self.tell(command).await,
            _ => {}
        }
        let address = name(command).as_ptr() as usize;
        if std::mem::take(&mut self.asking) {
            let answers = self.asked(std::iter::once(command), address).await?;
            return Ok(answers.into_iter().next().unwrap_or(Value::Nil));
        }
        self.ask(Request::Command(command), address).await.map(settled)
    }

    /// Asks the node for its map of the slots.
    async fn tell(&self, command: &Cmd) -> RedisResult<Value> {
        let limit = match () {
            () if self.connection.is_open() => SLOTS,
            () if self.connection.is_failing() || lost_nodes().contains_key(&self.address) => SLOTS_OF_LOST_NODE,
            // As long as the first attempt to connect may take.
            () => CONNECT,
        };
        let (began, answers) = (Instant::now(), self.connection.answers());
        let track = Track::default();
        let answer = self.exchange(Request::Command(command), Retry::Read, &track);
        match unconstrained(timeout(limit, answer)).await {
            Ok(answer) => answer.map_err(|Undelivered { error, .. }| error),
            Err(_) => {
                self.connection.give_up(began, answers);
                Err(io::Error::from(io::ErrorKind::TimedOut).into())
            }
        }
    }

    async fn commands(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let address = commands.cmd_iter().next().map(name).unwrap_or_default().as_ptr() as usize;
        if std::mem::take(&mut self.asking) {
            return self.asked(commands.cmd_iter(), address).await;
        }
        self.all(commands, address).await
    }

    /// Sends commands right behind ASKING, in one go.
    async fn asked<'a>(&self, commands: impl Iterator<Item = &'a Cmd>, address: usize) -> RedisResult<Vec<Value>> {
        let mut asked = redis::pipe();
        asked.cmd("ASKING");
        for command in commands {
            asked.add_command(command.clone());
        }
        let mut answers = self.all(&asked, address).await?;
        answers.drain(..1);
        Ok(answers)
    }

    async fn all(&self, commands: &Pipeline, address: usize) -> RedisResult<Vec<Value>> {
        match self.ask(Request::Commands(commands), address).await? {
            Value::Array(answers) => Ok(answers.into_iter().map(settled).collect()),
            answer => Ok(vec![answer]),
        }
    }
}

/// Returns the name of a command.
pub(crate) fn name(command: &Cmd) -> &[u8] {
    match command.args_iter().next() {
        Some(Arg::Simple(name)) => name,
        _ => b"",
    }
}

/// Returns whether the driver retries after this answer. Commands are a transaction, of which nothing was executed if one
/// was answered so.
fn is_refused(answer: &Value) -> bool {
    match answer {
        Value::ServerError(error) => REFUSALS.contains(&error.code()),
        Value::Array(answers) => answers.iter().any(is_refused),
        _ => false,
    }
}

/// The codes upon which the driver retries: another node serves the slot.
const REFUSALS: [&str; 3] = ["MOVED", "ASK", "READONLY"];

/// Keeps the driver from retrying after a pause, for which it lets all others wait: `Cluster` does that, for one request
/// alone.
fn settled(answer: Value) -> Value {
    match answer {
        Value::ServerError(error) if !REFUSALS.contains(&error.code()) => Value::ServerError(unknown(error)),
        answer => answer,
    }
}

/// Returns the error as one whose code the driver does not know.
fn unknown(error: ServerError) -> ServerError {
    let copy = make_extension_error(error.code().to_owned(), error.details().map(str::to_owned));
    copy.into_server_errors().and_then(|errors| Some(errors.first()?.1.clone())).unwrap_or(error)
}

impl ConnectionLike for Node {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.command(command).boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        // We send no atomic ones, of which only a part of the answers would count.
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.commands(commands).boxed()
    }

    fn get_db(&self) -> i64 {
        0
    }
}
