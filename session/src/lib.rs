#![doc = include_str!("../README.md")]

mod class;
mod cookie;
mod data;
mod edits;
mod engine;
mod error;
mod format;
mod id;
mod json;
mod key;
mod once;
mod options;
mod outage;
mod owner;
mod owners;
mod pace;
mod plan;
mod queue;
mod response;
mod session;
mod sessions;
mod set_cookie;
mod state;
mod told;

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "tower")]
mod error_page;
#[cfg(feature = "signed")]
mod signing;
#[cfg(feature = "tower")]
mod tower;
#[cfg(feature = "tower")]
mod unattended;

pub use cookie::{CookieOptions, Scheme, Secure};
pub use data::SessionData;
pub use error::{Error, ErrorKind, Result};
pub use id::PublicId;
pub use key::{Field, FieldKey, InsertKey};
pub use options::{DeadCookie, Full, Lifetime, SessionOptions, TrustProxy};
pub use owner::Owner;
pub use owners::{Device, DeviceKey, EndedAll, OwnerRecord, SignIn};
pub use response::ResponseHeaders;
pub use session::Session;
pub use sessions::{RequestHead, Sessions};
pub use set_cookie::{Priority, SameSite, SetCookie};

#[cfg(feature = "express")]
pub use options::ExpressOptions;
#[cfg(feature = "signed")]
pub use signing::SigningKey;
#[cfg(feature = "tower")]
pub use tower::{SessionFuture, SessionLayer, SessionService};
#[cfg(feature = "tower")]
pub use unattended::{UnattendedLayer, UnattendedService};

#[cfg(feature = "tower")]
pub use http;
pub use sosa;

#[doc = include_str!("../STAYING_SIGNED_IN.md")]
pub mod staying_signed_in {}

#[cfg(feature = "express")]
#[doc = include_str!("../EXPRESS.md")]
pub mod from_express {}
