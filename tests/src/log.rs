//! What is logged, kept in memory.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// A writer for a subscriber of events. A clone shares what was written.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Returns what was logged since this was last taken.
    pub fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asserts that there is a log, and that it does not hold the id of this cookie.
    ///
    /// # Panics
    ///
    /// If there is none, or it does.
    pub fn assert_secret(&self, cookie: &str) {
        let (_, id) = cookie.split_once('=').expect("a cookie is a name and a value");
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!log.is_empty(), "nothing was logged");
        assert!(!log.windows(id.len()).any(|window| window == id.as_bytes()), "an id was logged");
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
