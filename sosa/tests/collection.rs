//! What every collection gets: pointers that are collections, and what is built from the verbs.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, TryStreamExt};
use sosa::{
    Call, Clock, Codec, Collection, CollectionExt, Condition, Cursor, Entry, Error, ErrorKind, Expiry, Item, Json, Key,
    Keyspace, ListOptions, LoadOptions, Operation, Page, Revision,
};
use sosa_memory::MemoryCollection;

fn numbers() -> MemoryCollection<u32> {
    sosa_memory::new("test").collection("numbers")
}

/// Compiles if the pointer is a collection, for functions that take one.
async fn roundtrip(collection: impl Collection<u32>) {
    collection.save("n", &7).await.unwrap();
    assert_eq!(collection.load("n").await.unwrap(), Some(7));
    assert_eq!(collection.list().await.unwrap().into_pairs().unwrap(), [("n".to_owned(), 7)]);
    assert_eq!(collection.update("n", |n| n.map(|n| n + 1)).await.unwrap(), Some(8));
    assert!(collection.destroy("n").await.unwrap());
}

#[tokio::test]
async fn pointers_to_collections_are_collections() {
    let dynamic: Arc<dyn Collection<u32>> = Arc::new(numbers());
    roundtrip(numbers()).await;
    roundtrip(&numbers()).await;
    roundtrip(&&numbers()).await;
    roundtrip(Box::new(numbers())).await;
    roundtrip(Box::new(numbers()) as Box<dyn Collection<u32>>).await;
    roundtrip(&*dynamic).await;
    roundtrip(dynamic).await;
}

#[test]
fn everything_may_cross_threads() {
    fn assert<T: Send + Sync + ?Sized>() {}
    assert::<Clock>();
    assert::<Cursor>();
    assert::<Entry<u32>>();
    assert::<Error>();
    assert::<Item<u32>>();
    assert::<Key<'static>>();
    assert::<Keyspace>();
    assert::<ListOptions>();
    assert::<Page<u32>>();
    assert::<Revision>();
    assert::<dyn Codec<u32>>();
    assert::<dyn Collection<u32>>();
    assert::<Json>();
}

#[tokio::test]
async fn create_lists_in_the_order_of_insertion() {
    let numbers = numbers();
    for n in 0..100 {
        numbers.create(&n).await.unwrap();
    }
    let listed: Vec<_> = numbers.list().await.unwrap().values().copied().collect();
    assert_eq!(listed, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn update_keeps_the_deadline_unless_told_otherwise() {
    let clock = Clock::manual();
    let numbers = sosa_memory::new("test").with_clock(clock.clone()).collection::<u32>("numbers");
    let second = Duration::from_secs(1);
    numbers.save_with("n", &1, Expiry::After(second).into()).await.unwrap();
    assert_eq!(numbers.update("n", |_| None).await.unwrap(), None);
    assert_eq!(numbers.update("n", |n| Some(n? + 1)).await.unwrap(), Some(2));
    let expiry = async || numbers.load_with("n", LoadOptions::new().with_expiry()).await.unwrap().unwrap().expiry;
    assert_eq!(expiry().await, Some(Expiry::At(clock.now() + second)));
    numbers.update_with("n", Some(Expiry::Never), |n| n).await.unwrap();
    assert_eq!(expiry().await, Some(Expiry::Never));
    assert_eq!(numbers.update("new", |n| Some(n.map_or(5, |_| 0))).await.unwrap(), Some(5));
}

#[tokio::test]
async fn update_asks_for_no_save_where_there_is_no_deadline_to_keep() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let asked = asked.clone();
        move |call: &Call| asked.lock().unwrap().push(call.operation)
    };
    let numbers = numbers().instrumented("memory", observer);
    let error = numbers.update_with("n", Some(Expiry::Keep), |_| Some(1)).await.unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(numbers.update_with("n", Some(Expiry::Keep), |_| None).await.unwrap(), None);
    assert_eq!(*asked.lock().unwrap(), [Operation::Load, Operation::Load]);

    // It was there when it was loaded, and is gone when it is saved.
    numbers.save("n", &1).await.unwrap();
    let mut seen = Vec::new();
    let updated = numbers.update_with("n", Some(Expiry::Keep), |n| {
        seen.push(n);
        numbers.destroy("n").now_or_never().unwrap().unwrap();
        Some(2)
    });
    assert!(updated.await.unwrap_err().is_conflict());
    assert_eq!(seen, [Some(1), None]);
    assert_eq!(numbers.load("n").await.unwrap(), None);
}

