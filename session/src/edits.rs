//! What one request does to its session's data, kept so that it can be done again to a newer
//! record.

mod lookups;

use std::borrow::Cow;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::data::{MAX_SPLICES, NewOwn, Record, SessionData};
use crate::error::Result;
use crate::json;

use self::lookups::Lookups;

/// Computes the new JSON text of a value from the old one.
pub(crate) type Step = Arc<dyn Fn(Option<&[u8]>) -> Result<Vec<u8>> + Send + Sync>;

/// Among so many keys one is found sooner by looking at each than by hashing.
const FEW: usize = 8;

/// The edits of one request, at most one for each key.
#[derive(Default)]
pub(crate) struct Edits {
    /// Everything that was there before is gone.
    cleared: bool,
    // A map, because the keys may come from a client, who would choose the slowest ones.
    changes: IndexMap<Box<str>, Change>,
    lookups: Lookups,
}

enum Change {
    Set(Vec<u8>),
    Remove,
    /// Steps from whatever the record holds, and what they gave for the record that was read.
    Update {
        steps: Vec<Step>,
        value: Vec<u8>,
    },
}

impl Change {
    fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Set(value) | Self::Update { value, .. } => Some(value),
            Self::Remove => None,
        }
    }
}

impl Edits {
    pub(crate) fn insert(&mut self, key: impl Into<Box<str>>, value: Vec<u8>) {
        self.changes.insert(key.into(), Change::Set(value));
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.changes.insert(key.into(), Change::Remove);
    }

    /// Sets a value that a step has made of the one that this request sees.
    pub(crate) fn update(&mut self, key: &str, new: Vec<u8>, step: Step) {
        match self.changes.get_mut(key) {
            Some(Change::Update { steps, value }) => {
                steps.push(step);
                *value = new;
            }
            // What the request has set itself does not depend on the record.
            Some(change) => *change = Change::Set(new),
            None if self.cleared => self.insert(key, new),
            None => drop(self.changes.insert(key.into(), Change::Update { steps: vec![step], value: new })),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.cleared = true;
        self.changes.clear();
    }

    /// Returns the value of a key as this request sees it.
    pub(crate) fn look_up<'a>(&'a mut self, base: &'a SessionData, key: &str) -> Option<&'a [u8]> {
        match self.changes.get(key) {
            Some(change) => change.value(),
            None if self.cleared => None,
            None => self.lookups.find(base, key),
        }
    }

    /// Returns whether nothing was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        !self.cleared && self.changes.is_empty()
    }

    /// Returns whether a record with these edits tells what it tells without them.
    pub(crate) fn change_nothing(&self, base: &SessionData) -> bool {
        if !self.cleared && self.changes.len() <= FEW {
            return self.changes.iter().all(|(key, change)| match (base.raw(key), change.value()) {
                (Some(old), Some(new)) => json::same_value(old, new),
                (old, new) => old.is_none() && new.is_none(),
            });
        }
        let mut met = vec![false; self.changes.len()];
        let unchanged = base.record().members().all(|(key, value)| match self.find(key) {
            Some((index, change)) => {
                met[index] = true;
                change.value().is_some_and(|new| json::same_value(value, new))
            }
            None => !self.cleared,
        });
        unchanged && self.changes.values().zip(met).all(|(change, met)| met || change.value().is_none())
    }

    /// Returns whether nothing of the record remains with these edits but what they make.
    pub(crate) fn cover(&self, base: &SessionData) -> bool {
        self.cleared || base.record().members().all(|(key, _)| self.find(key).is_some())
    }

    /// Returns the record with these edits and this own member.
    pub(crate) fn apply(&self, base: &SessionData, own: NewOwn<'_>) -> Result<SessionData> {
        let record = match self.splice(base.record(), own) {
            Some(record) => record,
            None => base.record().rewrite(own, &self.members(base))?,
        };
        Ok(record.into())
    }

    /// Does so by giving another value to a key or two, which is what most requests do; `None` if that is not all.
    fn splice(&self, base: &Record, own: NewOwn<'_>) -> Option<Record> {
        if self.cleared || self.changes.len() > MAX_SPLICES {
            return None;
        }
        let splices = self.changes.iter().map(|(key, change)| base.splice_value(key, change.value()?));
        base.splice(own, splices.collect::<Option<_>>()?)
    }

