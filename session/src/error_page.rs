//! Responses to requests that failed for their session.

use std::sync::Arc;

use axum_core::body::Body;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
    LOCATION, RETRY_AFTER, SET_COOKIE, TRANSFER_ENCODING, VARY,
};
use http::{Extensions, Response, StatusCode};

use crate::error::Error;
use crate::response::ResponseHeaders;

/// Makes the application's own page of an error.
pub(crate) type OnError = Arc<dyn Fn(&Error, Response<Body>) -> Response<Body> + Send + Sync>;

/// The headers that are about a body, and go with it.
const OF_A_BODY: [HeaderName; 15] = [
    ACCEPT_RANGES,
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LOCATION,
    RETRY_AFTER,
    TRANSFER_ENCODING,
];

/// Returns the page that an error is answered with unless the application has its own: no word of what failed.
#[cfg(feature = "axum")]
pub(crate) fn plain(error: &Error) -> Response<Body> {
    let mut response = text(error);
    finish(error, &mut response);
    response
}

fn text(error: &Error) -> Response<Body> {
    let status = error.status_code();
    let mut response = Response::new(Body::from(status.canonical_reason().unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Returns the page of an error in the place of a response of which headers and extensions stay.
pub(crate) fn replace(
    error: &Error,
    on_error: Option<&OnError>,
    mut headers: HeaderMap,
    mut extensions: Extensions,
) -> Response<Body> {
    // The headers of the session come last, once.
    let mut page = match on_error {
        Some(on_error) => on_error(error, text(error)),
        None => text(error),
    };
    OF_A_BODY.iter().for_each(|name| drop(headers.remove(name)));
    let of_page = std::mem::take(page.headers_mut());
    for name in of_page.keys().filter(|name| **name != SET_COOKIE) {
        headers.remove(name);
    }
    let mut last = None;
    for (name, value) in of_page {
        last = name.or(last);
        if let Some(name) = &last {
            headers.append(name, value);
        }
    }
    *page.headers_mut() = headers;
    // It is answered; a layer around this one has nothing to do with it.
    extensions.remove::<Error>();
    extensions.extend(std::mem::take(page.extensions_mut()));
    *page.extensions_mut() = extensions;
    finish(error, &mut page);
    page
}

fn finish(error: &Error, response: &mut Response<Body>) {
    if let Some(after) = error.retry_after() {
        response.headers_mut().entry(RETRY_AFTER).or_insert_with(|| after.as_secs().into());
    }
    error.headers().apply(response.headers_mut());
}

impl ResponseHeaders {
    /// Appends them to those of a response; see [`besides`](Self::besides). The cookie is marked sensitive, so that
    /// nobody logs it by accident.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let present = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let (vary, cache_control) = self.for_caches(present);
        for (name, value) in [(VARY, vary), (CACHE_CONTROL, cache_control)] {
            if let Some(value) = value {
                headers.append(name, HeaderValue::from_static(value));
            }
        }
        if let Some(cookie) = self.set_cookie() {
            let mut value = HeaderValue::from_str(cookie.value()).expect("the parts of a cookie were checked");
            value.set_sensitive(true);
            headers.append(SET_COOKIE, value);
        }
    }
}

impl Error {
    /// Returns [`status`](Self::status) as the type of the http crate.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
