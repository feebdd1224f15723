//! A REST service whose only resource is the caller's session.
//!
//! `cargo run -p sosa-session --example rest` and then, for example,
//! `curl -c jar -b jar -H 'content-type: application/json' -d '{"user":"ada"}' 127.0.0.1:PORT/session`.

mod serve;

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use sosa_session::sosa::{self, Collection};
use sosa_session::{
    CookieOptions, ErrorKind, Scheme, Secure, Session, SessionData, SessionLayer, SessionOptions, TrustProxy,
};
use tracing::level_filters::LevelFilter;

use self::serve::serve;

/// Serves the caller's session over plain http.
#[derive(Parser)]
struct Options {
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where sessions are kept: `memory`; `sled:` and the path of a directory, where what was answered is on
    /// the disk; or the URL of a Redis, such as `redis://127.0.0.1/`, `redis-cluster://127.0.0.1:7000` or
    /// `redis-sentinel://127.0.0.1/?sentinelMasterId=main`.
    #[arg(long, default_value = "memory")]
    store: String,
    /// The prefix of all keys in the store.
    #[arg(long, default_value = "rest")]
    prefix: String,
    /// Send and save sessions only over https.
    #[arg(long)]
    secure: bool,
    /// Believe `X-Forwarded-Proto`, as behind a proxy that ends TLS.
    #[arg(long)]
    trust_proxy: bool,
    /// Log to stderr from this level on: error, warn, info, debug or trace.
    #[arg(long, default_value = "warn")]
    log: LevelFilter,
}

/// Keys of the answer, which a client cannot put into its session.
const OURS: [&str; 4] = ["id", "rev", "created", "updated"];

const MAX_BODY: usize = 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    // For rediss://; an error would say that there is one already.
    let _ = sosa_redis::rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt().with_max_level(options.log).with_writer(std::io::stderr).init();
    serve(options.port, app(session_options(&options)?)).await
}

fn session_options(options: &Options) -> sosa::Result<SessionOptions> {
    let cookie = CookieOptions::new().name("sosa_session").secure(match options.secure {
        true => Secure::Always,
        false => Secure::Never,
    });
    let proxy = if options.trust_proxy { TrustProxy::always() } else { TrustProxy::never() };
    Ok(SessionOptions::new(store(&options.store, &options.prefix)?)
        .cookie(cookie)
        .scheme(Scheme::Http)
        .trust_proxy(proxy))
}

fn store(store: &str, prefix: &str) -> sosa::Result<Arc<dyn Collection<SessionData>>> {
    if store == "memory" {
        return Ok(Arc::new(sosa_memory::new(prefix).collection("sessions")));
    }
    Ok(match store.strip_prefix("sled:") {
        Some(path) => Arc::new(sosa_sled::open(path, prefix)?.collection("sessions")),
        None => Arc::new(sosa_redis::from_url(store, prefix)?.collection("sessions")),
    })
}

fn app(options: SessionOptions) -> Router {
    Router::new()
        .route("/", get(show).fallback(not_found))
        .route("/session", get(show).post(merge).put(merge).delete(destroy).fallback(not_found))
        .route("/visits", post(visit).fallback(not_found))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(SessionLayer::new(options))
}

async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Answers with the session: its public id as `id`, `rev`, and its values as they are stored.
async fn show(session: Session) -> Result<Response, Refusal> {
    let data = session.data().await?;
    let mut members = vec![
        ("id".into(), to_raw_value(session.public_id().await?.as_str())?),
        ("rev".into(), to_raw_value(&session.rev().await?)?),
    ];
    for (key, json) in data.iter() {
        members.push((key, RawValue::from_string(json.to_owned())?));
    }
    let mut body = Vec::new();
    serde::Serializer::collect_map(&mut serde_json::Serializer::new(&mut body), members)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn merge(session: Session, body: Bytes) -> Result<Response, Refusal> {
    let Value::Object(values) = serde_json::from_slice(&body)? else {
        return Err(Refusal::Body("the body must be a JSON object"));
    };
    // Before anything is inserted: what is refused changes nothing.
    if values.contains_key("sosa") {
        return Err(Refusal::Body("the key `sosa` is reserved"));
    }
    for (key, value) in values.iter().filter(|(key, _)| !OURS.contains(&&*key.to_lowercase())) {
        session.insert(key, value).await?;
    }
    match session.save().await {
        // Over plain http a Secure session is not saved; the answer shows its `rev` of 0.
        Err(error) if error.kind() == ErrorKind::Insecure => {}
        saved => saved?,
    }
    show(session).await
}

/// Counts a visit, also where many are made at once, and answers with the count.
async fn visit(session: Session) -> Result<String, Refusal> {
    session.update("visits", |visits: Option<u64>| visits.unwrap_or(0) + 1).await?;
    session.save().await?;
    // Others may have been counted between the two.
    let visits = session.get::<u64>("visits").await?.unwrap_or_default();
    Ok(format!("{visits}\n"))
}

async fn destroy(session: Session) -> Result<StatusCode, Refusal> {
    session.destroy().await?;
    Ok(StatusCode::NO_CONTENT)
}

enum Refusal {
    Body(&'static str),
    Session(sosa_session::Error),
}

impl From<sosa_session::Error> for Refusal {
    fn from(error: sosa_session::Error) -> Self {
        Self::Session(error)
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(_: serde_json::Error) -> Self {
        Self::Body("the body is malformed or too deeply nested JSON")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Body(why) => (StatusCode::BAD_REQUEST, why).into_response(),
            Self::Session(error) => error.into_response(),
        }
    }
}
