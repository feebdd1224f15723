//! Connections to all nodes of a cluster: the driver's, which finds the node of a key and follows where it has
//! gone, over connections of ours, which keep it from sending again what may have been done.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
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

use crate::connect::{Connect, TIMEOUT, Wire};
use crate::link::{Fate, Progress, Request};
use crate::shared::Shared;

/// Connections to all nodes.
#[derive(Clone)]
pub(crate) struct Nodes {
    connection: ClusterConnection<Node>,
    room: Arc<Semaphore>,
}

/// How many requests the driver's client gets at once.
///
/// All that it does is one task of tokio's. Once that has made 128 steps in a row tokio has it stop, and a step
/// may be to take a lock: the driver (1.8.1, under tokio 1.54) then has a request that holds a lock and is not
/// woken while the map of the slots is refreshed, which waits for that lock for ever.
const ROOM: usize = 32;

/// Connects to the nodes that the client names, and to all others of the cluster.
pub(crate) async fn connect(client: &ClusterClient) -> RedisResult<Nodes> {
    // Hidden from the driver's documentation, though not from its own tests, which make such connections
    // of other types as we do.
    let connection = client.get_async_generic_connection().await?;
    Ok(Nodes { connection, room: Arc::new(Semaphore::new(ROOM)) })
}

impl Nodes {
    pub(crate) async fn command(&mut self, command: &Cmd) -> RedisResult<Value> {
        let _place = self.room.acquire().await;
        self::command(&mut self.connection, command).await
    }

    pub(crate) async fn commands(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let _place = self.room.acquire().await;
        self::commands(&mut self.connection, commands).await
    }
}

/// Sends a command to the primary of its first key, whatever the client says about replicas: what
/// was saved is loaded.
pub(crate) async fn command<C: Wired>(nodes: &mut ClusterConnection<C>, command: &Cmd) -> RedisResult<Value> {
    nodes.route_command(command.clone(), RoutingInfo::SingleNode(route(first_key(command)))).await
}

/// Sends commands to the primary of their first key.
pub(crate) async fn commands<C: Wired>(
    nodes: &mut ClusterConnection<C>,
    commands: &Pipeline,
) -> RedisResult<Vec<Value>> {
    let key = commands.cmd_iter().find_map(first_key);
    nodes.route_pipeline(commands.clone(), 0, commands.len(), route(key)).await
}

/// What the driver asks of a connection to a node.
pub(crate) trait Wired: ConnectionLike + DriversConnect + Clone + Send + Sync + Unpin + 'static {}

impl<C: ConnectionLike + DriversConnect + Clone + Send + Sync + Unpin + 'static> Wired for C {}

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

fn name(command: &Cmd) -> &[u8] {
    match command.args_iter().next() {
        Some(Arg::Simple(name)) => name,
        _ => b"",
    }
}

/// Tells what became of a request that got no answer, and why.
pub(crate) fn fate(error: RedisError) -> (Fate, RedisError) {
    let detail = error.detail().unwrap_or_default().to_owned();
    match error.code() {
        Some(LOST) => (Fate::Sent, io::Error::new(io::ErrorKind::ConnectionReset, detail).into()),
        Some(LATE) => (Fate::Sent, io::Error::new(io::ErrorKind::TimedOut, detail).into()),
        // The driver's task has ended, and what it had was sent or was not.
        _ if io_kind(&error) == Some(io::ErrorKind::BrokenPipe) => (Fate::Lost, error),
        // What a server said in place of doing it, or we of a node that cannot be asked.
        Some(UNSENT | "READONLY" | "MOVED" | "ASK") => (Fate::Unserved, error),
        _ if error.is_io_error() || error.kind() == ErrorKind::ClusterConnectionNotFound => (Fate::Unserved, error),
        _ => (Fate::Unsent, error),
    }
}

/// Returns whether nothing was done because the key is not served at the time.
pub(crate) fn is_unserved(answer: &Value) -> bool {
    let is_down = |answer: &Value| match answer {
        Value::ServerError(error) => matches!(error.code(), "CLUSTERDOWN" | "LOADING" | "MASTERDOWN"),
        _ => false,
    };
    match answer {
        // A transaction, of which nothing was executed.
        Value::Array(answers) => match &**answers {
            [.., Value::ServerError(executed)] => executed.code() == "EXECABORT" && answers.iter().any(is_down),
            _ => false,
        },
        answer => is_down(answer),
    }
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
    /// Sends a request and waits for its answer.
    async fn ask(&self, request: Request<'_>) -> RedisResult<Value> {
        let (began, answers) = (Instant::now(), self.connection.answers());
        let mut progress = Progress::Waiting;
        let answer = {
            // The driver's task has its steps for other things: see `ROOM`.
            let mut answer = std::pin::pin!(unconstrained(self.connection.ask(request, &mut progress)));
            let soon = if self.connection.is_failing() { RETURN_PATIENCE } else { PATIENCE };
            match unconstrained(timeout(soon, &mut answer)).await {
                Ok(answer) => answer,
                Err(_) if self.connection.is_failing() => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                Err(_) => {
                    self.connection.stalls(began, answers);
                    answer.await
                }
            }
        };
        answer.map_err(|error| match progress {
            Progress::Waiting if error.is_io_error() => self.unsent(),
            Progress::Waiting => error,
            Progress::Sent(_) => {
                let code = if error.is_timeout() { LATE } else { LOST };
                // Nothing that a server sent: its answers are no errors here.
                make_extension_error(code.to_owned(), Some(error.category().to_owned()))
            }
        })
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
        if std::mem::take(&mut self.asking) {
            let answers = self.asked(std::iter::once(command)).await?;
            return Ok(answers.into_iter().next().unwrap_or(Value::Nil));
        }
        self.ask(Request::Command(command)).await.map(settled)
    }

    /// Asks the node for what it knows of the cluster.
    async fn tell(&self, command: &Cmd) -> RedisResult<Value> {
        let patience = if self.connection.is_failing() { CLOSED_PATIENCE } else { OPEN_PATIENCE };
        let (began, answers) = (Instant::now(), self.connection.answers());
        let mut progress = Progress::Waiting;
        let answer = self.connection.ask(Request::Command(command), &mut progress);
        unconstrained(timeout(patience, answer)).await.unwrap_or_else(|_| {
            self.connection.stalls(began, answers);
            Err(io::Error::from(io::ErrorKind::TimedOut).into())
        })
    }

    async fn commands(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        if std::mem::take(&mut self.asking) {
            return self.asked(commands.cmd_iter()).await;
        }
        self.all(commands).await
    }

    /// Sends commands right behind the word that they are for a slot on its way here.
    async fn asked<'a>(&self, commands: impl Iterator<Item = &'a Cmd>) -> RedisResult<Vec<Value>> {
        let mut asked = redis::pipe();
        asked.cmd("ASKING");
        for command in commands {
            asked.add_command(command.clone());
        }
        let mut answers = self.all(&asked).await?;
        answers.drain(..1);
        Ok(answers)
    }

    async fn all(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        match self.ask(Request::Commands(commands)).await? {
            Value::Array(answers) => Ok(answers.into_iter().map(settled).collect()),
            answer => Ok(vec![answer]),
        }
    }
}

/// Keeps the driver from waiting for what may pass: we do that, where it keeps nobody else waiting, or find
/// another way.
fn settled(answer: Value) -> Value {
    match answer {
        Value::ServerError(error) if !matches!(error.code(), "MOVED" | "ASK" | "READONLY") => {
            Value::ServerError(unknown(error))
        }
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
