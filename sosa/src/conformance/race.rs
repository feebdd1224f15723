//! Many tasks on many threads, one entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Barrier;

use super::probe::Probe;
use super::scene::{Handle, Scene, put, text};
use crate::{CollectionExt, Condition, ErrorKind, Expiry, LoadOptions};

const TASKS: usize = 16;

/// Starts many tasks at once, each with a handle of its own, and returns what they return.
async fn race<T: Send + 'static, F: Future<Output = T> + Send>(
    scene: &Scene,
    task: impl Fn(usize, Handle) -> F + Send + Clone + 'static,
) -> Vec<T> {
    let start = Arc::new(Barrier::new(TASKS));
    let tasks = (0..TASKS).map(|n| {
        let (start, things, task) = (start.clone(), scene.open(), task.clone());
        tokio::spawn(async move {
            start.wait().await;
            task(n, things).await
        })
    });
    join_all(tasks).await.into_iter().map(|done| done.expect("no task fails")).collect()
}

/// Adds one to the entry that the tasks count with.
async fn count_up(things: &Handle) {
    let count = |old: Option<Probe>| {
        let count: usize = old.expect("it is there throughout").text().parse().expect("it is a number");
        Some(Probe::new((count + 1).to_string()))
    };
    things.update("count", count).await.expect("an update wins in the end");
}

/// Of many tasks that count one entry up, none loses an increment.
pub(super) async fn no_update_is_lost(scene: &Scene) {
    const EACH: usize = 25;
    put(&scene.open(), "count", "0", Condition::Always).await;
    race(scene, |_, things| async move {
        for _ in 0..EACH {
            count_up(&things).await;
            // Also where a call never waits, the others get between.
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(text(&scene.open(), "count").await, Some((TASKS * EACH).to_string()));
}

/// Touches that race with updates undo none of them.
pub(super) async fn a_touch_undoes_no_update(scene: &Scene) {
    const EACH: usize = 25;
    put(&scene.open(), "count", "0", Condition::Always).await;
    // Half of the tasks touch for as long as the others count.
    let counting = Arc::new(AtomicUsize::new(TASKS / 2));
    race(scene, move |n, things| {
        let counting = counting.clone();
        async move {
            if n % 2 == 0 {
                while counting.load(Ordering::Relaxed) > 0 {
                    let options = LoadOptions::new().touch(Duration::from_secs(60 * 60));
                    let touched = things.load_with("count", options).await.expect("a touch succeeds");
                    touched.expect("it is there throughout");
                    // Also where a call never waits, the others get between.
                    tokio::task::yield_now().await;
                }
            } else {
                let _done = Done(&counting);
                for _ in 0..EACH {
                    count_up(&things).await;
                    tokio::task::yield_now().await;
                }
            }
        }
    })
    .await;
    assert_eq!(text(&scene.open(), "count").await, Some((TASKS / 2 * EACH).to_string()));
}

/// Counts down when its task ends, however it does.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is destroyed stays absent, whatever touches, saves over what is present and saves that keep
/// the deadline are under way.
pub(super) async fn nothing_is_brought_back_by_a_race(scene: &Scene) {
    for round in 0..20 {
        let id = format!("{round}");
        put(&scene.open(), &id, "1", Condition::Always).await;
        race(scene, {
            let id = id.clone();
            move |n, things| {
                let id = id.clone();
                async move {
                    if n == 0 {
                        assert!(things.destroy(&id).await.expect("a destroy succeeds"));
                        return;
                    }
                    let (touch, value) = (LoadOptions::new().touch(Duration::from_secs(60 * 60)), Probe::new("2"));
                    let found = async || match n % 3 {
                        0 => things.load_with(&id, touch).await.map(|entry| entry.is_some()),
                        1 => things.save_with(&id, &value, Condition::Present.into()).await.map(|_| true),
                        _ => things.save_with(&id, &value, Expiry::Keep.into()).await.map(|_| true),
                    };
                    // Until the destroy is seen, which should not take long.
                    for _ in 0..10_000 {
                        match found().await {
                            Ok(true) => tokio::task::yield_now().await,
                            Ok(false) => break,
                            Err(error) if error.kind() == ErrorKind::Conflict => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            }
        })
        .await;
        assert_eq!(text(&scene.open(), &id).await, None, "it was brought back");
    }
}

/// Of many saves on condition that nothing is there, one wins; the others are conflicts.
pub(super) async fn absent_has_one_winner(scene: &Scene) {
    for round in 0..20 {
        let id = format!("{round}");
        let saved = race(scene, {
            let id = id.clone();
            move |n, things| {
                let id = id.clone();
                async move {
                    let value = Probe::new(n.to_string());
                    match things.save_with(&id, &value, Condition::Absent.into()).await {
                        Ok(_) => Some(n),
                        Err(error) if error.kind() == ErrorKind::Conflict => None,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
        .await;
        let winners: Vec<_> = saved.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{} saves found nothing there", winners.len());
        assert_eq!(text(&scene.open(), &id).await, Some(winners[0].to_string()));
    }
}

/// Of many takers of one entry, one gets it.
pub(super) async fn take_has_one_winner(scene: &Scene) {
    for round in 0..20 {
        let id = format!("{round}");
        put(&scene.open(), &id, "prize", Condition::Always).await;
        let taken = race(scene, {
            let id = id.clone();
            move |_, things| {
                let id = id.clone();
                async move { things.take(&id).await.expect("a take ends") }
            }
        })
        .await;
        assert_eq!(taken.into_iter().flatten().count(), 1, "of takers that got it");
        assert_eq!(text(&scene.open(), &id).await, None);
    }
}
