//! What only this backend promises: a limit holds, stores are their own; and, whatever is done in
//! whatever order, it answers as a plain map would.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use sosa_memory::MemoryStore;
use sosa_memory::sosa::{
    Clock, Collection, Condition, Cursor, Deadline, DestroyOptions, ErrorKind, Expiry, ListOptions, LoadOptions,
    SaveOptions,
};

fn store() -> (MemoryStore, Clock) {
    let clock = Clock::manual();
    (sosa_memory::new("test").with_clock(clock.clone()), clock)
}

fn after(millis: u64) -> SaveOptions {
    Expiry::After(Duration::from_millis(millis)).into()
}

#[tokio::test]
async fn a_name_is_one_collection_per_store_prefix_path_and_type() {
    let (store, _) = store();
    let people = store.collection::<u32>("people");
    people.save("ada", &1).await.unwrap();
    assert_eq!(store.collection::<u32>("people").load("ada").await.unwrap(), Some(1));
    for other in [
        sosa_memory::new("test").collection("people"),
        store.with_prefix("other").collection("people"),
        store.collection("peoples"),
        people.within("ada"),
        people.within(""),
        people.within("x").within("y"),
    ] {
        assert_eq!(other.load("ada").await.unwrap(), None, "{other:?}");
        other.save("ada", &2).await.unwrap();
    }
    assert_eq!(store.collection::<String>("people").load("ada").await.unwrap(), None);
    assert_eq!(people.list().await.unwrap().into_pairs().unwrap(), [("ada".to_owned(), 1)]);
}

#[tokio::test]
async fn a_limit_is_an_error_and_evicts_nothing_that_lives() {
    let (store, clock) = store();
    let limited = store.with_limit(3).collection::<u32>("limited");
    limited.save_with("short", &0, after(10)).await.unwrap();
    limited.save("a", &1).await.unwrap();
    limited.within("below").save("b", &2).await.unwrap();
    let error = limited.save("c", &3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CapacityExceeded);
    assert_eq!(
        error.to_string(),
        "memory save: the collection holds its limit of 3 entries; destroy some, or raise the limit"
    );
    limited.save("a", &11).await.expect("what is there can be overwritten");
    clock.advance(Duration::from_millis(10));
    limited.save("c", &3).await.expect("the expired entry makes room");
    assert_eq!(limited.list().await.unwrap().values().copied().collect::<Vec<_>>(), [11, 3]);
    assert_eq!(limited.held(), 3);
}

/// A call that has waited must not find alive what this one saw expired.
#[tokio::test]
async fn a_verb_that_fails_because_an_entry_has_expired_removes_it() {
    let (store, clock) = store();
    let things = store.collection::<u32>("things");
    // Earlier than it, and enough for a sweep of each shard to be busy with them.
    for n in 0..20_000 {
        things.save_with(&n.to_string(), &n, after(1)).await.unwrap();
    }
    for id in ["saved", "destroyed"] {
        things.save_with(id, &0, after(2)).await.unwrap();
    }
    let revision = things.load_with("saved", LoadOptions::new()).await.unwrap().unwrap().revision;
    clock.advance(Duration::from_millis(2));
    let before = things.held();
    let saved = things.save_with("saved", &1, Condition::Present.into()).await;
    assert!(saved.unwrap_err().is_conflict());
    // A sweep removes four of a shard, and perhaps four of another.
    assert_eq!((before - things.held()) % 4, 1);
    let before = things.held();
    let destroyed = things.destroy_with("destroyed", DestroyOptions::new().revision(revision)).await;
    assert!(destroyed.unwrap_err().is_conflict());
    assert_eq!((before - things.held()) % 4, 1);
}

/// Whichever shard the expired entry is in, and whoever removes it: ids hash anew in each table.
#[tokio::test]
async fn what_expired_never_takes_the_place_of_what_could_live() {
    for n in 0..200 {
        let (store, clock) = store();
        let limited = store.with_limit(1).collection::<u32>("limited");
        limited.save_with("short", &0, after(1)).await.unwrap();
        clock.advance(Duration::from_millis(1));
        limited.save("long", &n).await.unwrap();
    }
}

