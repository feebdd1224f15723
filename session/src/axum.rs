//! The extractors for axum, and errors as responses.

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use crate::error::{Error, ErrorKind, Result};
use crate::error_page;
use crate::session::Session;

/// Takes the request's session. Without [`SessionLayer`](crate::SessionLayer) around the route every
/// request is refused with [`ErrorKind::NoLayer`], status 500.
impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let session = parts.extensions.get().cloned();
        session.ok_or_else(|| Error::new(ErrorKind::NoLayer, "there is no SessionLayer around this route"))
    }
}

/// Takes the request's session as an `Option`: `None` without a [`SessionLayer`](crate::SessionLayer) around the route,
/// for a handler that serves routes with and without one.
impl<S: Send + Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>> {
        Ok(parts.extensions.get().cloned())
    }
}

/// Answers with [`Error::status`] and no word of what failed; that goes to the log. The application's own page takes its
/// place where [`SessionLayer::on_error`](crate::SessionLayer::on_error) has one.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.log(None::<&str>, None);
        let mut response = error_page::plain(&self);
        response.extensions_mut().insert(self);
        response
    }
}
