//! The record of an owner: who is signed in, what is being ended, and the whole policy of both as pure functions.
//!
//! A device's ids are those under which its session may be stored. One is named before its session is made, as *pending*,
//! and confirmed before the client hears of it, so that no cookie opens a session which nobody can find to end it. What is
//! to be ended stands in `ending` until that is done, whoever has begun it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::class::Class;
use crate::id::PublicId;
use crate::options::{Cap, Full};

use super::login::DeviceKey;

/// For how long an owner's record stays when no session can be left of it; by which clocks may be apart.
const STAYS_FOR: u64 = 60 * 60 * 1000;

/// How old what is pending is when whoever began it has crashed, in milliseconds.
const PENDING_FOR: u64 = 60 * 1000;

/// How many ids a device has at most.
const MAX_IDS: usize = 8;

/// How many bytes a label has at most.
const MAX_LABEL: usize = 64;

/// The sessions of one owner, as they are stored in the collection that
/// [`SessionOptions::owners`](crate::SessionOptions::owners) takes.
///
/// Programs need not read it: [`Owner`](crate::Owner) does. What a later version adds to it stays when this one writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnerRecord {
    v: Version,
    /// In the order of their sign-ins.
    #[serde(default)]
    pub(crate) entries: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ending: Vec<Entry>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// A device. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: DeviceKey,
    pub(crate) ids: Vec<Id>,
    #[serde(default, skip_serializing_if = "Class::is_default_of")]
    pub(crate) class: Class,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) label: String,
    /// When it was signed in.
    pub(crate) since: u64,
    /// The absolute end of its sessions.
    pub(crate) until: u64,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// An id under which the session of a device may be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Id {
    pub(crate) id: PublicId,
    /// Since when it is pending; none once it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<u64>,
    /// The id that it was renewed from. Who comes with this one has that no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    was: Option<PublicId>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// The version of the record that this crate reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
struct Version;

const VERSION: u64 = 1;

impl TryFrom<u64> for Version {
    type Error = &'static str;

    fn try_from(version: u64) -> Result<Self, Self::Error> {
        if version == VERSION { Ok(Self) } else { Err("the record is of a later version") }
    }
}

impl From<Version> for u64 {
    fn from(Version: Version) -> Self {
        VERSION
    }
}

/// What is done with an owner's record, which the policy has changed or not.
pub(crate) enum Change<R> {
    Save(R),
    Keep(R),
    /// See which of its sessions are there, and decide again.
    Look,
    /// End this session, and decide again.
    EndFirst(PublicId),
}

/// What is known beside the record.
#[derive(Default)]
pub(crate) struct Seen {
    /// Which ids of the record something is stored under, if that was looked for.
    pub(crate) there: Option<BTreeSet<PublicId>>,
    /// What was ended first.
    pub(crate) ended: Vec<PublicId>,
}

/// What came of the first step of a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Done,
    /// It was done before.
    Already,
    /// It was, and was ended since.
    Ended,
    /// There are as many sign-ins as there may be.
    Full,
}

/// What came of the first step of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    Done,
    Already,
    /// The device, or the id that is renewed, was ended.
    Gone,
    /// The record knows nothing of the device.
    Missing,
    /// The device has as many ids as it may have; this one can be ended in favour of another, if any can.
    Crowded(Option<PublicId>),
}

/// What came of the step that confirms an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmed {
    Done,
    Already,
    /// The id is no longer named.
    Gone,
}

impl Entry {
    /// Makes that of a device with one id, which is pending.
    pub(crate) fn new(key: DeviceKey, id: PublicId, class: Class, label: &str, (since, until): (u64, u64)) -> Self {
        let fits = (0..=label.len().min(MAX_LABEL)).rev().find(|len| label.is_char_boundary(*len));
        let label = label[..fits.unwrap_or(0)].to_owned();
        Self { key, ids: vec![Id::pending(id, since)], class, label, since, until, unknown: Map::new() }
    }

