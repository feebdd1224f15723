//! The shop's cart in Rust, in the sessions of the shop on Express.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use clap::Parser;
use serde::Deserialize;
use sosa_session::{
    CookieOptions, ExpressOptions, Field, Result, Secure, Session, SessionLayer, SessionOptions, TrustProxy,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

#[derive(Parser)]
struct Options {
    #[arg(long, default_value = "redis://127.0.0.1:6379")]
    redis: String,
    #[arg(long, default_value_t = 4000)]
    port: u16,
    #[arg(long, default_value = "warn")]
    log: LevelFilter,
}

const USER: Field<String> = Field::new("user");
const CART: Field<Vec<String>> = Field::new("cart");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    tracing_subscriber::fmt().with_max_level(options.log).with_writer(io::stderr).init();

    // What the shop on Express says of its sessions, in the same order.
    let store = sosa_redis::from_url(&options.redis, "")?.collection_at("sess:");
    let secrets = env::var("SESSION_SECRET").unwrap_or_else(|_| "keyboard cat".to_owned());
    let express = ExpressOptions::new(secrets.split(',')).max_age(Duration::from_secs(24 * 60 * 60));
    let sessions = SessionOptions::express(store, express)
        .cookie(CookieOptions::express().secure(Secure::Auto))
        .trust_proxy(TrustProxy::loopback());
    let sessions = SessionLayer::new(sessions)
        .peer(|extensions| extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip()));

    let app = Router::new().route("/cart", get(cart).post(add)).layer(from_fn(logged_in)).layer(sessions);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    writeln!(io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    axum::serve(listener, app).with_graceful_shutdown(async move { _ = terminate.recv().await }).await?;
    Ok(())
}

async fn logged_in(session: Session, request: Request, next: Next) -> Result<Response> {
    match session.get(USER).await? {
        Some(_) => Ok(next.run(request).await),
        None => Ok((StatusCode::UNAUTHORIZED, "Unauthorized").into_response()),
    }
}

async fn cart(session: Session) -> Result<Json<Vec<String>>> {
    Ok(Json(session.get(CART).await?.unwrap_or_default()))
}

#[derive(Deserialize)]
struct Added {
    item: String,
}

/// Adds to the cart as it is when it is saved, so that of many at once none is lost.
async fn add(session: Session, Json(Added { item }): Json<Added>) -> Result<Json<Vec<String>>> {
    let add = move |cart: Option<Vec<String>>| [cart.unwrap_or_default(), vec![item.clone()]].concat();
    Ok(Json(session.update(CART, add).await?))
}
