//! What a value in a session is found by.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// A key under which a session holds values of type `V`: text, which takes every type, or a [`Field`], which takes its
/// own.
///
/// It is implemented for `&str`, `String`, `&String`, `Cow<str>` and [`Field`], and cannot be implemented elsewhere.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no key for a value of type `{V}`",
    note = "a `Field<V>` takes and gives values of its own type `V`; a `&str` any type"
)]
pub trait FieldKey<V>: AsRef<str> + Send + sealed::Sealed {}

/// A key under which a value of type `V` can be inserted: a [`FieldKey`], and a [`Field`] also for a reference to its
/// type, a `Field<String>` for `&str`, and a `Field<Vec<T>>` for `&[T]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` takes no value of type `{V}`",
    note = "a `Field<V>` takes a `V` or a `&V`; a `&str` any type"
)]
pub trait InsertKey<V>: AsRef<str> + Send + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! text_is_a_key {
    ($($text:ty),*) => {
        $(
            impl sealed::Sealed for $text {}
            impl<V> FieldKey<V> for $text {}
            impl<V> InsertKey<V> for $text {}
        )*
    };
}

text_is_a_key!(&str, String, &String, Cow<'_, str>);

/// A key that knows the type of its value, to be declared once.
///
/// ```
/// use sosa_session::{Field, RequestHead, SessionOptions, Sessions};
///
/// const USER: Field<String> = Field::new("user");
/// const CART: Field<Vec<String>> = Field::new("cart");
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
/// # let session = Sessions::new(SessionOptions::memory()).open(RequestHead::new([]));
/// session.insert(USER, "ada").await?;
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

impl<V> AsRef<str> for Field<V> {
    fn as_ref(&self) -> &str {
        self.name
    }
}

impl<V> sealed::Sealed for Field<V> {}
impl<V> FieldKey<V> for Field<V> {}
impl<V> InsertKey<V> for Field<V> {}
impl<V> InsertKey<&V> for Field<V> {}
impl InsertKey<&str> for Field<String> {}
impl<T> InsertKey<&[T]> for Field<Vec<T>> {}

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
