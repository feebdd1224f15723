//! The trait that a backend implements, and everything passes along.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{DestroyOptions, Entry, ListOptions, LoadOptions, Page, Result, Revision, SaveOptions};

/// What a collection can hold: any type that serde can write and read, and that can be copied.
///
/// There is nothing to implement; every fitting type is a model.
pub trait Model: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Model for T {}

/// Values of one type under string ids.
///
/// Four verbs are the contract between a backend and its callers; [`load`](Self::load),
/// [`save`](Self::save), [`destroy`](Self::destroy) and [`list`](Self::list) are their plain forms,
/// and [`CollectionExt`](crate::CollectionExt) adds what can be built from them. `&C`, `Box<C>` and
/// `Arc<C>` of a collection are collections too, `Arc<dyn Collection<T>>` included.
///
/// # Contract
///
/// - **Absent** is `None` or `false`, never an error. An **expired** entry is absent at once, for
///   every verb and every condition.
/// - An **id** is any non-empty string of up to [`MAX_ID_LEN`](crate::MAX_ID_LEN) bytes, and every
///   byte of it counts; anything else is [`InvalidId`](crate::ErrorKind::InvalidId) before any I/O.
/// - **Isolation**: no two different (prefix, name, path, id) ever meet, and nothing outside is
///   read, listed or deleted.
/// - **Malformed**: what is stored but is no `T` is [`Decode`](crate::ErrorKind::Decode) from a
///   load; a listing reports it beside the others. It is an entry like any other, for conditions, for a
///   destroy, and for a save that replaces it; until then it stays, though a touch may move its deadline.
/// - **Raced**: a conditional save or destroy happens only if its condition holds in the same step;
///   else it is [`Conflict`](crate::ErrorKind::Conflict) and changes nothing.
/// - What is stored is a **copy**; a clone of a collection shares the data.
/// - **Cost**: load, save and destroy do not grow with the collection, a page costs what it holds.
/// - **Cancel**: a future that is dropped at any poll leaves the entry old or new, and the
///   collection usable. Until the store has answered, what was asked may still come about. A network may
///   deliver it late; a backend never carries it out itself after something that was acknowledged since.
/// - **Errors** tell by [`outcome`](crate::Error::outcome) whether a write may have been applied,
///   and hold no id and no value.
///
/// # For implementors
///
/// Everything with behaviour is required: the four `_with` verbs. Leave the others as they are.
///
/// # Example
///
/// ```
/// use sosa::Collection;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa::Result<()> {
/// let people = sosa_memory::new("myapp").collection("people");
/// people.save("ada", &"Ada Lovelace".to_owned()).await?;
/// assert_eq!(people.load("ada").await?.as_deref(), Some("Ada Lovelace"));
/// assert_eq!(people.load("bob").await?, None);
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Collection<T: Model>: fmt::Debug + Send + Sync {
    /// Loads an entry; `None` if it is absent or expired.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) if what is stored is no `T`,
    /// [`InvalidId`](crate::ErrorKind::InvalidId), [`InvalidOption`](crate::ErrorKind::InvalidOption)
    /// for a touch of zero, and those of the store.
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>>;

    /// Saves a copy of the value and returns the revision that it became.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if the condition was not met or
    /// [`Expiry::Keep`](crate::Expiry::Keep) found no entry,
    /// [`Encode`](crate::ErrorKind::Encode), [`InvalidId`](crate::ErrorKind::InvalidId),
    /// [`CapacityExceeded`](crate::ErrorKind::CapacityExceeded), and those of the store. Where the
    /// outcome is [`Unknown`](crate::Outcome::Unknown) the value may have been saved.
    async fn save_with(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision>;

    /// Destroys an entry and returns whether there was one.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if a revision was given and the entry is in another
    /// state or absent, [`InvalidId`](crate::ErrorKind::InvalidId), and those of the store.
    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool>;

    /// Lists a page of entries, ascending by the bytes of their ids unless reversed.
    ///
    /// Each entry that is there throughout comes exactly once, and none that has expired; one that
    /// is saved or destroyed while the pages are walked may come or not.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`](crate::ErrorKind::InvalidOption) for a limit of zero,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the collection keeps no index, and those
    /// of the store. An entry that cannot be decoded is an error in its item alone.
    async fn list_with(&self, options: ListOptions) -> Result<Page<T>>;

    /// Loads a value: [`load_with`](Self::load_with) without options, and without the revision.
    ///
    /// # Errors
    ///
    /// Those of [`load_with`](Self::load_with).
    async fn load(&self, id: &str) -> Result<Option<T>> {
        Ok(self.load_with(id, LoadOptions::new().without_revision()).await?.map(|entry| entry.value))
    }

    /// Saves a value, whatever is there, never expiring: [`save_with`](Self::save_with) without
    /// options, and without the revision.
    ///
    /// # Errors
    ///
    /// Those of [`save_with`](Self::save_with).
    async fn save(&self, id: &str, value: &T) -> Result<()> {
        self.save_with(id, value, SaveOptions::new().without_revision()).await.map(drop)
    }

    /// Destroys an entry and returns whether there was one: [`destroy_with`](Self::destroy_with)
    /// without options.
    ///
    /// # Errors
    ///
    /// Those of [`destroy_with`](Self::destroy_with).
    async fn destroy(&self, id: &str) -> Result<bool> {
        self.destroy_with(id, DestroyOptions::new()).await
    }

    /// Lists the first page of up to 1,000 entries: [`list_with`](Self::list_with) without options.
    ///
    /// # Errors
    ///
    /// Those of [`list_with`](Self::list_with).
    async fn list(&self) -> Result<Page<T>> {
        self.list_with(ListOptions::new()).await
    }
}

/// What the methods of [`Collection`] return, as `async_trait` writes it.
type Verb<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Forwards by hand what `async_trait` would box once more.
macro_rules! forward {
    ($($pointer:ty),*) => {$(
        #[deny(clippy::missing_trait_methods)]
        impl<T: Model, C: Collection<T> + ?Sized> Collection<T> for $pointer {
            fn load_with<'a, 'i, 'f>(&'a self, id: &'i str, options: LoadOptions) -> Verb<'f, Option<Entry<T>>>
            where
                'a: 'f,
                'i: 'f,
                Self: 'f,
            {
                (**self).load_with(id, options)
            }

            fn save_with<'a, 'i, 'v, 'f>(&'a self, id: &'i str, value: &'v T, options: SaveOptions) -> Verb<'f, Revision>
            where
                'a: 'f,
                'i: 'f,
                'v: 'f,
                Self: 'f,
            {
                (**self).save_with(id, value, options)
            }

            fn destroy_with<'a, 'i, 'f>(&'a self, id: &'i str, options: DestroyOptions) -> Verb<'f, bool>
            where
                'a: 'f,
                'i: 'f,
                Self: 'f,
            {
                (**self).destroy_with(id, options)
            }

            fn list_with<'a, 'f>(&'a self, options: ListOptions) -> Verb<'f, Page<T>>
            where
                'a: 'f,
                Self: 'f,
            {
                (**self).list_with(options)
            }

            fn load<'a, 'i, 'f>(&'a self, id: &'i str) -> Verb<'f, Option<T>>
            where
                'a: 'f,
                'i: 'f,
                Self: 'f,
            {
                (**self).load(id)
            }

            fn save<'a, 'i, 'v, 'f>(&'a self, id: &'i str, value: &'v T) -> Verb<'f, ()>
            where
                'a: 'f,
                'i: 'f,
                'v: 'f,
                Self: 'f,
            {
                (**self).save(id, value)
            }

            fn destroy<'a, 'i, 'f>(&'a self, id: &'i str) -> Verb<'f, bool>
            where
                'a: 'f,
                'i: 'f,
                Self: 'f,
            {
                (**self).destroy(id)
            }

            fn list<'a, 'f>(&'a self) -> Verb<'f, Page<T>>
            where
                'a: 'f,
                Self: 'f,
            {
                (**self).list()
            }
        }
    )*};
}

forward!(&C, Box<C>, Arc<C>);