#[tokio::test]
async fn update_yields_to_whoever_saved_first() {
    let numbers = numbers();
    numbers.save("n", &1).await.unwrap();
    let other = numbers.clone();
    let mut calls = 0;
    let saved = numbers.update("n", |n| {
        calls += 1;
        if calls == 1 {
            other.save("n", &10).now_or_never().unwrap().unwrap();
        }
        n.map(|n| n + 1)
    });
    assert_eq!(saved.await.unwrap(), Some(11));
    assert_eq!(calls, 2);
}

#[tokio::test]
async fn a_stream_walks_all_pages_in_either_direction() {
    let numbers = numbers();
    for n in 0..25 {
        numbers.save(&format!("{n:02}"), &n).await.unwrap();
    }
    for (options, expected) in [
        (ListOptions::new().limit(10), (0..25).collect::<Vec<_>>()),
        (ListOptions::new().limit(5).reverse(), (0..25).rev().collect()),
        (ListOptions::new().limit(1).starts_with("2"), (20..25).collect()),
        (ListOptions::new().cursor(Cursor::after("22")), vec![23, 24]),
        (ListOptions::new().starts_with("3"), vec![]),
    ] {
        let items: Vec<_> = pin!(numbers.stream(options)).try_collect().await.unwrap();
        assert_eq!(items.iter().map(|item| *item.value().unwrap()).collect::<Vec<_>>(), expected);
    }
    let mut refused = pin!(numbers.stream(ListOptions::new().limit(0)));
    assert!(refused.try_next().await.is_err());
}

#[tokio::test]
async fn many_are_loaded_in_order_and_cleared_without_their_neighbours() {
    let numbers = numbers();
    for n in 0..600 {
        numbers.save(&n.to_string(), &n).await.unwrap();
    }
    let within = numbers.within("0");
    within.save_with("stays", &1, Condition::Absent.into()).await.unwrap();
    let ids: Vec<_> = (0..700).rev().map(|n| n.to_string()).collect();
    let loaded = numbers.load_many(&ids).await.unwrap();
    assert_eq!(loaded, (0..700).rev().map(|n| (n < 600).then_some(n)).collect::<Vec<_>>());
    assert!(numbers.load_many(["1", ""]).await.is_err());
    assert_eq!(numbers.load_many([] as [&str; 0]).await.unwrap(), []);
    let each = numbers.load_many_with(["1", "", "700"], LoadOptions::new().with_expiry()).await;
    let [Ok(Some(found)), Err(refused), Ok(None)] = &each[..] else { panic!("{each:?}") };
    assert_eq!((found.value, found.expiry, refused.kind()), (1, Some(Expiry::Never), ErrorKind::InvalidId));
    let loaded = numbers.load_many_with(&ids, LoadOptions::new()).await;
    let values = loaded.into_iter().map(|entry| entry.unwrap().map(|entry| entry.value));
    assert_eq!(values.collect::<Vec<_>>(), (0..700).rev().map(|n| (n < 600).then_some(n)).collect::<Vec<_>>());

    assert_eq!(numbers.clear().await.unwrap(), 600);
    assert!(numbers.list().await.unwrap().items.is_empty());
    assert_eq!(within.load("stays").await.unwrap(), Some(1));
}
