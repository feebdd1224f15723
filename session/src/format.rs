//! What differs between sessions of our own and those that are shared with Express: which questions, and the answers of
//! either. All else asks [`Format`], and does not know which it is.

#[cfg(feature = "express")]
mod express;
mod own;
mod questions;
#[cfg(feature = "express")]
mod record_cookie;

use std::sync::Arc;

use crate::options::SessionOptions;

#[cfg(feature = "express")]
use self::express::Express;
use self::own::Own;

pub(crate) use self::questions::{Changes, Format, NewMaxAge, Reading, Refused, Rules, Save, Snapshot, Touch};

/// Returns the format of these options, which have been checked.
pub(crate) fn of(options: &SessionOptions) -> Arc<dyn Format> {
    #[cfg(feature = "express")]
    if let Some(express) = &options.express {
        return Arc::new(Express::new(express.clone(), options.cookie.clone()));
    }
    Arc::new(Own::new(options))
}
