//! Calls that are dropped before they are done.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::Probe;
use super::scene::{Handle, Scene, put, text};
use crate::{Condition, LoadOptions};

/// Polls a call this often, each time that it is woken, then drops it. Returns whether it was done
/// before.
async fn drop_after<T>(polls: usize, call: impl Future<Output = T>) -> bool {
    let mut call = pin!(call);
    let mut polled = 0;
    poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(false);
        }
        polled += 1;
        match call.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if polled == polls => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// More polls than any call needs that is not lost.
const POLLS: std::ops::Range<usize> = 0..200;

/// After a call was dropped at any of its polls, the collection answers.
pub(super) async fn a_dropped_call_leaves_the_collection_usable(scene: &Scene) {
    let things = scene.open();
    let answers = async |things: &Handle| {
        timeout(Duration::from_secs(2), async {
            put(things, "other", "1", Condition::Always).await;
            assert_eq!(text(things, "other").await.as_deref(), Some("1"));
        })
        .await
        .expect("the collection hangs after a call was dropped");
    };
    for polls in POLLS {
        let done = drop_after(polls, things.save("a", &Probe::new("1"))).await;
        answers(&things).await;
        if done {
            break;
        }
    }
    for polls in POLLS {
        let done = drop_after(polls, things.destroy("a")).await;
        answers(&things).await;
        if done {
            break;
        }
    }
}

/// A save that is dropped at any poll leaves the old value or the new one.
pub(super) async fn a_dropped_save_leaves_the_old_or_the_new(scene: &Scene) {
    let things = scene.open();
    for polls in POLLS {
        // An id for each: what was dropped may still be under way in the store.
        let id = format!("{polls}");
        put(&things, &id, "old", Condition::Always).await;
        let done = drop_after(polls, things.save(&id, &Probe::new("new"))).await;
        let left = text(&things, &id).await;
        assert!(matches!(left.as_deref(), Some("old" | "new")), "{left:?} is left after {polls} polls");
        assert!(!done || left.as_deref() == Some("new"), "the save was acknowledged");
        if done {
            return;
        }
    }
    panic!("a save needs more than {} polls", POLLS.end);
}

/// A destroy that is dropped at any poll leaves the entry, or nothing.
pub(super) async fn a_dropped_destroy_leaves_the_old_or_nothing(scene: &Scene) {
    let things = scene.open();
    for polls in POLLS {
        let id = format!("{polls}");
        put(&things, &id, "old", Condition::Always).await;
        let done = drop_after(polls, things.destroy(&id)).await;
        let left = text(&things, &id).await;
        assert!(matches!(left.as_deref(), Some("old") | None), "{left:?} is left after {polls} polls");
        assert!(!done || left.is_none(), "the destroy was acknowledged");
        if done {
            return;
        }
    }
    panic!("a destroy needs more than {} polls", POLLS.end);
}

/// A load that touches, dropped at any poll, leaves the entry, and with the old deadline or the new.
pub(super) async fn a_dropped_touch_leaves_the_entry(scene: &Scene) {
    let things = scene.open();
    let options = LoadOptions::new().touch(Duration::from_secs(60 * 60));
    for polls in POLLS {
        put(&things, &format!("{polls}"), "old", Condition::Always).await;
        if !drop_after(polls, things.load_with(&format!("{polls}"), options)).await {
            continue;
        }
        scene.elapse(scene.short()).await;
        for polls in 0..=polls {
            assert_eq!(text(&things, &format!("{polls}")).await.as_deref(), Some("old"), "after {polls} polls");
        }
        return;
    }
    panic!("a load needs more than {} polls", POLLS.end);
}
