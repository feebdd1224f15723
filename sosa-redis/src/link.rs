//! What a store sends its requests over.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::ConnectionManager;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::time::Instant;

use crate::shared::Shared;
use crate::wire::Connect;

/// What is sent in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    Command(&'a Cmd),
    /// Its answer is the array of all answers.
    Commands(&'a Pipeline),
}

impl Request<'_> {
    pub(crate) async fn send(self, connection: &mut impl Connection, track: &Track) -> RedisResult<Value> {
        match self {
            Self::Command(command) => connection.command(command, track).await,
            Self::Commands(commands) => Box::pin(connection.commands(commands, track)).await.map(Value::Array),
        }
    }
}

/// What all connections do. The driver's trait for that boxes each future.
pub(crate) trait Connection {
    fn command(&mut self, command: &Cmd, track: &Track) -> impl Future<Output = RedisResult<Value>> + Send;
    fn commands(&mut self, commands: &Pipeline, track: &Track) -> impl Future<Output = RedisResult<Vec<Value>>> + Send;
    /// Tells what became of a request that ended with this error, by how far it got, and the error as others
    /// know it.
    fn fate(&self, error: RedisError, progress: Progress) -> (Fate, RedisError);
}

impl Connection for ConnectionManager {
    fn command(&mut self, command: &Cmd, _: &Track) -> impl Future<Output = RedisResult<Value>> + Send {
        self.send_packed_command(command)
    }

    fn commands(&mut self, commands: &Pipeline, _: &Track) -> impl Future<Output = RedisResult<Vec<Value>>> + Send {
        self.send_packed_commands(commands, 0, commands.len())
    }

    fn fate(&self, error: RedisError, _: Progress) -> (Fate, RedisError) {
        // A server's error is one to its own reconnecting; others come as answers.
        let unsent = error.is_connection_refusal() || error.clone().into_server_errors().is_some();
        (if unsent { Fate::Unsent } else { Fate::Sent }, error)
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
    /// It was given to a connection.
    Sent,
}

/// How far a request has got, while it is under way.
#[derive(Default)]
pub(crate) struct Track(AtomicBool);

impl Track {
    pub(crate) fn get(&self) -> Progress {
        if self.0.load(Ordering::Relaxed) { Progress::Sent } else { Progress::Waiting }
    }

    pub(crate) fn set(&self, progress: Progress) {
        self.0.store(progress == Progress::Sent, Ordering::Relaxed);
    }
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
    pub(crate) async fn ask(&self, request: Request<'_>, track: &Track) -> RedisResult<Value> {
        match self {
            Self::Managed(manager) => {
                track.set(Progress::Sent);
                request.send(&mut manager.clone(), track).await.map_err(|error| {
                    let (fate, error) = manager.fate(error, track.get());
                    if fate == Fate::Unsent {
                        track.set(Progress::Waiting);
                    }
                    error
                })
            }
            Self::Shared(shared) => shared.ask(request, track).await,
        }
    }

    /// Returns how many requests are under way, if that is counted.
    pub(crate) fn under_way(&self) -> usize {
        match self {
            Self::Managed(_) => 0,
            Self::Shared(shared) => shared.under_way(),
        }
    }

    /// Returns how many answers came in, as a mark for [`give_up`](Self::give_up).
    pub(crate) fn answers(&self) -> u64 {
        match self {
            Self::Managed(_) => 0,
            Self::Shared(shared) => shared.answers(),
        }
    }

    /// Says that a request that began at this time got no answer until its own. A connection that gave nobody
    /// an answer since then is not used again: where the network lost it, nothing else would tell for many
    /// minutes.
    pub(crate) fn give_up(&self, began: Instant, answers: u64) {
        if let Self::Shared(shared) = self {
            shared.give_up(began, answers);
        }
    }
}
