//! What a value in a session is found by.

use std::fmt;
use std::marker::PhantomData;

/// The name of a value: a `&str`, a `&String`, or a [`Field`].
pub trait Name {
    /// Returns the name.
    fn name(&self) -> &str;
}

/// A name for values of type `V`. Text is one for every type, a [`Field`] for its own alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no key for a value of type `{V}`",
    note = "a `Field<V>` takes and gives values of its own type `V`; a `&str` any type"
)]
pub trait Key<V>: Name {}

impl Name for &str {
    fn name(&self) -> &str {
        self
    }
}

impl Name for &String {
    fn name(&self) -> &str {
        self
    }
}

impl<V> Key<V> for &str {}
impl<V> Key<V> for &String {}

/// A key that knows the type of its value, to be declared once.
///
/// ```
/// use sosa_session::{Field, RequestHead, SessionOptions, Sessions};
///
/// const CART: Field<Vec<String>> = Field::new("cart");
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
/// # let session = Sessions::new(SessionOptions::memory()).open(RequestHead::new([]));
/// session.update(CART, |cart| {
///     let mut cart = cart.unwrap_or_default();
///     cart.push("tea".to_owned());
///     cart
/// }).await?;
/// assert_eq!(session.get(CART).await?, Some(vec!["tea".to_owned()]));
/// # session.clear().await?;
/// # Ok(()) }
/// ```
pub struct Field<V> {
    name: &'static str,
    value: PhantomData<fn() -> V>,
}

impl<V> Field<V> {
    /// Declares a key.
    pub const fn new(name: &'static str) -> Self {
        Self { name, value: PhantomData }
    }
}

impl<V> Name for Field<V> {
    fn name(&self) -> &str {
        self.name
    }
}

impl<V> Key<V> for Field<V> {}

// By hand: a key is a name, whatever its value can do.
impl<V> Clone for Field<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Field<V> {}

impl<V> fmt::Debug for Field<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Field({})", self.name)
    }
}
