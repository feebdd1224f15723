//! The contract, over this backend.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sosa_sled::sosa::conformance::{Fixture, Probe};
use sosa_sled::sosa::{Clock, Collection, async_trait, conformance};
use sosa_sled::{Durability, SledCollection, SledStore, sled};

struct Store {
    /// Two handles of one database, which take turns.
    handles: [SledStore; 2],
    clock: Clock,
    open: fn(SledCollection<Probe>) -> Arc<dyn Collection<Probe>>,
}

#[async_trait]
impl Fixture for Store {
    fn collection(&self, prefix: &str, name: &str, path: &[&str]) -> Arc<dyn Collection<Probe>> {
        let handle = &self.handles[usize::from(fastrand::bool())];
        let root = handle.with_prefix(prefix).collection(name);
        (self.open)(path.iter().fold(root, |parent, path| parent.within(path)))
    }

    fn failing(&self) -> Option<Arc<dyn Collection<Probe>>> {
        // Its directory is gone, so that nothing can be brought to the disk.
        let directory = tempfile::tempdir().ok()?;
        let db = sled::open(directory.path()).ok()?;
        drop(directory);
        Some(Arc::new(sosa_sled::new(db, "").collection("things")))
    }

    async fn elapse(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

fn store(durability: Durability, open: fn(SledCollection<Probe>) -> Arc<dyn Collection<Probe>>) -> Store {
    let db = sled::Config::new().temporary(true).open().expect("a database");
    let clock = Clock::manual();
    let handle = || sosa_sled::new(db.clone(), "").with_clock(clock.clone()).with_durability(durability);
    Store { handles: [handle(), handle()], clock, open }
}

async fn immediate() -> Store {
    store(Durability::Immediate, |things| Arc::new(things))
}

async fn eventual() -> Store {
    store(Durability::Eventual, |things| Arc::new(things))
}

async fn boxed() -> Store {
    store(Durability::Immediate, |things| Arc::new(Arc::new(things) as Arc<dyn Collection<Probe>>))
}

conformance!(immediate: immediate);
conformance!(eventual: eventual);
conformance!(boxed: boxed);
