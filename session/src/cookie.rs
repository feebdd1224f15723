//! What an application says of its cookie, and which of that browsers accept (RFC 6265bis).

use std::borrow::Cow;
use std::time::Duration;

use sosa::MAX_ID_LEN;

use crate::error::{Error, ErrorKind, Result};
use crate::set_cookie::{Attributes, Persistence, Priority, SameSite, SetCookie, is_attribute, is_domain, is_token};

/// Where the cookie goes, and under which name.
///
/// | attribute | default | |
/// |---|---|---|
/// | name | `__Host-id`; `id` where `Secure` is not always on | see [`name`](Self::name) |
/// | `Secure` | [`Secure::Always`] | over plain http, `localhost` is secure enough for Chrome and Firefox, and not for Safari |
/// | `HttpOnly` | on | off lets every script of the page steal the session |
/// | `SameSite` | [`SameSite::Lax`] | `None` sends it with requests that other sites start |
/// | `Path` | `/` | |
/// | `Domain` | none | a domain sends it to all subdomains |
/// | `Partitioned` | off | |
/// | `Priority` | none | |
///
/// ```
/// use sosa_session::{CookieOptions, Secure};
///
/// let cookie = CookieOptions::new().name("sid").secure(Secure::Never);
/// assert!(cookie.validate().is_ok());
/// let error = CookieOptions::new().name("__Host-sid").secure(Secure::Never).validate().unwrap_err();
/// assert_eq!(error.to_string(), "browsers drop a `__Host-` cookie without Secure: use Secure::Always, or another name");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CookieOptions {
    name: Option<String>,
    path: String,
    domain: Option<String>,
    secure: Secure,
    http_only: bool,
    same_site: SameSite,
    partitioned: bool,
    priority: Option<Priority>,
}

/// Whether the cookie is for https alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Secure {
    /// It is. Over a connection that is known to be plain http nothing is saved and no cookie sent.
    #[default]
    Always,
    /// It is if the request is known to have come over https.
    Auto,
    /// It is not: whoever listens to the network can take the session.
    Never,
}

/// How many bytes a cookie's name and value have at most: browsers drop one that has more (RFC 6265bis).
const MAX_PAIR: usize = 4096;

/// The longest value: `s:<id>.<signature>`, percent-encoded. An id that Express made may be any text of as many
/// bytes as a collection takes, and each of them may take three, as may those of a signature.
const MAX_VALUE: usize = "s%3A.".len() + 3 * (MAX_ID_LEN + 43);

/// The longest name, which fits beside any value.
const MAX_NAME: usize = MAX_PAIR - MAX_VALUE;

/// How many bytes an attribute's value has at most: browsers ignore one that has more (RFC 6265bis).
const MAX_ATTRIBUTE: usize = 1024;

/// How a request came: what decides whether a `Secure` cookie may answer it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Unknown. Secure cookies are sent, because behind a proxy that terminates TLS every request looks like this.
    #[default]
    Unknown,
    /// Known to be plain http.
    Http,
    /// Known to be https.
    Https,
}

