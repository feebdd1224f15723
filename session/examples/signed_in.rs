//! Signing in for some hours, or for as long as one comes back.

use std::error::Error;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use serde::Deserialize;
use sosa_session::{
    CookieOptions, Field, Lifetime, Result, Secure, Session, SessionLayer, SessionOptions, UnattendedLayer,
};
use tokio::net::TcpListener;
use tracing_subscriber::filter::LevelFilter;

#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 3000)]
    port: u16,
    #[arg(long, default_value = "warn")]
    log: LevelFilter,
}

const USER: Field<String> = Field::new("user");
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    tracing_subscriber::fmt().with_max_level(options.log).with_writer(io::stderr).init();

    let sessions = SessionOptions::memory()
        // Who says nothing may sit at somebody else's computer.
        .lifetime(Lifetime::new().idle(2 * HOUR).absolute(12 * HOUR))
        // Who has ticked "stay signed in".
        .class("remembered", Lifetime::new().idle(30 * DAY).absolute(90 * DAY).persistent())
        .cookie(CookieOptions::new().secure(Secure::Auto));

    // What open pages ask by themselves is no use of the session.
    let polled = Router::new().route("/left", get(left)).layer(UnattendedLayer::new());
    let app = Router::new().route("/login", post(log_in)).route("/me", get(me)).route("/logout", post(log_out));
    let app = app.merge(polled).layer(SessionLayer::new(sessions));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    writeln!(io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    axum::serve(listener, app).await?;
    Ok(())
}

#[derive(Deserialize)]
struct Login {
    user: String,
    #[serde(default)]
    stay: bool,
}

async fn log_in(session: Session, Json(Login { user, stay }): Json<Login>) -> Result<String> {
    // A real site checks a password first.
    match stay {
        true => session.regenerate_as("remembered").await?,
        false => session.regenerate().await?,
    }
    session.insert(USER, &user).await?;
    Ok(format!("Hello, {user}"))
}

async fn me(session: Session) -> Result<(StatusCode, String)> {
    Ok(match session.get(USER).await? {
        Some(user) => (StatusCode::OK, user),
        None => (StatusCode::UNAUTHORIZED, "nobody".to_owned()),
    })
}

/// How many minutes are left, for a page that warns its user in time.
async fn left(session: Session) -> Result<String> {
    let left = session.expires().await?.and_then(|ends| ends.duration_since(SystemTime::now()).ok());
    Ok(left.map_or(0, |left| left.as_secs().div_ceil(60)).to_string())
}

async fn log_out(session: Session) -> Result<()> {
    session.destroy().await
}
