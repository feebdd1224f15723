//! Where an entry lives: prefix, name, path and id as one unambiguous key, the same for all
//! backends.

use std::fmt;
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};

/// The most bytes that an id may have.
pub const MAX_ID_LEN: usize = 1024;

/// The place of one collection: its store's prefix, its name, and the path below it.
///
/// As text it is `prefix:name/path/…:`, and with the id behind it the key of an entry. In all but
/// the id the bytes `:` `/` `%` `{` `}` are percent-escaped, so no two different places or entries
/// share a key. `{` and `}` are, so that no name turns into a hash tag of a Redis cluster. Prefix, name
/// and path may be any text of any length; the program chooses them.
///
/// ```
/// use sosa::Keyspace;
///
/// let clubs = Keyspace::new("myapp", "clubs");
/// assert_eq!(clubs.key("chess")?.to_string(), "myapp:clubs:chess");
/// let members = clubs.within("chess/blitz");
/// assert_eq!(members.key("ada:1")?.to_string(), "myapp:clubs/chess%2Fblitz:ada:1");
/// # Ok::<(), sosa::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Keyspace {
    text: Arc<str>,
    /// Where prefix and name end, and the path begins.
    root: usize,
}

/// The place of one entry. Its `Display` is the whole key, id included; its `Debug` hides the id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key<'a> {
    keyspace: &'a Keyspace,
    id: &'a str,
}

impl Keyspace {
    /// Makes the place of the collection `name` in a store with this prefix.
    pub fn new(prefix: &str, name: &str) -> Self {
        let mut text = String::with_capacity(prefix.len() + name.len() + 2);
        escape_into(&mut text, prefix);
        text.push(':');
        escape_into(&mut text, name);
        let root = text.len();
        text.push(':');
        Self { text: text.into(), root }
    }

    /// Makes a place whose keys are this text, as it stands, and the id. For implementors, to reach
    /// what another program keeps under keys of its own: what the text means to others is outside of
    /// all that is said here of places that never meet.
    pub fn literal(text: &str) -> Self {
        Self { text: text.into(), root: text.strip_suffix(':').unwrap_or(text).len() }
    }

    /// Makes the place of a sub-collection. No entry of it shows in this collection.
    #[must_use]
    pub fn within(&self, path: &str) -> Self {
        let mut text = String::with_capacity(self.text.len() + path.len() + 2);
        text.push_str(self.name());
        text.push('/');
        escape_into(&mut text, path);
        text.push(':');
        Self { text: text.into(), root: self.root }
    }

    /// Returns the key of an id in this place.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidId`] if the id is empty or longer than [`MAX_ID_LEN`] bytes.
    pub fn key<'a>(&'a self, id: &'a str) -> Result<Key<'a>> {
        if id.is_empty() {
            return Err(Error::new(ErrorKind::InvalidId, "an id must not be empty"));
        }
        if id.len() > MAX_ID_LEN {
            return Err(Error::new(ErrorKind::InvalidId, "an id has at most 1,024 bytes"));
        }
        Ok(Key { keyspace: self, id })
    }

    /// Returns the whole text, to which an id is appended: `prefix:name/path:`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the text without the colon at its end: `prefix:name/path`. It is no key of any id in any
    /// place, and free for what a backend keeps beside the entries.
    pub fn name(&self) -> &str {
        self.text.strip_suffix(':').unwrap_or(&self.text)
    }

    /// Returns the part that names the collection and all below it: `prefix:name`.
    pub fn root(&self) -> &str {
        &self.text[..self.root]
    }

    /// Returns the part behind the root, to which an id is appended: `/path:`, or `:` at the root.
    pub fn path(&self) -> &str {
        &self.text[self.root..]
    }
}

/// Shows the place, which names no entry.
impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyspace({})", self.text)
    }
}

impl<'a> Key<'a> {
    /// Returns the place of the collection.
    pub fn keyspace(&self) -> &'a Keyspace {
        self.keyspace
    }

    /// Returns the id, as it was given.
    pub fn id(&self) -> &'a str {
        self.id
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.keyspace.text)?;
        f.write_str(self.id)
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}..)", self.keyspace.text)
    }
}

fn escape_into(text: &mut String, part: &str) {
    for char in part.chars() {
        match char {
            ':' => text.push_str("%3A"),
            '/' => text.push_str("%2F"),
            '%' => text.push_str("%25"),
            '{' => text.push_str("%7B"),
            '}' => text.push_str("%7D"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(prefix: &str, name: &str, path: &[impl AsRef<str>]) -> Keyspace {
        path.iter().fold(Keyspace::new(prefix, name), |place, part| place.within(part.as_ref()))
    }

    /// Stored data depends on these: a change is a breaking change of the stored format.
    #[test]
    fn golden_keys() {
        let none: [&str; 0] = [];
        for (place, id, key) in [
            (place("myapp", "people", &none), "ada", "myapp:people:ada"),
            (place("", "", &none), ":", ":::"),
            (place("a:b", "c/d", &none), "e%f", "a%3Ab:c%2Fd:e%f"),
            (place("100%", "{tag}", &none), "{x}", "100%25:%7Btag%7D:{x}"),
            (place("myapp", "clubs", &["ada"]), "1", "myapp:clubs/ada:1"),
            (place("myapp", "clubs", &["a/b", "", "ü"]), "1", "myapp:clubs/a%2Fb//ü:1"),
        ] {
            assert_eq!(place.key(id).unwrap().to_string(), key);
            assert_eq!(format!("{}{}", place.root(), place.path()), place.as_str());
        }
    }

    #[test]
    fn a_literal_is_taken_as_it_stands() {
        let literal = Keyspace::literal("{sess}:");
        assert_eq!(literal.key("a:b").unwrap().to_string(), "{sess}:a:b");
        assert_eq!((literal.root(), literal.path(), literal.name()), ("{sess}", ":", "{sess}"));
        assert_eq!(literal.within("x").as_str(), "{sess}/x:");
        assert_eq!(Keyspace::literal("s").within("x").as_str(), "s/x:");
        assert_eq!(Keyspace::literal("").key("id").unwrap().to_string(), "id");
    }

    #[test]
    fn the_length_of_an_id_is_bounded_in_bytes() {
        let place = Keyspace::new("p", "n");
        for (id, valid) in
            [(String::new(), false), ("é".repeat(512), true), ("é".repeat(512) + "x", false), ("\0".into(), true)]
        {
            assert_eq!(place.key(&id).is_ok(), valid);
        }
    }

    #[test]
    fn debug_hides_the_id() {
        let place = Keyspace::new("p", "n");
        assert_eq!(format!("{:?}", place.key("secret").unwrap()), "Key(p:n:..)");
    }

    /// Few different characters, so that different places come close to each other.
    fn part() -> impl Strategy<Value = String> {
        "[a:/%{}2F]{0,3}"
    }

    fn whole() -> impl Strategy<Value = (String, String, Vec<String>, String)> {
        (part(), part(), prop::collection::vec(part(), 0..3), "[a:/%{}]{1,3}")
    }

    proptest! {
        #[test]
        fn different_places_have_different_keys(a in whole(), b in whole()) {
            let key = |(prefix, name, path, id): &(String, String, Vec<String>, String)| {
                place(prefix, name, path).key(id).unwrap().to_string()
            };
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }
    }
}
