//! A load that moves the deadline.

use std::time::Duration;

use super::expiry::{assert_exact, time};
use super::scene::{Handle, Scene, entry, expiry, put, text};
use crate::{Condition, Entry, ErrorKind, Expiry, LoadOptions};

async fn touch(things: &Handle, id: &str, duration: Duration) -> Option<Entry<super::Probe>> {
    things.load_with(id, LoadOptions::new().touch(duration)).await.expect("a touch succeeds")
}

/// A touch of zero is `InvalidOption`, and the entry stays as it is.
pub(super) async fn touch_of_zero_is_invalid(scene: &Scene) {
    let things = scene.open();
    put(&things, "a", "1", Condition::Always).await;
    for id in ["a", "absent"] {
        let touched = things.load_with(id, LoadOptions::new().touch(Duration::ZERO)).await;
        assert_eq!(touched.expect_err("a touch of zero was accepted").kind(), ErrorKind::InvalidOption);
    }
    assert_eq!(expiry(&things, "a").await, Expiry::Never);
}

/// A touch moves the deadline later than it was.
pub(super) async fn touch_moves_the_deadline_later(scene: &Scene) {
    let things = scene.open();
    put(&things, "a", "1", Expiry::After(scene.short())).await;
    assert!(touch(&things, "a", 100 * scene.short()).await.is_some());
    scene.elapse(scene.short()).await;
    assert_eq!(text(&things, "a").await.as_deref(), Some("1"));
}

/// The deadline that a touch sets is kept as exactly as one that a save sets.
pub(super) async fn a_touch_is_kept_to_the_millisecond(scene: &Scene) {
    let things = scene.open();
    assert_exact(scene, async |duration| {
        put(&things, "a", "1", Expiry::After(duration / 2)).await;
        assert!(touch(&things, "a", duration).await.is_some());
        time(expiry(&things, "a").await)
    })
    .await;
}

/// A touch moves the deadline earlier than it was, also where there was none.
pub(super) async fn touch_moves_the_deadline_earlier(scene: &Scene) {
    let things = scene.open();
    put(&things, "later", "1", Expiry::After(100 * scene.short())).await;
    put(&things, "never", "1", Expiry::Never).await;
    for id in ["later", "never"] {
        assert!(touch(&things, id, scene.short()).await.is_some());
    }
    scene.elapse(scene.short()).await;
    for id in ["later", "never"] {
        assert_eq!(text(&things, id).await, None, "{id}");
    }
}

/// The load and the touch are one step: the expiry that the load tells is the touched one.
pub(super) async fn touch_and_load_are_one_step(scene: &Scene) {
    let things = scene.open();
    put(&things, "a", "1", Expiry::Never).await;
    let options = LoadOptions::new().touch(100 * scene.short()).with_expiry();
    let touched = things.load_with("a", options).await.unwrap().expect("it is there");
    assert_eq!(touched.expiry, Some(expiry(&things, "a").await));
}

/// A touch leaves the value and the revision.
pub(super) async fn touch_keeps_value_and_revision(scene: &Scene) {
    let things = scene.open();
    let saved = put(&things, "a", "1", Expiry::After(100 * scene.short())).await;
    let touched = touch(&things, "a", 200 * scene.short()).await.expect("it is there");
    assert_eq!((touched.value.text().as_str(), touched.revision), ("1", saved));
    let after = entry(&things, "a").await;
    assert_eq!((after.value.text().as_str(), after.revision), ("1", saved));
}

/// A touch never brings back what has expired, was destroyed, or never was.
pub(super) async fn touch_never_resurrects(scene: &Scene) {
    let things = scene.open();
    put(&things, "expired", "1", Expiry::After(scene.short())).await;
    put(&things, "destroyed", "1", Expiry::After(100 * scene.short())).await;
    things.destroy("destroyed").await.unwrap();
    scene.elapse(scene.short()).await;
    for id in ["expired", "destroyed", "absent"] {
        assert!(touch(&things, id, 100 * scene.short()).await.is_none(), "{id}");
        assert_eq!(text(&things, id).await, None, "{id}");
    }
}

/// A touch with slack moves a deadline that is the slack or more away, earlier and later, and any from *never*.
pub(super) async fn a_touch_with_slack_moves_what_is_due(scene: &Scene) {
    let things = scene.open();
    let (slack, touched) = (10 * scene.short(), 40 * scene.short());
    for (id, before) in [
        ("later", Expiry::After(touched - slack * 3 / 2)),
        ("earlier", Expiry::After(touched + slack * 3 / 2)),
        ("never", Expiry::Never),
    ] {
        put(&things, id, "1", before).await;
        let old = expiry(&things, id).await;
        let loaded =
            things.load_with(id, LoadOptions::new().touch(touched).slack(slack)).await.expect("a touch succeeds");
        assert!(loaded.is_some());
        let new = expiry(&things, id).await;
        assert_ne!(new, old, "{id}: the deadline stays");
        if old != Expiry::Never {
            let (new, old) = (time(new), time(old));
            let moved = new.max(old).duration_since(new.min(old)).expect("it is later");
            assert!(moved > slack / 2 && moved < slack * 5 / 2, "{id}: it moved by {moved:?}");
        }
    }
}

/// With slack an entry lives for the touch less the slack, at least, and at most for the touch and the slack; and the expiry
/// that the load tells is its own.
pub(super) async fn a_touch_with_slack_ends_within_it(scene: &Scene) {
    let things = scene.open();
    let (slack, touched) = (2 * scene.short(), 3 * scene.short());
    for (id, before) in [("later", touched - slack / 2), ("earlier", touched + slack / 2)] {
        put(&things, id, "1", Expiry::After(before)).await;
        let options = LoadOptions::new().touch(touched).slack(slack).with_expiry();
        let told = things.load_with(id, options).await.expect("a touch succeeds").expect("it is there").expiry;
        assert_eq!(told, Some(expiry(&things, id).await), "{id}");
    }
    scene.elapse(touched - slack).await;
    for id in ["later", "earlier"] {
        assert_eq!(text(&things, id).await.as_deref(), Some("1"), "{id}");
    }
    scene.elapse(2 * slack).await;
    for id in ["later", "earlier"] {
        assert_eq!(text(&things, id).await, None, "{id}");
    }
}
