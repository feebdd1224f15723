//! The commands of the verbs, and their replies. A command over several keys fails with
//! [`Failure::SlotMoving`](crate::error::Failure) while their slot migrates.

pub(crate) mod args;
pub(crate) mod entries;
pub(crate) mod index;
pub(crate) mod reply;
pub(crate) mod script;
