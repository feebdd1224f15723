//! The driver's own connection manager, which reconnects by itself.

use redis::aio::ConnectionManager;
use redis::{RedisResult, Value};

use crate::transport::idle::Idle;
use crate::transport::request::{Delivery, Request, Retry, Track, Undelivered};
use crate::transport::single;

/// A connection manager.
pub(crate) struct Manager {
    manager: ConnectionManager,
    idle: Idle,
}

impl Manager {
    pub(crate) fn new(manager: ConnectionManager) -> Self {
        Self { manager, idle: Idle::new() }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, request: Request<'_>, retry: Retry, track: &Track) -> Result<Value, Undelivered> {
        let mut manager = self.manager.clone();
        if retry == Retry::Never && self.idle.is_long() {
            // By its failure the manager finds out that its connection is closed; what is sent next waits for another.
            let ping = redis::cmd("PING");
            drop(Box::pin(send(&mut manager, Request::Command(&ping))).await);
        }
        track.set_sent(true);
        match send(&mut manager, request).await {
            Ok(answer) => {
                self.idle.answered();
                Ok(answer)
            }
            Err(error) => {
                // An error of the server is an answer, unless the manager's own reconnecting met it.
                let is_unsent = error.is_connection_refusal() || error.clone().into_server_errors().is_some();
                Err(Undelivered::new(if is_unsent { Delivery::NotSent } else { single::delivery(&error) }, error))
            }
        }
    }
}

async fn send(manager: &mut ConnectionManager, request: Request<'_>) -> RedisResult<Value> {
    match request {
        Request::Command(command) => manager.send_packed_command(command).await,
        Request::Commands(commands) => {
            Box::pin(manager.send_packed_commands(commands, 0, commands.len())).await.map(Value::Array)
        }
    }
}
