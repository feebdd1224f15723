//! Collections around collections, one a file.

mod hooked;
mod instrumented;
#[cfg(feature = "tracing")]
mod tracing;

pub use hooked::{Hooked, Hooks};
pub use instrumented::{Call, Ending, Instrumented, Observer};
#[cfg(feature = "tracing")]
pub use tracing::Tracing;
