//! A call: what one verb asks of the server, by one deadline.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::{Cmd, Value};
use sosa::Outcome;
use tokio::runtime::Handle;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use crate::commands::reply;
use crate::commands::script::Script;
use crate::connections::Connections;
use crate::error::{self, Failure};
use crate::transport::limits;
use crate::transport::link::Link;
use crate::transport::request::{Delivery, Request, Retry, Track};

/// The server, as a store and its collections share it.
#[derive(Clone)]
pub(crate) struct Client {
    links: Arc<[Link]>,
    /// How many requests a link takes at once, if they are few.
    room: Option<usize>,
    turn: Arc<AtomicUsize>,
    pub(crate) timeout: Duration,
}

impl Client {
    pub(crate) fn new(connections: Connections) -> Self {
        let Connections { links, room, .. } = connections;
        Self { links, room, turn: Arc::default(), timeout: limits::VERB }
    }

    /// Begins a call, which ends in time whatever it asks.
    ///
    /// # Errors
    ///
    /// Outside of tokio, where timers and sockets panic.
    pub(crate) fn call(&self) -> sosa::Result<Call<'_>> {
        if Handle::try_current().is_err() {
            return Err(error::outside_of_tokio());
        }
        let now = Instant::now();
        let deadline = now.checked_add(self.timeout).unwrap_or(now + limits::FOR_EVER);
        Ok(Call { client: self, began: now, deadline })
    }

    fn link(&self) -> &Link {
        match &*self.links {
            [link] => link,
            links => {
                // Requests that share a connection share packets: so one after the other is filled.
                if let Some(link) = self.room.and_then(|room| links.iter().find(|link| link.in_flight() < room)) {
                    return link;
                }
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) / TOGETHER;
                &links[turn % links.len()]
            }
        }
    }
}

/// How many requests in a row take one connection, where many may.
const TOGETHER: usize = 128;

/// One verb's requests.
pub(crate) struct Call<'a> {
    client: &'a Client,
    began: Instant,
    deadline: Instant,
}

impl Call<'_> {
    /// Waits for an answer for a part of the time, and for all of it if the connection is alive: then it is the server that
    /// takes its time.
    async fn answered_in_time<R>(
        &self,
        mut asked: Pin<&mut impl Future<Output = R>>,
        is_alive: impl FnOnce() -> bool,
    ) -> Result<R, Elapsed> {
        let first_part = self.began + (self.deadline - self.began) / limits::READ_AGAIN;
        match timeout_at(first_part, asked.as_mut()).await {
            Err(_) if is_alive() => timeout_at(self.deadline, asked).await,
            answer => answer,
        }
    }

    /// Sends a command and returns its answer.
    pub(crate) async fn command(&self, command: &Cmd, retry: Retry) -> Result<Value, Failure> {
        self.ask(Request::Command(command), retry, error::answer).await
    }

    /// Sends two commands as a transaction and returns the answer to each; one may be an error.
    pub(crate) async fn transaction(&self, both: [Cmd; 2], retry: Retry) -> Result<[Value; 2], Failure> {
        let [first, second] = both;
        let mut commands = redis::Pipeline::with_capacity(4);
        // Not by `atomic()`: the driver then reads the answers, and stumbles over an error to MULTI.
        commands.cmd("MULTI").add_command(first).add_command(second).cmd("EXEC");
        let answers = self.ask(Request::Commands(&commands), retry, Ok).await?;
        let [begun, first, second, executed] = reply::array(answers)?;
        match executed {
            Value::Array(_) => Ok(reply::array(executed)?),
            _ => {
                let in_part = Delivery::RefusedInPart.outcome(retry);
                Err(error::not_executed(&[begun, first, second, executed], in_part))
            }
        }
    }

    /// Runs a script by its hash. A server that does not know it gets its text, once.
    pub(crate) async fn script(
        &self,
        script: &Script,
        arguments: impl Fn(&mut Cmd),
        retry: Retry,
    ) -> Result<Value, Failure> {
        let in_part = Delivery::RefusedInPart.outcome(retry);
        let read = |answer| match error::is_unknown_script(&answer) {
            true => Ok(None),
            false => error::script_answer(answer, in_part).map(Some),
        };
        if let Some(answer) = self.ask(Request::Command(&script.by_hash(&arguments)), retry, read).await? {
            return Ok(answer);
        }
        let read = |answer| error::script_answer(answer, in_part);
        self.ask(Request::Command(&script.by_text(&arguments)), retry, read).await
    }

    /// Sends a request and reads its answer.
    async fn ask<R>(
        &self,
        request: Request<'_>,
        retry: Retry,
        read: impl Fn(Value) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let link = self.client.link();
        let answers = link.answers();
        let mut first = None;
        loop {
            let track = Track::default();
            let asked = pin!(link.ask(request, retry, &track));
            let can_be_repeated = first.is_none() && Delivery::Silent.is_repeated(retry) && link.can_be_replaced();
            let answer = match can_be_repeated {
                true => self.answered_in_time(asked, || !link.give_up(self.began, answers)).await,
                false => timeout_at(self.deadline, asked).await,
            };
            let failure = match answer {
                Ok(Ok(answer)) => match read(answer) {
                    Err(failure) => failure,
                    read => return read,
                },
                Ok(Err(undelivered)) if first.is_none() && undelivered.delivery.is_repeated(retry) => {
                    first = Some(undelivered.delivery);
                    continue;
                }
                Ok(Err(undelivered)) => {
                    let delivery = undelivered.delivery;
                    let is_sent = delivery != Delivery::NotSent;
                    error::failed(undelivered.error, is_sent, delivery.outcome(retry)).into()
                }
                Err(_) if can_be_repeated && Instant::now() < self.deadline => {
                    first = Some(if track.is_sent() { Delivery::Silent } else { Delivery::NotSent });
                    continue;
                }
                Err(_) => {
                    link.give_up(self.began, answers);
                    let delivery = track.late();
                    error::late(self.client.timeout, track.is_sent(), delivery.outcome(retry)).into()
                }
            };
            // Whatever became of the second, the first may have been done.
            return Err(match first.map(|first| first.outcome(retry)) {
                Some(Outcome::Unknown) => sosa::Error::from(failure).with_outcome(Outcome::Unknown).into(),
                _ => failure,
            });
        }
    }
}
