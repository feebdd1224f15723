//! The suite over all that is a collection without being a backend.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use sosa::conformance::{Fixture, Probe};
use sosa::{
    Call, Clock, Collection, CollectionExt, DestroyOptions, Ending, Entry, Error, ErrorKind, Expiry, Hooks,
    ListOptions, LoadOptions, Operation, Page, Result, Revision, SaveOptions, async_trait, conformance,
};
use sosa_memory::MemoryCollection;

type Dyn = Arc<dyn Collection<Probe>>;

/// Collections in memory, inside something.
struct Wrapped {
    store: sosa_memory::MemoryStore,
    clock: Clock,
    wrap: fn(MemoryCollection<Probe>) -> Dyn,
}

impl Wrapped {
    fn new(wrap: fn(MemoryCollection<Probe>) -> Dyn) -> Self {
        let clock = Clock::manual();
        Self { store: sosa_memory::new("test").with_clock(clock.clone()), clock, wrap }
    }
}

#[async_trait]
impl Fixture for Wrapped {
    fn collection(&self, prefix: &str, name: &str, path: &[&str]) -> Dyn {
        let root = self.store.with_prefix(prefix).collection(name);
        (self.wrap)(path.iter().fold(root, |parent, path| parent.within(path)))
    }

    fn failing(&self) -> Option<Dyn> {
        Some((self.wrap)(sosa_memory::new("full").with_limit(0).collection("things")))
    }

    async fn elapse(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn encodes(&self) -> bool {
        false
    }
}

async fn reference() -> Wrapped {
    // For as long as the tests run, as a reference in a static would live.
    Wrapped::new(|things| Arc::new(&*Box::leak(Box::new(things))))
}

async fn boxed() -> Wrapped {
    Wrapped::new(|things| Arc::new(Box::new(things) as Box<dyn Collection<Probe>>))
}

async fn counted() -> Wrapped {
    Wrapped::new(|things| Arc::new(Arc::new(things) as Arc<dyn Collection<Probe>>))
}

conformance!(by_reference: reference);
conformance!(in_a_box: boxed);
conformance!(in_an_arc: counted);

/// Hooks as they are if none is written.
#[derive(Clone, Debug)]
struct NoHooks;
impl Hooks<Probe> for NoHooks {}

/// Hooks that change what is stored, and give back what was saved.
#[derive(Clone, Debug)]
struct Marked;

#[async_trait]
impl Hooks<Probe> for Marked {
    async fn before_save(&self, _id: &str, value: Probe) -> Result<Probe> {
        Ok(Probe::new(format!("mark {}", value.text())))
    }

    async fn after_load(&self, _id: &str, value: Probe) -> Result<Probe> {
        let text = value.text();
        let text = text.strip_prefix("mark ").ok_or_else(|| Error::new(ErrorKind::Decode, "it bears no mark"))?;
        Ok(Probe::new(text))
    }
}

async fn no_hooks() -> Wrapped {
    Wrapped::new(|things| Arc::new(things.hooked(NoHooks)))
}

async fn marked() -> Wrapped {
    Wrapped::new(|things| Arc::new(things.hooked(Marked)))
}

async fn instrumented() -> Wrapped {
    Wrapped::new(|things| Arc::new(things.instrumented("memory", |_: &Call| {})))
}

conformance!(without_hooks: no_hooks);
conformance!(with_hooks: marked);
conformance!(with_an_observer: instrumented);

/// A collection that keeps no index.
#[derive(Debug)]
struct Unindexed(MemoryCollection<Probe>);

#[async_trait]
impl Collection<Probe> for Unindexed {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<Probe>>> {
        self.0.load_with(id, options).await
    }

    async fn save_with(&self, id: &str, value: &Probe, options: SaveOptions) -> Result<Revision> {
        self.0.save_with(id, value, options).await
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        self.0.destroy_with(id, options).await
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<Probe>> {
        let error = options.validate().err().unwrap_or_else(|| Error::new(ErrorKind::Unsupported, "no index"));
        Err(error.with_context("unindexed", Operation::List))
    }
}

async fn unindexed() -> Wrapped {
    Wrapped::new(|things| Arc::new(Unindexed(things)))
}

conformance!(without_an_index: unindexed, not_indexed);

/// Writes down which hooks run.
#[derive(Clone, Debug, Default)]
struct Noted(Arc<Mutex<Vec<String>>>);

impl Noted {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[async_trait]
impl Hooks<u32> for Noted {
    async fn before_save(&self, id: &str, value: u32) -> Result<u32> {
        self.note(format!("before save {id} {value}"));
        if value == 13 { Err(Error::new(ErrorKind::Rejected, "no thirteen")) } else { Ok(value + 100) }
    }

    async fn after_save(&self, id: &str, value: &u32) {
        self.note(format!("after save {id} {value}"));
    }

    async fn after_load(&self, id: &str, value: u32) -> Result<u32> {
        self.note(format!("after load {id} {value}"));
        if value == 666 { Err(Error::new(ErrorKind::Decode, "not this one")) } else { Ok(value - 100) }
    }

    async fn after_destroy(&self, id: &str) {
        self.note(format!("after destroy {id}"));
    }
}

#[tokio::test]
async fn hooks_run_around_every_verb_and_can_be_skipped() {
    let noted = Noted::default();
    let numbers = sosa_memory::new("test").collection::<u32>("numbers").hooked(noted.clone());
    numbers.save("a", &1).await.unwrap();
    assert_eq!(noted.take(), ["before save a 1", "after save a 101"]);
    assert_eq!(numbers.load("a").await.unwrap(), Some(1));
    assert_eq!(numbers.load("b").await.unwrap(), None);
    assert_eq!(noted.take(), ["after load a 101"]);
    assert_eq!(numbers.update("a", |n| n.map(|n| n + 1)).await.unwrap(), Some(2));
    assert_eq!(noted.take(), ["after load a 101", "before save a 2", "after save a 102"]);

    let error = numbers.save("a", &13).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Rejected, "hooks save: no thirteen"));
    assert_eq!(noted.take(), ["before save a 13"], "what is rejected was not saved");
    let late = numbers.save_with("b", &5, Expiry::Keep.into()).await.unwrap_err();
    assert!(late.is_conflict());
    assert_eq!(noted.take(), ["before save b 5"], "what failed was not saved");

