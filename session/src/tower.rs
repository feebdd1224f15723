//! The middleware: it wires [`Sessions`] to tower, and decides nothing.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{COOKIE, HeaderName, HeaderValue, SET_COOKIE};
use http::{Extensions, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{Error, Result};
use crate::options::SessionOptions;
use crate::session::Session;
use crate::sessions::{RequestHead, Sessions};
use crate::set_cookie::SetCookie;

static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Gives every request a [`Session`], as an extension, and saves it with the response.
///
/// The session is closed once the inner service has returned its response, whatever the status, and
/// before a byte of it is sent. If that fails, the response is replaced by an empty one of status
/// 503 (the store is unavailable, late or full) or 500, without a new session's cookie. A handler
/// that panics or is dropped saves nothing that [`Session::save`] did not; of a request that is
/// dropped while the session is being closed, the outcome is open.
///
/// ```
/// use axum::{Router, routing::get};
/// use sosa_session::{Session, SessionLayer, SessionOptions};
///
/// async fn views(session: Session) -> sosa_session::Result<String> {
///     let views = session.update("views", |views: Option<u64>| views.unwrap_or(0) + 1).await?;
///     Ok(format!("{views} views"))
/// }
///
/// let app: Router = Router::new().route("/", get(views)).layer(SessionLayer::new(SessionOptions::memory()));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SessionLayer {
    sessions: Sessions,
    peer: FindPeer,
}

/// Finds out who sent a request from what the server left in its extensions.
type FindPeer = fn(&Extensions) -> Option<IpAddr>;

impl SessionLayer {
    /// Makes the layer, from options or from a collection alone.
    ///
    /// # Panics
    ///
    /// If the options contradict each other. [`try_new`](Self::try_new) returns that as an error.
    pub fn new(options: impl Into<SessionOptions>) -> Self {
        Sessions::new(options).into()
    }

    /// Makes the layer, from options or from a collection alone.
    ///
    /// # Errors
    ///
    /// As [`Sessions::try_new`].
    pub fn try_new(options: impl Into<SessionOptions>) -> Result<Self> {
        Sessions::try_new(options).map(Self::from)
    }

    /// Says how to find out who sent a request, for a [`TrustProxy`](crate::TrustProxy) that depends on it.
    /// With axum's `into_make_service_with_connect_info::<SocketAddr>()`:
    ///
    /// ```
    /// use axum::extract::ConnectInfo;
    /// use sosa_session::{SessionLayer, SessionOptions, TrustProxy};
    /// use std::net::SocketAddr;
    ///
    /// let layer = SessionLayer::new(SessionOptions::memory().trust_proxy(TrustProxy::loopback()))
    ///     .peer(|extensions| extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip()));
    /// ```
    pub fn peer(mut self, peer: fn(&Extensions) -> Option<IpAddr>) -> Self {
        self.peer = peer;
        self
    }
}

impl From<Sessions> for SessionLayer {
    fn from(sessions: Sessions) -> Self {
        Self { sessions, peer: |_| None }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService { layer: self.clone(), inner }
    }
}

/// The service that [`SessionLayer`] makes.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    layer: SessionLayer,
    inner: S,
}

impl<S> SessionService<S> {
    fn open<B>(&self, request: &Request<B>) -> Session {
        let headers = request.headers();
        let cookies = headers.get_all(COOKIE).iter().map(|value| (COOKIE.as_str(), value.as_bytes()));
        let proto = headers.get(&X_FORWARDED_PROTO).map(|value| (X_FORWARDED_PROTO.as_str(), value.as_bytes()));
        let peer = (self.layer.peer)(request.extensions());
        self.layer.sessions.open(RequestHead::new(cookies.chain(proto)).peer(peer))
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = SessionFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let session = self.open(&request);
        request.extensions_mut().insert(session.clone());
        SessionFuture { inner: self.inner.call(request), session, response: None, closing: None }
    }
}

pin_project! {
    /// The future of [`SessionService`]: the inner service's response, and then the end of the session.
    pub struct SessionFuture<F, B> {
        #[pin]
        inner: F,
        session: Session,
        // Both while the session is closed, which takes calls of the store.
        response: Option<Response<B>>,
        closing: Option<Pin<Box<dyn Future<Output = Result<Option<SetCookie>>> + Send>>>,
    }
}

impl<F, B, E> Future for SessionFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let closing = match this.closing {
            Some(closing) => closing,
            None => {
                let response = ready!(this.inner.poll(context))?;
                // Most requests leave nothing to do, and nothing to wait for.
                if let Some(cookie) = this.session.close_at_once() {
                    return Poll::Ready(Ok(with_cookie(response, cookie)));
                }
                *this.response = Some(response);
                let session = this.session.clone();
                this.closing.insert(Box::pin(async move { session.close().await }))
            }
        };
        let closed = ready!(closing.as_mut().poll(context));
        let response = this.response.take().expect("a future is not polled again once it is ready");
        Poll::Ready(Ok(match closed {
            Ok(cookie) => with_cookie(response, cookie),
            Err(error) => {
                let mut response = Response::default();
                *response.status_mut() = error.status_code();
                with_cookie(response, error.set_cookie().cloned())
            }
        }))
    }
}

impl<F, B> fmt::Debug for SessionFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}

fn with_cookie<B>(mut response: Response<B>, cookie: Option<SetCookie>) -> Response<B> {
    if let Some(cookie) = cookie {
        // Marked, so that nobody logs it by accident.
        let mut value = HeaderValue::from_str(cookie.value()).expect("the parts of a cookie were checked");
        value.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}

impl Error {
    /// Returns [`status`](Self::status) as the type of the http crate.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
