//! The driver's own connection manager, which reconnects by itself.

use redis::Value;
use redis::aio::ConnectionManager;

use crate::transport::request::{Delivery, Request, Track, Undelivered};
use crate::transport::single;

/// Sends a request and waits for its answer.
pub(crate) async fn ask(
    manager: &ConnectionManager,
    request: Request<'_>,
    track: &Track,
) -> Result<Value, Undelivered> {
    let mut manager = manager.clone();
    track.set_sent(true);
    let answer = match request {
        Request::Command(command) => manager.send_packed_command(command).await,
        Request::Commands(commands) => {
            Box::pin(manager.send_packed_commands(commands, 0, commands.len())).await.map(Value::Array)
        }
    };
    answer.map_err(|error| {
        // An error of the server is an answer, unless the manager's own reconnecting met it.
        let is_unsent = error.is_connection_refusal() || error.clone().into_server_errors().is_some();
        Undelivered::new(if is_unsent { Delivery::NotSent } else { single::delivery(&error) }, error)
    })
}
