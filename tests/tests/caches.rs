//! A shared cache before the application: nginx with `proxy_cache`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, serve};
use sosa_session::{CookieOptions, Result, Secure, Session, SessionLayer, SessionOptions};
use sosa_tests::{Client, Nginx, Response};
use tokio::net::TcpListener;

/// It keeps what it may for a minute, and what does not say for as long.
const CACHE: &str = "
daemon off;
pid nginx.pid;
error_log error.log;
events {}
http {
    client_body_temp_path body_temp;
    proxy_temp_path proxy_temp;
    fastcgi_temp_path fastcgi_temp;
    uwsgi_temp_path uwsgi_temp;
    scgi_temp_path scgi_temp;
    access_log off;
    proxy_cache_path cache keys_zone=pages:1m;
    server {
        listen 127.0.0.1:8080;
        proxy_cache pages;
        proxy_cache_valid any 1m;
        proxy_ignore_headers Set-Cookie;
        add_header X-Cache $upstream_cache_status;
        location / {
            proxy_pass http://127.0.0.1:3000;
        }
    }
}
";

/// How often the application was asked.
type Asked = Arc<AtomicUsize>;

async fn log_in(session: Session) -> Result<String> {
    session.regenerate().await?;
    session.insert("user", "ada").await.map(|()| "in".to_owned())
}

async fn me(session: Session, State(asked): State<Asked>) -> Result<String> {
    asked.fetch_add(1, Ordering::SeqCst);
    Ok(session.get("user").await?.unwrap_or_else(|| "nobody".to_owned()))
}

/// A page that begins a session.
async fn begin(session: Session, State(asked): State<Asked>) -> Result<String> {
    asked.fetch_add(1, Ordering::SeqCst);
    session.insert("seen", true).await.map(|()| "seen".to_owned())
}

async fn page(State(asked): State<Asked>) -> String {
    format!("answer {}", asked.fetch_add(1, Ordering::SeqCst))
}

async fn kept(session: Session, State(asked): State<Asked>) -> Result<impl IntoResponse> {
    asked.fetch_add(1, Ordering::SeqCst);
    session.keys().await?;
    Ok(([(CACHE_CONTROL, "public, max-age=60")], "the same for all"))
}

async fn application(asked: Asked) -> SocketAddr {
    let cookie = CookieOptions::new().name("sid").secure(Secure::Never);
    let app = Router::new()
        .route("/login", post(log_in))
        .route("/me", get(me))
        .route("/begin", get(begin))
        .route("/page", get(page))
        .route("/kept", get(kept))
        .layer(SessionLayer::new(SessionOptions::memory().cookie(cookie)))
        .with_state(asked);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { serve(listener, app).await });
    address
}

async fn ask(cache: &Nginx, method: &str, path: &str, cookie: &str) -> Response {
    let mut client = Client::connect(cache.address()).await.expect("it listens");
    let headers: &[(&str, &[u8])] = if cookie.is_empty() { &[] } else { &[("cookie", cookie.as_bytes())] };
    client.send(method, path, headers, b"").await.expect("an answer")
}

#[tokio::test]
async fn no_page_of_one_visitor_reaches_another() {
    let asked = Asked::default();
    let application = application(asked.clone()).await;
    let cache = Nginx::start(&CACHE.replace("127.0.0.1:3000", &application.to_string()));
    let ada = ask(&cache, "POST", "/login", "").await.cookie().expect("a new session").to_owned();

    // Each visitor is asked about anew, and sees its own page.
    for (cookie, seen) in [(&*ada, "ada"), ("", "nobody"), (&ada, "ada"), ("", "nobody")] {
        let response = ask(&cache, "GET", "/me", cookie).await;
        assert_eq!(response.body, seen, "{response:?}");
        assert_eq!((response.header("vary"), response.header("cache-control")), (Some("Cookie"), Some("private")));
        assert_ne!(response.header("x-cache"), Some("HIT"));
    }
    assert_eq!(asked.swap(0, Ordering::SeqCst), 4);

    // A cookie is given to the one for whom it was made, though this cache is told to ignore that there is one.
    let [one, other] = [ask(&cache, "GET", "/begin", "").await, ask(&cache, "GET", "/begin", "").await];
    assert!(one.cookie().is_some() && one.cookie() != other.cookie());
    assert_eq!(one.header("cache-control"), Some("no-store"));
    assert_eq!(asked.swap(0, Ordering::SeqCst), 2);
}

#[tokio::test]
async fn pages_that_do_not_use_their_session_are_still_cached() {
    let asked = Asked::default();
    let application = application(asked.clone()).await;
    let cache = Nginx::start(&CACHE.replace("127.0.0.1:3000", &application.to_string()));
    let ada = ask(&cache, "POST", "/login", "").await.cookie().expect("a new session").to_owned();
    for (cookie, from) in [("", "MISS"), (&*ada, "HIT"), ("sid=another", "HIT")] {
        let response = ask(&cache, "GET", "/page", cookie).await;
        assert_eq!((&*response.body, response.header("x-cache")), ("answer 0", Some(from)));
        assert_eq!((response.header("vary"), response.header("cache-control")), (None, None));
    }
    // What the handler says wins; the cache keeps a page for each cookie.
    for (cookie, from) in [("", "MISS"), (&*ada, "MISS"), (&ada, "HIT"), ("", "HIT")] {
        let response = ask(&cache, "GET", "/kept", cookie).await;
        assert_eq!((&*response.body, response.header("x-cache")), ("the same for all", Some(from)));
        assert_eq!(
            (response.header("vary"), response.header("cache-control")),
            (Some("Cookie"), Some("public, max-age=60"))
        );
    }
}
