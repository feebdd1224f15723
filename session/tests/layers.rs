//! The middleware among others: their order, panics, timeouts, and the same layer twice.

mod store;

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, body};
use sosa_session::sosa::Clock;
use sosa_session::{
    CookieOptions, Lifetime, RequestHead, Result, Scheme, Secure, Session, SessionLayer, SessionOptions, Sessions,
    TrustProxy, UnattendedLayer,
};
use store::{Site, Store, site};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

async fn send(app: &Router, cookie: Option<&str>) -> Response {
    let mut request = Request::get("/").body(Body::empty()).unwrap();
    if let Some(cookie) = cookie {
        request.headers_mut().insert(COOKIE, cookie.parse().unwrap());
    }
    app.clone().oneshot(request).await.unwrap()
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let pair = |value: &str| value.split(';').next().unwrap().to_owned();
    headers.get_all(SET_COOKIE).iter().map(|value| pair(value.to_str().unwrap())).collect()
}

/// What the session of a cookie holds.
async fn user(sessions: &Sessions, cookie: &str) -> Option<String> {
    sessions.open(RequestHead::new([("cookie", cookie.as_bytes())])).get("user").await.unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(body::to_bytes(response.into_body(), 1024).await.unwrap().into()).unwrap()
}

/// Other layers make bodies of their own, inside and around ours.
#[tokio::test]
async fn it_goes_with_other_layers_in_one_stack() {
    let stack = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(SessionLayer::new(SessionOptions::memory()))
        .layer(RequestBodyLimitLayer::new(1024))
        .layer(TraceLayer::new_for_http());
    let write = async |session: Session| session.insert("user", "ada").await.map(|()| "written");
    let app = Router::new().route("/", get(write)).layer(stack);
    let response = send(&app, None).await;
    assert_eq!(cookies(response.headers()).len(), 1);
    assert_eq!(text(response).await, "written");

    // And without axum's router, over a body of another kind.
    let inner = service_fn(async |request: Request<String>| {
        let session = request.extensions().get::<Session>().expect("the layer is there").clone();
        session.insert("user", "ada").await.unwrap();
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let mut service = SessionLayer::new(SessionOptions::memory()).layer(inner);
    let response = service.call(Request::new("echoed".to_owned())).await.unwrap();
    assert_eq!(cookies(response.headers()).len(), 1);
    assert_eq!(text(response).await, "echoed");
}

/// One session and one cookie, also where two people have wrapped the same routes.
#[tokio::test]
async fn the_same_layer_twice_is_one_session() {
    async fn cart(session: Session) -> Result<()> {
        session.insert("cart", 1).await
    }
    async fn csrf(session: Session, request: Request, next: Next) -> Result<Response> {
        session.insert("user", "ada").await?;
        Ok(next.run(request).await)
    }
    let sessions = Sessions::new(SessionOptions::memory());
    let layer = || SessionLayer::from(sessions.clone());
    let app = Router::new().route("/", get(cart)).layer(layer()).layer(from_fn(csrf)).layer(layer());
    let response = send(&app, None).await;
    let [cookie] = &cookies(response.headers())[..] else { panic!("one cookie") };
    let session = sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]));
    assert_eq!(session.keys().await.unwrap(), ["user", "cart"]);
}

/// The handler gets the session of the layer next to it; each has a cookie.
#[tokio::test]
async fn layers_of_other_options_have_a_session_each() {
    async fn inner(session: Session) -> Result<()> {
        session.insert("user", "inner").await
    }
    async fn outer(session: Session, request: Request, next: Next) -> Result<Response> {
        session.insert("user", "outer").await?;
        Ok(next.run(request).await)
    }
    let sessions = ["shop", "admin"].map(|name| {
        Sessions::new(SessionOptions::memory().cookie(CookieOptions::new().name(format!("__Host-{name}"))))
    });
    let [shop, admin] = sessions.each_ref().map(|sessions| SessionLayer::from(sessions.clone()));
    let app = Router::new().route("/", get(inner)).layer(admin).layer(from_fn(outer)).layer(shop);
    let [admin, shop] = &cookies(send(&app, None).await.headers())[..] else { panic!("two cookies") };
    assert_eq!(user(&sessions[0], shop).await.as_deref(), Some("outer"));
    assert_eq!(user(&sessions[1], admin).await.as_deref(), Some("inner"));
}

