//! Listing, page by page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::probe::Probe;
use super::scene::{Handle, Scene, fill, items, put, text, walk};
use crate::{Condition, Cursor, ErrorKind, Expiry, ListOptions};

/// Ids in the order of their bytes, none of which is the order of anything else.
const ORDERED: &[&str] = &[
    "\0", " ", "*", "-1", "0", "00", "1", "10", "2", "A", "B", "Z", "a", "a\0", "a*", "a.", "aa", "ab", "b", "z", "é",
    "🙂",
];

/// Rules of listing, where the collection keeps no index: whatever is asked, it is `Unsupported`.
pub(super) async fn a_listing_is_unsupported(scene: &Scene) {
    let things = scene.with_ids(&["a"]).await;
    for options in [
        ListOptions::new(),
        ListOptions::new().ids_only(),
        ListOptions::new().limit(1).reverse(),
        ListOptions::new().starts_with("a"),
        ListOptions::new().cursor(Cursor::after("a")),
    ] {
        let error = things.list_with(options).await.expect_err("a listing without an index");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    assert_eq!(text(&things, "a").await.as_deref(), Some("a"));
}

/// Entries come in the ascending order of the bytes of their ids, each with its value.
pub(super) async fn a_listing_ascends_by_the_bytes_of_the_id(scene: &Scene) {
    let mut shuffled = ORDERED.to_vec();
    shuffled.rotate_left(7);
    shuffled.swap(0, 9);
    let things = scene.with_ids(&shuffled).await;
    let found = items(&things, ListOptions::new()).await;
    assert_eq!(found.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ORDERED);
    for item in found {
        assert_eq!(item.value(), Some(&Probe::new(&*item.id)), "the value of another id");
    }
}

/// `starts_with` compares bytes: nothing in it is a pattern.
pub(super) async fn starts_with_means_every_byte_as_it_stands(scene: &Scene) {
    let things = scene.with_ids(ORDERED).await;
    for prefix in ["", "a", "a*", "*", "?", "[ab]", "1", "\0", "é", "aab", "b\u{10ffff}", "\u{10ffff}"] {
        let expected: Vec<_> = ORDERED.iter().filter(|id| id.starts_with(prefix)).copied().collect();
        let found = walk(&things, ListOptions::new().starts_with(prefix)).await;
        assert_eq!(found, expected, "starts with {prefix:?}");
    }
}

/// A page holds no more than its limit, and a limit of zero is `InvalidOption`.
pub(super) async fn a_page_holds_no_more_than_its_limit(scene: &Scene) {
    let things = scene.with_ids(ORDERED).await;
    for limit in [1, 2, ORDERED.len(), ORDERED.len() + 1, usize::MAX] {
        let page = things.list_with(ListOptions::new().limit(limit)).await.unwrap();
        assert!(page.items.len() <= limit, "{} items on a page of {limit}", page.items.len());
    }
    let error = things.list_with(ListOptions::new().limit(0)).await.expect_err("a page of nothing");
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
}

/// A page holds at most 1,000 entries unless told otherwise, and says that there are more.
pub(super) async fn a_page_holds_1000_entries_unless_told(scene: &Scene) {
    let things = scene.open();
    fill(&things, 0..1001).await;
    let page = things.list().await.unwrap();
    assert!(page.items.len() <= 1000, "{} items on a page", page.items.len());
    assert!(page.next.is_some(), "the rest is not told of");
}

/// A page goes on right behind the cursor.
pub(super) async fn a_page_goes_on_behind_its_cursor(scene: &Scene) {
    let ids = ["a", "b", "c", "d", "e"];
    let things = scene.with_ids(&ids).await;
    let first = things.list_with(ListOptions::new().limit(2)).await.unwrap();
    let seen = first.items.len();
    let cursor = first.next.expect("there is more");
    let rest = walk(&things, ListOptions::new().limit(5).cursor(cursor)).await;
    assert_eq!(rest, ids[seen..]);
}

/// `reverse` descends, with everything else as ascending.
pub(super) async fn reverse_descends(scene: &Scene) {
    let things = scene.with_ids(ORDERED).await;
    for prefix in ["", "a"] {
        let expected: Vec<_> = ORDERED.iter().rev().filter(|id| id.starts_with(prefix)).copied().collect();
        for limit in [1, 3, 100] {
            let found = walk(&things, ListOptions::new().starts_with(prefix).limit(limit).reverse()).await;
            assert_eq!(found, expected);
        }
    }
}

/// `ids_only` lists ids without entries.
pub(super) async fn ids_only_lists_ids_alone(scene: &Scene) {
    let things = scene.with_ids(ORDERED).await;
    let page = things.list_with(ListOptions::new().ids_only()).await.unwrap();
    assert!(page.items.iter().all(|item| item.entry.is_none()), "there are entries");
    assert_eq!(walk(&things, ListOptions::new().ids_only().limit(3)).await, ORDERED);
}

/// A listing tells when its entries expire if it was asked to, and not otherwise.
pub(super) async fn a_listing_tells_the_expiry_if_asked_for(scene: &Scene) {
    let things = scene.open();
    put(&things, "a", "1", Expiry::After(Duration::from_secs(60 * 60))).await;
    put(&things, "b", "2", Expiry::Never).await;
    let told = async |options| {
        let items = items(&things, options).await;
        items.into_iter().map(|item| item.entry.expect("it was asked for").unwrap().expiry).collect::<Vec<_>>()
    };
    assert_eq!(told(ListOptions::new()).await, [None, None]);
    let asked = told(ListOptions::new().with_expiry()).await;
    assert!(matches!(asked[..], [Some(Expiry::At(_)), Some(Expiry::Never)]), "{asked:?}");
}

/// However small the pages, walking them until no cursor is left finds every entry.
pub(super) async fn only_a_missing_cursor_ends_a_listing(scene: &Scene) {
    let things = scene.with_ids(ORDERED).await;
    for limit in 1..=ORDERED.len() + 1 {
        assert_eq!(walk(&things, ListOptions::new().limit(limit)).await, ORDERED, "with pages of {limit}");
    }
}

/// A cursor is text that means the same to every handle.
pub(super) async fn a_cursor_survives_a_restart(scene: &Scene) {
    let things = scene.with_ids(ORDERED).await;
    let page = things.list_with(ListOptions::new().limit(5)).await.unwrap();
    let text = serde_json::to_string(&page.next.clone().expect("there is more")).expect("it is serialized");
    let cursor = serde_json::from_str(&text).expect("it is read back");
    let rest = walk(&scene.open(), ListOptions::new().limit(5).cursor(cursor)).await;
    let all: Vec<_> = page.ids().map(str::to_owned).chain(rest).collect();
    assert_eq!(all, ORDERED);
}

/// While others insert and remove, each entry that stays comes exactly once, and the order holds.
pub(super) async fn each_entry_that_stays_comes_exactly_once(scene: &Scene) {
    // Several stories from a small generator of numbers, so that a failure comes again.
    for (seed, reverse) in [(1, false), (2, true), (3, false)] {
        let things = scene.at("", &format!("story {seed}"), &[]);
        change_between_pages(&things, Numbers(seed), reverse).await;
    }
    change_while_pages_are_read(&scene.at("", "crowd", &[])).await;
}

/// A linear congruential generator, with Knuth's constants.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn id(&mut self) -> String {
        format!("{:03}", self.below(200))
    }
}

