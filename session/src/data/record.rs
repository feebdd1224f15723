//! The text of a record, and where its members lie in it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use crate::class::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::json::{self, Range, Span};
use crate::owners::Login;

/// The key of the record's own member.
pub(crate) const OWN_KEY: &str = "sosa";

/// The key of the own member in a record of Express.
const COOKIE_KEY: &str = "cookie";

/// The fields of an own member of ours that say who is signed in.
const OWNER: &[u8] = b"owner";
const KEY: &[u8] = b"key";

/// The version of the record's own member that this crate writes.
const VERSION: u64 = 1;

/// What stands before the count of the saves in an own member that this crate writes.
const BEFORE_REV: &str = r#"{"v":1,"rev":"#;

/// A record: a JSON object that has been checked.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct Record {
    meta: Meta,
    /// Where the members lie, but for the own one.
    spans: Box<[Span]>,
    text: Box<[u8]>,
}

/// What the record says of itself, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// What an own member of ours says.
    pub(crate) ours: OwnMember,
    /// When it was renewed under another id; zero while it lives. See [`Record::ended`].
    pub(crate) ended: u64,
    own: Own,
    /// Where the value of the own member lies.
    own_at: Range,
    /// Where in that the count of the saves lies.
    rev_at: Range,
    /// How many other members stand before it.
    before: u32,
    /// Some key of a member is written with an escape.
    escapes: bool,
}

/// What an own member of ours says. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnMember {
    /// How often the session was saved.
    pub(crate) rev: u64,
    /// When it began; zero in a record that does not say.
    pub(crate) created: u64,
    /// For who lists sessions; to who opens one its id tells.
    pub(crate) class: Class,
    /// When its cookie was sent last, if not when it was created; or zero.
    pub(crate) sent: u64,
    /// The absolute end that was fixed at its sign-in; or zero.
    pub(crate) until: u64,
    /// When its user showed last who he is; or zero.
    pub(crate) confirmed: u64,
}

/// Whose record it is, by its own member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Own {
    /// There is none: nothing was saved yet.
    #[default]
    None,
    Sosa,
    Express,
}

impl Own {
    fn key(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Sosa => OWN_KEY,
            Self::Express => COOKIE_KEY,
        }
    }
}

/// What the own member of a record that is written will be.
#[derive(Clone, Copy)]
pub(crate) enum NewOwn<'a> {
    /// None: nothing was saved yet.
    None,
    /// With who is signed in, if that is not who was.
    Sosa(OwnMember, Option<&'a Login>),
    #[cfg_attr(not(feature = "express"), allow(dead_code, reason = "nobody writes one"))]
    Express(&'a [u8]),
}

/// A range of a record's text, and what will stand in its place.
#[derive(Clone, Copy, Default)]
pub(crate) struct Splice<'a> {
    at: Range,
    text: &'a [u8],
}

/// How many values are spliced at once, beside the own member.
pub(crate) const MAX_SPLICES: usize = 8;

/// A few of them, without an allocation.
#[derive(Clone, Copy, Default)]
pub(crate) struct Splices<'a> {
    list: [Splice<'a>; MAX_SPLICES + 1],
    len: usize,
}

impl<'a> Splices<'a> {
    fn push(&mut self, splice: Splice<'a>) {
        self.list[self.len] = splice;
        self.len += 1;
    }

    /// Returns them by where they begin.
    fn sorted(&mut self) -> &[Splice<'a>] {
        let splices = &mut self.list[..self.len];
        splices.sort_unstable_by_key(|splice| splice.at);
        splices
    }
}

impl<'a> FromIterator<Splice<'a>> for Splices<'a> {
    fn from_iter<I: IntoIterator<Item = Splice<'a>>>(values: I) -> Self {
        let mut splices = Self::default();
        values.into_iter().for_each(|splice| splices.push(splice));
        splices
    }
}

