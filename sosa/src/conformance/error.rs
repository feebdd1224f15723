//! What an error tells, and what it must not.

use std::error::Error as _;

use super::probe::Probe;
use super::scene::{Handle, Scene, entry, put, text};
use crate::{
    Condition, DestroyOptions, Error, ErrorKind, Expiry, ListOptions, LoadOptions, MAX_ID_LEN, Operation, Outcome,
};

/// A value that cannot be decoded is `Decode` for a load, and stays: it can be replaced and destroyed.
pub(super) async fn what_cannot_be_decoded_is_an_error_and_stays(scene: &Scene) {
    let things = scene.open();
    put(&things, "a", Probe::UNDECODABLE, Condition::Always).await;
    for _ in 0..2 {
        let loaded = things.load("a").await.map(|value| value.map(|value| value.text())).map_err(|error| error.kind());
        let expected = match scene.fixture().encodes() {
            true => Err(ErrorKind::Decode),
            false => Ok(Some(Probe::UNDECODABLE.to_owned())),
        };
        assert_eq!(loaded, expected);
    }
    let absent = things.save_with("a", &Probe::new("1"), Condition::Absent.into()).await;
    assert_eq!(absent.expect_err("something is there").kind(), ErrorKind::Conflict);
    put(&things, "a", "1", Condition::Present).await;
    assert_eq!(text(&things, "a").await.as_deref(), Some("1"));
    put(&things, "a", Probe::UNDECODABLE, Condition::Always).await;
    assert!(things.destroy("a").await.unwrap());
}

/// A value that cannot be encoded is `Encode` for a save, and the entry stays as it was.
pub(super) async fn what_cannot_be_encoded_is_an_error_and_changes_nothing(scene: &Scene) {
    let things = scene.open();
    let saved = put(&things, "a", "1", Condition::Always).await;
    for id in ["a", "b"] {
        let refused = things.save_with(id, &Probe::new(Probe::UNENCODABLE), Condition::Always.into()).await;
        match scene.fixture().encodes() {
            true => assert_eq!(refused.expect_err("the value has no encoding").kind(), ErrorKind::Encode),
            false => drop(refused.expect("the store holds values as they are")),
        }
    }
    if scene.fixture().encodes() {
        assert_eq!(entry(&things, "a").await.revision, saved);
        assert_eq!(text(&things, "b").await, None);
    } else {
        assert_eq!(text(&things, "a").await.as_deref(), Some(Probe::UNENCODABLE));
    }
}

/// Provokes an error of each kind that a fixture can, each with the verb that it must name. `id` and
/// `value` are in whatever was refused.
async fn refusals(things: &Handle, id: &str, value: &str) -> Vec<(Operation, Error)> {
    let stale = put(things, id, "another state", Condition::Always).await;
    put(things, id, value, Condition::Always).await;
    let probe = Probe::new(value);
    let long = id.repeat(MAX_ID_LEN);
    let zero = LoadOptions::new().touch(std::time::Duration::ZERO);
    let stale_destroy = DestroyOptions::new().revision(stale);
    vec![
        (Operation::Save, things.save_with(id, &probe, Condition::Absent.into()).await.unwrap_err()),
        (Operation::Save, things.save_with(id, &probe, Condition::Revision(stale).into()).await.unwrap_err()),
        (Operation::Save, things.save_with("absent", &probe, Expiry::Keep.into()).await.unwrap_err()),
        (Operation::Save, things.save_with(&long, &probe, Condition::Always.into()).await.unwrap_err()),
        (Operation::Destroy, things.destroy_with(id, stale_destroy).await.unwrap_err()),
        (Operation::Destroy, things.destroy_with(&long, DestroyOptions::new()).await.unwrap_err()),
        (Operation::Load, things.load_with(&long, LoadOptions::new()).await.unwrap_err()),
        (Operation::Load, things.load_with(id, zero).await.unwrap_err()),
        (Operation::List, things.list_with(ListOptions::new().limit(0)).await.unwrap_err()),
    ]
}

/// What is refused was not applied, and the error says so; nor may the same call be made again.
pub(super) async fn a_refusal_was_not_applied(scene: &Scene) {
    for (operation, error) in refusals(&scene.open(), "id", "value").await {
        assert_eq!(error.outcome(), Outcome::NotApplied, "{operation}: {error}");
        assert!(!error.is_retryable(), "{operation}: {error}");
    }
}

/// An error names the backend and the verb.
pub(super) async fn an_error_names_its_backend_and_verb(scene: &Scene) {
    for (operation, error) in refusals(&scene.open(), "id", "value").await {
        assert!(error.backend().is_some_and(|backend| !backend.is_empty()), "{operation}: {error}");
        assert_eq!(error.operation(), Some(operation), "{error}");
    }
}

/// A store that is out of reach or full is an error of such a kind; where a driver reported it, its
/// error is the source.
pub(super) async fn a_failing_store_says_why(scene: &Scene) {
    // A store that cannot fail has nothing to say; its fixture says that it is one.
    let Some(failing) = scene.fixture().failing() else { return };
    let saved = failing.save_with("a", &Probe::new("1"), Condition::Always.into()).await;
    let error = saved.expect_err("the fixture says that this save fails");
    assert!(error.backend().is_some(), "{error}");
    match error.kind() {
        // Of its own knowledge, without a driver.
        ErrorKind::CapacityExceeded => {}
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::PermissionDenied | ErrorKind::Other => {
            assert!(error.source().is_some(), "the driver's error is missing: {error}");
        }
        other => panic!("a failing store is no {other:?}: {error}"),
    }
    if error.outcome() == Outcome::Unknown {
        assert!(!error.is_retryable(), "{error}");
    }
}

/// No id and no value is anywhere in an error: not in its text, its `Debug`, or its sources.
pub(super) async fn no_id_and_no_value_is_in_an_error(scene: &Scene) {
    let things = scene.open();
    let mut errors: Vec<_> =
        refusals(&things, "sesame", "treasure").await.into_iter().map(|(_, error)| error).collect();
    if scene.fixture().encodes() {
        let undecodable = format!("{} treasure", Probe::UNDECODABLE);
        put(&things, "sesame", &undecodable, Condition::Always).await;
        errors.extend(things.load("sesame").await.err());
        let unencodable = Probe::new(format!("{} treasure", Probe::UNENCODABLE));
        errors.extend(things.save("sesame", &unencodable).await.err());
        if let Ok(page) = things.list().await {
            errors.extend(page.items.into_iter().filter_map(|item| item.entry?.err()));
        }
    }
    if let Some(failing) = scene.fixture().failing() {
        // A driver's error may quote the key, or the command that failed.
        errors.extend(failing.save("sesame", &Probe::new("treasure")).await.err());
        errors.extend(failing.load("sesame").await.err());
        errors.extend(failing.destroy("sesame").await.err());
        errors.extend(failing.list_with(ListOptions::new().starts_with("sesame")).await.err());
    }
    for error in errors {
        let mut shown = format!("{error} {error:?}");
        let mut source = error.source();
        while let Some(cause) = source {
            shown.push_str(&format!(" {cause} {cause:?}"));
            source = cause.source();
        }
        for secret in ["sesame", "treasure"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
