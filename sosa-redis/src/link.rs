//! What a store sends its requests over.

use redis::aio::ConnectionManager;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};

use crate::connect::Connect;
use crate::shared::Shared;

/// What is sent in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    Command(&'a Cmd),
    /// Its answer is the array of all answers.
    Commands(&'a Pipeline),
}

impl Request<'_> {
    pub(crate) async fn send(self, connection: &mut impl Connection) -> RedisResult<Value> {
        match self {
            Self::Command(command) => connection.command(command).await,
            Self::Commands(commands) => Box::pin(connection.commands(commands)).await.map(Value::Array),
        }
    }
}

/// What all connections do. The driver's trait for that boxes each future.
pub(crate) trait Connection {
    fn command(&mut self, command: &Cmd) -> impl Future<Output = RedisResult<Value>> + Send;
    fn commands(&mut self, commands: &Pipeline) -> impl Future<Output = RedisResult<Vec<Value>>> + Send;
    /// Tells what became of a request that ended with this error, and the error as others know it.
    fn fate(&self, error: RedisError) -> (Fate, RedisError);
}

impl Connection for ConnectionManager {
    fn command(&mut self, command: &Cmd) -> impl Future<Output = RedisResult<Value>> + Send {
        self.send_packed_command(command)
    }

    fn commands(&mut self, commands: &Pipeline) -> impl Future<Output = RedisResult<Vec<Value>>> + Send {
        self.send_packed_commands(commands, 0, commands.len())
    }

    fn fate(&self, error: RedisError) -> (Fate, RedisError) {
        (if error.is_connection_refusal() { Fate::Unsent } else { Fate::Sent }, error)
    }
}

/// What became of a request that got no answer, and of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was not sent.
    Unsent,
    /// It was not done, as nobody serves the key at the time.
    Unserved,
    /// It may have been done.
    Sent,
    /// It may have been done, and nothing came in time.
    Late,
    /// It may have been done, and the connection is of no more use.
    Lost,
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing was sent.
    Waiting,
    /// It was given to the connection of this number.
    Sent(u64),
}

/// A connection that is there, or will be when it is needed.
pub(crate) enum Link {
    /// The driver reconnects.
    Managed(ConnectionManager),
    Shared(Box<Shared>),
}

impl Link {
    pub(crate) fn shared(connect: Connect) -> Self {
        Self::Shared(Box::new(Shared::new(connect)))
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, request: Request<'_>, progress: &mut Progress) -> RedisResult<Value> {
        match self {
            Self::Managed(manager) => {
                *progress = Progress::Sent(0);
                request.send(&mut manager.clone()).await.map_err(|error| {
                    let (fate, error) = manager.fate(error);
                    if fate == Fate::Unsent {
                        *progress = Progress::Waiting;
                    }
                    error
                })
            }
            Self::Shared(shared) => shared.ask(request, progress).await,
        }
    }

    /// Returns how many answers came in, as a mark for [`give_up`](Self::give_up).
    pub(crate) fn answers(&self) -> u64 {
        match self {
            Self::Managed(_) => 0,
            Self::Shared(shared) => shared.answers(),
        }
    }

    /// Says that a request got no answer in time. A connection that gave nobody an answer since then is
    /// not used again: where the network lost it, nothing else would tell for many minutes.
    pub(crate) fn give_up(&self, progress: Progress, answers: u64) {
        if let (Self::Shared(shared), Progress::Sent(number)) = (self, progress) {
            shared.give_up(number, answers);
        }
    }
}
