#![doc = include_str!("../README.md")]

mod cookie;
mod data;
mod edits;
mod error;
mod express;
mod id;
mod json;
mod key;
mod options;
mod plan;
mod queue;
mod session;
mod sessions;
mod signing;

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "tower")]
mod tower;

pub use cookie::{CookieOptions, Priority, SameSite, Scheme, Secure, SetCookie};
pub use data::SessionData;
pub use error::{Error, ErrorKind, Result};
pub use id::Handle;
pub use key::{Field, Key, Name};
pub use options::{Lifetime, SessionOptions, TrustProxy};
pub use session::Session;
pub use sessions::{RequestHead, Sessions};
pub use signing::SigningKey;

#[cfg(feature = "tower")]
pub use tower::{SessionFuture, SessionLayer, SessionService};

#[cfg(feature = "tower")]
pub use http;
pub use sosa;

#[doc = include_str!("../EXPRESS.md")]
pub mod from_express {}
