//! A collection with a defect: a decorator over one in memory that encodes its values.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use sosa::conformance::{Fixture, Probe};
use sosa::{
    Clock, Codec, Collection, Condition, Cursor, DestroyOptions, Entry, Error, ErrorKind, Expiry, Item, Json, Keyspace,
    ListOptions, LoadOptions, Outcome, Page, Result, Revision, SaveOptions, async_trait,
};
use sosa_memory::{MemoryCollection, MemoryStore};
use tokio::sync::Notify;
use tokio::task::{spawn_blocking, yield_now};

macro_rules! defects {
    ($($defect:ident => $rule:ident,)*) => {
        /// What is wrong with a collection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Defect {
            None,
            $($defect,)*
        }

        /// Each defect, and the rule that must catch it first or alone.
        pub(crate) const DEFECTS: &[(Defect, &str)] = &[$((Defect::$defect, stringify!($rule)),)*];
    };
}

defects! {
    AbsentLoadFails => load_of_an_absent_entry_is_none,
    AbsentDestroyFails => destroy_of_an_absent_entry_is_false,
    AbsentDestroyIsTrue => destroy_of_an_absent_entry_is_false,
    CutsValuesAtNul => a_value_comes_back_as_it_was_saved,
    NeverOverwrites => a_plain_save_replaces_whatever_is_there,
    DestroysEverything => a_plain_destroy_removes_whatever_is_there,
    CachesLoads => handles_of_one_place_share_the_data,
    GivesOutWhatItHolds => what_is_stored_is_a_copy,
    FoldsCaseOfIds => every_byte_of_an_id_counts,
    DropsDotsOfIds => every_byte_of_an_id_counts,
    RefusesLongIds => an_id_may_have_1024_bytes,
    AcceptsTheEmptyId => any_other_id_is_invalid,
    AsksTheStoreFirst => any_other_id_is_invalid,
    JoinsPrefixAndName => different_places_never_meet,
    JoinsPaths => sub_collections_nest,
    JoinsNameAndPath => sub_collections_nest,
    DestroysNeighbours => nothing_outside_is_destroyed,
    SaveReturnsNoRevision => save_returns_the_revision_that_load_reads,
    OneRevisionForAll => another_state_has_another_revision,
    MakesUpARevision => a_revision_left_out_is_none_or_right,
    RevisionsOfOneHandle => a_revision_survives_as_text_and_for_another_handle,
    AlwaysTellsTheExpiry => the_expiry_is_told_only_if_asked_for,
    TellsADuration => the_expiry_that_is_told_is_a_time,
    WholeSeconds => a_deadline_is_kept_to_the_millisecond,
    ExpiresByDefault => a_save_never_expires_by_default,
    ForgetsShortDurations => an_entry_expires_after_its_duration,
    ForgetsNearTimes => an_entry_expires_at_its_time,
    KeepClears => keep_keeps_the_deadline,
    KeepCreates => keep_on_an_absent_entry_is_a_conflict,
    ZeroIsForEver => no_lifetime_left_succeeds_and_leaves_nothing,
    ThePastIsRefused => no_lifetime_left_succeeds_and_leaves_nothing,
    ZeroLeavesTheOld => no_lifetime_left_succeeds_and_leaves_nothing,
    RefusesTheFarFuture => beyond_the_year_9999_is_never,
    KeepsAnOldExpiry => a_save_without_expiry_clears_an_older_one,
    DestroysWhatExpired => an_expired_entry_is_absent_for_every_verb,
    CountsExpiredAsPresent => an_expired_entry_is_absent_for_every_condition,
    AcceptsATouchOfZero => touch_of_zero_is_invalid,
    IgnoresTouch => touch_moves_the_deadline_later,
    TouchesInWholeSeconds => a_touch_is_kept_to_the_millisecond,
    TouchOnlyExtends => touch_moves_the_deadline_earlier,
    TouchesAfterTheLoad => touch_and_load_are_one_step,
    TouchRewrites => touch_keeps_value_and_revision,
    TouchRevives => touch_never_resurrects,
    DoublesTheSlack => a_touch_with_slack_moves_what_is_due,
    SlackKeepsNever => a_touch_with_slack_moves_what_is_due,
    SlackTellsTheTouch => a_touch_with_slack_ends_within_it,
    AbsentOverwrites => absent_saves_only_where_nothing_is,
    SwallowsAConflict => absent_saves_only_where_nothing_is,
    PresentCreates => present_saves_only_where_something_is,
    MatchesAStaleRevision => revision_saves_only_over_the_state_that_was_read,
    DestroysAnyRevision => revision_destroys_only_the_state_that_was_read,
    RevisionCreates => a_revision_of_an_absent_entry_is_a_conflict,
    RevisionOfAbsentIsFalse => a_revision_of_an_absent_entry_is_a_conflict,
    AMissMovesTheDeadline => a_miss_changes_nothing,
    ZeroForgetsTheCondition => a_miss_changes_nothing,
    KeepCreatesIfAbsent => an_update_that_keeps_ends_where_nothing_is_to_be_kept,
    ListsByLength => a_listing_ascends_by_the_bytes_of_the_id,
    IgnoresTheLimit => a_page_holds_no_more_than_its_limit,
    AcceptsALimitOfZero => a_page_holds_no_more_than_its_limit,
    IgnoresTheCursor => a_page_goes_on_behind_its_cursor,
    RepeatsTheCursor => a_page_goes_on_behind_its_cursor,
    DropsTheLastPage => only_a_missing_cursor_ends_a_listing,
    ListsAllByDefault => a_page_holds_1000_entries_unless_told,
    TreatsStarAsAPattern => starts_with_means_every_byte_as_it_stands,
    IgnoresStartsWith => starts_with_means_every_byte_as_it_stands,
    IgnoresReverse => reverse_descends,
    IdsOnlyGivesEntries => ids_only_lists_ids_alone,
    ListTellsNoExpiry => a_listing_tells_the_expiry_if_asked_for,
    CursorsOfOneHandle => a_cursor_survives_a_restart,
    CursorsAreOffsets => each_entry_that_stays_comes_exactly_once,
    CursorsOfASecondRead => each_entry_that_stays_comes_exactly_once,
    ListsWhatExpired => what_has_expired_is_never_listed,
    UndecodableFailsThePage => what_cannot_be_decoded_is_reported_beside_the_others,
    HidesTheUndecodable => what_cannot_be_decoded_is_reported_beside_the_others,
    ShowsChildren => a_child_never_shows_in_its_parent,
    ListsNeighbours => nothing_outside_is_listed,
    UndecodableIsAbsent => what_cannot_be_decoded_is_an_error_and_stays,
    DestroysTheUndecodable => what_cannot_be_decoded_is_an_error_and_stays,
    NoneIsNoCondition => no_entry_is_in_the_state_none,
    UndecodableIsInTheStateNone => no_entry_is_in_the_state_none,
    EncodeErrorDestroys => what_cannot_be_encoded_is_an_error_and_changes_nothing,
    RefusalsAreUnknown => a_refusal_was_not_applied,
    NamesNoBackend => an_error_names_its_backend_and_verb,
    DropsTheSource => a_failing_store_says_why,
    LeaksTheId => no_id_and_no_value_is_in_an_error,
    LeaksTheValue => no_id_and_no_value_is_in_an_error,
    LeaksTheCommand => no_id_and_no_value_is_in_an_error,
    NeverUnlocks => a_dropped_call_leaves_the_collection_usable,
    SavesInTwoSteps => a_dropped_save_leaves_the_old_or_the_new,
    DestroysInTwoSteps => a_dropped_destroy_leaves_the_old_or_nothing,
    TouchesInTwoSteps => a_dropped_touch_leaves_the_entry,
    DroppedCallsGoOn => what_was_dropped_overwrites_nothing_acknowledged_later,
    RevisionIsCheckedBefore => no_update_is_lost,
    AbsentIsCheckedBefore => absent_has_one_winner,
    TakeIsCheckedBefore => take_has_one_winner,
    TouchWritesBack => a_touch_undoes_no_update,
    PresentIsCheckedBefore => nothing_is_brought_back_by_a_race,
    ScansOnLoad => load_save_and_destroy_do_not_grow_with_the_collection,
    ReadsAllForAPage => a_page_costs_what_it_holds,
}

