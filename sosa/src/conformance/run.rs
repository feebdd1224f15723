//! The table of rules, and how one is run.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use tokio::runtime::Builder;

use super::fixture::Fixture;
use super::scene::Scene;
use super::{absent, cancel, condition, copy, cost, error, expiry, id, isolation, list, race, touch};

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

/// Runs one rule over a new fixture and panics if it is broken. What
/// [`conformance!`](crate::conformance!) expands to.
///
/// # Panics
///
/// If the rule is broken, or there is none of this name.
pub fn run<F, M>(name: &str, indexed: bool, fixture: M)
where
    F: Fixture,
    M: AsyncFnOnce() -> F + Send + 'static,
{
    let rule = RULES.iter().find(|rule| rule.name == name).expect("the rule is in the table");
    if let Verdict::Broken(why) = check(rule, indexed, fixture) {
        panic!("{rule:?} is broken: {why}");
    }
}

/// Runs one rule over a new fixture, on a thread and a runtime of tokio of its own.
///
/// A rule of listing, for a fixture that is not `indexed`, is kept if listing is
/// [`Unsupported`](crate::ErrorKind::Unsupported). A rule that takes longer than
/// [`Fixture::patience`] is broken; its thread is left behind.
pub fn check<F, M>(rule: &'static Rule, indexed: bool, fixture: M) -> Verdict
where
    F: Fixture,
    M: AsyncFnOnce() -> F + Send + 'static,
{
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    // What waits for the rule is not what runs it: a backend may block its thread for good.
    let (send_patience, patience) = mpsc::channel();
    let (send_end, end) = mpsc::channel();
    let play = move || {
        let fixture = Arc::new(runtime.block_on(fixture()));
        let _ = send_patience.send(fixture.patience());
        let scene = Arc::new(Scene::new(fixture, indexed));
        let play = async {
            match rule.topic == "list" && !indexed {
                true => list::a_listing_is_unsupported(&scene).await,
                false => (rule.rule)(scene.clone()).await,
            }
        };
        let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play)));
        // What cannot be cleared is left, under a prefix of its own.
        let _ = catch_unwind(AssertUnwindSafe(|| runtime.block_on(scene.clear())));
        let _ = send_end.send(());
        runtime.shutdown_background();
        played
    };
    let thread = thread::Builder::new().name(rule.name.to_owned()).spawn(play).expect("a thread");
    let ended = match patience.recv() {
        Ok(patience) => end.recv_timeout(patience).map_err(|error| (error, patience)),
        // The fixture panicked, which joining the thread tells.
        Err(_) => Ok(()),
    };
    if let Err((RecvTimeoutError::Timeout, patience)) = ended {
        return Verdict::Broken(format!("it hangs: no end after {patience:?}"));
    }
    match thread.join() {
        Ok(Ok(())) => Verdict::Kept,
        Ok(Err(panic)) | Err(panic) => Verdict::Broken(reason(&*panic)),
    }
}

fn reason(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "a panic without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_clauses_names_every_rule_and_no_other() {
        let named: std::collections::BTreeSet<_> = include_str!("RULES.md")
            .split('`')
            .filter(|part| part.contains('_') && *part != "starts_with" && *part != "ids_only")
            .collect();
        assert_eq!(named, RULES.iter().map(|rule| rule.name).collect());
    }
}
