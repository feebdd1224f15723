//! The keys of a collection: plain ones, or those of shards that spread over a cluster.

use std::fmt;

use redis::{RedisWrite, ToRedisArgs};
use sha1::{Digest, Sha1};
use sosa::{Key, Keyspace, Result};

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

    /// Returns the prefix of the values' keys. As a key it is that of an empty id, and so of no value.
    pub(crate) fn values(self) -> Values<'a> {
        Values(self)
    }

    /// Returns the key of the entry of this id.
    pub(crate) fn entry(self, id: &'a str) -> Result<EntryKey<'a>> {
        Ok(EntryKey { shard: self, key: self.keyspace.key(id)? })
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

/// The prefix of the values' keys: `myapp:people:`, or `myapp:people:{12--}:`.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a>(Shard<'a>);

/// The key of an entry: `myapp:people:ada`, or `myapp:people:{12--}:ada`.
#[derive(Clone, Copy)]
pub(crate) struct EntryKey<'a> {
    shard: Shard<'a>,
    key: Key<'a>,
}

impl<'a> EntryKey<'a> {
    pub(crate) fn shard(&self) -> Shard<'a> {
        self.shard
    }

    pub(crate) fn id(&self) -> &'a str {
        self.key.id()
    }

    /// Returns the key as a codec knows it, which is the same in shards and without.
    pub(crate) fn codec_key(&self) -> &Key<'a> {
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

impl fmt::Display for EntryKey<'_> {
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

argument!(Index, Values, EntryKey);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        let ranges: BTreeSet<_> =
            tags.iter().map(|tag| slot(tag.trim_matches(['{', '}'])) / (16384 / u16::from(SHARDS))).collect();
        assert_eq!(ranges.len(), usize::from(SHARDS), "one in each 256");
    }

    /// They are in people's servers.
    #[test]
    fn keys_are_golden() {
        let keyspace = Keyspace::new("my:app", "clubs").within("a/b");
        let key = |id| Shard::of(&keyspace, id).entry(id).unwrap().to_string();
        assert_eq!(key("ada"), "my%3Aapp:clubs/a%2Fb:{44--}:ada");
        assert_eq!(key("{x}"), "my%3Aapp:clubs/a%2Fb:{35--}:{x}");
        let shard = Shard::of(&keyspace, "ada");
        assert_eq!(shard.index().to_string(), "my%3Aapp:clubs/a%2Fb:{44--}");
        assert_eq!(shard.values().to_string(), "my%3Aapp:clubs/a%2Fb:{44--}:");
        let whole = Shard::whole(&keyspace);
        assert_eq!(whole.index().to_string(), "my%3Aapp:clubs/a%2Fb");
        assert_eq!(whole.entry("ada").unwrap().to_string(), "my%3Aapp:clubs/a%2Fb:ada");
    }
}
