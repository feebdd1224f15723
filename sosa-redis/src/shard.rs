//! Where the entries of a collection are: under plain keys, or in shards that spread over a cluster.

use std::fmt;

use redis::{RedisWrite, ToRedisArgs};
use sha1::{Digest, Sha1};
use sosa::{Cursor, Key, Keyspace, Result};

/// How many shards there are. It is part of the keys, and cannot change.
pub(crate) const SHARDS: u8 = 64;

/// A part of a collection whose keys are all on one slot of a cluster; or all of it, under plain keys.
#[derive(Clone, Copy)]
pub(crate) struct Shard<'a> {
    keyspace: &'a Keyspace,
    tag: Option<Tag>,
}

impl<'a> Shard<'a> {
    /// Returns the whole collection, under plain keys.
    pub(crate) fn whole(keyspace: &'a Keyspace) -> Self {
        Self { keyspace, tag: None }
    }

    /// Returns the shard in which an id is.
    pub(crate) fn of(keyspace: &'a Keyspace, id: &str) -> Self {
        Self { keyspace, tag: Some(Tag::of(id)) }
    }

    /// Returns all shards.
    pub(crate) fn all(keyspace: &'a Keyspace) -> impl Iterator<Item = Self> {
        (0..SHARDS).map(move |number| Self { keyspace, tag: Some(Tag(number)) })
    }

    /// Returns the number that tells the shards of a collection apart.
    pub(crate) fn number(self) -> Option<u8> {
        self.tag.map(|tag| tag.0)
    }

    /// Returns the key of the index.
    pub(crate) fn index(self) -> Index<'a> {
        Index(self)
    }

    /// Returns what the keys of values start with. It is the key of an empty id, and so of no value.
    pub(crate) fn values(self) -> Values<'a> {
        Values(self)
    }

    /// Returns where the entry of this id is.
    pub(crate) fn entry(self, id: &'a str) -> Result<Place<'a>> {
        Ok(Place { shard: self, key: self.keyspace.key(id)? })
    }
}

/// A hash tag: of a key with `{…}` in it only that decides on the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag(u8);

impl Tag {
    fn of(id: &str) -> Self {
        Self(Sha1::digest(id)[0] % SHARDS)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With these dashes, and octal, the 64 slots lie evenly over all there are: one in each 256.
        write!(f, "{{{:02o}--}}", self.0)
    }
}

/// The key of an index: `myapp:people`, or `myapp:people:{12--}`.
#[derive(Clone, Copy)]
pub(crate) struct Index<'a>(Shard<'a>);

/// What the keys of values start with: `myapp:people:`, or `myapp:people:{12--}:`.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a>(Shard<'a>);

/// Where an entry is. As an argument it is the key: `myapp:people:ada`, or `myapp:people:{12--}:ada`.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    shard: Shard<'a>,
    key: Key<'a>,
}

impl<'a> Place<'a> {
    pub(crate) fn shard(&self) -> Shard<'a> {
        self.shard
    }

    pub(crate) fn id(&self) -> &'a str {
        self.key.id()
    }

    /// Returns the key as a codec knows it, which is the same wherever an entry is stored.
    pub(crate) fn key(&self) -> &Key<'a> {
        &self.key
    }

    /// Returns about how long the key is.
    pub(crate) fn len(&self) -> usize {
        const TAG: usize = "{00--}:".len();
        self.shard.keyspace.as_str().len() + self.id().len() + TAG
    }
}

impl fmt::Display for Index<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.tag {
            None => f.write_str(self.0.keyspace.name()),
            Some(tag) => write!(f, "{}{tag}", self.0.keyspace.as_str()),
        }
    }
}

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.keyspace.as_str())?;
        match self.0.tag {
            None => Ok(()),
            Some(tag) => write!(f, "{tag}:"),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shard.values().fmt(f)?;
        f.write_str(self.id())
    }
}

macro_rules! argument {
    ($($kind:ident),*) => {$(
        impl ToRedisArgs for $kind<'_> {
            fn write_redis_args<W: RedisWrite + ?Sized>(&self, out: &mut W) {
                out.write_arg_fmt(self);
            }
        }
    )*};
}

argument!(Index, Values, Place);

/// What one shard has for a page.
pub(crate) struct Part<'a> {
    pub(crate) shard: Shard<'a>,
    /// In the order of the listing.
    pub(crate) ids: Vec<String>,
    /// The last id that was read, if there may be more.
    pub(crate) last: Option<String>,
}

/// Returns how many ids to read in each of so many shards for a page: somewhat more than the share of each,
/// since the page ends where the first shard does.
pub(crate) fn share(limit: usize, shards: usize) -> usize {
    if shards == 1 {
        return limit;
    }
    let share = limit as f64 / shards as f64;
    (share + 2.0 * share.sqrt() + 1.0).ceil() as usize
}