/// A store whose collections have this defect.
pub(crate) struct Broken {
    defect: Defect,
    store: MemoryStore,
    clock: Clock,
    /// How many verbs were asked of a store with threads.
    verbs: Arc<AtomicU64>,
    /// What all handles of one place know.
    memory: Mutex<HashMap<String, Arc<Known>>>,
}

#[derive(Debug, Default)]
struct Known {
    /// What was saved last and not destroyed, though it may have expired.
    last: Mutex<HashMap<String, Probe>>,
    busy: AtomicBool,
    freed: Notify,
}

impl Broken {
    pub(crate) fn new(defect: Defect) -> Self {
        let clock = Clock::manual();
        let store = sosa_memory::new("broken").with_clock(clock.clone());
        Self { defect, store, clock, verbs: Arc::default(), memory: Mutex::default() }
    }

    fn encoded(&self, prefix: &str, name: &str, path: &[&str]) -> Encoded {
        let (prefix, name, path) = match self.defect {
            Defect::JoinsPrefixAndName => ("", format!("{prefix}:{name}"), path.to_vec()),
            _ => (prefix, name.to_owned(), path.to_vec()),
        };
        let (name, path) = match (self.defect, name.split_once('/')) {
            (Defect::JoinsNameAndPath, Some((name, first))) => (name.to_owned(), [&[first], &path[..]].concat()),
            _ => (name.clone(), path),
        };
        let root = self.store.with_prefix(prefix).collection(&name);
        let path = match self.defect {
            Defect::JoinsPaths if !path.is_empty() => vec![path.join("/")],
            _ => path.iter().map(|part| (*part).to_owned()).collect(),
        };
        Encoded(path.iter().fold(root, |parent, part| parent.within(part)))
    }
}