    fn names(&self, id: PublicId) -> bool {
        self.ids.iter().any(|named| named.id == id)
    }

    pub(crate) fn is_confirmed(&self, id: PublicId) -> bool {
        self.ids.iter().any(|named| named.id == id && named.pending.is_none())
    }

    fn is_past(&self, now: u64) -> bool {
        self.until.saturating_add(STAYS_FOR) <= now
    }
}

impl Id {
    fn pending(id: PublicId, now: u64) -> Self {
        Self { id, pending: Some(now), was: None, unknown: Map::new() }
    }
}

impl OwnerRecord {
    /// Returns until when it has to be kept, in milliseconds since the Unix epoch, if anything of it has an end at `least`.
    pub(crate) fn kept_until(&self, least: u64) -> u64 {
        let ends = self.entries.iter().chain(&self.ending).map(|entry| entry.until);
        ends.fold(least, u64::max).saturating_add(STAYS_FOR)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = PublicId> {
        self.entries.iter().flat_map(|entry| entry.ids.iter().map(|named| named.id))
    }

    fn entry(&mut self, key: DeviceKey) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == key)
    }

    pub(crate) fn is_ending(&self, key: DeviceKey) -> bool {
        self.ending.iter().any(|entry| entry.key == key)
    }

    /// Returns whether there are as many sign-ins as there may be, besides the one that the new one replaces.
    pub(crate) fn is_full(&self, max: usize, besides: Option<DeviceKey>) -> bool {
        self.counted(besides).count() >= max
    }

    fn counted(&self, besides: Option<DeviceKey>) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| Some(entry.key) != besides)
    }

    // Sign-in.

    /// Names the id of a sign-in that begins, and moves those to `ending` that have to make room for it.
    pub(crate) fn begin(&mut self, new: Entry, replaces: Option<DeviceKey>, cap: Cap) -> Begun {
        if let Some(entry) = self.entry(new.key) {
            if new.ids.iter().all(|named| entry.names(named.id)) {
                return Begun::Already;
            }
            // An earlier try has left another, which was told to nobody.
            (entry.class, entry.until) = (new.class, entry.until.max(new.until));
            entry.ids.extend(new.ids);
            let surplus = entry.ids.len().saturating_sub(MAX_IDS);
            let surplus = Entry { ids: entry.ids.drain(..surplus).collect(), ..entry.clone() };
            self.ending.extend(Some(surplus).filter(|surplus| !surplus.ids.is_empty()));
            return Begun::Done;
        }
        if self.is_ending(new.key) {
            return Begun::Ended;
        }
        while self.is_full(cap.max, replaces) {
            let oldest = self.counted(replaces).next().map(|entry| entry.key).filter(|_| cap.full == Full::EndOldest);
            let Some(oldest) = oldest else { return Begun::Full };
            self.move_to_ending(|entry| entry.key == oldest);
        }
        self.entries.push(new);
        Begun::Done
    }

    /// Confirms the id of a device, and notes from which it was renewed.
    pub(crate) fn confirm(&mut self, key: DeviceKey, id: PublicId, was: Option<PublicId>) -> Confirmed {
        let named = self.entry(key).and_then(|entry| entry.ids.iter_mut().find(|named| named.id == id));
        let Some(named) = named else { return Confirmed::Gone };
        if named.pending.take().is_none() {
            return Confirmed::Already;
        }
        named.was = was;
        Confirmed::Done
    }

    // Renewal.

    /// Names the id to which a device's session is being renewed, if it names the one that it has.
    pub(crate) fn add(&mut self, key: DeviceKey, old: PublicId, new: PublicId, ended: &[PublicId], now: u64) -> Added {
        let is_ending = self.is_ending(key);
        let Some(entry) = self.entry(key) else { return if is_ending { Added::Gone } else { Added::Missing } };
        if entry.names(new) {
            return Added::Already;
        }
        let Some(named) = entry.ids.iter_mut().find(|named| named.id == old) else { return Added::Gone };
        // Whoever comes with this id has been told of it, so that its predecessor is no more than a marker.
        let predecessor = named.was.take();
        entry.ids.retain(|named| Some(named.id) != predecessor && !ended.contains(&named.id));
        if entry.ids.len() >= MAX_IDS {
            // Not one of a renewal that may be under way.
            let is_left = |named: &&Id| named.id != old && named.pending.is_none() && named.was != Some(old);
            return Added::Crowded(entry.ids.iter().find(is_left).map(|named| named.id));
        }
        entry.ids.push(Id::pending(new, now));
        Added::Done
    }

    /// Registers a device again whose record was lost.
    pub(crate) fn restore(&mut self, lost: Entry) {
        let ids = lost.ids.into_iter().map(|named| Id { pending: None, ..named });
        self.entries.push(Entry { ids: ids.collect(), ..lost });
    }

    /// Moves a device to another class, and returns whether that changes anything. The session that it had may live on until
    /// its own end, so that the later one counts.
    pub(crate) fn set_class(&mut self, key: DeviceKey, class: Class, until: u64) -> bool {
        let Some(entry) = self.entry(key) else { return false };
        let before = (entry.class, entry.until);
        (entry.class, entry.until) = (class, until.max(entry.until));
        (entry.class, entry.until) != before
    }

    /// Takes out an id whose session is gone, and returns whether that changes anything.
    pub(crate) fn take_out(&mut self, key: DeviceKey, id: PublicId) -> bool {
        let Some(entry) = self.entry(key).filter(|entry| entry.names(id)) else { return false };
        entry.ids.retain(|named| named.id != id);
        self.drop_empty();
        true
    }

    // End.

    /// Takes out a device whose only session was ended, and returns whether it is one.
    pub(crate) fn take_out_last(&mut self, key: DeviceKey, ended: PublicId) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.key != key || entry.ids.iter().any(|named| named.id != ended));
        self.entries.len() < before
    }

    /// Moves devices to `ending`, and returns how many.
    pub(crate) fn move_to_ending(&mut self, which: impl Fn(&Entry) -> bool) -> usize {
        let moved: Vec<_> = self.entries.extract_if(.., |entry| which(entry)).collect();
        let count = moved.len();
        self.ending.extend(moved);
        count
    }

    /// Drops what was ended, and returns whether that changes anything. Other ids of the same devices stay.
    pub(crate) fn drop_ended(&mut self, done: &[Entry]) -> bool {
        let mut changes = false;
        for entry in &mut self.ending {
            let is_done = |named: &Id| done.iter().any(|done| done.key == entry.key && done.names(named.id));
            let before = entry.ids.len();
            entry.ids.retain(|named| !is_done(named));
            changes |= entry.ids.len() < before;
        }
        self.ending.retain(|entry| !entry.ids.is_empty());
        changes
    }

    // Pruning.

    /// Drops what no session is left of, now that it is known which are there: see [`Seen::there`]. The ids of sign-ins and
    /// renewals that came to nothing move to `ending`, since there may be sessions under them.
    pub(crate) fn prune(&mut self, there: &BTreeSet<PublicId>, now: u64) {
        self.entries.retain(|entry| !entry.is_past(now));
        self.ending.retain(|entry| !entry.is_past(now));
        let is_abandoned = |named: &mut Id| named.pending.is_some_and(|since| now.saturating_sub(since) > PENDING_FOR);
        for entry in &mut self.entries {
            let abandoned: Vec<_> = entry.ids.extract_if(.., is_abandoned).collect();
            if !abandoned.is_empty() {
                self.ending.push(Entry { ids: abandoned, ..entry.clone() });
            }
            entry.ids.retain(|named| named.pending.is_some() || there.contains(&named.id));
        }
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        self.entries.retain(|entry| !entry.ids.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;
    const END: u64 = NOW + 30 * 86_400_000;

    /// A device by its letter, and the same for an id.
    fn key(letter: char) -> DeviceKey {
        letter.to_string().repeat(22).parse().unwrap()
    }

    fn id(letter: char) -> PublicId {
        letter.to_string().repeat(43).parse().unwrap()
    }

    /// Reads a record: devices in their order, each with its ids, behind a bar what is being ended; in lower case what is
    /// pending, `a:xY` is a device `a` with an id `X` that is pending, and a confirmed one `Y`.
    fn record(text: &str) -> OwnerRecord {
        let entries = |text: &str| text.split_whitespace().map(entry).collect();
        let (entries_text, ending) = text.split_once('|').unwrap_or((text, ""));
        OwnerRecord { entries: entries(entries_text), ending: entries(ending), ..OwnerRecord::default() }
    }

    fn entry(text: &str) -> Entry {
        let (device, ids) = text.split_once(':').unwrap();
        let named = |letter: char| Id {
            pending: letter.is_lowercase().then_some(NOW),
            ..Id::pending(id(letter.to_ascii_uppercase()), NOW)
        };
        let ids = ids.chars().map(named).collect();
        Entry { ids, ..Entry::new(key(device.chars().next().unwrap()), id('Z'), Class::DEFAULT, "", (NOW, END)) }
    }

    /// Writes a record as [`record`] reads it.
    fn written(record: &OwnerRecord) -> String {
        let entry = |entry: &Entry| {
            let ids = entry.ids.iter().map(|named| {
                let letter = named.id.as_str().chars().next().unwrap();
                if named.pending.is_some() { letter.to_ascii_lowercase() } else { letter }
            });
            format!("{}:{}", entry.key.as_str().chars().next().unwrap(), ids.collect::<String>())
        };
        let list = |entries: &[Entry]| entries.iter().map(entry).collect::<Vec<_>>().join(" ");
        format!("{} | {}", list(&record.entries), list(&record.ending)).trim().trim_end_matches('|').trim().to_owned()
    }

    fn cap(max: usize, full: Full) -> Cap {
        Cap { max, full }
    }

    /// What each operation does to the record, step by step: before, what is done, what comes of it, after.
    #[test]
    fn the_table() {
        let max_two = |full| cap(2, full);
        type Step = Box<dyn Fn(&mut OwnerRecord) -> String>;
        let begin = |full, replaces: Option<char>| -> Step {
            Box::new(move |record| format!("{:?}", record.begin(entry("n:n"), replaces.map(key), max_two(full))))
        };
        let confirm: fn(char, char) -> Step =
            |device, named| Box::new(move |record| format!("{:?}", record.confirm(key(device), id(named), None)));
        let add: fn(char, char, Option<char>) -> Step = |device, old, ended| {
            let ended: Vec<_> = ended.into_iter().map(id).collect();
            Box::new(move |record| match record.add(key(device), id(old), id('N'), &ended, NOW) {
                Added::Crowded(Some(victim)) => format!("Crowded {}", &victim.as_str()[..1]),
                added => format!("{added:?}"),
            })
        };
        let ended: fn(&'static str) -> Step = |devices| {
            Box::new(move |record| {
                record.move_to_ending(|entry| devices.contains(&entry.key.as_str()[..1])).to_string()
            })
        };
        let dropped: fn(&'static str) -> Step = |done| {
            let done: Vec<_> = done.split_whitespace().map(entry).collect();
            Box::new(move |record| record.drop_ended(&done).to_string())
        };
        let take_out: fn(char, char) -> Step =
            |device, named| Box::new(move |record| record.take_out(key(device), id(named)).to_string());
        let take_out_last: fn(char, char) -> Step =
            |device, named| Box::new(move |record| record.take_out_last(key(device), id(named)).to_string());
        let prune: fn(&'static str, u64) -> Step = |there, later| {
            let there: BTreeSet<_> = there.chars().map(id).collect();
            Box::new(move |record| {
                record.prune(&there, NOW + later);
                String::new()
            })
        };
        use Full::{EndOldest, Refuse};
        let table: Vec<(&str, Step, &str, &str)> = vec![
            // Sign-in.
            ("", begin(EndOldest, None), "Done", "n:n"),
            ("a:A", begin(EndOldest, None), "Done", "a:A n:n"),
            ("a:A b:B", begin(EndOldest, None), "Done", "b:B n:n | a:A"),
            ("a:A b:B c:C", begin(EndOldest, None), "Done", "c:C n:n | a:A b:B"),
            ("a:A b:B", begin(Refuse, None), "Full", "a:A b:B"),
            ("a:A b:B", begin(EndOldest, Some('b')), "Done", "a:A b:B n:n"),
            ("a:A b:B", begin(Refuse, Some('b')), "Done", "a:A b:B n:n"),
            ("a:A b:B c:C", begin(EndOldest, Some('a')), "Done", "a:A c:C n:n | b:B"),
            ("a:A n:n", begin(Refuse, None), "Already", "a:A n:n"),
            ("a:A n:x", begin(Refuse, None), "Done", "a:A n:xn"),
            ("n:abcdefgh", begin(Refuse, None), "Done", "n:bcdefghn | n:a"),
            ("a:A | n:n", begin(EndOldest, None), "Ended", "a:A | n:n"),
            ("n:n", confirm('n', 'N'), "Done", "n:N"),
            ("n:N", confirm('n', 'N'), "Already", "n:N"),
            ("| n:n", confirm('n', 'N'), "Gone", "| n:n"),
            ("n:X", confirm('n', 'N'), "Gone", "n:X"),
            ("", confirm('n', 'N'), "Gone", ""),
            // Renewal.
            ("a:X", add('a', 'X', None), "Done", "a:Xn"),
            ("a:Xn", add('a', 'X', None), "Already", "a:Xn"),
            ("a:Y", add('a', 'X', None), "Gone", "a:Y"),
            ("| a:X", add('a', 'X', None), "Gone", "| a:X"),
            ("a:X | a:y", add('a', 'X', None), "Done", "a:Xn | a:y"),
            ("b:B", add('a', 'X', None), "Missing", "b:B"),
            ("a:ABCDEFX", add('a', 'X', None), "Done", "a:ABCDEFXn"),
            ("a:ABCDEFGX", add('a', 'X', None), "Crowded A", "a:ABCDEFGX"),
            ("a:XABCDEFG", add('a', 'X', None), "Crowded A", "a:XABCDEFG"),
            ("a:XABCDEFG", add('a', 'X', Some('A')), "Done", "a:XBCDEFGn"),
            ("a:XabcDEFG", add('a', 'X', None), "Crowded D", "a:XabcDEFG"),
            ("a:Xabcdefg", add('a', 'X', None), "Crowded(None)", "a:Xabcdefg"),
            ("a:Xn", take_out('a', 'N'), "true", "a:X"),
            ("a:X", take_out('a', 'N'), "false", "a:X"),
            ("n:n", take_out('n', 'N'), "true", ""),
            // Ends: one, others, all, a logout.
            ("a:A b:B", ended("a"), "1", "b:B | a:A"),
            ("a:A b:B c:C", ended("bc"), "2", "a:A | b:B c:C"),
            ("a:A | b:B", ended("ab"), "1", "| b:B a:A"),
            ("a:A | b:B c:C", dropped("b:B"), "true", "a:A | c:C"),
            ("a:A | c:C", dropped("a:A c:X"), "false", "a:A | c:C"),
            ("a:A | b:BC a:X", dropped("b:B"), "true", "a:A | b:C a:X"),
            ("a:X b:B", take_out_last('a', 'X'), "true", "b:B"),
            ("a:Xn b:B", take_out_last('a', 'X'), "false", "a:Xn b:B"),
            // Expiry, and what came to nothing.
            ("a:A b:B", prune("A", 0), "", "a:A"),
            ("a:Ab", prune("A", 60_000), "", "a:Ab"),
            ("a:Ab", prune("AB", 60_001), "", "a:A | a:b"),
            ("a:b | c:C", prune("", 60_001), "", "| c:C a:b"),
            ("a:AB", prune("B", 0), "", "a:B"),
            ("a:A | c:C", prune("AC", END - NOW + STAYS_FOR - 1), "", "a:A | c:C"),
            ("a:A | c:C", prune("AC", END - NOW + STAYS_FOR), "", ""),
        ];
        for (before, step, result, after) in table {
            let mut changed = record(before);
            assert_eq!((step(&mut changed), written(&changed)), (result.to_owned(), after.to_owned()), "{before}");
        }
    }

    #[test]
    fn who_comes_with_an_id_has_its_predecessor_no_more() {
        let mut record = record("a:Xn");
        assert_eq!(record.confirm(key('a'), id('N'), Some(id('X'))), Confirmed::Done);
        assert_eq!(written(&record), "a:XN");
        // A renewal that lost its race still comes with the old one.
        let mut late = record.clone();
        assert_eq!(late.add(key('a'), id('X'), id('M'), &[], NOW), Added::Done);
        assert_eq!(written(&late), "a:XNm");
        assert_eq!(record.add(key('a'), id('N'), id('M'), &[], NOW), Added::Done);
        assert_eq!(written(&record), "a:Nm");
    }

    #[test]
    fn how_long_a_record_stays() {
        let mut record = record("a:A | b:B");
        record.entries[0].until = NOW + 5;
        record.ending[0].until = NOW + 7;
        assert_eq!(record.kept_until(NOW), NOW + 7 + STAYS_FOR);
        assert_eq!(record.kept_until(NOW + 9), NOW + 9 + STAYS_FOR);
        let class = |name: &str| Class::parse(name.as_bytes()).unwrap();
        assert!(record.set_class(key('a'), class("long"), NOW + 90) && !record.set_class(key('x'), class("long"), NOW));
        assert_eq!((record.kept_until(0), record.entries[0].class.as_str()), (NOW + 90 + STAYS_FOR, "long"));
        // The session that it had lives on until then if the renewal fails.
        assert!(
            record.set_class(key('a'), class("short"), NOW + 8) && !record.set_class(key('a'), class("short"), NOW)
        );
        assert_eq!((record.kept_until(0), record.entries[0].class.as_str()), (NOW + 90 + STAYS_FOR, "short"));
    }

    /// Stored records are read by this.
    #[test]
    fn golden_record() {
        let mut golden = record("a:Xn | b:B");
        golden.entries[0].label = "phone".into();
        golden.entries[0].class = Class::parse(b"remembered").unwrap();
        golden.entries[0].ids[0].was = Some(id('W'));
        let text = [
            r#"{"v":1,"entries":[{"key":"aaaaaaaaaaaaaaaaaaaaaa","ids":[{"id":"XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX","#,
            r#""was":"WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW"},{"id":"NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN","#,
            r#""pending":1000000000}],"class":"remembered","label":"phone","since":1000000000,"until":3592000000}],"#,
            r#""ending":[{"key":"bbbbbbbbbbbbbbbbbbbbbb","ids":[{"id":"BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"}],"#,
            r#""since":1000000000,"until":3592000000}]}"#,
        ]
        .concat();
        assert_eq!(serde_json::to_string(&golden).unwrap(), text);
        assert_eq!(serde_json::from_str::<OwnerRecord>(&text).unwrap(), golden);
        for wrong in [text.replace(r#""v":1"#, r#""v":2"#), text.replace(r#""v":1,"#, ""), text.replace("aaaa", "a+aa")]
        {
            assert!(serde_json::from_str::<OwnerRecord>(&wrong).is_err());
        }
    }

    #[test]
    fn a_label_is_cut_off_where_a_letter_ends() {
        let label = |text: &str| Entry::new(key('a'), id('A'), Class::DEFAULT, text, (NOW, END)).label;
        assert_eq!(label("phone"), "phone");
        assert_eq!(label(&"x".repeat(65)).len(), 64);
        assert_eq!(label(&format!("{}é", "x".repeat(63))), "x".repeat(63));
    }
}
