"""Every Java and JavaScript gold answer, written in its language, through the official decoders and converters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.bfcl.official_checker import OfficialChecker
from itool_pipeline.benchmarks.bfcl.official_code import official_functions
from itool_pipeline.calls.tool_schema import find_tool, parameter_schemas
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import load_bfcl

Schema = dict[str, Any]

BODY = "the decoder drops the body of `new HashMap() {{ put(...); }}`"
QUOTES = "the converter leaves the quotes on the elements of `new String[]{...}`"
ANY = "the converter reads every element of a list of `any` as text"
REFUSED = {
    **dict.fromkeys(["simple_java_1", "simple_java_67", "simple_java_68"], BODY),
    **dict.fromkeys([f"simple_java_{i}" for i in (35, 78, 83, 85, 86, 89, 90, 91)], QUOTES),
    **dict.fromkeys(["simple_java_36", "simple_java_65"], ANY),
}
"""Right answers in good Java that the official chain refuses, and why."""


@pytest.fixture(scope="module")
def cases(bfcl_dir: Path) -> tuple[Example, ...]:
    return load_bfcl(bfcl_dir, ["simple_java", "simple_javascript"]).examples


@pytest.fixture(scope="module")
def checker(bfcl_dir: Path) -> OfficialChecker:
    return OfficialChecker(bfcl_dir)


def java(value: Any, schema: Schema) -> str:
    """A value as Java source, of the type that the schema names."""
    kind, item = schema.get("type"), dict(schema.get("items") or {})
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value}{'L' if kind == 'long' else ''}"
        case list() if kind == "Array":
            return f"new {item.get('type', 'Object')}[]{{{', '.join(java(x, item) for x in value)}}}"
        case list():
            return f"new ArrayList<Object>(Arrays.asList({', '.join(java(x, item) for x in value)}))"
        case dict():
            puts = "".join(f'put("{key}", {java(x, {})}); ' for key, x in value.items())
            return f"new HashMap<String, Object>() {{{{ {puts}}}}}"
        case str() if kind == "any" and value.startswith("new "):
            return value
    return json.dumps(value, ensure_ascii=False)


def javascript(value: Any, schema: Schema) -> str:
    """A value as JavaScript source."""
    match value:
        case list():
            return f"[{', '.join(javascript(x, {}) for x in value)}]"
        case dict():
            return f"{{{', '.join(f'{json.dumps(key)}: {javascript(x, {})}' for key, x in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)


def concrete(value: Any) -> Any:
    """One of the values that a gold value stands for: inside a dictionary there is a list of accepted ones."""
    if isinstance(value, dict):
        return {key: concrete(options[0]) if isinstance(options, list) else options for key, options in value.items()}
    return value


def written(case: Example) -> str:
    """The call with the first accepted value of each parameter, as source of its language."""
    (call,) = case.gold
    write = java if case.language == "java" else javascript
    schemas = parameter_schemas(find_tool(case.tools, call.name) or {})
    given = [
        f"{name}={write(concrete(accepted[0]), dict(schemas[name]))}"
        for name, accepted in call.arguments.items()
        if accepted[0] != ""
    ]
    return f"[{call.name}({', '.join(given)})]"


def test_every_gold_answer_is_right_or_has_a_reason(cases: tuple[Example, ...], checker: OfficialChecker) -> None:
    assert [len([c for c in cases if c.language == language]) for language in ("java", "javascript")] == [100, 50]
    verdicts = {case.id: checker.check(case, written(case)) for case in cases}
    assert {key for key, verdict in verdicts.items() if not verdict.correct} == set(REFUSED)
    errors = {BODY: "value_error:dict_key", QUOTES: "value_error:list/tuple", ANY: "value_error:list/tuple"}
    assert all(verdicts[key].error_type == errors[why] for key, why in REFUSED.items())


def test_the_decoders_read_the_call_that_was_written(cases: tuple[Example, ...], bfcl_dir: Path) -> None:
    functions = official_functions(bfcl_dir)
    for case in cases:
        (gold,) = case.gold
        given = {name for name, accepted in gold.arguments.items() if accepted[0] != ""}
        (call,) = functions.decode(written(case), functions.return_format(case.language), False)
        assert {name: set(arguments) for name, arguments in call.items()} == {gold.name: given}


def test_the_reasons_are_the_converters_own(cases: tuple[Example, ...], bfcl_dir: Path) -> None:
    """What the official decoder hands on has lost the body before anything is compared."""
    functions = official_functions(bfcl_dir)
    for case in cases:
        if REFUSED.get(case.id) != BODY:
            continue
        (call,) = functions.decode(written(case), functions.return_format("java"), False)
        assert "put(" in written(case)
        assert not any("put(" in value for arguments in call.values() for value in arguments.values())


@pytest.mark.parametrize("language", ["java", "javascript"])
def test_wrong_answers_are_refused(cases: tuple[Example, ...], checker: OfficialChecker, language: str) -> None:
    refused = 0
    for case in cases:
        if case.language != language or case.id in REFUSED:
            continue
        (gold,) = case.gold
        other = replace(case, gold=(replace(gold, name=f"{gold.name}2"),))
        renamed = written(case).replace(gold.name, other.gold[0].name, 1)
        assert checker.check(case, renamed).error_type == "simple_function_checker:wrong_func_name"
        for name, accepted in gold.arguments.items():
            if isinstance(accepted[0], str) and accepted[0]:
                wrong = replace(gold, arguments={**gold.arguments, name: ("something else",)})
                assert not checker.check(case, written(replace(case, gold=(wrong,)))).correct, (case.id, name)
                refused += 1
    assert refused > 50
