//! A whole backend: an ordered map behind a mutex, with values encoded as a store would hold them.
use sosa::{
    Clock, Codec, Collection, Cursor, Deadline, DestroyOptions, Entry, Item, Json, Key, Keyspace, ListOptions,
    LoadOptions, MAX_ID_LEN, Model, Operation, Page, Result, Revision, SaveOptions, async_trait,
};
use std::{collections::BTreeMap, fmt, marker::PhantomData, ops::Bound, sync::Arc, sync::Mutex};

/// Revision, deadline and encoded value of each key; and how many writes there were.
pub(crate) type Tree = (BTreeMap<String, (u64, Deadline, Vec<u8>)>, u64);

pub(crate) struct TreeCollection<T> {
    pub(crate) tree: Arc<Mutex<Tree>>,
    pub(crate) place: Keyspace,
    pub(crate) clock: Clock,
    pub(crate) values: PhantomData<fn() -> T>,
}

impl<T: Model> TreeCollection<T> {
    /// Does one verb with the tree locked and the time read once. An entry that has expired is removed before.
    fn at<R>(&self, id: &str, verb: Operation, f: impl FnOnce(&Key<'_>, &mut Tree, u64) -> Result<R>) -> Result<R> {
        let key = self.place.key(id).map_err(|error| error.with_context("btree", verb))?;
        let (mut tree, now) = (self.tree.lock().unwrap(), self.clock.now_millis());
        if tree.0.get(&key.to_string()).is_some_and(|(_, deadline, _)| deadline.is_past(now)) {
            tree.0.remove(&key.to_string());
        }
        f(&key, &mut tree, now).map_err(|error| error.with_context("btree", verb))
    }
}

fn entry<T: Model>(key: &Key<'_>, stored: &(u64, Deadline, Vec<u8>), with_expiry: bool) -> Result<Entry<T>> {
    let entry = Entry::new(Json.decode(key, &stored.2)?, stored.0.into());
    Ok(if with_expiry { entry.with_expiry(stored.1.into()) } else { entry })
}

#[async_trait]
impl<T: Model> Collection<T> for TreeCollection<T> {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<T>>> {
        self.at(id, Operation::Load, |key, (entries, _), now| {
            options.validate()?;
            let Some(stored) = entries.get_mut(&key.to_string()) else { return Ok(None) };
            stored.1 = options.touched(stored.1, now).unwrap_or(stored.1);
            entry(key, stored, options.with_expiry).map(Some)
        })
    }

    async fn save_with(&self, id: &str, value: &T, options: SaveOptions) -> Result<Revision> {
        self.at(id, Operation::Save, |key, (entries, writes), now| {
            let current = entries.get(&key.to_string()).map(|(revision, deadline, _)| ((*revision).into(), *deadline));
            let deadline = options.check(current, now)?;
            entries.insert(key.to_string(), (*writes + 1, deadline, Json.encode(key, value)?));
            *writes += 1;
            Ok((*writes).into())
        })
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        self.at(id, Operation::Destroy, |key, (entries, _), _| {
            options.check(entries.get(&key.to_string()).map(|(revision, ..)| (*revision).into()))?;
            Ok(entries.remove(&key.to_string()).is_some())
        })
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<T>> {
        options.validate().map_err(|error| error.with_context("btree", Operation::List))?;
        let (tree, now, place) = (self.tree.lock().unwrap(), self.clock.now_millis(), self.place.as_str());
        let start = format!("{place}{}", options.starts_with);
        let end = start.clone() + &"\u{10ffff}".repeat(MAX_ID_LEN / 4 + 1); // greater than all that start so
        let after = options.cursor.map(|cursor| format!("{place}{}", cursor.as_str()));
        let found: Box<dyn Iterator<Item = _>> = if options.reverse {
            Box::new(tree.0.range(..after.map_or(end.clone(), |after| after.min(end))).rev())
        } else {
            let from = after.filter(|after| *after >= start).map_or(Bound::Included(start.clone()), Bound::Excluded);
            Box::new(tree.0.range((from, Bound::Unbounded)))
        };
        let mut found =
            found.take_while(|(key, _)| key.starts_with(&start)).filter(|(_, stored)| !stored.1.is_past(now));
        let page = found.by_ref().take(options.limit).map(|(key, stored)| match &key[place.len()..] {
            id if options.ids_only => Item::id_only(id),
            id => Item::new(id, self.place.key(id).and_then(|key| entry(&key, stored, options.with_expiry))),
        });
        let page: Vec<_> = page.collect();
        let next = found.next().and(page.last()).map(|last| Cursor::after(&last.id));
        Ok(Page::new(page, next))
    }
}

impl<T> fmt::Debug for TreeCollection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeCollection({:?})", self.place)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let place = Keyspace::new("myapp", "people");
    let people = TreeCollection { tree: Arc::default(), place, clock: Clock::system(), values: PhantomData };
    people.save("ada", &"Ada Lovelace".to_owned()).await.unwrap();
    assert_eq!(people.load("ada").await.unwrap().as_deref(), Some("Ada Lovelace"));
}
