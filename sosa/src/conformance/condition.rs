//! Conditional writes, and the revisions that they ask for.

use std::time::Duration;

use super::probe::Probe;
use super::scene::{Handle, Scene, entry, expiry, put, text};
use crate::{Condition, DestroyOptions, ErrorKind, Expiry, ListOptions, LoadOptions, Result, Revision, SaveOptions};

/// Asserts that a condition was not met.
#[track_caller]
fn assert_conflict<T: std::fmt::Debug>(result: Result<T>) {
    let error = result.expect_err("a condition that does not hold was met");
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

async fn save_if(things: &Handle, id: &str, condition: Condition) -> Result<Revision> {
    things.save_with(id, &Probe::new("by condition"), condition.into()).await
}

async fn destroy_if(things: &Handle, id: &str, revision: Revision) -> Result<bool> {
    things.destroy_with(id, DestroyOptions::new().revision(revision)).await
}

/// `Always`, the default, saves where nothing is and over whatever is there.
pub(super) async fn a_plain_save_replaces_whatever_is_there(scene: &Scene) {
    let things = scene.open();
    for value in ["1", "2", "2", ""] {
        put(&things, "a", value, Condition::Always).await;
        assert_eq!(text(&things, "a").await.as_deref(), Some(value));
    }
}

/// A destroy without a condition removes whatever is there.
pub(super) async fn a_plain_destroy_removes_whatever_is_there(scene: &Scene) {
    let things = scene.open();
    put(&things, "a", "1", Condition::Always).await;
    put(&things, "b", "2", Condition::Always).await;
    assert!(things.destroy("a").await.unwrap());
    assert_eq!(text(&things, "a").await, None);
    assert_eq!(text(&things, "b").await.as_deref(), Some("2"));
}

/// The revision that a save returns is the one that a load reads.
pub(super) async fn save_returns_the_revision_that_load_reads(scene: &Scene) {
    let things = scene.open();
    for value in ["1", "2"] {
        let saved = put(&things, "a", value, Condition::Always).await;
        assert_eq!(entry(&things, "a").await.revision, saved);
        assert_eq!(entry(&things, "a").await.revision, saved, "a load changed it");
    }
}

/// Another content is another revision.
pub(super) async fn another_state_has_another_revision(scene: &Scene) {
    let things = scene.open();
    let first = put(&things, "a", "1", Condition::Always).await;
    let second = put(&things, "a", "2", Condition::Always).await;
    assert_ne!(first, second);
    assert_ne!(entry(&things, "a").await.revision, first);
}

/// A revision that is left out is `Revision::NONE` or the right one; all else is as it is with it.
pub(super) async fn a_revision_left_out_is_none_or_right(scene: &Scene) {
    let things = scene.open();
    let options = SaveOptions::new().without_revision();
    let saved = things.save_with("a", &Probe::new("1"), options).await.expect("a plain save succeeds");
    let entry = entry(&things, "a").await;
    let loaded = things.load_with("a", LoadOptions::new().without_revision()).await.expect("a load succeeds");
    let loaded = loaded.expect("the entry is there");
    assert_eq!((entry.value.text(), loaded.value.text()), ("1".to_owned(), "1".to_owned()));
    let mut left_out = vec![saved, loaded.revision];
    if let Ok(page) = things.list_with(ListOptions::new().without_revision()).await {
        left_out.extend(page.items.into_iter().map(|item| {
            let entry = item.entry.expect("entries were asked for").expect("it can be decoded");
            assert_eq!(entry.value.text(), "1");
            entry.revision
        }));
    }
    for revision in left_out {
        assert!([Revision::NONE, entry.revision].contains(&revision), "another revision was made up");
    }
}

/// `Revision::NONE` is the state of no entry: on condition of it a save and a destroy are conflicts and change
/// nothing, where nothing is, over an entry, and over one that cannot be decoded.
pub(super) async fn no_entry_is_in_the_state_none(scene: &Scene) {
    let things = scene.open();
    put(&things, "plain", "1", Condition::Always).await;
    // Where values are not encoded this is one like any other.
    put(&things, "undecodable", Probe::UNDECODABLE, Condition::Always).await;
    for id in ["absent", "plain", "undecodable"] {
        let state = async || match things.load_with(id, LoadOptions::new().with_expiry()).await {
            Ok(entry) => Ok(entry.map(|entry| (entry.value.text(), entry.revision, entry.expiry))),
            Err(error) => Err(error.kind()),
        };
        let before = state().await;
        assert_conflict(save_if(&things, id, Condition::Revision(Revision::NONE)).await);
        assert_eq!(state().await, before, "{id}");
        assert_conflict(destroy_if(&things, id, Revision::NONE).await);
        assert_eq!(state().await, before, "{id}");
    }
}

/// A revision is up to 20 bytes that survive as text, and mean the same to every handle.
pub(super) async fn a_revision_survives_as_text_and_for_another_handle(scene: &Scene) {
    let (one, other) = (scene.open(), scene.open());
    put(&one, "a", "1", Condition::Always).await;
    let read = entry(&one, "a").await.revision;
    assert!(read.as_bytes().len() <= Revision::MAX_LEN);
    let travelled: Revision =
        serde_json::from_str(&serde_json::to_string(&read).expect("it is serialized")).expect("it is read back");
    assert_eq!(travelled, read);
    save_if(&other, "a", Condition::Revision(travelled)).await.expect("the state is the one that was read");
}

/// `Absent` saves where nothing is, and only there.
pub(super) async fn absent_saves_only_where_nothing_is(scene: &Scene) {
    let things = scene.open();
    save_if(&things, "a", Condition::Absent).await.expect("nothing is there");
    assert_conflict(save_if(&things, "a", Condition::Absent).await);
    things.destroy("a").await.unwrap();
    save_if(&things, "a", Condition::Absent).await.expect("nothing is there any more");
}

/// `Present` saves where something is, and only there.
pub(super) async fn present_saves_only_where_something_is(scene: &Scene) {
    let things = scene.open();
    assert_conflict(save_if(&things, "a", Condition::Present).await);
    put(&things, "a", "1", Condition::Always).await;
    save_if(&things, "a", Condition::Present).await.expect("something is there");
    assert_eq!(text(&things, "a").await.as_deref(), Some("by condition"));
}

/// `Revision(r)` saves over the state that was read, and over no other.
pub(super) async fn revision_saves_only_over_the_state_that_was_read(scene: &Scene) {
    let things = scene.open();
    let first = put(&things, "a", "1", Condition::Always).await;
    let second = put(&things, "a", "2", Condition::Always).await;
    assert_conflict(save_if(&things, "a", Condition::Revision(first)).await);
    let third = save_if(&things, "a", Condition::Revision(second)).await.expect("the state is the one that was read");
    assert_conflict(save_if(&things, "a", Condition::Revision(second)).await);
    put(&things, "a", "4", Condition::Revision(third)).await;
    assert_eq!(text(&things, "a").await.as_deref(), Some("4"));
}

/// A destroy with a revision removes the state that was read, and no other.
pub(super) async fn revision_destroys_only_the_state_that_was_read(scene: &Scene) {
    let things = scene.open();
    let first = put(&things, "a", "1", Condition::Always).await;
    let second = put(&things, "a", "2", Condition::Always).await;
    assert_conflict(destroy_if(&things, "a", first).await);
    assert!(destroy_if(&things, "a", second).await.expect("the state is the one that was read"));
    assert_eq!(text(&things, "a").await, None);
}

/// `Revision(r)` on an absent entry is a conflict, for a save and for a destroy.
pub(super) async fn a_revision_of_an_absent_entry_is_a_conflict(scene: &Scene) {
    let things = scene.open();
    let stale = put(&things, "gone", "a state that is gone", Condition::Always).await;
    things.destroy("gone").await.unwrap();
    for id in ["gone", "never"] {
        assert_conflict(save_if(&things, id, Condition::Revision(stale)).await);
        assert_conflict(destroy_if(&things, id, stale).await);
        assert_eq!(text(&things, id).await, None);
    }
}

/// Where a condition does not hold nothing changes: no value, no deadline, no revision. Nor does it
/// where the save would leave nothing.
pub(super) async fn a_miss_changes_nothing(scene: &Scene) {
    let things = scene.open();
    let hour = Duration::from_secs(60 * 60);
    let past = Expiry::At(scene.now() - hour);
    let expiries = [Expiry::After(2 * hour), Expiry::After(Duration::ZERO), past, Expiry::Keep, Expiry::Never];
    let stale = put(&things, "a", "a state that is gone", Condition::Always).await;
    let saved = put(&things, "a", "1", Expiry::After(hour)).await;
    let deadline = expiry(&things, "a").await;
    for asked in expiries {
        for condition in [Condition::Absent, Condition::Revision(stale)] {
            let options = SaveOptions::new().condition(condition).expiry(asked);
            assert_conflict(things.save_with("a", &Probe::new("2"), options).await);
        }
        let options = SaveOptions::new().condition(Condition::Present).expiry(asked);
        assert_conflict(things.save_with("b", &Probe::new("2"), options).await);
    }
    assert_conflict(destroy_if(&things, "a", stale).await);
    let after = things.load("a").await.unwrap().expect("a save that missed destroyed it");
    assert_eq!(after.text(), "1");
    assert_eq!(entry(&things, "a").await.revision, saved);
    assert_eq!(expiry(&things, "a").await, deadline);
    assert_eq!(text(&things, "b").await, None);
    scene.assert_listed(&things, &["a"]).await;
}
