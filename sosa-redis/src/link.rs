//! What a store sends its requests over.

use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};

use crate::shared::{Connect, Shared};

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
}

macro_rules! connection {
    ($($driver:ty),*) => {$(
        impl Connection for $driver {
            fn command(&mut self, command: &Cmd) -> impl Future<Output = RedisResult<Value>> + Send {
                self.send_packed_command(command)
            }

            fn commands(&mut self, commands: &Pipeline) -> impl Future<Output = RedisResult<Vec<Value>>> + Send {
                self.send_packed_commands(commands, 0, commands.len())
            }
        }
    )*};
}

connection!(ConnectionManager, MultiplexedConnection);

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
    pub(crate) fn shared(connect: impl Into<Connect>) -> Self {
        Self::Shared(Box::new(Shared::new(connect.into())))
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, request: Request<'_>, progress: &mut Progress) -> RedisResult<Value> {
        match self {
            Self::Managed(manager) => {
                *progress = Progress::Sent(0);
                let answer = request.send(&mut manager.clone()).await;
                if answer.as_ref().is_err_and(RedisError::is_connection_refusal) {
                    *progress = Progress::Waiting;
                }
                answer
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
