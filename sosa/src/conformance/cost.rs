//! What a verb costs, as far as a clock can tell: the exact figures are for benchmarks.

use std::time::{Duration, Instant};

use super::scene::{Scene, fill, put, text};
use crate::Condition;

/// Returns the least of several measurements: whatever else the machine does, it makes none faster.
pub(super) async fn least(measure: &impl AsyncFn() -> Duration) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..15 {
        least = least.min(measure().await);
    }
    least
}

/// Asserts that a hundred times as many entries do not take ten times as long. Times too short to compare
/// count as alike.
#[track_caller]
pub(super) fn assert_alike(few: Duration, many: Duration) {
    let bound = 10 * few + Duration::from_micros(100);
    assert!(many < bound, "{few:?} with few entries, {many:?} with many");
}

/// A load, a save and a destroy take about as long among many entries as among few.
pub(super) async fn load_save_and_destroy_do_not_grow_with_the_collection(scene: &Scene) {
    let things = scene.open();
    fill(&things, 0..20).await;
    let verbs = async || {
        let started = Instant::now();
        for id in ["00003", "00007", "00011"] {
            assert!(text(&things, id).await.is_some());
            put(&things, id, id, Condition::Present).await;
            put(&things, "new", "1", Condition::Absent).await;
            assert!(things.destroy("new").await.unwrap());
        }
        started.elapsed()
    };
    let few = least(&verbs).await;
    fill(&things, 20..2000).await;
    let many = least(&verbs).await;
    assert_alike(few, many);
}
