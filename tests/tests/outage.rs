//! One outage, however a handler meets it: what each visitor gets, what it costs, and what is logged. Alone in its
//! program, since events are listened to by all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::response::{Html, IntoResponse, Response};
use axum::{Router, routing::get};
use sosa::{
    Clock, Collection, DestroyOptions, Entry, Error, ErrorKind, ListOptions, LoadOptions, Page, Revision, SaveOptions,
    async_trait,
};
use sosa_session::{Session, SessionData, SessionLayer, SessionOptions, Sessions};
use sosa_tests::Log;
use tower::ServiceExt;

/// A store that counts its calls, and can be out.
#[derive(Clone, Debug)]
struct Store {
    inner: sosa_memory::MemoryCollection<SessionData>,
    is_out: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Store {
    async fn call<T>(&self, call: impl Future<Output = sosa::Result<T>>) -> sosa::Result<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.is_out.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable, "nobody answers")),
            false => call.await,
        }
    }
}

#[async_trait]
impl Collection<SessionData> for Store {
    async fn load_with(&self, id: &str, options: LoadOptions) -> sosa::Result<Option<Entry<SessionData>>> {
        self.call(self.inner.load_with(id, options)).await
    }

    async fn save_with(&self, id: &str, value: &SessionData, options: SaveOptions) -> sosa::Result<Revision> {
        self.call(self.inner.save_with(id, value, options)).await
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> sosa::Result<bool> {
        self.call(self.inner.destroy_with(id, options)).await
    }

    async fn list_with(&self, options: ListOptions) -> sosa::Result<Page<SessionData>> {
        self.call(self.inner.list_with(options)).await
    }
}

async fn count(session: &Session) -> sosa_session::Result<u32> {
    session.update("read", |n: Option<u32>| n.unwrap_or(0) + 1).await
}

async fn ignores(session: Session) -> Html<&'static str> {
    let _ = count(&session).await;
    Html("the article")
}

async fn returns(session: Session) -> sosa_session::Result<Html<&'static str>> {
    count(&session).await?;
    Ok(Html("the article"))
}

/// An application's own type of errors.
struct Sorry;

impl IntoResponse for Sorry {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, Html("sorry")).into_response()
    }
}

async fn maps(session: Session) -> Result<Html<&'static str>, Sorry> {
    count(&session).await.map_err(|_| Sorry)?;
    session.save().await.map_err(|_| Sorry)?;
    Ok(Html("the article"))
}

/// Shows a page of its own, as if nothing were, once it knows that nothing is saved.
async fn answers_after_save(session: Session) -> Html<&'static str> {
    let _ = count(&session).await;
    match session.save().await {
        Ok(()) => Html("the article"),
        Err(_) => Html("the article, not counted"),
    }
}

async fn discards(session: Session) -> Html<&'static str> {
    let _ = count(&session).await;
    session.discard().await;
    Html("the article, not counted")
}

fn app(layer: SessionLayer) -> Router {
    Router::new()
        .route("/ignores", get(ignores))
        .route("/returns", get(returns))
        .route("/maps", get(maps))
        .route("/answers", get(answers_after_save))
        .route("/discards", get(discards))
        .layer(layer)
}

async fn ask(app: &Router, path: &str, cookie: Option<&str>) -> Response {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    if let Some(cookie) = cookie {
        request.headers_mut().insert(COOKIE, cookie.parse().unwrap());
    }
    app.clone().oneshot(request).await.unwrap()
}

async fn cookie(app: &Router) -> String {
    let response = ask(app, "/returns", None).await;
    response.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn an_outage_looks_the_same_to_every_visitor_and_is_told_once() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(move || writer.clone()).init();
    let inner = sosa_memory::new("outage").collection("sessions");
    let store = Store { inner, is_out: Arc::default(), calls: Arc::default() };
    let clock = Clock::manual();
    let sessions = Sessions::new(SessionOptions::new(store.clone()).clock(clock.clone()));
    let plain = app(sessions.clone().into());
    let paged = app(SessionLayer::from(sessions.clone())
        .on_error(|error, _| (error.status_code(), Html("back in a minute")).into_response()));

    let (back, signed_out) = (cookie(&plain).await, cookie(&plain).await);
    let logout = sessions.open(sosa_session::RequestHead::new([("cookie", signed_out.as_bytes())]));
    logout.destroy().await.unwrap();
    drop(sessions.close(&logout).await.unwrap());
    store.is_out.store(true, Ordering::SeqCst);
    assert_eq!(ask(&plain, "/returns", Some(&back)).await.status(), 503);
    let told = log.take();
    assert_eq!(told.matches("the session store is out").count(), 1, "{told}");
    assert_eq!(told.matches("nobody answers").count(), 1, "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");

    let (text, html) = ("text/plain; charset=utf-8", "text/html; charset=utf-8");
    for (path, status, by_default, with_page) in [
        ("/ignores", 503, (text, "Service Unavailable"), (html, "back in a minute")),
        ("/returns", 503, (text, "Service Unavailable"), (html, "back in a minute")),
        ("/maps", 503, (html, "sorry"), (html, "sorry")),
        ("/answers", 200, (html, "the article, not counted"), (html, "the article, not counted")),
        ("/discards", 200, (html, "the article, not counted"), (html, "the article, not counted")),
    ] {
        for (app, (kind, body)) in [(&plain, by_default), (&paged, with_page)] {
            for (visitor, cookie) in [("new", None), ("back", Some(&*back)), ("signed out", Some(&*signed_out))] {
                store.calls.store(0, Ordering::SeqCst);
                let response = ask(app, path, cookie).await;
                let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                let is_ours = [by_default, with_page].contains(&(text, "Service Unavailable")) && status == 503;
                assert_eq!(response.status().as_u16(), status, "{path}, {visitor}");
                assert_eq!(header("content-type").as_deref(), Some(kind), "{path}, {visitor}");
                assert_eq!(header("retry-after").is_some(), is_ours, "{path}, {visitor}");
                assert_eq!(header("vary").as_deref(), Some("Cookie"), "{path}, {visitor}");
                assert_eq!(header("set-cookie"), None, "{path}, {visitor}");
                // One who is new is not asked for, and gives up before anything is saved.
                let calls = usize::from(path != "/discards" || cookie.is_some());
                assert_eq!(store.calls.load(Ordering::SeqCst), calls, "{path}, {visitor}");
                let page = to_bytes(response.into_body(), 1024).await.unwrap();
                assert_eq!(std::str::from_utf8(&page).unwrap(), body, "{path}, {visitor}");
                assert_eq!(log.take(), "", "{path}, {visitor}");
            }
        }
    }

    store.is_out.store(false, Ordering::SeqCst);
    // Not at the first answer: where a part of a store is out, some answers fail and others do not.
    assert_eq!(ask(&paged, "/returns", Some(&back)).await.status(), 200);
    assert_eq!(log.take(), "");
    clock.advance(Duration::from_secs(5));
    for path in ["/ignores", "/returns", "/maps", "/answers"] {
        assert_eq!(ask(&paged, path, Some(&back)).await.status(), 200);
    }
    let told = log.take();
    assert_eq!((told.matches("the session store answers again").count(), told.lines().count()), (1, 1), "{told}");
}
