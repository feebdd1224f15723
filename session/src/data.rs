//! The stored record of a session.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::iter;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{self, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::id::Handle;
use crate::json::{self, Span};

/// The record of a session, as it is stored: a JSON object.
///
/// It is the record's text together with the places of its members, in one shared allocation: a
/// clone counts a reference, a value is decoded when it is asked for, and what nobody edits keeps
/// its bytes. Members are in the order in which they were first inserted.
///
/// The record's own member is `"sosa":{"v":1,"rev":…,"created":…}`: a count of the saves, and when
/// the session began, in milliseconds since the Unix epoch. It is not among the keys. In a record of
/// Express the own member is `"cookie":{…}`.
///
/// ```
/// use sosa_session::SessionData;
///
/// let data: SessionData = r#"{"sosa":{"v":1,"rev":3,"created":1795392000000},"user":"ada"}"#.parse()?;
/// assert_eq!(data.rev(), 3);
/// assert_eq!(data.get::<String>("user")?.as_deref(), Some("ada"));
/// assert_eq!(data.keys().collect::<Vec<_>>(), ["user"]);
/// # Ok::<(), sosa_session::Error>(())
/// ```
#[derive(Clone)]
pub struct SessionData(Arc<[u8]>);

/// The key of the record's own member.
pub(crate) const OWN_KEY: &str = "sosa";

/// The key of the own member in a record of Express.
const COOKIE_KEY: &str = "cookie";

/// Whose record it is, by its own member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Own {
    /// There is none: nothing was saved yet.
    #[default]
    None = 0,
    Sosa = 1,
    Express = 2,
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

/// The version of the record's own member that this crate writes.
const VERSION: u64 = 1;

/// What the record says of itself. In the allocation it stands first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// How often the session was saved.
    pub(crate) rev: u64,
    /// When it began; zero in a record that does not say.
    pub(crate) created: u64,
    /// When it was renewed under another id; zero while it lives. See [`SessionData::ended`].
    pub(crate) ended: u64,
    /// Whose it is, and where the text of its own member lies.
    format: Own,
    own: (u32, u32),
    /// Where in that the count of the saves lies.
    rev_at: (u32, u32),
    /// How many other members stand before it.
    before: u32,
    /// Some key of a member is written with an escape.
    escapes: bool,
}

/// What the own member of a record that is written will be.
#[derive(Clone, Copy)]
pub(crate) enum NewOwn<'a> {
    /// None: nothing was saved yet.
    None,
    Sosa {
        rev: u64,
        created: u64,
    },
    Express(&'a [u8]),
}

/// A stretch of a record's text, and what will stand in its place.
pub(crate) struct Cut<'a> {
    at: (u32, u32),
    text: &'a [u8],
}

// The layout: the header, 16 bytes for each member's span, the text.
const OWN_AT: usize = 24;
const REV_AT: usize = 32;
const COUNT_AT: usize = 40;
const FORMAT_AT: usize = 44;
const BEFORE_AT: usize = 48;
const ESCAPES_AT: usize = 52;
const SPANS_AT: usize = 56;
const SPAN_LEN: usize = 16;

/// What stands before the count of the saves in an own member that this crate writes.
const BEFORE_REV: &str = r#"{"v":1,"rev":"#;

impl SessionData {
    /// Returns the value of a key, `None` if there is none. It looks through the members: of a large record
    /// [`iter`](Self::iter) gives many values sooner.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the value is not of this type.
    pub fn get<V: DeserializeOwned>(&self, key: &str) -> Result<Option<V>> {
        self.raw(key).map(|value| decode(key, value)).transpose()
    }

    /// Returns the JSON text of a value, as it is stored.
    pub fn json(&self, key: &str) -> Option<&str> {
        self.raw(key).map(text)
    }

    /// Returns the keys, in order. A key that no Rust string can hold, with half a surrogate pair
    /// in it, is kept but not shown.
    pub fn keys(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.iter().map(|(key, _)| key)
    }

