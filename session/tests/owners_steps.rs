//! Sign-ins, renewals and ends of one owner, stopped at each call and in each order of their calls.

// The figures are worth a look.
#![allow(clippy::print_stdout)]

mod steps;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use steps::{Act, Did, Fate, Outcomes, Step, Task, World};

const ACTS: [Act; 13] = [
    Act::SignIn,
    Act::SignInAgain,
    Act::SignInOther,
    Act::SignInCapped,
    Act::Renew,
    Act::RenewAs,
    Act::Write,
    Act::Logout,
    Act::Regenerate,
    Act::List,
    Act::EndOne,
    Act::EndOthers,
    Act::EndAll,
];

/// How a process or its store stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The process ends.
    Crash,
    /// The store answers no more.
    Down,
    /// The store answers no more, and the next call is applied all the same.
    Late,
    /// One call fails.
    Refused,
    /// The answer of one call is lost, which was applied.
    Lost,
}

/// Each operation is stopped at each of its calls, time passes, and each other operation follows. Prints the table.
#[test]
fn whatever_stops_on_the_way() {
    for name in ["two devices", "two devices, and a crash before"] {
        let world = if name == "two devices" { World::new } else { World::after_a_crash };
        for act in ACTS {
            let (outcomes, calls) = world(2).finish(act);
            assert!(matches!(outcomes.result, Some(Ok(_))) && calls > 0, "{outcomes:?}");
            let mut runs = 0;
            for stop in [Stop::Crash, Stop::Down, Stop::Late, Stop::Refused, Stop::Lost] {
                // The process may also end when all is done, and its answer is not sent.
                for call in 0..calls + usize::from(stop == Stop::Crash) {
                    for then in [None].into_iter().chain(ACTS.map(Some)) {
                        let world = world(2);
                        let outcomes = stopped(&world, act, (stop, call), then);
                        let checked = world.check(&outcomes, then.is_some());
                        let what =
                            format!("{act:?}, {stop:?} after {call} calls of {calls}, then {then:?}: {outcomes:?}");
                        assert_eq!(checked, Ok(0), "{name}: {what}");
                        runs += 1;
                    }
                }
            }
            println!(
                "{name}: {act:?}: {calls} calls, stopped at each in 5 ways, and followed by each operation: {runs} runs"
            );
        }
    }
}

/// Does something that is stopped after so many calls, and, two minutes later, something else.
fn stopped(world: &World, act: Act, (stop, call): (Stop, usize), then: Option<Act>) -> Vec<Outcomes> {
    let mut task = world.begin(act);
    let down = || [Fate::Refused; 100];
    match stop {
        Stop::Crash => {}
        Stop::Down => world.gate.answer(call, down()),
        Stop::Late => world.gate.answer(call, [Fate::Lost].into_iter().chain(down())),
        Stop::Refused => world.gate.answer(call, [Fate::Refused]),
        Stop::Lost => world.gate.answer(call, [Fate::Lost]),
    }
    let mut made = 0;
    while task.advance(&world.gate).is_some() && (stop != Stop::Crash || made < call) {
        task.step(&world.gate);
        made += 1;
    }
    let mut outcomes = vec![if stop == Stop::Crash { Outcomes::crashed(act) } else { task.outcomes() }];
    if let Some(then) = then {
        world.gate.mend();
        world.clock.advance(Duration::from_secs(120));
        outcomes.push(world.finish(then).0);
    }
    outcomes
}

/// What else happens, once, between any two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// More than a minute passes.
    Pause,
    /// The process of this operation ends.
    Crash(usize),
}

/// Runs operations in all orders of their calls that make a difference, and returns how many those were.
fn explore(acts: &[Act], event: Option<Event>) -> usize {
    let step = |world: &World, tasks: &mut [Option<Task>], chosen: usize| match (tasks.get_mut(chosen), event) {
        (Some(task), _) => task.as_mut().expect("it has not crashed").step(&world.gate),
        (None, Some(Event::Pause)) => world.clock.advance(Duration::from_secs(70)),
        (None, Some(Event::Crash(crashes))) => tasks[crashes] = None,
        (None, None) => unreachable!("nothing else happens"),
    };

    struct Node {
        waiting: BTreeMap<usize, Step>,
        chosen: usize,
        /// Those that need not be chosen here, since another order shows the same.
        asleep: BTreeMap<usize, Step>,
    }
    let (mut path, mut orders): (Vec<Node>, usize) = (Vec::new(), 0);
    loop {
        let world = World::new(2);
        let mut tasks: Vec<_> = acts.iter().map(|act| Some(world.begin(*act))).collect();
        for node in &path {
            // As they were advanced when this was found, so that the keys have the same numbers.
            for task in tasks.iter_mut().flatten() {
                task.advance(&world.gate);
            }
            step(&world, &mut tasks, node.chosen);
        }
        let is_new = loop {
            let mut waiting: BTreeMap<_, _> = (0..tasks.len())
                .filter_map(|index| Some((index, tasks[index].as_mut()?.advance(&world.gate)?.clone())))
                .collect();
            // Behind all calls it would make no difference.
            if event.is_some() && !waiting.is_empty() && path.iter().all(|node| node.chosen < tasks.len()) {
                waiting.insert(tasks.len(), Step::OTHER);
            }
            if waiting.is_empty() {
                break true;
            }
            let asleep = path.last().map_or_else(BTreeMap::new, |node: &Node| {
                let chosen = &node.waiting[&node.chosen];
                let asleep = node.asleep.iter().filter(|(_, step)| step.commutes_with(chosen));
                asleep.map(|(index, step)| (*index, step.clone())).collect()
            });
            let Some(chosen) = waiting.keys().copied().find(|index| !asleep.contains_key(index)) else { break false };
            step(&world, &mut tasks, chosen);
            path.push(Node { waiting, chosen, asleep });
        };
        if is_new {
            orders += 1;
            let ended = tasks.into_iter().zip(acts);
            let outcomes = ended.map(|(task, act)| task.map_or(Outcomes::crashed(*act), Task::outcomes));
            let outcomes: Vec<_> = outcomes.collect();
            if let Err(wrong) = world.check(&outcomes, event == Some(Event::Pause)) {
                let order: Vec<_> =
                    path.iter().map(|node| (acts.get(node.chosen), &node.waiting[&node.chosen])).collect();
                panic!("{wrong}; {outcomes:?} in the order {order:#?}");
            }
        }
        loop {
            let Some(node) = path.last_mut() else { return orders };
            let chosen = node.waiting[&node.chosen].clone();
            node.asleep.insert(node.chosen, chosen);
            match node.waiting.keys().copied().find(|index| !node.asleep.contains_key(index)) {
                Some(next) => {
                    node.chosen = next;
                    break;
                }
                None => drop(path.pop()),
            }
        }
    }
}

