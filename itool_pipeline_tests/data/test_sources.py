"""Limits and draws: stratified, reproducible, and nothing left out without a word."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.config import (
    ApiBankConfig,
    BfclConfig,
    BfclHalfData,
    DataConfig,
    DataLimits,
    JsonlData,
    ToolAceData,
    XlamData,
)
from itool_pipeline.core.types import Example, no_progress
from itool_pipeline.data import sources
from itool_pipeline.data.bfcl_multi_turn import load_multi_turn
from itool_pipeline.data.near_duplicates import normalised
from itool_pipeline.data.sources import (
    ASKED_IN_TEST,
    NO_ANSWER,
    NO_PROMPT,
    NOT_ASKED_FOR,
    NOT_DRAWN,
    TOO_LONG,
    LoadedData,
    choose_cases,
    draw,
    load_api_bank_pool,
    load_data,
    local_file,
    quotas,
)
from itool_pipeline.data.wheels import FetchError
from itool_pipeline_tests.data.examples import gathered
from itool_pipeline_tests.data.test_api_bank import BY_HAND, published
from itool_pipeline_tests.data.test_toolace import write


def words(e: Example) -> int:
    return len(e.question.split())


def of(sizes: dict[str, int]) -> dict[str, str]:
    """id → category."""
    return {f"{c}_{i:04}": c for c, n in sizes.items() for i in range(n)}


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
    assert quotas(sizes, limit) == expected


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 40), min_size=1), st.integers(1, 100))
def test_quotas_add_up_and_are_near_the_share(sizes: dict[str, int], limit: int) -> None:
    quota = quotas(sizes, limit)
    total = sum(sizes.values())
    assert sum(quota.values()) == min(limit, total)
    for category, size in sizes.items():
        assert abs(quota[category] - min(limit, total) * size / total) < 1
        assert quota[category] <= size


def test_a_larger_draw_holds_the_smaller_in_any_order() -> None:
    categories = of({"a": 30, "b": 10})
    small = draw(categories, {"a": 5, "b": 2}, seed=3)
    large = draw(dict(reversed(categories.items())), {"a": 9, "b": 3}, seed=3)
    assert Counter(categories[key] for key in small) == {"a": 5, "b": 2}
    assert small < large
    assert draw(categories, {"a": 5, "b": 2}, seed=4) != small


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


def test_what_is_left_out_is_counted(half: LoadedData, downloads_dir: Path) -> None:
    unlimited = load_data(
        BfclHalfData(categories=("simple_python", "live_simple", "irrelevance")),
        BfclConfig(categories=("live_simple", "parallel")),
        downloads_dir,
        seed=1,
    )
    long_train = [e for e in unlimited.train if words(e) > 40]
    long_cases = [e for e in unlimited.bfcl_cases if words(e) > 30]
    assert half.left_out["bfcl", TOO_LONG] == len(long_train) + len(long_cases) > 0
    assert half.left_out["bfcl", NOT_DRAWN] == len(unlimited.train) - len(long_train) - 90
    assert {reason for _, reason in unlimited.left_out} <= {NO_ANSWER, NOT_ASKED_FOR}
    assert {e.id for e in half.train} < {e.id for e in unlimited.train}
    assert {e.id for e in half.bfcl_cases} < {e.id for e in unlimited.bfcl_cases}


def balance(loaded: LoadedData) -> dict[str, tuple[int, int]]:
    """Source → examples read, and examples that were trained on, scored or left out."""
    used = Counter(e.source for e in loaded.train) + Counter(e.source for e in loaded.bfcl_cases)
    for (source, _), count in loaded.left_out.items():
        used[source] += count
    return {source: (count, used[source]) for source, count in loaded.read.items()}


def test_every_example_of_the_benchmark_is_accounted_for(half: LoadedData) -> None:
    assert balance(half) == {"bfcl": (3641, 3641)}


def test_no_held_out_question_is_trained_on(downloads_dir: Path, bfcl_dir: Path) -> None:
    loaded = load_data(BfclHalfData(), BfclConfig(), downloads_dir, seed=0)
    assert not {e.group for e in loaded.train} & {e.group for e in loaded.bfcl_cases}
    assert not {normalised(e.question) for e in loaded.train} & {normalised(e.question) for e in loaded.bfcl_cases}


CASES = BfclConfig(categories=("live_simple", "irrelevance"))


def test_a_file_is_trained_on_and_all_cases_are_scored(downloads_dir: Path, bfcl_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path, ["u: how so?", "a: [plan(stops=[])]"], ["u: how so", "a: no"], ["u: how so", "a: "])
    loaded = load_data(ToolAceData(type="toolace", path=str(path)), CASES, downloads_dir, seed=0)
    assert [e.response for e in loaded.train] == ["[plan(stops=[])]", "no"]
    assert {e.group for e in loaded.train} == {"toolace_0_1"}  # the same question
    assert Counter(e.category for e in loaded.bfcl_cases) == {"live_simple": 258, "irrelevance": 240}
    assert [r.reason for r in loaded.quarantined] == ["the answer is empty"]
    assert balance(loaded) == {"toolace": (2, 2), "bfcl": (3641, 3641)}


def test_what_a_case_asks_is_not_trained_on(downloads_dir: Path, bfcl_dir: Path, tmp_path: Path) -> None:
    asked = load_data(BfclHalfData(), CASES, downloads_dir, seed=0).bfcl_cases[0].question
    path = tmp_path / "own.jsonl"
    conversation = load_multi_turn(bfcl_dir)[0].turns[1][0].content
    turns = [[f"  {asked.upper()}!", "no"], [conversation, "no"], ["something else", "yes"]]
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}], "tools": []}
        for q, a in turns
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = load_data(JsonlData(type="jsonl", path=str(path)), CASES, downloads_dir, seed=0)
    assert [e.response for e in loaded.train] == ["yes"]
    assert loaded.left_out["jsonl", ASKED_IN_TEST] == 2
    assert balance(loaded)["jsonl"] == (3, 3)


def test_a_case_with_other_values_is_not_trained_on(downloads_dir: Path, bfcl_dir: Path, tmp_path: Path) -> None:
    asked = next(x for x in load_data(BfclHalfData(), CASES, downloads_dir, seed=0).bfcl_cases if "5" in x.question)
    names = [str(tool["name"]) for tool in asked.tools]

    def row(tools: Sequence[str], answer: str) -> dict[str, Any]:
        told = [
            {"role": "user", "content": asked.question.replace("5", "77")},
            {"role": "assistant", "content": answer},
        ]
        functions = [{"name": name, "parameters": {"type": "object", "properties": {}}} for name in tools]
        return {"messages": told, "tools": [{"type": "function", "function": function} for function in functions]}

    path = tmp_path / "own.jsonl"
    rows = [row(names, "the same tools"), row([*names, "another"], "one more tool")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = load_data(JsonlData(type="jsonl", path=str(path)), CASES, downloads_dir, seed=0)
    assert [e.response for e in loaded.train] == ["one more tool"]


def test_a_conversation_without_a_prompt_is_left_out(downloads_dir: Path, bfcl_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path, ["u: how so", "a: no"], ["u: refuse me", "a: no"], ["u: a long long question", "a: no"])

    def tokens(e: Example) -> int | None:
        return None if e.question == "refuse me" else words(e)

    data = ToolAceData(type="toolace", path=str(path), max_prompt_tokens=3)
    loaded = load_data(data, CASES, downloads_dir, seed=0, token_count=tokens)
    assert [e.question for e in loaded.train] == ["how so"]
    assert loaded.left_out["toolace", NO_PROMPT] == loaded.left_out["toolace", TOO_LONG] == 1


def test_progress_is_told_for_both_readings(downloads_dir: Path, bfcl_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path, ["u: q" + 3000 * "x", "a: no"])
    heard: list[tuple[str, int, int]] = []
    loaded = load_data(
        ToolAceData(type="toolace", path=str(path)),
        CASES,
        downloads_dir,
        seed=0,
        progress=lambda unit: lambda done, total: heard.append((unit, done, total)),
    )
    assert len(list(loaded.train)) == 1
    size = path.stat().st_size // 1000
    assert heard == [("kB of training data looked through", size, size), ("kB of training data read", size, size)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (ToolAceData(type="toolace", path="/none.json"), "or remove it to ask the hub"),
        (XlamData(type="xlam", path="/none.json"), "or remove it to ask the hub"),
        (JsonlData(type="jsonl", path="/none.json"), r"none\.json\. Correct data\.path in the experiment\."),
    ],
)
def test_a_file_that_is_not_there_is_explained(data: DataConfig, words: str) -> None:
    with pytest.raises(FetchError, match=words):
        local_file(data)


@pytest.mark.parametrize(
    ("data", "asked"),
    [
        (ToolAceData(type="toolace"), ("Team-ACE/ToolACE", "main", "data.json")),
        (
            XlamData(type="xlam", revision="abc"),
            ("Salesforce/xlam-function-calling-60k", "abc", "xlam_function_calling_60k.json"),
        ),
    ],
)
def test_without_a_path_the_hub_is_asked_by_revision(
    monkeypatch: pytest.MonkeyPatch, data: DataConfig, asked: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sources, "download_dataset_file", lambda *names: Path("/".join(names)))
    assert local_file(data) == Path("/".join(asked))


REAL = {
    "toolace": (Path(__file__).parents[2] / "../shared/data/toolace/data.json", 900, 1050, 45),
    "xlam": (Path(__file__).parents[2] / "../shared/data/xlam/xlam_function_calling.json", 100, 99, 1),
}


@pytest.mark.parametrize("kind", REAL)
def test_every_real_row_is_an_example_or_quarantined(kind: str) -> None:
    path, rows, examples, quarantined = REAL[kind]
    if not path.exists():
        pytest.skip(f"needs the sample of {kind} in shared/data, which is not shipped")
    found = gathered(sources.READERS[kind](path, no_progress))
    assert (len(found.examples), len(found.quarantined)) == (examples, quarantined)
    seen = {int(e.id.split("_")[1]) for e in found.examples}
    seen |= {int(q.position.removeprefix("row ").partition(",")[0]) for q in found.quarantined}
    assert seen == set(range(rows)) == set(range(len(json.loads(path.read_text()))))
    assert quarantined / (examples + quarantined) < DataLimits().max_quarantined


def test_api_bank_from_a_copy_and_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    files = published(BY_HAND, tmp_path)

    def download(name: str, revision: str, filename: str) -> Path:
        asked.append((name, revision, filename))
        return files["level_1" if "level-1" in filename else "level_2"]

    monkeypatch.setattr(sources, "download_dataset_file", download)
    hub = load_api_bank_pool(ApiBankConfig(revision="abc"))
    local = load_api_bank_pool(ApiBankConfig(path=str(BY_HAND)))
    assert asked == [
        ("liminghao1630/API-Bank", "abc", "test-data/level-1-api.json"),
        ("liminghao1630/API-Bank", "abc", "test-data/level-2-api.json"),
    ]
    assert Counter(e.category for e in local.examples) == {"level_1": 6, "level_2": 6}
    assert {e.id: e for e in hub.examples} == {e.id: e for e in local.examples}


def test_api_bank_keeps_to_its_limits() -> None:
    pool = load_api_bank_pool(ApiBankConfig(path=str(BY_HAND))).examples
    chosen, unfit = choose_cases(pool, ("level_1", "level_2"), 12, 2, 0, words)
    assert Counter(e.category for e in chosen) == {"level_1": 2, "level_2": 2}
    assert max(map(words, chosen)) <= 12
    assert unfit == {TOO_LONG: sum(words(e) > 12 for e in pool)}
    assert unfit.total() > 0
    only, _ = choose_cases(pool, ("level_2",), 4096, None, 0, words)
    assert only == tuple(e for e in pool if e.category == "level_2")
