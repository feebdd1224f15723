//! The member `cookie` of a record of Express: how it is read, and written. What it holds governs the session:
//! `originalMaxAge` how long it lives after each use, in milliseconds, or null for the store's default; the rest, how
//! its cookie is sent. `expires` is what the last save made of it, and nobody reads it.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::json;
use crate::set_cookie::{Attributes, Persistence, Priority, SameSite, is_attribute, is_domain};

/// The most milliseconds that a date of JavaScript counts.
const LAST_DATE: f64 = 8.64e15;

/// The last millisecond of the year 9999, behind which dates are written in another way.
const LAST_MILLIS: u64 = 253_402_300_799_999;

/// The member `cookie` of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordCookie {
    /// In milliseconds; none for a cookie that ends with the browser's session.
    pub(super) max_age: Option<u64>,
    pub(super) attributes: Attributes<'static>,
}

impl RecordCookie {
    /// Reads the member. What is not there is as in a new cookie of Express, and what no cookie
    /// can have is left out: Express notices only when it sends it, and breaks off its answer.
    pub(super) fn read(text: &[u8]) -> Result<Self> {
        #[cfg(test)]
        READ.set(READ.get() + 1);
        let mut cookie = Self {
            max_age: None,
            attributes: Attributes {
                domain: None,
                path: Some(Cow::Borrowed("/")),
                http_only: true,
                secure: false,
                partitioned: false,
                priority: None,
                same_site: SameSite::Unset,
            },
        };
        let attributes = &mut cookie.attributes;
        for span in json::members(text).unwrap_or_default() {
            let value = json::slice(text, span.value);
            let kept = |is_allowed: fn(&str) -> bool| {
                string(value).filter(|text| is_allowed(text)).map(|text| Cow::Owned(text.into_owned()))
            };
            match json::slice(text, span.key) {
                b"originalMaxAge" => {
                    cookie.max_age = max_age(value).ok_or_else(|| {
                        Error::no_session("its cookie's `originalMaxAge` is neither null, false nor a positive integer")
                    })?;
                }
                b"domain" => attributes.domain = kept(is_domain),
                b"path" => attributes.path = kept(is_attribute),
                b"httpOnly" => attributes.http_only = is_truthy(value),
                b"secure" => attributes.secure = is_truthy(value),
                b"partitioned" => attributes.partitioned = is_truthy(value),
                b"priority" => {
                    let named = PRIORITIES.iter().find(|(_, name)| is(value, name));
                    attributes.priority = named.map(|(it, _)| *it);
                }
                b"sameSite" if value == b"true" => attributes.same_site = SameSite::Strict,
                b"sameSite" => {
                    let named = SAME_SITES.iter().find(|(_, name)| is(value, name));
                    attributes.same_site = named.map_or(SameSite::Unset, |(it, _)| *it);
                }
                _ => {}
            }
        }
        Ok(cookie)
    }

    /// Writes the member of a session of which nothing is stored yet.
    pub(super) fn write(&self, says_secure: bool, now_millis: u64) -> String {
        let Attributes { domain, path, http_only, secure, partitioned, priority, same_site } = &self.attributes;
        let quoted = |text: &str| format!("\"{}\"", json::escape(text));
        let name_of = |named: Option<&str>| named.map(quoted);
        let members = [
            ("originalMaxAge", Some(self.max_age.map_or_else(|| "null".to_owned(), |millis| millis.to_string()))),
            ("partitioned", partitioned.then(|| "true".to_owned())),
            ("priority", name_of(PRIORITIES.iter().find(|(it, _)| Some(*it) == *priority).map(|(_, name)| *name))),
            ("expires", Some(expires(self.max_age, now_millis))),
            ("secure", says_secure.then(|| secure.to_string())),
            ("httpOnly", Some(http_only.to_string())),
            ("domain", domain.as_deref().map(quoted)),
            ("path", path.as_deref().map(quoted)),
            ("sameSite", name_of(SAME_SITES.iter().find(|(it, _)| it == same_site).map(|(_, name)| *name))),
        ];
        let members: Vec<_> =
            members.into_iter().filter_map(|(key, value)| Some(format!("\"{key}\":{}", value?))).collect();
        format!("{{{}}}", members.join(","))
    }

    /// Returns how long the client keeps a cookie that is sent now.
    pub(super) fn persistence(&self, now_millis: u64) -> Persistence {
        self.max_age.map_or(Persistence::BrowserSession, |millis| Persistence::Expires(end(now_millis, millis)))
    }
}

