"""Drawing and ranking the buffer by hand and by counting."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.core.replay_buffer import (
    RankedExample,
    apportion,
    draw_buffer,
    most_frequent,
    select_hardest,
    share_among_mistakes,
)

IDS = tuple(f"x{i}" for i in range(20))
FRACTIONS = st.integers(0, 100).map(lambda percent: percent / 100)


def _rounded_up(fraction: float, count: int) -> int:
    return math.ceil(Fraction(str(fraction)) * count)


@given(st.integers(0, 120), FRACTIONS, st.integers(0, 1000))
def test_a_buffer_is_a_part_of_the_ids_in_their_order(count: int, fraction: float, seed: int) -> None:
    ids = [f"{i:03d}" for i in range(count)]
    drawn = draw_buffer(ids, fraction, seed)
    assert len(drawn) == len(set(drawn)) == _rounded_up(fraction, count)
    assert list(drawn) == sorted(drawn)
    assert set(drawn) <= set(ids)
    assert draw_buffer(ids, fraction, seed) == drawn


def test_the_ids_keep_their_own_order() -> None:
    ids = ["c", "a", "b"]
    assert draw_buffer(ids, 1.0, 0) == ("c", "a", "b")
    assert draw_buffer(ids, 0.0, 0) == ()


def test_every_id_is_drawn_equally_often() -> None:
    # 400 draws of half: 200 each, with a standard deviation of 10
    draws = [draw_buffer(IDS, 0.5, seed) for seed in range(400)]
    counts = [sum(key in drawn for drawn in draws) for key in IDS]
    assert min(counts) > 150
    assert max(counts) < 250


def test_hardest_first_by_hand() -> None:
    perplexities = {"a": 1.5, "b": 4.0, "c": 1.0, "d": 4.0, "e": 2.0}
    # 40% of 5 are 2; b and d are level, and go by id
    assert select_hardest(perplexities, 0.4, by="perplexity", seed=0) == (
        RankedExample("b", 4.0, 0, True),
        RankedExample("d", 4.0, 1, True),
        RankedExample("e", 2.0, 2, False),
        RankedExample("a", 1.5, 3, False),
        RankedExample("c", 1.0, 4, False),
    )


@pytest.mark.parametrize(
    ("count", "fraction", "selected"),
    [
        (20, 0.1, 2),
        (21, 0.1, 3),  # rounded up
        (5, 0.1, 1),  # at least one
        (30, 0.1, 3),
        (100, 0.07, 7),  # 0.07 · 100 is 7.000000000000001 in floating point
        (5, 1.0, 5),
        (5, 0.0, 0),
        (0, 0.5, 0),
    ],
)
@pytest.mark.parametrize("by", ["perplexity", "random"])
def test_how_many_are_selected(count: int, fraction: float, selected: int, by: str) -> None:
    ranked = select_hardest({f"{i:03d}": 1.0 + i for i in range(count)}, fraction, by=by, seed=3)
    assert len(ranked) == count
    assert sum(r.selected for r in ranked) == selected


@given(
    st.dictionaries(st.text(max_size=3), st.floats(1, 100), max_size=15),
    FRACTIONS,
    st.sampled_from(["perplexity", "random"]),
)
def test_ranks_follow_perplexity(perplexities: dict[str, float], fraction: float, by: str) -> None:
    ranked = select_hardest(perplexities, fraction, by=by, seed=1)
    assert {r.example_id: r.perplexity for r in ranked} == perplexities
    assert [r.rank for r in ranked] == list(range(len(perplexities)))
    values = [r.perplexity for r in ranked]
    assert values == sorted(values, reverse=True)
    if by == "perplexity":
        marks = [r.selected for r in ranked]
        assert marks == sorted(marks, reverse=True)
    reordered = dict(sorted(perplexities.items(), reverse=True))
    assert select_hardest(reordered, fraction, by=by, seed=1) == ranked


def test_random_marks_do_not_follow_perplexity() -> None:
    perplexities = {key: float(i) for i, key in enumerate(IDS)}
    counts = dict.fromkeys(IDS, 0)
    for seed in range(400):
        for r in select_hardest(perplexities, 0.5, by="random", seed=seed):
            counts[r.example_id] += r.selected
    assert min(counts.values()) > 150
    assert max(counts.values()) < 250


def test_groups_are_selected_from_separately_by_hand() -> None:
    perplexities = {"a": 9.0, "b": 8.0, "c": 7.0, "d": 6.0, "e": 5.0, "f": 1.5, "g": 1.25}
    groups = {**dict.fromkeys("abcde", "call"), **dict.fromkeys("fg", "no_call")}

    def marked(fraction: float, of: dict[str, str] | None) -> list[str]:
        ranked = select_hardest(perplexities, fraction, by="perplexity", seed=0, groups=of)
        assert [r.rank for r in ranked] == list(range(7))
        assert [r.example_id for r in ranked] == list("abcdefg")
        return [r.example_id for r in ranked if r.selected]

    # 40% of 7 are 3, rounded up; of 5 and of 2 separately 2 and 1
    assert marked(0.4, None) == ["a", "b", "c"]
    assert marked(0.4, groups) == ["a", "b", "f"]
    # at least one of each
    assert marked(0.01, groups) == ["a", "f"]
    assert marked(1.0, groups) == list("abcdefg")
    assert marked(0.4, dict.fromkeys("abcdefg", "call")) == ["a", "b", "c"]


@given(
    st.dictionaries(st.text(max_size=3), st.tuples(st.floats(1, 100), st.booleans()), max_size=20),
    FRACTIONS.filter(bool),
    st.sampled_from(["perplexity", "random"]),
    st.integers(0, 1000),
)
def test_each_group_gives_its_share(rows: dict[str, tuple[float, bool]], fraction: float, by: str, seed: int) -> None:
    groups = {key: str(calls) for key, (_, calls) in rows.items()}
    ranked = select_hardest({key: h for key, (h, _) in rows.items()}, fraction, by=by, seed=seed, groups=groups)
    for group in ("True", "False"):
        own = [r for r in ranked if groups[r.example_id] == group]
        assert sum(r.selected for r in own) == (max(1, _rounded_up(fraction, len(own))) if own else 0)
        if by == "perplexity":
            marks = [r.selected for r in own]
            assert marks == sorted(marks, reverse=True)


def test_most_mistakes_first_by_hand() -> None:
    perplexities, right = {"a": 9.0, "b": 2.0, "c": 3.0, "d": 4.0}, {"a": 1.0, "b": 0.0, "c": 0.5, "d": 0.5}
    ranked = select_hardest(perplexities, 0.5, by="mistakes", seed=0, right=right)
    assert [(r.example_id, r.selected) for r in ranked] == [("b", True), ("d", True), ("c", False), ("a", False)]
    assert [r.perplexity for r in ranked] == [2.0, 4.0, 3.0, 9.0]


def test_the_most_frequent_mistake() -> None:
    assert most_frequent({"tool_name": 2, "code_syntax": 3}) == "code_syntax"
    assert most_frequent({"tool_name": 2, "code_syntax": 2}) == "code_syntax"
    assert most_frequent({}) is None


@pytest.mark.parametrize(
    ("total", "weights", "most", "shares"),
    [
        # 10 · 5/8 = 6.25, 10 · 2/8 = 2.5, 10 · 1/8 = 1.25: the one left over goes to the largest remainder
        (10, {"a": 5, "b": 2, "c": 1}, {"a": 9, "b": 9, "c": 9}, {"a": 6, "b": 3, "c": 1}),
        # a has room for 2: of the 8 left 2/3 and 1/3
        (10, {"a": 5, "b": 2, "c": 1}, {"a": 2, "b": 9, "c": 9}, {"a": 2, "b": 5, "c": 3}),
        # no room for a; then b has no more than 3
        (10, {"a": 5, "b": 2, "c": 1}, {"b": 3, "c": 9}, {"a": 0, "b": 3, "c": 7}),
        # not even all room is enough
        (10, {"a": 5, "b": 2}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        # equal remainders: by name
        (1, {"b": 1, "a": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 0}),
        (3, {}, {}, {}),
        (0, {"a": 1}, {"a": 1}, {"a": 0}),
    ],
)
def test_shares_in_proportion_by_hand(
    total: int, weights: dict[str, int], most: dict[str, int], shares: dict[str, int]
) -> None:
    assert apportion(total, weights, most) == shares


@given(st.integers(0, 60), st.dictionaries(st.text(max_size=1), st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_shares_fill_the_room_and_no_more(total: int, rows: dict[str, tuple[int, int]]) -> None:
    weights, most = ({name: pair[i] for name, pair in rows.items()} for i in (0, 1))
    shares = apportion(total, weights, most)
    assert all(0 <= shares[name] <= most[name] for name in rows)
    assert sum(shares.values()) == min(total, sum(most[name] for name in rows if weights[name]))


def test_types_of_mistakes_share_the_budget_by_hand() -> None:
    """Of eight examples half are searched. 12 answers are wrong: 6 of `name`, 3 of `value`, 3 of `syntax`."""
    mistakes = {
        **{"n1": {"name": 2}, "n2": {"name": 2}, "n3": {"name": 1}, "n4": {"name": 1}},
        **{"v": {"value": 3}, "s": {"syntax": 3}, "right": {}, "too": {}},
    }
    shares = share_among_mistakes(mistakes, 0.5)
    assert shares == {"name": 2, "value": 1, "syntax": 1, "": 0}
    groups = {key: most_frequent(own) or "" for key, own in mistakes.items()}
    right = {key: 1 - sum(own.values()) / 4 for key, own in mistakes.items()}
    perplexities = {**dict.fromkeys(mistakes, 2.0), "n2": 3.0, "right": 9.0}
    ranked = select_hardest(perplexities, 0.5, by="mistakes", seed=0, groups=groups, counts=shares, right=right)
    assert [r.example_id for r in ranked if r.selected] == ["s", "v", "n2", "n1"]
    assert [r.example_id for r in ranked][-2:] == ["right", "too"]
    # another policy that gets nothing but one value wrong: what is right comes after it
    later = {key: ({"value": 1} if key == "v" else {}) for key in mistakes}
    assert share_among_mistakes(later, 0.5) == {"value": 1, "": 3}
    assert share_among_mistakes(later, 0.0) == {"value": 0, "": 0}
    assert share_among_mistakes({}, 0.5) == {"": 0}


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="select_by must be 'perplexity', 'random' or 'mistakes', not 'loss'"):
        select_hardest({"a": 1.0}, 0.5, by="loss", seed=0)
