//! Turns: of all writes of one key, one is made at a time.
//!
//! A call that its caller dropped goes on where it runs on a thread of its own. So that it overwrites nothing that
//! was acknowledged since, it makes its write in its turn, and not at all if its caller has left by then. Keys share
//! turns with others that fall together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

const TURNS: usize = 128;

/// The turns of a database.
pub(crate) struct Turns([Lock; TURNS]);

/// Each in a cache line of its own, so that neighbours do not slow each other down.
#[repr(align(64))]
struct Lock(Mutex<()>);

/// Those of all databases that are open: two stores may be made from one.
static OPEN: Mutex<Option<HashMap<PathBuf, Weak<Turns>>>> = Mutex::new(None);

/// The right to write under a key.
pub(crate) struct Turn<'a> {
    _lock: MutexGuard<'a, ()>,
}

impl Turns {
    /// Returns those of the database at this path.
    pub(crate) fn of(path: &Path) -> Arc<Self> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        open.retain(|_, turns| turns.strong_count() > 0);
        open.get(path).and_then(Weak::upgrade).unwrap_or_else(|| {
            let turns = Arc::new(Self([const { Lock(Mutex::new(())) }; TURNS]));
            open.insert(path.to_owned(), Arc::downgrade(&turns));
            turns
        })
    }

    fn lock(&self, root: &str, key: &[u8]) -> &Mutex<()> {
        let mut hash = crc32fast::Hasher::new();
        hash.update(root.as_bytes());
        hash.update(key);
        &self.0[hash.finalize() as usize % TURNS].0
    }

    /// Takes the turn if it is free.
    pub(crate) fn try_take(&self, root: &str, key: &[u8]) -> Option<Turn<'_>> {
        match self.lock(root, key).try_lock() {
            Ok(lock) => Some(Turn { _lock: lock }),
            // It guards nothing that a panic could leave half done.
            Err(TryLockError::Poisoned(poisoned)) => Some(Turn { _lock: poisoned.into_inner() }),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Waits for the turn.
    pub(crate) fn take(&self, root: &str, key: &[u8]) -> Turn<'_> {
        Turn { _lock: self.lock(root, key).lock().unwrap_or_else(PoisonError::into_inner) }
    }
}