/// However many layers are between: a request has one session of each.
#[tokio::test]
async fn a_layer_within_another_within_the_first_opens_nothing() {
    async fn write(session: Session, request: Request, next: Next) -> Result<Response> {
        session.update("writes", |n: Option<u32>| n.unwrap_or(0) + 1).await?;
        Ok(next.run(request).await)
    }
    let [shop, admin] = ["shop", "admin"].map(|name| {
        let cookie = CookieOptions::new().name(format!("__Host-{name}"));
        SessionLayer::new(SessionOptions::memory().cookie(cookie))
    });
    let app = Router::new().route("/", get(async || ())).layer(from_fn(write)).layer(shop.clone());
    let app = app.layer(from_fn(write)).layer(admin).layer(from_fn(write)).layer(shop);
    let cookies = cookies(send(&app, None).await.headers());
    let names: Vec<_> = cookies.iter().map(|pair| pair.split_once('=').unwrap().0).collect();
    assert_eq!(names, ["__Host-admin", "__Host-shop"]);
}

#[tokio::test]
async fn a_session_is_optional_where_a_route_may_have_none() {
    async fn whether(session: Option<Session>) -> &'static str {
        if session.is_some() { "a session" } else { "none" }
    }
    let bare = Router::new().route("/", get(whether));
    assert_eq!(text(send(&bare, None).await).await, "none");
    let wrapped = bare.layer(SessionLayer::new(SessionOptions::memory()));
    assert_eq!(text(send(&wrapped, None).await).await, "a session");
}

/// To take a session as an argument is no look at it: such a page is the same for all.
#[tokio::test]
async fn only_a_look_at_the_session_makes_a_page_private() {
    let site = site();
    let cookie = site.log_in().await;
    let layer = SessionLayer::from(site.sessions.clone());
    let extracts = Router::new().route("/", get(async |_: Session| "for all")).layer(layer.clone());
    let looks =
        Router::new().route("/", get(async |session: Session| session.keys().await.map(|_| "private"))).layer(layer);
    for (app, says) in [(extracts, None), (looks, Some(("Cookie", "private")))] {
        let response = send(&app, cookie.as_deref()).await;
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("vary").zip(header("cache-control")), says);
    }
}

/// What the server knows of a connection reaches the session by extensions of the request.
#[tokio::test]
async fn the_server_says_how_a_request_came_and_from_whom() {
    #[derive(Clone, Copy)]
    struct Connection(Scheme, IpAddr);

    let options = || SessionOptions::memory().cookie(CookieOptions::new().secure(Secure::Auto));
    let layer = SessionLayer::new(options().trust_proxy(TrustProxy::cidr(["10.0.0.0/8"]).unwrap()))
        .scheme(|extensions| extensions.get().map_or(Scheme::Unknown, |Connection(scheme, _)| *scheme))
        .peer(|extensions| extensions.get().map(|Connection(_, peer)| *peer));
    let write = async |session: Session| session.insert("user", "ada").await;
    let app = Router::new().route("/", get(write)).layer(layer);
    for (scheme, peer, proto, secure) in [
        (Scheme::Https, "192.0.2.1", None, true),
        (Scheme::Http, "192.0.2.1", Some("https"), false),
        (Scheme::Http, "10.0.0.1", Some("https"), true),
        (Scheme::Http, "10.0.0.1", None, false),
        (Scheme::Https, "10.0.0.1", Some("http"), false),
    ] {
        let mut request = Request::get("/").body(Body::empty()).unwrap();
        request.extensions_mut().insert(Connection(scheme, peer.parse().unwrap()));
        if let Some(proto) = proto {
            request.headers_mut().insert("forwarded", format!("proto={proto}").parse().unwrap());
        }
        let response = app.clone().oneshot(request).await.unwrap();
        let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
        assert_eq!(cookie.contains("; Secure"), secure, "{scheme:?}, {peer}, {proto:?}");
    }
}

/// How a handler panics, which has half of its edits made.
#[derive(Clone, Copy, Debug)]
enum Panics {
    Itself,
    InUpdate,
    InATask,
}

