//! When an entry ends, and what is told of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;

use super::probe::Probe;
use super::scene::{Scene, entry, expiry, put, text};
use crate::{CollectionExt, Condition, ErrorKind, Expiry, SaveOptions};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Cuts a time to whole milliseconds, the unit of the contract.
fn whole_millis(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).expect("the time is after 1970");
    UNIX_EPOCH + Duration::from_millis(since.as_millis() as u64)
}

fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

pub(super) fn time(expiry: Expiry) -> SystemTime {
    match expiry {
        Expiry::At(time) => time,
        other => panic!("the expiry was told as {other:?}"),
    }
}

/// `Entry::expiry` is `None` unless the options ask.
pub(super) async fn the_expiry_is_told_only_if_asked_for(scene: &Scene) {
    let things = scene.open();
    put(&things, "never", "1", Condition::Always).await;
    put(&things, "later", "1", Expiry::After(HOUR)).await;
    for id in ["never", "later"] {
        assert_eq!(entry(&things, id).await.expiry, None);
    }
}

/// What is told of an entry with a deadline is `At`, near the time that was asked for.
pub(super) async fn the_expiry_that_is_told_is_a_time(scene: &Scene) {
    let things = scene.open();
    let at = scene.now() + HOUR;
    put(&things, "at", "1", Expiry::At(at)).await;
    let told = time(expiry(&things, "at").await);
    assert!(distance(told, at) < Duration::from_secs(60), "told an expiry that is {:?} off", distance(told, at));
}

/// A deadline is kept as exactly as the fixture's precision says.
pub(super) async fn a_deadline_is_kept_to_the_millisecond(scene: &Scene) {
    let things = scene.open();
    // Whole milliseconds are kept as they are; a coarser store is off by less than its precision.
    let precision = scene.fixture().precision().saturating_sub(Duration::from_millis(1));
    let millis = Duration::from_millis;
    for odd in [0, 1, 499, 501, 999].map(millis) {
        let at = whole_millis(scene.now()) + HOUR + odd;
        put(&things, "at", "1", Expiry::At(at)).await;
        let told = time(expiry(&things, "at").await);
        assert!(distance(told, at) <= precision, "kept {:?} off", distance(told, at));
    }
    assert_exact(scene, async |duration| {
        put(&things, "after", "1", Expiry::After(duration)).await;
        time(expiry(&things, "after").await)
    })
    .await;
}

/// Asserts that durations are kept exactly. They are compared with each other, since the store may have
/// a clock of its own: what lies between two of them is their difference, and the time that passed
/// meanwhile.
pub(super) async fn assert_exact(scene: &Scene, set: impl AsyncFn(Duration) -> SystemTime) {
    let millis = Duration::from_millis;
    let precision = scene.fixture().precision().saturating_sub(millis(1));
    for odd in [0, 1, 499, 501, 999].map(millis) {
        let (started, before) = (Instant::now(), scene.now());
        let first = set(HOUR).await;
        let second = set(HOUR + odd).await;
        let passed = started.elapsed().max(distance(scene.now(), before)) + millis(2);
        let apart = second.duration_since(first).unwrap_or_default();
        let least = odd.saturating_sub(2 * precision);
        assert!(apart >= least && apart <= odd + passed + 2 * precision, "{odd:?} became {apart:?}");
    }
}

/// A plain save never expires.
pub(super) async fn a_save_never_expires_by_default(scene: &Scene) {
    let things = scene.open();
    put(&things, "a", "1", Condition::Always).await;
    assert_eq!(expiry(&things, "a").await, Expiry::Never);
    scene.elapse(scene.short()).await;
    assert_eq!(text(&things, "a").await.as_deref(), Some("1"));
}

/// `After(d)`: there before, absent once `d` has passed.
pub(super) async fn an_entry_expires_after_its_duration(scene: &Scene) {
    let things = scene.open();
    put(&things, "a", "1", Expiry::After(scene.short())).await;
    put(&things, "b", "2", Expiry::After(100 * scene.short())).await;
    assert_eq!(text(&things, "a").await.as_deref(), Some("1"), "it expired too early");
    scene.elapse(scene.short()).await;
    assert_eq!(text(&things, "a").await, None);
    assert_eq!(text(&things, "b").await.as_deref(), Some("2"), "it expired too early");
}