impl Record {
    /// Takes a text that has been checked to be JSON.
    pub(crate) fn read(text: Box<[u8]>) -> Result<Self> {
        let invalid = |why: &str| Error::new(ErrorKind::Decode, format!("the record is no session: {why}"));
        let mut spans = json::members(&text).ok_or_else(|| invalid("it is no JSON object"))?;
        // Of two members with one key the last counts.
        let find = |key: &str| spans.iter().rfind(|span| is_key(json::slice(&text, span.key), key)).copied();
        let cookie = find(COOKIE_KEY).filter(|cookie| text[cookie.value.0 as usize] == b'{');
        let ours = find(OWN_KEY).map(|own| (own, read_own(json::slice(&text, own.value))));
        let mut meta = match (ours, cookie) {
            // What either side stores beside its own member stands behind it.
            (ours, Some(cookie)) if ours.is_none_or(|(own, _)| cookie.key < own.key) => {
                Meta { own: Own::Express, own_at: cookie.value, ..Meta::default() }
            }
            (Some((own, Some(meta))), _) => {
                let rev_at = (meta.rev_at.0 + own.value.0, meta.rev_at.1 + own.value.0);
                let rev_at = if meta.rev_at.1 > 0 { rev_at } else { (0, 0) };
                Meta { own: Own::Sosa, own_at: own.value, rev_at, ..meta }
            }
            (Some((_, None)), _) => return Err(invalid("its own member is malformed, or of a later version")),
            (None, _) => Meta::default(),
        };
        if meta.own != Own::None {
            // Of an own member that occurs twice the first is no longer reachable, and is not kept.
            spans.retain(|span| !is_key(json::slice(&text, span.key), meta.own.key()));
            meta.before = spans.partition_point(|span| span.key.0 < meta.own_at.0) as u32;
        }
        meta.escapes = spans.iter().any(|span| has_escape(json::slice(&text, span.key)));
        Ok(Self { meta, spans: spans.into(), text })
    }

