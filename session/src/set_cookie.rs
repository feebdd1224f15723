//! The cookie's headers: `Set-Cookie` written, `Cookie` read (RFC 6265bis).

use std::borrow::Cow;
use std::fmt;
#[cfg(feature = "express")]
use std::time::SystemTime;

use memchr::memchr_iter;
use zeroize::Zeroize;

/// The `Set-Cookie` header of a response. Its `Debug` does not show the value, which is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SetCookie(String);

impl SetCookie {
    /// The header's name.
    pub const NAME: &'static str = "set-cookie";

    /// Returns the header's value. Do not log it.
    pub fn value(&self) -> &str {
        &self.0
    }
}

/// Leaves no secret in memory that is given back.
impl Drop for SetCookie {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetCookie(..)")
    }
}

/// With which requests a browser sends the cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameSite {
    /// Only those that the own site starts.
    Strict,
    /// Also when the user follows a link from elsewhere.
    #[default]
    Lax,
    /// All. Needs [`Secure::Always`](crate::Secure::Always), and a protection against request forgery of its own.
    None,
    /// The attribute is left out, as Express does it by default; most browsers then take `Lax`.
    Unset,
}

/// Which cookies Chrome drops first where a site has too many. Others ignore it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Priority {
    /// Before others.
    Low,
    /// As without it.
    Medium,
    /// After others.
    High,
}

/// What a cookie carries besides its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes<'a> {
    pub(crate) domain: Option<Cow<'a, str>>,
    pub(crate) path: Option<Cow<'a, str>>,
    pub(crate) http_only: bool,
    pub(crate) secure: bool,
    pub(crate) partitioned: bool,
    pub(crate) priority: Option<Priority>,
    pub(crate) same_site: SameSite,
}

/// How long the client keeps a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Until the browser's own session ends.
    BrowserSession,
    /// For so many seconds.
    MaxAge(u64),
    #[cfg(feature = "express")]
    Expires(SystemTime),
}

/// How many bytes the attributes have at most, but for the values of domain and path.
const MAX_REST: usize =
    "=; Domain=; Path=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; Partitioned; Priority=Medium; \
    SameSite=Strict"
        .len();

impl Attributes<'_> {
    #[cfg(feature = "express")]
    pub(crate) fn into_owned(self) -> Attributes<'static> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        let Self { domain, path, http_only, secure, partitioned, priority, same_site } = self;
        Attributes { domain: owned(domain), path: owned(path), http_only, secure, partitioned, priority, same_site }
    }

    /// Writes the header, with the attributes in the order of Express.
    pub(crate) fn write(&self, name: &str, value: &str, persistence: Persistence) -> SetCookie {
        let Self { domain, path, http_only, secure, partitioned, priority, same_site } = self;
        // At once, since a text that grows leaves a copy of the value behind.
        let of_attributes =
            domain.as_ref().map_or(0, |domain| domain.len()) + path.as_ref().map_or(0, |path| path.len());
        let mut text = String::with_capacity(name.len() + value.len() + of_attributes + MAX_REST);
        text.extend([name, "=", value]);
        if let Some(domain) = domain {
            text.extend(["; Domain=", domain]);
        }
        if let Some(path) = path {
            text.extend(["; Path=", path]);
        }
        match persistence {
            Persistence::BrowserSession => {}
            Persistence::MaxAge(seconds) => text.push_str(&format!("; Max-Age={seconds}")),
            #[cfg(feature = "express")]
            Persistence::Expires(end) => text.extend(["; Expires=", &httpdate::fmt_http_date(end)]),
        }
        for (set, attribute) in [(http_only, "; HttpOnly"), (secure, "; Secure"), (partitioned, "; Partitioned")] {
            text.push_str(if *set { attribute } else { "" });
        }
        text.push_str(match priority {
            None => "",
            Some(Priority::Low) => "; Priority=Low",
            Some(Priority::Medium) => "; Priority=Medium",
            Some(Priority::High) => "; Priority=High",
        });
        text.push_str(match same_site {
            SameSite::Unset => "",
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        SetCookie(text)
    }
}

/// Returns the values of all cookies of this name in a `Cookie` header, in order.
///
/// It takes the header apart at its semicolons and looks at nothing else, so that no other cookie,
/// however broken, hides ours. Space around name and value is dropped, and one pair of double quotes
/// around a value.
pub(crate) fn values<'a>(header: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let ends = memchr_iter(b';', header).chain([header.len()]);
    let pairs = ends.scan(0, |from, end| Some(&header[std::mem::replace(from, end + 1)..end]));
    pairs.filter_map(|pair| {
        let after = pair.trim_ascii_start().strip_prefix(name.as_bytes())?;
        let value = after.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some(unquoted.unwrap_or(value))
    })
}

/// Returns whether a cookie can have this name.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Returns whether a path or the like can stand in a header, and adds nothing to it.
pub(crate) fn is_attribute(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b';')
}

/// Returns whether a cookie can have this domain: a host name. One dot before it is ignored by browsers, and
/// common in old settings.
pub(crate) fn is_domain(text: &str) -> bool {
    let name = text.strip_prefix('.').unwrap_or(text);
    name.len() <= MAX_HOST && name.split('.').all(is_label)
}

/// How many bytes a host name has at most, and a label of it (RFC 1035).
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn domains_are_host_names() {
        let (label, host) = ("a".repeat(63), ["a".repeat(63).as_str(); 4].join("."));
        for domain in ["localhost", "example.test", ".example.test", "A-1.0", "127.0.0.1", "xn--zo-jka.test", &label] {
            assert!(is_domain(domain), "{domain}");
        }
        assert!(is_domain(&host[..253]) && is_domain(&format!(".{}", &host[..253])));
        for domain in [
            "",
            ".",
            "...",
            "-",
            "..example.test",
            "example..test",
            "example.test.",
            "-a.test",
            "a-.test",
            "a_b.test",
            "zoë.test",
            "example.test:443",
            "a b",
            "a/b",
            &format!("{label}a"),
            &host[..254],
        ] {
            assert!(!is_domain(domain), "{domain}");
        }
    }

    #[test]
    fn values_are_found_beside_anything() {
        let find = |header: &[u8]| values(header, "id").map(<[u8]>::to_vec).collect::<Vec<_>>();
        for (header, expected) in [
            (&b"id=v"[..], vec!["v"]),
            (b"a=1; id=v; b=2", vec!["v"]),
            (b"a=\";id=v", vec!["v"]),
            (b"id=\"v\"", vec!["v"]),
            (b"id=\"v", vec!["\"v"]),
            (b"id=\"", vec!["\""]),
            (b"id=", vec![""]),
            (b"id=1; id=2", vec!["1", "2"]),
            (b"id=a=b", vec!["a=b"]),
            (b";;; ;=;\xff\xfe=\x80; \tid=v ;", vec!["v"]),
            (b"id\t= v ", vec!["v"]),
            (b"id=\" v\"", vec![" v"]),
            (b"xid=v; i d=v; ID=v; id", vec![]),
            (b"", vec![]),
        ] {
            assert_eq!(find(header), expected.iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn neighbours_never_hide_ours(
            before in prop::collection::vec(any::<u8>(), 0..200),
            after in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let header = [&before[..], b"; id=ours;", &after].concat();
            prop_assert!(values(&header, "id").any(|value| value == b"ours"));
        }
    }
}