impl CookieOptions {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self {
            name: None,
            path: "/".to_owned(),
            domain: None,
            secure: Secure::default(),
            http_only: true,
            same_site: SameSite::default(),
            partitioned: false,
            priority: None,
        }
    }

    /// Returns the defaults of Express: the name `connect.sid`, and no `Secure` and no `SameSite`.
    #[cfg(feature = "express")]
    pub fn express() -> Self {
        Self { name: Some("connect.sid".to_owned()), secure: Secure::Never, same_site: SameSite::Unset, ..Self::new() }
    }

    /// Sets the name, of at most 890 bytes. One that starts with `__Host-` binds the cookie to this very
    /// host: no other subdomain can set it, and no plain http.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the path below which the cookie is sent, of at most 1,024 bytes.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sends the cookie to this domain and all its subdomains; each of them can then take the
    /// session, and overwrite the cookie.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Sets whether the cookie is for https alone.
    #[must_use]
    pub fn secure(mut self, secure: Secure) -> Self {
        self.secure = secure;
        self
    }

    /// Sets whether the cookie is hidden from scripts.
    #[must_use]
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.http_only = http_only;
        self
    }

    /// Sets with which requests a browser sends the cookie.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Keeps the cookie apart for each site that embeds this one (CHIPS). Needs
    /// [`Secure::Always`].
    #[must_use]
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.partitioned = partitioned;
        self
    }

    /// Sets which cookies Chrome drops first where it has too many; nothing by default.
    #[must_use]
    pub fn priority(mut self, priority: impl Into<Option<Priority>>) -> Self {
        self.priority = priority.into();
        self
    }

    /// Checks that browsers accept the cookie.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`] with the contradiction and how to mend it.
    pub fn validate(&self) -> Result<()> {
        let name = self.effective_name();
        let always = self.secure == Secure::Always;
        let is_http = has_prefix(name, "__Http-");
        let rules = [
            (!is_token(name), "a cookie's name is one or more letters, digits or one of !#$%&'*+-.^_`|~"),
            (
                name.len() > MAX_NAME,
                "browsers drop a cookie whose name and value have more than 4,096 bytes, and a value may have 3,206: \
                 use a name of at most 890 bytes",
            ),
            (
                !is_attribute(&self.path) || !self.path.starts_with('/'),
                "a cookie's path starts with / and has no ; or control character",
            ),
            (
                self.path.len() > MAX_ATTRIBUTE,
                "browsers ignore a cookie's path of more than 1,024 bytes: use a shorter one, that of a folder above",
            ),
            (
                self.domain.as_deref().is_some_and(|domain| !is_domain(domain)),
                "a cookie's domain is a host name, without scheme, port or path: labels of 1 to 63 letters, digits and \
                 inner hyphens with a dot between them, 253 bytes at most",
            ),
            (
                has_prefix(name, "__Host-") && !always,
                "browsers drop a `__Host-` cookie without Secure: use Secure::Always, or another name",
            ),
            (
                has_prefix(name, "__Host-") && self.domain.is_some(),
                "browsers drop a `__Host-` cookie with a domain: leave the domain out, or use another name",
            ),
            (
                has_prefix(name, "__Host-") && self.path != "/",
                "browsers drop a `__Host-` cookie with another path than /: use another name",
            ),
            (
                has_prefix(name, "__Secure-") && !always,
                "browsers drop a `__Secure-` cookie without Secure: use Secure::Always, or another name",
            ),
            (
                is_http && !always,
                "browsers drop a `__Http-` cookie without Secure: use Secure::Always, or another name",
            ),
            (
                (is_http || has_prefix(name, "__Host-Http-")) && !self.http_only,
                "browsers drop a `__Http-` or `__Host-Http-` cookie without HttpOnly: use http_only(true), or another name",
            ),
            (
                self.same_site == SameSite::None && !always,
                "browsers drop a SameSite=None cookie without Secure: use Secure::Always, or SameSite::Lax",
            ),
            (
                self.partitioned && !always,
                "browsers drop a Partitioned cookie without Secure: use Secure::Always, or partitioned(false)",
            ),
        ];
        match rules.into_iter().find(|(broken, _)| *broken) {
            Some((_, message)) => Err(Error::new(ErrorKind::Options, message)),
            None => Ok(()),
        }
    }

    /// Returns the name that is used, the default one included.
    pub fn effective_name(&self) -> &str {
        match &self.name {
            Some(name) => name,
            None if self.secure != Secure::Always => "id",
            None if self.domain.is_some() || self.path != "/" => "__Secure-id",
            None => "__Host-id",
        }
    }

    /// Returns whether a record of Express says whether its cookie is secure, which the default leaves out there.
    #[cfg(feature = "express")]
    pub(crate) fn says_secure(&self) -> bool {
        self.secure != Secure::Never
    }

    /// Returns whether it depends on the scheme of the request whether the cookie is secure.
    pub(crate) fn needs_scheme(&self) -> bool {
        self.secure == Secure::Auto
    }

    /// Returns whether a cookie may answer a request of this scheme.
    pub(crate) fn is_allowed(&self, scheme: Scheme) -> bool {
        self.secure != Secure::Always || scheme != Scheme::Http
    }

    /// Writes the cookie that gives the client this value.
    pub(crate) fn give(&self, value: &str, max_age: Option<Duration>, scheme: Scheme) -> SetCookie {
        let persistence = max_age.map_or(Persistence::BrowserSession, |age| Persistence::MaxAge(age.as_secs()));
        self.attributes(scheme).write(self.effective_name(), value, persistence)
    }

    /// Writes the cookie that makes the client forget it.
    pub(crate) fn remove(&self, scheme: Scheme) -> SetCookie {
        self.attributes(scheme).write(self.effective_name(), "", Persistence::MaxAge(0))
    }

    /// Returns what a cookie carries that answers a request of this scheme.
    pub(crate) fn attributes(&self, scheme: Scheme) -> Attributes<'_> {
        Attributes {
            domain: self.domain.as_deref().map(Cow::Borrowed),
            path: Some(Cow::Borrowed(&self.path)),
            http_only: self.http_only,
            secure: match self.secure {
                Secure::Always => true,
                Secure::Auto => scheme == Scheme::Https,
                Secure::Never => false,
            },
            partitioned: self.partitioned,
            priority: self.priority,
            same_site: self.same_site,
        }
    }
}

