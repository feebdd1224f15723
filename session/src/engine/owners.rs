//! What is done with the records of owners, as [the policy](crate::owners) says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_timer::Delay;
use futures_util::future::join_all;
use sosa::{CollectionExt, Deadline, ListOptions, LoadOptions, Outcome};
use tracing::{info, warn};

use crate::class::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Snapshot;
use crate::id::{PublicId, StorageKey};
use crate::owners::{
    Added, Change, Confirmed, Device, DeviceKey, EndedAll, Entry, Login, OwnerRecord, Seen, device_time,
};

use super::end::{End, Ended, Follow};
use super::owners_store::{Kept, Known, LONGEST_WAIT, Owners, busy};
use super::{Access, Engine, Found};

/// How long a pause between two tries can be.
const LONGEST_PAUSE: u64 = 250;

/// How many devices are ended at once.
const TOGETHER: usize = 256;

/// How a record is changed.
#[derive(Default)]
pub(super) struct Update {
    /// Until when something has to be known that the record does not say yet, in milliseconds since the Unix epoch.
    pub(super) lasts_until: u64,
    /// A record that cannot be read is replaced, instead of being an error.
    pub(super) replaces_unreadable: bool,
    /// The record as it was a moment ago, which spares a look.
    pub(super) known: Option<Known>,
    /// It was read just now, so that what is not saved may rest on it.
    pub(super) is_fresh: bool,
}

/// A record that was changed, or left as it is.
pub(super) struct Updated<R> {
    pub(super) result: R,
    pub(super) known: Known,
    /// There was one before.
    existed: bool,
    /// What is stored under its ids, if that was looked at.
    under: BTreeMap<PublicId, Under>,
}

/// What is stored under an id of a device.
#[derive(Clone)]
enum Under {
    Live {
        session: Snapshot,
        deadline: Option<Deadline>,
    },
    /// What is left of a renewal.
    Marker,
    Unreadable,
}

impl Engine {
    pub(super) fn owners(&self) -> Result<&Owners> {
        self.owners.as_ref().ok_or_else(|| {
            let why = "nobody is registered: give the options a collection by SessionOptions::owners";
            Error::new(ErrorKind::Unsupported, why)
        })
    }

    /// Refuses a sign-in or a renewal that could not be registered.
    pub(crate) fn check_owners(&self) -> Result<()> {
        self.owners().map(drop)
    }

