//! What can be built from the four verbs, for every collection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream;

use crate::{
    Collection, Condition, DestroyOptions, Entry, Error, Expiry, Hooked, Hooks, Instrumented, Item, ListOptions,
    LoadOptions, Model, Observer, Result, SaveOptions,
};

/// How many calls are under way at once where many are made. A shared connection sends them
/// together; more of them at once would only hold memory.
const TOGETHER: usize = 256;

/// Methods of every collection, `dyn` included. There is nothing to implement.
///
/// ```
/// use sosa::{Collection, CollectionExt};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa::Result<()> {
/// let visits = sosa_memory::new("myapp").collection::<u64>("visits");
/// visits.update("home", |count| Some(count.unwrap_or(0) + 1)).await?;
/// assert_eq!(visits.take("home").await?, Some(1));
/// assert_eq!(visits.load("home").await?, None);
/// # Ok(()) }
/// ```
pub trait CollectionExt<T: Model>: Collection<T> {
    /// Saves the value under a new id, made by [`new_id`](crate::new_id), and returns the id.
    ///
    /// # Errors
    ///
    /// Those of [`save_with`](Collection::save_with).
    fn create(&self, value: &T) -> impl Future<Output = Result<String>> + Send {
        async move {
            let id = crate::new_id();
            self.save_with(&id, value, Condition::Absent.into()).await?;
            Ok(id)
        }
    }

    /// Changes an entry without losing anybody's change, and returns the value that was given to the
    /// save.
    ///
    /// `f` gets the value, `None` if the entry is absent or expired, and returns what to save;
    /// `None` leaves the entry as it is. If somebody else saved in between, `f` is called again on
    /// what they saved, until it wins, so it should do nothing but compute. The entry keeps its
    /// deadline; a new one never expires.
    ///
    /// # Errors
    ///
    /// Those of [`load_with`](Collection::load_with) and [`save_with`](Collection::save_with),
    /// except for the conflicts that it resolves. Where the outcome is
    /// [`Unknown`](crate::Outcome::Unknown) the change may have been saved; it is not tried again.
    fn update<F>(&self, id: &str, f: F) -> impl Future<Output = Result<Option<T>>> + Send
    where
        F: FnMut(Option<T>) -> Option<T> + Send,
    {
        self.update_with(id, None, f)
    }