/// Walks the pages once, changes what is there between them, and compares with a model.
async fn change_between_pages(things: &Handle, mut numbers: Numbers, reverse: bool) {
    // What is there, and whether it was since before the walk, without a break.
    let mut model = BTreeMap::new();
    for _ in 0..60 {
        let id = numbers.id();
        put(things, &id, &id, Condition::Always).await;
        model.insert(id, true);
    }
    let mut options = ListOptions::new();
    options.reverse = reverse;
    let mut seen = Vec::new();
    loop {
        options.limit = 1 + numbers.below(9) as usize;
        let page = things.list_with(options.clone()).await.unwrap();
        seen.extend(page.ids().map(str::to_owned));
        assert!(seen.len() < 1000, "the listing does not end");
        let Some(next) = page.next else { break };
        options.cursor = Some(next);
        for _ in 0..6 {
            let id = numbers.id();
            if numbers.below(2) == 0 {
                put(things, &id, &id, Condition::Always).await;
                model.entry(id).or_insert(false);
            } else {
                things.destroy(&id).await.unwrap();
                model.remove(&id);
            }
        }
    }
    let stayed = model.iter().filter(|(_, stayed)| **stayed).map(|(id, _)| id.as_str());
    assert_once(&seen, reverse, stayed);
}

/// Walks the pages while tasks on other threads save and destroy what lies between.
async fn change_while_pages_are_read(things: &Handle) {
    const STAYING: [&str; 8] = ["010", "030", "050", "070", "090", "110", "130", "150"];
    const CHANGES: usize = 100;
    for id in STAYING {
        put(things, id, id, Condition::Always).await;
    }
    let changes = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let crowd: Vec<_> = (0..3)
        .map(|seed| {
            let (things, changes, done) = (things.clone(), changes.clone(), done.clone());
            tokio::spawn(async move {
                let mut numbers = Numbers(seed);
                while !done.load(Ordering::Relaxed) {
                    let id = numbers.id();
                    if !STAYING.contains(&id.as_str()) {
                        put(&things, &id, &id, Condition::Always).await;
                        tokio::task::yield_now().await;
                        things.destroy(&id).await.expect("a destroy succeeds");
                        changes.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    // A task as well, so that whatever yields within a page lets the crowd go ahead; and for long
    // enough that some change falls between any two steps of a page.
    let walker = {
        let (things, changes) = (things.clone(), changes.clone());
        tokio::spawn(async move {
            let started = Instant::now();
            let mut walks = Vec::new();
            while started.elapsed() < Duration::from_millis(100) || changes.load(Ordering::Relaxed) < CHANGES {
                walks.push(walk(&things, ListOptions::new().limit(1 + walks.len() % 5)).await);
                tokio::task::yield_now().await;
            }
            walks
        })
    };
    let walks = walker.await.expect("a walk ends");
    done.store(true, Ordering::Relaxed);
    for member in crowd {
        member.await.expect("no task fails");
    }
    for seen in walks {
        assert_once(&seen, false, STAYING);
    }
}

/// Asserts that the ids are in order, that none comes twice, and that all of these came.
fn assert_once<'a>(seen: &[String], reverse: bool, stayed: impl IntoIterator<Item = &'a str>) {
    let ordered = seen.windows(2).all(|pair| if reverse { pair[0] > pair[1] } else { pair[0] < pair[1] });
    assert!(ordered, "out of order, or twice: {seen:?}");
    let seen: BTreeSet<_> = seen.iter().map(String::as_str).collect();
    for id in stayed {
        assert!(seen.contains(id), "{id} was there throughout and did not come");
    }
}

/// What has expired is never listed, and hides nothing that lives.
pub(super) async fn what_has_expired_is_never_listed(scene: &Scene) {
    let things = scene.open();
    for n in 0..20 {
        let expiry = if n % 3 == 0 { Expiry::Never } else { Expiry::After(scene.short()) };
        put(&things, &format!("{n:02}"), "1", expiry).await;
    }
    scene.elapse(scene.short()).await;
    let living: Vec<_> = (0..20).step_by(3).map(|n| format!("{n:02}")).collect();
    for options in [ListOptions::new().limit(2), ListOptions::new().ids_only(), ListOptions::new().limit(1).reverse()] {
        let mut found = walk(&things, options).await;
        found.sort();
        assert_eq!(found, living);
    }
}

/// An entry that cannot be decoded is an error in its own item; the page holds the others.
pub(super) async fn what_cannot_be_decoded_is_reported_beside_the_others(scene: &Scene) {
    let things = scene.open();
    for (id, text) in [("a", "1"), ("b", Probe::UNDECODABLE), ("c", "3")] {
        put(&things, id, text, Condition::Always).await;
    }
    // Within the walk, one value that cannot be decoded does not fail its page.
    let items = items(&things, ListOptions::new()).await;
    assert_eq!(items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let texts: Vec<_> = items
        .into_iter()
        .map(|item| item.entry.expect("it was asked for").map(|entry| entry.value.text()).map_err(|error| error.kind()))
        .collect();
    let middle = if scene.fixture().encodes() { Err(ErrorKind::Decode) } else { Ok(Probe::UNDECODABLE.to_owned()) };
    assert_eq!(texts, [Ok("1".to_owned()), middle, Ok("3".to_owned())]);
}

/// A sub-collection's entries do not show in the collection above, nor the other way round.
pub(super) async fn a_child_never_shows_in_its_parent(scene: &Scene) {
    let (parent, child, grandchild) =
        (scene.open(), scene.at("", "things", &["a"]), scene.at("", "things", &["a", "b"]));
    for (things, id) in [(&parent, "parent"), (&child, "child"), (&grandchild, "grandchild")] {
        put(things, id, "1", Condition::Always).await;
    }
    for (things, id) in [(&parent, "parent"), (&child, "child"), (&grandchild, "grandchild")] {
        assert_eq!(walk(things, ListOptions::new()).await, [id]);
    }
}

/// Nothing of another prefix or name is listed, though it starts with the same letters.
pub(super) async fn nothing_outside_is_listed(scene: &Scene) {
    let things = scene.with_ids(&["inside"]).await;
    for (prefix, name) in [("", "things2"), ("", "thing"), ("2", "things"), ("", "things:inside"), ("", "*")] {
        put(&scene.at(prefix, name, &[]), "outside", "1", Condition::Always).await;
    }
    assert_eq!(walk(&things, ListOptions::new()).await, ["inside"]);
}

/// A page of ten takes about as long out of many entries as out of few.
pub(super) async fn a_page_costs_what_it_holds(scene: &Scene) {
    let things = scene.open();
    fill(&things, 0..20).await;
    let page = async || {
        let started = Instant::now();
        let mut options = ListOptions::new().limit(10);
        let mut found = 0;
        // A page may be short, even empty.
        while found < 10 {
            let page = things.list_with(options.clone()).await.unwrap();
            found += page.items.len();
            options.cursor = Some(page.next.expect("there are more than ten"));
        }
        started.elapsed()
    };
    let few = super::cost::least(&page).await;
    fill(&things, 20..2000).await;
    let many = super::cost::least(&page).await;
    super::cost::assert_alike(few, many);
}
