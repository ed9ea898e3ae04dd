"""Section 3.2's pairs and the filters of App. B.1, each value by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.config import PairsConfig
from itool_pipeline.core.preference_pairs import (
    Candidate,
    Fork,
    PairVerdict,
    PreferencePair,
    balance_pairs,
    judge_pair,
    limit_pairs,
    pair_by_probability,
    pairs_of,
    step_advances,
    text_similarity,
    true_by_gold,
)

FILTERS = PairsConfig()
ALL = PairsConfig(per_node="all")


def _only(found: Iterable[PreferencePair]) -> PreferencePair:
    (pair,) = found
    return pair


def _children(*qs: float) -> list[Candidate]:
    return [Candidate(10 + i, "pqrstuvw"[i] * 4, q) for i, q in enumerate(qs)]


def test_the_shipped_thresholds_are_the_papers() -> None:
    assert PairsConfig() == PairsConfig(max_similarity=0.95, min_q_difference=0.1, min_chosen_q=0.3)


@pytest.mark.parametrize("qs", [(), (1.0,)])
def test_fewer_than_two_children_make_no_pair(qs: tuple[float, ...]) -> None:
    assert list(pairs_of(Fork("t", 3, _children(*qs)), FILTERS)) == []


def test_highest_and_lowest_make_the_pair() -> None:
    pair = _only(pairs_of(Fork("t", 3, _children(0.5, -1.0, 2.0, 0.0)), FILTERS))
    assert pair == PreferencePair("t", 3, 12, 11, 2.0, -1.0, 3.0, 0.0, PairVerdict.KEPT)


def test_of_equals_the_first_is_best_and_the_last_is_worst() -> None:
    pair = _only(pairs_of(Fork("t", 0, _children(1.0, 0.5, 1.0, 0.0, 0.0)), FILTERS))
    assert (pair.chosen, pair.rejected) == (10, 14)
    level = _only(pairs_of(Fork("t", 0, _children(1.0, 1.0, 1.0)), FILTERS))
    assert (level.chosen, level.rejected, level.verdict) == (10, 12, PairVerdict.CLOSE)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("abcd", "abcd", 1.0),
        ("abcd", "wxyz", 0.0),
        ("abcd", "abxy", 0.5),  # 2 · 2 / 8
        ("a=1, ", "a=2, ", 0.8),  # 2 · 4 / 10
        ("x" * 19 + "y", "x" * 19 + "z", 0.95),  # 2 · 19 / 40
        ("", "", 1.0),
        ("", "a", 0.0),
    ],
)
def test_similarity_by_hand(a: str, b: str, expected: float) -> None:
    assert text_similarity(a, b) == pytest.approx(expected)


def test_frequent_characters_count_in_long_texts() -> None:
    # difflib's own default calls a character junk that makes up 1% of 200 or more
    assert text_similarity("x" + "ab" * 150, "ab" * 150) == pytest.approx(600 / 601)


@pytest.mark.parametrize(
    ("alike", "chosen", "rejected", "verdict"),
    [
        (0.0, 1.0, 0.0, PairVerdict.KEPT),
        (0.96, 1.0, 0.0, PairVerdict.SIMILAR),
        (0.0, 1.0, 0.95, PairVerdict.CLOSE),
        (0.0, 0.29, -1.0, PairVerdict.LOW),
        # at the thresholds: similarity above 95%, a difference less than 0.1, an accepted Q below 0.3 are excluded
        (0.95, 1.0, 0.0, PairVerdict.KEPT),
        (0.0, 0.5, 0.375, PairVerdict.KEPT),
        (0.0, 0.3, 0.0, PairVerdict.KEPT),
        # the first filter that refuses is named
        (0.96, 0.0, 0.0, PairVerdict.SIMILAR),
        (0.0, 0.0, 0.0, PairVerdict.CLOSE),
        (0.96, 0.0, -1.0, PairVerdict.SIMILAR),
    ],
)
def test_filters_in_order_by_hand(alike: float, chosen: float, rejected: float, verdict: PairVerdict) -> None:
    assert judge_pair(alike, chosen, rejected, FILTERS) is verdict


def test_a_difference_at_the_threshold_is_kept() -> None:
    filters = PairsConfig(min_q_difference=0.125)
    assert judge_pair(0.0, 1.0, 0.875, filters) is PairVerdict.KEPT
    assert judge_pair(0.0, 1.0, 0.876, filters) is PairVerdict.CLOSE


def test_a_pair_of_near_copies_is_refused() -> None:
    same = [Candidate(1, "]", 2.0), Candidate(2, "]", 0.0)]
    pair = _only(pairs_of(Fork("t", 0, same), FILTERS))
    assert (pair.similarity, pair.verdict) == (1.0, PairVerdict.SIMILAR)
    kept = _only(pairs_of(Fork("t", 0, same), PairsConfig(max_similarity=1.0)))
    assert kept.verdict is PairVerdict.KEPT


def test_the_filters_look_at_the_best_and_the_worst_only() -> None:
    # the middle child is a copy of the best one; the worst is not
    children = [Candidate(1, "aaaa", 0.9), Candidate(2, "aaaa", 0.5), Candidate(3, "bbbb", 0.0)]
    pair = _only(pairs_of(Fork("t", 0, children), FILTERS))
    assert (pair.chosen, pair.rejected, pair.verdict) == (1, 3, PairVerdict.KEPT)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8))
def test_no_child_is_better_than_chosen_or_worse_than_rejected(qs: list[float]) -> None:
    pair = _only(pairs_of(Fork("t", 0, _children(*qs)), FILTERS))
    assert (pair.chosen_q, pair.rejected_q) == (max(qs), min(qs))
    assert (qs[pair.chosen - 10], qs[pair.rejected - 10]) == (max(qs), min(qs))
    assert pair.chosen != pair.rejected
    kept = max(qs) - min(qs) >= 0.1 and max(qs) >= 0.3
    assert (pair.verdict is PairVerdict.KEPT) == kept


def test_all_pairs_by_hand() -> None:
    # Q 0.5, -1, 0.25, 0.45: 0.5 and 0.45 are too close, and below 0.3 nothing is chosen
    found = list(pairs_of(Fork("t", 3, _children(0.5, -1.0, 0.25, 0.45)), ALL))
    assert [(p.chosen, p.rejected, p.margin, p.verdict) for p in found] == [
        (10, 13, pytest.approx(0.05), PairVerdict.CLOSE),
        (10, 12, 0.25, PairVerdict.KEPT),
        (10, 11, 1.5, PairVerdict.KEPT),
        (13, 12, pytest.approx(0.2), PairVerdict.KEPT),
        (13, 11, 1.45, PairVerdict.KEPT),
        (12, 11, 1.25, PairVerdict.LOW),
    ]
    assert all((p.tree_id, p.node, p.similarity) == ("t", 3, 0.0) for p in found)


TEXTS = st.text("ab=1,", max_size=4)


@given(st.lists(st.tuples(st.floats(-2, 2), TEXTS), max_size=7), st.floats(0, 1), st.floats(-1, 1))
def test_all_pairs_are_those_of_a_brute_force_over_children(
    rows: list[tuple[float, str]], margin: float, lowest: float
) -> None:
    children = [Candidate(i, text, q) for i, (q, text) in enumerate(rows)]
    filters = PairsConfig(per_node="all", max_similarity=0.8, min_q_difference=margin, min_chosen_q=lowest)
    found = list(pairs_of(Fork("t", 0, children), filters))
    kept = {(p.chosen, p.rejected) for p in found if p.verdict is PairVerdict.KEPT}
    expected = set()
    for i, (q, text) in enumerate(rows):
        for j, (other_q, other) in enumerate(rows):
            better = q > other_q or (q == other_q and i < j)
            if i != j and better and q - other_q >= margin and q >= lowest and text_similarity(text, other) <= 0.8:
                expected.add((i, j))
    assert kept == expected
    assert len(found) == len(rows) * (len(rows) - 1) // 2
    assert len({frozenset((p.chosen, p.rejected)) for p in found}) == len(found)
    extreme = list(pairs_of(Fork("t", 0, children), filters.model_copy(update={"per_node": "extremes"})))
    assert len(extreme) == (len(rows) > 1)
    assert set(extreme) <= set(found)


def _likely(*ps: float, q: float = 0.0) -> list[Candidate]:
    return [Candidate(i, "pqrstuvw"[i] * 4, q, p) for i, p in enumerate(ps)]


def test_without_a_search_the_probability_chooses_whatever_q_says() -> None:
    children = [Candidate(1, "aaaa", 1.0, 0.2), Candidate(2, "bbbb", -1.0, 0.7), Candidate(3, "cccc", 0.0, 0.4)]
    pair = pair_by_probability(Fork("t", 0, children), 0.95)
    assert pair == PreferencePair("t", 0, 2, 1, -1.0, 1.0, pytest.approx(0.5), 0.0, PairVerdict.KEPT)
    assert _only(pairs_of(Fork("t", 0, children), FILTERS)) == PreferencePair(
        "t", 0, 1, 2, 1.0, -1.0, 2.0, 0.0, PairVerdict.KEPT
    )


def test_without_a_search_only_likeness_refuses() -> None:
    assert pair_by_probability(Fork("t", 0, _likely(0.5)), 0.95) is None
    low = pair_by_probability(Fork("t", 0, _likely(0.5, 0.499, q=-9.0)), 0.95)
    assert low is not None
    assert low.verdict is PairVerdict.KEPT
    same = pair_by_probability(Fork("t", 0, [Candidate(1, "x", 2.0, 0.9), Candidate(2, "x", 0.0, 0.1)]), 0.95)
    assert same is not None
    assert same.verdict is PairVerdict.SIMILAR
    level = pair_by_probability(Fork("t", 0, _likely(0.5, 0.5)), 0.95)
    assert level is not None
    assert level.verdict is PairVerdict.CLOSE


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_no_response_is_likelier_than_the_chosen_one(ps: list[float]) -> None:
    pair = pair_by_probability(Fork("t", 0, _likely(*ps)), 0.95)
    assert pair is not None
    assert (ps[pair.chosen], ps[pair.rejected]) == (max(ps), min(ps))
    assert pair.margin == max(ps) - min(ps)


def _pair(tree: str, node: int, difference: float, verdict: PairVerdict = PairVerdict.KEPT) -> PreferencePair:
    return PreferencePair(tree, node, 2 * node + 1, 2 * node + 2, 1.0 + difference, 1.0, difference, 0.0, verdict)


def test_limit_keeps_the_largest_differences_in_their_places() -> None:
    pairs = [_pair("a", 0, 0.5), _pair("a", 1, 9.0, PairVerdict.SIMILAR), _pair("b", 0, 2.0), _pair("b", 4, 1.0)]
    limited = limit_pairs(pairs, 2)
    assert limited == [replace(pairs[0], verdict=PairVerdict.OVER_LIMIT), *pairs[1:]]
    assert limit_pairs(pairs, 3) == limit_pairs(pairs, None) == pairs
    assert [p.verdict for p in limit_pairs(pairs, 1)] == [
        PairVerdict.OVER_LIMIT,
        PairVerdict.SIMILAR,
        PairVerdict.KEPT,
        PairVerdict.OVER_LIMIT,
    ]
    assert limit_pairs([], 5) == []


def test_the_limit_goes_by_the_margin_and_not_by_q() -> None:
    pairs = [replace(_pair("a", 0, 0.1), chosen_q=9.0), replace(_pair("b", 0, 0.2), chosen_q=-9.0)]
    assert [p.verdict for p in limit_pairs(pairs, 1)] == [PairVerdict.OVER_LIMIT, PairVerdict.KEPT]


def test_of_equal_differences_tree_and_node_decide() -> None:
    pairs = [_pair("b", 1, 1.0), _pair("a", 7, 1.0), _pair("a", 2, 1.0)]
    assert [p.verdict for p in limit_pairs(pairs, 1)] == [
        PairVerdict.OVER_LIMIT,
        PairVerdict.OVER_LIMIT,
        PairVerdict.KEPT,
    ]
    assert limit_pairs(iter(pairs), 2)[0].verdict is PairVerdict.OVER_LIMIT


@given(
    st.lists(st.tuples(st.floats(0, 4), st.sampled_from([PairVerdict.KEPT, PairVerdict.LOW])), max_size=12),
    st.integers(1, 6),
)
def test_nothing_marked_is_larger_than_what_is_kept(rows: list[tuple[float, PairVerdict]], most: int) -> None:
    pairs = [_pair("t", i, difference, verdict) for i, (difference, verdict) in enumerate(rows)]
    limited = limit_pairs(pairs, most)
    kept = [p.margin for p in limited if p.verdict is PairVerdict.KEPT]
    over = [p.margin for p in limited if p.verdict is PairVerdict.OVER_LIMIT]
    assert len(kept) == min(most, sum(v is PairVerdict.KEPT for _, v in rows))
    assert min(kept, default=9) >= max(over, default=0)
    assert sum(p.verdict is PairVerdict.LOW for p in limited) == sum(v is PairVerdict.LOW for _, v in rows)


def _steps(*rows: tuple[float, float, bool] | tuple[float, float, bool, bool]) -> list[Candidate]:
    """(Q, p, flawed) of each child, and whether it advances."""
    return [Candidate(10 + i, "pqrstuvw"[i] * 4, *row) for i, row in enumerate(rows)]


TRUE = PairsConfig(truth="gold", min_q_difference=None, min_chosen_q=None)


def test_a_sound_step_is_preferred_to_the_likeliest_flawed_one() -> None:
    steps = _steps((-0.5, 0.1, False), (-0.2, 0.2, False), (0.9, 0.3, True), (-1.0, 0.6, True), (-2.0, 0.5, True))
    pair = _only(pairs_of(Fork("t", 0, steps), TRUE))
    # whatever Q says of the flawed ones; among sound ones it decides
    assert (pair.chosen, pair.rejected, pair.verdict) == (11, 13, PairVerdict.KEPT)
    assert pair.margin == pytest.approx(0.8)
    every = list(pairs_of(Fork("t", 0, steps), TRUE.model_copy(update={"per_node": "all"})))
    assert {(p.chosen, p.rejected) for p in every} == {(c, r) for c in (10, 11) for r in (12, 13, 14)}
    assert {p.verdict for p in every} == {PairVerdict.KEPT}


def test_one_of_sixteen_kinds_of_pairs_is_true() -> None:
    kinds = product((False, True), repeat=4)
    true = [(*flaws, advances) for *flaws, advances in kinds if true_by_gold(*flaws, advances=advances)]
    assert true == [(False, False, True, True)]


@pytest.mark.parametrize(
    ("given", "correct", "outcome", "before", "advances"),
    [
        (False, None, 0.5, 0.25, True),  # an item more is right
        (False, None, 0.25, 0.25, False),  # nothing is finished, or as much is dropped as is right
        (False, None, 0.0, 0.25, False),  # an argument is dropped
        (False, None, -0.125, -0.25, True),  # below 0 as well
        (True, None, 0.25, 0.25, True),  # the gold answer's own, in the middle of a value
        (False, True, 1.0, 0.5, True),
        (False, True, 0.5, 0.5, True),  # the right answer, though O is set no higher
        (False, False, -1.0, 0.5, False),
    ],
)
def test_what_brings_the_answer_on(
    given: bool, correct: bool | None, outcome: float, before: float, advances: bool
) -> None:
    assert step_advances(given=given, correct=correct, outcome=outcome, before=before) is advances


@pytest.mark.parametrize(("per_node", "chosen"), [("extremes", [12]), ("all", [12, 13])])
def test_a_step_that_brings_nothing_on_is_not_chosen(per_node: str, chosen: list[int]) -> None:
    """Whatever Q says of it; nor is it rejected."""
    filters = TRUE.model_copy(update={"per_node": per_node})
    steps = _steps((0.9, 0.9, False, False), (0.1, 0.5, True), (-0.2, 0.2, False, True), (-0.5, 0.1, False, True))
    found = list(pairs_of(Fork("t", 0, steps), filters))
    assert [(p.chosen, p.rejected, p.verdict) for p in found] == [(c, 11, PairVerdict.KEPT) for c in chosen]


@pytest.mark.parametrize("per_node", ["extremes", "all"])
def test_a_node_whose_only_sound_step_brings_nothing_on_is_untrue(per_node: str) -> None:
    filters = TRUE.model_copy(update={"per_node": per_node})
    steps = _steps((0.9, 0.5, False, False), (0.5, 0.4, True, True), (-0.5, 0.6, True, True))
    pair = _only(pairs_of(Fork("t", 0, steps), filters))
    assert (pair.chosen, pair.rejected, pair.verdict) == (10, 12, PairVerdict.UNTRUE)
    by_q = _only(pairs_of(Fork("t", 0, steps), FILTERS))
    assert (by_q.chosen, by_q.rejected, by_q.verdict) == (10, 12, PairVerdict.KEPT), "truth is not asked for"


@pytest.mark.parametrize(
    ("flawed_before", "flaws"), [(True, (False, True)), (False, (False, False)), (False, (True, True))]
)
def test_without_truth_the_node_is_accounted_for_and_refused(flawed_before: bool, flaws: tuple[bool, bool]) -> None:
    steps = _steps((0.9, 0.5, flaws[0]), (0.1, 0.5, flaws[1]))
    pair = _only(pairs_of(Fork("t", 0, steps, flawed=flawed_before), TRUE))
    assert (pair.chosen, pair.rejected, pair.verdict) == (10, 11, PairVerdict.UNTRUE)
    assert _only(pairs_of(Fork("t", 0, steps, flawed=flawed_before), FILTERS)).verdict is PairVerdict.KEPT
    three = _steps((0.9, 0.5, flaws[0]), (0.1, 0.5, flaws[1]), (-0.5, 0.5, flaws[1]))
    every = TRUE.model_copy(update={"per_node": "all"})
    pair = _only(pairs_of(Fork("t", 0, three, flawed=flawed_before), every))
    assert (pair.chosen, pair.rejected, pair.verdict) == (10, 12, PairVerdict.UNTRUE), "once, of however many"


def test_the_other_filters_hold_for_true_pairs_too() -> None:
    steps = _steps((0.25, 0.5, False), (0.2, 0.5, True))
    for filters, verdict in (
        (PairsConfig(truth="gold"), PairVerdict.CLOSE),
        (PairsConfig(truth="gold", min_q_difference=0.01), PairVerdict.LOW),
        (PairsConfig(truth="gold", min_q_difference=0.01, min_chosen_q=0.25), PairVerdict.KEPT),
    ):
        assert _only(pairs_of(Fork("t", 0, steps), filters)).verdict is verdict


@pytest.mark.parametrize(
    ("q_above", "lowest", "verdict"),
    [
        # Q of the chosen is -0.25; V of the node is -0.5; the others' mean is (-0.5 - 1.5) / 2 = -1
        ("zero", -0.25, PairVerdict.KEPT),
        ("zero", -0.24, PairVerdict.LOW),
        ("value", 0.25, PairVerdict.KEPT),
        ("value", 0.26, PairVerdict.LOW),
        ("siblings", 0.75, PairVerdict.KEPT),
        ("siblings", 0.76, PairVerdict.LOW),
    ],
)
def test_what_the_lowest_q_counts_from(q_above: str, lowest: float, verdict: PairVerdict) -> None:
    filters = PairsConfig.model_validate({"q_above": q_above, "min_chosen_q": lowest})
    assert _only(pairs_of(Fork("t", 0, _children(-0.5, -0.25, -1.5), value=-0.5), filters)).verdict is verdict


def test_balance_takes_the_smallest_margins_of_the_larger_side() -> None:
    pairs = [_pair("a", i, margin) for i, margin in enumerate((0.5, 3.0, 1.0, 2.0, 0.1))]
    pairs.append(_pair("b", 7, 9.0, PairVerdict.SIMILAR))
    side = {0: 1, 1: 1, 2: 1, 3: -1, 4: 0, 7: -1}
    balanced = balance_pairs(replace(pair, side=side[pair.node]) for pair in pairs)
    assert {p.node: p.verdict for p in balanced if p.verdict is not PairVerdict.KEPT} == {
        0: PairVerdict.UNBALANCED,
        2: PairVerdict.UNBALANCED,
        7: PairVerdict.SIMILAR,  # refused before, so it weighs nothing
    }
    assert balance_pairs(pairs) == pairs, "of no side"
    alone = [replace(pair, side=-1) for pair in pairs[:3]]
    assert [p.verdict for p in balance_pairs(alone)] == [PairVerdict.UNBALANCED] * 3


def test_a_limit_for_each_tree_comes_before_the_limit_for_all() -> None:
    pairs = [_pair("a", 0, 5.0), _pair("a", 1, 4.0), _pair("a", 2, 6.0), _pair("b", 0, 1.0), _pair("c", 0, 2.0)]
    kept = [[p.margin for p in limit_pairs(pairs, most, of_tree) if p.verdict is PairVerdict.KEPT]
            for most, of_tree in ((None, 1), (None, 2), (2, 1), (3, 2))]  # fmt: skip
    assert kept == [[6.0, 1.0, 2.0], [5.0, 6.0, 1.0, 2.0], [6.0, 2.0], [5.0, 6.0, 2.0]]
