//! An encoded store takes what JSON gives back, and nothing else.

use std::error::Error as _;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use sosa_memory::MemoryStore;
use sosa_memory::sosa::conformance::Probe;
use sosa_memory::sosa::{Clock, Collection, CollectionExt, Condition, ErrorKind, Expiry, Model, Operation, Outcome};

#[path = "../../sosa/tests/shapes/mod.rs"]
mod shapes;
use shapes::{Shape, comes_back, shapes, tree};

/// Asserts that a value is refused, over nothing and over what is there, which stays.
async fn refused<T: Model + PartialEq>(store: &MemoryStore, good: T, bad: T) {
    let things = store.collection("things");
    let saved = things.save_with("good", &good, Condition::Always.into()).await.unwrap();
    for id in ["good", "absent"] {
        let error = things.save(id, &bad).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Encode, Outcome::NotApplied));
        assert_eq!((error.backend(), error.operation()), (Some("memory"), Some(Operation::Save)));
    }
    let entry = things.load_with("good", Default::default()).await.unwrap().expect("it stays");
    assert_eq!(entry.revision, saved);
    assert!(entry.value == good);
    assert!(things.load("absent").await.unwrap().is_none());
    assert_eq!(things.held(), 1);
}

#[tokio::test]
async fn what_would_not_come_back_is_refused_and_nothing_changes() {
    let store = sosa_memory::new("test").encoded();
    refused(&store, 0.5, f64::NAN).await;
    refused(&store, Some(Some(1)), Some(None)).await;
    refused(&store, tree(127), tree(128)).await;
    refused(&store, Probe::new("good"), Probe::new(Probe::UNENCODABLE)).await;
    refused(&store, Probe::new("good"), Probe::new(Probe::UNDECODABLE)).await;
}

#[tokio::test]
async fn an_error_says_why_and_quotes_nothing() {
    let things = sosa_memory::new("test").encoded().collection("things");
    let secret = Probe::new(format!("{} secret", Probe::UNDECODABLE));
    let error = things.save("id", &secret).await.unwrap_err();
    assert_eq!(error.to_string(), "memory save: the value does not come back from its JSON");
    let source = error.source().expect("the codec's error");
    assert!(source.to_string().starts_with("the JSON has another type than asked"));
    assert!(!format!("{error:?} {source:?}").contains("secret"));
}

#[tokio::test]
async fn a_value_is_what_its_json_gives() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Account {
        name: String,
        #[serde(skip)]
        cached: u32,
    }
    let saved = Account { name: "ada".to_owned(), cached: 7 };
    let loaded = Account { cached: 0, ..saved.clone() };
    let accounts = sosa_memory::new("test").encoded().collection("accounts");
    accounts.save("a", &saved).await.unwrap();
    assert_eq!(accounts.load("a").await.unwrap(), Some(loaded.clone()));
    assert_eq!(accounts.list().await.unwrap().into_pairs().unwrap(), [("a".to_owned(), loaded)]);
    let plain = sosa_memory::new("test").collection("accounts");
    plain.save("a", &saved).await.unwrap();
    assert_eq!(plain.load("a").await.unwrap(), Some(saved));
}

#[tokio::test]
async fn all_that_is_made_from_it_is_encoded() {
    let store = sosa_memory::new("test").encoded();
    let (other, limited) = (store.with_prefix("other"), store.clone().with_limit(1).with_clock(Clock::manual()));
    for store in [&store, &other, &limited] {
        let things = store.collection::<f64>("things");
        for things in [things.clone(), things.within("child")] {
            assert_eq!(things.save("a", &f64::NAN).await.unwrap_err().kind(), ErrorKind::Encode);
            assert!(format!("{things:?}").contains("encoded: true"));
        }
        assert!(format!("{store:?}").contains("encoded: true"));
    }
    let plain = sosa_memory::new("test");
    assert!(format!("{plain:?} {:?}", plain.collection::<f64>("things")).matches("encoded: false").count() == 2);
}

#[tokio::test]
async fn other_refusals_are_those_of_any_store() {
    let store = sosa_memory::new("test").encoded().with_limit(1);
    let things = store.collection("things");
    things.save("a", &1.0).await.unwrap();
    let kind = async |id: &str, value: f64, options| things.save_with(id, &value, options).await.unwrap_err().kind();
    assert_eq!(kind("b", 1.0, Condition::Always.into()).await, ErrorKind::CapacityExceeded);
    assert_eq!(kind("", f64::NAN, Condition::Always.into()).await, ErrorKind::InvalidId);
    assert_eq!(kind("a", 1.0, Condition::Absent.into()).await, ErrorKind::Conflict);
    assert_eq!(kind("b", 1.0, Expiry::Keep.into()).await, ErrorKind::Conflict);
    let updated = things.update("a", |_| Some(f64::INFINITY)).await;
    assert_eq!(updated.unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(things.load("a").await.unwrap(), Some(1.0));
}

proptest! {
    #[test]
    fn what_is_taken_comes_back(shape in shapes()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let things = sosa_memory::new("test").encoded().collection("things");
            let before = Shape::Text("before".to_owned());
            things.save("a", &before).await.unwrap();
            let expected = match things.save("a", &shape).await {
                Ok(()) => shape,
                Err(error) => {
                    prop_assert_eq!(error.kind(), ErrorKind::Encode);
                    prop_assert!(!comes_back(&shape), "refused for no reason: {}", error);
                    before
                }
            };
            prop_assert_eq!(things.load("a").await.unwrap(), Some(expected));
            Ok(())
        })?;
    }
}
