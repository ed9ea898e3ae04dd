"""The official checkers' verdicts, reached through our import of them."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from itool_pipeline.benchmarks.bfcl import official_checker as bfcl
from itool_pipeline.benchmarks.bfcl.official_checker import (
    CHECKER_RAISED,
    DECODER_REFUSED,
    CaseVerdict,
    OfficialChecker,
)
from itool_pipeline.benchmarks.bfcl.official_code import OfficialCodeError, official_functions
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import LANGUAGES, answers_file, load_bfcl, questions_file


@pytest.fixture(scope="module")
def examples(bfcl_dir: Path) -> dict[str, Example]:
    return {e.id: e for e in load_bfcl(bfcl_dir).examples}


@pytest.fixture(scope="module")
def checker(bfcl_dir: Path) -> OfficialChecker:
    return OfficialChecker(bfcl_dir)


def test_every_gold_response_is_accepted(checker: OfficialChecker, examples: dict[str, Example]) -> None:
    answered = [e for e in examples.values() if e.response]
    refused = {e.id: checker.check(e, e.response).error for e in answered if not checker.check(e, e.response).correct}
    assert refused == {}
    python = [e for e in examples.values() if e.language == "python" and e.category != "live_relevance"]
    assert len(python) - len(answered) == 4  # possible answers that contradict the tool; see test_bfcl of data


def test_every_gold_response_is_refused_for_another_question(
    checker: OfficialChecker, examples: dict[str, Example]
) -> None:
    simple = [e for e in examples.values() if e.category == "simple_python"]
    for e, other in itertools.pairwise(simple):
        if e.gold[0].name != other.gold[0].name:
            verdict = checker.check(e, other.response)
            assert (verdict.correct, verdict.error_type) == (False, "simple_function_checker:wrong_func_name")


@pytest.mark.parametrize(
    ("output", "error_type"),
    [
        ("[calculate_triangle_area(base=10, height=5)]", ""),
        ("calculate_triangle_area(height=5, base=10, unit='units')", ""),
        ("```\n[calculate_triangle_area(base=2*5, height=5)]\n```", ""),
        ("[calculate_triangle_area(base=10)]", "simple_function_checker:missing_required"),
        ("[calculate_triangle_area(base=10, height=6)]", "value_error:others"),
        ("[calculate_triangle_area(base=10, height=5.0)]", "type_error:simple"),
        ("[calculate_triangle_area(base=10, height=5, unit='feet')]", "value_error:string"),
        ("[calculate_triangle_area(base=10, height=5, color=1)]", "simple_function_checker:unexpected_param"),
        ("[area(base=10, height=5)]", "simple_function_checker:wrong_func_name"),
        ("[calculate_triangle_area(base=10, height=5)] * 2", "ast_decoder:decoder_failed"),
        ("[f(), calculate_triangle_area(base=10, height=5)]", "simple_function_checker:wrong_count"),
        ("", "simple_function_checker:wrong_count"),
        ("I cannot do that.", "ast_decoder:decoder_failed"),
        ("[calculate_triangle_area(base=10, height=5)", ""),
    ],
)
def test_verdicts_by_hand(checker: OfficialChecker, examples: dict[str, Example], output: str, error_type: str) -> None:
    verdict = checker.check(examples["simple_python_0"], output)
    assert verdict.error_type == error_type
    assert verdict.correct == (error_type == "")
    assert bool(verdict.error) == (not verdict.correct)


def test_parallel_calls_in_any_order(checker: OfficialChecker, examples: dict[str, Example]) -> None:
    case = examples["parallel_0"]
    calls = case.response[1:-1].split(", spotify")
    assert len(calls) == 2
    swapped = f"[spotify{calls[1]}, {calls[0]}]"
    assert checker.check(case, swapped).correct
    verdict = checker.check(case, f"[{calls[0]}]")
    assert verdict.error_type == "parallel_function_checker_no_order:wrong_count"


@pytest.mark.parametrize(
    ("output", "called"),
    [
        ("No function fits.", False),
        ("", False),
        ("[]", False),
        ("[f(a=1)]", True),
        ("f()", True),
        ("[f(a=x + 1)]", False),
    ],
)
def test_abstention_both_ways(
    checker: OfficialChecker, examples: dict[str, Example], output: str, called: bool
) -> None:
    irrelevance = checker.check(examples["irrelevance_0"], output)
    relevance = checker.check(examples["live_relevance_0-0-0"], output)
    assert (irrelevance.correct, relevance.correct) == (not called, called)
    assert irrelevance.error_type == ("irrelevance_error:decoder_success" if called else "")
    assert relevance.error_type == ("" if called else "relevance_error:decoder_failed")


JAVA = "[GeometryPresentation.createPresentation(controller=mapController, parent=mapArea)]"
JAVASCRIPT_CASE = "simple_javascript_0"


def test_java(checker: OfficialChecker, examples: dict[str, Example]) -> None:
    case = examples["simple_java_0"]
    assert checker.check(case, JAVA).correct
    assert checker.check(case, JAVA.replace("mapArea", "area")).error_type == "value_error:string"
    assert checker.check(case, "[GeometryPresentation.createPresentation(]").error_type == "ast_decoder:decoder_failed"


def test_javascript(checker: OfficialChecker, examples: dict[str, Example]) -> None:
    case = examples[JAVASCRIPT_CASE]
    (call,) = case.gold
    written = ", ".join(f"{name}={json.dumps(values[0])}" for name, values in call.arguments.items())
    assert checker.check(case, f"[{call.name}({written})]").correct
    assert not checker.check(case, f"[{call.name}()]").correct


@pytest.mark.parametrize("category", list(LANGUAGES))
def test_nothing_in_an_output_is_executed(
    checker: OfficialChecker, examples: dict[str, Example], category: str, tmp_path: Path
) -> None:
    case = next(e for e in examples.values() if e.category == category)
    target = tmp_path / "written"
    code = f"__import__('pathlib').Path({str(target)!r}).write_text('x')"
    for output in (
        f"[f(a={code} + 1)]",
        f"[f(a=[{code} + 1])]",
        f"{code} + 1",
        f"[f(a=lambda: {code})]",
        f"f(a={code})",
    ):
        checker.check(case, output)
    assert not target.exists()
    if case.language == "python":
        verdict = checker.check(case, f"[f(a={code} + 1)]")
        assert (verdict.correct, verdict.error_type) == (False, DECODER_REFUSED)


def test_an_exception_of_the_checker_is_a_wrong_verdict(
    bfcl_dir: Path, examples: dict[str, Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_key_error(*_: object) -> dict[str, object]:
        raise KeyError("int")

    broken = replace(official_functions(bfcl_dir), check=raise_key_error)
    monkeypatch.setattr(bfcl, "official_functions", lambda *_: broken)
    case = examples["simple_python_0"]
    verdict = OfficialChecker(bfcl_dir).check(case, case.response)
    assert verdict == CaseVerdict(False, CHECKER_RAISED, "KeyError: 'int'")


def test_cases_of_elsewhere_are_refused(checker: OfficialChecker, examples: dict[str, Example]) -> None:
    with pytest.raises(LookupError, match="no case 'simple_python_999'"):
        checker.check(replace(examples["simple_python_0"], id="simple_python_999"), "")
    with pytest.raises(LookupError, match="not a single-turn category"):
        checker.check(replace(examples["simple_python_0"], category="multi_turn_base"), "")


def test_questions_and_answers_may_hold_any_character(tmp_path: Path) -> None:
    rows = {"question": "one\u2028two\u2029three\x85four"}, {"ground_truth": [{"f": {"a": ["x\u2028y"]}}]}
    answers_file(tmp_path, "multiple").parent.mkdir(parents=True)
    for file, row in zip((questions_file, answers_file), rows, strict=True):
        text = json.dumps({"id": "multiple_0", **row}, ensure_ascii=False)
        file(tmp_path, "multiple").write_text(f"\n{text}\n", encoding="utf-8")
    assert bfcl._read_entries(tmp_path, "multiple") == {"multiple_0": {"id": "multiple_0", **rows[0], **rows[1]}}


def test_the_wheel_and_the_search_path_stay_as_they_are(bfcl_dir: Path, checker: OfficialChecker) -> None:
    assert {path.name for path in bfcl_dir.iterdir()} == {"bfcl_eval", "bfcl_eval-2026.3.23.dist-info"}
    assert str(bfcl_dir) not in sys.path


def test_another_copy_is_refused(checker: OfficialChecker, tmp_path: Path) -> None:
    with pytest.raises(OfficialCodeError, match="already imported from"):
        official_functions(tmp_path)
