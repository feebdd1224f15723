#![doc = include_str!("../README.md")]

mod clock;
mod codec;
mod collection;
mod copy;
mod entry;
mod error;
mod expiry;
mod ext;
mod id;
mod json;
mod key;
mod options;
mod page;
mod revision;
mod wrap;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use clock::Clock;
pub use codec::{Codec, Json};
pub use collection::{Collection, Model};
pub use copy::{Copied, CopyOptions, copy};
pub use entry::Entry;
pub use error::{Error, ErrorKind, Operation, Outcome, Result};
pub use expiry::{Deadline, Expiry};
pub use ext::CollectionExt;
pub use id::{log_id, new_id};
pub use json::{json_error, to_json};
pub use key::{Key, Keyspace, MAX_ID_LEN};
pub use options::{Condition, DestroyOptions, ListOptions, LoadOptions, SaveOptions};
pub use page::{Cursor, Item, Page};
pub use revision::Revision;
#[cfg(feature = "tracing")]
pub use wrap::Tracing;
pub use wrap::{Call, Ending, Hooked, Hooks, Instrumented, Observer};

/// Writes `impl Collection` with `async fn`, the same version that this crate uses.
pub use async_trait::async_trait;
/// The trait of what [`CollectionExt::stream`] returns.
pub use futures_core::Stream;
pub use serde_json;
