//! The contract of [`Collection`](crate::Collection), executable: one named test for each rule, for any backend.
//!
//! A backend's whole test file is a [`Fixture`], which says how to open a collection and how time
//! passes, and one line, [`conformance!`](crate::conformance!). The crate's front page shows one, under
//! *Writing a backend*.
//!
//! Each rule runs in a test of its own, on a runtime with several threads, in places with a prefix
//! that nobody else has; it deletes what it wrote and nothing else. No rule can be switched off. What
//! a fixture tells of itself, such as its precision, changes what a rule expects.
//!
#![doc = include_str!("RULES.md")]

mod absent;
mod cancel;
mod condition;
mod copy;
mod cost;
mod error;
mod expiry;
mod fixture;
mod id;
mod isolation;
mod list;
mod probe;
mod race;
mod run;
mod scene;
mod touch;

pub use fixture::Fixture;
pub use probe::Probe;
pub use run::{RULES, Rule, Verdict, check, run};

/// Runs the suite over a fixture: one test for each rule, in a module `conformance`.
///
/// The argument is a path to an `async fn` without arguments that returns a
/// `Fixture`. With `, not_indexed` behind it, for a collection that
/// keeps no index, each rule of listing asserts that listing is
/// [`Unsupported`](crate::ErrorKind::Unsupported), and every other rule runs. With a name before it,
/// `conformance!(arc: fixture)`, the module has that name, so that one file can run several suites.
#[macro_export]
macro_rules! conformance {
    ($fixture:path) => { $crate::conformance!(conformance: $fixture); };
    ($fixture:path, not_indexed) => { $crate::conformance!(conformance: $fixture, not_indexed); };
    ($module:ident: $fixture:path) => { $crate::__each_rule!([$crate::__rule_tests], $module, $fixture, true); };
    ($module:ident: $fixture:path, not_indexed) => { $crate::__each_rule!([$crate::__rule_tests], $module, $fixture, false); };
}

/// The list of all rules, by topic, in the order in which they build on each other: a defect is
/// caught first by the rule that is about it.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_rule {
    ([$($callback:tt)*] $(, $argument:tt)*) => { $($callback)*! { ($($argument),*)
        absent::load_of_an_absent_entry_is_none,
        absent::destroy_of_an_absent_entry_is_false,
        copy::a_value_comes_back_as_it_was_saved,
        condition::a_plain_save_replaces_whatever_is_there,
        condition::a_plain_destroy_removes_whatever_is_there,
        copy::handles_of_one_place_share_the_data,
        copy::what_is_stored_is_a_copy,
        id::every_byte_of_an_id_counts,
        id::an_id_may_have_1024_bytes,
        id::any_other_id_is_invalid,
        isolation::different_places_never_meet,
        isolation::sub_collections_nest,
        isolation::nothing_outside_is_destroyed,
        condition::save_returns_the_revision_that_load_reads,
        condition::another_state_has_another_revision,
        condition::a_revision_survives_as_text_and_for_another_handle,
        expiry::the_expiry_is_told_only_if_asked_for,
        expiry::the_expiry_that_is_told_is_a_time,
        expiry::a_deadline_is_kept_to_the_millisecond,
        expiry::a_save_never_expires_by_default,
        expiry::an_entry_expires_after_its_duration,
        expiry::an_entry_expires_at_its_time,
        expiry::keep_keeps_the_deadline,
        expiry::keep_on_an_absent_entry_is_a_conflict,
        expiry::no_lifetime_left_succeeds_and_leaves_nothing,
        expiry::beyond_the_year_9999_is_never,
        expiry::a_save_without_expiry_clears_an_older_one,
        absent::an_expired_entry_is_absent_for_every_verb,
        absent::an_expired_entry_is_absent_for_every_condition,
        touch::touch_of_zero_is_invalid,
        touch::touch_moves_the_deadline_later,
        touch::a_touch_is_kept_to_the_millisecond,
        touch::touch_moves_the_deadline_earlier,
        touch::touch_and_load_are_one_step,
        touch::touch_keeps_value_and_revision,
        touch::touch_never_resurrects,
        touch::a_touch_with_slack_moves_what_is_due,
        touch::a_touch_with_slack_ends_within_it,
        condition::absent_saves_only_where_nothing_is,
        condition::present_saves_only_where_something_is,
        condition::revision_saves_only_over_the_state_that_was_read,
        condition::revision_destroys_only_the_state_that_was_read,
        condition::a_revision_of_an_absent_entry_is_a_conflict,
        condition::a_miss_changes_nothing,
        expiry::an_update_that_keeps_ends_where_nothing_is_to_be_kept,
        condition::a_revision_left_out_is_none_or_right,
        list::a_listing_ascends_by_the_bytes_of_the_id,
        list::a_page_holds_no_more_than_its_limit,
        list::a_page_goes_on_behind_its_cursor,
        list::only_a_missing_cursor_ends_a_listing,
        list::a_page_holds_1000_entries_unless_told,
        list::starts_with_means_every_byte_as_it_stands,
        list::reverse_descends,
        list::ids_only_lists_ids_alone,
        list::a_listing_tells_the_expiry_if_asked_for,
        list::a_cursor_survives_a_restart,
        list::each_entry_that_stays_comes_exactly_once,
        list::what_has_expired_is_never_listed,
        list::what_cannot_be_decoded_is_reported_beside_the_others,
        list::a_child_never_shows_in_its_parent,
        list::nothing_outside_is_listed,
        error::what_cannot_be_decoded_is_an_error_and_stays,
        condition::no_entry_is_in_the_state_none,
        error::what_cannot_be_encoded_is_an_error_and_changes_nothing,
        error::a_refusal_was_not_applied,
        error::an_error_names_its_backend_and_verb,
        error::a_failing_store_says_why,
        error::no_id_and_no_value_is_in_an_error,
        cancel::a_dropped_call_leaves_the_collection_usable,
        cancel::a_dropped_save_leaves_the_old_or_the_new,
        cancel::a_dropped_destroy_leaves_the_old_or_nothing,
        cancel::a_dropped_touch_leaves_the_entry,
        cancel::what_was_dropped_overwrites_nothing_acknowledged_later,
        race::no_update_is_lost,
        race::absent_has_one_winner,
        race::take_has_one_winner,
        race::a_touch_undoes_no_update,
        race::nothing_is_brought_back_by_a_race,
        cost::load_save_and_destroy_do_not_grow_with_the_collection,
        list::a_page_costs_what_it_holds,
    } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __rule_tests {
    (($module:ident, $fixture:path, $indexed:literal) $($topic:ident::$rule:ident,)*) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $rule() {
                    $crate::conformance::run(stringify!($rule), $indexed, $fixture);
                }
            )*
        }
    };
}
