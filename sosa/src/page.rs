//! Pages of a listing, and where the next one starts.

use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::{Entry, Result};

/// One page of a listing.
///
/// A page may hold fewer items than the limit, even none: only [`next`](Page::next) says whether
/// there is more. To walk all pages, use [`CollectionExt::stream`](crate::CollectionExt::stream).
#[must_use = "a page holds at most `limit` items: follow `next`, or use `stream`"]
#[non_exhaustive]
pub struct Page<T> {
    /// The items, in the order of the listing.
    pub items: Vec<Item<T>>,
    /// Where the next page starts, or `None` at the end.
    pub next: Option<Cursor>,
}

/// One entry of a page.
#[non_exhaustive]
pub struct Item<T> {
    /// The entry's id.
    pub id: String,
    /// The entry; its error, if what is stored could not be decoded; `None` if only ids were asked
    /// for.
    pub entry: Option<Result<Entry<T>>>,
}

impl<T> Page<T> {
    /// Makes a page.
    pub fn new(items: Vec<Item<T>>, next: Option<Cursor>) -> Self {
        Self { items, next }
    }

    /// Returns the ids, in the order of the listing.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|item| item.id.as_str())
    }

    /// Returns the values that could be decoded; the others are left out.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter().filter_map(Item::value)
    }

    /// Turns the page into ids and values.
    ///
    /// # Errors
    ///
    /// The error of the first item that could not be decoded.
    pub fn into_pairs(self) -> Result<Vec<(String, T)>> {
        self.items.into_iter().filter_map(|Item { id, entry }| Some(entry?.map(|entry| (id, entry.value)))).collect()
    }
}

impl<T> Item<T> {
    /// Makes an item: an entry, or the error of one that could not be decoded.
    pub fn new(id: impl Into<String>, entry: Result<Entry<T>>) -> Self {
        Self { id: id.into(), entry: Some(entry) }
    }

    /// Makes an item for a listing of ids only.
    pub fn id_only(id: impl Into<String>) -> Self {
        Self { id: id.into(), entry: None }
    }

    /// Returns the value, if it was asked for and could be decoded.
    pub fn value(&self) -> Option<&T> {
        Some(&self.entry.as_ref()?.as_ref().ok()?.value)
    }
}

// Neither ids nor values: in some collections an id is a secret.
impl<T> fmt::Debug for Item<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Page<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("items", &self.items).field("next", &self.next).finish()
    }
}

/// A position in a listing, from [`Page::next`](crate::Page::next).
///
/// It is text that survives a restart of the program and of the store, and may travel to a client
/// and back. It contains an id. A hand-made cursor starts after that position, whether or not such an id exists.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor(String);

impl Cursor {
    /// Makes the cursor of the page that goes on behind `id`. For implementors, and for those who
    /// take a cursor back from a client.
    pub fn after(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// Returns the cursor as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor(..)")
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Revision;

    #[test]
    fn debug_shows_neither_ids_nor_values() {
        let entry = Entry::new("the value", Revision::new(b"hash").unwrap());
        let page = Page::new(vec![Item::new("the id", Ok(entry))], Some(Cursor::after("the id")));
        let shown = format!("{page:?}");
        for secret in ["the id", "the value", "68617368"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
