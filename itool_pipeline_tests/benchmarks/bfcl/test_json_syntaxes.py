"""Calls as JSON against the benchmark's own handlers of models that write them, on gold answers and mutated ones."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.bfcl import conversations as mt
from itool_pipeline.benchmarks.bfcl.official_checker import DECODER_REFUSED, OfficialChecker
from itool_pipeline.benchmarks.bfcl.official_code import official_functions, official_multi_turn
from itool_pipeline.benchmarks.bfcl.official_errors import possible_types
from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.calls.arithmetic import CodeRefused
from itool_pipeline.calls.hermes import HERMES_CALLS
from itool_pipeline.calls.llama3_json import LLAMA3_JSON_CALLS, TAG
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import in_syntax
from itool_pipeline.calls.tool_schema import tool_names
from itool_pipeline.calls.types import Call, ToolCallSyntaxError
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import LANGUAGES, load_bfcl
from itool_pipeline.judges.mistakes import classify_mistake
from itool_pipeline.judges.verdicts import judge_response
from itool_pipeline_tests.benchmarks.bfcl.conversation_cases import gold_script, responding
from itool_pipeline_tests.benchmarks.bfcl.mutations import mutated_answer

SYNTAXES = [HERMES_CALLS, LLAMA3_JSON_CALLS]
MUTATED = 4000


@pytest.fixture(scope="module")
def with_gold(bfcl_dir: Path) -> tuple[Example, ...]:
    python = [category for category, language in LANGUAGES.items() if language == "python"]
    return tuple(example for example in load_bfcl(bfcl_dir, python).examples if example.gold and example.response)


def official_calls(bfcl_dir: Path, syntax: CallSyntax, text: str) -> list[tuple[str, dict[str, Any]]] | None:
    """What the official handler decodes; None for what it cannot, or would have to run."""
    functions = official_functions(bfcl_dir, syntax.name)
    try:
        decoded = functions.decode(text, functions.return_format("python"), False)
    except (Exception, CodeRefused):
        return None
    if not functions.is_call_format(decoded):
        return None
    return [(name, arguments) for call in decoded for name, arguments in call.items()]


def own_calls(syntax: CallSyntax, text: str) -> list[tuple[str, dict[str, Any]]] | None:
    try:
        return [(call.name, dict(call.arguments)) for call in syntax.read_response(text)]
    except ToolCallSyntaxError:
        return None


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def read_otherwise(text: str) -> bool:
    """Whether Llama's handler, which hands an answer to `eval` or parts it at every `;`, reads it in its own way."""
    bare = text.replace(TAG, "").strip()
    if ";" in bare:  # it parts texts within arguments too
        return not all(is_json(part) for part in bare.split(";"))
    return not is_json(bare) or any(word in bare for word in ("true", "false", "null", "\\"))


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_gold_answers_decode_alike_and_are_right(
    with_gold: tuple[Example, ...], bfcl_dir: Path, syntax: CallSyntax
) -> None:
    """179 right answers are refused by Llama's handler: what `eval` takes is no JSON, and what is JSON it refuses."""
    checker, refused = OfficialChecker(bfcl_dir, syntax), list[str]()
    for example in with_gold:
        text = in_syntax(example.response, syntax, tool_names(example.tools))
        assert judge_response(BFCL_RULES, example, text, syntax).correct
        if checker.check(example, text).correct:
            assert own_calls(syntax, text) == official_calls(bfcl_dir, syntax, text)
        else:
            assert read_otherwise(text)
            refused.append(example.id)
    assert len(refused) == (0 if syntax is HERMES_CALLS else 179)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_mutated_answers_decode_alike(with_gold: tuple[Example, ...], bfcl_dir: Path, syntax: CallSyntax) -> None:
    draw, checker = random.Random(20250109), OfficialChecker(bfcl_dir, syntax)
    seen: Counter[tuple[bool, bool]] = Counter()
    otherwise = 0
    for _ in range(MUTATED):
        example = draw.choice(with_gold)
        _, text = mutated_answer(example, draw, syntax)
        ours, theirs = own_calls(syntax, text), official_calls(bfcl_dir, syntax, text)
        if syntax is LLAMA3_JSON_CALLS and read_otherwise(text):
            otherwise += 1
            continue
        assert ours == theirs, text
        verdict = checker.check(example, text)
        assert judge_response(BFCL_RULES, example, text, syntax).correct is verdict.correct, text
        mistake = classify_mistake(BFCL_RULES, example, text, syntax)
        assert (mistake is None) is verdict.correct
        assert mistake is None or mistake.type in possible_types(verdict.error_type), (text, mistake, verdict)
        seen[theirs is not None, verdict.correct] += 1
    assert min(seen[True, True], seen[True, False]) > 300
    assert otherwise < MUTATED // 3


