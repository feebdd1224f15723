//! Where the members of a JSON object lie in its text.
//!
//! The text has been checked to be JSON before; nothing here decodes or checks a value, so that
//! what nobody edits keeps its bytes, however deep it is nested and however its numbers are written.

use std::borrow::Cow;

/// Where something begins in a text, and the offset behind it.
pub(crate) type Range = (u32, u32);

/// Where one member lies: the key without its quotes, and the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) key: Range,
    pub(crate) value: Range,
}

/// Finds the members of the object that `text` is; `None` if it is no object, or is 4 GiB or more.
pub(crate) fn members(text: &[u8]) -> Option<Vec<Span>> {
    u32::try_from(text.len()).ok()?;
    let (spans, end) = members_at(text, space(text, 0), |at| value_end(text, at))?;
    (space(text, end) == text.len()).then_some(spans)
}

/// Finds the members of the object that begins at `at`, and the offset behind it.
fn members_at(text: &[u8], at: usize, value_end: impl Fn(usize) -> Option<usize>) -> Option<(Vec<Span>, usize)> {
    let span = |from: usize, to: usize| (from as u32, to as u32);
    let mut spans = Vec::new();
    if text.get(at) != Some(&b'{') {
        return None;
    }
    let mut at = space(text, at + 1);
    while text.get(at) == Some(&b'"') {
        let key_end = string_end(text, at)?;
        let colon = space(text, key_end);
        let value = space(text, colon + 1);
        let value_end = value_end(value)?;
        spans.push(Span { key: span(at + 1, key_end - 1), value: span(value, value_end) });
        at = space(text, value_end);
        if text.get(at) == Some(&b',') {
            at = space(text, at + 1);
        }
    }
    (text.get(at) == Some(&b'}')).then_some((spans, at + 1))
}

/// Returns what lies in a range.
pub(crate) fn slice(text: &[u8], (from, to): Range) -> &[u8] {
    &text[from as usize..to as usize]
}

/// Returns a range of a text as text.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("JSON is text, and cut between characters")
}

/// Returns what a key says, given its text without the quotes. A key that no Rust string can hold,
/// with half a surrogate pair in it, is `None`.
pub(crate) fn unescape(key: &[u8]) -> Option<Cow<'_, str>> {
    if !key.contains(&b'\\') {
        return std::str::from_utf8(key).ok().map(Cow::Borrowed);
    }
    let quoted = [b"\"", key, b"\""].concat();
    serde_json::from_slice(&quoted).ok().map(Cow::Owned)
}

/// Returns a key as it is written in JSON, without the quotes.
pub(crate) fn escape(key: &str) -> Cow<'_, str> {
    if key.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        return Cow::Borrowed(key);
    }
    let quoted = serde_json::Value::from(key).to_string();
    Cow::Owned(quoted[1..quoted.len() - 1].to_owned())
}

/// Returns whether two JSON texts, without space around them, tell the same value: the order of
/// members and the space between them do not count. Numbers are compared as they are written, since
/// no number of Rust holds them all. Of values that are nested too deep to compare, it says no.
///
/// It looks at each byte a few times, however deep that is nested, since the texts come from clients.
pub(crate) fn same_value(one: &[u8], other: &[u8]) -> bool {
    let all = |nested: &Nested<'_>| (0, nested.text.len() as u32);
    one == other
        || match (one.first(), other.first()) {
            (Some(b'['), Some(b'[')) | (Some(b'{'), Some(b'{')) => match (Nested::of(one), Nested::of(other)) {
                (Some(one), Some(other)) => one.is_same(all(&one), &other, all(&other)),
                _ => false,
            },
            _ => same_scalar(one, other),
        }
}

fn same_scalar(one: &[u8], other: &[u8]) -> bool {
    looked_at(one.len() + other.len());
    match (one, other) {
        ([b'"', one @ .., b'"'], [b'"', other @ .., b'"']) => {
            let one = unescape(one);
            one.is_some() && one == unescape(other)
        }
        _ => one == other,
    }
}

/// How deep a value may be nested that is compared.
const MAX_DEPTH: usize = 128;

/// An array or object, and where those in it end, so that each is passed over in one step.
struct Nested<'a> {
    text: &'a [u8],
    /// For each place at which one begins, the offset behind it.
    ends: Vec<u32>,
}

