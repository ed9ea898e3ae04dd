"""The seven types of error from official errors: Java, JavaScript and multi-turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline.benchmarks.bfcl.official_checker import (
    CHECKER_RAISED,
    DECODER_REFUSED,
    CaseVerdict,
    OfficialChecker,
)
from itool_pipeline.benchmarks.bfcl.official_errors import error_type, official_mistake
from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import load_bfcl
from itool_pipeline.judges.mistakes import ErrorType, Mistake, classify_mistake

JAVA = """[GeometryPresentation.createPresentation(controller="mapController", parent="mapArea")]"""
JAVASCRIPT = """[validateUserInput(inputField="userInputField", isComplete=true)]"""


@pytest.fixture(scope="module")
def examples(bfcl_dir: Path) -> dict[str, Example]:
    wanted = ("simple_java", "simple_javascript", "live_relevance", "simple_python")
    return {e.id: e for e in load_bfcl(bfcl_dir, wanted).examples}


@pytest.fixture(scope="module")
def checker(bfcl_dir: Path) -> OfficialChecker:
    return OfficialChecker(bfcl_dir)


@pytest.mark.parametrize(
    ("case", "output", "kind", "parameter"),
    [
        ("simple_java_0", JAVA, None, ""),
        ("simple_java_0", JAVA.replace("create", "make"), "tool_name", ""),
        ("simple_java_0", JAVA.replace('"mapArea"', '"other"'), "parameter_value", "parent"),
        ("simple_java_0", JAVA.replace("parent=", "owner="), "parameter_count", "parent"),
        ("simple_java_0", JAVA.replace(")]", ', size="3")]'), "parameter_name", "size"),
        ("simple_java_0", JAVA.replace("]", f", {JAVA[1:]}"), "code_syntax", ""),  # its decoder reads one call only
        ("simple_java_0", JAVA.replace('"mapArea"', '"mapArea'), "code_syntax", ""),
        ("simple_java_0", "I cannot do that.", "tools_count", ""),
        ("simple_javascript_0", JAVASCRIPT, None, ""),
        ("simple_javascript_0", JAVASCRIPT.replace("true", "false"), "parameter_value", "isComplete"),
        ("simple_javascript_0", JAVASCRIPT.replace("isComplete", "done"), "parameter_count", "isComplete"),
    ],
)
def test_other_languages(
    checker: OfficialChecker, examples: dict[str, Example], case: str, output: str, kind: str | None, parameter: str
) -> None:
    example = examples[case]
    found = official_mistake(example, checker.check(example, output), output)
    if kind is None:
        assert found is None
    else:
        assert found is not None
        assert (str(found.type), found.parameter, found.function) == (kind, parameter, example.gold[0].name)


def test_a_relevance_case_without_a_call_lacks_one(checker: OfficialChecker, examples: dict[str, Example]) -> None:
    case = next(e for e in examples.values() if e.category == "live_relevance")
    assert not checker.check(case, "No.").correct
    assert classify_mistake(BFCL_RULES, case, "No.") == Mistake(ErrorType.TOOLS_COUNT, expected="1", got="0")
    assert checker.check(case, "[f(a=1)]").correct
    assert classify_mistake(BFCL_RULES, case, "[f(a=1)]") is None


@pytest.mark.parametrize(
    ("official", "kind"),
    [
        ("type_error:java", ErrorType.PARAMETER_VALUE),
        ("type_error:nested", ErrorType.PARAMETER_VALUE),
        ("value_error:list_dict_count", ErrorType.PARAMETER_VALUE),
        ("list_dict_checker:unclear", ErrorType.PARAMETER_VALUE),
        ("multiple_function_checker:wrong_count", ErrorType.TOOLS_COUNT),
        ("simple_function_checker:missing_optional", ErrorType.PARAMETER_COUNT),
        ("parallel_function_checker_no_order:cannot_find_match", ErrorType.OTHER),
        ("relevance_error:decoder_failed", ErrorType.TOOLS_COUNT),
        ("multi_turn:empty_turn_model_response", ErrorType.TOOLS_COUNT),
        ("multi_turn:force_terminated", ErrorType.TOOLS_COUNT),
        ("multi_turn:instance_state_mismatch", ErrorType.OTHER),
        (CHECKER_RAISED, ErrorType.OTHER),
    ],
)
def test_types_by_official_name(official: str, kind: ErrorType) -> None:
    assert error_type(CaseVerdict(False, official)) == kind


def test_code_that_would_have_to_run_is_syntax(examples: dict[str, Example]) -> None:
    found = official_mistake(examples["simple_java_0"], CaseVerdict(False, DECODER_REFUSED), "[f(a=len(b) + 1)]")
    assert found is not None
    assert found.type is ErrorType.CODE_SYNTAX
