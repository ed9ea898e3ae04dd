"""Limits and draws: stratified, reproducible, and nothing left out without a word."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.config import BfclConfig, BfclHalfData, ToolAceData
from itool_pipeline.core.types import Example
from itool_pipeline.data.near_duplicates import normalised
from itool_pipeline.data.sources import LoadedData, draw, load_data, quotas
from itool_pipeline.data.wheels import FetchError
from itool_pipeline_tests.data.examples import example
from itool_pipeline_tests.data.test_toolace import write


def words(e: Example) -> int:
    return len(e.question.split())


def of(sizes: dict[str, int]) -> list[Example]:
    return [example(f"{c}_{i:04}", category=c) for c, n in sizes.items() for i in range(n)]


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ({"a": 50, "b": 30, "c": 20}, 10, {"a": 5, "b": 3, "c": 2}),
        # shares 3.5, 2.1, 1.4: floors leave one place, the largest remainder is a's
        ({"a": 50, "b": 30, "c": 20}, 7, {"a": 4, "b": 2, "c": 1}),
        # shares 1, 1/2, 1/2: one place for two equal remainders goes to the first name
        ({"c": 1, "b": 1, "a": 2}, 2, {"a": 1, "b": 1, "c": 0}),
        ({"a": 2, "b": 1}, None, {"a": 2, "b": 1}),
        ({"a": 2, "b": 1}, 9, {"a": 2, "b": 1}),
    ],
)
def test_quotas_by_hand(sizes: dict[str, int], limit: int | None, expected: dict[str, int]) -> None:
    assert quotas(of(sizes), limit) == expected


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 40), min_size=1), st.integers(1, 100))
def test_quotas_add_up_and_are_near_the_share(sizes: dict[str, int], limit: int) -> None:
    quota = quotas(of(sizes), limit)
    total = sum(sizes.values())
    assert sum(quota.values()) == min(limit, total)
    for category, size in sizes.items():
        assert abs(quota[category] - min(limit, total) * size / total) < 1
        assert quota[category] <= size


def test_a_larger_draw_holds_the_smaller_in_any_order() -> None:
    examples = of({"a": 30, "b": 10})
    small = draw(examples, {"a": 5, "b": 2}, seed=3)
    large = draw(examples[::-1], {"a": 9, "b": 3}, seed=3)
    assert Counter(e.category for e in small) == {"a": 5, "b": 2}
    assert {e.id for e in small} < {e.id for e in large}
    assert [e.id for e in small] == sorted(e.id for e in small)
    assert {e.id for e in draw(examples, {"a": 5, "b": 2}, seed=4)} != {e.id for e in small}


@pytest.fixture(scope="module")
def half(downloads_dir: Path, bfcl_dir: Path) -> LoadedData:
    data = BfclHalfData(
        categories=("simple_python", "live_simple", "irrelevance"), train_limit=90, max_prompt_tokens=40
    )
    bfcl = BfclConfig(categories=("live_simple", "parallel"), cases_per_category=20, max_prompt_tokens=30)
    return load_data(data, bfcl, downloads_dir, seed=1, token_count=words)


def test_bfcl_half_keeps_to_its_limits(half: LoadedData) -> None:
    assert len(half.train) == 90
    assert {e.category for e in half.train} == {"simple_python", "live_simple", "irrelevance"}
    assert Counter(e.category for e in half.bfcl_cases) == {"live_simple": 20, "parallel": 20}
    assert max(map(words, half.train)) <= 40
    assert max(map(words, half.bfcl_cases)) <= 30
    assert all(e.response for e in half.train)


def test_what_is_left_out_is_said(half: LoadedData, downloads_dir: Path) -> None:
    unlimited = load_data(
        BfclHalfData(categories=("simple_python", "live_simple", "irrelevance")),
        BfclConfig(categories=("live_simple", "parallel")),
        downloads_dir,
        seed=1,
    )
    long_train = [e for e in unlimited.train if words(e) > 40]
    long_cases = [e for e in unlimited.bfcl_cases if words(e) > 30]
    reasons = Counter(f"{r.position}: {r.reason}" for r in half.left_out if "tokens" in r.reason)
    assert reasons == Counter(
        [f"{e.category}/{e.id}: prompt of {words(e)} tokens is longer than 40" for e in long_train]
        + [f"{e.category}/{e.id}: prompt of {words(e)} tokens is longer than 30" for e in long_cases]
    )
    assert {r.reason for r in unlimited.left_out} <= {"no answer to learn from"}
    assert {e.id for e in half.train} < {e.id for e in unlimited.train}
    assert {e.id for e in half.bfcl_cases} < {e.id for e in unlimited.bfcl_cases}


def test_no_held_out_question_is_trained_on(downloads_dir: Path, bfcl_dir: Path) -> None:
    loaded = load_data(BfclHalfData(), BfclConfig(), downloads_dir, seed=0)
    assert not {e.group for e in loaded.train} & {e.group for e in loaded.bfcl_cases}
    assert not {normalised(e.question) for e in loaded.train} & {normalised(e.question) for e in loaded.bfcl_cases}


def test_toolace_trains_on_the_file_and_is_scored_on_all_cases(
    downloads_dir: Path, bfcl_dir: Path, tmp_path: Path
) -> None:
    path = write(tmp_path, ["u: q", "a: [plan(stops=[])]"], ["u: q", "a: no"], ["u: q", "a: "])
    data = ToolAceData(type="toolace", path=str(path))
    loaded = load_data(data, BfclConfig(categories=("live_simple", "irrelevance")), downloads_dir, seed=0)
    assert [e.response for e in loaded.train] == ["[plan(stops=[])]", "no"]
    assert Counter(e.category for e in loaded.bfcl_cases) == {"live_simple": 258, "irrelevance": 240}
    assert [r.reason for r in loaded.refused] == ["the answer is empty"]


def test_mistakes_in_the_config_are_explained(downloads_dir: Path, bfcl_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"There is no file .*none\.json"):
        load_data(ToolAceData(type="toolace", path=str(tmp_path / "none.json")), BfclConfig(), downloads_dir, seed=0)
