//! The middleware: what reaches the client, and what does not.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;
use axum::{Router, body};
use sosa_session::{ErrorKind, Session, SessionLayer, SessionOptions};
use tower::ServiceExt;

async fn write(session: Session) -> sosa_session::Result<String> {
    session.insert("user", "ada").await?;
    Ok("written".to_owned())
}

async fn fail(session: Session) -> sosa_session::Result<StatusCode> {
    session.insert("user", "eve").await?;
    Ok(StatusCode::IM_A_TEAPOT)
}

async fn panics(session: Session) {
    session.insert("user", "eve").await.unwrap();
    panic!("in a handler");
}

async fn read(session: Session) -> sosa_session::Result<String> {
    Ok(session.get("user").await?.unwrap_or_default())
}

fn app(options: impl Into<SessionOptions>) -> Router {
    Router::new()
        .route("/write", get(write))
        .route("/fail", get(fail))
        .route("/panic", get(panics))
        .route("/read", get(read))
        .layer(SessionLayer::new(options))
}

async fn send(app: &Router, path: &str, cookie: Option<&HeaderValue>) -> Response {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    if let Some(cookie) = cookie {
        request.headers_mut().insert(COOKIE, cookie.clone());
    }
    app.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(body::to_bytes(response.into_body(), 1024).await.unwrap().into()).unwrap()
}

#[tokio::test]
async fn the_cookie_is_appended_and_marked_sensitive() {
    let app = app(SessionOptions::memory());
    let response = send(&app, "/write", None).await;
    let cookie = response.headers().get(SET_COOKIE).unwrap().clone();
    assert!(cookie.is_sensitive());
    assert_eq!(text(send(&app, "/read", Some(&cookie)).await).await, "ada");
    assert_eq!(text(send(&app, "/read", None).await).await, "");
}

#[tokio::test]
async fn an_error_status_saves_and_a_panic_does_not() {
    let app = app(SessionOptions::memory());
    let cookie = send(&app, "/write", None).await.headers()[SET_COOKIE].clone();
    let panicked = tokio::spawn({
        let (app, cookie) = (app.clone(), cookie.clone());
        async move { send(&app, "/panic", Some(&cookie)).await }
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert_eq!(text(send(&app, "/read", Some(&cookie)).await).await, "ada");
    assert_eq!(send(&app, "/fail", Some(&cookie)).await.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(text(send(&app, "/read", Some(&cookie)).await).await, "eve");
}

#[tokio::test]
async fn what_cannot_be_saved_is_an_error_without_a_cookie() {
    let full = sosa_memory::new("test").with_limit(0).collection("sessions");
    let response = send(&app(full), "/write", None).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!response.headers().contains_key(SET_COOKIE));
    assert_eq!(text(response).await, "Service Unavailable", "nothing claims that it was written");
}

#[tokio::test]
async fn a_route_without_the_layer_says_so() {
    let bare = Router::new().route("/read", get(read));
    assert_eq!(send(&bare, "/read", None).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
#[should_panic(expected = "use Secure::Always, or another name")]
fn contradicting_options_are_refused_when_the_layer_is_made() {
    use sosa_session::{CookieOptions, Secure};
    let cookie = CookieOptions::new().name("__Host-id").secure(Secure::Never);
    let options = SessionOptions::memory().cookie(cookie);
    assert_eq!(SessionLayer::try_new(options.clone()).unwrap_err().kind(), ErrorKind::Options);
    let _ = SessionLayer::new(options);
}
