//! How a session is signed in.

use std::borrow::Cow;

/// How [`Session::sign_in`](crate::Session::sign_in) signs a session in: by default in the default class, without a label,
/// and with nothing kept of what the session held.
///
/// ```
/// use sosa_session::SignIn;
///
/// let sign_in = SignIn::new().class("remembered").label("Firefox on Linux").keep(["cart"]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SignIn {
    pub(crate) class: Option<Cow<'static, str>>,
    pub(crate) label: Cow<'static, str>,
    pub(crate) keep: Vec<Cow<'static, str>>,
}

impl SignIn {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a session of this class: see [`SessionOptions::class`](crate::SessionOptions::class).
    #[must_use]
    pub fn class(mut self, class: impl Into<Cow<'static, str>>) -> Self {
        self.class = Some(class.into());
        self
    }

    /// Says how the owner will know the device again, in at most 64 bytes; what is longer is cut off. It may come from the
    /// client, such as its `User-Agent`: escape it where it is shown.
    #[must_use]
    pub fn label(mut self, label: impl Into<Cow<'static, str>>) -> Self {
        self.label = label.into();
        self
    }

    /// Keeps the values of these keys. An attacker who planted the session's id may have planted them as well: a cart may
    /// be kept, a token against forged requests or the page to go to must not.
    #[must_use]
    pub fn keep<K: Into<Cow<'static, str>>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keep.extend(keys.into_iter().map(Into::into));
        self
    }
}