#[async_trait]
impl Fixture for Broken {
    fn collection(&self, prefix: &str, name: &str, path: &[&str]) -> Arc<dyn Collection<Probe>> {
        static HANDLES: AtomicU64 = AtomicU64::new(1);
        if self.defect == D::DroppedCallsGoOn {
            return Arc::new(Threaded { inner: self.encoded(prefix, name, path), verbs: self.verbs.clone() });
        }
        let place = format!("{prefix:?} {name:?} {path:?}");
        Arc::new(BrokenCollection {
            defect: self.defect,
            inner: self.encoded(prefix, name, path),
            neighbour: self.encoded(prefix, &format!("{name}2"), path),
            child: self.encoded(prefix, name, &[path, &["a"]].concat()),
            clock: self.clock.clone(),
            known: self.memory.lock().unwrap().entry(place).or_default().clone(),
            handle: HANDLES.fetch_add(1, Ordering::Relaxed),
            cache: Mutex::default(),
        })
    }

    fn failing(&self) -> Option<Arc<dyn Collection<Probe>>> {
        Some(Arc::new(Failing(self.defect)))
    }

    fn patience(&self) -> Duration {
        // Where every tenth verb is late some rules take seconds, and that is not what is wrong there.
        Duration::from_secs(if self.defect == D::DroppedCallsGoOn { 20 } else { 3 })
    }