impl<'a> Nested<'a> {
    /// Looks through a text; `None` if it is nested too deep, or is 4 GiB or more.
    fn of(text: &'a [u8]) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        let mut ends = vec![0; text.len()];
        let mut open = Vec::new();
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            looked_at(1);
            match byte {
                b'"' => {
                    at = string_end(text, at)?;
                    continue;
                }
                b'[' | b'{' if open.len() == MAX_DEPTH => return None,
                b'[' | b'{' => open.push(at),
                b']' | b'}' => ends[open.pop()?] = at as u32 + 1,
                _ => {}
            }
            at += 1;
        }
        open.is_empty().then_some(Self { text, ends })
    }

    fn value_end(&self, at: usize) -> Option<usize> {
        match self.ends.get(at)? {
            0 => value_end(self.text, at),
            end => Some(*end as usize),
        }
    }

    fn is_same(&self, here: Range, other: &Self, there: Range) -> bool {
        let (one, two) = (slice(self.text, here), slice(other.text, there));
        match (one.first(), two.first()) {
            (Some(b'['), Some(b'[')) => match (self.elements(here), other.elements(there)) {
                (Some(ones), Some(others)) => {
                    ones.len() == others.len()
                        && ones.into_iter().zip(others).all(|(here, there)| self.is_same(here, other, there))
                }
                _ => false,
            },
            (Some(b'{'), Some(b'{')) => match (self.sorted(here), other.sorted(there)) {
                (Some(ones), Some(others)) => {
                    ones.len() == others.len()
                        && ones.iter().zip(&others).all(|(a, b)| a.0 == b.0 && self.is_same(a.1, other, b.1))
                }
                _ => false,
            },
            _ => same_scalar(one, two),
        }
    }

    /// Finds the elements of an array.
    fn elements(&self, (from, _): Range) -> Option<Vec<Range>> {
        let mut elements = Vec::new();
        let mut at = space(self.text, from as usize + 1);
        while self.text.get(at)? != &b']' {
            let end = self.value_end(at)?;
            elements.push((at as u32, end as u32));
            at = space(self.text, end);
            if self.text.get(at) == Some(&b',') {
                at = space(self.text, at + 1);
            }
        }
        Some(elements)
    }

    /// Returns the members of an object by their keys; `None` if a key cannot be told.
    fn sorted(&self, (from, _): Range) -> Option<Vec<(Cow<'a, str>, Range)>> {
        let (spans, _) = members_at(self.text, from as usize, |at| self.value_end(at))?;
        let members = spans.iter().map(|span| Some((unescape(slice(self.text, span.key))?, span.value)));
        let mut members: Vec<_> = members.collect::<Option<_>>()?;
        members.sort_by(|one, other| one.0.cmp(&other.0));
        Some(members)
    }
}

#[cfg(test)]
thread_local! {
    /// How many bytes were looked at.
    static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts bytes, for a test.
#[cfg(test)]
fn looked_at(bytes: usize) {
    LOOKED_AT.set(LOOKED_AT.get() + bytes);
}

#[cfg(not(test))]
fn looked_at(_: usize) {}

fn space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let len = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
    looked_at(len + 1);
    at + len
}

