//! Each wrong combination is named, and the right ones are not.

use thalweg_engine::time::millis;

use super::super::{Pattern, Skip};

type P = Pattern<u8>;

fn yes(_: &u8) -> bool {
    true
}

#[test]
fn wrong_combinations_are_named() {
    let a = || P::begin("a", yes);
    let wrong: [(P, &str); 22] = [
        (P::begin("", yes), "a stage has no name"),
        (a().next("a", yes), "two stages have the name `a`"),
        (a().not_next("a", yes).next("b", yes), "two stages have the name `a`"),
        (a().not_followed_by("n", yes), "the pattern ends with the negation `n`"),
        (
            a().not_followed_by("n", yes).not_next("m", yes),
            "the pattern ends with the negation `n`",
        ),
        (a().optional(), "every stage is optional"),
        (
            a().next("b", yes).optional().not_next("n", yes).next("c", yes),
            "the negation `n` stands behind an optional stage",
        ),
        (a().not_next("n", yes).optional().next("c", yes), "the negation `n` has a quantifier"),
        (
            a().not_followed_by("n", yes).times(2).next("c", yes),
            "the negation `n` has a quantifier",
        ),
        (a().times(2).one_or_more(), "stage `a` has two quantifiers"),
        (a().times(0), "stage `a` asks for 0 to 0 events"),
        (a().times_range(3, 2), "stage `a` asks for 3 to 2 events"),
        (a().times_or_more(0), "stage `a` asks for 0 to any number events"),
        (a().greedy().next("b", yes), "stage `a` is greedy, but takes one event"),
        (
            a().one_or_more().greedy().allow_combinations().next("b", yes),
            "stage `a` is greedy and allows combinations",
        ),
        (a().one_or_more().greedy(), "no stage that must occur stands behind it"),
        (a().consecutive(), "stage `a` takes one event"),
        (
            a().one_or_more().consecutive().allow_combinations(),
            "stage `a` is both consecutive and allows combinations",
        ),
        (a().times(2).until(yes), "stage `a` has `until`, but is no loop"),
        (a().one_or_more().until(yes).until(yes), "stage `a` has two `until`"),
        (a().within(millis(0)), "no match is within 0 ms"),
        (a().after_match(Skip::to_first("b")), "it skips to `b`, but no stage has this name"),
    ];
    for (pattern, expected) in wrong {
        let problems = pattern.problems();
        assert!(problems.iter().any(|p| p.contains(expected)), "{expected}: {problems:?}");
    }
    let negated = a().not_next("n", yes).next("b", yes).after_match(Skip::to_last("n"));
    assert_eq!(negated.problems(), ["it skips to `n`, but no stage has this name"]);
    let long = (0..64).fold(a(), |pattern, n| pattern.next(format!("s{n}"), yes));
    assert_eq!(long.problems(), ["a pattern has up to 63 stages"]);
}

#[test]
fn right_combinations_have_no_problem() {
    let a = || P::begin("a", yes);
    let right = [
        a(),
        a().not_followed_by("n", yes).within(millis(1)),
        a().not_next("n", yes),
        a().times_range(0, 2).greedy().next("b", yes).after_match(Skip::to_last("a")),
        a().one_or_more().consecutive().until(yes).next("b", yes).optional(),
        (0..62).fold(a(), |pattern, n| pattern.next(format!("s{n}"), yes)),
    ];
    for pattern in right {
        assert_eq!(pattern.problems(), Vec::<String>::new());
    }
}