#[tokio::test]
async fn purge_removes_all_that_expired_and_nothing_else() {
    let (store, clock) = store();
    let entries = store.collection::<u32>("entries");
    for n in 0..5000 {
        entries.save_with(&format!("short{n}"), &n, after(10)).await.unwrap();
    }
    entries.save("for ever", &0).await.unwrap();
    entries.save_with("touched", &0, after(10)).await.unwrap();
    entries.load_with("touched", LoadOptions::new().touch(Duration::from_millis(50))).await.unwrap();
    assert_eq!(entries.purge(), 0);
    clock.advance(Duration::from_millis(10));
    assert_eq!(entries.purge(), 5000);
    assert_eq!(entries.held(), 2);
    clock.advance(Duration::from_millis(40));
    assert_eq!(entries.purge(), 1, "a deadline that was moved comes due as well");
}

/// A panic in somebody's `Clone` must not take the collection with it.
#[tokio::test]
async fn a_panicking_clone_leaves_the_collection_usable() {
    #[derive(Debug, PartialEq)]
    struct Fragile(bool);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(!self.0, "cannot be cloned");
            Self(self.0)
        }
    }
    impl serde::Serialize for Fragile {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bool(self.0)
        }
    }
    impl<'de> serde::Deserialize<'de> for Fragile {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            bool::deserialize(deserializer).map(Self)
        }
    }
    let (store, _) = store();
    let fragile = store.collection("fragile");
    fragile.save("a", &Fragile(false)).await.unwrap();
    let other = fragile.clone();
    tokio::spawn(async move { other.save("a", &Fragile(true)).await }).await.unwrap_err();
    assert_eq!(fragile.load("a").await.unwrap(), Some(Fragile(false)));
    fragile.save("a", &Fragile(false)).await.unwrap();
}

