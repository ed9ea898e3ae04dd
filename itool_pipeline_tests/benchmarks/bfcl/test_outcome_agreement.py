"""Our decoder and verdicts against BFCL's own, on gold answers and on gold answers made wrong in many ways."""

from __future__ import annotations

import random
import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.bfcl.official_checker import OfficialChecker
from itool_pipeline.benchmarks.bfcl.official_code import official_functions
from itool_pipeline.benchmarks.bfcl.official_errors import possible_types
from itool_pipeline.calls.reading import parse_calls, parse_response
from itool_pipeline.calls.rendering import render_calls, render_gold
from itool_pipeline.calls.types import Call, ToolCallSyntaxError
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import LANGUAGES, load_bfcl
from itool_pipeline_tests.benchmarks.bfcl.mutations import CALL_MUTATIONS, mutated_answer
from itool_pipeline_tests.judges.by_source import JUDGE, mistake_of

UNANSWERABLE = {
    "live_simple_106-63-0": "required parameters have no accepted value",
    "live_simple_112-68-0": "required parameters have no accepted value",
    "live_multiple_862-181-3": "a parameter that must be given is not in the schema",
    "live_multiple_964-207-0": "a required parameter is not in the gold answer",
}
"""Gold answers that the official checker refuses however they are written."""

MUTATED = 5000


@pytest.fixture(scope="module")
def examples(bfcl_dir: Path) -> tuple[Example, ...]:
    """All Python single-turn examples."""
    return load_bfcl(bfcl_dir, [category for category, language in LANGUAGES.items() if language == "python"]).examples


@pytest.fixture(scope="module")
def with_gold(examples: tuple[Example, ...]) -> tuple[Example, ...]:
    return tuple(example for example in examples if example.gold)


@pytest.fixture(scope="module")
def official(bfcl_dir: Path) -> OfficialChecker:
    return OfficialChecker(bfcl_dir)


