//! The middleware: it wires [`Sessions`] to tower, and decides nothing.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum_core::BoxError;
use axum_core::body::Body;
use bytes::Bytes;
use http::header::{COOKIE, HeaderName};
use http::{Extensions, HeaderMap, Request, Response, Uri};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tracing::warn;

use crate::cookie::Scheme;
use crate::error::{Error, Result};
use crate::error_page::{self, OnError};
use crate::options::{Forwarded, SessionOptions};
use crate::response::ResponseHeaders;
use crate::session::Session;
use crate::sessions::{FETCH_MODE, RequestHead, Sessions};

static SEC_FETCH_MODE: HeaderName = HeaderName::from_static(FETCH_MODE);

/// Gives every request a [`Session`], as an extension, and saves it with the response.
///
/// The session is closed once the inner service has returned its response, whatever the status, and
/// before a byte of it is sent. If that fails, or the store was out when the handler asked for its session, the
/// response is an error of [`Error::status`], without a new session's cookie: the application's own page where there is
/// one, see [`on_error`](Self::on_error).
///
/// # Panics, timeouts, and the order of layers
///
/// A handler that panics or is dropped saves nothing that [`Session::save`] did not, even if a layer inside this one
/// makes a response of the panic. A layer inside this one that gives a handler up after a while and answers for it,
/// such as tower-http's `TimeoutLayer`, cannot be told from a handler that has returned: what that had asked for until
/// then is saved. **Put timeouts outside of this layer**, that is, add them after it with axum's `Router::layer`, and
/// before it in a `ServiceBuilder`. Of a request that is dropped while the session is being closed, the outcome is open.
///
/// Inside another layer of the same [`Sessions`] it does nothing: there is one session for each request. Inside one of
/// other options it opens a session of its own, which is the one that the handler gets; their cookies must have
/// different names.
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
#[derive(Clone)]
#[must_use]
pub struct SessionLayer {
    sessions: Choice,
    peer: FindPeer,
    scheme: FindScheme,
    on_error: Option<OnError>,
}

/// Which sessions a request has.
#[derive(Clone)]
enum Choice {
    One(Sessions),
    ByRequest(Arc<Choose>),
}

type Choose = dyn Fn(&Uri, &HeaderMap) -> Sessions + Send + Sync;

impl Choice {
    fn of<B>(&self, request: &Request<B>) -> Cow<'_, Sessions> {
        match self {
            Self::One(sessions) => Cow::Borrowed(sessions),
            Self::ByRequest(choose) => Cow::Owned(choose(request.uri(), request.headers())),
        }
    }
}

/// Finds out who sent a request from what the server left in its extensions.
type FindPeer = fn(&Extensions) -> Option<IpAddr>;

/// Finds out how it came.
type FindScheme = fn(&Extensions) -> Scheme;

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

    /// Makes a layer that chooses the sessions by the request: such as a cookie domain for each of several hosts. Make the
    /// [`Sessions`] once and choose among them: what they know of waiting requests is their own.
    ///
    /// The `Host` header is the client's word: let an unknown one have the sessions of a host of yours, whose cookie its
    /// browser then refuses.
    ///
    /// ```
    /// use sosa_session::{CookieOptions, SessionLayer, SessionOptions, Sessions};
    ///
    /// # fn example(collection: impl sosa_session::sosa::Collection<sosa_session::SessionData> + 'static) {
    /// let options = SessionOptions::new(collection);
    /// let of = |domain: &str| Sessions::new(options.clone().cookie(CookieOptions::new().domain(domain)));
    /// let (example, other) = (of("example.test"), of("other.test"));
    /// let layer = SessionLayer::by_request(move |uri, headers| {
    ///     let host = headers.get("host").and_then(|host| host.to_str().ok()).or(uri.host()).unwrap_or_default();
    ///     let is_other = host.split(':').next().is_some_and(|host| host == "other.test" || host.ends_with(".other.test"));
    ///     if is_other { other.clone() } else { example.clone() }
    /// });
    /// # }
    /// ```
    pub fn by_request(choose: impl Fn(&Uri, &HeaderMap) -> Sessions + Send + Sync + 'static) -> Self {
        Self::of(Choice::ByRequest(Arc::new(choose)))
    }

    fn of(sessions: Choice) -> Self {
        Self { sessions, peer: |_| None, scheme: |_| Scheme::Unknown, on_error: None }
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

    /// Says how to find out whether a request came over https, where the server itself knows: by an extension that the
    /// one who accepted the connection has left. What a trusted proxy says counts more.
    ///
    /// ```
    /// use sosa_session::{Scheme, SessionLayer, SessionOptions};
    ///
    /// #[derive(Clone)]
    /// struct OverTls(bool);
    ///
    /// let layer = SessionLayer::new(SessionOptions::memory()).scheme(|extensions| match extensions.get() {
    ///     Some(OverTls(true)) => Scheme::Https,
    ///     Some(OverTls(false)) => Scheme::Http,
    ///     None => Scheme::Unknown,
    /// });
    /// ```
    pub fn scheme(mut self, scheme: fn(&Extensions) -> Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// Makes the application's own page of an error: of a session that could not be loaded or saved, and of an
    /// [`Error`] that a handler returns. By default it is one line of text.
    ///
    /// The function gets that as a response, and returns it changed, or another. Headers that other layers have set
    /// stay unless the page has them, but for those that are about a body; and so do the headers of the session, and
    /// `Retry-After` of a 503.
    ///
    /// ```
    /// use axum::response::{Html, IntoResponse};
    /// use sosa_session::{SessionLayer, SessionOptions};
    ///
    /// let layer = SessionLayer::new(SessionOptions::memory()).on_error(|error, response| match error.status() {
    ///     503 => (error.status_code(), Html("<h1>We are back in a minute</h1>")).into_response(),
    ///     _ => response,
    /// });
    /// ```
    pub fn on_error(mut self, page: impl Fn(&Error, Response<Body>) -> Response<Body> + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(page));
        self
    }

    fn open<B>(&self, sessions: &Sessions, request: &Request<B>, outer: Option<Session>) -> Session {
        let (headers, extensions) = (request.headers(), request.extensions());
        let mut cookies = headers.get_all(COOKIE).iter().map(|value| (COOKIE.as_str(), value.as_bytes())).peekable();
        let of_proxy = if sessions.trusts_any_proxy() { &Forwarded::HEADERS[..] } else { &[] };
        let of_proxy = of_proxy.iter().flat_map(|name| headers.get_all(*name).iter().map(|it| (*name, it.as_bytes())));
        // It only tells what becomes of a cookie.
        let mode = if cookies.peek().is_some() { headers.get(&SEC_FETCH_MODE) } else { None };
        let mode = mode.map(|value| (FETCH_MODE, value.as_bytes()));
        let head = RequestHead::new(cookies.chain(mode).chain(of_proxy));
        let head = head.peer((self.peer)(extensions)).scheme((self.scheme)(extensions));
        sessions.open_within(head, outer)
    }
}

