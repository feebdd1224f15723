//! Connections to all nodes of a cluster: the driver's, which finds the node of a key and follows where it has
//! gone, over connections of ours, which keep it from sending again what may have been done.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::{ClusterConnection, Connect as DriversConnect};
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{
    Arg, AsyncConnectionConfig, Cmd, ErrorKind, IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult,
    ServerError, Value, make_extension_error,
};
use tokio::sync::Semaphore;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, timeout};

use crate::link::{Fate, Progress, Request, Track};
use crate::shared::Shared;
use crate::wire::{Connect, TIMEOUT, Wire};

/// Connections to all nodes.
#[derive(Clone)]
pub(crate) struct Nodes<C> {
    connection: ClusterConnection<C>,
    room: Arc<Semaphore>,
}

/// How many requests the driver's client gets at once.
///
/// All that it does is one task of tokio's. Once that has made 128 steps in a row tokio has it stop, and a step
/// may be to take a lock: the driver (1.8.1, under tokio 1.54) then has a request that holds a lock and is not
/// polled while the map of the slots is refreshed, which waits for that lock for ever.
pub(crate) const ROOM: usize = 32;

/// The same for connections of the driver's own, which take more steps for each.
#[cfg(feature = "deadpool")]
pub(crate) const POOLED_ROOM: usize = 16;

/// Connects to the nodes that the client names, and to all others of the cluster.
pub(crate) async fn connect(client: &ClusterClient) -> RedisResult<Nodes<Node>> {
    // Hidden from the driver's documentation, though not from its own tests, which make such connections
    // of other types as we do.
    Ok(Nodes::new(client.get_async_generic_connection().await?, ROOM))
}

impl<C> Nodes<C>
where
    C: ConnectionLike + DriversConnect + Clone + Send + Sync + Unpin + 'static,
{
    pub(crate) fn new(connection: ClusterConnection<C>, room: usize) -> Self {
        Self { connection, room: Arc::new(Semaphore::new(room)) }
    }

    /// Sends a command to the primary of its first key, whatever the client says about replicas: what was
    /// saved is loaded.
    pub(crate) async fn command(&mut self, command: Cmd) -> RedisResult<Value> {
        let _place = self.room.acquire().await.expect("it is never closed");
        let route = RoutingInfo::SingleNode(route(first_key(&command)));
        self.connection.route_command(command, route).await
    }

    /// Sends commands to the primary of their first key.
    pub(crate) async fn commands(&mut self, commands: Pipeline) -> RedisResult<Vec<Value>> {
        let _place = self.room.acquire().await.expect("it is never closed");
        let (count, route) = (commands.len(), route(commands.cmd_iter().find_map(first_key)));
        self.connection.route_pipeline(commands, 0, count, route).await
    }
}

impl Nodes<Node> {
    /// Sends a command, once at most.
    pub(crate) async fn tracked_command(&mut self, command: &Cmd, track: &Track) -> RedisResult<Value> {
        let command = command.clone();
        let _registered = Registered::new(name(&command), track);
        self.command(command).await
    }

    /// Sends commands, once at most.
    pub(crate) async fn tracked_commands(&mut self, commands: &Pipeline, track: &Track) -> RedisResult<Vec<Value>> {
        let commands = commands.clone();
        let _registered = Registered::new(first_name(&commands), track);
        self.commands(commands).await
    }
}

/// The requests that the driver has, and whether each was sent, by where its first word is in memory: it is what
/// the driver hands on as it got it, to whichever connection, again and again.
static REQUESTS: Mutex<BTreeMap<usize, Arc<AtomicBool>>> = Mutex::new(BTreeMap::new());

fn requests() -> MutexGuard<'static, BTreeMap<usize, Arc<AtomicBool>>> {
    REQUESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that somebody waits for. Once nobody does, its track says whether it was sent.
struct Registered<'a> {
    place: usize,
    sent: Arc<AtomicBool>,
    track: &'a Track,
}

impl<'a> Registered<'a> {
    fn new(word: &[u8], track: &'a Track) -> Self {
        let (place, sent) = (word.as_ptr() as usize, Arc::<AtomicBool>::default());
        requests().insert(place, sent.clone());
        Self { place, sent, track }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut requests = requests();
        // Once the driver is done with one, another may be in its place.
        if requests.get(&self.place).is_some_and(|sent| Arc::ptr_eq(sent, &self.sent)) {
            requests.remove(&self.place);
        }
        if !self.sent.load(Ordering::Relaxed) {
            self.track.set(Progress::Waiting);
        }
    }
}

/// The right to send a request. Given back unless it was sent, and was not refused.
struct Sending {
    sent: Arc<AtomicBool>,
    track: Track,
    refused: bool,
}

