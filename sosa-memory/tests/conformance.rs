//! The contract, over this backend.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sosa_memory::sosa::conformance::{Fixture, Probe};
use sosa_memory::sosa::{Clock, Collection, async_trait};

struct Store(sosa_memory::MemoryStore, Clock);

#[async_trait]
impl Fixture for Store {
    fn collection(&self, prefix: &str, name: &str, path: &[&str]) -> Arc<dyn Collection<Probe>> {
        let root = self.0.with_prefix(prefix).collection(name);
        Arc::new(path.iter().fold(root, |parent, path| parent.within(path)))
    }

    fn failing(&self) -> Option<Arc<dyn Collection<Probe>>> {
        Some(Arc::new(sosa_memory::new("full").with_limit(0).collection("things")))
    }

    async fn elapse(&self, duration: Duration) {
        self.1.advance(duration);
    }

    fn now(&self) -> SystemTime {
        self.1.now()
    }

    fn encodes(&self) -> bool {
        false
    }
}

async fn fixture() -> Store {
    let clock = Clock::manual();
    Store(sosa_memory::new("test").with_clock(clock.clone()), clock)
}

// Not over an encoded store: the rules save a value that cannot be decoded, and hold a store to what it says of it at a
// load. An encoded one refuses it when it is saved. Beside that it goes the same ways; see `encoded.rs`.
sosa_memory::sosa::conformance!(fixture);