/// One step of a story. Few ids and short times, so that steps meet.
#[derive(Clone, Debug)]
enum Step {
    Save { id: u8, value: u32, expiry: Expiry, condition: Want },
    Load { id: u8, touch: Option<u64> },
    Destroy { id: u8, stale: Option<bool> },
    List { starts_with: &'static str, after: Option<u8>, limit: usize, reverse: bool },
    Elapse(u64),
    Purge,
}

/// A condition, where a revision is the current or an old one.
#[derive(Clone, Debug)]
enum Want {
    Always,
    Absent,
    Present,
    Current,
    Stale,
}

fn step() -> impl Strategy<Value = Step> {
    let expiry = prop_oneof![
        Just(Expiry::Never),
        Just(Expiry::Keep),
        (0u64..20).prop_map(|millis| Expiry::After(Duration::from_millis(millis))),
    ];
    let want = prop_oneof![
        Just(Want::Always),
        Just(Want::Absent),
        Just(Want::Present),
        Just(Want::Current),
        Just(Want::Stale)
    ];
    prop_oneof![
        4 => (0u8..6, any::<u32>(), expiry, want)
            .prop_map(|(id, value, expiry, condition)| Step::Save { id, value, expiry, condition }),
        3 => (0u8..6, prop::option::of(1u64..20)).prop_map(|(id, touch)| Step::Load { id, touch }),
        1 => (0u8..6, prop::option::of(any::<bool>())).prop_map(|(id, stale)| Step::Destroy { id, stale }),
        2 => (prop::sample::select(vec!["", "i", "i1", "x"]), prop::option::of(0u8..6), 1usize..5, any::<bool>())
            .prop_map(|(starts_with, after, limit, reverse)| Step::List { starts_with, after, limit, reverse }),
        2 => (0u64..15).prop_map(Step::Elapse),
        1 => Just(Step::Purge),
    ]
}

/// What is there, by the plainest means: id to value and deadline.
type Plain = BTreeMap<String, (u32, Option<u64>)>;

async fn tell(steps: Vec<Step>) {
    let (store, clock) = store();
    let (entries, mut plain) = (store.collection::<u32>("entries"), Plain::new());
    let stale = entries.save_with("elsewhere", &0, after(0)).await.unwrap();
    for step in steps {
        let now = clock.now_millis();
        plain.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now));
        match step {
            Step::Save { id, value, expiry, condition } => {
                let id = format!("i{id}");
                let old = plain.get(&id).copied();
                let current = entries.load_with(&id, LoadOptions::new()).await.unwrap().map(|entry| entry.revision);
                let (met, condition) = match condition {
                    Want::Always => (true, Condition::Always),
                    Want::Absent => (old.is_none(), Condition::Absent),
                    Want::Present => (old.is_some(), Condition::Present),
                    Want::Current => (old.is_some(), Condition::Revision(current.unwrap_or(stale))),
                    Want::Stale => (false, Condition::Revision(u64::MAX.into())),
                };
                let saved =
                    entries.save_with(&id, &value, SaveOptions::new().expiry(expiry).condition(condition)).await;
                let deadline = match (expiry, old) {
                    (Expiry::Keep, None) => None,
                    (Expiry::Keep, Some((_, kept))) => Some(kept),
                    (expiry, _) => expiry.deadline(now).map(Deadline::as_millis),
                };
                match deadline.filter(|_| met) {
                    None => assert_eq!(saved.unwrap_err().kind(), ErrorKind::Conflict),
                    Some(deadline) => {
                        assert_ne!(Some(saved.unwrap()), current);
                        plain.insert(id, (value, deadline));
                    }
                }
            }
            Step::Load { id, touch } => {
                let id = format!("i{id}");
                let mut options = LoadOptions::new().with_expiry();
                if let Some(millis) = touch {
                    options = options.touch(Duration::from_millis(millis));
                    plain.entry(id.clone()).and_modify(|(_, deadline)| *deadline = Some(now + millis));
                }
                let entry = entries.load_with(&id, options).await.unwrap();
                let found = entry.map(|entry| (entry.value, entry.expiry.unwrap().deadline(0).unwrap().as_millis()));
                assert_eq!(found, plain.get(&id).copied());
            }
            Step::Destroy { id, stale: None } => {
                let id = format!("i{id}");
                assert_eq!(entries.destroy(&id).await.unwrap(), plain.remove(&id).is_some());
            }
            Step::Destroy { id, stale: Some(stale) } => {
                let id = format!("i{id}");
                let current = entries.load_with(&id, LoadOptions::new()).await.unwrap().map(|entry| entry.revision);
                let revision = current.filter(|_| !stale).unwrap_or(u64::MAX.into());
                let destroyed = entries.destroy_with(&id, DestroyOptions::new().revision(revision)).await;
                if !stale && current.is_some() {
                    assert!(destroyed.unwrap());
                    plain.remove(&id);
                } else {
                    assert_eq!(destroyed.unwrap_err().kind(), ErrorKind::Conflict);
                }
            }
            Step::List { starts_with, after, limit, reverse } => {
                let after = after.map(|id| format!("i{id}"));
                let mut options = ListOptions::new().starts_with(starts_with).limit(limit);
                options.reverse = reverse;
                options.cursor = after.clone().map(Cursor::after);
                let mut expected: Vec<_> = plain
                    .iter()
                    .filter(|(id, _)| id.starts_with(starts_with))
                    .filter(|(id, _)| {
                        after.as_ref().is_none_or(|after| if reverse { *id < after } else { *id > after })
                    })
                    .map(|(id, (value, _))| (id.clone(), *value))
                    .collect();
                if reverse {
                    expected.reverse();
                }
                let mut found = Vec::new();
                let mut rest = Some(options);
                while let Some(options) = rest {
                    let page = entries.list_with(options.clone()).await.unwrap();
                    assert!(page.items.len() <= limit);
                    rest = page.next.clone().map(|next| options.cursor(next));
                    found.extend(page.into_pairs().unwrap());
                }
                assert_eq!(found, expected);
            }
            Step::Elapse(millis) => clock.advance(Duration::from_millis(millis)),
            Step::Purge => {
                entries.purge();
                assert_eq!(entries.held(), plain.len());
            }
        }
    }
}

proptest! {
    #[test]
    fn it_answers_as_a_plain_map_would(steps in prop::collection::vec(step(), 1..80)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(tell(steps));
    }
}
