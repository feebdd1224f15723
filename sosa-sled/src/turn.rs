//! Turns: of all writes of one key, one is made at a time.
//!
//! A call that its caller dropped goes on where it runs on a thread of its own. So that it overwrites nothing that
//! was acknowledged since, it makes its write in its turn, and not at all if its caller has left by then. Keys share
//! turns with others that fall together; stores share them too, since two may be made from one database.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

const TURNS: usize = 128;

static LOCKS: [Lock; TURNS] = [const { Lock(Mutex::new(())) }; TURNS];

/// Each in a cache line of its own, so that neighbours do not slow each other down.
#[repr(align(64))]
struct Lock(Mutex<()>);

/// The right to write under a key.
pub(crate) struct Turn {
    _lock: MutexGuard<'static, ()>,
}

fn lock(root: &str, key: &[u8]) -> &'static Mutex<()> {
    let mut hash = crc32fast::Hasher::new();
    hash.update(root.as_bytes());
    hash.update(key);
    &LOCKS[hash.finalize() as usize % TURNS].0
}

impl Turn {
    /// Takes the turn if it is free.
    pub(crate) fn try_take(root: &str, key: &[u8]) -> Option<Self> {
        match lock(root, key).try_lock() {
            Ok(lock) => Some(Self { _lock: lock }),
            // It guards nothing that a panic could leave half done.
            Err(TryLockError::Poisoned(poisoned)) => Some(Self { _lock: poisoned.into_inner() }),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Waits for the turn.
    pub(crate) fn take(root: &str, key: &[u8]) -> Self {
        Self { _lock: lock(root, key).lock().unwrap_or_else(PoisonError::into_inner) }
    }
}