    /// Returns the keys and the JSON texts of their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
        self.members().filter_map(|(key, value)| Some((json::unescape(key)?, text(value))))
    }

    /// Returns the whole record as JSON, its own member included.
    pub fn as_json(&self) -> &str {
        text(self.text())
    }

    /// Returns how often the session was saved, 0 for one that was not.
    pub fn rev(&self) -> u64 {
        self.number(0)
    }

    /// Returns when the session began; `None` for one that was not saved.
    pub fn created(&self) -> Option<SystemTime> {
        Some(self.number(8)).filter(|millis| *millis > 0).map(|millis| UNIX_EPOCH + Duration::from_millis(millis))
    }

    /// Returns whether this is what remains of a session that was renewed under another id: for 30
    /// seconds it stands in the old record's place, opens no session, and tells late requests that
    /// theirs has ended. Who lists sessions leaves it out.
    pub fn has_ended(&self) -> bool {
        self.number(16) > 0
    }

    /// Returns the empty record, to be borrowed: a clone would count on a line that all cores share.
    pub(crate) fn empty() -> &'static Self {
        static EMPTY: LazyLock<SessionData> = LazyLock::new(|| "{}".parse().expect("an empty object is a record"));
        &EMPTY
    }

    pub(crate) fn meta(&self) -> Meta {
        Meta {
            rev: self.number(0),
            created: self.number(8),
            ended: self.number(16),
            format: self.format(),
            own: self.pair(OWN_AT),
            rev_at: self.pair(REV_AT),
            before: self.short(BEFORE_AT),
            escapes: self.has_escapes(),
        }
    }

    fn format(&self) -> Own {
        match self.short(FORMAT_AT) {
            1 => Own::Sosa,
            2 => Own::Express,
            _ => Own::None,
        }
    }

    fn has_escapes(&self) -> bool {
        self.short(ESCAPES_AT) > 0
    }

    /// Returns the own member of a record of Express.
    pub(crate) fn cookie(&self) -> Option<&[u8]> {
        self.own().filter(|_| self.format() == Own::Express)
    }

    /// Makes the record that stands in the place of one that was renewed under another id: it opens
    /// no session, and tells a request that still comes with the old id what became of it.
    pub(crate) fn ended(now_millis: u64, renewed_as: Handle) -> Self {
        let text = format!(r#"{{"{OWN_KEY}":{{"v":{VERSION},"ended":{now_millis},"as":"{renewed_as}"}}}}"#);
        text.parse().expect("this text is a record")
    }

    /// Returns the session under which one that ended goes on.
    pub(crate) fn renewed_as(&self) -> Option<Handle> {
        let own = self.own()?;
        let (_, value) = members_of(own).find(|(key, _)| *key == b"as")?;
        Handle::parse(&serde_json::from_slice::<String>(value).ok()?)
    }

    /// Returns the text of a value.
    pub(crate) fn raw(&self, key: &str) -> Option<&[u8]> {
        self.place(key).map(|index| self.value(index))
    }

    /// Returns which of the members has this key.
    pub(crate) fn place(&self, key: &str) -> Option<usize> {
        // From the end: of two members with one key the last counts, as in JavaScript.
        (0..self.len()).rev().find(|index| self.has_key(*index, key))
    }

    /// Returns the text of a member's value.
    pub(crate) fn value(&self, index: usize) -> &[u8] {
        self.cut(self.span(index).value)
    }

    /// Returns whether it is a clone of the other.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn has_key(&self, index: usize, key: &str) -> bool {
        #[cfg(test)]
        COMPARED.set(COMPARED.get() + 1);
        let raw = self.cut(self.span(index).key);
        if self.has_escapes() { is_key(raw, key) } else { raw == key.as_bytes() }
    }

    /// Returns which value a key has, to be replaced by this one; `None` if there is not exactly one.
    pub(crate) fn cut_value<'a>(&self, key: &str, text: &'a [u8]) -> Option<Cut<'a>> {
        let mut found = (0..self.len()).filter(|index| self.has_key(*index, key));
        let at = self.span(found.next()?).value;
        found.next().is_none().then_some(Cut { at, text })
    }

    /// Returns the members as they are written, keys without quotes.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.len()).map(|index| self.span(index)).map(|span| (self.cut(span.key), self.cut(span.value)))
    }

    /// Writes a record with these members, those of this record that stay in their order, then the new ones, and
    /// this own member: one of ours in front, that of Express behind what stays of what stood before it. Unknown
    /// fields of an own member of ours stay.
    pub(crate) fn rewrite(&self, own: NewOwn<'_>, members: &[(Cow<'_, [u8]>, &[u8])]) -> Result<Self> {
        match own {
            NewOwn::None => write(Meta::default(), b"", members),
            NewOwn::Sosa { rev, created } => {
                let own = self.own_text(rev, created);
                write(Meta { rev, created, format: Own::Sosa, ..Meta::default() }, own.as_bytes(), members)
            }
            NewOwn::Express(cookie) => {
                // No others: a record with a `sosa` before its cookie is none of Express.
                let mut before = 0;
                for (key, _) in self.members().take(self.meta().before as usize) {
                    let stays = members.get(before).is_some_and(|(first, _)| **first == *key);
                    before += usize::from(stays);
                }
                write(Meta { format: Own::Express, before: before as u32, ..Meta::default() }, cookie, members)
            }
        }
    }

    /// Writes this record with other values and another own member, and copies what lies between, which is
    /// sooner done than to write all members. `None` where the own member cannot be put in its place.
    pub(crate) fn replace(&self, own: NewOwn<'_>, values: Vec<Cut<'_>>) -> Option<Self> {
        let mut meta = self.meta();
        let (digits, mut cuts);
        cuts = values;
        cuts.push(match own {
            // It goes to the front otherwise: an object under `cookie` before it would be the record's own.
            NewOwn::Sosa { rev, created } if meta.rev_at.1 > 0 && meta.created == created && meta.before == 0 => {
                meta.rev = rev;
                digits = rev.to_string();
                Cut { at: meta.rev_at, text: digits.as_bytes() }
            }
            NewOwn::Express(cookie) if meta.format == Own::Express => Cut { at: meta.own, text: cookie },
            _ => return None,
        });
        cuts.sort_unstable_by_key(|cut| cut.at);
        let moved = |place: u32| {
            let before = cuts.iter().take_while(|cut| cut.at.1 <= place);
            before.fold(place, |place, cut| place.wrapping_add(cut.text.len() as u32).wrapping_sub(cut.at.1 - cut.at.0))
        };
        let moved_pair = |(from, to)| (moved(from), moved(to));
        (meta.own, meta.rev_at) = (moved_pair(meta.own), moved_pair(meta.rev_at));
        let old = self.text();
        let len = cuts.iter().fold(old.len(), |len, cut| len + cut.text.len() - (cut.at.1 - cut.at.0) as usize);
        u32::try_from(len).ok()?;
        let (data, text_at) = allocate(meta, self.len(), len);
        Some(fill(data, |data| {
            for index in 0..self.len() {
                let Span { key, value } = self.span(index);
                put_span(data, index, Span { key: moved_pair(key), value: moved_pair(value) });
            }
            let (mut text, mut from) = (&mut data[text_at..], 0);
            let mut put = |bytes: &[u8]| text.write_all(bytes).expect("the length was counted");
            for cut in &cuts {
                put(&old[from..cut.at.0 as usize]);
                put(cut.text);
                from = cut.at.1 as usize;
            }
            put(&old[from..]);
        }))
    }

    fn read(text: &[u8]) -> Result<Self> {
        let invalid = |why: &str| Error::new(ErrorKind::Decode, format!("the record is no session: {why}"));
        let mut spans = json::members(text).ok_or_else(|| invalid("it is no JSON object"))?;
        // Of two members with one key the last counts.
        let find = |key: &str| spans.iter().rfind(|span| is_key(json::cut(text, span.key), key)).copied();
        let cookie = find(COOKIE_KEY).filter(|cookie| text[cookie.value.0 as usize] == b'{');
        let ours = find(OWN_KEY).map(|own| (own, read_own(json::cut(text, own.value))));
        let mut meta = match (ours, cookie) {
            // What either side stores beside its own member stands behind it.
            (ours, Some(cookie)) if ours.is_none_or(|(own, _)| cookie.key < own.key) => {
                Meta { format: Own::Express, own: cookie.value, ..Meta::default() }
            }
            (Some((own, Some(meta))), _) => {
                let rev_at = (meta.rev_at.0 + own.value.0, meta.rev_at.1 + own.value.0);
                let rev_at = if meta.rev_at.1 > 0 { rev_at } else { (0, 0) };
                Meta { format: Own::Sosa, own: own.value, rev_at, ..meta }
            }
            (Some((_, None)), _) => return Err(invalid("its own member is malformed, or of a later version")),
            (None, _) => Meta::default(),
        };
        if meta.format != Own::None {
            // Of an own member that occurs twice the first is no longer reachable, and is not kept.
            spans.retain(|span| !is_key(json::cut(text, span.key), meta.format.key()));
            meta.before = spans.partition_point(|span| span.key.0 < meta.own.0) as u32;
        }
        meta.escapes = spans.iter().any(|span| has_escape(json::cut(text, span.key)));
        let (data, room) = allocate(meta, spans.len(), text.len());
        Ok(fill(data, |data| {
            for (index, span) in spans.into_iter().enumerate() {
                put_span(data, index, span);
            }
            data[room..].copy_from_slice(text);
        }))
    }

    fn own(&self) -> Option<&[u8]> {
        let own = self.meta().own;
        (own.1 > 0).then(|| self.cut(own))
    }

    fn own_text(&self, rev: u64, created: u64) -> String {
        let mut text = String::with_capacity(64);
        write!(text, r#"{BEFORE_REV}{rev},"created":{created}"#).expect("text takes any text");
        let known = |key: &[u8]| [&b"v"[..], b"rev", b"created"].contains(&key);
        let own = self.own().filter(|_| self.format() == Own::Sosa);
        for (key, value) in own.into_iter().flat_map(members_of).filter(|(key, _)| !known(key)) {
            text.extend([",\"", self::text(key), "\":", self::text(value)]);
        }
        text.push('}');
        text
    }

    pub(crate) fn len(&self) -> usize {
        self.short(COUNT_AT) as usize
    }

    fn text(&self) -> &[u8] {
        &self.0[text_at(self.len())..]
    }

    fn cut(&self, (from, to): (u32, u32)) -> &[u8] {
        json::cut(self.text(), (from, to))
    }

    fn span(&self, index: usize) -> Span {
        let at = SPANS_AT + index * SPAN_LEN;
        Span { key: self.pair(at), value: self.pair(at + 8) }
    }

    fn pair(&self, at: usize) -> (u32, u32) {
        (self.short(at), self.short(at + 4))
    }

    fn number(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("8 bytes"))
    }

    fn short(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("4 bytes"))
    }
}

