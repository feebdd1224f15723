//! The extractor for axum, and errors as responses.

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use tracing::error;

use crate::error::Error;
use crate::session::Session;

/// Takes the request's session. Without [`SessionLayer`](crate::SessionLayer) around the route every
/// request is refused with 500.
impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get().cloned().ok_or_else(|| {
            error!("a handler asks for its session, but there is no SessionLayer around its route");
            (StatusCode::INTERNAL_SERVER_ERROR, "no sessions here")
        })
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
