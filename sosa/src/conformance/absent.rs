//! What is not there, and what is no longer there.

use super::probe::Probe;
use super::scene::{Scene, entry, put, text};
use crate::{CollectionExt, Condition, DestroyOptions, ErrorKind, Expiry, SaveOptions};

/// Loading what is absent is `None`, never an error.
pub(super) async fn load_of_an_absent_entry_is_none(scene: &Scene) {
    let things = scene.open();
    let loaded = things.load("absent").await.expect("absence is no error");
    assert_eq!(loaded, None);
}

/// Destroying what is absent is `false`, never an error; once it is destroyed it is absent.
pub(super) async fn destroy_of_an_absent_entry_is_false(scene: &Scene) {
    let things = scene.open();
    assert!(!things.destroy("absent").await.expect("absence is no error"), "nothing was destroyed");
    put(&things, "a", "1", Condition::Always).await;
    assert!(things.destroy("a").await.expect("a destroy succeeds"), "an entry was destroyed");
    assert!(!things.destroy("a").await.expect("absence is no error"), "it was destroyed before");
}

/// An expired entry is absent at once: loading, destroying, taking and updating find nothing.
pub(super) async fn an_expired_entry_is_absent_for_every_verb(scene: &Scene) {
    let things = scene.open();
    for id in ["loaded", "destroyed", "taken", "updated"] {
        put(&things, id, "old", Expiry::After(scene.short())).await;
    }
    scene.elapse(scene.short()).await;
    assert_eq!(text(&things, "loaded").await, None);
    assert!(!things.destroy("destroyed").await.unwrap(), "an expired entry was destroyed");
    assert_eq!(things.take("taken").await.unwrap(), None);
    let updated = things.update("updated", |old| Some(old.unwrap_or_else(|| Probe::new("new")))).await.unwrap();
    assert_eq!(updated, Some(Probe::new("new")), "an expired value was updated");
}

/// An expired entry is absent at once for `Absent`, `Present`, `Revision` and `Keep`.
pub(super) async fn an_expired_entry_is_absent_for_every_condition(scene: &Scene) {
    let things = scene.open();
    let expiry = Expiry::After(scene.short());
    for id in ["absent", "present", "revision", "keep", "destroy"] {
        put(&things, id, "old", expiry).await;
    }
    let read = entry(&things, "revision").await.revision;
    let read_to_destroy = entry(&things, "destroy").await.revision;
    scene.elapse(scene.short()).await;
    let new = Probe::new("new");
    let save = async |id: &str, options: SaveOptions| things.save_with(id, &new, options).await;
    save("absent", Condition::Absent.into()).await.expect("nothing is there");
    for (id, options) in [
        ("present", SaveOptions::from(Condition::Present)),
        ("revision", Condition::Revision(read).into()),
        ("keep", Expiry::Keep.into()),
    ] {
        let error = save(id, options).await.expect_err("an expired entry met a condition");
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    let options = DestroyOptions::new().revision(read_to_destroy);
    let error = things.destroy_with("destroy", options).await.expect_err("an expired entry met a condition");
    assert_eq!(error.kind(), ErrorKind::Conflict);
}
