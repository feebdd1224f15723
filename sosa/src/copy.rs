//! From one collection to another, whatever is behind the two.

use std::fmt;

use futures_util::future::try_join_all;

use crate::{Collection, Condition, Cursor, Entry, Expiry, ListOptions, Model, Result, SaveOptions, log_id};

/// How many saves are under way at once.
const TOGETHER: usize = 256;

/// How many entries that cannot be decoded are named.
const NAMED: usize = 1000;

/// Copies all entries of a collection with their deadlines into another one.
///
/// It walks the listing, page by page, and saves what a page holds together. What is in the target already
/// stays as it is, unless [`overwrite`](CopyOptions::overwrite) says otherwise. What cannot be decoded is counted,
/// named and left behind. Sub-collections are collections of their own, and are not copied along.
///
/// It is no snapshot: an entry that is saved or destroyed in the source meanwhile may be copied as it was, as
/// it is, or not at all. To move without losing anything, let nobody write to the source; a load that touches writes too.
///
/// ```
/// use sosa::{Collection, CopyOptions};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa::Result<()> {
/// let old = sosa_memory::new("old").collection("people");
/// let new = sosa_memory::new("new").collection("people");
/// old.save("ada", &1815).await?;
/// let copied = sosa::copy(&old, &new, CopyOptions::new()).await?;
/// assert_eq!((copied.saved, copied.present, copied.undecodable), (1, 0, 0));
/// assert_eq!(new.load("ada").await?, Some(1815));
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// The first error of a page or a save; what was copied before stays. To go on, call it again with the last
/// [cursor](Copied::cursor) that [`progress`](CopyOptions::progress) told, or from the beginning: what is there
/// already costs a refused save each.
pub async fn copy<T: Model>(
    from: &(impl Collection<T> + ?Sized),
    to: &(impl Collection<T> + ?Sized),
    mut options: CopyOptions<'_>,
) -> Result<Copied> {
    let mut copied = Copied::default();
    let mut rest = Some(options.pages());
    while let Some(pages) = rest {
        let page = from.list_with(pages.clone()).await?;
        let mut entries = Vec::with_capacity(page.items.len());
        for item in page.items {
            match item.entry {
                Some(Ok(entry)) => entries.push((item.id, entry)),
                Some(Err(_)) => copied.leave(&item.id),
                None => {}
            }
        }
        for entries in entries.chunks(TOGETHER) {
            let saved = try_join_all(entries.iter().map(|(id, entry)| save(to, id, entry, options.overwrite))).await?;
            for saved in saved {
                *(if saved { &mut copied.saved } else { &mut copied.present }) += 1;
            }
        }
        copied.cursor.clone_from(&page.next);
        if let Some(progress) = &mut options.progress {
            progress(&copied);
        }
        rest = page.next.map(|next| pages.cursor(next));
    }
    Ok(copied)
}

/// Saves an entry, and returns whether it was not there already.
async fn save<T: Model>(
    to: &(impl Collection<T> + ?Sized),
    id: &str,
    entry: &Entry<T>,
    overwrite: bool,
) -> Result<bool> {
    let condition = if overwrite { Condition::Always } else { Condition::Absent };
    let expiry = entry.expiry.unwrap_or(Expiry::Never);
    let options = SaveOptions::new().expiry(expiry).condition(condition).without_revision();
    match to.save_with(id, &entry.value, options).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is told after each page.
type Progress<'a> = Box<dyn FnMut(&Copied) + Send + 'a>;

/// Options of [`copy`].
#[derive(Default)]
pub struct CopyOptions<'a> {
    cursor: Option<Cursor>,
    limit: Option<usize>,
    overwrite: bool,
    progress: Option<Progress<'a>>,
}

impl<'a> CopyOptions<'a> {
    /// Returns the options of a plain copy: from the beginning, and over nothing that is there.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on where an earlier copy was broken off.
    #[must_use]
    pub fn cursor(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    /// Sets how many entries a page holds, 1,000 unless set: they are in memory all at once.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Saves over what is in the target already.
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// Tells after each page what was copied so far, and from which cursor on it can be gone on with.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(&Copied) + Send + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    fn pages(&mut self) -> ListOptions {
        let mut pages = ListOptions::new().with_expiry().without_revision();
        pages.cursor = self.cursor.take();
        pages.limit = self.limit.unwrap_or(ListOptions::DEFAULT_LIMIT);
        pages
    }
}

impl fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cursor, limit, overwrite, progress: _ } = self;
        f.debug_struct("CopyOptions")
            .field("cursor", cursor)
            .field("limit", limit)
            .field("overwrite", overwrite)
            .finish_non_exhaustive()
    }
}

/// What a [`copy`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// How many entries were saved. One whose deadline passed on the way is among them, and not in the target.
    pub saved: u64,
    /// How many were in the target already, and stayed as they were there.
    pub present: u64,
    /// How many could not be decoded, and are not in the target.
    pub undecodable: u64,
    /// The [`log_id`]s of the first 1,000 of these.
    pub left: Vec<String>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<Cursor>,
}

impl Copied {
    fn leave(&mut self, id: &str) {
        self.undecodable += 1;
        if self.left.len() < NAMED {
            self.left.push(log_id(id));
        }
    }
}