/// Returns the offset behind the string that starts at `at`.
fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        looked_at(1);
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns the offset behind the value that starts at `at`.
fn value_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    let mut depth = 0_usize;
    loop {
        looked_at(1);
        match text.get(at)? {
            b'"' => at = string_end(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ if depth > 0 => at += 1,
            // A number or a word, which ends where the object goes on.
            _ => {
                let rest = text.get(at..)?;
                let len =
                    rest.iter().take_while(|byte| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'));
                let len = len.count();
                looked_at(len);
                at += len;
            }
        }
        if depth == 0 {
            return (at > start).then_some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    fn pairs(text: &str) -> Option<Vec<(Option<String>, &str)>> {
        let cut = |(from, to): (u32, u32)| &text[from as usize..to as usize];
        let spans = members(text.as_bytes())?;
        Some(
            spans
                .iter()
                .map(|span| (unescape(cut(span.key).as_bytes()).map(Cow::into_owned), cut(span.value)))
                .collect(),
        )
    }

    #[test]
    fn awkward_objects() {
        let key = |key: &str| Some(key.to_owned());
        assert_eq!(pairs("{}"), Some(vec![]));
        assert_eq!(pairs(" { \n} "), Some(vec![]));
        assert_eq!(
            pairs(r#" { "a" : 1e+21 , "b\"\\":"}]\"" ,"":[{"c":[]},"]"],"\u00e9":null } "#),
            Some(vec![
                (key("a"), "1e+21"),
                (key("b\"\\"), r#""}]\"""#),
                (key(""), r#"[{"c":[]},"]"]"#),
                (key("é"), "null"),
            ])
        );
        assert_eq!(pairs(r#"{"\ud83d":1}"#), Some(vec![(None, "1")]));
        for text in ["", "[]", "1", "\"{}\"", "null", "{", "{\"a\":", "{\"a\":1", "{\"a\":[1}", "{}x"] {
            assert_eq!(pairs(text), None, "{text}");
        }
    }

    #[test]
    fn equal_values_need_not_be_written_alike() {
        assert!(same_value(b"{\"a\":1,\"b\":[]}", b"{ \"b\" : [ ], \"a\" : 1 }"));
        for (one, other, same) in [
            (r#"[1, "\u00e9", {"b":{}, "a":null}]"#, r#"[1,"é",{"a":null,"b":{}}]"#, true),
            ("1", "\"1\"", false),
            ("[1]", "[1,2]", false),
            ("[1,2]", "[2,1]", false),
            (r#"{"a":1}"#, r#"{"a":2}"#, false),
            (r#"{"a":1}"#, r#"{"b":1}"#, false),
            // More digits than a float has: another number.
            ("340282366920938463463374607431768211454", "340282366920938463463374607431768211455", false),
            ("2.1203002766442553e-298", "2.120300276644255e-298", false),
        ] {
            assert_eq!(same_value(one.as_bytes(), other.as_bytes()), same, "{one} {other}");
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(same_value(deep.as_bytes(), deep.as_bytes()));
        assert!(!same_value(deep.as_bytes(), (deep.clone() + " ").as_bytes()));
        let deep = |depth| ("[".repeat(depth) + &"]".repeat(depth), "[".repeat(depth) + " " + &"]".repeat(depth));
        for (depth, same) in [(128, true), (129, false)] {
            let (one, other) = deep(depth);
            assert_eq!(same_value(one.as_bytes(), other.as_bytes()), same);
        }
    }

    /// Work is counted in bytes, not in time.
    #[test]
    fn deep_values_cost_no_more_than_flat_ones() {
        let (long, list) = (format!("\"{}\"", "x".repeat(100_000)), vec![r#"[1,{"a":[]}]"#; 10_000].join(","));
        let nest = |open: &str, inner: &str, close: &str| open.repeat(60) + inner + &close.repeat(60);
        for (one, other) in [
            (format!("[{long}]"), format!("[{long} ]")),
            (format!("[{list}]"), format!("[{list} ]")),
            (nest("[[", &long, "]]"), nest("[ [", &long, "]]")),
            (nest("[[", &list, "]]"), nest("[ [", &list, "]]")),
            // At each depth the members are in another order.
            (nest(r#"{"a":1,"b":["#, &long, "]}"), nest(r#"{"b":["#, &long, r#"],"a":1}"#)),
            (nest(r#"{"a":[],"b":["#, &list, "]}"), nest(r#"{"b":["#, &list, r#"],"a":[]}"#)),
        ] {
            LOOKED_AT.set(0);
            assert!(same_value(one.as_bytes(), other.as_bytes()));
            let (looked_at, len) = (LOOKED_AT.get(), one.len() + other.len());
            assert!((len..=4 * len).contains(&looked_at), "{looked_at} of {len} bytes");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    fn awkward() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(br#"{}[]",:\a1 "#.to_vec()), 0..40)
    }

    proptest! {
        #[test]
        fn members_are_what_a_parser_finds(
            map in prop::collection::btree_map(any::<String>(), value(), 0..8),
            pretty: bool,
        ) {
            let object = Value::from(map.into_iter().collect::<Map<_, _>>());
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let text = text.unwrap();
            let found: Map<String, Value> = pairs(&text)
                .unwrap()
                .into_iter()
                .map(|(key, value)| (key.unwrap(), serde_json::from_str(value).unwrap()))
                .collect();
            prop_assert_eq!(Value::from(found), object);
        }

        #[test]
        fn a_value_is_the_same_however_it_is_written(one in value(), other in value()) {
            let (plain, pretty) = (serde_json::to_vec(&one).unwrap(), serde_json::to_vec_pretty(&one).unwrap());
            prop_assert!(same_value(&plain, &pretty));
            prop_assert_eq!(same_value(&plain, &serde_json::to_vec(&other).unwrap()), one == other);
        }

        #[test]
        fn escaping_a_key_is_undone(key: String) {
            let written = escape(&key);
            prop_assert_eq!(unescape(written.as_bytes()).unwrap(), key.as_str());
        }

        #[test]
        fn nothing_makes_it_panic(one in awkward(), other in awkward()) {
            let _ = (members(&one), same_value(&one, &other));
        }
    }
}
