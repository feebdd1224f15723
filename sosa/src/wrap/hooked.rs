//! Code of your own around loads, saves and destroys.

use std::fmt;

use async_trait::async_trait;

use crate::{
    Collection, DestroyOptions, Entry, Error, ErrorKind, Item, ListOptions, LoadOptions, Model, Operation, Outcome,
    Page, Result, Revision, SaveOptions,
};

/// What happens around the verbs of a [`Hooked`] collection. Each hook does nothing unless it is
/// written.
///
/// ```
/// use sosa::{Collection, CollectionExt, Error, ErrorKind, Hooks, Result, async_trait};
///
/// #[derive(Debug)]
/// struct Names;
///
/// #[async_trait]
/// impl Hooks<String> for Names {
///     async fn before_save(&self, _id: &str, name: String) -> Result<String> {
///         match name.trim() {
///             "" => Err(Error::new(ErrorKind::Rejected, "a name must not be empty")),
///             name => Ok(name.to_owned()),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let people = sosa_memory::new("myapp").collection("people").hooked(Names);
/// people.save("ada", &" Ada ".to_owned()).await?;
/// assert_eq!(people.load("ada").await?.as_deref(), Some("Ada"));
/// let error = people.save("ada", &" ".to_owned()).await.unwrap_err();
/// assert_eq!(error.to_string(), "hooks save: a name must not be empty");
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Hooks<T: Model>: fmt::Debug + Send + Sync {
    /// Runs before a save, and returns the value to save: this one, or another.
    ///
    /// # Errors
    ///
    /// Any error, [`ErrorKind::Rejected`] as a rule, rejects the save: nothing is changed, and the
    /// caller gets the error. A conflict becomes a rejection too, since it is none of this
    /// collection.
    async fn before_save(&self, id: &str, value: T) -> Result<T> {
        let _ = id;
        Ok(value)
    }

    /// Runs after a save that succeeded, with the value that was saved. If the caller drops the save
    /// on its way, this may not run though the value was saved.
    async fn after_save(&self, id: &str, value: &T) {
        let _ = (id, value);
    }

    /// Runs after a load that found an entry, and for each entry of a page, and returns the value to
    /// give out.
    ///
    /// # Errors
    ///
    /// Any error is that of the load, or of its item on the page.
    async fn after_load(&self, id: &str, value: T) -> Result<T> {
        let _ = id;
        Ok(value)
    }

    /// Runs after a destroy that found an entry.
    async fn after_destroy(&self, id: &str) {
        let _ = id;
    }
}

/// A collection with [`Hooks`] around its verbs, and so around all that is built from them. Made by
/// [`CollectionExt::hooked`](crate::CollectionExt::hooked).
///
/// What does not go through it, such as another handle of the [`inner`](Hooked::inner) collection,
/// or an entry that expires, runs no hook.
#[derive(Clone, Debug)]
pub struct Hooked<C, H> {
    inner: C,
    hooks: H,
}

impl<C, H> Hooked<C, H> {
    /// Puts hooks around a collection.
    pub fn new(inner: C, hooks: H) -> Self {
        Self { inner, hooks }
    }

    /// Returns the collection within, to skip the hooks.
    pub fn inner(&self) -> &C {
        &self.inner
    }
}

/// Tells a hook's error as one of this collection. What the hook itself met, a conflict in another
/// collection for example, is no conflict of this one, which a caller would resolve by trying again.
fn refusal(error: Error, operation: Operation) -> Error {
    let error = match error.is_conflict() || error.outcome() == Outcome::Unknown {
        true => Error::new(ErrorKind::Rejected, "what the hook called failed").with_source(error),
        false => error,
    };
    error.with_context("hooks", operation)
}

#[async_trait]
impl<T: Model, C: Collection<T>, H: Hooks<T>> Collection<T> for Hooked<C, H> {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        let Some(Entry { value, revision, expiry }) = self.inner.load_with(id, options).await? else { return Ok(None) };
        let loaded = self.hooks.after_load(id, value).await;
        let value = loaded.map_err(|error| refusal(error, Operation::Load))?;
        Ok(Some(Entry { value, revision, expiry }))
    }

    async fn save_with(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        let prepared = self.hooks.before_save(id, value.clone()).await;
        let value = prepared.map_err(|error| refusal(error, Operation::Save))?;
        let revision = self.inner.save_with(id, &value, options).await?;
        self.hooks.after_save(id, &value).await;
        Ok(revision)
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        let destroyed = self.inner.destroy_with(id, options).await?;
        if destroyed {
            self.hooks.after_destroy(id).await;
        }
        Ok(destroyed)
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<T>> {
        let Page { items, next } = self.inner.list_with(options).await?;
        let mut loaded = Vec::with_capacity(items.len());
        for Item { id, entry } in items {
            let entry = match entry {
                Some(Ok(Entry { value, revision, expiry })) => {
                    let value = self.hooks.after_load(&id, value).await;
                    let value = value.map_err(|error| refusal(error, Operation::List));
                    Some(value.map(|value| Entry { value, revision, expiry }))
                }
                entry => entry,
            };
            loaded.push(Item { id, entry });
        }
        Ok(Page { items: loaded, next })
    }
}
