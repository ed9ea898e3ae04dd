"""BFCL as a benchmark: what is held out, what is drawn, where the types of error are from; and training beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.bfcl import benchmark as bfcl
from itool_pipeline.benchmarks.bfcl.benchmark import BfclBenchmark, drawn_conversations
from itool_pipeline.benchmarks.bfcl.multi_turn_cases import load_multi_turn
from itool_pipeline.benchmarks.bfcl.official_checker import CHECKER_RAISED, DECODER_REFUSED, CaseVerdict
from itool_pipeline.benchmarks.types import Decided, Decision, Pool
from itool_pipeline.config import BfclConfig, BfclHalfData, JsonlData
from itool_pipeline.core.types import Example
from itool_pipeline.data.near_duplicates import normalised
from itool_pipeline.data.sources import ASKED_IN_TEST, load_data
from itool_pipeline.judges.mistakes import ErrorType
from itool_pipeline.steps.prepare import asked_in_tests
from itool_pipeline_tests.core.fake_policy import call_problem
from itool_pipeline_tests.steps.by_hand import example, experiment

BENCHMARK = BfclBenchmark()
JSONL = {"type": "jsonl", "path": "own.jsonl"}


def drawn(pool: Iterable[Example], downloads: Path = Path(), **asked: Any) -> Sequence[Any]:
    pool = tuple(pool)
    tokens = {x.id: len(x.question.split()) for x in pool}
    e = experiment(evaluation={"bfcl": asked})
    return BENCHMARK.draw_cases(e, Pool(pool, tokens), downloads).cases


def test_half_is_held_out_or_all(downloads_dir: Path, bfcl_dir: Path) -> None:
    half = BENCHMARK.load_cases(experiment(), downloads_dir).examples
    whole = BENCHMARK.load_cases(experiment(data=JSONL), downloads_dir).examples
    assert (len(half), len(whole)) == (1820, 3641)
    assert {x.id for x in half} < {x.id for x in whole}
    assert BENCHMARK.source(experiment())["halves"] == 0
    assert BENCHMARK.source(experiment(data=JSONL, seed=9)) == BENCHMARK.source(experiment(data=JSONL))


def test_cases_keep_to_the_limits_of_the_config(downloads_dir: Path, bfcl_dir: Path) -> None:
    pool = BENCHMARK.load_cases(experiment(seed=1), downloads_dir).examples
    limits: dict[str, Any] = {"categories": ("live_simple", "parallel"), "max_prompt_tokens": 30}
    few = drawn(pool, cases_per_category=20, **limits)
    assert Counter(x.category for x in few) == {"live_simple": 20, "parallel": 20}
    assert max(len(x.question.split()) for x in few) <= 30
    assert {x.id for x in few} < {x.id for x in drawn(pool, **limits)}


def test_no_held_out_question_is_trained_on(downloads_dir: Path, bfcl_dir: Path) -> None:
    train = list(load_data(BfclHalfData(), downloads_dir, seed=0).train)
    cases = BENCHMARK.load_cases(experiment(), downloads_dir).examples
    assert train
    assert not {e.group for e in train} & {e.group for e in cases}
    assert not {normalised(e.question) for e in train} & {normalised(e.question) for e in cases}


def trained(folder: Path, downloads: Path, rows: list[dict[str, Any]]) -> tuple[list[str], int]:
    """The answers that are trained on, and how many rows were left out because a test asks the same."""
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = asked_in_tests(experiment(data={**JSONL, "path": str(path)}, evaluation={"bfcl": None}), downloads)
    loaded = load_data(JsonlData(type="jsonl", path=str(path)), downloads, seed=0, asked=asked)
    return [e.response for e in loaded.train], loaded.left_out.get(ASKED_IN_TEST, 0)


def chat(question: str, answer: str, tools: Sequence[str] = ()) -> dict[str, Any]:
    functions = [{"name": name, "parameters": {"type": "object", "properties": {}}} for name in tools]
    told = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": told, "tools": [{"type": "function", "function": function} for function in functions]}


def test_what_it_asks_is_not_trained_on_even_where_it_is_not_scored(
    downloads_dir: Path, bfcl_dir: Path, tmp_path: Path
) -> None:
    asked = BENCHMARK.load_cases(experiment(data=JSONL), downloads_dir).examples[0].question
    turn = load_multi_turn(bfcl_dir)[0].turns[1][0].content
    rows = [chat(f"  {asked.upper()}!", "no"), chat(turn, "no"), chat("something else", "yes")]
    assert trained(tmp_path, downloads_dir, rows) == (["yes"], 2)


def test_a_case_with_other_values_is_not_trained_on(downloads_dir: Path, bfcl_dir: Path, tmp_path: Path) -> None:
    cases = BENCHMARK.load_cases(experiment(data=JSONL), downloads_dir).examples
    asked = next(x for x in cases if x.category == "live_simple" and "5" in x.question)
    names = [str(tool["name"]) for tool in asked.tools]
    question = asked.question.replace("5", "77")
    rows = [chat(question, "the same tools", names), chat(question, "one more tool", [*names, "another"])]
    assert trained(tmp_path, downloads_dir, rows) == (["one more tool"], 1)


LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance")


def test_a_sampled_live_category_counts_by_its_size() -> None:
    """Four cases of live_simple, of which one was asked, and one of each other; right is what is live_simple."""
    pool = [replace(example(f"c{i}"), category="live_simple") for i in range(4)]
    pool += [replace(example(category), category=category) for category in LIVE[1:]]
    cases = drawn(pool, categories=LIVE, cases_per_category=1)
    assert len(cases) == 6
    decided = [Decided(case, "", Decision(case.category == "live_simple")) for case in cases]
    sizes = Counter(case.category for case in pool)
    parts = {(one.rule, one.part): one.accuracy for one in BENCHMARK.aggregates(decided, sizes)}
    # Four of nine, and without irrelevance and relevance of seven; of the six that were asked it would be one.
    assert parts["v3", "live"] == pytest.approx(4 / 9)
    assert parts["v4", "live"] == pytest.approx(4 / 7)


@pytest.mark.parametrize(
    ("language", "official", "expected"),
    [
        ("python", "ast_decoder:decoder_failed", ErrorType.TOOLS_COUNT),
        ("python", DECODER_REFUSED, ErrorType.CODE_SYNTAX),
        ("python", CHECKER_RAISED, ErrorType.OTHER),
        ("java", "simple_function_checker:wrong_func_name", ErrorType.TOOL_NAME),
    ],
)
def test_types_are_ours_unless_only_the_official_error_tells(language: str, official: str, expected: ErrorType) -> None:
    case = replace(call_problem("asked").example, language=language)
    output = "I cannot." if official.endswith("decoder_failed") else "[f(a=open('x'))]"
    mistake = bfcl._mistake(case, CaseVerdict(False, official, "why"), output)
    assert mistake is not None
    assert mistake.type == expected


def test_where_we_find_no_mistake_the_case_has_no_type() -> None:
    """So that the check `errors_agree` names it."""
    case = call_problem("asked").example
    assert bfcl._mistake(case, CaseVerdict(False, "value_error:string", "why"), case.response) is None


def test_conversations_are_limited_as_cases_are_unless_told_otherwise(downloads_dir: Path, bfcl_dir: Path) -> None:
    def number(**limits: int) -> int:
        return len(drawn_conversations(BfclConfig(categories=("multi_turn_base",), **limits), 0, downloads_dir))

    assert number(cases_per_category=4) == 4
    assert number(cases_per_category=4, conversations_per_category=7) == 7
    assert number(cases_per_category=4, conversations_per_category=200) == 200
    assert number() == 200


def test_errors_that_the_official_error_bears_out_and_one_that_it_does_not() -> None:
    ours = {
        "c1": ("simple_python", "simple_function_checker:missing_required", "parameter_name"),
        "c2": ("simple_python", "value_error:string", "tool_name"),
        "c3": ("irrelevance", "irrelevance_error:decoder_success", "tools_count"),
        "c4": ("multiple", "ast_decoder:decoder_failed", None),
        "c5": ("simple_java", "value_error:string", "tool_name"),  # ours is the official one there
        "c6": ("multiple", "", None),
    }
    names = ("category", "error_type", "mistake")
    rows = [{"case_id": k, "correct": k == "c6", **dict(zip(names, row, strict=True))} for k, row in ours.items()]
    (check,) = BENCHMARK.row_checks
    assert check.find(rows) == (
        [
            "case c2: ours tool_name, official value_error:string",
            "case c4: ours None, official ast_decoder:decoder_failed",
        ],
        4,
    )
