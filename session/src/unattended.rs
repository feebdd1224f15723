//! Routes that are no use of the session.

use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;
use tracing::warn;

use crate::once::Once;
use crate::session::Session;

/// Makes the requests of the routes inside it no use of their session, as [`Session::unattended`] does: for what pages ask
/// by themselves, such as polling.
///
/// It goes inside of [`SessionLayer`](crate::SessionLayer), and **around whatever looks the session up**: a middleware
/// outside of it that asks who the user is has used the session before. So lay such a middleware on the same routes,
/// before this in axum's `Router::layer`. That, and a missing session, is told by an event, once.
///
/// ```
/// use axum::{Router, routing::get};
/// use sosa_session::{Session, SessionLayer, SessionOptions, UnattendedLayer};
///
/// async fn unread(session: Session) -> sosa_session::Result<String> {
///     Ok(session.get::<u32>("unread").await?.unwrap_or(0).to_string())
/// }
///
/// # async fn inbox() {}
/// let polled: Router = Router::new().route("/unread", get(unread)).layer(UnattendedLayer::new());
/// let app = Router::new().route("/inbox", get(inbox)).merge(polled).layer(SessionLayer::new(SessionOptions::memory()));
/// # let _: Router = app;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct UnattendedLayer;

impl UnattendedLayer {
    /// Makes the layer.
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for UnattendedLayer {
    type Service = UnattendedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        UnattendedService { inner }
    }
}

/// The service that [`UnattendedLayer`] makes.
#[derive(Clone, Debug)]
pub struct UnattendedService<S> {
    inner: S,
}

static OF_NO_SESSION: Once = Once::new();

impl<S: Service<Request<B>>, B> Service<Request<B>> for UnattendedService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match request.extensions().get::<Session>() {
            // What comes too late is told by an event.
            Some(session) => session.with_outer().for_each(|session| drop(session.unattended())),
            None if OF_NO_SESSION.is_now() => {
                warn!(
                    "an UnattendedLayer has no SessionLayer around it, so that its requests are uses of their sessions"
                );
            }
            None => {}
        }
        self.inner.call(request)
    }
}
