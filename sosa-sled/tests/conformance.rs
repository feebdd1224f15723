//! The contract, over this backend.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sosa_sled::sosa::conformance::{Fixture, Probe};
use sosa_sled::sosa::{Clock, Codec, Collection, Json, Key, Model, Result, async_trait, conformance};
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

/// JSON, and so many spaces behind it that no value fits into its record.
#[derive(Debug)]
struct Padded;

impl<T: Model> Codec<T> for Padded {
    fn encode(&self, key: &Key<'_>, value: &T) -> Result<Vec<u8>> {
        let mut encoded = Json.encode(key, value)?;
        encoded.resize(encoded.len() + 9000, b' ');
        Ok(encoded)
    }

    fn decode(&self, key: &Key<'_>, bytes: &[u8]) -> Result<T> {
        Json.decode(key, bytes)
    }
}

async fn in_pieces() -> Store {
    store(Durability::Immediate, |things| Arc::new(things.with_codec(Padded)))
}

conformance!(immediate: immediate);
conformance!(eventual: eventual);
conformance!(boxed: boxed);
conformance!(in_pieces: in_pieces);