def _official_calls(decoded: list[dict[str, dict[str | None, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """The official decoder's calls, with our name for what it names None."""
    return [
        (name, {"**" if key is None else key: value for key, value in arguments.items()})
        for call in decoded
        for name, arguments in call.items()
    ]


def _own_calls(calls: tuple[Call, ...]) -> list[tuple[str, dict[str, Any]]]:
    """Our calls without positional arguments, which the official decoder forgets."""
    return [(c.name, {k: v for k, v in c.arguments.items() if not re.fullmatch(r"\*\d+", k)}) for c in calls]


def test_rendered_gold_is_right_and_decodes_alike(
    with_gold: tuple[Example, ...], official: OfficialChecker, bfcl_dir: Path
) -> None:
    functions = official_functions(bfcl_dir)
    python = functions.return_format("python")
    refused = set()
    for example in with_gold:
        text = render_gold(example.gold, example.tools)
        calls = parse_response(text)
        assert _own_calls(calls) == _official_calls(functions.decode(text, python, False))
        assert parse_calls(text) == calls
        assert render_calls(calls) == text
        verdict = official.check(example, text).correct
        assert JUDGE.verdict(example, text).correct is verdict
        if not verdict:
            refused.add(example.id)
    assert len(with_gold) == 2351
    assert refused == set(UNANSWERABLE)


def test_verdicts_agree_on_mutated_gold_answers(with_gold: tuple[Example, ...], official: OfficialChecker) -> None:
    draw = random.Random(20250109)
    verdicts: Counter[tuple[str, bool]] = Counter()
    disagreements = []
    for _ in range(MUTATED):
        example = draw.choice(with_gold)
        mutation, text = mutated_answer(example, draw)
        theirs = official.check(example, text)
        verdicts[mutation, theirs.correct] += 1
        if JUDGE.verdict(example, text).correct is not theirs.correct:
            disagreements.append((example.id, text, theirs))
        mistake = mistake_of(example, text)
        assert (mistake is None) is theirs.correct
        assert mistake is None or mistake.type in possible_types(theirs.error_type), (text, mistake, theirs)
    assert disagreements == []
    for mutation in [*(m.__name__ for m in CALL_MUTATIONS), "text"]:
        assert verdicts[mutation, False] >= 50
    assert sum(count for (_, correct), count in verdicts.items() if correct) >= 500


PLAIN = (
    "I cannot do that.",
    "",
    "[]",
    "None",
    "Please give me the city (and date).",
    "[see above]",
    "f(x)",
    "```\n```",
)


def test_verdicts_agree_where_no_call_or_any_call_is_wanted(
    examples: tuple[Example, ...], with_gold: tuple[Example, ...], official: OfficialChecker
) -> None:
    draw = random.Random(7)
    without = [example for example in examples if not example.gold]
    verdicts: Counter[tuple[str, bool]] = Counter()
    for example in without:
        for text in (draw.choice(PLAIN), mutated_answer(draw.choice(with_gold), draw)[1]):
            theirs = official.check(example, text)
            assert JUDGE.verdict(example, text).correct is theirs.correct, text
            mistake = mistake_of(example, text)
            assert (mistake is None) is theirs.correct
            verdicts[example.category, theirs.correct] += 1
    assert min(verdicts.values()) >= 5
    assert {category for category, _ in verdicts} == {"irrelevance", "live_irrelevance", "live_relevance"}


PIECES = [
    *(
        "f",
        "a",
        "a.b",
        "f(",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        "=",
        ":",
        "a=",
        "**",
        "*",
        "-",
        "+",
        "/",
        "%",
        "<",
        "@",
    ),
    *(
        '"x"',
        "'y'",
        '"""z"""',
        'r"\\n"',
        'b"q"',
        'f"{x}"',
        '"unclosed',
        "'",
        "\\",
        "1",
        "2.5",
        "007",
        "1_0",
        "3j",
        "1e5",
    ),
    *(
        "True",
        "None",
        "true",
        "...",
        ".",
        " ",
        "\n",
        "#c\n",
        " not ",
        " and ",
        " if ",
        " else ",
        " in ",
        "lambda x:",
        "é",
    ),
    *(
        "x[1]",
        "x[1:2]",
        "from=",
        "`",
        '"\\x4"',
        "1.",
        ".5",
        "(1,)",
        "{1: 2}",
        "f(a=1)",
        "g(x)",
        "~1",
        "1 << 2",
        "1 / 0",
    ),
]


def test_the_decoders_agree_on_damaged_text(with_gold: tuple[Example, ...], bfcl_dir: Path) -> None:
    """All differences are over syntax that we do not read, inside an argument that the official decoder drops."""
    functions = official_functions(bfcl_dir)
    python = functions.return_format("python")
    draw = random.Random(11)
    decoded, differ = 0, []
    for _ in range(6000):
        response = _damaged(draw.choice(with_gold), draw)
        theirs = _decoded(lambda text: _official_calls(functions.decode(text, python, False)), response, Exception)
        ours = _decoded(lambda text: _own_calls(parse_response(text)), response, ToolCallSyntaxError)
        decoded += theirs is not None
        if repr(ours) != repr(theirs):
            differ.append((response, ours, theirs))
    assert decoded >= 500
    assert [found for found in differ if found[1] is not None or not re.search(":=|lambda", found[0])] == []
    assert len(differ) <= 6


def _damaged(example: Example, draw: random.Random) -> str:
    text = list(render_gold(example.gold[:1])[:150] if draw.random() < 0.7 else "[f(a=1)]")
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(text) + 1)
        text[place : place + draw.choice([0, 0, 1])] = draw.choice(PIECES)
    return "".join(text)


def _decoded(decode: Callable[[str], Any], response: str, failure: type[Exception]) -> Any:
    """What a decoder reads, or None when it fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return decode(response)
        except failure:
            return None


def test_agreement_grows_along_the_gold_answer(with_gold: tuple[Example, ...]) -> None:
    """At every fragment of a third of the gold answers, at every character of some; it ends at 1."""
    answerable = [example for example in with_gold if example.id not in UNANSWERABLE]
    for number, example in enumerate(answerable):
        if number % 3 and "parallel" not in example.category:
            continue
        text = render_gold(example.gold, example.tools)
        every = number % 30 == 0
        cuts = [i for i in range(len(text) + 1) if every or text[i - 1 : i] in tuple(",.()") or i == len(text)]
        found = [JUDGE.agreement(example, text[:cut]) for cut in cuts]
        assert not any(agreement.flawed for agreement in found)
        values = [agreement.value for agreement in found]
        assert values == sorted(values)
        assert (values[0], values[-1]) == (0, 1) if every else values[-1] == 1


def test_a_wrong_value_lowers_agreement(with_gold: tuple[Example, ...]) -> None:
    lowered = 0
    for example in with_gold[::7]:
        calls = parse_calls(render_gold(example.gold, example.tools))
        for name in list(calls[0].arguments)[:2]:
            wrong = Call(calls[0].name, {**calls[0].arguments, name: b"wrong"})
            before = render_calls([Call(wrong.name, {k: v for k, v in wrong.arguments.items() if k != name})])[:-2]
            separator = ", " if len(wrong.arguments) > 1 else ""
            after = f'{before}{separator}{name}=b"wrong",'
            assert JUDGE.agreement(example, after).value < JUDGE.agreement(example, f"{before}{separator}").value
            assert JUDGE.agreement(example, after).flawed
            assert JUDGE.agreement(example, render_calls([wrong, *calls[1:]])).value < 1
            lowered += 1
    assert lowered > 300


def test_what_a_right_answer_begins_with_is_never_flawed(with_gold: tuple[Example, ...]) -> None:
    """The checker takes arguments and parallel calls in any order; no part of such an answer may count as wrong."""
    draw, right = random.Random(0), 0
    for example in with_gold[::5]:
        calls = list(parse_calls(render_gold(example.gold, example.tools)))
        draw.shuffle(calls)
        shuffled = [Call(c.name, dict(draw.sample(list(c.arguments.items()), len(c.arguments)))) for c in calls]
        text = render_calls(shuffled)
        if not JUDGE.verdict(example, text).correct:
            continue
        right += 1
        flawed = [cut for cut in range(len(text) + 1) if JUDGE.agreement(example, text[:cut]).flawed]
        assert not flawed, (example.id, text[: flawed[0]])
    assert right > 150