/// `At(t)`: there before, absent from then on.
pub(super) async fn an_entry_expires_at_its_time(scene: &Scene) {
    let things = scene.open();
    put(&things, "a", "1", Expiry::At(scene.now() + scene.short())).await;
    put(&things, "b", "2", Expiry::At(scene.now() + 100 * scene.short())).await;
    assert_eq!(text(&things, "a").await.as_deref(), Some("1"), "it expired too early");
    scene.elapse(scene.short()).await;
    assert_eq!(text(&things, "a").await, None);
    assert_eq!(text(&things, "b").await.as_deref(), Some("2"), "it expired too early");
}

/// `Keep` saves the value and leaves the deadline, whether there is one or not.
pub(super) async fn keep_keeps_the_deadline(scene: &Scene) {
    let things = scene.open();
    put(&things, "later", "1", Expiry::After(HOUR)).await;
    put(&things, "never", "1", Expiry::Never).await;
    for id in ["later", "never"] {
        let before = expiry(&things, id).await;
        put(&things, id, "2", Expiry::Keep).await;
        assert_eq!(expiry(&things, id).await, before);
        assert_eq!(text(&things, id).await.as_deref(), Some("2"));
    }
}

/// `Keep` finds nothing to keep on an absent entry: a conflict, and nothing is saved.
pub(super) async fn keep_on_an_absent_entry_is_a_conflict(scene: &Scene) {
    let things = scene.open();
    let error = things.save_with("a", &Probe::new("1"), Expiry::Keep.into()).await.expect_err("nothing can be kept");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(text(&things, "a").await, None);
}

/// An update that keeps the deadline of an absent entry ends with the conflict that the save would be, also on
/// condition that nothing is there. It leaves nothing; an entry that is there keeps its deadline.
pub(super) async fn an_update_that_keeps_ends_where_nothing_is_to_be_kept(scene: &Scene) {
    let things = scene.open();
    let new = Probe::new("new");
    let keep_if_absent = SaveOptions::new().expiry(Expiry::Keep).condition(Condition::Absent);
    let error = things.save_with("a", &new, keep_if_absent).await.expect_err("nothing can be kept");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let update = async |id: &str, next: Option<Probe>| {
        let update = things.update_with(id, Some(Expiry::Keep), |_| next.clone());
        timeout(Duration::from_secs(2), update).await.expect("the update does not end")
    };
    let error = update("a", Some(new.clone())).await.expect_err("nothing can be kept");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(update("a", None).await.expect("nothing was asked for"), None);
    assert_eq!(text(&things, "a").await, None);
    for (id, asked) in [("later", Expiry::After(HOUR)), ("never", Expiry::Never)] {
        put(&things, id, "old", asked).await;
        let before = expiry(&things, id).await;
        assert_eq!(update(id, Some(new.clone())).await.expect("a deadline is there to be kept"), Some(new.clone()));
        assert_eq!(expiry(&things, id).await, before);
        assert_eq!(text(&things, id).await.as_deref(), Some("new"));
    }
}

/// `After(0)` and a time that has passed succeed, and leave nothing readable and nothing listed, also
/// where something was.
pub(super) async fn no_lifetime_left_succeeds_and_leaves_nothing(scene: &Scene) {
    let things = scene.open();
    let past = scene.now() - HOUR;
    for expiry in
        [Expiry::After(Duration::ZERO), Expiry::At(past), Expiry::At(UNIX_EPOCH), Expiry::At(UNIX_EPOCH - HOUR)]
    {
        for was_there in [false, true] {
            if was_there {
                put(&things, "a", "1", Condition::Always).await;
            }
            put(&things, "a", "2", expiry).await;
            assert_eq!(text(&things, "a").await, None, "{expiry:?}");
            scene.assert_listed(&things, &[]).await;
        }
    }
}

/// A time beyond the year 9999 is `Never`.
pub(super) async fn beyond_the_year_9999_is_never(scene: &Scene) {
    let things = scene.open();
    let year_10000 = UNIX_EPOCH + Duration::from_millis(253_402_300_800_000);
    for asked in [Expiry::At(year_10000), Expiry::After(Duration::MAX), Expiry::After(10_000 * 366 * 24 * HOUR)] {
        put(&things, "a", "1", asked).await;
        assert_eq!(expiry(&things, "a").await, Expiry::Never, "{asked:?}");
    }
}

/// A save without an expiry clears an older one.
pub(super) async fn a_save_without_expiry_clears_an_older_one(scene: &Scene) {
    let things = scene.open();
    put(&things, "a", "1", Expiry::After(scene.short())).await;
    put(&things, "a", "2", Condition::Always).await;
    assert_eq!(expiry(&things, "a").await, Expiry::Never);
    scene.elapse(scene.short()).await;
    assert_eq!(text(&things, "a").await.as_deref(), Some("2"));
}