    numbers.inner().save("b", &666).await.unwrap();
    assert_eq!(noted.take(), [] as [&str; 0]);
    let page = numbers.list().await.unwrap();
    assert_eq!(page.values().collect::<Vec<_>>(), [&2]);
    assert_eq!(page.into_pairs().unwrap_err().to_string(), "hooks list: not this one");
    assert_eq!(noted.take(), ["after load a 102", "after load b 666"]);
    assert_eq!(numbers.list_with(ListOptions::new().ids_only()).await.unwrap().items.len(), 2);
    assert!(numbers.destroy("a").await.unwrap());
    assert!(!numbers.destroy("a").await.unwrap());
    assert_eq!(noted.take(), ["after destroy a"]);
}

/// Reserves each value in another collection before it is saved.
#[derive(Debug)]
struct Unique(MemoryCollection<u32>);

#[async_trait]
impl Hooks<u32> for Unique {
    async fn before_save(&self, _id: &str, value: u32) -> Result<u32> {
        self.0.save_with(&value.to_string(), &value, sosa::Condition::Absent.into()).await?;
        Ok(value)
    }
}

#[tokio::test]
async fn a_conflict_that_a_hook_met_is_a_rejection() {
    let store = sosa_memory::new("test");
    let numbers = store.collection::<u32>("numbers").hooked(Unique(store.collection("reserved")));
    numbers.save("a", &1).await.unwrap();
    let refused = numbers.update("b", |_| Some(1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Rejected);
    assert_eq!(refused.to_string(), "hooks save: what the hook called failed");
    assert_eq!(numbers.load("b").await.unwrap(), None);
}

/// A collection whose store answers late, woken by a timer as by a network: that time passes is what it
/// is for.
#[derive(Debug)]
struct Late(MemoryCollection<Probe>);

impl Late {
    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = call.await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        answer
    }
}

#[async_trait]
impl Collection<Probe> for Late {
    async fn load_with(&self, id: &str, options: LoadOptions) -> Result<Option<Entry<Probe>>> {
        self.call(self.0.load_with(id, options)).await
    }

    async fn save_with(&self, id: &str, value: &Probe, options: SaveOptions) -> Result<Revision> {
        self.call(self.0.save_with(id, value, options)).await
    }

    async fn destroy_with(&self, id: &str, options: DestroyOptions) -> Result<bool> {
        self.call(self.0.destroy_with(id, options)).await
    }

    async fn list_with(&self, options: ListOptions) -> Result<Page<Probe>> {
        self.call(self.0.list_with(options)).await
    }
}

async fn late() -> Wrapped {
    Wrapped::new(|things| Arc::new(Late(things)))
}

// No rule may depend on a store that answers at once.
conformance!(of_a_distant_store: late);

#[tokio::test]
async fn an_observer_is_told_of_each_call_and_of_no_secret() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let calls = calls.clone();
        move |call: &Call| calls.lock().unwrap().push(*call)
    };
    let things = sosa_memory::new("test").collection::<u32>("things").instrumented("memory", observer);
    things.save("sesame", &31_415_926).await.unwrap();
    things.load("sesame").await.unwrap();
    things.load_with("sesame", LoadOptions::new().touch(Duration::from_secs(1))).await.unwrap();
    things.load("absent").await.unwrap();
    assert_eq!(things.list().await.unwrap().items.len(), 1);
    things.load("").await.unwrap_err();
    things.destroy("sesame").await.unwrap();
    things.destroy("sesame").await.unwrap();
    things.inner().load("sesame").await.unwrap();
    let calls = std::mem::take(&mut *calls.lock().unwrap());
    let told: Vec<_> = calls.iter().map(|call| (call.backend, call.operation, call.ending)).collect();
    assert_eq!(
        told,
        [
            ("memory", Operation::Save, Ending::Done),
            ("memory", Operation::Load, Ending::Done),
            ("memory", Operation::Touch, Ending::Done),
            ("memory", Operation::Load, Ending::Absent),
            ("memory", Operation::List, Ending::Done),
            ("memory", Operation::Load, Ending::Failed(ErrorKind::InvalidId)),
            ("memory", Operation::Destroy, Ending::Done),
            ("memory", Operation::Destroy, Ending::Absent),
        ]
    );
    let shown = format!("{calls:?} {things:?}");
    assert!(!shown.contains("sesame") && !shown.contains("31415926"), "{shown}");
}

/// A load that never answers, as of a store that hangs.
#[derive(Debug)]
struct Hanging;

#[async_trait]
impl Hooks<u32> for Hanging {
    async fn after_load(&self, _id: &str, _value: u32) -> Result<u32> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn an_observer_is_told_of_a_call_that_was_dropped() {
    let endings = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let endings = endings.clone();
        move |call: &Call| endings.lock().unwrap().push(call.ending)
    };
    let hanging = sosa_memory::new("test").collection::<u32>("things").hooked(Hanging).instrumented("memory", observer);
    hanging.save("a", &1).await.unwrap();
    let load = futures_util::FutureExt::now_or_never(hanging.load("a"));
    assert!(load.is_none());
    assert_eq!(*endings.lock().unwrap(), [Ending::Done, Ending::Dropped]);
}
