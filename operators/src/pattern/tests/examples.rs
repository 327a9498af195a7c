//! What Flink's documentation promises, example by example, and one for every combination of
//! contiguity and quantifier. Events are named by a letter and a number; they come 10 ms apart.

use thalweg_engine::time::millis;

use super::super::{Pattern, Skip};
use super::Driver;

type P = Pattern<String>;

fn is(letters: &'static str) -> impl Fn(&String) -> bool + Send + Sync + 'static {
    move |event| event.starts_with(|letter| letters.contains(letter))
}

fn found(pattern: &P, events: &str, is_timed_out: bool) -> Vec<String> {
    let mut driver = Driver::new(pattern);
    for (n, event) in events.split(' ').enumerate() {
        driver.feed(10 * n as i64, event.to_owned());
    }
    let mut found: Vec<String> = driver
        .finish()
        .iter()
        .filter(|found| found.is_timed_out == is_timed_out)
        .map(|found| found.stages.iter().flat_map(|(_, e)| e.clone()).collect::<Vec<_>>().join(" "))
        .collect();
    found.sort_unstable();
    found
}

/// Asserts that the matches are those given, separated by commas.
#[track_caller]
fn assert_matches(pattern: &P, events: &str, expected: &str) {
    let mut expected: Vec<&str> = expected.split(", ").filter(|m| !m.is_empty()).collect();
    expected.sort_unstable();
    assert_eq!(found(pattern, events, false), expected);
}

#[test]
fn contiguity_between_two_stages() {
    let a = || P::begin("a", is("a"));
    let events = "a c b1 b2";
    assert_matches(&a().next("b", is("b")), events, "");
    assert_matches(&a().followed_by("b", is("b")), events, "a b1");
    assert_matches(&a().followed_by_any("b", is("b")), events, "a b1, a b2");
    assert_matches(&a().next("b", is("b")), "a b1 b2", "a b1");
}

#[test]
fn contiguity_within_a_loop() {
    let b = || P::begin("a", is("a")).followed_by_any("b", is("b")).one_or_more();
    let events = "a b1 d1 b2 d2 b3 c";
    assert_matches(&b().consecutive().next("c", is("c")), events, "a b3 c");
    let relaxed = "a b1 c, a b1 b2 c, a b1 b2 b3 c, a b2 c, a b2 b3 c, a b3 c";
    assert_matches(&b().followed_by("c", is("c")), events, relaxed);
    let any = format!("{relaxed}, a b1 b3 c");
    assert_matches(&b().allow_combinations().followed_by("c", is("c")), events, &any);
}

#[test]
fn consecutive_and_combinations() {
    let events = "c d a1 a2 a3 d a4 b";
    let a = || P::begin("c", is("c")).followed_by("a", is("a")).one_or_more();
    let end = |p: P| p.followed_by("b", is("b"));
    assert_matches(&end(a().consecutive()), events, "c a1 b, c a1 a2 b, c a1 a2 a3 b");
    let relaxed = "c a1 b, c a1 a2 b, c a1 a2 a3 b, c a1 a2 a3 a4 b";
    assert_matches(&end(a()), events, relaxed);
    let from_first = "c a1 b, c a1 a2 b, c a1 a3 b, c a1 a4 b, c a1 a2 a3 b, c a1 a2 a4 b, \
                      c a1 a3 a4 b, c a1 a2 a3 a4 b";
    assert_matches(&end(a().allow_combinations()), events, from_first);
    let any = P::begin("c", is("c")).followed_by_any("a", is("a")).one_or_more();
    let rest = "c a2 b, c a2 a3 b, c a2 a4 b, c a2 a3 a4 b, c a3 b, c a3 a4 b, c a4 b";
    assert_matches(&end(any.allow_combinations()), events, &format!("{from_first}, {rest}"));
}

#[test]
fn a_loop_ends_with_until() {
    let pattern = P::begin("a", is("a")).one_or_more().until(is("b"));
    assert_matches(&pattern, "a1 c a2 b a3", "a1 a2, a1, a2, a3");
    // The event that ends the loop may be the next stage's.
    let pattern = P::begin("a", is("a")).one_or_more().until(is("b")).followed_by("b", is("b"));
    assert_matches(&pattern, "a1 a2 b1 a3 b2", "a1 b1, a1 a2 b1, a2 b1, a3 b2");
}

#[test]
fn skipping_after_a_match() {
    let pattern = |skip| {
        P::begin("b", is("b")).one_or_more().consecutive().next("c", is("c")).after_match(skip)
    };
    let events = "b1 b2 b3 c";
    let all = "b1 b2 b3 c, b2 b3 c, b3 c";
    assert_matches(&pattern(Skip::none()), events, all);
    assert_matches(&pattern(Skip::to_next()), events, all);
    assert_matches(&pattern(Skip::past_last_event()), events, "b1 b2 b3 c");
    assert_matches(&pattern(Skip::to_first("b")), events, all);
    assert_matches(&pattern(Skip::to_last("b")), events, "b1 b2 b3 c, b3 c");
}

#[test]
fn skipping_to_a_stage() {
    let pattern = |skip| {
        P::begin("any", is("abc"))
            .next("more", is("bc"))
            .next("c", is("c"))
            .one_or_more()
            .consecutive()
            .greedy()
            .next("d", is("d"))
            .after_match(skip)
    };
    let events = "a b c1 c2 c3 d";
    let all = "a b c1 c2 c3 d, b c1 c2 c3 d, c1 c2 c3 d";
    assert_matches(&pattern(Skip::none()), events, all);
    assert_matches(&pattern(Skip::to_first("c")), events, "a b c1 c2 c3 d, c1 c2 c3 d");
}

#[test]
fn at_most_one_match_per_first_event() {
    let pattern =
        |skip| P::begin("a", is("a")).followed_by("b", is("b")).one_or_more().after_match(skip);
    assert_matches(&pattern(Skip::none()), "a b1 b2 b3", "a b1, a b1 b2, a b1 b2 b3");
    assert_matches(&pattern(Skip::to_next()), "a b1 b2 b3", "a b1");
}

#[test]
fn a_match_waits_for_one_that_started_earlier() {
    // b1's partner comes later than b2's, and rules b2's match out.
    let pattern = P::begin("b", is("b"))
        .followed_by_any("c", is("c"))
        .where_with(|c, earlier| earlier.last("b").is_some_and(|b| b[1..] == c[1..]))
        .within(millis(50))
        .after_match(Skip::past_last_event());
    assert_matches(&pattern, "b1 b2 c2 c1 b3 c3", "b1 c1, b3 c3");
    // Without c1 it is given out when b1 is cut off, or when the input ends.
    assert_matches(&pattern, "b1 b2 c2 x x x b3 c3", "b2 c2, b3 c3");
    assert_matches(&pattern, "b1 b2 c2", "b2 c2");
}

#[test]
fn a_number_of_events_in_every_contiguity() {
    let begin = || P::begin("a", is("a"));
    let events = "a b1 d b2 b3 c";
    let times = |p: P| p.times(2);
    let c = |p: P| p.followed_by("c", is("c"));
    let next = || begin().next("b", is("b"));
    let relaxed = || begin().followed_by("b", is("b"));
    let any = || begin().followed_by_any("b", is("b"));
    assert_matches(&c(times(next())), events, "a b1 b2 c");
    assert_matches(&c(times(next()).consecutive()), events, "");
    assert_matches(&c(times(next()).allow_combinations()), events, "a b1 b2 c, a b1 b3 c");
    assert_matches(&c(times(relaxed())), events, "a b1 b2 c");
    assert_matches(&c(times(relaxed()).consecutive()), events, "");
    assert_matches(&c(times(relaxed()).allow_combinations()), events, "a b1 b2 c, a b1 b3 c");
    assert_matches(&c(times(any())), events, "a b1 b2 c, a b2 b3 c");
    assert_matches(&c(times(any()).consecutive()), events, "a b2 b3 c");
    let combinations = "a b1 b2 c, a b1 b3 c, a b2 b3 c";
    assert_matches(&c(times(any()).allow_combinations()), events, combinations);
    // The first of a pattern.
    assert_matches(&P::begin("b", is("b")).times(2), events, "b1 b2, b2 b3");
    assert_matches(&P::begin("b", is("b")).times(2).consecutive(), events, "b2 b3");
}

#[test]
fn a_range_of_events() {
    let b = || P::begin("a", is("a")).followed_by("b", is("b"));
    let c = |p: P| p.followed_by("c", is("c"));
    let events = "a b1 b2 b3 b4 c";
    assert_matches(&c(b().times_range(2, 3)), events, "a b1 b2 c, a b1 b2 b3 c");
    assert_matches(&c(b().times_range(2, 3).greedy()), events, "a b1 b2 b3 c");
    assert_matches(&c(b().times_range(2, 4).greedy()), events, "a b1 b2 b3 b4 c");
    assert_matches(&c(b().times_range(0, 1)), events, "a c, a b1 c");
    let or_more = "a b1 b2 b3 c, a b1 b2 b3 b4 c";
    assert_matches(&c(b().times_or_more(3)), events, or_more);
    assert_matches(&c(b().times_or_more(3).optional()), events, &format!("a c, {or_more}"));
    assert_matches(&c(b().times_or_more(5)), events, "");
}

#[test]
fn optional_stages() {
    let a = || P::begin("a", is("a"));
    let c = |p: P| p.followed_by("c", is("c"));
    assert_matches(&c(a().next("b", is("b")).optional()), "a b c", "a b c, a c");
    assert_matches(&c(a().followed_by("b", is("b")).optional()), "a d b c", "a b c, a c");
    assert_matches(&a().next("b", is("b")).optional().next("c", is("c")), "a b c", "a b c");
    assert_matches(&a().followed_by("b", is("b")).optional(), "a d b", "a, a b");
    let loops = c(a().followed_by("b", is("b")).one_or_more().optional());
    assert_matches(&loops, "a b1 b2 c", "a c, a b1 c, a b1 b2 c");
    assert_matches(&loops, "a c", "a c");
    // Also at the beginning, and two in a row.
    let first = P::begin("a", is("a")).optional().followed_by("c", is("c"));
    assert_matches(&first, "a c1 c2", "a c1, c1, c2");
    let two = c(a().followed_by("b", is("b")).optional().followed_by("d", is("d")).optional());
    assert_matches(&two, "a b d c", "a c, a b c, a d c, a b d c");
}

#[test]
fn greedy_loops_leave_nothing_to_later_stages() {
    let greedy = |letters| {
        P::begin("a", is("a"))
            .followed_by("b", is("b"))
            .one_or_more()
            .greedy()
            .followed_by("c", is(letters))
    };
    assert_matches(&greedy("c"), "a b1 b2 c", "a b1 b2 c");
    assert_matches(&greedy("c"), "a b1 d b2 d c1 c2", "a b1 b2 c1");
    // An event that both could take is the loop's.
    assert_matches(&greedy("bc"), "a b1 b2 b3 c", "a b1 b2 b3 c");
    let lazy =
        P::begin("a", is("a")).followed_by("b", is("b")).one_or_more().followed_by("c", is("bc"));
    assert_matches(&lazy, "a b1 b2 b3 c", "a b1 b2, a b1 b2 b3, a b1 b2 b3 c");
    let none = P::begin("a", is("a"))
        .followed_by("b", is("b"))
        .one_or_more()
        .optional()
        .greedy()
        .followed_by("c", is("c"));
    assert_matches(&none, "a b1 b2 c", "a b1 b2 c");
    assert_matches(&none, "a c", "a c");
}

#[test]
fn negations() {
    let a = || P::begin("a", is("a"));
    let c = |p: P| p.followed_by("c", is("c"));
    let not_next = c(a().not_next("b", is("b")));
    assert_matches(&not_next, "a b c", "");
    assert_matches(&not_next, "a d b c", "a c");
    assert_matches(&not_next, "a c", "a c");
    let never = c(a().not_followed_by("b", is("b")));
    assert_matches(&never, "a d b c", "");
    assert_matches(&never, "a d c b", "a c");
    assert_matches(&never, "a1 b a2 c", "a2 c");
    // An optional stage behind it lifts it.
    let lifted = a()
        .not_followed_by("b", is("b"))
        .followed_by_any("c", is("c"))
        .optional()
        .followed_by_any("d", is("d"));
    assert_matches(&lifted, "a c b d", "a c d");
    assert_matches(&lifted, "a b d", "");
    // Behind a loop it ends the loop, too.
    let behind_loop = c(a().one_or_more().not_followed_by("b", is("b")));
    assert_matches(&behind_loop, "a1 b a2 c", "a2 c");
}

#[test]
fn negations_at_the_end() {
    let a = || P::begin("a", is("a"));
    let never = a().not_followed_by("b", is("b")).within(millis(20));
    assert_matches(&never, "a1 b a2 c", "a2");
    // At the end of the time the negation does not count any more.
    assert_matches(&never, "a1 c b", "a1");
    assert_eq!(found(&never, "a1 b a2 c", true), Vec::<String>::new());
    let not_next = a().not_next("b", is("b"));
    assert_matches(&not_next, "a1 b a2 c a3", "a2");
    assert_eq!(found(&not_next.within(millis(20)), "a1 b a2 c a3", true), ["a3"]);
}

#[test]
fn within_excludes_its_end() {
    let pattern = |ms| P::begin("a", is("a")).followed_by("b", is("b")).within(millis(ms));
    assert_matches(&pattern(21), "a c b", "a b");
    assert_matches(&pattern(20), "a c b", "");
    assert_eq!(found(&pattern(20), "a c b", true), ["a"]);
    assert_eq!(found(&pattern(21), "a c b", true), Vec::<String>::new());
    // A loop at the end was a match: that it ends is no time-out.
    let pattern = P::begin("a", is("a")).followed_by("b", is("b")).one_or_more().within(millis(20));
    assert_matches(&pattern, "a b c c c", "a b");
    assert_eq!(found(&pattern, "a1 b a2 c c", true), ["a2"]);
}

#[test]
fn conditions_see_what_was_taken() {
    // Numbers that rise, and at most three of them.
    let number = |event: &String| event[1..].parse::<i32>().unwrap_or(0);
    let rising = P::begin("a", is("a"))
        .followed_by("b", is("b"))
        .one_or_more()
        .where_with(move |event, earlier| {
            earlier.last("b").is_none_or(|last| number(last) < number(event))
                && earlier.events("b").len() < 3
        })
        .followed_by("c", is("c"));
    assert_matches(&rising, "a b5 b3 b6 b7 b8 c", "a b5 c, a b5 b6 c, a b5 b6 b7 c");
    let either = P::begin("a", is("a")).and_where(|e| e.ends_with('1')).or_where(is("b"));
    assert_matches(&either, "a1 a2 b1 b2 c1", "a1, b1, b2");
}
