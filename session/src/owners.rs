//! The sessions of an owner: who is signed in where.
//!
//! [`record`] is the policy, in pure functions; the engine carries it out.

mod device;
mod ended;
mod login;
mod record;
mod sign_in;

pub use self::device::Device;
pub use self::ended::EndedAll;
pub use self::login::DeviceKey;
pub use self::record::OwnerRecord;
pub use self::sign_in::SignIn;

pub(crate) use self::device::time as device_time;
pub(crate) use self::login::Login;
pub(crate) use self::record::{Added, Begun, Change, Confirmed, Entry, Seen};
