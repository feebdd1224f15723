//! The table of rules, and how one is run.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::timeout;

use super::{Fixture, Scene, absent, cancel, condition, copy, cost, error, expiry, id, isolation, list, race, touch};

/// One rule of the contract.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Rule {
    /// What part of the contract it belongs to.
    pub topic: &'static str,
    /// What it says, as a name.
    pub name: &'static str,
    rule: fn(Arc<Scene>) -> Play,
}

/// A rule being played.
type Play = Pin<Box<dyn Future<Output = ()>>>;

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.topic, self.name)
    }
}

macro_rules! table {
    (() $($topic:ident::$rule:ident,)*) => {
        /// All rules, in the order in which they build on each other.
        pub const RULES: &[Rule] = &[$(
            Rule {
                topic: stringify!($topic),
                name: stringify!($rule),
                rule: |scene| Box::pin(async move { $topic::$rule(&scene).await }),
            },
        )*];
    };
}
crate::__each_rule!([table]);

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The collection keeps the rule.
    Kept,
    /// It breaks it, for this reason.
    Broken(String),
}

/// How long a rule may take before it counts as one that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs one rule over a new fixture and panics if it is broken. What
/// [`conformance!`](crate::conformance!) expands to.
///
/// # Panics
///
/// If the rule is broken, or there is none of this name.
pub fn run<F, M>(name: &str, indexed: bool, fixture: M)
where
    F: Fixture,
    M: AsyncFnOnce() -> F,
{
    let rule = RULES.iter().find(|rule| rule.name == name).expect("the rule is in the table");
    if let Verdict::Broken(why) = check(rule, indexed, PATIENCE, fixture) {
        panic!("{rule:?} is broken: {why}");
    }
}

/// Runs one rule over a new fixture, on a runtime of tokio with several threads.
///
/// A rule of listing, for a fixture that is not `indexed`, is kept if listing is
/// [`Unsupported`](crate::ErrorKind::Unsupported). A rule that takes longer than `patience` is broken.
pub fn check<F, M>(rule: &Rule, indexed: bool, patience: Duration, fixture: M) -> Verdict
where
    F: Fixture,
    M: AsyncFnOnce() -> F,
{
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    let scene = Arc::new(Scene::new(Arc::new(runtime.block_on(fixture())), indexed));
    let play = async {
        match rule.topic == "list" && !indexed {
            true => list::a_listing_is_unsupported(&scene).await,
            false => (rule.rule)(scene.clone()).await,
        }
    };
    let play = AssertUnwindSafe(|| runtime.block_on(async { timeout(patience, play).await }));
    let verdict = match catch_unwind(play) {
        Ok(Ok(())) => Verdict::Kept,
        Ok(Err(_)) => Verdict::Broken(format!("it hangs: no end after {patience:?}")),
        Err(panic) => Verdict::Broken(reason(&*panic)),
    };
    // What is left is under a prefix of its own; that it cannot be cleared is no verdict.
    let _ = runtime.block_on(async { timeout(patience, scene.clear()).await });
    runtime.shutdown_background();
    verdict
}

fn reason(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "a panic without a message".to_owned(),
    }
}
