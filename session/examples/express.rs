//! A service that shares its sessions with an Express application, over one Redis.
//!
//! `cargo run -p sosa-session --example express -- --redis redis://127.0.0.1/`, and beside it an application with
//! express-session and connect-redis, the same secret and their defaults.

mod serve;

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use indexmap::IndexMap;
use serde_json::value::RawValue;
use sosa_session::{
    CookieOptions, ErrorKind, ExpressOptions, Scheme, Secure, Session, SessionLayer, SessionOptions, TrustProxy,
};
use tracing::level_filters::LevelFilter;

use self::serve::serve;

/// Serves the caller's session, which it shares with an Express application.
#[derive(Parser)]
struct Options {
    /// The URL of the Redis in which connect-redis keeps the sessions, under `sess:`.
    #[arg(long)]
    redis: String,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Express's `secret`. Of several the first signs and all verify.
    #[arg(long = "secret", default_value = "keyboard cat")]
    secrets: Vec<String>,
    /// Express's `cookie.maxAge`, in milliseconds.
    #[arg(long)]
    max_age: Option<u64>,
    /// Express's `rolling`.
    #[arg(long)]
    rolling: bool,
    /// Express's `cookie.secure`: `always` is its `true`, `auto` its `'auto'`.
    #[arg(long, default_value = "never")]
    secure: String,
    /// Believe `X-Forwarded-Proto`, as behind a proxy that ends TLS.
    #[arg(long)]
    trust_proxy: bool,
    /// Log to stderr from this level on: error, warn, info, debug or trace.
    #[arg(long, default_value = "warn")]
    log: LevelFilter,
}

const MAX_BODY: usize = 4 * 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    // For rediss://; an error would say that there is one already.
    let _ = sosa_redis::rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt().with_max_level(options.log).with_writer(std::io::stderr).init();
    serve(options.port, app(session_options(&options)?)).await
}

fn session_options(options: &Options) -> Result<SessionOptions, Box<dyn Error>> {
    let sessions = sosa_redis::from_url(&options.redis, "")?.collection_at("sess:");
    let secure = match &*options.secure {
        "never" => Secure::Never,
        "auto" => Secure::Auto,
        "always" => Secure::Always,
        _ => return Err("--secure is never, auto or always".into()),
    };
    let express = ExpressOptions::new(options.secrets.iter().map(String::as_str))
        .max_age(options.max_age.map(Duration::from_millis))
        .rolling(options.rolling);
    Ok(SessionOptions::express(sessions, express)
        .cookie(CookieOptions::express().secure(secure))
        .scheme(Scheme::Http)
        .trust_proxy(if options.trust_proxy { TrustProxy::always() } else { TrustProxy::never() }))
}

fn app(options: SessionOptions) -> Router {
    Router::new()
        .route("/session", get(show).post(merge).delete(destroy))
        .route("/views", get(view))
        .route("/regenerate", post(regenerate))
        .route("/whoami", get(who_am_i))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(SessionLayer::new(options))
}

/// Answers with the record as it is stored, or will be.
async fn show(session: Session) -> Result<Response, Refusal> {
    Ok(json(session.data().await?.as_json().to_owned()))
}

/// Merges the body's members into the session, as they are written.
async fn merge(session: Session, body: Bytes) -> Result<Response, Refusal> {
    insert(&session, &body).await?;
    save(&session).await?;
    show(session).await
}

async fn destroy(session: Session) -> Result<StatusCode, Refusal> {
    session.destroy().await?;
    session.save().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Counts a view, also where Express counts at the same time.
async fn view(session: Session) -> Result<Response, Refusal> {
    session.update("views", |views: Option<u64>| views.unwrap_or(0) + 1).await?;
    save(&session).await?;
    // Others may have been counted between the two.
    let views: Option<u64> = session.get("views").await?;
    Ok(json(format!(r#"{{"views":{}}}"#, views.unwrap_or_default())))
}

async fn regenerate(session: Session, body: Bytes) -> Result<Response, Refusal> {
    session.regenerate().await?;
    if !body.is_empty() {
        insert(&session, &body).await?;
    }
    session.insert("regenerated", true).await?;
    save(&session).await?;
    show(session).await
}

/// Tells who the caller is, and changes nothing. The id is shown for the sake of the example.
async fn who_am_i(session: Session) -> Result<Response, Refusal> {
    let user: Option<Box<RawValue>> = session.get("user").await?;
    let id = serde_json::to_string(&session.expose_id().await?)?;
    Ok(json(format!(r#"{{"id":{id},"user":{}}}"#, user.as_deref().map_or("null", RawValue::get))))
}

async fn insert(session: &Session, body: &[u8]) -> Result<(), Refusal> {
    let members: IndexMap<String, Box<RawValue>> = serde_json::from_slice(body)?;
    for (key, value) in members {
        match session.insert(&key, value).await {
            // Express would lose it.
            Err(error) if error.kind() == ErrorKind::ReservedKey => {}
            inserted => inserted?,
        }
    }
    Ok(())
}

async fn save(session: &Session) -> Result<(), Refusal> {
    match session.save().await {
        // Over plain http a `secure` session is neither saved nor announced.
        Err(error) if error.kind() == ErrorKind::Insecure => Ok(()),
        saved => Ok(saved?),
    }
}

fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}

enum Refusal {
    Body,
    Session(sosa_session::Error),
}

impl From<sosa_session::Error> for Refusal {
    fn from(error: sosa_session::Error) -> Self {
        Self::Session(error)
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(_: serde_json::Error) -> Self {
        Self::Body
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Body => (StatusCode::BAD_REQUEST, "the body must be a JSON object").into_response(),
            Self::Session(error) => error.into_response(),
        }
    }
}