impl Default for CookieOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Browsers compare the prefixes without regard to case.
fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes() {
        let cookie = CookieOptions::new();
        let day = Some(Duration::from_secs(86_400));
        assert_eq!(
            cookie.give("v", None, Scheme::Unknown).value(),
            "__Host-id=v; Path=/; HttpOnly; Secure; SameSite=Lax"
        );
        assert_eq!(
            cookie.remove(Scheme::Https).value(),
            "__Host-id=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax"
        );
        let auto = cookie.clone().secure(Secure::Auto).http_only(false).same_site(SameSite::Strict);
        assert_eq!(auto.give("v", day, Scheme::Unknown).value(), "id=v; Path=/; Max-Age=86400; SameSite=Strict");
        assert_eq!(auto.give("v", None, Scheme::Https).value(), "id=v; Path=/; Secure; SameSite=Strict");
        let wide = cookie.domain("example.test").path("/app").same_site(SameSite::None).partitioned(true);
        assert_eq!(
            wide.give("v", None, Scheme::Https).value(),
            "__Secure-id=v; Domain=example.test; Path=/app; HttpOnly; Secure; Partitioned; SameSite=None"
        );
        let bare = CookieOptions::new().secure(Secure::Never).same_site(SameSite::Unset).priority(Priority::High);
        assert_eq!(bare.give("v", None, Scheme::Https).value(), "id=v; Path=/; HttpOnly; Priority=High");
        for cookie in [auto, wide, bare] {
            cookie.validate().unwrap();
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let new = CookieOptions::new;
        for (cookie, word) in [
            (new().name(""), "name"),
            (new().name("a b"), "name"),
            (new().name("ü"), "name"),
            (new().path("app"), "path"),
            (new().path("/; Secure"), "path"),
            (new().name("n".repeat(891)), "890 bytes"),
            (new().path(format!("/{}", "p".repeat(1024))), "1,024 bytes"),
            (new().domain("https://example.test"), "domain"),
            (new().domain(""), "domain"),
            (new().domain("..."), "labels"),
            (new().domain("-"), "inner hyphens"),
            (new().name("__host-x").secure(Secure::Auto), "Secure::Always"),
            (new().name("__Host-x").domain("example.test"), "leave the domain out"),
            (new().name("__Host-x").path("/app"), "another path"),
            (new().name("__Secure-x").secure(Secure::Never), "Secure::Always"),
            (new().name("__Http-x").secure(Secure::Auto), "Secure::Always"),
            (new().name("__http-x").http_only(false), "http_only(true)"),
            (new().name("__Host-Http-x").secure(Secure::Never), "Secure::Always"),
            (new().name("__HOST-HTTP-x").http_only(false), "http_only(true)"),
            (new().name("__Host-Http-x").domain("example.test"), "leave the domain out"),
            (new().name("__Host-Http-x").path("/app"), "another path"),
            (new().same_site(SameSite::None).secure(Secure::Auto), "SameSite::Lax"),
            (new().partitioned(true).secure(Secure::Never), "partitioned(false)"),
        ] {
            let error = cookie.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Options);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn what_browsers_keep_is_allowed() {
        for cookie in [
            CookieOptions::new().name("n".repeat(890)).path(format!("/{}", "p".repeat(1023))),
            CookieOptions::new().name("__Http-x").domain(".example.test").path("/app"),
            CookieOptions::new().name("__Host-Http-x"),
            CookieOptions::new().name("__Host-x").http_only(false),
        ] {
            cookie.validate().unwrap();
        }
    }

    #[cfg(feature = "signed")]
    #[test]
    fn the_longest_value_fits_beside_the_longest_name() {
        use crate::signing::{SigningKey, SigningKeys};

        let keys: SigningKeys = [SigningKey::from("keyboard cat")].into_iter().collect();
        let value = keys.sign(&"é".repeat(MAX_ID_LEN / 2));
        // Of the signature the letters and digits take one byte, and not three.
        assert!((MAX_VALUE - 2 * 43..=MAX_VALUE).contains(&value.len()), "{}", value.len());
        assert_eq!((MAX_NAME, MAX_NAME + MAX_VALUE), (890, 4096));
    }

    #[test]
    fn only_known_plain_http_is_not_allowed() {
        for (secure, scheme, allowed) in [
            (Secure::Always, Scheme::Http, false),
            (Secure::Always, Scheme::Unknown, true),
            (Secure::Always, Scheme::Https, true),
            (Secure::Auto, Scheme::Http, true),
            (Secure::Never, Scheme::Http, true),
        ] {
            assert_eq!(CookieOptions::new().secure(secure).is_allowed(scheme), allowed);
        }
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", CookieOptions::new().give("secret", None, Scheme::Http)), "SetCookie(..)");
    }
}
