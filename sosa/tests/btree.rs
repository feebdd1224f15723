//! The suite over the README's backend, as its chapter on the suite shows it.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

#[path = "../examples/btree.rs"]
#[allow(dead_code)]
mod btree;
use btree::{Tree, TreeCollection};

use sosa::conformance::{Fixture, Probe};
use sosa::{Clock, Collection, Keyspace, async_trait};

#[derive(Default)]
struct Trees {
    tree: Arc<Mutex<Tree>>,
    clock: Clock,
}

#[async_trait]
impl Fixture for Trees {
    fn collection(&self, prefix: &str, name: &str, path: &[&str]) -> Arc<dyn Collection<Probe>> {
        let place = path.iter().fold(Keyspace::new(prefix, name), |place, path| place.within(path));
        Arc::new(TreeCollection { tree: self.tree.clone(), place, clock: self.clock.clone(), values: PhantomData })
    }

    fn failing(&self) -> Option<Arc<dyn Collection<Probe>>> {
        None // a map in the program cannot be out of reach or full
    }

    async fn elapse(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

async fn fixture() -> Trees {
    Trees { clock: Clock::manual(), ..Trees::default() }
}

sosa::conformance!(fixture);

/// Returns the code blocks of the README that open like this.
fn blocks(opening: &str) -> Vec<&'static str> {
    include_str!("../README.md").split("```").filter_map(|block| block.strip_prefix(opening)).collect()
}

#[test]
fn the_readme_shows_the_code_that_runs_here() {
    let program = include_str!("../examples/btree.rs");
    assert!(blocks("rust\n").contains(&program), "the README and examples/btree.rs differ");
    assert!(program.lines().count() < 100, "{} lines", program.lines().count());
    let [fixture] = blocks("rust,ignore\n")[..] else { panic!("the README shows one fixture") };
    assert!(include_str!("btree.rs").contains(fixture), "the README's fixture and this one differ");
}
