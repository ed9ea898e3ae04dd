"""BFCL's rows become examples, and its halves are disjoint, balanced and reproducible."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import ABSTENTION, LANGUAGES, answers_file, halves, load_bfcl, questions_file
from itool_pipeline.data.example_codec import decode_example, encode_example
from itool_pipeline.data.near_duplicates import normalised
from itool_pipeline_tests.data.examples import example

COUNTS = {
    "simple_python": 400,
    "multiple": 200,
    "parallel": 200,
    "parallel_multiple": 200,
    "irrelevance": 240,
    "simple_java": 100,
    "simple_javascript": 50,
    "live_simple": 258,
    "live_multiple": 1053,
    "live_parallel": 16,
    "live_parallel_multiple": 24,
    "live_irrelevance": 884,
    "live_relevance": 16,
}


@pytest.fixture(scope="module")
def examples(bfcl_dir: Path) -> tuple[Example, ...]:
    rows = load_bfcl(bfcl_dir)
    assert rows.quarantined == ()
    return rows.examples


def test_every_row_is_read(examples: tuple[Example, ...]) -> None:
    assert Counter(e.category for e in examples) == COUNTS
    assert len({e.id for e in examples}) == len(examples)


def test_the_first_row_by_hand(examples: tuple[Example, ...]) -> None:
    first = examples[0]
    assert first.id == "simple_python_0"
    assert first.question == "Find the area of a triangle with a base of 10 units and height of 5 units."
    assert [tool["name"] for tool in first.tools] == ["calculate_triangle_area"]
    assert first.gold[0].name == "calculate_triangle_area"
    assert first.gold[0].arguments == {"base": (10,), "height": (5,), "unit": ("units", "")}


def test_gold_and_tools_are_the_files_own(bfcl_dir: Path, examples: tuple[Example, ...]) -> None:
    by_id = {e.id: e for e in examples}
    for category in ("parallel_multiple", "live_simple", "simple_java"):
        for line in answers_file(bfcl_dir, category).read_text().splitlines():
            row = json.loads(line)
            gold = by_id[row["id"]].gold
            assert [{g.name: {k: list(v) for k, v in g.arguments.items()}} for g in gold] == row["ground_truth"]


def test_only_what_cannot_be_answered_has_no_response(examples: tuple[Example, ...]) -> None:
    without = [e for e in examples if not e.response]
    assert {e.category for e in without} == {
        "simple_java",
        "simple_javascript",
        "live_relevance",
        "live_simple",
        "live_multiple",
    }
    assert sorted(e.id for e in without if e.category in ("live_simple", "live_multiple")) == [
        "live_multiple_862-181-3",
        "live_multiple_964-207-0",
        "live_simple_106-63-0",
        "live_simple_112-68-0",
    ]
    assert {e.response for e in examples if "irrelevance" in e.category} == {ABSTENTION}


def test_what_is_expected_is_what_the_category_asks(examples: tuple[Example, ...]) -> None:
    """No call in the two kinds of irrelevance, any in live_relevance, elsewhere those of the possible answers."""
    found = {(e.category, e.expects) for e in examples}
    assert found == {
        (category, {"irrelevance": "no_call", "relevance": "any_call"}.get(category.removeprefix("live_"), "calls"))
        for category in COUNTS
    }


def test_examples_survive_json(examples: tuple[Example, ...]) -> None:
    assert all(decode_example(encode_example(e)) == e for e in examples)


def test_groups_do_not_depend_on_what_is_asked_for(bfcl_dir: Path, examples: tuple[Example, ...]) -> None:
    some = load_bfcl(bfcl_dir, ("multiple", "simple_python")).examples
    assert [e.category for e in some] == ["multiple"] * 200 + ["simple_python"] * 400
    group = {e.id: e.group for e in examples}
    assert all(e.group == group[e.id] for e in some)


def test_an_unknown_category_is_refused(bfcl_dir: Path) -> None:
    with pytest.raises(ValueError, match="unknown BFCL categories \\['simple'\\]"):
        load_bfcl(bfcl_dir, ("simple",))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_halves_of_the_benchmark(examples: tuple[Example, ...], seed: int) -> None:
    train, held_out = halves(examples, seed)
    assert {e.id for e in train} | {e.id for e in held_out} == {e.id for e in examples}
    assert not {e.group for e in train} & {e.group for e in held_out}
    assert not {normalised(e.question) for e in train} & {normalised(e.question) for e in held_out}
    for category, size in COUNTS.items():
        assert abs(sum(e.category == category for e in train) - size / 2) <= max(1, 0.02 * size)


def test_the_seed_and_nothing_else_decides(examples: tuple[Example, ...]) -> None:
    train, _ = halves(examples, 0)
    shuffled = list(examples)
    random.Random(5).shuffle(shuffled)
    assert {e.id for e in halves(shuffled, 0)[0]} == {e.id for e in train}
    shared = {e.id for e in halves(examples, 1)[0]} & {e.id for e in train}
    assert 0.4 < len(shared) / len(train) < 0.6


SIZES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(SIZES, st.integers(0, 10))
def test_halves_of_anything(sizes: list[tuple[str, int]], seed: int) -> None:
    rows = [
        example(f"{i}-{k}", category=category, group=f"g{i}")
        for i, (category, size) in enumerate(sizes)
        for k in range(size)
    ]
    train, held_out = halves(rows, seed)
    assert Counter(e.id for e in (*train, *held_out)) == Counter(e.id for e in rows)
    assert not {e.group for e in train} & {e.group for e in held_out}
    for category in "abc":
        largest = max((size for c, size in sizes if c == category), default=0)
        difference = sum(e.category == category for e in train) - sum(e.category == category for e in held_out)
        assert abs(difference) <= largest


GOOD = {
    "id": "multiple_0",
    "question": [[{"role": "user", "content": "q"}]],
    "function": [{"name": "f", "parameters": {"type": "dict", "properties": {}, "required": []}}],
}
MALFORMED = [
    ("{", "not JSON"),
    ("[1]", "not a JSON object"),
    (json.dumps({**GOOD, "id": 3}), "the id is not text: 3"),
    (json.dumps({**GOOD, "question": []}), "not a single turn"),
    (json.dumps({**GOOD, "question": [[{"role": "user", "content": "a"}], []]}), "not a single turn"),
    (
        json.dumps({**GOOD, "question": [[{"role": "oracle", "content": "a"}]]}),
        "a message has an unknown role: 'oracle'",
    ),
    (json.dumps({**GOOD, "question": [[{"role": "user", "content": None}]]}), "a message has no content"),
    (json.dumps({**GOOD, "function": [{"parameters": {}}]}), "a tool has no name"),
    (json.dumps({**GOOD, "function": [{"name": "f", "parameters": None}]}), "a tool has no parameters: 'f'"),
    (json.dumps({**GOOD, "function": []}), "expected functions are not among the tools: ['f']"),
    (json.dumps({**GOOD, "id": "multiple_9"}), "no possible answer"),
    (json.dumps(GOOD), "a second row has the same id: 'multiple_0'"),
]


@pytest.fixture
def odd_bfcl(bfcl_dir: Path, tmp_path: Path) -> Path:
    """The wheel's data with the category `multiple` replaced by one good row and many malformed ones."""
    for category in LANGUAGES:
        for file in (questions_file, answers_file):
            if file(bfcl_dir, category).exists():
                file(tmp_path, category).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file(bfcl_dir, category), file(tmp_path, category))
    lines = [json.dumps(GOOD), *(line for line, _ in MALFORMED)]
    questions_file(tmp_path, "multiple").write_text("\n".join(lines) + "\n")
    answers = [{"id": "multiple_0", "ground_truth": [{"f": {}}]}, {"id": "multiple_1", "ground_truth": [{"f": 3}]}]
    answers_file(tmp_path, "multiple").write_text("\n".join(map(json.dumps, answers)))
    return tmp_path


def test_malformed_rows_are_quarantined_by_file_and_line(odd_bfcl: Path) -> None:
    rows = load_bfcl(odd_bfcl, ("multiple",))
    assert [e.id for e in rows.examples] == ["multiple_0"]
    wrong_answer, *wrong_rows = rows.quarantined
    assert wrong_answer.position == "possible_answer/BFCL_v4_multiple.json:2"
    assert wrong_answer.reason == "the arguments of an expected call are not a mapping: 'f'"
    assert [row.position for row in wrong_rows] == [f"BFCL_v4_multiple.json:{n + 2}" for n in range(12)]
    for row, (line, reason) in zip(wrong_rows, MALFORMED, strict=True):
        assert row.reason.startswith(reason)
        assert row.excerpt[:20] == line[:20]
