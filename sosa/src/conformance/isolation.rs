//! Prefixes, names and paths.

use super::scene::{Scene, put, text};
use crate::Condition;

/// Places whose prefix, name and id would give one text if they were just joined.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    (":a", "b", "c"),
    ("", "a:b", "c"),
    ("", "a", "b:c"),
    (":a", "b:c", "d"),
    (":a:b", "c", "d"),
    ("", "a/b", "c"),
    ("", "a%3Ab", "c"),
    ("", "a%2Fb", "c"),
    ("", "{a}", "b"),
    ("", "a", "b"),
    ("", "A", "b"),
    ("", "a ", "b"),
    ("", "", "a"),
    ("a", "", "a"),
    ("", "*", "b"),
];

/// No two different (prefix, name, id) ever meet.
pub(super) async fn different_places_never_meet(scene: &Scene) {
    for (n, (prefix, name, id)) in NEIGHBOURS.iter().enumerate() {
        let things = scene.at(prefix, name, &[]);
        assert_eq!(text(&things, id).await, None, "{:?} meets another", NEIGHBOURS[n]);
        put(&things, id, &n.to_string(), Condition::Always).await;
    }
    for (n, (prefix, name, id)) in NEIGHBOURS.iter().enumerate() {
        let things = scene.at(prefix, name, &[]);
        assert_eq!(text(&things, id).await, Some(n.to_string()), "{:?} meets another", NEIGHBOURS[n]);
    }
}

/// Names, paths and ids that would give one text if they were just joined.
const NESTED: &[(&str, &[&str], &str)] = &[
    ("clubs", &[], "a"),
    ("clubs", &["a"], "a"),
    ("clubs", &["a", "a"], "a"),
    ("clubs", &["a/a"], "a"),
    ("clubs", &["a:a"], "a"),
    ("clubs", &["a%2Fa"], "a"),
    ("clubs", &[""], "a"),
    ("clubs", &["", ""], "a"),
    ("clubs", &[], "a/a"),
    ("clubs", &[], "a:a"),
    ("clubs", &["a"], "a:a"),
    ("clubs", &["*"], "a"),
    ("clubs/a", &[], "a"),
    ("clubs/a", &["a"], "a"),
    ("clubs/", &[], "a"),
    ("clubs:a", &[], "a"),
];

/// Sub-collections nest, and no two different paths, nor a path and a name or an id, ever meet.
pub(super) async fn sub_collections_nest(scene: &Scene) {
    for (n, (name, path, id)) in NESTED.iter().enumerate() {
        let things = scene.at("", name, path);
        assert_eq!(text(&things, id).await, None, "{:?} meets another", NESTED[n]);
        put(&things, id, &n.to_string(), Condition::Always).await;
    }
    for (n, (name, path, id)) in NESTED.iter().enumerate() {
        let things = scene.at("", name, path);
        assert_eq!(text(&things, id).await, Some(n.to_string()), "{:?} meets another", NESTED[n]);
    }
}

/// Destroying an entry leaves its neighbours in other places as they are.
pub(super) async fn nothing_outside_is_destroyed(scene: &Scene) {
    let things = scene.open();
    let outside = [
        scene.at("", "things2", &[]),
        scene.at("", "thing", &[]),
        scene.at("2", "things", &[]),
        scene.at("", "things", &["a"]),
    ];
    put(&things, "a", "inside", Condition::Always).await;
    for neighbour in &outside {
        put(neighbour, "a", "outside", Condition::Always).await;
    }
    assert!(things.destroy("a").await.unwrap());
    for neighbour in &outside {
        assert_eq!(text(neighbour, "a").await.as_deref(), Some("outside"), "{neighbour:?}");
    }
}