async fn panics(session: Session, how: Panics) -> StatusCode {
    session.insert("user", "half").await.unwrap();
    match how {
        Panics::Itself => panic!("in the handler"),
        Panics::InUpdate => drop(session.update("n", |_: Option<u8>| -> u8 { panic!("in an update") }).await),
        Panics::InATask => {
            let session = session.clone();
            let task = tokio::spawn(async move {
                session.insert("n", 1).await.unwrap();
                panic!("in a task");
            });
            task.await.unwrap_err();
        }
    }
    StatusCode::OK
}

#[tokio::test]
async fn what_panics_saves_nothing_whatever_layer_answers_for_it() {
    for how in [Panics::Itself, Panics::InUpdate, Panics::InATask] {
        for is_inside in [true, false] {
            let site = site();
            let cookie = site.log_in().await;
            let layer = SessionLayer::from(site.sessions.clone());
            let app = Router::new().route("/", get(move |session: Session| panics(session, how)));
            let app = match is_inside {
                true => app.layer(CatchPanicLayer::new()).layer(layer),
                false => app.layer(layer).layer(CatchPanicLayer::new()),
            };
            for cookie in [cookie.as_deref(), None] {
                let response = send(&app, cookie).await;
                let expected = if matches!(how, Panics::InATask) { 200 } else { 500 };
                assert_eq!(response.status(), expected, "{how:?}, inside: {is_inside}");
                assert!(cookies(response.headers()).is_empty(), "{how:?}, inside: {is_inside}");
            }
            assert_eq!(site.user(&cookie).await.as_deref(), Some("ada"), "{how:?}, inside: {is_inside}");
            assert_eq!(site.store.live().await.len(), 1, "{how:?}, inside: {is_inside}");
        }
    }
}

/// What was saved before a panic is saved, and its cookie sent.
#[tokio::test]
async fn a_panic_takes_nothing_back() {
    let Site { sessions, store, .. } = site();
    let handler = async |session: Session| -> StatusCode {
        session.insert("user", "ada").await.unwrap();
        session.save().await.unwrap();
        session.insert("user", "half").await.unwrap();
        panic!("afterwards");
    };
    let layer = SessionLayer::from(sessions.clone());
    let app = Router::new().route("/", get(handler)).layer(CatchPanicLayer::new()).layer(layer);
    let response = send(&app, None).await;
    let [cookie] = &cookies(response.headers())[..] else { panic!("one cookie") };
    assert_eq!(user(&sessions, cookie).await.as_deref(), Some("ada"));
    assert_eq!(store.live().await.len(), 1);
}

/// A timeout around the layer drops the request, and nothing is saved. One inside of it cannot be told from an answer
/// of the handler: that order is documented not to be used.
#[tokio::test]
async fn a_timeout_belongs_outside() {
    for is_inside in [false, true] {
        let site = site();
        let cookie = site.log_in().await;
        let handler = async |session: Session| {
            session.insert("user", "half").await.unwrap();
            std::future::pending::<()>().await;
        };
        let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(1));
        let layer = SessionLayer::from(site.sessions.clone());
        let app = Router::new().route("/", get(handler));
        let app = if is_inside { app.layer(timeout).layer(layer) } else { app.layer(layer).layer(timeout) };
        assert_eq!(send(&app, cookie.as_deref()).await.status(), StatusCode::REQUEST_TIMEOUT);
        let saved = if is_inside { "half" } else { "ada" };
        assert_eq!(site.user(&cookie).await.as_deref(), Some(saved), "inside: {is_inside}");
    }
}

/// The handler's headers and those of other layers stay on the page of an error, but for those about its body.
#[tokio::test]
async fn an_applications_own_page_keeps_what_other_layers_have_set() {
    let full = || sosa_memory::new("test").with_limit(0).collection("sessions");
    let handler = async |session: Session| -> Result<Response> {
        session.insert("user", "ada").await?;
        let headers =
            [("x-request-id", "7"), ("etag", "\"1\""), ("content-encoding", "gzip"), ("set-cookie", "theme=dark")];
        Ok((headers, [("cache-control", "public")], "written").into_response())
    };
    let page = |layer: SessionLayer| {
        layer.on_error(|error, response| {
            assert_eq!(response.status(), error.status());
            (error.status_code(), [("content-type", "text/html"), ("retry-after", "60")], "<h1>later</h1>")
                .into_response()
        })
    };
    for (layer, kind, after, body) in [
        (SessionLayer::new(full()), "text/plain; charset=utf-8", "5", "Service Unavailable"),
        (page(SessionLayer::new(full())), "text/html", "60", "<h1>later</h1>"),
    ] {
        let app = Router::new().route("/", get(handler)).layer(layer);
        let response = send(&app, None).await;
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((header("content-type"), header("retry-after")), (Some(kind), Some(after)));
        assert_eq!((header("x-request-id"), header("etag"), header("content-encoding")), (Some("7"), None, None));
        assert_eq!((header("cache-control"), header("vary")), (Some("no-store"), Some("Cookie")));
        assert_eq!(cookies(response.headers()), ["theme=dark"]);
        assert_eq!(text(response).await, body);
    }
}