    /// Does as [`update`](Self::update), and gives the entry a new expiry, if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update). With [`Expiry::Keep`] an absent entry is a
    /// [`Conflict`](crate::ErrorKind::Conflict), as it is for a save, unless `f` returns `None`: there is no
    /// deadline to keep, and to try again would be no help.
    fn update_with<F>(
        &self,
        id: &str,
        expiry: Option<Expiry>,
        mut f: F,
    ) -> impl Future<Output = Result<Option<T>>> + Send
    where
        F: FnMut(Option<T>) -> Option<T> + Send,
    {
        async move {
            loop {
                let (value, kept, condition) = match self.load_with(id, LoadOptions::new()).await? {
                    Some(entry) => (Some(entry.value), Expiry::Keep, Condition::Revision(entry.revision)),
                    None => (None, Expiry::Never, Condition::Absent),
                };
                let Some(next) = f(value) else { return Ok(None) };
                let options = SaveOptions::new().expiry(expiry.unwrap_or(kept)).condition(condition);
                // Such a save can only be a conflict, and would be tried again for ever.
                if options.condition == Condition::Absent && options.expiry == Expiry::Keep {
                    return Err(Error::conflict());
                }
                match self.save_with(id, &next, options).await {
                    Ok(_) => return Ok(Some(next)),
                    Err(error) if error.is_conflict() => Yield::default().await,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Loads an entry and destroys it. Of several takers one gets it.
    ///
    /// # Errors
    ///
    /// Those of [`load_with`](Collection::load_with) and
    /// [`destroy_with`](Collection::destroy_with), except for the conflicts that it resolves.
    fn take(&self, id: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        async move {
            while let Some(entry) = self.load_with(id, LoadOptions::new()).await? {
                match self.destroy_with(id, DestroyOptions::new().revision(entry.revision)).await {
                    Ok(_) => return Ok(Some(entry.value)),
                    Err(error) if error.is_conflict() => Yield::default().await,
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        }
    }

    /// Streams the items of all pages, from the options' cursor on.
    ///
    /// It loads a page when it is asked for the first item of it; the limit is the size of the
    /// pages. An error of the stream is that of a page and ends it; an entry that cannot be decoded
    /// is an error in its item alone. Pin the stream to walk it, with `std::pin::pin!`.
    fn stream(&self, options: ListOptions) -> impl Stream<Item = Result<Item<T>>> + Send {
        let start = (VecDeque::new(), Some(options));
        stream::try_unfold(start, move |(mut items, mut rest)| async move {
            while items.is_empty() {
                let Some(options) = rest.take() else { return Ok(None) };
                let page = self.list_with(options.clone()).await?;
                items.extend(page.items);
                rest = page.next.map(|next| options.cursor(next));
            }
            Ok(items.pop_front().map(|item| (item, (items, rest))))
        })
    }

    /// Loads many values, in the order of their ids; `None` stands for each that is absent.
    ///
    /// Up to 256 loads are under way at once, so that a shared connection sends them together. It
    /// is no snapshot: each value is read by itself.
    ///
    /// # Errors
    ///
    /// The first error of any load; the others are dropped.
    fn load_many<I>(&self, ids: I) -> impl Future<Output = Result<Vec<Option<T>>>> + Send
    where
        I: IntoIterator<Item: AsRef<str> + Send + Sync>,
    {
        let ids: Vec<_> = ids.into_iter().collect();
        async move {
            let mut values = Vec::with_capacity(ids.len());
            for ids in ids.chunks(TOGETHER) {
                values.extend(try_join_all(ids.iter().map(|id| self.load(id.as_ref()))).await?);
            }
            Ok(values)
        }
    }

    /// Does as [`load_many`](Self::load_many) with these options, and returns each entry's error in its own place: one that
    /// cannot be decoded fails itself alone. An outage is that of all.
    ///
    /// ```
    /// use sosa::{Collection, CollectionExt, LoadOptions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa::Result<()> {
    /// let people = sosa_memory::new("myapp").collection("people");
    /// people.save("ada", &1815).await?;
    /// let loaded = people.load_many_with(["ada", "alan"], LoadOptions::new().with_expiry()).await;
    /// let loaded: Vec<_> = loaded.into_iter().collect::<sosa::Result<_>>()?;
    /// assert_eq!(loaded[0].as_ref().map(|entry| entry.value), Some(1815));
    /// assert_eq!(loaded[1], None);
    /// # Ok(()) }
    /// ```
    fn load_many_with<I>(
        &self,
        ids: I,
        options: LoadOptions,
    ) -> impl Future<Output = Vec<Result<Option<Entry<T>>>>> + Send
    where
        I: IntoIterator<Item: AsRef<str> + Send + Sync>,
    {
        let ids: Vec<_> = ids.into_iter().collect();
        async move {
            let mut entries = Vec::with_capacity(ids.len());
            for ids in ids.chunks(TOGETHER) {
                entries.extend(join_all(ids.iter().map(|id| self.load_with(id.as_ref(), options))).await);
            }
            entries
        }
    }

    /// Puts [`Hooks`] around the collection.
    fn hooked<H: Hooks<T>>(self, hooks: H) -> Hooked<Self, H>
    where
        Self: Sized,
    {
        Hooked::new(self, hooks)
    }

    /// Tells an [`Observer`] of each call, under this name of the backend.
    fn instrumented<O: Observer>(self, backend: &'static str, observer: O) -> Instrumented<Self, O>
    where
        Self: Sized,
    {
        Instrumented::new(self, backend, observer)
    }

    /// Destroys every entry and returns how many there were. Sub-collections stay.
    ///
    /// An entry that is saved meanwhile may stay or go.
    ///
    /// # Errors
    ///
    /// Those of [`list_with`](Collection::list_with) and
    /// [`destroy_with`](Collection::destroy_with); what was destroyed before stays destroyed.
    fn clear(&self) -> impl Future<Output = Result<u64>> + Send {
        async move {
            let mut destroyed = 0;
            let mut rest = Some(ListOptions::new().ids_only().limit(TOGETHER));
            while let Some(options) = rest {
                let page = self.list_with(options.clone()).await?;
                let gone = try_join_all(page.ids().map(|id| self.destroy(id))).await?;
                destroyed += gone.into_iter().map(u64::from).sum::<u64>();
                rest = page.next.map(|next| options.cursor(next));
            }
            Ok(destroyed)
        }
    }
}

impl<T: Model, C: Collection<T> + ?Sized> CollectionExt<T> for C {}

/// Lets other tasks run once, on any runtime: who lost a race to them lets them finish.
#[derive(Default)]
struct Yield {
    yielded: bool,
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
