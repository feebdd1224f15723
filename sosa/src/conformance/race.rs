//! Many tasks on many threads, one entry.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Barrier;

use super::Probe;
use super::scene::{Handle, Scene, put, text};
use crate::{CollectionExt, Condition, ErrorKind};

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

/// Of many tasks that count one entry up, none loses an increment.
pub(super) async fn no_update_is_lost(scene: &Scene) {
    const EACH: usize = 25;
    put(&scene.open(), "count", "0", Condition::Always).await;
    race(scene, |_, things| async move {
        for _ in 0..EACH {
            let count = |old: Option<Probe>| {
                let count: usize = old.expect("it is there throughout").text().parse().expect("it is a number");
                Some(Probe::new((count + 1).to_string()))
            };
            things.update("count", count).await.expect("an update wins in the end");
        }
    })
    .await;
    assert_eq!(text(&scene.open(), "count").await, Some((TASKS * EACH).to_string()));
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
