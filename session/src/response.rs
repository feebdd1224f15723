//! What a response has to say of its session: the cookie, and that caches must keep visitors apart.

use std::fmt;

use tracing::warn;

use crate::set_cookie::SetCookie;

/// The headers that a response has to carry of its session.
///
/// | the request | `Set-Cookie` | `Vary` | `Cache-Control`, unless the handler has set it |
/// |---|---|---|---|
/// | did not use its session | | | |
/// | used its session | | `Cookie` | `private` |
/// | used its session when a cookie that rolls is due | the cookie | `Cookie` | `no-store` |
/// | began, renewed or ended its session | the cookie | `Cookie` | `no-store` |
/// | failed for its session | of an earlier save | `Cookie` | `no-store` |
///
/// So a shared cache never gives one visitor's page to another, and goes on caching pages that don't depend on a
/// session.
///
/// ```
/// use sosa_session::{RequestHead, SessionOptions, Sessions};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
/// let sessions = Sessions::new(SessionOptions::memory());
/// let session = sessions.open(RequestHead::new([]));
/// assert_eq!(session.get::<String>("user").await?, None);
/// let headers = sessions.close(&session).await?;
/// let added: Vec<_> = headers.besides([("content-type", &b"text/html"[..])]).collect();
/// assert_eq!(added, [("vary", "Cookie"), ("cache-control", "private")]);
/// # Ok(()) }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use = "the response has to carry them"]
pub struct ResponseHeaders {
    cookie: Option<SetCookie>,
    caches: Caches,
}

/// What caches may do with the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Caches {
    /// It does not depend on the session.
    #[default]
    Unrestricted,
    /// Only the visitor's own may keep it.
    Private,
    /// None may keep it.
    NoStore,
}

impl ResponseHeaders {
    pub(crate) fn new(is_used: bool, cookie: Option<SetCookie>) -> Self {
        let caches = match (&cookie, is_used) {
            (Some(_), _) => Caches::NoStore,
            (None, true) => Caches::Private,
            (None, false) => Caches::Unrestricted,
        };
        Self { cookie, caches }
    }

    /// Returns those of an error, which depends on the session, and is no page to keep.
    pub(crate) fn of_error(cookie: Option<SetCookie>) -> Self {
        Self { cookie, caches: Caches::NoStore }
    }

    /// Returns the same for a page of an error.
    #[cfg(feature = "tower")]
    pub(crate) fn on_error_page(self) -> Self {
        Self::of_error(self.cookie)
    }

    /// Returns the cookie to be set, if any.
    pub fn set_cookie(&self) -> Option<&SetCookie> {
        self.cookie.as_ref()
    }

    /// Returns the cookie to be set, if any.
    pub fn into_set_cookie(self) -> Option<SetCookie> {
        self.cookie
    }

    /// Returns the headers that are to be appended to a response that has these. Their values hold a secret: do not log
    /// them.
    ///
    /// A `Cache-Control` of the handler wins. One that is `public` beside a cookie of ours is told by an event, since
    /// it gives the session to every visitor behind a cache.
    pub fn besides<'s, 'h>(
        &'s self,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) -> impl Iterator<Item = (&'static str, &'s str)> {
        let (vary, cache_control) = self.for_caches(headers);
        let cookie = self.cookie.as_ref().map(|cookie| (SetCookie::NAME, cookie.value()));
        [cookie, vary.map(|value| (VARY, value)), cache_control.map(|value| (CACHE_CONTROL, value))]
            .into_iter()
            .flatten()
    }

    /// Returns the values of `Vary` and `Cache-Control`, where a response with these headers is to get them.
    pub(crate) fn for_caches<'h>(
        &self,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) -> (Option<&'static str>, Option<&'static str>) {
        if self.caches == Caches::Unrestricted {
            return (None, None);
        }
        let (mut varies, mut is_controlled, mut is_public) = (false, false, false);
        for (name, value) in headers {
            if name.eq_ignore_ascii_case(VARY) {
                varies |= has_word(value, "cookie") || has_word(value, "*");
            } else if name.eq_ignore_ascii_case(CACHE_CONTROL) {
                is_controlled = true;
                is_public |= has_word(value, "public");
            }
        }
        if is_public && self.cookie.is_some() {
            warn!("a response that sets the session's cookie says that every cache may keep it: Cache-Control: public");
        }
        let control = if self.caches == Caches::NoStore { "no-store" } else { "private" };
        ((!varies).then_some("Cookie"), (!is_controlled).then_some(control))
    }
}

const VARY: &str = "vary";
const CACHE_CONTROL: &str = "cache-control";

/// Returns whether a list of words, each perhaps with an argument, has this one.
fn has_word(list: &[u8], word: &str) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Does not show the cookie.
impl fmt::Debug for ResponseHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHeaders").field("cookie", &self.cookie).field("caches", &self.caches).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::{CookieOptions, Scheme};

    #[test]
    fn the_handlers_own_header_wins() {
        let cookie = CookieOptions::new().give("secret", None, Scheme::Https);
        let (untouched, used) = (ResponseHeaders::new(false, None), ResponseHeaders::new(true, None));
        let (set, failed) = (ResponseHeaders::new(true, Some(cookie)), ResponseHeaders::of_error(None));
        let names = |headers: &ResponseHeaders, own: &[(&str, &str)]| {
            let own = own.iter().map(|(name, value)| (*name, value.as_bytes()));
            headers
                .besides(own)
                .map(|(name, value)| if name == "set-cookie" { name.to_owned() } else { format!("{name}: {value}") })
                .collect::<Vec<_>>()
                .join(", ")
        };
        for (headers, own, added) in [
            (&untouched, &[][..], ""),
            (&untouched, &[("cache-control", "public")], ""),
            (&used, &[], "vary: Cookie, cache-control: private"),
            (&used, &[("Vary", "accept, COOKIE")], "cache-control: private"),
            (&used, &[("vary", "*")], "cache-control: private"),
            (&used, &[("vary", "accept"), ("Cache-Control", "max-age=60")], "vary: Cookie"),
            (&set, &[], "set-cookie, vary: Cookie, cache-control: no-store"),
            (&set, &[("cache-control", "public, max-age=60")], "set-cookie, vary: Cookie"),
            (&failed, &[], "vary: Cookie, cache-control: no-store"),
        ] {
            assert_eq!(names(headers, own), added, "{headers:?} {own:?}");
        }
        assert!(!format!("{set:?}").contains("secret"));
    }
}
