//! What the example services share: they serve until they are asked to stop.

// What it prints is its interface.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long requests that are under way may take once the service is asked to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Serves on a port of the loopback, 0 for a free one, and prints where it listens.
pub(crate) async fn serve(port: u16, app: Router) -> Result<(), Box<dyn Error>> {
    // Registered before it says that it listens, so that a signal right after that is not missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    // Otherwise an answer may wait for the client to acknowledge the one before.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    println!("listening on http://{address}");

    let (stop, stopping) = oneshot::channel::<()>();
    let serve = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopping.await) });
    let server = tokio::spawn(serve.into_future());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drop(stop);
    // A client that never ends its request does not keep the service from stopping.
    match timeout(LAST_REQUESTS, server).await {
        Ok(served) => Ok(served??),
        Err(_) => Ok(()),
    }
}
