//! The ordered index of all ids: it changes only when an entry is created or removed.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

/// All keys of a table, ascending.
#[derive(Default)]
pub(crate) struct Index(RwLock<BTreeSet<Ordered>>);

/// A key, and beside it its first bytes, which tell most keys apart: the key itself lies elsewhere in memory. The
/// order is that of the keys.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ordered {
    head: u64,
    key: Arc<str>,
}

impl Ordered {
    fn new(key: Arc<str>) -> Self {
        let mut head = [0; 8];
        let len = key.len().min(head.len());
        head[..len].copy_from_slice(&key.as_bytes()[..len]);
        Self { head: u64::from_be_bytes(head), key }
    }
}

/// A stretch of the index: keys that start with `prefix`, behind `after` in the order of the walk.
pub(crate) struct Walk<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) after: Option<&'a str>,
    pub(crate) reverse: bool,
}

impl Index {
    /// Adds a key, or returns the limit if there are that many already.
    pub(crate) fn insert(&self, key: Arc<str>, limit: Option<usize>) -> Result<(), usize> {
        let mut keys = self.write();
        match limit {
            Some(limit) if keys.len() >= limit => Err(limit),
            _ => {
                keys.insert(Ordered::new(key));
                Ok(())
            }
        }
    }

    /// Removes keys.
    pub(crate) fn remove<'a>(&self, removed: impl IntoIterator<Item = &'a Arc<str>>) {
        let mut keys = self.write();
        for key in removed {
            keys.remove(&Ordered::new(key.clone()));
        }
    }

    /// Returns up to `limit` keys of a stretch, and whether there are more.
    pub(crate) fn page(&self, walk: &Walk<'_>, limit: usize) -> (Vec<Arc<str>>, bool) {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // The end of the stretch, so that a walk starts right at it in either direction.
        let end = successor(walk.prefix);
        let mut low = Bound::Included(walk.prefix);
        let mut high = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        match walk.after {
            // A cursor from elsewhere may lie outside the stretch; a range must not be inverted.
            Some(after) if !walk.reverse && after >= walk.prefix => low = Bound::Excluded(after),
            Some(after) if walk.reverse && end.as_deref().is_none_or(|end| after < end) => {
                high = Bound::Excluded(after);
            }
            _ => {}
        }
        if is_empty(low, high) {
            return (Vec::new(), false);
        }
        let bound = |bound: Bound<&str>| bound.map(|key| Ordered::new(key.into()));
        let range = keys.range((bound(low), bound(high)));
        if walk.reverse { take_page(range.rev(), limit) } else { take_page(range, limit) }
    }

    /// Returns how many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    // A panic while it is held can only come from an allocation that failed; the set is whole.
    fn write(&self) -> RwLockWriteGuard<'_, BTreeSet<Ordered>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_empty(low: Bound<&str>, high: Bound<&str>) -> bool {
    match (low, high) {
        (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

fn take_page<'a>(mut keys: impl Iterator<Item = &'a Ordered>, limit: usize) -> (Vec<Arc<str>>, bool) {
    let page = keys.by_ref().take(limit).map(|ordered| ordered.key.clone()).collect();
    (page, keys.next().is_some())
}

/// Returns the least text that is greater than all that start with `prefix`, if there is one.
fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // UTF-8 orders as code points do; there is no char between U+D7FF and U+E000.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_page_is_what_a_filter_finds(
            keys in prop::collection::btree_set("[ab\u{D7FF}\u{10FFFF}]{0,4}", 0..30),
            prefix in "[ab\u{D7FF}\u{10FFFF}]{0,2}",
            after in prop::option::of("[ab\u{D7FF}\u{10FFFF}]{0,4}"),
            limit in 1usize..10,
            reverse: bool,
        ) {
            let index = Index::default();
            for key in &keys {
                index.insert(key.as_str().into(), None).unwrap();
            }
            let mut expected: Vec<_> = keys
                .iter()
                .filter(|key| key.starts_with(&prefix))
                .filter(|key| after.as_ref().is_none_or(|after| {
                    if reverse { *key < after } else { *key > after }
                }))
                .map(|key| Arc::<str>::from(key.as_str()))
                .collect();
            if reverse {
                expected.reverse();
            }
            let more = expected.len() > limit;
            expected.truncate(limit);
            let walk = Walk { prefix: &prefix, after: after.as_deref(), reverse };
            prop_assert_eq!(index.page(&walk, limit), (expected, more));
        }
    }
}
