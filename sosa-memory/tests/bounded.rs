//! Memory follows what lives, counted byte by byte. Alone in its program, so that nothing else is
//! counted.

use std::time::Duration;

use cap::Cap;
use sosa_memory::sosa::{Clock, Collection, Expiry, LoadOptions};

#[global_allocator]
static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

const LIVING: usize = 1000;

#[tokio::test]
async fn memory_follows_what_lives() {
    let clock = Clock::manual();
    let sessions = sosa_memory::new("test").with_clock(clock.clone()).collection::<String>("sessions");
    let value = "v".repeat(100);
    let lifetime = Duration::from_millis(LIVING as u64);
    let save = async |n: usize| {
        sessions.save_with(&format!("session {n}"), &value, Expiry::After(lifetime).into()).await.unwrap();
        clock.advance(Duration::from_millis(1));
    };
    for n in 0..2 * LIVING {
        save(n).await;
    }
    let held = sessions.held();
    assert!(held < 2 * LIVING, "{held} entries held, {LIVING} live");
    let early = ALLOCATOR.allocated();
    for n in 2 * LIVING..1_000_000 {
        save(n).await;
        // A reader slides some of them, as sessions do, and one is saved over and over.
        if n % 10 == 0 {
            sessions.load_with(&format!("session {}", n - 5), LoadOptions::new().touch(lifetime)).await.unwrap();
            sessions.save_with("the same", &value, Expiry::After(lifetime / 2).into()).await.unwrap();
        }
    }
    let (held, late) = (sessions.held(), ALLOCATOR.allocated());
    assert!(held < 2 * LIVING, "{held} entries held, {LIVING} live");
    assert!(late < early + early / 2, "{early} bytes grew to {late}");

    // All expired; the saves of one entry alone sweep what is left, and give its memory back.
    clock.advance(lifetime);
    for _ in 0..LIVING {
        sessions.save("the same", &value).await.unwrap();
    }
    assert_eq!(sessions.held(), 1);
    let empty = ALLOCATOR.allocated();
    assert!(empty < early / 4, "{early} bytes shrank only to {empty}");
}
