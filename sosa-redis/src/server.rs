//! A call: what one verb asks of the server, by one deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::{Cmd, Value};
use sosa::{Outcome, Result};
use tokio::time::{Instant, timeout_at};

use crate::connections::Connections;
use crate::error;
use crate::link::{Link, Progress, Request, Track};
use crate::reply;
use crate::script::Script;
use crate::store::RedisStore;

/// What a request does to the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// The same, however often it is done. It may be sent again.
    Idempotent,
    /// It must not be done twice.
    Once,
}

/// The server, as a store and its collections share it.
#[derive(Clone)]
pub(crate) struct Server {
    links: Arc<[Link]>,
    /// How many requests a link takes at once, if they are few.
    room: Option<usize>,
    turn: Arc<AtomicUsize>,
    pub(crate) timeout: Duration,
}

impl Server {
    pub(crate) fn new(connections: Connections) -> Self {
        let Connections { links, room, .. } = connections;
        Self { links, room, turn: Arc::default(), timeout: RedisStore::DEFAULT_TIMEOUT }
    }

    /// Begins a call, which ends in time whatever it asks.
    pub(crate) fn call(&self) -> Call<'_> {
        let now = Instant::now();
        Call { server: self, began: now, deadline: now.checked_add(self.timeout).unwrap_or(now + FOR_EVER) }
    }

    fn link(&self) -> &Link {
        match &*self.links {
            [link] => link,
            links => {
                // Requests that share a connection share packets: so one after the other is filled.
                if let Some(link) = self.room.and_then(|room| links.iter().find(|link| link.under_way() < room)) {
                    return link;
                }
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) / TOGETHER;
                &links[turn % links.len()]
            }
        }
    }
}

/// A deadline that no clock reaches, and none overflows with.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How many requests in a row take one connection, where many may.
const TOGETHER: usize = 128;

/// One verb's requests.
pub(crate) struct Call<'a> {
    server: &'a Server,
    began: Instant,
    deadline: Instant,
}

impl Call<'_> {
    /// Sends a command and returns its answer.
    pub(crate) async fn command(&self, command: &Cmd, effect: Effect) -> Result<Value> {
        self.ask(Request::Command(command), effect, error::answer).await
    }

    /// Sends two commands as a transaction and returns the answer to each; one may be an error.
    pub(crate) async fn transaction(&self, both: [Cmd; 2], effect: Effect) -> Result<[Value; 2]> {
        let [first, second] = both;
        let mut commands = redis::Pipeline::with_capacity(4);
        // Not by `atomic()`: the driver then reads the answers, and stumbles over an error to MULTI.
        commands.cmd("MULTI").add_command(first).add_command(second).cmd("EXEC");
        let answers = self.ask(Request::Commands(&commands), effect, Ok).await?;
        let [begun, first, second, executed] = reply::array(answers)?;
        match executed {
            Value::Array(_) => reply::array(executed),
            _ => Err(error::not_executed(&[begun, first, second, executed])),
        }
    }

    /// Runs a script by its hash. A server that does not know it gets its text, once.
    pub(crate) async fn script(&self, script: &Script, arguments: impl Fn(&mut Cmd), effect: Effect) -> Result<Value> {
        let read = |answer| match error::is_unknown_script(&answer) {
            true => Ok(None),
            false => error::script_answer(answer, effect).map(Some),
        };
        if let Some(answer) = self.ask(Request::Command(&script.by_hash(&arguments)), effect, read).await? {
            return Ok(answer);
        }
        let read = |answer| error::script_answer(answer, effect);
        self.ask(Request::Command(&script.by_text(&arguments)), effect, read).await
    }

    /// Sends a request and reads its answer.
    async fn ask<R>(&self, request: Request<'_>, effect: Effect, read: impl Fn(Value) -> Result<R>) -> Result<R> {
        let link = self.server.link();
        let answers = link.answers();
        let mut again = false;
        loop {
            let track = Track::default();
            let answer = timeout_at(self.deadline, link.ask(request, &track)).await;
            let progress = track.get();
            let result = match answer {
                // The connection was closed, perhaps long ago: only who uses it finds out.
                Ok(Err(error))
                    if !again
                        && effect != Effect::Once
                        && progress != Progress::Waiting
                        && error.is_connection_dropped() =>
                {
                    again = true;
                    continue;
                }
                Ok(Ok(answer)) => read(answer),
                Ok(Err(error)) => Err(error::failed(error, progress, effect)),
                Err(_) => {
                    link.give_up(self.began, answers);
                    Err(error::late(self.server.timeout, progress, effect))
                }
            };
            // Whatever became of the second, the first may have been done.
            let is_unknown = again && effect != Effect::None;
            return result.map_err(|error| if is_unknown { error.with_outcome(Outcome::Unknown) } else { error });
        }
    }
}