    /// Writes what remains of a session that was renewed under another id.
    pub(crate) fn ended(now_millis: u64, renewed_as: &str) -> Self {
        let text = format!(r#"{{"{OWN_KEY}":{{"v":{VERSION},"ended":{now_millis},"as":"{renewed_as}"}}}}"#);
        Self::read(text.into_bytes().into()).expect("this text is a record")
    }

    /// Returns the public id of the session under which one that ended goes on.
    pub(crate) fn renewed_as(&self) -> Option<String> {
        let (_, value) = members_of(self.own()?).find(|(key, _)| *key == b"as")?;
        serde_json::from_slice(value).ok()
    }

    /// Returns who is signed in; `None` if nobody is, or what stands there is no login.
    pub(crate) fn login(&self) -> Option<Login> {
        let own = self.own().filter(|_| self.meta.own == Own::Sosa)?;
        let (mut owner, mut device) = (None, None);
        for (key, value) in members_of(own) {
            match key {
                OWNER => owner = serde_json::from_slice(value).ok(),
                KEY => device = serde_json::from_slice(value).ok(),
                _ => {}
            }
        }
        Some(Login { owner: owner?, key: device? })
    }

    /// Returns the name of the session's class, empty for the default one.
    pub(crate) fn class(&self) -> &str {
        self.meta.ours.class.as_str()
    }

    pub(crate) fn meta(&self) -> Meta {
        self.meta
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Returns how many members there are besides the own one.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns the own member of a record of Express.
    #[cfg(feature = "express")]
    pub(crate) fn cookie(&self) -> Option<&[u8]> {
        self.own().filter(|_| self.meta.own == Own::Express)
    }

    fn own(&self) -> Option<&[u8]> {
        (self.meta.own != Own::None).then(|| self.slice(self.meta.own_at))
    }

    fn slice(&self, range: Range) -> &[u8] {
        json::slice(&self.text, range)
    }

    /// Returns the members as they are written, keys without quotes.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|span| (self.slice(span.key), self.slice(span.value)))
    }

    /// Returns the text of a member's value.
    pub(crate) fn value(&self, index: usize) -> &[u8] {
        self.slice(self.spans[index].value)
    }

    /// Returns which of the members has this key.
    pub(crate) fn position(&self, key: &str) -> Option<usize> {
        // From the end: of two members with one key the last counts, as in JavaScript.
        self.spans.iter().rposition(|span| self.has_key(span, key))
    }

    fn has_key(&self, span: &Span, key: &str) -> bool {
        #[cfg(test)]
        COMPARED.set(COMPARED.get() + 1);
        let raw = self.slice(span.key);
        if self.meta.escapes { is_key(raw, key) } else { raw == key.as_bytes() }
    }

    /// Returns where a key's value is to be replaced by this one; `None` if there is not exactly one.
    pub(crate) fn splice_value<'a>(&self, key: &str, text: &'a [u8]) -> Option<Splice<'a>> {
        let mut found = self.spans.iter().filter(|span| self.has_key(span, key));
        let at = found.next()?.value;
        found.next().is_none().then_some(Splice { at, text })
    }

    /// Returns this record with other values and another own member, and copies what lies between, which is
    /// sooner done than to write all members. `None` where the own member cannot be put in its place.
    pub(crate) fn splice(&self, own: NewOwn<'_>, values: Splices<'_>) -> Option<Self> {
        let mut meta = self.meta;
        let mut digits = Digits::default();
        let mut splices = values;
        splices.push(match own {
            // It goes to the front otherwise: an object under `cookie` before it would be the record's own.
            NewOwn::Sosa(own, None)
                if meta.rev_at.1 > 0 && meta.before == 0 && own == (OwnMember { rev: own.rev, ..meta.ours }) =>
            {
                meta.ours = own;
                Splice { at: meta.rev_at, text: digits.of(own.rev) }
            }
            NewOwn::Express(cookie) if meta.own == Own::Express => Splice { at: meta.own_at, text: cookie },
            _ => return None,
        });
        let splices = splices.sorted();
        let moved = |at: u32| {
            let before = splices.iter().take_while(|splice| splice.at.1 <= at);
            before.fold(at, |at, splice| {
                at.wrapping_add(splice.text.len() as u32).wrapping_sub(splice.at.1 - splice.at.0)
            })
        };
        let moved_range = |(from, to): Range| (moved(from), moved(to));
        (meta.own_at, meta.rev_at) = (moved_range(meta.own_at), moved_range(meta.rev_at));
        let spans =
            self.spans.iter().map(|span| Span { key: moved_range(span.key), value: moved_range(span.value) }).collect();
        let len = splices
            .iter()
            .fold(self.text.len(), |len, splice| len + splice.text.len() - (splice.at.1 - splice.at.0) as usize);
        u32::try_from(len).ok()?;
        let (mut text, mut from) = (Vec::with_capacity(len), 0);
        for splice in splices {
            text.extend_from_slice(&self.text[from..splice.at.0 as usize]);
            text.extend_from_slice(splice.text);
            from = splice.at.1 as usize;
        }
        text.extend_from_slice(&self.text[from..]);
        Some(Self { meta, spans, text: text.into() })
    }

    /// Returns a record with these members, those of this record that stay in their order, then the new ones, and
    /// this own member: one of ours in front, that of Express behind what stays of what stood before it. Unknown
    /// fields of an own member of ours stay.
    pub(crate) fn rewrite(&self, own: NewOwn<'_>, members: &[(Cow<'_, [u8]>, &[u8])]) -> Result<Self> {
        match own {
            NewOwn::None => write(Meta::default(), b"", members),
            NewOwn::Sosa(ours, login) => {
                let text = self.own_text(ours, login);
                write(Meta { ours, own: Own::Sosa, ..Meta::default() }, text.as_bytes(), members)
            }
            NewOwn::Express(cookie) => {
                // No others: a record with a `sosa` before its cookie is none of Express.
                let mut before = 0;
                for (key, _) in self.members().take(self.meta.before as usize) {
                    let stays = members.get(before).is_some_and(|(first, _)| **first == *key);
                    before += usize::from(stays);
                }
                write(Meta { own: Own::Express, before: before as u32, ..Meta::default() }, cookie, members)
            }
        }
    }

    /// Writes an own member of ours, with the fields of the old one that this crate doesn't know, and those of its login
    /// unless there is another.
    fn own_text(&self, ours: OwnMember, login: Option<&Login>) -> String {
        let OwnMember { rev, created, class, sent, until, confirmed } = ours;
        let mut text = String::with_capacity(64);
        write!(text, r#"{BEFORE_REV}{rev},"created":{created}"#).expect("a string takes any text");
        if !class.is_default() {
            text.extend([r#","class":""#, class.as_str(), "\""]);
        }
        for (key, millis) in [("sent", sent), ("until", until), ("confirmed", confirmed)] {
            if millis > 0 {
                write!(text, r#","{key}":{millis}"#).expect("a string takes any text");
            }
        }
        if let Some(Login { owner, key }) = login {
            let owner = serde_json::to_string(owner).expect("a string has a JSON form");
            text.extend([r#","owner":"#, &owner, r#","key":""#, key.as_str(), "\""]);
        }
        let is_written = |key: &[u8]| {
            let numbers = [&b"v"[..], b"rev", b"created", b"class", b"sent", b"until", b"confirmed"];
            numbers.contains(&key) || (login.is_some() && [OWNER, KEY].contains(&key))
        };
        let own = self.own().filter(|_| self.meta.own == Own::Sosa);
        for (key, value) in own.into_iter().flat_map(members_of).filter(|(key, _)| !is_written(key)) {
            text.extend([",\"", json::text(key), "\":", json::text(value)]);
        }
        text.push('}');
        text
    }
}

/// Writes a record: its own member in its place, if there is one, and the others.
fn write(mut meta: Meta, own: &[u8], members: &[(Cow<'_, [u8]>, &[u8])]) -> Result<Record> {
    let own_member = (meta.own != Own::None).then(|| (meta.own.key().as_bytes(), own));
    let others = members.iter().map(|(key, value)| (&**key, *value));
    let before = meta.before as usize;
    let all = || others.clone().take(before).chain(own_member).chain(others.clone().skip(before));
    // Two quotes, a colon and a comma around each member, but for the first; and the braces.
    let around: usize = all().map(|(key, value)| key.len() + value.len() + 4).sum();
    let len = around.max(1) + 1;
    if u32::try_from(len).is_err() {
        return Err(Error::new(ErrorKind::Encode, "a session must be smaller than 4 GiB"));
    }
    meta.escapes = members.iter().any(|(key, _)| has_escape(key));
    let (mut text, mut spans) = (Vec::with_capacity(len), Vec::with_capacity(members.len()));
    let mut put = |bytes: &[u8]| {
        text.extend_from_slice(bytes);
        text.len() as u32
    };
    for (index, (key, value)) in all().enumerate() {
        let from = put(if index == 0 { b"{\"" } else { b",\"" });
        let key = (from, put(key));
        let value = (put(b"\":"), put(value));
        if own_member.is_none() || index != before {
            spans.push(Span { key, value });
            continue;
        }
        meta.own_at = value;
        if meta.own == Own::Sosa {
            let from = value.0 + BEFORE_REV.len() as u32;
            let digits = own[BEFORE_REV.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            meta.rev_at = (from, from + digits as u32);
        }
    }
    put(if len == 2 { b"{}" } else { b"}" });
    Ok(Record { meta, spans: spans.into(), text: text.into() })
}

/// Room for a number's digits, so that a save allocates none.
#[derive(Default)]
struct Digits([u8; 20]);

impl Digits {
    fn of(&mut self, number: u64) -> &[u8] {
        let mut rest = &mut self.0[..];
        write!(rest, "{number}").expect("a u64 has 20 digits at most");
        let left = rest.len();
        &self.0[..self.0.len() - left]
    }
}

/// Reads an own member of ours; ranges in it count from its start.
fn read_own(own: &[u8]) -> Option<Meta> {
    let mut meta = Meta::default();
    let mut version = None;
    for span in json::members(own)? {
        let number = || serde_json::from_slice::<u64>(json::slice(own, span.value)).ok();
        match json::slice(own, span.key) {
            b"v" => version = number(),
            b"rev" => (meta.ours.rev, meta.rev_at) = (number()?, span.value),
            b"created" => meta.ours.created = number()?,
            b"class" => meta.ours.class = class(json::slice(own, span.value)),
            b"sent" => meta.ours.sent = number()?,
            b"until" => meta.ours.until = number()?,
            b"confirmed" => meta.ours.confirmed = number()?,
            b"ended" => meta.ended = number()?,
            _ => {}
        }
    }
    (version == Some(VERSION)).then_some(meta)
}

/// Reads the name of a class. What is none counts as the default: a load goes by the id.
fn class(value: &[u8]) -> Class {
    let name = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    name.and_then(Class::parse).unwrap_or_default()
}

fn members_of(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let spans = json::members(object).unwrap_or_default();
    spans.into_iter().map(|span| (json::slice(object, span.key), json::slice(object, span.value)))
}

/// Returns whether the key written as `raw` is `key`.
fn is_key(raw: &[u8], key: &str) -> bool {
    if has_escape(raw) {
        // An escape is longer than what it stands for.
        raw.len() > key.len() && json::unescape(raw).is_some_and(|unescaped| unescaped == key)
    } else {
        raw == key.as_bytes()
    }
}

fn has_escape(raw: &[u8]) -> bool {
    raw.contains(&b'\\')
}

#[cfg(test)]
thread_local! {
    /// How many members were compared with a key.
    pub(crate) static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