impl Sending {
    /// Returns it unless the request was sent before, or nobody waits for it any more.
    fn new(place: usize) -> Option<Self> {
        let sent = requests().get(&place).cloned()?;
        let was_sent = sent.swap(true, Ordering::Relaxed);
        (!was_sent).then(|| Self { sent, track: Track::default(), refused: false })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.refused || self.track.get() == Progress::Waiting {
            self.sent.store(false, Ordering::Relaxed);
        }
    }
}

fn route(key: Option<&[u8]>) -> SingleNodeRoutingInfo {
    key.map_or(SingleNodeRoutingInfo::Random, |key| {
        SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master))
    })
}

/// Returns the first key of a command, as all that we send have it.
fn first_key(command: &Cmd) -> Option<&[u8]> {
    let place = match name(command) {
        // Behind the script and the number of keys.
        b"EVAL" | b"EVALSHA" => 3,
        _ => 1,
    };
    match command.args_iter().nth(place)? {
        Arg::Simple(key) => Some(key),
        _ => None,
    }
}

fn first_name(commands: &Pipeline) -> &[u8] {
    commands.cmd_iter().next().map(name).unwrap_or_default()
}

fn name(command: &Cmd) -> &[u8] {
    match command.args_iter().next() {
        Some(Arg::Simple(name)) => name,
        _ => b"",
    }
}

/// Tells what became of a request that got no answer, by how far it got, and why.
pub(crate) fn fate(error: RedisError, progress: Progress) -> (Fate, RedisError) {
    let detail = error.detail().unwrap_or_default().to_owned();
    match (error.code(), progress) {
        (Some(LOST), _) => (Fate::Sent, io::Error::new(io::ErrorKind::ConnectionReset, detail).into()),
        (Some(LATE), _) => (Fate::Sent, io::Error::new(io::ErrorKind::TimedOut, detail).into()),
        _ if has_ended(&error) => (Fate::Lost, error),
        (_, Progress::Sent) => (Fate::Sent, error),
        // What a server said in place of doing it, or we of a node that cannot be asked.
        (Some(UNSENT | "READONLY" | "MOVED" | "ASK"), _) => (Fate::Unserved, error),
        _ if error.is_io_error() || error.kind() == ErrorKind::ClusterConnectionNotFound => (Fate::Unserved, error),
        _ => (Fate::Unsent, error),
    }
}

/// Returns whether the driver's task has ended.
pub(crate) fn has_ended(error: &RedisError) -> bool {
    io_kind(error) == Some(io::ErrorKind::BrokenPipe)
}

fn io_kind(error: &RedisError) -> Option<io::ErrorKind> {
    let source = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    Some(source.downcast_ref::<io::Error>()?.kind())
}

/// Codes of errors that we give to the driver, which it does not know and so passes on: what was sent may
/// have been done.
const LOST: &str = "SOSALOST";
const LATE: &str = "SOSALATE";

/// And that was not sent.
const UNSENT: &str = "SOSAUNSENT";

/// A connection to one node, as the driver's cluster client uses it. It is made when it is needed, so that nobody
/// waits for a node that does not answer but who has something to ask of it.
///
/// The driver sends again what failed, unless the error is none that it knows. So what was sent and not answered
/// fails with such an error here; and what was not sent, with one upon which the driver looks who serves the key
/// now.
#[derive(Clone)]
pub(crate) struct Node {
    connection: Arc<Shared>,
    /// When it last was that the driver was told to look around.
    told: Arc<Mutex<Option<Instant>>>,
    /// What is sent next is for a slot that is on its way to this node. The driver says so by a command of
    /// its own, behind which those of other tasks might come first.
    asking: bool,
}

/// How long a node may give nobody an answer, before its connection is made anew. Where the network lost a
/// connection nothing else would tell for many minutes.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long one is waited for at all, after that.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a node may take to tell what it knows of the cluster: all requests wait for that.
const OPEN_PATIENCE: Duration = Duration::from_millis(300);

/// And one to which the connection is lost: others know as well.
const CLOSED_PATIENCE: Duration = Duration::from_millis(2);

/// How long a request waits for a connection to be made again, before it looks whether another node serves
/// its key meanwhile.
const RETURN_PATIENCE: Duration = Duration::from_millis(20);

/// How often a node that cannot be asked has the driver look around. All other requests wait for that.
const LOOK_AROUND: Duration = Duration::from_millis(100);

impl DriversConnect for Node {
    fn connect_with_config<'a, T>(info: T, config: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        let node = info.into_connection_info().map(|info| {
            let connect = Connect::new(TIMEOUT, move || {
                MultiplexedConnection::connect_with_config(info.clone(), config.clone())
                    .map(|made| made.map(Wire::Server))
            });
            let connect = connect.in_background();
            Self { connection: Arc::new(Shared::new(connect)), told: Arc::default(), asking: false }
        });
        future::ready(node).boxed()
    }
}

