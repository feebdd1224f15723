//! The extractor for axum, and errors as responses.

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use tracing::error;

use crate::error::{Error, ErrorKind};
use crate::session::Session;

/// Takes the request's session. Without [`SessionLayer`](crate::SessionLayer) around the route every
/// request is refused with [`ErrorKind::NoLayer`], status 500.
impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let session = parts.extensions.get().cloned();
        session.ok_or_else(|| Error::new(ErrorKind::NoLayer, "there is no SessionLayer around this route"))
    }
}

/// Answers with [`Error::status`] and no word of what failed; that goes to the log.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status_code();
        error!(error = &self as &dyn std::error::Error, "a handler failed for its session");
        (status, status.canonical_reason().unwrap_or_default()).into_response()
    }
}