/// Decodes one value. The error names the key, since it is that key's alone.
pub(crate) fn decode<V: DeserializeOwned>(key: &str, value: &[u8]) -> Result<V> {
    serde_json::from_slice(value).map_err(|error| {
        Error::new(ErrorKind::Decode, format!("the value of {} is not of the asked type", shown(key)))
            .with_source(sosa::json_error(sosa::ErrorKind::Decode, &error))
    })
}

/// Encodes one value.
pub(crate) fn encode<V: Serialize>(key: &str, value: &V) -> Result<Vec<u8>> {
    sosa::to_json(value).map_err(|error| {
        Error::new(ErrorKind::Encode, format!("the value for {} has no JSON form", shown(key))).with_source(error)
    })
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("a record is made of text, and cut between characters")
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

fn members_of(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let spans = json::members(object).unwrap_or_default();
    spans.into_iter().map(|span| (json::cut(object, span.key), json::cut(object, span.value)))
}

/// Reads an own member of ours; places in it count from its start.
fn read_own(own: &[u8]) -> Option<Meta> {
    let mut meta = Meta::default();
    let mut version = None;
    for span in json::members(own)? {
        let number = || serde_json::from_slice::<u64>(json::cut(own, span.value)).ok();
        match json::cut(own, span.key) {
            b"v" => version = number(),
            b"rev" => (meta.rev, meta.rev_at) = (number()?, span.value),
            b"created" => meta.created = number()?,
            b"ended" => meta.ended = number()?,
            _ => {}
        }
    }
    (version == Some(VERSION)).then_some(meta)
}

fn text_at(members: usize) -> usize {
    SPANS_AT + members * SPAN_LEN
}

/// Allocates a record once, with its header filled in, and returns where the text goes.
fn allocate(meta: Meta, members: usize, text_len: usize) -> (Arc<[u8]>, usize) {
    let at = text_at(members);
    let data = iter::repeat_n(0, at + text_len).collect();
    let data = fill(data, |data| {
        data[0..8].copy_from_slice(&meta.rev.to_le_bytes());
        data[8..16].copy_from_slice(&meta.created.to_le_bytes());
        data[16..24].copy_from_slice(&meta.ended.to_le_bytes());
        put_shorts(data, OWN_AT, &[meta.own.0, meta.own.1, meta.rev_at.0, meta.rev_at.1]);
        put_shorts(data, COUNT_AT, &[members as u32, meta.format as u32, meta.before, meta.escapes.into()]);
    });
    (data.0, at)
}

fn fill(mut data: Arc<[u8]>, write: impl FnOnce(&mut [u8])) -> SessionData {
    write(Arc::get_mut(&mut data).expect("nobody shares it yet"));
    SessionData(data)
}

fn put_span(data: &mut [u8], index: usize, Span { key, value }: Span) {
    put_shorts(data, SPANS_AT + index * SPAN_LEN, &[key.0, key.1, value.0, value.1]);
}

fn put_shorts(data: &mut [u8], at: usize, numbers: &[u32]) {
    for (index, number) in numbers.iter().enumerate() {
        data[at + 4 * index..][..4].copy_from_slice(&number.to_le_bytes());
    }
}

/// Writes a record: its own member in its place, if there is one, and the others.
fn write(mut meta: Meta, own: &[u8], members: &[(Cow<'_, [u8]>, &[u8])]) -> Result<SessionData> {
    let own_member = (meta.format != Own::None).then(|| (meta.format.key().as_bytes(), own));
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
    let (data, at) = allocate(meta, members.len(), len);
    Ok(fill(data, |data| {
        let (head, mut text) = data.split_at_mut(at);
        let mut put = |bytes: &[u8]| {
            text.write_all(bytes).expect("the length was counted");
            (len - text.len()) as u32
        };
        let mut others = 0;
        for (place, (key, value)) in all().enumerate() {
            let from = put(if place == 0 { b"{\"" } else { b",\"" });
            let key = (from, put(key));
            let value = (put(b"\":"), put(value));
            if own_member.is_some() && place == before {
                put_shorts(head, OWN_AT, &[value.0, value.1]);
                if meta.format == Own::Sosa {
                    let from = value.0 + BEFORE_REV.len() as u32;
                    let digits = own[BEFORE_REV.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    put_shorts(head, REV_AT, &[from, from + digits as u32]);
                }
            } else {
                put_span(head, others, Span { key, value });
                others += 1;
            }
        }
        put(if len == 2 { b"{}" } else { b"}" });
    }))
}

impl Default for SessionData {
    fn default() -> Self {
        Self::empty().clone()
    }
}

impl std::str::FromStr for SessionData {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        serde_json::from_str::<&RawValue>(text).map_err(|error| {
            Error::new(ErrorKind::Decode, "the record is no session: it is no JSON")
                .with_source(sosa::json_error(sosa::ErrorKind::Decode, &error))
        })?;
        Self::read(text.as_bytes())
    }
}

impl PartialEq for SessionData {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for SessionData {}

impl fmt::Debug for SessionData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionData").field("rev", &self.rev()).field("keys", &self.len()).finish_non_exhaustive()
    }
}

/// By `serde_json` the record is written as the object that it is, byte for byte; in a binary format as
/// a string of its JSON. Other formats for people, such as YAML, cannot hold it.
impl Serialize for SessionData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serde_json::from_str::<&RawValue>(self.as_json()).map_err(ser::Error::custom)?.serialize(serializer)
        } else {
            serializer.serialize_str(self.as_json())
        }
    }
}