    /// Changes an owner's record as the policy says. The policy may be asked several times, each time about the record as it is
    /// then; what it has done already it must find done.
    pub(super) async fn update_owner<R>(
        &self,
        owner: &str,
        update: Update,
        mut policy: impl FnMut(&mut OwnerRecord, &Seen) -> Change<R> + Send,
    ) -> Result<Updated<R>> {
        let (owners, id) = (self.owners()?, PublicId::digest(owner));
        let Update { lasts_until, replaces_unreadable, known, is_fresh } = update;
        let began = Instant::now();
        let mut turn = owners.turn(id).await?;
        let (mut conflicts, mut was_unknown) = (0, false);
        let mut seen = Seen::default();
        // What another request of this process has left spares a look, but what nothing is saved for must be known.
        let (mut left, mut read) = match is_fresh {
            true => (None, known),
            false => (turn.take_left().or(known), None),
        };
        loop {
            let is_left = left.is_some();
            let known = match left.take().or(read.take()) {
                Some(known) => known,
                None => owners.load(id, replaces_unreadable, self.now_lazily()).await?,
            };
            let mut record = known.record.clone();
            let mut under = BTreeMap::new();
            let change = loop {
                match policy(&mut record, &seen) {
                    Change::Look => {
                        under = self.look_at(&known.record).await?;
                        seen.there = Some(under.keys().copied().collect());
                        record = known.record.clone();
                    }
                    change => break change,
                }
            };
            seen.there = None;
            let existed = known.kept != Kept::Absent;
            let result = match change {
                Change::Keep(_) if is_left => continue,
                Change::Keep(result) => {
                    if known.kept != Kept::Unreadable {
                        turn.leave(known.clone());
                    }
                    return Ok(Updated { result, known, existed, under });
                }
                Change::EndFirst(session) => {
                    // Who has a turn in one queue waits in no other.
                    drop(turn);
                    self.end_at(key_of(session), None, End { renewed_as: None, follow: Follow::No }).await?;
                    seen.ended.push(session);
                    turn = owners.turn(id).await?;
                    continue;
                }
                Change::Save(result) => result,
                Change::Look => unreachable!("it was looked at"),
            };
            match owners.save(id, &record, known.kept, lasts_until.max(self.now()), self.now_lazily()).await {
                Ok(revision) => {
                    let known = Known { record, kept: Kept::At(revision) };
                    turn.leave(known.clone());
                    return Ok(Updated { result, known, existed, under });
                }
                Err(error) if error.is_conflict() => {
                    if began.elapsed() >= LONGEST_WAIT {
                        return Err(busy());
                    }
                    conflicts += 1;
                    pause(conflicts).await?;
                    turn.go_on();
                }
                // Whether it was saved the record tells.
                Err(error) if error.outcome() == Outcome::Unknown && !was_unknown => was_unknown = true,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns what is stored under the ids of a record's devices, if anything is.
    async fn look_at(&self, record: &OwnerRecord) -> Result<BTreeMap<PublicId, Under>> {
        let ids: Vec<_> = record.ids().collect();
        let options = LoadOptions::new().with_expiry().without_revision();
        let loaded = self.collection().load_many_with(ids.iter().map(|id| id.as_str().to_owned()), options).await;
        let mut under = BTreeMap::new();
        for (id, loaded) in ids.into_iter().zip(loaded) {
            match self.outage.note(self.now_lazily(), loaded) {
                Ok(None) => {}
                Ok(Some(entry)) if entry.value.has_ended() => drop(under.insert(id, Under::Marker)),
                Ok(Some(entry)) => {
                    let deadline = entry.expiry.and_then(|expiry| expiry.deadline(self.now()));
                    let class = entry.value.own().class;
                    under.insert(id, Under::Live { session: Snapshot::new(entry.value, class), deadline });
                }
                Err(error) if error.kind() == sosa::ErrorKind::Decode => drop(under.insert(id, Under::Unreadable)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(under)
    }

    // Steps of a renewal.

    /// Names the id to which a device's session is being renewed, before it is made. Returns the record; none if the device was
    /// ended, or the session was.
    pub(super) async fn name_renewal(
        &self,
        login: &Login,
        old: &StorageKey,
        new: PublicId,
        lasts_until: u64,
    ) -> Result<Option<Known>> {
        let mut lost: Option<Entry> = None;
        loop {
            let update = Update { lasts_until, ..Update::default() };
            let named = self.update_owner(&login.owner, update, |record, seen| {
                if let Some(there) = &seen.there {
                    record.prune(there, self.now());
                }
                let mut added = record.add(login.key, old.public_id(), new, &seen.ended, self.now());
                if let (Added::Missing, Some(lost)) = (added, &lost) {
                    record.restore(lost.clone());
                    added = record.add(login.key, old.public_id(), new, &seen.ended, self.now());
                }
                match added {
                    Added::Done => Change::Save(added),
                    Added::Crowded(_) if seen.there.is_none() => Change::Look,
                    Added::Crowded(Some(left)) => Change::EndFirst(left),
                    Added::Crowded(None) | Added::Already | Added::Gone | Added::Missing => Change::Keep(added),
                }
            });
            let named = named.await?;
            match named.result {
                Added::Done | Added::Already => return Ok(Some(named.known)),
                // Only what is alive after the record was read was not ended before.
                Added::Missing if lost.is_none() => match self.find(old, Access::PLAIN).await? {
                    Found::Live(stored) if stored.snapshot.data.login().as_ref() == Some(login) => {
                        info!(session = %old, device = %login.key, "a session is registered again: its owner's record was lost");
                        let own = stored.snapshot.data.own();
                        let times = (own.created, own.until);
                        lost = Some(Entry::new(login.key, old.public_id(), stored.snapshot.class, "", times));
                    }
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            }
        }
    }

    /// Confirms the id to which a device's session was renewed, before the client hears of it. Returns false if the device
    /// was ended. `known` is the record as it was, if that is known.
    pub(super) async fn confirm_renewal(
        &self,
        login: &Login,
        old: PublicId,
        new: PublicId,
        into: Option<(Class, u64)>,
        known: Option<Known>,
    ) -> Result<bool> {
        let update = Update { known, ..Update::default() };
        let confirmed = self.update_owner(&login.owner, update, |record, _| {
            let confirmed = record.confirm(login.key, new, Some(old));
            let is_named = confirmed != Confirmed::Gone;
            let is_moved = into.is_some_and(|(class, until)| is_named && record.set_class(login.key, class, until));
            if is_moved || confirmed == Confirmed::Done { Change::Save(confirmed) } else { Change::Keep(confirmed) }
        });
        Ok(confirmed.await?.result != Confirmed::Gone)
    }

    /// Removes a session that no client was told of, and takes its id out of the device's if it is gone. Returns whether it is;
    /// if not, it stays pending, or expires by itself.
    pub(super) async fn discard_of(&self, login: Option<&Login>, key: &StorageKey) -> bool {
        let is_gone = self.discard(key).await;
        if let Some(login) = login.filter(|_| is_gone) {
            self.take_out(login, key.public_id()).await;
        }
        is_gone
    }

    /// Takes out an id of a device under which nothing is stored. Otherwise it stays pending.
    pub(super) async fn take_out(&self, login: &Login, id: PublicId) {
        let taken_out = self.update_owner(&login.owner, Update::default(), |record, _| {
            if record.take_out(login.key, id) { Change::Save(()) } else { Change::Keep(()) }
        });
        if let Err(error) = taken_out.await {
            info!(session = %id, %error, "an id that came to nothing stays pending for a minute");
        }
    }

    // Ends.

    /// Ends an owner's devices, and all that stands in `ending`. Returns how many there were, and whether there was a record.
    pub(crate) async fn end_devices(
        &self,
        owner: &str,
        which: impl Fn(DeviceKey) -> bool + Send + Sync,
    ) -> Result<EndedAll> {
        let moved = self.update_owner(owner, Update::default(), |record, _| {
            match record.move_to_ending(|entry| which(entry.key)) {
                // An earlier try may have moved them.
                0 => Change::Keep(record.ending.iter().filter(|entry| which(entry.key)).count()),
                moved => Change::Save(moved),
            }
        });
        let Updated { result: devices, known, existed, .. } = moved.await?;
        let ending = known.record.ending.clone();
        self.finish(owner, &ending).await?;
        self.drop_ended(owner, &ending, known).await;
        Ok(EndedAll { devices, had_record: existed })
    }

    /// Ends the sessions of these devices.
    pub(super) async fn finish(&self, owner: &str, ending: &[Entry]) -> Result<()> {
        for entries in ending.chunks(TOGETHER) {
            let ended = join_all(entries.iter().map(|entry| self.end_entry(owner, entry))).await;
            ended.into_iter().collect::<Result<()>>()?;
        }
        Ok(())
    }

    /// Ends a device whose record admits of no more renewals: each session before those that it was renewed as.
    async fn end_entry(&self, owner: &str, entry: &Entry) -> Result<()> {
        let login = Login { owner: owner.into(), key: entry.key };
        for named in &entry.ids {
            let end = End { renewed_as: None, follow: Follow::Of(&login) };
            self.end_at(key_of(named.id), None, end).await?;
        }
        Ok(())
    }

    /// Drops from the record what was ended. It is no harm if that fails: who finds it there ends it once more.
    pub(super) async fn drop_ended(&self, owner: &str, done: &[Entry], known: Known) {
        if done.is_empty() {
            return;
        }
        let update = Update { known: Some(known), ..Update::default() };
        let dropped =
            self.update_owner(
                owner,
                update,
                |record, _| {
                    if record.drop_ended(done) { Change::Save(()) } else { Change::Keep(()) }
                },
            );
        if let Err(error) = dropped.await {
            info!(owner = %PublicId::digest(owner), %error, "devices that were ended are noted as being ended still");
        }
    }

    /// Ends the devices whose sessions were ended by a logout. If the owners' store is out, whoever asks for them next does it.
    pub(super) async fn sign_out(&self, ended: Vec<Ended>) {
        if self.owners.is_none() {
            return;
        }
        for Ended { login, session } in ended {
            if let Err(error) = self.end_device(&login, session).await {
                warn!(%session, device = %login.key, %error, "a device that was signed out is listed until somebody looks");
            }
        }
    }

    /// Ends the device of a session that was ended.
    async fn end_device(&self, login: &Login, ended: PublicId) -> Result<()> {
        let moved = self.update_owner(&login.owner, Update::default(), |record, _| {
            // Where that was its only session it is done: a renewal would have named another.
            if record.take_out_last(login.key, ended) {
                return Change::Save(());
            }
            match record.move_to_ending(|entry| entry.key == login.key) {
                0 => Change::Keep(()),
                _ => Change::Save(()),
            }
        });
        let known = moved.await?.known;
        let its: Vec<_> = known.record.ending.iter().filter(|entry| entry.key == login.key).cloned().collect();
        self.finish(&login.owner, &its).await?;
        self.drop_ended(&login.owner, &its, known).await;
        Ok(())
    }

    /// Ends all sessions of an owner that are found among all there are, registered or not, and returns how many.
    pub(crate) async fn end_by_scan(&self, owner: &str) -> Result<u64> {
        let (mut ended, mut rest) = (0, Some(ListOptions::new()));
        while let Some(options) = rest {
            let page = self.outage.note(self.now_lazily(), self.collection().list_with(options.clone()).await)?;
            for item in page.items {
                let Some(Ok(entry)) = item.entry else { continue };
                let login = entry.value.login().filter(|login| *login.owner == *owner);
                if let (Some(login), Ok(id)) = (login, item.id.parse()) {
                    let end = End { renewed_as: None, follow: Follow::Of(&login) };
                    ended += u64::from(self.end_at(key_of(id), None, end).await?.is_some());
                }
            }
            rest = page.next.map(|next| options.cursor(next));
        }
        Ok(ended)
    }

    // Looks.

    /// Returns the devices on which an owner is signed in, in the order of their sign-ins.
    pub(crate) async fn devices(&self, owner: &str, this: Option<DeviceKey>) -> Result<Vec<Device>> {
        let known = self.owners()?.load(PublicId::digest(owner), false, self.now_lazily()).await?;
        let update = Update { known: Some(known), is_fresh: true, ..Update::default() };
        let pruned = self.update_owner(owner, update, |record, seen| {
            let Some(there) = &seen.there else { return Change::Look };
            let before = record.clone();
            record.prune(there, self.now());
            if *record == before { Change::Keep(()) } else { Change::Save(()) }
        });
        let Updated { known, under, .. } = pruned.await?;
        let devices = known.record.entries.iter().filter_map(|entry| self.device(entry, &under, this)).collect();
        let ending = known.record.ending.clone();
        self.finish(owner, &ending).await?;
        self.drop_ended(owner, &ending, known).await;
        Ok(devices)
    }

    /// Returns a device as it is shown; `None` if it has no session yet, or none any more.
    fn device(&self, entry: &Entry, under: &BTreeMap<PublicId, Under>, this: Option<DeviceKey>) -> Option<Device> {
        let found =
            entry.ids.iter().filter(|named| entry.is_confirmed(named.id)).filter_map(|named| under.get(&named.id));
        let (mut last_seen, mut expires, mut was_renewed) = (None, None, false);
        for under in found {
            let (seen, ends) = match under {
                Under::Marker => {
                    was_renewed = true;
                    continue;
                }
                Under::Unreadable => (None, None),
                Under::Live { session, deadline } => {
                    let end = self.format.absolute_end(session).unwrap_or(entry.until);
                    if end <= self.now() {
                        continue;
                    }
                    let deadline = deadline.and_then(Deadline::as_millis);
                    let idle = self.format.touch(session).map(|touch| touch.by.as_millis() as u64);
                    // Close to the absolute end that is the deadline, whenever the session was used.
                    let idle = idle.filter(|idle| self.now().saturating_add(*idle) < end);
                    let last_seen = deadline.zip(idle).map(|(deadline, idle)| deadline.saturating_sub(idle));
                    (last_seen, Some(deadline.unwrap_or(end).min(end)))
                }
            };
            last_seen = last_seen.max(seen);
            expires = expires.max(Some(ends.unwrap_or(entry.until).min(entry.until)));
        }
        // It was renewed after the record was read, which does not name the session that it has now.
        expires = expires.or(Some(entry.until).filter(|_| was_renewed));
        Some(Device {
            key: entry.key,
            label: entry.label.clone(),
            class: Some(entry.class.as_str().to_owned()).filter(|class| !class.is_empty()),
            since: device_time(entry.since),
            last_seen: last_seen.map(device_time),
            expires: device_time(expires?),
            this: this == Some(entry.key),
        })
    }
}

/// Returns where a session is stored. Of which class it is nobody needs to know for an end.
fn key_of(id: PublicId) -> StorageKey {
    StorageKey::Hashed(id, Class::DEFAULT)
}

/// Waits for a random time, so that not all that collided do so again; not after the first collision.
async fn pause(conflicts: u32) -> Result<()> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(Error::of_random)?;
    let longest = LONGEST_PAUSE.min((1 << conflicts.min(10)) - 2);
    let pause = u64::from_le_bytes(random) % (longest + 1);
    if pause > 0 {
        Delay::new(Duration::from_millis(pause)).await;
    }
    Ok(())
}
