//! What the suite needs of a backend.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::probe::Probe;
use crate::Collection;

/// What the suite needs of a backend.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// Opens the collection of this prefix and name, and of the sub-collections of this path within
    /// it. Opening it twice gives two handles of one collection.
    fn collection(&self, prefix: &str, name: &str, path: &[&str]) -> Arc<dyn Collection<Probe>>;

    /// Opens a collection whose saves fail, since its store is out of reach or full: with
    /// [`Unavailable`](crate::ErrorKind::Unavailable), [`Timeout`](crate::ErrorKind::Timeout),
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied), [`Other`](crate::ErrorKind::Other) and
    /// the driver's error as the source, or with
    /// [`CapacityExceeded`](crate::ErrorKind::CapacityExceeded). The other verbs may fail too. `None` is
    /// for a store inside the program that has no driver and no limit, and so cannot fail.
    fn failing(&self) -> Option<Arc<dyn Collection<Probe>>>;

    /// Lets time pass for the store: moves its clock, or waits where the store keeps the time. When
    /// it returns, an entry that was given this long has expired.
    async fn elapse(&self, duration: Duration);

    /// Returns the store's time. The system's, unless the fixture moves a clock.
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Returns how exactly the store keeps a deadline. One millisecond is the contract; a store that
    /// cannot do better tells it here and in its documentation.
    fn precision(&self) -> Duration {
        Duration::from_millis(1)
    }

    /// Returns a lifetime that is short to wait for, and long enough for an entry to be seen alive on
    /// a busy machine.
    fn short(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// Returns how long a rule may take before it counts as one that hangs. The slowest saves 2,000
    /// entries, a hundred at a time, and destroys them again.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Returns whether values are encoded, and so may fail to be. In a store that holds them as they
    /// are, those that cannot be encoded come back like any other.
    fn encodes(&self) -> bool {
        true
    }

    /// Returns whether what one handle asks reaches the store in that order. Over a pool of connections it
    /// does not: what was asked and dropped may lie in one while what comes later has been answered
    /// through another. A store that can say no tells it in its documentation.
    fn keeps_order(&self) -> bool {
        true
    }
}
