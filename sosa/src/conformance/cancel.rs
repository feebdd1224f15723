//! Calls that are dropped before they are done.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::probe::Probe;
use super::scene::{Handle, Scene, put, text};
use crate::{Condition, Expiry, LoadOptions};

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

const HOUR: Duration = Duration::from_secs(60 * 60);

/// What is asked of an entry, once and dropped, or later and awaited.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Save,
    SaveForAnHour,
    /// For so many that this deadline cannot be taken for the other.
    TouchForHours,
    Destroy,
}

impl Asked {
    async fn of(self, things: &Handle, id: &str, value: &str) {
        match self {
            Self::Save => drop(put(things, id, value, Condition::Always).await),
            Self::SaveForAnHour => drop(put(things, id, value, Expiry::After(HOUR)).await),
            Self::TouchForHours => {
                drop(things.load_with(id, LoadOptions::new().touch(9 * HOUR)).await.expect("a touch succeeds"));
            }
            Self::Destroy => drop(things.destroy(id).await.expect("a destroy succeeds")),
        }
    }
}

/// What was dropped, at any of its polls, undoes nothing that was acknowledged later: it comes about before that,
/// or not at all. Where the store is reached by several ways, it may come about afterwards, and leaves no more than
/// it alone would.
pub(super) async fn what_was_dropped_overwrites_nothing_acknowledged_later(scene: &Scene) {
    let mut tasks = Vec::new();
    for dropped in [Asked::Save, Asked::TouchForHours, Asked::Destroy] {
        for later in [Asked::Save, Asked::SaveForAnHour, Asked::Destroy] {
            // All at once, so that what is left behind meets a busy store.
            tasks.push(tokio::spawn(drop_and_go_on(scene.open(), dropped, later)));
        }
    }
    let (mut rounds, mut left_behind) = (Vec::new(), false);
    for task in tasks {
        let (played, dropped_any) = task.await.expect("no task fails");
        rounds.extend(played);
        left_behind |= dropped_any;
    }
    if left_behind {
        // Nobody awaits what was left behind, so nothing tells when it has come to its end. One wait, long for a
        // store and short for a test, is for all of it.
        sleep(Duration::from_millis(200)).await;
    }
    let (things, keeps_order) = (scene.open(), scene.fixture().keeps_order());
    for rounds in rounds.chunks(100) {
        join_all(rounds.iter().map(async |(id, later)| {
            let left = things.load_with(id, LoadOptions::new().with_expiry()).await.expect("a load succeeds");
            let left = left.map(|entry| (entry.value.text(), entry.expiry.expect("the expiry was asked for")));
            let holds = match (later, &left) {
                (Asked::Destroy, left) => left.is_none(),
                (Asked::Save, Some((text, expiry))) => text == "later" && *expiry == Expiry::Never,
                (_, Some((text, Expiry::At(at)))) => text == "later" && *at < scene.now() + 2 * HOUR,
                (_, _) => false,
            };
            let holds = holds || !keeps_order && left.as_ref().is_none_or(|(text, _)| text != "old");
            assert!(holds, "what was dropped came later than what was acknowledged: {id} left {left:?}");
        }))
        .await;
    }
}

/// Asks for something, drops that, and asks for something else at once, for many ids. Returns these, and whether
/// any call was dropped before it was done.
async fn drop_and_go_on(things: Handle, dropped: Asked, later: Asked) -> (Vec<(String, Asked)>, bool) {
    // So often that it shows if one call in ten is late, and in reasonable time on a disk.
    const ROUNDS: usize = 60;
    const TRIES: usize = 4;
    let (mut rounds, mut left_behind, mut polls) = (Vec::new(), false, 1);
    for round in 0..ROUNDS {
        let id = format!("{dropped:?} {later:?} {round}");
        put(&things, &id, "old", Condition::Always).await;
        // Several times, as callers do whose patience ends.
        for _ in 0..TRIES {
            if drop_after(polls, dropped.of(&things, &id, "dropped")).await {
                // That many polls are enough: from the first one again.
                polls = 0;
                break;
            }
            left_behind = true;
        }
        polls += 1;
        later.of(&things, &id, "later").await;
        rounds.push((id, later));
    }
    (rounds, left_behind)
}