impl Node {
    /// Sends a request, known by where its first word is, and waits for its answer.
    async fn ask(&self, request: Request<'_>, place: usize) -> RedisResult<Value> {
        let lost = |code: &str, what: &str| Err(make_extension_error(code.to_owned(), Some(what.to_owned())));
        let Some(mut sending) = Sending::new(place) else {
            return lost(LOST, "sent before");
        };
        let (began, answers) = (Instant::now(), self.connection.answers());
        let answer = {
            // The driver's task has its steps for other things: see `ROOM`.
            let mut answer = pin!(unconstrained(self.connection.ask(request, &sending.track)));
            let soon = if self.connection.is_failing() { RETURN_PATIENCE } else { PATIENCE };
            let late = || Err(io::Error::from(io::ErrorKind::TimedOut).into());
            match unconstrained(timeout(soon, &mut answer)).await {
                Ok(answer) => answer,
                Err(_) if sending.track.get() == Progress::Waiting && self.connection.is_failing() => late(),
                Err(_) => {
                    self.connection.give_up(began, answers);
                    // Whoever waits has a timeout. The driver does not notice when they have gone.
                    unconstrained(timeout(LONGEST, answer)).await.unwrap_or_else(|_| late())
                }
            }
        };
        match answer {
            Ok(answer) => {
                sending.refused = is_refused(&answer);
                Ok(answer)
            }
            Err(error) if sending.track.get() == Progress::Waiting => {
                Err(if error.is_io_error() { self.unsent() } else { error })
            }
            Err(error) if error.is_timeout() => lost(LATE, error.category()),
            // Nothing that a server sent: its answers are no errors here.
            Err(error) => lost(LOST, error.category()),
        }
    }

    /// Returns the error for what was not sent. Upon one of them now and then, the driver asks who serves the
    /// key, and sends it there.
    fn unsent(&self) -> RedisError {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told.is_none_or(|told| now - told > LOOK_AROUND) {
            *told = Some(now);
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
            // Whether there is a connection is our affair; and we read from no replica.
            b"PING" | b"READONLY" => return Ok(Value::Okay),
            b"CLUSTER" => return self.tell(command).await,
            _ => {}
        }
        let place = name(command).as_ptr() as usize;
        if std::mem::take(&mut self.asking) {
            let answers = self.asked(std::iter::once(command), place).await?;
            return Ok(answers.into_iter().next().unwrap_or(Value::Nil));
        }
        self.ask(Request::Command(command), place).await.map(settled)
    }

    /// Asks the node for what it knows of the cluster.
    async fn tell(&self, command: &Cmd) -> RedisResult<Value> {
        let patience = match () {
            () if self.connection.is_open() => OPEN_PATIENCE,
            () if self.connection.is_failing() => CLOSED_PATIENCE,
            // As long as the first attempt to connect may take.
            () => TIMEOUT,
        };
        let (began, answers) = (Instant::now(), self.connection.answers());
        let track = Track::default();
        let answer = self.connection.ask(Request::Command(command), &track);
        unconstrained(timeout(patience, answer)).await.unwrap_or_else(|_| {
            self.connection.give_up(began, answers);
            Err(io::Error::from(io::ErrorKind::TimedOut).into())
        })
    }

    async fn commands(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let place = first_name(commands).as_ptr() as usize;
        if std::mem::take(&mut self.asking) {
            return self.asked(commands.cmd_iter(), place).await;
        }
        self.all(commands, place).await
    }

    /// Sends commands right behind the word that they are for a slot on its way here.
    async fn asked<'a>(&self, commands: impl Iterator<Item = &'a Cmd>, place: usize) -> RedisResult<Vec<Value>> {
        let mut asked = redis::pipe();
        asked.cmd("ASKING");
        for command in commands {
            asked.add_command(command.clone());
        }
        let mut answers = self.all(&asked, place).await?;
        answers.drain(..1);
        Ok(answers)
    }

    async fn all(&self, commands: &Pipeline, place: usize) -> RedisResult<Vec<Value>> {
        match self.ask(Request::Commands(commands), place).await? {
            Value::Array(answers) => Ok(answers.into_iter().map(settled).collect()),
            answer => Ok(vec![answer]),
        }
    }
}

/// Returns whether the driver sends again what is answered like this. Of commands, which are a transaction,
/// nothing was executed if one was.
fn is_refused(answer: &Value) -> bool {
    match answer {
        Value::ServerError(error) => REFUSALS.contains(&error.code()),
        Value::Array(answers) => answers.iter().any(is_refused),
        _ => false,
    }
}

/// The codes of what the driver may answer by sending again: the key is to be asked for elsewhere.
const REFUSALS: [&str; 3] = ["MOVED", "ASK", "READONLY"];

/// Keeps the driver from waiting for what may pass: we do that, where it keeps nobody else waiting, or find
/// another way.
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