/// Puts together what the shards have for a page of at most this many ids, and returns behind which id the
/// next page goes on, if there may be one.
pub(crate) fn merge(parts: Vec<Part<'_>>, limit: usize, reverse: bool) -> (Vec<(Shard<'_>, String)>, Option<Cursor>) {
    let comes_before = |a: &str, b: &str| if reverse { a > b } else { a < b };
    // Behind the last id that a shard was asked for, nobody knows what it has.
    let lasts = parts.iter().filter_map(|part| part.last.as_deref());
    let mut end = lasts.reduce(|a, b| if comes_before(a, b) { a } else { b }).map(str::to_owned);
    let mut ids: Vec<_> =
        parts.into_iter().flat_map(|part| part.ids.into_iter().map(move |id| (part.shard, id))).collect();
    if let Some(end) = &end {
        ids.retain(|(_, id)| !comes_before(end, id));
    }
    // What comes from one index is in order.
    ids.sort_by(|(_, a), (_, b)| if reverse { b.cmp(a) } else { a.cmp(b) });
    if ids.len() > limit {
        ids.truncate(limit);
        end = ids.last().map(|(_, id)| id.clone());
    }
    (ids, end.map(Cursor::after))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// CRC-16 as the specification of Redis Cluster has it.
    fn slot(key: &str) -> u16 {
        let crc = key.bytes().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
        });
        crc % 16384
    }

    #[test]
    fn tags_lie_evenly_over_the_slots() {
        assert_eq!(slot("123456789"), 0x31c3);
        let tags: Vec<_> = (0..SHARDS).map(|number| Tag(number).to_string()).collect();
        let stretches: BTreeSet<_> =
            tags.iter().map(|tag| slot(tag.trim_matches(['{', '}'])) / (16384 / u16::from(SHARDS))).collect();
        assert_eq!(stretches.len(), usize::from(SHARDS), "one in each stretch");
    }

    /// They are in people's servers.
    #[test]
    fn keys_are_golden() {
        let keyspace = Keyspace::new("my:app", "clubs").within("a/b");
        let place = |id| Shard::of(&keyspace, id).entry(id).unwrap().to_string();
        assert_eq!(place("ada"), "my%3Aapp:clubs/a%2Fb:{44--}:ada");
        assert_eq!(place("{x}"), "my%3Aapp:clubs/a%2Fb:{35--}:{x}");
        let shard = Shard::of(&keyspace, "ada");
        assert_eq!(shard.index().to_string(), "my%3Aapp:clubs/a%2Fb:{44--}");
        assert_eq!(shard.values().to_string(), "my%3Aapp:clubs/a%2Fb:{44--}:");
        let whole = Shard::whole(&keyspace);
        assert_eq!(whole.index().to_string(), "my%3Aapp:clubs/a%2Fb");
        assert_eq!(whole.entry("ada").unwrap().to_string(), "my%3Aapp:clubs/a%2Fb:ada");
    }

    /// It ends where the first shard does, of each of which somewhat more than its share was read.
    #[test]
    fn a_full_page_is_nearly_full() {
        let keyspace = Keyspace::new("", "things");
        let ids: Vec<_> = (0..100_000).map(|n| format!("{n:06}")).collect();
        for limit in [10, 100, 1000] {
            let (found, next) = page(&keyspace, &ids, limit, false, None);
            assert!(next.is_some() && found.len() >= limit / 2, "{} of {limit}", found.len());
        }
    }

    /// Reads a page as a collection does, from shards that are kept in memory.
    fn page(
        keyspace: &Keyspace,
        ids: &[String],
        limit: usize,
        reverse: bool,
        after: Option<&Cursor>,
    ) -> (Vec<String>, Option<Cursor>) {
        let share = share(limit, SHARDS.into());
        let parts = Shard::all(keyspace).map(|shard| {
            let mut own: Vec<_> = ids
                .iter()
                .filter(|id| Some(Tag::of(id)) == shard.tag)
                .filter(|id| {
                    after
                        .map(Cursor::as_str)
                        .is_none_or(|after| if reverse { id.as_str() < after } else { id.as_str() > after })
                })
                .cloned()
                .collect();
            if reverse {
                own.reverse();
            }
            own.truncate(share);
            let last = (own.len() == share).then(|| own.last().cloned()).flatten();
            Part { shard, ids: own, last }
        });
        let (found, next) = merge(parts.collect(), limit, reverse);
        (found.into_iter().map(|(_, id)| id).collect(), next)
    }

    proptest! {
        #[test]
        fn pages_go_through_all_ids_in_order(
            ids in prop::collection::btree_set("[a-d]{1,5}", 0..300),
            limit in 1..200_usize,
            reverse: bool,
        ) {
            let keyspace = Keyspace::new("", "things");
            let ids: Vec<_> = ids.into_iter().collect();
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let (page, next) = page(&keyspace, &ids, limit, reverse, after.as_ref());
                prop_assert!(page.len() <= limit);
                found.extend(page);
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            let mut expected = ids;
            if reverse {
                expected.reverse();
            }
            prop_assert_eq!(found, expected);
        }
    }
}
