//! The suite can fail: for each rule there is a broken collection that it catches first, or alone.

// The matrix is worth a look.
#![allow(clippy::print_stdout)]

mod broken;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use broken::{Broken, DEFECTS, Defect};
use sosa::conformance::{RULES, Verdict, check};

/// Plays every rule over a collection with this defect, and returns which it broke.
fn broken_rules(defect: Defect) -> Vec<&'static str> {
    let verdict = |rule| check(rule, true, async move || Broken::new(defect));
    RULES.iter().filter(|rule| verdict(rule) != Verdict::Kept).map(|rule| rule.name).collect()
}

#[test]
fn every_rule_catches_a_broken_collection_and_every_broken_collection_is_caught() {
    // Rules fail by the thousand here; each verdict is read, and none needs to be printed.
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        // With some defects the rules mostly wait: there is one thread more than processors. Those defects are near
        // the end of the list, and go first, so that nobody waits for them alone.
        for _ in 0..=thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((defect, rule)) = DEFECTS.iter().nth_back(next.fetch_add(1, Ordering::Relaxed)) {
                    let broken = broken_rules(*defect);
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((*defect, *rule, broken));
                }
            });
        }
    });
    let sound = broken_rules(Defect::None);
    let _ = std::panic::take_hook();

    let found = found.into_inner().unwrap();
    print_matrix(&found);
    assert_eq!(sound, [] as [&str; 0], "a collection without a defect is caught");
    let mut wrong = Vec::new();
    for (defect, rule, broken) in &found {
        match broken[..] {
            [] => wrong.push(format!("{defect:?} is not caught at all")),
            [first, ..] if first == *rule => {}
            [first, ..] => wrong.push(format!("{defect:?} is caught by {first}, and not by {rule}")),
        }
    }
    for rule in RULES {
        if !DEFECTS.iter().any(|(_, name)| *name == rule.name) {
            wrong.push(format!("{rule:?} has no broken collection to catch"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Prints a line for each rule: `X` for each defect that it catches first, `x` for any other that it
/// catches.
fn print_matrix(found: &[(Defect, &str, Vec<&str>)]) {
    println!("{} rules, {} broken collections", RULES.len(), found.len());
    let mut columns: Vec<_> = found.iter().collect();
    columns.sort_by_key(|(defect, ..)| *defect as usize);
    for rule in RULES {
        let cells: String = columns
            .iter()
            .map(|(_, _, broken)| match broken.iter().position(|name| *name == rule.name) {
                Some(0) => 'X',
                Some(_) => 'x',
                None => '.',
            })
            .collect();
        let first: Vec<_> = columns
            .iter()
            .filter(|(_, _, broken)| broken.first() == Some(&rule.name))
            .map(|(defect, ..)| format!("{defect:?}"))
            .collect();
        println!("{cells} {}::{}: {}", rule.topic, rule.name, first.join(", "));
    }
}