#[cfg(test)]
thread_local! {
    /// How many were read.
    pub(super) static READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Reads `originalMaxAge`: null, or a positive integer; or false, which `cookie.expires = false` makes it, and which is to
/// Express as null is.
fn max_age(value: &[u8]) -> Option<Option<u64>> {
    if matches!(value, b"null" | b"false") {
        return Some(None);
    }
    let millis: f64 = serde_json::from_slice(value).ok()?;
    (millis.fract() == 0.0 && (1.0..=LAST_DATE).contains(&millis)).then_some(Some(millis as u64))
}

const PRIORITIES: [(Priority, &str); 3] =
    [(Priority::Low, "low"), (Priority::Medium, "medium"), (Priority::High, "high")];

const SAME_SITES: [(SameSite, &str); 3] =
    [(SameSite::Strict, "strict"), (SameSite::Lax, "lax"), (SameSite::None, "none")];

/// Returns the text of a string that is not empty.
fn string(value: &[u8]) -> Option<Cow<'_, str>> {
    let text = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    json::unescape(text).filter(|text| !text.is_empty())
}

fn is(value: &[u8], name: &str) -> bool {
    string(value).is_some_and(|text| text.eq_ignore_ascii_case(name))
}

/// Returns whether JavaScript takes it for true.
fn is_truthy(value: &[u8]) -> bool {
    !matches!(value, b"false" | b"null" | b"0" | b"\"\"")
}

fn end(now_millis: u64, after: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(now_millis.saturating_add(after).min(LAST_MILLIS))
}

/// Writes the member as it is saved now; all but what changes keeps its bytes. `change` says whether this
/// `originalMaxAge` is another than before.
pub(super) fn renewed(cookie: &[u8], max_age: Option<u64>, change: bool, now_millis: u64) -> Vec<u8> {
    let mut cookie = cookie.to_vec();
    if change {
        let millis = max_age.map_or_else(|| "null".to_owned(), |millis| millis.to_string());
        cookie = put(&cookie, "originalMaxAge", &millis, &[]);
    }
    let has_date = || {
        let spans = json::members(&cookie).unwrap_or_default();
        let expires = spans.iter().rfind(|span| json::slice(&cookie, span.key) == b"expires");
        expires.is_some_and(|span| json::slice(&cookie, span.value) != b"false")
    };
    if max_age.is_some() || has_date() {
        let before = ["originalMaxAge", "partitioned", "priority"];
        cookie = put(&cookie, "expires", &expires(max_age, now_millis), &before);
    }
    cookie
}

fn expires(max_age: Option<u64>, now_millis: u64) -> String {
    match max_age {
        Some(millis) => format!("\"{}\"", humantime::format_rfc3339_millis(end(now_millis, millis))),
        None => "null".to_owned(),
    }
}

