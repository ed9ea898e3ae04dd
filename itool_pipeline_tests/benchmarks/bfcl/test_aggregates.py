"""BFCL's aggregates by both rules against values worked out by hand."""

from __future__ import annotations

import pytest

from itool_pipeline.benchmarks.bfcl.aggregates import bfcl_aggregates
from itool_pipeline.config import BFCL_MULTI_TURN, BFCL_SINGLE_TURN

COUNTS = {
    "simple_python": (6, 10),  # 0.6
    "simple_java": (1, 5),  # 0.2
    "simple_javascript": (2, 5),  # 0.4; simple: (0.6 + 0.2 + 0.4) / 3 = 0.4
    "multiple": (8, 10),  # 0.8
    "parallel": (1, 2),  # 0.5
    "parallel_multiple": (3, 10),  # 0.3
    "irrelevance": (10, 10),  # 1.0
    "live_simple": (5, 10),
    "live_multiple": (30, 60),
    "live_parallel": (1, 10),
    "live_parallel_multiple": (4, 20),  # calls: 40 of 100
    "live_irrelevance": (20, 80),  # 0.25
    "live_relevance": (15, 20),  # 0.75; all live: 75 of 200
    "multi_turn_base": (4, 10),
    "multi_turn_miss_func": (2, 10),
    "multi_turn_miss_param": (1, 10),
    "multi_turn_long_context": (1, 20),  # (0.4 + 0.2 + 0.1 + 0.05) / 4 = 0.1875
}


SIZES = {name: total for name, (_, total) in COUNTS.items()}


def by_name(counts: dict[str, tuple[int, int]]) -> dict[tuple[str, str], tuple[float | None, tuple[str, ...]]]:
    return {(one.rule, one.part): (one.accuracy, one.missing) for one in bfcl_aggregates(counts, SIZES)}


def test_worked_out_by_hand() -> None:
    assert set(COUNTS) == {*BFCL_SINGLE_TURN, *BFCL_MULTI_TURN}
    found = {name: accuracy for name, (accuracy, _) in by_name(COUNTS).items()}
    expected = {
        # (0.4 + 0.8 + 0.5 + 0.3 + 1.0) / 5
        ("v3", "non_live"): 0.6,
        ("v3", "live"): 0.375,
        ("v3", "multi_turn"): 0.1875,
        # (0.6 + 0.375 + 0.1875) / 3
        ("v3", "overall"): 0.3875,
        ("v3", "overall_partial"): 0.3875,
        ("v3", "relevance"): 0.75,
        ("v3", "irrelevance"): 0.625,
        # (0.4 + 0.8 + 0.5 + 0.3) / 4
        ("v4", "non_live"): 0.5,
        ("v4", "live"): 0.4,
        ("v4", "irrelevance"): 0.625,
        ("v4", "multi_turn"): 0.1875,
        ("v4", "agentic"): None,
        ("v4", "overall"): None,
        # (10 * 0.5 + 10 * 0.4 + 10 * 0.625 + 30 * 0.1875) / 60
        ("v4", "overall_partial"): 20.875 / 60,
        ("v4", "relevance"): 0.75,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (value if value is None else pytest.approx(value)), name


@pytest.mark.parametrize("left_out", list(COUNTS))
def test_a_part_that_lacks_a_category_is_missing(left_out: str) -> None:
    found = by_name({name: count for name, count in COUNTS.items() if name != left_out})
    whole = by_name(COUNTS)
    for name, (accuracy, missing) in found.items():
        if name[1].startswith("overall"):
            continue
        if left_out in missing:
            assert accuracy is None
        else:
            assert (accuracy, missing) == whole[name]
    assert found["v3", "overall"][0] is None
    assert any(left_out in missing for _, missing in found.values())


def test_a_sample_stands_for_its_whole_category() -> None:
    # Half of two categories, a fifth of another, each as right as the whole: nothing may change.
    sample = COUNTS | {"live_multiple": (15, 30), "live_irrelevance": (4, 16), "live_relevance": (3, 4)}
    whole = by_name(COUNTS)
    for name, (accuracy, missing) in by_name(sample).items():
        expected, lacks = whole[name]
        assert missing == lacks
        assert accuracy == (expected if expected is None else pytest.approx(expected)), name


def test_partial_names_what_it_leaves_out() -> None:
    single = {name: count for name, count in COUNTS.items() if name in BFCL_SINGLE_TURN}
    found = by_name(single)
    assert found["v3", "overall"] == (None, ("multi_turn",))
    assert found["v3", "overall_partial"] == (pytest.approx((0.6 + 0.375) / 2), ("multi_turn",))
    assert found["v4", "overall_partial"] == (pytest.approx((0.5 + 0.4 + 0.625) / 3), ("multi_turn", "agentic"))
    assert found["v3", "multi_turn"] == (None, BFCL_MULTI_TURN)


def test_nothing_evaluated_is_nothing_known() -> None:
    assert {accuracy for accuracy, _ in by_name({}).values()} == {None}
    assert {accuracy for accuracy, _ in by_name({"parallel": (0, 0)}).values()} == {None}


def test_all_wrong_is_zero_and_not_missing() -> None:
    found = by_name({name: (0, total) for name, (_, total) in COUNTS.items()})
    assert found["v3", "overall"] == (0.0, ())
    assert found["v4", "overall_partial"][0] == 0.0
