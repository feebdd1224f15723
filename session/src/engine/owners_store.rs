//! Where the records of owners are stored: loaded, and saved on condition that nobody else did.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sosa::{Collection, Condition, Expiry, LoadOptions, Revision, SaveOptions};
use tracing::warn;

use crate::error::{Error, ErrorKind, Result};
use crate::id::PublicId;
use crate::options::Cap;
use crate::outage::Outage;
use crate::owners::OwnerRecord;
use crate::queue::{Queues, Turn};

/// For how long a change of an owner's record is tried, while others change it.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Where the sign-ins of owners are registered.
pub(super) struct Owners {
    collection: Arc<dyn Collection<OwnerRecord>>,
    pub(super) cap: Cap,
    queues: Queues<Known>,
    outage: Outage,
}

/// A record as it is stored.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) record: OwnerRecord,
    pub(super) kept: Kept,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kept {
    #[default]
    Absent,
    At(Revision),
    /// It cannot be read, and what is made instead takes its place.
    Unreadable,
}

impl Owners {
    pub(super) fn new(collection: Arc<dyn Collection<OwnerRecord>>, cap: Cap) -> Self {
        Self { collection, cap, queues: Queues::new(LONGEST_WAIT), outage: Outage::of("the store of the owners") }
    }

    /// Waits for a turn at an owner's record.
    pub(super) async fn turn(&self, owner: PublicId) -> Result<Turn<Known>> {
        self.queues.enter(owner).await.map_err(|_| busy())
    }

    pub(super) async fn load(&self, id: PublicId, replaces_unreadable: bool, now: impl Fn() -> u64) -> Result<Known> {
        let loaded = self.collection.load_with(id.as_str(), LoadOptions::new()).await;
        match self.outage.note(now, loaded) {
            Ok(None) => Ok(Known::default()),
            Ok(Some(entry)) => Ok(Known { record: entry.value, kept: Kept::At(entry.revision) }),
            Err(error) if error.kind() == sosa::ErrorKind::Decode && replaces_unreadable => {
                warn!(owner = %id, %error, "an owner's record cannot be read and is replaced: sessions of before are not listed");
                Ok(Known { kept: Kept::Unreadable, ..Known::default() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Saves a record over what was read, for at least as long as until then.
    pub(super) async fn save(
        &self,
        id: PublicId,
        record: &OwnerRecord,
        over: Kept,
        lasts_until: u64,
        now: impl Fn() -> u64,
    ) -> sosa::Result<Revision> {
        let condition = match over {
            Kept::Absent => Condition::Absent,
            Kept::At(revision) => Condition::Revision(revision),
            Kept::Unreadable => Condition::Present,
        };
        let left = record.kept_until(lasts_until).saturating_sub(now());
        let options = SaveOptions::new().expiry(Expiry::After(Duration::from_millis(left))).condition(condition);
        self.outage.note_save(now, self.collection.save_with(id.as_str(), record, options).await)
    }
}

pub(super) fn busy() -> Error {
    Error::new(ErrorKind::Busy, "nothing was saved: too many requests change the sign-ins of one owner at once")
}

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owners").field("cap", &self.cap).finish_non_exhaustive()
    }
}
