//! Ids: any text, every byte of it meant.

use super::probe::Probe;
use super::scene::{Handle, Scene, put, text};
use crate::{Condition, DestroyOptions, ErrorKind, LoadOptions, MAX_ID_LEN, Result};

/// Ids that something between here and the disk might take for the same, or for something else.
const AWKWARD: &[&str] = &[
    "a",
    "A",
    "a ",
    " a",
    "a\0",
    "\0a",
    "\0",
    "a\n",
    "a\r\n",
    "a:",
    ":a",
    ":",
    "::",
    "a:b",
    "a/b",
    "a/",
    "/a",
    "/",
    "..",
    ".",
    "a.b",
    "ab",
    "a%",
    "%61",
    "a%3Ab",
    "%",
    "*",
    "a*",
    "?",
    "[a]",
    "[",
    "{a}",
    "{",
    "}",
    "a\\",
    "\\",
    "\"",
    "'",
    "é",
    "e\u{301}",
    "É",
    "🙂",
    "\u{feff}a",
    "\u{2028}",
    "null",
    "undefined",
    "__proto__",
    "0",
    "00",
    "-1",
    "~",
    "\u{10ffff}",
];

/// Ids that differ in any byte are different, among them `:` `/` `%` `*` `?` `[` `{`, newline, NUL,
/// and what looks alike.
pub(super) async fn every_byte_of_an_id_counts(scene: &Scene) {
    let things = scene.open();
    for (n, id) in AWKWARD.iter().enumerate() {
        assert_eq!(text(&things, id).await, None, "{id:?} meets another id");
        put(&things, id, &n.to_string(), Condition::Always).await;
    }
    for (n, id) in AWKWARD.iter().enumerate() {
        assert_eq!(text(&things, id).await, Some(n.to_string()), "{id:?} meets another id");
    }
    for id in AWKWARD.iter().step_by(2) {
        assert!(things.destroy(id).await.unwrap(), "{id:?} was there");
    }
    for (n, id) in AWKWARD.iter().enumerate().skip(1).step_by(2) {
        assert_eq!(text(&things, id).await, Some(n.to_string()), "{id:?} was destroyed as another");
    }
}

/// An id of 1,024 bytes is as good as any, and every byte of it counts.
pub(super) async fn an_id_may_have_1024_bytes(scene: &Scene) {
    let things = scene.open();
    for last in ["x", "y"] {
        let id = "i".repeat(MAX_ID_LEN - 1) + last;
        put(&things, &id, last, Condition::Always).await;
        assert_eq!(text(&things, &id).await.as_deref(), Some(last));
    }
    let unicode = "é".repeat(MAX_ID_LEN / 2);
    put(&things, &unicode, "é", Condition::Always).await;
    assert!(things.destroy(&unicode).await.unwrap());
    assert_eq!(text(&things, &("i".repeat(MAX_ID_LEN - 1) + "x")).await.as_deref(), Some("x"));
}

/// The empty id, and one of more bytes, is `InvalidId` for every verb, before the store is asked: also
/// where it is out of reach.
pub(super) async fn any_other_id_is_invalid(scene: &Scene) {
    assert_invalid(&scene.open()).await;
    if let Some(failing) = scene.fixture().failing() {
        assert_invalid(&failing).await;
    }
}

async fn assert_invalid(things: &Handle) {
    for id in [String::new(), "i".repeat(MAX_ID_LEN + 1), "é".repeat(MAX_ID_LEN / 2) + "i"] {
        let refused: [Result<()>; 3] = [
            things.load_with(&id, LoadOptions::new()).await.map(drop),
            things.save_with(&id, &Probe::new("1"), Condition::Always.into()).await.map(drop),
            things.destroy_with(&id, DestroyOptions::new()).await.map(drop),
        ];
        for refused in refused {
            let error = refused.expect_err("an invalid id was accepted");
            assert_eq!(error.kind(), ErrorKind::InvalidId, "of {} bytes", id.len());
        }
    }
}