/// Returns whether one of the sessions that layers around a layer have opened is of its sessions.
fn is_open(sessions: &Sessions, outer: &Session) -> bool {
    let engine = sessions.engine();
    let is_same = outer.with_outer().any(|outer| outer.is_of(engine));
    let has_name = |outer: &Session| outer.cookie_name() == sessions.cookie_name();
    if !is_same && outer.with_outer().any(has_name) && engine.told().of_layers.is_now() {
        warn!(
            cookie = sessions.cookie_name(),
            "a SessionLayer is inside another of other options, and their cookies have one name: a browser keeps one of \
             them"
        );
    }
    is_same
}

impl From<Sessions> for SessionLayer {
    fn from(sessions: Sessions) -> Self {
        Self::of(Choice::One(sessions))
    }
}

impl fmt::Debug for SessionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut layer = f.debug_struct("SessionLayer");
        if let Choice::One(sessions) = &self.sessions {
            layer.field("sessions", sessions);
        }
        layer.finish_non_exhaustive()
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    // Of one type whatever the body inside, so that there can be a page in its place; for axum's own it is just that.
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = SessionFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let sessions = self.layer.sessions.of(&request);
        let session = match request.extensions().get() {
            Some(outer) if is_open(&sessions, outer) => None,
            outer => Some(self.layer.open(&sessions, &request, outer.cloned())),
        };
        if let Some(session) = &session {
            request.extensions_mut().insert(session.clone());
        }
        let on_error = self.layer.on_error.clone();
        SessionFuture { inner: self.inner.call(request), session, on_error, response: None, closing: None }
    }
}

pin_project! {
    /// The future of [`SessionService`]: the inner service's response, and then the end of the session.
    pub struct SessionFuture<F> {
        #[pin]
        inner: F,
        // None where a layer around this one has opened it.
        session: Option<Session>,
        on_error: Option<OnError>,
        // Both while the session is closed, which takes calls of the store.
        response: Option<Response<Body>>,
        closing: Option<Pin<Box<dyn Future<Output = Result<ResponseHeaders>> + Send>>>,
    }
}

impl<F, B, E> Future for SessionFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let closing = match this.closing {
            Some(closing) => closing,
            None => {
                let response = ready!(this.inner.poll(context))?.map(Body::new);
                let Some(session) = this.session else { return Poll::Ready(Ok(response)) };
                // Most requests leave nothing to do, and nothing to wait for.
                if let Some(headers) = session.close_at_once() {
                    return Poll::Ready(Ok(answer(response, Ok(headers), this.on_error.as_ref())));
                }
                *this.response = Some(response);
                let session = session.clone();
                this.closing.insert(Box::pin(async move { session.close().await }))
            }
        };
        let closed = ready!(closing.as_mut().poll(context));
        let response = this.response.take().expect("a future is not polled again once it is ready");
        Poll::Ready(Ok(answer(response, closed, this.on_error.as_ref())))
    }
}

impl<F> fmt::Debug for SessionFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}

/// Returns the response of a handler with what its session adds, or the page of an error.
fn answer(mut response: Response<Body>, closed: Result<ResponseHeaders>, on_error: Option<&OnError>) -> Response<Body> {
    // What a handler has returned as an error is in the response.
    let returned = response.extensions().get::<Error>();
    let (error, page) = match (closed, returned) {
        // The application's own page takes the place of the one that was made of the error.
        (Ok(headers), Some(returned)) if on_error.is_some() => {
            (returned.clone().with_headers(headers.on_error_page()), on_error)
        }
        (Ok(headers), _) => {
            headers.apply(response.headers_mut());
            return response;
        }
        // The handler was told, and has answered so.
        (Err(error), None) if error.is_told() && response.status().is_server_error() => {
            error.headers().apply(response.headers_mut());
            return response;
        }
        (Err(error), returned) => {
            // The handler was told, and says nothing of it.
            if error.is_told() && returned.is_none() {
                error.log(None::<&str>, None);
            }
            (error, on_error)
        }
    };
    let (parts, _) = response.into_parts();
    error_page::replace(&error, page, parts.headers, parts.extensions)
}