    /// Returns the members of a record with these edits: those that stay in their order, then the
    /// new ones.
    fn members<'a>(&'a self, base: &'a SessionData) -> Vec<(Cow<'a, [u8]>, &'a [u8])> {
        let mut met = vec![false; self.changes.len()];
        let mut members = Vec::with_capacity(self.changes.len() + 10);
        for (key, value) in base.record().members() {
            match self.find(key) {
                Some((index, change)) => {
                    // A key that occurs twice is written once.
                    if !std::mem::replace(&mut met[index], true) {
                        members.extend(change.value().map(|new| (Cow::Borrowed(key), new)));
                    }
                }
                None if self.cleared => {}
                None => members.push((Cow::Borrowed(key), value)),
            }
        }
        for ((key, change), _) in self.changes.iter().zip(met).filter(|(_, met)| !met) {
            let key = match json::escape(key) {
                Cow::Borrowed(key) => Cow::Borrowed(key.as_bytes()),
                Cow::Owned(key) => Cow::Owned(key.into_bytes()),
            };
            members.extend(change.value().map(|value| (key, value)));
        }
        members
    }

    /// Takes the steps of all updates again, from a newer record.
    pub(crate) fn rebase(&mut self, newer: &SessionData) -> Result<()> {
        for (key, change) in &mut self.changes {
            if let Change::Update { steps, value } = change {
                let old = self.lookups.find(newer, key);
                let mut new = None;
                for step in steps {
                    new = Some(step(new.as_deref().or(old))?);
                }
                *value = new.unwrap_or_default();
            }
        }
        Ok(())
    }

    fn find(&self, raw_key: &[u8]) -> Option<(usize, &Change)> {
        if self.changes.len() <= FEW && !raw_key.contains(&b'\\') {
            let index = self.changes.keys().position(|key| key.as_bytes() == raw_key)?;
            return self.changes.get_index(index).map(|(_, change)| (index, change));
        }
        let (index, _, change) = self.changes.get_full(json::unescape(raw_key)?.as_ref())?;
        Some((index, change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::COMPARED;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    #[derive(Clone, Debug)]
    enum Act {
        Insert(String, u8),
        Remove(String),
        Add(String, u8),
        Clear,
    }

    fn act() -> impl Strategy<Value = Act> {
        let key = || "[ab\"é]{1,2}";
        prop_oneof![
            (key(), any::<u8>()).prop_map(|(key, n)| Act::Insert(key, n)),
            key().prop_map(Act::Remove),
            (key(), any::<u8>()).prop_map(|(key, n)| Act::Add(key, n)),
            Just(Act::Clear),
        ]
    }

    fn json(n: u64) -> Vec<u8> {
        n.to_string().into_bytes()
    }

    fn number(text: &[u8]) -> u64 {
        serde_json::from_slice(text).unwrap()
    }

    fn plainly(acts: &[Act], record: &Map<String, Value>) -> Map<String, Value> {
        let mut record = record.clone();
        for act in acts.iter().cloned() {
            match act {
                Act::Insert(key, n) => drop(record.insert(key, n.into())),
                Act::Remove(key) => drop(record.remove(&key)),
                Act::Add(key, n) => {
                    let old = record.get(&key).and_then(Value::as_u64).unwrap_or(0);
                    record.insert(key, (old + u64::from(n)).into());
                }
                Act::Clear => record.clear(),
            }
        }
        record
    }

    fn record() -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::btree_map("[ab\"é]{1,2}", any::<u8>(), 0..5)
            .prop_map(|map| map.into_iter().map(|(key, n)| (key, n.into())).collect())
    }

    /// Work is counted in comparisons, not in time.
    #[test]
    fn edits_of_many_keys_cost_a_few_comparisons_for_each() {
        const KEYS: usize = 10_000;
        let record: Map<_, _> = (0..KEYS).map(|n| (format!("key{n}"), Value::from(n))).collect();
        let read: SessionData = serde_json::to_string(&record).unwrap().parse().unwrap();
        let newer: SessionData = read.as_json().parse().unwrap();
        let mut edits = Edits::default();
        COMPARED.set(0);
        for key in record.keys() {
            let step = |old: Option<&[u8]>| Ok(json(old.map_or(0, number) + 1));
            let new = step(edits.look_up(&read, key)).unwrap();
            edits.update(key, new, Arc::new(step));
        }
        edits.rebase(&newer).unwrap();
        assert!(!edits.change_nothing(&newer));
        let data = edits.apply(&newer, NewOwn::None).unwrap();
        assert_eq!((data.json("key0"), data.json("key9999")), (Some("1"), Some("10000")));
        let compared = COMPARED.get();
        assert!(compared <= 100 * KEYS, "{compared}");
    }

    proptest! {
        /// The edits do to the record that was read, and to any newer one, what the acts would.
        #[test]
        fn edits_do_what_was_asked(acts in prop::collection::vec(act(), 0..12), read in record(), newer in record()) {
            let base: SessionData = serde_json::to_string(&read).unwrap().parse().unwrap();
            let mut edits = Edits::default();
            for act in acts.iter().cloned() {
                match act {
                    Act::Insert(key, n) => edits.insert(key, json(n.into())),
                    Act::Remove(key) => edits.remove(&key),
                    Act::Clear => edits.clear(),
                    Act::Add(key, n) => {
                        let step = move |old: Option<&[u8]>| Ok(json(old.map_or(0, number) + u64::from(n)));
                        let new = step(edits.look_up(&base, &key)).unwrap();
                        edits.update(&key, new, Arc::new(step));
                    }
                }
            }
            for (base, record) in [(&read, base.clone()), (&newer, serde_json::to_string(&newer).unwrap().parse().unwrap())] {
                edits.rebase(&record).unwrap();
                let expected = plainly(&acts, base);
                let data = edits.apply(&record, NewOwn::None).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Map<String, Value>>(data.as_json()).unwrap(), &expected);
                prop_assert_eq!(edits.change_nothing(&record), *base == expected);
                for key in base.keys().chain(expected.keys()) {
                    prop_assert_eq!(edits.look_up(&record, key).map(number), expected.get(key).and_then(Value::as_u64));
                }
            }
        }
    }
}
