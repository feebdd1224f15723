//! An observer that writes events of the `tracing` crate.

use super::{Call, Ending, Observer};

/// Writes an event for each call: at warn what failed, but for conflicts, and at debug everything else.
///
/// The fields are `backend`, `operation`, `ending`, and `micros`, the duration in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

impl Observer for Tracing {
    fn observe(&self, call: &Call) {
        let Call { backend, operation, ending, duration } = call;
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        match ending {
            // Who asks on a condition expects to lose some races.
            Ending::Failed(kind) if *kind != crate::ErrorKind::Conflict => {
                tracing::warn!(backend, %operation, ?ending, micros, "a call of a collection failed");
            }
            _ => tracing::debug!(backend, %operation, ?ending, micros, "a call of a collection ended"),
        }
    }
}