/// Replaces a member of an object, or inserts it behind the last of those that come before.
fn put(object: &[u8], key: &str, value: &str, before: &[&str]) -> Vec<u8> {
    let spans = json::members(object).unwrap_or_default();
    let is = |span: &&json::Span, name: &str| json::slice(object, span.key) == name.as_bytes();
    let splice =
        |from: u32, to: u32, new: &str| [&object[..from as usize], new.as_bytes(), &object[to as usize..]].concat();
    if let Some(span) = spans.iter().rfind(|span| is(span, key)) {
        return splice(span.value.0, span.value.1, value);
    }
    if let Some(span) = spans.iter().rfind(|span| before.iter().any(|name| is(span, name))) {
        return splice(span.value.1, span.value.1, &format!(",\"{key}\":{value}"));
    }
    let comma = if spans.is_empty() { "" } else { "," };
    // Behind the brace: nothing but space can be before it.
    let first = object.iter().position(|byte| *byte == b'{').map_or(0, |at| at as u32 + 1);
    splice(first, first, &format!("\"{key}\":{value}{comma}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::{CookieOptions, Scheme, Secure};

    const NOW: u64 = 1_795_392_000_123;

    fn read(cookie: &str) -> RecordCookie {
        RecordCookie::read(cookie.as_bytes()).unwrap()
    }

    fn sent(cookie: &RecordCookie) -> String {
        cookie.attributes.write("n", "v", cookie.persistence(NOW)).value().to_owned()
    }

    fn blank(options: &CookieOptions, max_age: Option<u64>, scheme: Scheme) -> String {
        let cookie = RecordCookie { max_age, attributes: options.attributes(scheme).into_owned() };
        let text = cookie.write(options.says_secure(), NOW);
        assert_eq!(read(&text), cookie);
        text
    }

    #[test]
    fn new_records_are_written_as_express_writes_them() {
        let plain = CookieOptions::new().secure(Secure::Never).same_site(SameSite::Unset);
        assert_eq!(
            blank(&plain, None, Scheme::Unknown),
            r#"{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"}"#
        );
        let all = CookieOptions::new()
            .secure(Secure::Auto)
            .domain("example.test")
            .partitioned(true)
            .priority(Priority::High)
            .http_only(false);
        assert_eq!(
            blank(&all, Some(60_000), Scheme::Https),
            r#"{"originalMaxAge":60000,"partitioned":true,"priority":"high","expires":"2026-11-23T00:01:00.123Z","secure":true,"httpOnly":false,"domain":"example.test","path":"/","sameSite":"lax"}"#
        );
        assert!(blank(&all, None, Scheme::Http).contains(r#""secure":false"#));
    }

    #[test]
    fn a_record_says_how_its_cookie_is_sent() {
        let cookie = read(
            r#"{"originalMaxAge":1500,"partitioned":true,"priority":"high","expires":"no date","secure":true,"httpOnly":false,"domain":"example.test","path":"\/app","sameSite":true,"later":{}}"#,
        );
        assert_eq!(cookie.max_age, Some(1500));
        assert_eq!(
            sent(&cookie),
            "n=v; Domain=example.test; Path=/app; Expires=Mon, 23 Nov 2026 00:00:01 GMT; Secure; Partitioned; Priority=High; SameSite=Strict"
        );
        assert_eq!(sent(&read("{}")), "n=v; Path=/; HttpOnly");
    }

    #[test]
    fn what_is_no_session_is_refused() {
        for millis in ["\"60000\"", "0", "-5", "1.5", "1e300", "true", "[]", "\"\""] {
            let error = RecordCookie::read(format!(r#"{{"originalMaxAge":{millis}}}"#).as_bytes()).unwrap_err();
            assert!(error.store().unwrap().to_string().contains("originalMaxAge"), "{millis}");
        }
    }

    #[test]
    fn what_no_cookie_can_have_is_left_out() {
        for (cookie, header) in [
            (r#"{"originalMaxAge":null,"path":null,"domain":null,"sameSite":null,"priority":null}"#, "n=v; HttpOnly"),
            (r#"{"path":"/; Secure","domain":"a b","sameSite":"weird","priority":1}"#, "n=v; HttpOnly"),
            (r#"{"path":"/\r\nx","httpOnly":0}"#, "n=v"),
            (
                r#"{"secure":"auto","sameSite":"LAX","priority":"Low"}"#,
                "n=v; Path=/; HttpOnly; Secure; Priority=Low; SameSite=Lax",
            ),
        ] {
            assert_eq!(sent(&read(cookie)), header);
        }
        assert_eq!(read(r#"{"originalMaxAge":6e4}"#).max_age, Some(60_000));
    }

    #[test]
    fn a_save_changes_the_date_alone() {
        let date = r#""2026-11-23T00:01:00.123Z""#;
        for (before, max_age, change, after) in [
            (
                r#"{"originalMaxAge":null,"expires":null,"x":1e+21}"#,
                None,
                false,
                r#"{"originalMaxAge":null,"expires":null,"x":1e+21}"#.to_owned(),
            ),
            ("{ }", None, false, "{ }".to_owned()),
            (r#"{"expires":"old"}"#, None, false, r#"{"expires":null}"#.to_owned()),
            (
                r#"{ "originalMaxAge" : 60000, "expires" : "old" , "later":[] }"#,
                Some(60_000),
                false,
                format!(r#"{{ "originalMaxAge" : 60000, "expires" : {date} , "later":[] }}"#),
            ),
            (
                r#"{"originalMaxAge":60000,"priority":"low","path":"/"}"#,
                Some(60_000),
                false,
                format!(r#"{{"originalMaxAge":60000,"priority":"low","expires":{date},"path":"/"}}"#),
            ),
            ("{}", Some(60_000), true, format!(r#"{{"originalMaxAge":60000,"expires":{date}}}"#)),
            (
                r#"{"path":"/"}"#,
                Some(60_000),
                true,
                format!(r#"{{"originalMaxAge":60000,"expires":{date},"path":"/"}}"#),
            ),
            (
                r#"{"originalMaxAge":5,"expires":"old"}"#,
                None,
                true,
                r#"{"originalMaxAge":null,"expires":null}"#.to_owned(),
            ),
        ] {
            let written = renewed(before.as_bytes(), max_age, change, NOW);
            assert_eq!(String::from_utf8(written).unwrap(), after);
        }
    }

    #[test]
    fn the_end_of_time_has_a_date() {
        assert_eq!(expires(Some(u64::MAX), NOW), "\"9999-12-31T23:59:59.999Z\"");
        let cookie = RecordCookie { max_age: Some(u64::MAX), ..read("{}") };
        assert!(sent(&cookie).contains("31 Dec 9999"));
    }
}