impl<'de> Deserialize<'de> for SessionData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Self::read(Box::<RawValue>::deserialize(deserializer)?.get().as_bytes()).map_err(de::Error::custom)
        } else {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        }
    }
}

#[cfg(test)]
thread_local! {
    /// How many members were compared with a key.
    pub(crate) static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn borrowed<'a>(members: &[(&'a str, &'a str)]) -> Vec<(Cow<'a, [u8]>, &'a [u8])> {
        members.iter().map(|(key, value)| (Cow::Borrowed(key.as_bytes()), value.as_bytes())).collect()
    }

    /// Stored records look like this: a change is a breaking change of the stored format.
    #[test]
    fn golden_records() {
        let members = borrowed(&[("user", "\"zoë\""), ("n", "1e+21"), ("cut", r#""\ud83d""#)]);
        let data =
            SessionData::default().rewrite(NewOwn::Sosa { rev: 2, created: 1_700_000_000_000 }, &members).unwrap();
        assert_eq!(
            data.as_json(),
            r#"{"sosa":{"v":1,"rev":2,"created":1700000000000},"user":"zoë","n":1e+21,"cut":"\ud83d"}"#
        );
        assert_eq!(serde_json::to_string(&data).unwrap(), data.as_json());
        let read: SessionData = serde_json::from_str(data.as_json()).unwrap();
        assert_eq!(read.0, data.0, "what was read is laid out as what was written");
        assert_eq!(read.get::<String>("user").unwrap().as_deref(), Some("zoë"));
        assert_eq!(read.json("cut"), Some(r#""\ud83d""#));
        assert_eq!(read.get::<String>("cut").unwrap_err().kind(), ErrorKind::Decode);
        assert_eq!(read.get::<u8>("sosa").unwrap(), None);

        let empty = SessionData::default().rewrite(NewOwn::Sosa { rev: 1, created: 7 }, &[]).unwrap();
        assert_eq!(empty.as_json(), r#"{"sosa":{"v":1,"rev":1,"created":7}}"#);
        assert_eq!(SessionData::empty().rewrite(NewOwn::None, &members[..1]).unwrap().as_json(), r#"{"user":"zoë"}"#);
        assert_eq!(SessionData::empty().rewrite(NewOwn::None, &[]).unwrap(), SessionData::default());
    }

    #[test]
    fn an_ended_record_says_where_the_session_went_on() {
        let handle = Handle::parse(&"h".repeat(43)).unwrap();
        let ended = SessionData::ended(5, handle);
        assert!(ended.has_ended() && ended.created().is_none());
        assert_eq!(ended.meta().ended, 5);
        assert_eq!(ended.renewed_as(), Some(handle));
        assert_eq!(SessionData::default().renewed_as(), None);
        assert_eq!(ended.as_json(), format!(r#"{{"sosa":{{"v":1,"ended":5,"as":"{handle}"}}}}"#));
    }

    #[test]
    fn unknown_fields_of_the_own_member_survive() {
        let data: SessionData = r#"{"a":1,"sosa":{"later":[1,{}],"v":1,"rev":3,"created":9}}"#.parse().unwrap();
        assert_eq!((data.rev(), data.keys().count()), (3, 1));
        let next = data.rewrite(NewOwn::Sosa { rev: 4, created: 9 }, &borrowed(&[("a", "2")])).unwrap();
        assert_eq!(next.as_json(), r#"{"sosa":{"v":1,"rev":4,"created":9,"later":[1,{}]},"a":2}"#);
    }

    #[test]
    fn what_is_no_session_is_refused() {
        for text in ["", "1", "[]", "null", "{", r#"{"sosa":1}"#, r#"{"sosa":{}}"#, r#"{"sosa":{"v":2,"rev":1}}"#] {
            let error = text.parse::<SessionData>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode, "{text}");
        }
    }

    #[test]
    fn awkward_records_are_kept_as_they_are() {
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        let own_member = r#""sosa":{"v":1,"rev":1,"created":1}"#;
        let text =
            format!(r#" {{ "a" : 5e-324 , "\u0061\\b":{deep}, "twice":1, "twice":2, "\ud83d":0, {own_member} }} "#);
        let data: SessionData = text.parse().unwrap();
        assert_eq!(data.as_json(), text);
        assert_eq!(data.json("a\\b"), Some(&*deep));
        assert_eq!(data.json("a\\\\b"), None);
        assert_eq!(data.get::<u8>("twice").unwrap(), Some(2));
        assert_eq!(data.get::<u8>("a").unwrap_err().kind(), ErrorKind::Decode);
        assert_eq!(data.members().count(), 5);
        let own = NewOwn::Sosa { rev: 10, created: 1 };
        // Its own member is not in front.
        assert!(data.replace(own, Vec::new()).is_none());
        let text = format!("{{{own_member}, {}", text.trim_start_matches(" {").replace(&format!(", {own_member}"), ""));
        let data: SessionData = text.parse().unwrap();
        assert!(data.cut_value("twice", b"3").is_none() && data.cut_value("b", b"3").is_none());
        let cuts = ["a", "a\\b"].map(|key| data.cut_value(key, b"[]").unwrap());
        let replaced = data.replace(own, cuts.into()).unwrap();
        let expected = text.replace("5e-324", "[]").replace(&deep, "[]").replace(r#""rev":1"#, r#""rev":10"#);
        assert_eq!(replaced.as_json(), expected);
        assert_eq!(replaced.0, expected.parse::<SessionData>().unwrap().0);
        assert!(data.replace(NewOwn::Sosa { rev: 10, created: 2 }, Vec::new()).is_none());
        assert!(data.replace(NewOwn::Express(b"{}"), Vec::new()).is_none());
        assert_eq!(data.keys().count(), 4);
    }

    #[test]
    fn a_record_of_express_is_told_by_its_cookie() {
        let text = r#"{"cookie":{"originalMaxAge":null},"sosa":5,"a":1}"#;
        let data: SessionData = text.parse().unwrap();
        assert_eq!(data.cookie(), Some(&br#"{"originalMaxAge":null}"#[..]));
        assert_eq!(data.keys().collect::<Vec<_>>(), ["sosa", "a"]);
        assert_eq!((data.created(), data.rev(), data.has_ended()), (None, 0, false));
        let written = SessionData::empty().rewrite(NewOwn::Express(b"{}"), &borrowed(&[("a", "1")])).unwrap();
        assert_eq!(written.as_json(), r#"{"cookie":{},"a":1}"#);
        assert_eq!(written.as_json().parse::<SessionData>().unwrap().0, written.0);
        // JavaScript puts keys that look like indices before all others.
        let indexed: SessionData = r#"{"0":1,"7":2,"cookie":{},"a":3}"#.parse().unwrap();
        let members: Vec<_> = indexed.members().map(|(key, value)| (Cow::Borrowed(key), value)).collect();
        let written = indexed.rewrite(NewOwn::Express(b"{\"path\":1}"), &members).unwrap();
        assert_eq!(written.as_json(), r#"{"0":1,"7":2,"cookie":{"path":1},"a":3}"#);
        assert_eq!(written.cookie(), Some(&b"{\"path\":1}"[..]));
        assert_eq!(written.as_json().parse::<SessionData>().unwrap().0, written.0);
        assert_eq!(indexed.rewrite(NewOwn::Express(b"{}"), &members[..1]).unwrap().as_json(), r#"{"0":1,"cookie":{}}"#);
        // What else stays, or is new, does not come before the cookie.
        let awkward: SessionData = r#"{"0":1,"7":2,"cookie":{},"sosa":5,"a":1}"#.parse().unwrap();
        let members: Vec<_> = awkward.members().map(|(key, value)| (Cow::Borrowed(key), value)).collect();
        for (stay, expected) in [
            (&members[2..], r#"{"cookie":{},"sosa":5,"a":1}"#),
            (&members[1..], r#"{"7":2,"cookie":{},"sosa":5,"a":1}"#),
            (&members[3..], r#"{"cookie":{},"a":1}"#),
        ] {
            let written = awkward.rewrite(NewOwn::Express(b"{}"), stay).unwrap();
            assert_eq!(written.as_json(), expected);
            assert_eq!(expected.parse::<SessionData>().unwrap().0, written.0);
        }
        let versioned: SessionData = r#"{"cookie":{},"sosa":{"v":1,"rev":1,"created":9}}"#.parse().unwrap();
        assert_eq!((versioned.cookie(), versioned.keys().count()), (Some(&b"{}"[..]), 1));
        assert!(r#"{"sosa":{"v":2},"cookie":{}}"#.parse::<SessionData>().is_err());
        // Ours may hold something of that name.
        let ours: SessionData = r#"{"sosa":{"v":1,"rev":1,"created":9},"cookie":{"a":1}}"#.parse().unwrap();
        assert_eq!((ours.cookie(), ours.json("cookie")), (None, Some(r#"{"a":1}"#)));
        for none in [r#"{"cookie":null}"#, r#"{"cookie":"{}"}"#, r#"{"cookies":{}}"#] {
            assert_eq!(none.parse::<SessionData>().unwrap().cookie(), None);
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let data: SessionData = r#"{"key":"secret"}"#.parse().unwrap();
        let shown = format!("{data:?}");
        assert!(!shown.contains("secret") && !shown.contains("key\""), "{shown}");
    }

    proptest! {
        #[test]
        fn to_replace_values_is_to_write_all_members(
            values in prop::collection::vec(("[a-c]{0,5}", prop::option::of("[a-c]{0,9}")), 0..8),
            (old_rev, rev, created) in any::<(u64, u64, u64)>(),
            cookies in prop::option::of(("[a-c]{1,9}", "[a-c]{1,9}")),
        ) {
            let keys: Vec<_> = values.iter().enumerate().map(|(n, (key, _))| format!("{key}{n}")).collect();
            let text = |value: &str| format!("\"{value}\"");
            let old: Vec<_> = values.iter().map(|(key, _)| text(key)).collect();
            let new: Vec<_> = values.iter().map(|(key, new)| text(new.as_ref().unwrap_or(key))).collect();
            let write = |base: &SessionData, own, values: &[String]| {
                let members = keys.iter().zip(values).map(|(key, value)| (Cow::Borrowed(key.as_bytes()), value.as_bytes()));
                base.rewrite(own, &members.collect::<Vec<_>>()).unwrap()
            };
            let (before, after) = match &cookies {
                Some((before, after)) => (NewOwn::Express(before.as_bytes()), NewOwn::Express(after.as_bytes())),
                None => (NewOwn::Sosa { rev: old_rev, created }, NewOwn::Sosa { rev, created }),
            };
            let base = write(SessionData::empty(), before, &old);
            // From the end: their order is not that of the text.
            let changed = values.iter().zip(&keys).zip(&new).rev().filter(|(((_, new), _), _)| new.is_some());
            let cuts = changed.map(|((_, key), value)| base.cut_value(key, value.as_bytes())).collect::<Option<_>>();
            let replaced = base.replace(after, cuts.unwrap()).unwrap();
            prop_assert_eq!(&replaced.0, &write(&base, after, &new).0);
        }

        #[test]
        fn a_cookie_stays_between_what_stood_around_it(
            before in prop::collection::vec((0..9_u8, any::<bool>()), 0..4),
            after in prop::collection::vec(("2[0-9]|a|sosa", any::<bool>()), 0..4),
            new in prop::collection::vec("[bc]|1[0-9]", 0..3),
        ) {
            let (pair, cookie) = (|key: &str| format!("\"{key}\":0"), "\"cookie\":{}".to_owned());
            let stand: Vec<_> = before.iter().map(|(key, stays)| (pair(&key.to_string()), *stays)).collect();
            let follow: Vec<_> = after.iter().map(|(key, stays)| (pair(key), *stays)).collect();
            let all = [stand, vec![(cookie, true)], follow].concat();
            let object = |members: Vec<String>| format!("{{{}}}", members.join(","));
            let base: SessionData = object(all.iter().map(|(text, _)| text.clone()).collect()).parse().unwrap();

            let mut stay = before.iter().map(|(_, stays)| *stays).chain(after.iter().map(|(_, stays)| *stays));
            let mut members: Vec<_> = base.members().map(|(key, value)| (Cow::Borrowed(key), value)).collect();
            members.retain(|_| stay.next().unwrap());
            members.extend(new.iter().map(|key| (Cow::Borrowed(key.as_bytes()), &b"0"[..])));
            let written = base.rewrite(NewOwn::Express(b"{}"), &members).unwrap();

            let kept = all.into_iter().filter(|(_, stays)| *stays).map(|(text, _)| text);
            let expected = object(kept.chain(new.iter().map(|key| pair(key))).collect());
            prop_assert_eq!(written.as_json(), &expected);
            prop_assert_eq!(&expected.parse::<SessionData>().unwrap().0, &written.0);
        }

        #[test]
        fn what_is_written_can_be_read(
            members in prop::collection::btree_map(any::<String>().prop_filter("its own key", |key| key != OWN_KEY), any::<String>(), 0..8),
            rev: u64,
            created: u64,
        ) {
            let values: Vec<_> =
                members.iter().map(|(key, value)| (key, serde_json::to_string(value).unwrap())).collect();
            let written: Vec<_> = values
                .iter()
                .map(|(key, value)| (Cow::Owned(json::escape(key).into_owned().into_bytes()), value.as_bytes()))
                .collect();
            let data = SessionData::default().rewrite(NewOwn::Sosa { rev, created }, &written).unwrap();
            let read: SessionData = data.as_json().parse().unwrap();
            prop_assert_eq!(&read.0, &data.0);
            prop_assert_eq!((read.meta().rev, read.meta().created), (rev, created));
            for (key, value) in &members {
                prop_assert_eq!(read.get::<String>(key).unwrap(), Some(value.clone()));
            }
        }
    }
}