    async fn elapse(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

/// A collection in memory that encodes its values.
#[derive(Clone, Debug)]
struct Encoded(MemoryCollection<Vec<u8>>);

fn decode(entry: &Entry<Vec<u8>>) -> Result<Entry<Probe>> {
    let place = Keyspace::new("", "");
    let decoded = Entry::new(Json.decode(&place.key("id")?, &entry.value)?, entry.revision);
    Ok(match entry.expiry {
        Some(expiry) => decoded.with_expiry(expiry),
        None => decoded,
    })
}

#[async_trait]
impl Collection<Probe> for Encoded {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<Probe>>> {
        self.0.load_with(id, options).await?.as_ref().map(decode).transpose()
    }

    async fn save_with(&self, id: &str, value: &Probe, options: SaveOptions) -> Result<Revision> {
        let place = Keyspace::new("", "");
        let bytes = Json.encode(&place.key("id")?, value)?;
        self.0.save_with(id, &bytes, options).await
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        self.0.destroy_with(id, options).await
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<Probe>> {
        let page = self.0.list_with(options).await?;
        let items = page.items.into_iter().map(|item| match item.entry {
            Some(entry) => Item::new(item.id, entry.and_then(|entry| decode(&entry))),
            None => Item::id_only(item.id),
        });
        Ok(Page::new(items.collect(), page.next))
    }
}

#[derive(Debug)]
struct BrokenCollection {
    defect: Defect,
    inner: Encoded,
    neighbour: Encoded,
    child: Encoded,
    clock: Clock,
    known: Arc<Known>,
    /// A number of this handle's own.
    handle: u64,
    /// What this handle has seen.
    cache: Mutex<HashMap<String, Option<Entry<Probe>>>>,
}

use Defect as D;

impl BrokenCollection {
    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn known(&self, id: &str) -> Option<Probe> {
        self.known.last.lock().unwrap().get(id).map(Probe::alias)
    }

    async fn current(&self, id: &str) -> Option<Entry<Probe>> {
        let entry = self.inner.0.load_with(id, LoadOptions::new().with_expiry()).await.ok()??;
        Some(Entry::new(Probe::new(""), entry.revision).with_expiry(entry.expiry?))
    }

    /// Returns whether a condition on `Revision::NONE` holds.
    async fn matches_none(&self, id: &str) -> bool {
        match self.defect {
            // An empty revision is taken for no condition.
            D::NoneIsNoCondition => true,
            // What is no record has no revision to tell, which is then compared as if it were one.
            D::UndecodableIsInTheStateNone => self.inner.load_with(id, LoadOptions::new()).await.is_err(),
            _ => false,
        }
    }

    /// Spoils what was asked of a save.
    async fn spoil(&self, id: &str, mut options: SaveOptions) -> Result<SaveOptions> {
        let now = self.clock.now();
        let near = |duration: Duration| duration < Duration::from_secs(60) && !duration.is_zero();
        let invalid = || Error::new(ErrorKind::InvalidOption, "spoiled").with_context("broken", sosa::Operation::Save);
        let second = |millis: u64| millis.div_ceil(1000) * 1000;
        let there = self.current(id).await;
        options.expiry = match (self.defect, options.expiry) {
            (D::WholeSeconds, Expiry::At(at)) => match at.duration_since(UNIX_EPOCH) {
                Ok(since) => Expiry::At(UNIX_EPOCH + Duration::from_millis(second(since.as_millis() as u64))),
                Err(_) => Expiry::At(at),
            },
            (D::ExpiresByDefault, Expiry::Never) => Expiry::After(Duration::from_secs(86_400)),
            (D::ForgetsShortDurations, Expiry::After(duration)) if near(duration) => Expiry::Never,
            (D::ForgetsNearTimes, Expiry::At(at)) if at.duration_since(now).is_ok_and(near) => Expiry::Never,
            (D::KeepClears, Expiry::Keep) if there.is_some() => Expiry::Never,
            (D::KeepCreates, Expiry::Keep) if there.is_none() && self.known(id).is_none() => Expiry::Never,
            (D::KeepCreatesIfAbsent, Expiry::Keep) if options.condition == Condition::Absent && there.is_none() => {
                Expiry::Never
            }
            (D::ZeroIsForEver, Expiry::After(Duration::ZERO)) => Expiry::Never,
            (D::ThePastIsRefused, Expiry::At(at)) if at <= now => return Err(invalid()),
            (D::RefusesTheFarFuture, Expiry::After(Duration::MAX)) => return Err(invalid()),
            (D::KeepsAnOldExpiry, Expiry::Never) if there.is_some() => Expiry::Keep,
            (_, asked) => asked,
        };
        options.condition = match (self.defect, options.condition) {
            (D::ZeroForgetsTheCondition, _) if options.expiry == Expiry::After(Duration::ZERO) => Condition::Always,
            (D::PresentIsCheckedBefore, Condition::Present) if there.is_some() => {
                yield_now().await;
                Condition::Always
            }
            (D::CountsExpiredAsPresent, Condition::Present) if self.known(id).is_some() => Condition::Always,
            (D::AbsentOverwrites, Condition::Absent) => Condition::Always,
            (D::PresentCreates, Condition::Present) if self.known(id).is_none() => Condition::Always,
            (D::MatchesAStaleRevision, Condition::Revision(_)) => Condition::Present,
            (D::RevisionCreates, Condition::Revision(_)) if there.is_none() && self.known(id).is_none() => {
                Condition::Always
            }
            (_, Condition::Revision(Revision::NONE)) if self.matches_none(id).await => Condition::Always,
            (D::OneRevisionForAll, Condition::Revision(_)) => {
                there.map_or(options.condition, |entry| Condition::Revision(entry.revision))
            }
            (D::RevisionsOfOneHandle, Condition::Revision(revision)) => Condition::Revision(self.salted(revision)),
            (D::RevisionIsCheckedBefore, Condition::Revision(revision))
                if there.as_ref().is_some_and(|entry| entry.revision == revision) =>
            {
                yield_now().await;
                Condition::Present
            }
            (D::AbsentIsCheckedBefore, Condition::Absent) if there.is_none() => {
                yield_now().await;
                Condition::Always
            }
            (_, asked) => asked,
        };
        Ok(options)
    }

    fn spoiled_id(&self, id: &str) -> Result<String> {
        Ok(match self.defect {
            D::FoldsCaseOfIds => id.to_lowercase(),
            D::DropsDotsOfIds if id.len() > 1 => match id.replace('.', "") {
                empty if empty.is_empty() => "_".to_owned(),
                id => id,
            },
            D::RefusesLongIds if id.len() > 255 => {
                return Err(Error::new(ErrorKind::InvalidId, "too long"));
            }
            D::AcceptsTheEmptyId if id.is_empty() => "empty".to_owned(),
            _ => id.to_owned(),
        })
    }

    /// Mixes the number of this handle into a revision, or takes it out again.
    fn salted(&self, revision: Revision) -> Revision {
        let count = revision.as_bytes().try_into().map_or(0, u64::from_be_bytes);
        Revision::from(count ^ (self.handle << 32))
    }

    fn spoiled_revision(&self, revision: Revision) -> Revision {
        match self.defect {
            D::OneRevisionForAll => Revision::from(7),
            D::RevisionsOfOneHandle => self.salted(revision),
            _ => revision,
        }
    }

    fn spoiled_error(&self, error: Error, id: &str, value: &str) -> Error {
        let anew = |message: String| {
            let anew = Error::new(error.kind(), message);
            match (error.backend(), error.operation()) {
                (Some(backend), Some(operation)) => anew.with_context(backend, operation),
                _ => anew,
            }
        };
        match self.defect {
            D::RefusalsAreUnknown if error.kind() != ErrorKind::Decode => error.with_outcome(Outcome::Unknown),
            D::NamesNoBackend => Error::new(error.kind(), "spoiled"),
            D::LeaksTheId => anew(format!("cannot do that to {id}")),
            D::LeaksTheValue => anew("spoiled".to_owned()).with_source(format!("unexpected {value}")),
            _ => error,
        }
    }

    async fn lock(&self) {
        while self.is(D::NeverUnlocks) && self.known.busy.swap(true, Ordering::SeqCst) {
            // It may wait for good.
            self.known.freed.notified().await;
        }
        if self.is(D::NeverUnlocks) {
            yield_now().await;
        }
    }

    fn unlock(&self) {
        self.known.busy.store(false, Ordering::SeqCst);
        self.known.freed.notify_one();
    }

    async fn load_spoiled(&self, id: &str, mut options: LoadOptions) -> Result<Option<Entry<Probe>>> {
        if self.is(D::CachesLoads)
            && let Some(cached) = self.cache.lock().unwrap().get(id)
        {
            return Ok(cached.clone());
        }
        if self.is(D::ScansOnLoad) {
            let _ = self.inner.list_with(ListOptions::new().limit(usize::MAX)).await;
        }
        if self.is(D::AlwaysTellsTheExpiry) {
            options.with_expiry = true;
        }
        let told = options.with_expiry;
        if let Some(duration) = options.touch.filter(|duration| !duration.is_zero()) {
            match self.defect {
                D::IgnoresTouch => options.touch = None,
                D::TouchOnlyExtends => {
                    let later = match self.current(id).await.and_then(|entry| entry.expiry) {
                        Some(Expiry::At(at)) => at > self.clock.now() + duration,
                        _ => true,
                    };
                    options.touch = options.touch.filter(|_| !later);
                }
                D::TouchesAfterTheLoad => {
                    options.touch = None;
                    let entry = self.inner.load_with(id, options).await?;
                    self.inner.load_with(id, LoadOptions::new().touch(duration)).await?;
                    return Ok(entry);
                }
                D::TouchRewrites => {
                    options.touch = None;
                    if let Some(entry) = self.inner.load_with(id, LoadOptions::new()).await? {
                        self.inner.save_with(id, &entry.value, Expiry::After(duration).into()).await?;
                    }
                }
                D::TouchesInWholeSeconds => {
                    options.touch = Some(Duration::from_secs(duration.as_millis().div_ceil(1000) as u64));
                }
                D::TouchWritesBack => {
                    // Reads the record and writes it back; where nobody came between, that is a touch.
                    let Some(read) = self.inner.load_with(id, LoadOptions::new()).await? else { return Ok(None) };
                    yield_now().await;
                    if self.current(id).await.is_none_or(|entry| entry.revision != read.revision) {
                        self.inner.save_with(id, &read.value, Expiry::After(duration).into()).await?;
                    }
                }
                D::TouchesInTwoSteps => {
                    self.inner.load_with(id, LoadOptions::new().touch(Duration::from_millis(1))).await?;
                    yield_now().await;
                }
                D::DoublesTheSlack => options.slack *= 2,
                D::SlackKeepsNever if !options.slack.is_zero() => {
                    let current = self.current(id).await.and_then(|entry| entry.expiry);
                    options.touch = options.touch.filter(|_| current != Some(Expiry::Never));
                }
                D::TouchRevives => {
                    if let (None, Some(last)) = (self.current(id).await, self.known(id)) {
                        self.inner.save_with(id, &last, Expiry::After(duration).into()).await?;
                    }
                }
                _ => {}
            }
        }
        if self.is(D::AcceptsATouchOfZero) && options.touch == Some(Duration::ZERO) {
            options.touch = None;
        }
        let loaded = self.inner.load_with(id, options).await;
        let mut entry = match loaded {
            Err(error) if self.is(D::UndecodableIsAbsent) && error.kind() == ErrorKind::Decode => None,
            Err(error) if self.is(D::DestroysTheUndecodable) && error.kind() == ErrorKind::Decode => {
                self.inner.destroy_with(id, DestroyOptions::new()).await?;
                return Err(error);
            }
            loaded => loaded?,
        };
        if let Some(entry) = &mut entry {
            entry.revision = self.spoiled_revision(entry.revision);
            if self.is(D::SlackTellsTheTouch) && told && !options.slack.is_zero() {
                entry.expiry = options.touch.map(|touch| Expiry::At(self.clock.now() + touch));
            }
            if self.is(D::TellsADuration) && told {
                entry.expiry = Some(Expiry::After(Duration::from_secs(3600)));
            }
            if self.is(D::GivesOutWhatItHolds) {
                entry.value = self.known(id).unwrap_or(entry.value.alias());
            }
        }
        if self.is(D::AbsentLoadFails) && entry.is_none() {
            return Err(Error::new(ErrorKind::Other, "no such entry"));
        }
        self.cache.lock().unwrap().insert(id.to_owned(), entry.clone());
        Ok(entry)
    }

    async fn save_spoiled(&self, id: &str, value: &Probe, options: SaveOptions) -> Result<Revision> {
        let there = self.current(id).await;
        let options = self.spoil(id, options).await?;
        let plain = options.condition == Condition::Always && options.expiry == Expiry::Never;
        if let (D::NeverOverwrites, true, Some(there)) = (self.defect, plain, &there) {
            return Ok(there.revision);
        }
        if self.is(D::ZeroLeavesTheOld) && options.expiry == Expiry::After(Duration::ZERO) {
            return Ok(Revision::from(0));
        }
        let encodable = !value.text().starts_with(Probe::UNENCODABLE);
        if self.is(D::SavesInTwoSteps) && plain && encodable && there.is_some() {
            self.inner.destroy_with(id, DestroyOptions::new()).await?;
            yield_now().await;
        }
        self.lock().await;
        let cut = match self.defect {
            D::CutsValuesAtNul => Probe::new(value.text().split('\0').next().unwrap_or_default()),
            _ => value.alias(),
        };
        let saved = self.inner.save_with(id, &cut, options).await;
        self.unlock();
        match &saved {
            Ok(_) => {
                let kept = if self.is(D::GivesOutWhatItHolds) { value.alias() } else { value.clone() };
                let lives = self.current(id).await.is_some();
                let mut last = self.known.last.lock().unwrap();
                if lives { drop(last.insert(id.to_owned(), kept)) } else { drop(last.remove(id)) }
            }
            Err(error)
                if error.is_conflict() && self.is(D::SwallowsAConflict) && options.condition == Condition::Absent =>
            {
                return Ok(Revision::from(0));
            }
            Err(error) if error.is_conflict() && self.is(D::AMissMovesTheDeadline) => {
                let touch = LoadOptions::new().touch(Duration::from_secs(9 * 3600));
                let _ = self.inner.0.load_with(id, touch).await;
            }
            Err(error) if error.kind() == ErrorKind::Encode && self.is(D::EncodeErrorDestroys) => {
                self.inner.destroy_with(id, DestroyOptions::new()).await?;
            }
            Err(_) => {}
        }
        self.cache.lock().unwrap().remove(id);
        let revision = saved?;
        Ok(if self.is(D::SaveReturnsNoRevision) { Revision::new(b"")? } else { self.spoiled_revision(revision) })
    }

    async fn destroy_spoiled(&self, id: &str, mut options: DestroyOptions) -> Result<bool> {
        let there = self.current(id).await;
        let expired = there.is_none() && self.known(id).is_some();
        self.cache.lock().unwrap().remove(id);
        if let Some(revision) = options.revision {
            options.revision = match self.defect {
                _ if revision == Revision::NONE && self.matches_none(id).await => None,
                D::DestroysAnyRevision if there.is_some() => None,
                D::RevisionOfAbsentIsFalse if there.is_none() && !expired => return Ok(false),
                D::OneRevisionForAll => there.as_ref().map(|entry| entry.revision).or(options.revision),
                D::RevisionsOfOneHandle => Some(self.salted(revision)),
                D::TakeIsCheckedBefore if there.as_ref().is_some_and(|entry| entry.revision == revision) => {
                    yield_now().await;
                    self.inner.destroy_with(id, DestroyOptions::new()).await?;
                    return Ok(true);
                }
                _ => Some(revision),
            };
        }
        match self.defect {
            D::DestroysEverything => {
                for id in self.inner.list_with(ListOptions::new().ids_only()).await?.ids() {
                    if options.revision.is_none() && there.is_some() {
                        self.inner.destroy_with(id, DestroyOptions::new()).await?;
                    }
                }
                return if options.revision.is_none() {
                    Ok(there.is_some())
                } else {
                    self.inner.destroy_with(id, options).await
                };
            }
            D::DestroysNeighbours => drop(self.neighbour.destroy_with(id, DestroyOptions::new()).await),
            D::DestroysInTwoSteps if options.revision.is_none() && there.is_some() => {
                self.inner.save_with(id, &Probe::new("half destroyed"), SaveOptions::new()).await?;
                yield_now().await;
            }
            _ => {}
        }
        let destroyed = self.inner.destroy_with(id, options).await?;
        let known = self.known.last.lock().unwrap().contains_key(id);
        // What `TouchRevives` brings back is not forgotten.
        if !self.is(D::TouchRevives) {
            self.known.last.lock().unwrap().remove(id);
        }
        match self.defect {
            D::AbsentDestroyFails if !destroyed => Err(Error::new(ErrorKind::Other, "no such entry")),
            D::AbsentDestroyIsTrue => Ok(true),
            D::DestroysWhatExpired => Ok(destroyed || known),
            _ => Ok(destroyed),
        }
    }

    async fn list_spoiled(&self, mut options: ListOptions) -> Result<Page<Probe>> {
        let asked = options.clone();
        match self.defect {
            D::IgnoresTheLimit if options.limit > 0 => options.limit = usize::MAX,
            D::ListsAllByDefault if options.limit == 1000 => options.limit = usize::MAX,
            D::AcceptsALimitOfZero => options.limit = options.limit.max(1),
            D::IgnoresTheCursor => options.cursor = None,
            D::TreatsStarAsAPattern => options.starts_with = options.starts_with.trim_end_matches('*').to_owned(),
            D::IgnoresStartsWith => options.starts_with.clear(),
            D::IgnoresReverse => options.reverse = false,
            D::IdsOnlyGivesEntries => options.ids_only = false,
            D::ListTellsNoExpiry => options.with_expiry = false,
            D::CursorsOfOneHandle => {
                // A number that the handle alone can take out of the cursor again.
                let salt = format!("{} ", self.handle);
                options.cursor = options
                    .cursor
                    .map(|cursor| Cursor::after(cursor.as_str().strip_prefix(&salt).unwrap_or("\u{10ffff}")));
            }
            D::CursorsAreOffsets if options.limit > 0 => {
                let start = options.cursor.take().map_or(0, |cursor| cursor.as_str().parse().unwrap_or(0));
                let limit = std::mem::replace(&mut options.limit, usize::MAX);
                let all = self.inner.list_with(options).await?.items;
                let end = start + limit.min(all.len());
                let next = (end < all.len()).then(|| Cursor::after(end.to_string()));
                return Ok(Page::new(all.into_iter().skip(start).take(limit).collect(), next));
            }
            D::ReadsAllForAPage if options.limit > 0 => {
                let limit = std::mem::replace(&mut options.limit, usize::MAX);
                let mut all = self.inner.list_with(options).await?.items;
                let more = all.len() > limit;
                all.truncate(limit);
                let next = all.last().filter(|_| more).map(|last| Cursor::after(last.id.clone()));
                return Ok(Page::new(all, next));
            }
            _ => {}
        }
        let mut page = self.inner.list_with(options.clone()).await?;
        match self.defect {
            D::ListsByLength => page.items.sort_by_key(|item| (item.id.len(), item.id.clone())),
            D::RepeatsTheCursor => {
                if let Some(cursor) = &asked.cursor {
                    page.items.insert(0, Item::id_only(cursor.as_str()));
                }
            }
            D::DropsTheLastPage => {
                if let Some(next) = page.next.clone() {
                    let rest = self.inner.list_with(options.cursor(next)).await?;
                    page.next = page.next.filter(|_| rest.items.len() >= asked.limit);
                }
            }
            D::CursorsOfASecondRead => {
                yield_now().await;
                let again = self.inner.list_with(options).await?;
                page.next = again.next;
            }
            D::CursorsOfOneHandle => {
                page.next = page.next.map(|next| Cursor::after(format!("{} {}", self.handle, next.as_str())));
            }
            D::ListsWhatExpired => {
                let known: Vec<_> = self.known.last.lock().unwrap().keys().cloned().collect();
                for id in known {
                    if self.current(&id).await.is_none() && asked.cursor.is_none() && page.next.is_none() {
                        page.items.push(Item::id_only(id));
                    }
                }
            }
            D::UndecodableFailsThePage => {
                if let Some(at) = page.items.iter().position(|item| matches!(item.entry, Some(Err(_)))) {
                    return Err(page.items.swap_remove(at).entry.unwrap().unwrap_err());
                }
            }
            D::HidesTheUndecodable => page.items.retain(|item| !matches!(item.entry, Some(Err(_)))),
            D::ShowsChildren => page.items.extend(self.child.list_with(asked).await?.items),
            D::ListsNeighbours => page.items.extend(self.neighbour.list_with(asked).await?.items),
            _ => {}
        }
        for item in &mut page.items {
            if let Some(Ok(entry)) = &mut item.entry {
                entry.revision = self.spoiled_revision(entry.revision);
            }
        }
        Ok(page)
    }
}

#[async_trait]
impl Collection<Probe> for BrokenCollection {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<Probe>>> {
        let spoiled = self.spoiled_id(id)?;
        let stored = if self.is(D::LeaksTheValue) { self.known(id) } else { None };
        let value = stored.map(|probe| probe.text()).unwrap_or_default();
        let mut loaded = self.load_spoiled(&spoiled, options).await;
        if let (D::MakesUpARevision, true, Ok(Some(entry))) = (self.defect, options.without_revision, &mut loaded) {
            entry.revision = Revision::from(7);
        }
        loaded.map_err(|error| self.spoiled_error(error, id, &value))
    }

    async fn save_with(&self, id: &str, value: &Probe, options: SaveOptions) -> Result<Revision> {
        let spoiled = self.spoiled_id(id)?;
        let saved = self.save_spoiled(&spoiled, value, options).await;
        saved.map_err(|error| self.spoiled_error(error, id, &value.text()))
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let spoiled = self.spoiled_id(id)?;
        self.destroy_spoiled(&spoiled, options).await.map_err(|error| self.spoiled_error(error, id, ""))
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<Probe>> {
        self.list_spoiled(options).await.map_err(|error| self.spoiled_error(error, "", ""))
    }
}

/// A collection that does each verb on a thread, which goes on when the call was dropped. Every tenth is late, and
/// what was asked later overtakes it. Whoever awaits each call gets what it asked for.
#[derive(Debug)]
struct Threaded {
    inner: Encoded,
    verbs: Arc<AtomicU64>,
}

impl Threaded {
    async fn on_a_thread<R: Send + 'static>(&self, verb: impl AsyncFnOnce(Encoded) -> R + Send + 'static) -> R {
        let (inner, number) = (self.inner.clone(), self.verbs.fetch_add(1, Ordering::Relaxed));
        let work = move || {
            if number % 10 == 9 {
                thread::sleep(Duration::from_millis(25));
            }
            verb(inner).now_or_never().expect("nothing waits in memory")
        };
        spawn_blocking(work).await.expect("no thread fails")
    }
}

#[async_trait]
impl Collection<Probe> for Threaded {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<Probe>>> {
        let id = id.to_owned();
        self.on_a_thread(async move |inner| inner.load_with(&id, options).await).await
    }

    async fn save_with(&self, id: &str, value: &Probe, options: SaveOptions) -> Result<Revision> {
        let (id, value) = (id.to_owned(), value.clone());
        self.on_a_thread(async move |inner| inner.save_with(&id, &value, options).await).await
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let id = id.to_owned();
        self.on_a_thread(async move |inner| inner.destroy_with(&id, options).await).await
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<Probe>> {
        self.on_a_thread(async move |inner| inner.list_with(options).await).await
    }
}

/// A collection whose store is out of reach.
#[derive(Debug)]
struct Failing(Defect);

impl Failing {
    fn error<T>(&self, operation: sosa::Operation, id: &str) -> Result<T> {
        if self.0 != D::AsksTheStoreFirst && operation != sosa::Operation::List {
            Keyspace::new("", "").key(id)?;
        }
        let error = Error::new(ErrorKind::Unavailable, "out of reach").with_context("broken", operation);
        Err(match self.0 {
            D::DropsTheSource => error,
            D::LeaksTheCommand => error.with_source(format!("connection closed after {operation} {id}")),
            _ => error.with_source("connection refused"),
        })
    }
}

#[async_trait]
impl Collection<Probe> for Failing {
    async fn load_with(&self, id: &str, _: LoadOptions) -> Result<Option<Entry<Probe>>> {
        self.error(sosa::Operation::Load, id)
    }

    async fn save_with(&self, id: &str, _: &Probe, _: SaveOptions) -> Result<Revision> {
        self.error(sosa::Operation::Save, id)
    }

    async fn destroy_with(&self, id: &str, _: DestroyOptions) -> Result<bool> {
        self.error(sosa::Operation::Destroy, id)
    }

    async fn list_with(&self, _: ListOptions) -> Result<Page<Probe>> {
        self.error(sosa::Operation::List, "")
    }
}
