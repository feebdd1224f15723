//! A page of a listing: which ids of an index belong to it, and how those of all shards become one.

use sosa::{Cursor, ListOptions};

use crate::keys::Shard;

/// A range of ids in ascending order, as `ZRANGE … BYLEX` takes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LexRange {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

impl LexRange {
    /// Returns the range that a listing goes through.
    pub(crate) fn of(options: &ListOptions) -> Self {
        let start = options.starts_with.as_bytes();
        let end = match start {
            [] => b"+".to_vec(),
            // No UTF-8 text has this byte, so all that starts with the text comes before it.
            _ => [b"(", start, &[0xff]].concat(),
        };
        let begin = match start {
            [] => b"-".to_vec(),
            _ => [b"[", start].concat(),
        };
        let behind = |cursor: &Cursor| [b"(", cursor.as_str().as_bytes()].concat();
        match &options.cursor {
            None => Self { from: begin, to: end },
            Some(cursor) if options.reverse => {
                let lower = start.is_empty() || *cursor.as_str().as_bytes() < *[start, &[0xff]].concat();
                Self { from: begin, to: if lower { behind(cursor) } else { end } }
            }
            Some(cursor) => {
                let higher = cursor.as_str().as_bytes() >= start;
                Self { from: if higher { behind(cursor) } else { begin }, to: end }
            }
        }
    }
}

/// The part of a page that comes from one shard.
pub(crate) struct ShardPage<'a> {
    pub(crate) shard: Shard<'a>,
    /// In the order of the listing.
    pub(crate) ids: Vec<String>,
    /// The last id that was read, if there may be more.
    pub(crate) last: Option<String>,
}

/// Returns how many ids to read in each shard for a page: somewhat more than the shard's share, since the page ends where
/// the first shard's ids end.
pub(crate) fn share(limit: usize, shards: usize) -> usize {
    if shards == 1 {
        return limit;
    }
    let share = limit as f64 / shards as f64;
    (share + 2.0 * share.sqrt() + 1.0).ceil() as usize
}

/// Merges the shards' ids into a page of at most this many, and returns the cursor of the next page if there may be one.
pub(crate) fn merge(
    parts: Vec<ShardPage<'_>>,
    limit: usize,
    reverse: bool,
) -> (Vec<(Shard<'_>, String)>, Option<Cursor>) {
    let comes_before = |a: &str, b: &str| if reverse { a > b } else { a < b };
    // A shard may have more ids beyond the last one it returned, so the page ends at the first of these.
    let lasts = parts.iter().filter_map(|part| part.last.as_deref());
    let mut end = lasts.reduce(|a, b| if comes_before(a, b) { a } else { b }).map(str::to_owned);
    let mut ids: Vec<_> =
        parts.into_iter().flat_map(|part| part.ids.into_iter().map(move |id| (part.shard, id))).collect();
    if let Some(end) = &end {
        ids.retain(|(_, id)| !comes_before(end, id));
    }
    // The ids of one shard are in order already; a sort of runs is cheap.
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
    use sosa::Keyspace;

    use super::*;
    use crate::keys::SHARDS;

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
                .filter(|id| Shard::of(keyspace, id).number() == shard.number())
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
            ShardPage { shard, ids: own, last }
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

    /// Reads a bound as the server does.
    fn is_within(range: &LexRange, id: &str) -> bool {
        let id = id.as_bytes();
        let above = match range.from.split_first() {
            Some((b'[', from)) => id >= from,
            Some((b'(', from)) => id > from,
            _ => true,
        };
        let below = match range.to.split_first() {
            Some((b'(', to)) => id < to,
            _ => true,
        };
        above && below
    }

    proptest! {
        #[test]
        fn a_range_is_what_the_options_say(
            ids in prop::collection::btree_set("[ab\u{10ffff}é(+]{1,4}", 0..20),
            starts_with in "[ab\u{10ffff}é(+]{0,2}",
            cursor in prop::option::of("[ab\u{10ffff}é(+]{0,4}"),
            reverse: bool,
        ) {
            let mut options = ListOptions::new().starts_with(starts_with.clone());
            options.cursor = cursor.clone().map(Cursor::after);
            options.reverse = reverse;
            let range = LexRange::of(&options);
            let expected: BTreeSet<_> = ids.iter().filter(|id| id.starts_with(&starts_with)).filter(|id| match &cursor {
                Some(cursor) if reverse => *id < cursor,
                Some(cursor) => *id > cursor,
                None => true,
            }).collect();
            let found: BTreeSet<_> = ids.iter().filter(|id| is_within(&range, id)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
