//! Look-ups of many keys in one record.

use std::collections::HashMap;

use crate::data::SessionData;
use crate::json;

/// In a record of so few members a key is found soon enough by looking at each.
const FEW: usize = 64;

/// So often all members of a record are compared before an index is made, which costs about as much.
const ROUNDS: usize = 32;

/// Finds keys in records, and makes an index of one in which many are looked for: by comparing each with all
/// members, to get all keys would cost the square of their number.
#[derive(Default)]
pub(super) struct Lookups {
    /// How many members were compared since the index was made.
    compared: usize,
    index: Option<Box<Index>>,
}

struct Index {
    /// The record that it is of, which stays alive so that no other can take its place.
    data: SessionData,
    // A map with a random seed: the keys may come from a client.
    positions: HashMap<Box<str>, usize>,
}

impl Lookups {
    /// Returns the text of a value: what [`SessionData::raw`] returns.
    pub(super) fn find<'a>(&mut self, data: &'a SessionData, key: &str) -> Option<&'a [u8]> {
        if let Some(index) = self.index.as_ref().filter(|index| index.data.is_same(data)) {
            return index.positions.get(key).map(|position| data.record().value(*position));
        }
        let position = data.record().position(key);
        let len = data.record().len();
        self.compared += len - position.unwrap_or(0);
        if len > FEW && self.compared > ROUNDS * len {
            *self = Self { compared: 0, index: Some(Box::new(Index::of(data))) };
        }
        position.map(|position| data.record().value(position))
    }
}

impl Index {
    fn of(data: &SessionData) -> Self {
        let mut positions = HashMap::with_capacity(data.record().len());
        for (position, (key, _)) in data.record().members().enumerate() {
            if let Some(key) = json::unescape(key) {
                // Of two members with one key the last counts.
                positions.insert(key.into(), position);
            }
        }
        Self { data: data.clone(), positions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::COMPARED;
    use proptest::prelude::*;

    fn record(members: impl IntoIterator<Item = String>) -> SessionData {
        format!("{{{}}}", members.into_iter().collect::<Vec<_>>().join(",")).parse().unwrap()
    }

    /// Work is counted in comparisons, not in time.
    #[test]
    fn to_get_all_keys_costs_a_few_comparisons_for_each() {
        const KEYS: usize = 60_000;
        let data = record((0..KEYS).map(|n| format!("\"key{n}\":{n}")));
        let mut lookups = Lookups::default();
        COMPARED.set(0);
        for n in 0..KEYS {
            assert_eq!(lookups.find(&data, &format!("key{n}")), Some(n.to_string().as_bytes()));
            assert_eq!(lookups.find(&data, &format!("none{n}")), None);
        }
        let compared = COMPARED.get();
        assert!(compared <= (ROUNDS + 1) * KEYS, "{compared}");
        assert!(lookups.index.is_some());
    }

    #[test]
    fn few_look_ups_and_few_members_need_no_index() {
        let (small, large) = [FEW, FEW + 1].map(|len| record((0..len).map(|n| format!("\"{n}\":{n}")))).into();
        let mut lookups = Lookups::default();
        for _ in 0..ROUNDS {
            assert!(lookups.find(&large, "0").is_some() && lookups.index.is_none());
        }
        for _ in 0..10 * ROUNDS {
            assert!(lookups.find(&small, "0").is_some() && lookups.index.is_none());
        }
        assert!(lookups.find(&large, "0").is_some() && lookups.index.is_some());
    }

    #[derive(Clone, Debug)]
    struct Member {
        key: String,
        escaped: bool,
        value: u8,
    }

    fn members() -> impl Strategy<Value = Vec<Member>> {
        let member = ("[ab\"\\\\é]{0,2}", any::<bool>(), any::<u8>());
        prop::collection::vec(member.prop_map(|(key, escaped, value)| Member { key, escaped, value }), 0..2 * FEW)
    }

    fn written(members: &[Member]) -> SessionData {
        record(members.iter().map(|Member { key, escaped, value }| {
            let units = |key: &str| key.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            format!("\"{}\":{value}", if *escaped { units(key) } else { json::escape(key).into_owned() })
        }))
    }

    proptest! {
        /// Whichever record, and with an index or without.
        #[test]
        fn what_is_found_is_what_the_record_holds(one in members(), other in members(), absent in "[abc]{0,3}") {
            let (ones, others) = (written(&one), written(&other));
            let mut lookups = Lookups::default();
            for _ in 0..3 {
                for data in [&ones, &others] {
                    for _ in 0..2 {
                        for Member { key, .. } in one.iter().chain(&other) {
                            prop_assert_eq!(lookups.find(data, key), data.raw(key));
                        }
                        prop_assert_eq!(lookups.find(data, &absent), data.raw(&absent));
                    }
                }
            }
        }
    }
}