/// Runs every two of some operations in all orders, and prints how many.
fn every_two(acts: &[Act], events: &[Option<Event>]) {
    let mut all = 0;
    for (index, one) in acts.iter().enumerate() {
        for other in &acts[index..] {
            let orders: Vec<_> = events.iter().map(|event| explore(&[*one, *other], *event)).collect();
            println!("{one:?} and {other:?}: {orders:?} orders");
            all += orders.iter().sum::<usize>();
        }
    }
    println!("{all} orders with {events:?}, none with a fault");
}

#[test]
fn every_two_in_all_orders() {
    every_two(&ACTS, &[None]);
}

/// All operations with `ALL_ACTS=1`, and otherwise the most telling.
fn every_telling_two(telling: &[Act], events: &[Option<Event>]) {
    let all = std::env::var_os("ALL_ACTS").is_some();
    every_two(if all { &ACTS } else { telling }, events);
}

#[test]
fn every_two_in_all_orders_with_a_pause() {
    every_telling_two(&[Act::Renew, Act::Logout, Act::List, Act::EndAll], &[Some(Event::Pause)]);
}

#[test]
fn every_two_in_all_orders_with_a_crash() {
    let telling = [Act::SignInCapped, Act::Renew, Act::Logout, Act::EndAll];
    every_telling_two(&telling, &[Some(Event::Crash(0)), Some(Event::Crash(1))]);
}

/// What a request has left to the next of its process may be old by then.
#[test]
fn what_was_left_is_no_ground_to_do_nothing() {
    let world = World::new(1);
    world.lose();
    let process = world.stepped(100);
    let mut signs_in = world.begin_in(&process, Act::SignIn);
    // A record is there, but for the device that was lost.
    signs_in.step(&world.gate);
    let mut ends = world.begin_in(&process, Act::EndOne);
    ends.poll(&world.gate);
    signs_in.step(&world.gate);
    // Another process registers that device again.
    let (renewed, _) = world.finish(Act::Renew);
    assert_eq!(renewed.result, Some(Ok(Did::Other)));
    while ends.advance(&world.gate).is_some() {
        ends.step(&world.gate);
    }
    while signs_in.advance(&world.gate).is_some() {
        signs_in.step(&world.gate);
    }
    assert_eq!(world.check(&[signs_in.outcomes(), renewed, ends.outcomes()], false), Ok(0));
}

/// A client that saves its session between any two calls of an end does not outlive it.
#[test]
fn a_client_that_saves_without_pause_is_ended() {
    let world = World::new(1);
    let mut ends = world.begin(Act::EndOne);
    let mut calls = 0;
    while ends.advance(&world.gate).is_some() {
        // Two calls on the record, and eight looks at the session with an end that comes too late; then it is destroyed
        // whatever it is by then.
        if calls < 2 + 2 * 8 + 2 {
            world.save_first(calls);
        }
        ends.step(&world.gate);
        calls += 1;
    }
    assert_eq!(calls, 2 + 2 * 8 + 2 + 1, "and the record is saved");
    assert_eq!(world.check(&[ends.outcomes()], false), Ok(0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Three operations in any order of their calls, some of which crash, with pauses of over a minute.
    #[test]
    fn three_with_crashes_and_pauses(
        acts in prop::array::uniform3(prop::sample::select(&ACTS[..])),
        devices in 1..3_usize,
        choices in prop::collection::vec((0..3_usize, 1..9_usize, 0..100_u8), 200),
        crashes in any::<bool>(),
        pauses in any::<bool>(),
    ) {
        let world = World::new(devices);
        let mut tasks: Vec<Option<Task>> = acts.iter().map(|act| Some(world.begin(*act))).collect();
        let mut outcomes = Vec::new();
        let mut choices = choices.into_iter().cycle();
        while outcomes.len() < tasks.len() {
            let (index, burst, chance) = choices.next().expect("it goes round");
            let left: Vec<_> = (0..tasks.len()).filter(|index| tasks[*index].is_some()).collect();
            let index = left[index % left.len()];
            let task = tasks[index].as_mut().expect("it is left");
            if pauses && chance >= 90 {
                world.clock.advance(Duration::from_secs(70));
            }
            for _ in 0..burst {
                if task.advance(&world.gate).is_none() {
                    break;
                }
                task.step(&world.gate);
            }
            if task.advance(&world.gate).is_none() || (crashes && chance < 8) {
                outcomes.extend(tasks[index].take().map(Task::outcomes));
            }
        }
        if let Err(wrong) = world.check(&outcomes, pauses) {
            prop_assert!(false, "{wrong}: {outcomes:?}");
        }
    }
}