HOSTILE = [
    "__import__('os').system('touch RAN')",
    "[__import__('os').system('touch RAN')]",
    "{'name': 'f', 'parameters': {'a': __import__('pathlib').Path('RAN').touch()}}",
    '[exec(\'open("RAN", "w")\')]',
    "(lambda: open('RAN', 'w'))()",
    "[x for x in [open('RAN', 'w')]]",
    'self.decode_ast(\'open("RAN", "w")\', 1, 2)',
    "9**9**9",
    "[" * 5000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_the_official_handler_would_run_is_not_run(
    with_gold: tuple[Example, ...], bfcl_dir: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    verdict = OfficialChecker(bfcl_dir, LLAMA3_JSON_CALLS).check(with_gold[0], text)
    assert verdict.error_type == DECODER_REFUSED
    assert mt.decode(official_multi_turn(bfcl_dir, "llama3_json"), text) == []
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["I don't know.", "It's\nso (or not", "No [really", "'", "{", "max(", "hello", "\0"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_words_are_words_to_the_official_handlers_too(bfcl_dir: Path, syntax: CallSyntax, text: str) -> None:
    checker = OfficialChecker(bfcl_dir, syntax)
    (no_call,) = (e for e in load_bfcl(bfcl_dir, ["irrelevance"]).examples if e.id == "irrelevance_0")
    assert checker.check(no_call, text).correct


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_calls_of_conversations_are_decoded_as_the_handlers_do(bfcl_dir: Path, syntax: CallSyntax) -> None:
    official = official_multi_turn(bfcl_dir, syntax.name)
    text = syntax.render_calls([Call("cd", {"folder": "a'b"}), Call("ls", {"a": True, "n": [1, None]})])
    assert mt.decode(official, text) == ['cd(folder="a\'b")', "ls(a=True,n=[1, None])"]
    assert mt.decode(official, "Done.") == []


@pytest.mark.slow
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_expected_calls_win_their_conversations(bfcl_dir: Path, syntax: CallSyntax) -> None:
    """But for calls alone in their step that hold `true`, `false` or `null`, which Llama's handler refuses."""
    cases = mt_cases(bfcl_dir)
    scripts = {
        case.id: [[in_syntax(text, syntax) for text in turn] for turn in gold_script(case, one_by_one=True)]
        for case in cases
    }
    with mt.tools_sandbox(bfcl_dir) as sandbox:
        benchmark = mt.MultiTurnBenchmark.of(bfcl_dir, sandbox, syntax.name, instructed=False)
        results = mt.hold(benchmark, cases, responding(scripts))
        lost = {case.id for case in cases if not benchmark.check(case, results[case.id]).correct}
    refused = {key for key, turns in scripts.items() if any(read_otherwise(t) for turn in turns for t in turn[:-1])}
    assert lost <= (refused if syntax is LLAMA3_JSON_CALLS else set())
    assert len(cases) - len(lost) >= 5


def mt_cases(bfcl_dir: Path) -> list[Any]:
    from itool_pipeline.benchmarks.bfcl.multi_turn_cases import load_multi_turn

    return list(load_multi_turn(bfcl_dir, ["multi_turn_base"])[:12])