/// A session that was saved before something failed is announced once, on either page, and caches are told once more
/// by what others have said.
#[tokio::test]
async fn a_page_of_an_error_announces_what_was_saved_before() {
    for returns in [true, false] {
        let store = Store::new(&sosa_session::sosa::Clock::manual());
        let out = store.clone();
        let handler = async move |session: Session| -> Result<Response> {
            session.insert("user", "ada").await?;
            session.save().await?;
            session.insert("user", "eve").await?;
            out.fail_from(1, false);
            if returns {
                session.reload().await?;
            }
            Ok(([("vary", "accept-encoding")], "written").into_response())
        };
        let layer = SessionLayer::new(SessionOptions::new(store.clone())).on_error(|_, response| response);
        let app = Router::new().route("/", get(handler)).layer(layer);
        let response = send(&app, None).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "returns: {returns}");
        assert_eq!(cookies(response.headers()).len(), 1, "returns: {returns}");
        let vary: Vec<_> = response.headers().get_all("vary").iter().collect();
        assert_eq!(vary, if returns { vec!["Cookie"] } else { vec!["accept-encoding", "Cookie"] });
    }
}

/// A page that asks by itself keeps no session alive; the same routes beside it do.
#[tokio::test]
async fn routes_may_be_no_use_of_their_sessions() {
    let clock = Clock::manual();
    let options = SessionOptions::memory().clock(clock.clone());
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let sessions = Sessions::new(options.lifetime(Lifetime::new().idle(minutes(30))));
    let look =
        async |session: Session| -> Result<String> { Ok(session.get::<String>("user").await?.unwrap_or_default()) };
    let layer = || SessionLayer::from(sessions.clone());
    let polled = Router::new().route("/", get(look)).layer(UnattendedLayer::new()).layer(layer());
    let used = Router::new().route("/", get(look)).layer(layer());
    let log_in = sessions.open(RequestHead::new([]));
    log_in.insert("user", "ada").await.unwrap();
    let cookie = sessions.close(&log_in).await.unwrap().into_set_cookie().unwrap();
    let cookie = cookie.value().split(';').next().unwrap();
    for (app, lives) in [(&used, true), (&polled, false)] {
        for _ in 0..2 {
            clock.advance(minutes(15));
            let response = send(app, Some(cookie)).await;
            assert_eq!(response.headers()["vary"], "Cookie");
            drop(response);
        }
        assert_eq!(text(send(&used, Some(cookie)).await).await, if lives { "ada" } else { "" });
    }
}

/// Each host has a cookie of its own.
#[tokio::test]
async fn sessions_are_chosen_by_the_request() {
    let options = SessionOptions::memory();
    let of = |domain: &str| Sessions::new(options.clone().cookie(CookieOptions::new().domain(domain)));
    let both = ["example.test", "other.test"].map(of);
    let chosen = both.clone();
    let layer = SessionLayer::by_request(move |_, headers| {
        let is_other = headers.get("host").is_some_and(|host| host == "other.test");
        chosen[usize::from(is_other)].clone()
    });
    let write = async |session: Session| session.insert("user", "ada").await;
    // Twice around the route, as where somebody has wrapped it already.
    let app = Router::new().route("/", get(write)).layer(layer.clone()).layer(layer);
    for (host, sessions) in ["example.test", "other.test"].into_iter().zip(&both) {
        let request = Request::get("/").header("host", host).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let set: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(set.len(), 1);
        assert!(set[0].to_str().unwrap().contains(&format!("; Domain={host};")), "{set:?}");
        let cookie = &cookies(response.headers())[0];
        assert_eq!(user(sessions, cookie).await.as_deref(), Some("ada"));
    }
}
