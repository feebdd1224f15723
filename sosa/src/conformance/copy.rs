//! What is stored.

use super::probe::Probe;
use super::scene::{Scene, put, text};
use crate::{Condition, LoadOptions};

/// Texts of every kind come back equal.
pub(super) async fn a_value_comes_back_as_it_was_saved(scene: &Scene) {
    let things = scene.open();
    let long = "long ".repeat(20_000);
    for (n, value) in
        ["", " ", "\0", "a\0b", "\"\\\n\r\t", "zoë 🙂 \u{2028}\u{fffd}", "null", "{}", &long].iter().enumerate()
    {
        let id = format!("{n}");
        put(&things, &id, value, Condition::Always).await;
        assert!(text(&things, &id).await.as_deref() == Some(value), "value {n} came back changed");
    }
}

/// Two handles of one place, as clones of one are, see each other's writes at once.
pub(super) async fn handles_of_one_place_share_the_data(scene: &Scene) {
    let (one, other) = (scene.open(), scene.open());
    assert_eq!(text(&other, "a").await, None);
    for value in ["1", "2"] {
        put(&one, "a", value, Condition::Always).await;
        assert_eq!(text(&other, "a").await.as_deref(), Some(value));
    }
    assert!(other.destroy("a").await.unwrap());
    assert_eq!(text(&one, "a").await, None);
}

/// Changing a value that was saved, or loaded, changes nothing that is stored.
pub(super) async fn what_is_stored_is_a_copy(scene: &Scene) {
    let things = scene.open();
    let value = Probe::new("saved");
    things.save("a", &value).await.unwrap();
    value.set("changed after the save");
    let loaded = things.load_with("a", LoadOptions::new()).await.unwrap().expect("it was saved").value;
    assert_eq!(loaded, Probe::new("saved"));
    loaded.set("changed after the load");
    assert_eq!(text(&things, "a").await.as_deref(), Some("saved"));
}
