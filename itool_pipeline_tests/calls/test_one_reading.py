"""What is a call, where its arguments end and what has a value: every part of the pipeline says the same.

The fragments, the reward's partial reading, the whole reading and the official decoder's arithmetic on common texts.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from itool_pipeline.benchmarks.bfcl.literal_arithmetic import evaluate_literals
from itool_pipeline.benchmarks.bfcl.official_code import official_functions
from itool_pipeline.calls.arithmetic import MAX_BITS, MAX_ITEMS, CodeRefused
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.python_text import MAX_LENGTH
from itool_pipeline.calls.python_values import literal_value, parsed_expression
from itool_pipeline.calls.reading import finished_calls, looks_like_call, parse_response
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.tool_schema import POSITIONAL
from itool_pipeline.calls.types import BegunCall, ToolCallSyntaxError
from itool_pipeline.core.fragments import FragmentRule

CALLS = [
    "[f(a=1.5, b=2)]",
    "f(a=1.5, b=2)",
    "f(a=1.5, b=2), g(c='x, y')",
    "```\n[f(a=1, b=2)]\n```",
    "\n `f(a=1, b=2)`",
    " f (a=1, b=2)",
    "\tf(a=1, b=2)",
    "f\n(a=1, b=2)",
    "# as asked, yes\nf(a=1, b=2)",
    "[\t f(a=1, b=2)]",
    "[f(a=1, # one, two)\n b=2)]",
    "[f(a=1), # next, please\n g(b=2)]",
    '[f(a=\'it, (s\', b="x) \\" , y")]',
    "[f(a='''it's, (so''', b=2)]",
    '[f(a="""x", y)""", b=\'\', c="")]',
    "[f(a=r'\\', b', c=2)]",
    "[f(a='x\\\ny, z', b=2)]",
    "[f(a=g(1, x), b=h(y=(2, 3)), c=[1, {'k': (4,)}])]",
    "[f(a=2 * (3 + 1), b=-2, c=1_0)]",
    "[math.add(a=1., b=.5, c=1e-3)]",
    "[f(1, x, a=2), g()]",
    "[f(a=1,), ]",
]
"""Whole responses that the official decoder reads. The last two kinds of brackets are never all that decides."""

PROSE = [
    "",
    "No. Give me a, b.",
    "Sure, f(a=1, b=2)",
    "I see. f(a=1)",
    "Please give me the city (and date), or both.",
    "\t[f(a=1, b=2)]",
    "3.5 (about), roughly",
    "f.g and h.",
]

UNFINISHED = ["[f(a='x, y", '[f(a="""x", ', "[f(a=[1, (2", "[f(a=1, b", "[f(a=1 # no, end", "f(a={'k': [1,", "[f(a='\\"]


def _done(partial: str) -> list[tuple[str, int, bool]]:
    """How far each begun call has come: name, arguments that have ended, whether it is closed."""
    begun, _ = finished_calls(partial)
    return [(call.name, len(call.arguments), call.closed) for call in begun]


@pytest.mark.parametrize("text", CALLS)
def test_what_decodes_is_a_call_to_all(text: str) -> None:
    calls = parse_response(text)
    assert calls
    assert looks_like_call(text)
    assert PYTHON_CALLS.has_begun_call(text)
    begun, _ = finished_calls(text.rstrip("`\n"))
    assert [(c.name, c.arguments) for c in begun] == [(c.name, c.arguments) for c in calls]
    assert len(list(FragmentRule(",)").ends(text))) >= sum(max(1, len(call.arguments)) for call in calls)


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_a_call_to_none(text: str) -> None:
    assert not looks_like_call(text)
    try:
        calls = parse_response(text)
    except ToolCallSyntaxError:
        calls = ()
    assert calls == ()
    assert list(FragmentRule(",.)").ends(text)) == [i + 1 for i, char in enumerate(text) if char in ",.)"]


@pytest.mark.parametrize("text", [*CALLS, *UNFINISHED])
def test_fragments_end_where_arguments_end(text: str) -> None:
    """Where a character ends an argument or a call for the reader, it ends a fragment, and hardly anywhere else.

    The others are the commas between two calls, and those of a list that ends.
    """
    changes = [i for i in range(1, len(text) + 1) if text[i - 1] in ",)" and _done(text[:i]) != _done(text[: i - 1])]
    ends = list(FragmentRule(",)").ends(text))
    others = {i for i in ends if i not in changes}
    assert set(changes) <= set(ends)
    assert all(text[i - 1] == "," and _closed(finished_calls(text[:i])[0]) for i in others)


def _closed(begun: list[BegunCall]) -> bool:
    return all(call.closed for call in begun)


@pytest.mark.parametrize("text", [*CALLS, *PROSE, *UNFINISHED])
@pytest.mark.parametrize("terminators", [",.)", ",)", ",.()", " \n,", "'\"#=]"])
def test_a_growing_text_never_takes_an_end_back(text: str, terminators: str) -> None:
    rule = FragmentRule(terminators)
    whole = list(rule.ends(text))
    for length in range(len(text) + 1):
        assert list(rule.ends(text[:length])) == [end for end in whole if end <= length]
    assert "".join(rule.split(text)) == text


@pytest.mark.parametrize("text", CALLS)
def test_a_prefix_of_a_response_can_always_be_mended(text: str) -> None:
    bare = text.rstrip("`\n")
    for length in range(len(bare)):
        begun, error = finished_calls(bare[:length])
        assert error is None or error.ended, bare[:length]
        assert all(call.name for call in begun)


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("f(a=1.5, b=2)", ["f(a=1.5,", " b=2)"]),
        ("f(a=1.5), g(b='x, y.')", ["f(a=1.5)", ",", " g(b='x, y.')"]),
        # the period came before the `(`, when this could still have been a sentence
        ("f.g(a=1.5, b=2)", ["f.", "g(a=1.5,", " b=2)"]),
        ("```f(a=.5)```", ["```f(a=.5)", "```"]),
        ("\t[f(a=1, b=2)]", ["\t[f(a=1,", " b=2)", "]"]),
        ("[f(a='''it's, so''', b=2)]", ["[f(a='''it's, so''',", " b=2)", "]"]),
        ("[f(a=1 # one, two)\n, b=2)]", ["[f(a=1 # one, two)\n,", " b=2)", "]"]),
        ("[C# Compiler(a=1, b=2)]", ["[C# Compiler(a=1,", " b=2)", "]"]),
        ("[f(a='x\n, b=2)]", ["[f(a='x\n,", " b=2)", "]"]),
    ],
)
def test_fragments_by_hand(text: str, fragments: list[str]) -> None:
    assert FragmentRule(",.)").split(text) == fragments


def test_a_tab_is_no_wrapping_to_any() -> None:
    """The official decoder strips backticks, line breaks and spaces, so a list behind a tab is a list in a list."""
    text = "\t[f(a=1.5, b=2)]"
    assert not looks_like_call(text)
    assert finished_calls(text)[0] == []
    with pytest.raises(ToolCallSyntaxError):
        parse_response(text)
    assert FragmentRule(",.)").split(text) == ["\t[f(a=1.", "5,", " b=2)", "]"]


ARITHMETIC = [
    *(f"1 << {MAX_BITS - 1}", f"1 << {MAX_BITS}", "1 << 11000", "3 ** 9000", "-(2 ** 13999)", "2 ** 14000"),
    *(f"'a' * {MAX_ITEMS}", f"'a' * {MAX_ITEMS + 1}", f"{MAX_ITEMS} * [0]", "[0] * 100001", "'ab' * 50001"),
    *("9 ** 9 ** 9", "(1 << 9000) * (1 << 9000)", "'%d' % 1", "{1: 2} | {3: 4}", "1 / 0", "1 + 'a'", "(1, 2) + (3,)"),
    *("1 << -1", "2 ** -1", "+".join("1" * 30), "+".join("1" * 100), "0x" + "f" * 4000 + " + 1", "7 % 4", "~5 & 12"),
]


@pytest.mark.parametrize("text", ARITHMETIC, ids=lambda text: text[:20])
def test_the_reward_and_the_score_have_one_arithmetic(text: str) -> None:
    assert _value(lambda: parse_response(f"[f(a={text})]")[0].arguments["a"]) == _value(lambda: evaluate_literals(text))


def _value(read: Callable[[], Any]) -> str | None:
    try:
        return repr(read())
    except (ToolCallSyntaxError, CodeRefused, ArithmeticError, TypeError, ValueError):
        return None


def test_the_bounds_of_arithmetic() -> None:
    assert evaluate_literals(f"1 << {MAX_BITS - 1}") == 1 << (MAX_BITS - 1)
    assert len(str(1 << MAX_BITS)) < 4300
    for text in (f"1 << {MAX_BITS}", f"'a' * {MAX_ITEMS + 1}", "0x" + "f" * 4000):
        with pytest.raises(CodeRefused, match="too large"):
            evaluate_literals(text)


HOSTILE = [
    *("(", "[", "{", "{1:", "-", "not ", "~", "1+", "1**", "a.", "f(", "f()", "x[0]", "lambda:", "1 if 1 else ", "*"),
    *(
        "f'{",
        "await ",
        "a:=",
        "1<",
        "a and ",
        "''",
        "r'\\'",
        "\\\n",
        "#\n",
        "'\\N{",
        "0x",
        "1_",
        "1,",
        "{**",
        "[*",
        "\\d",
    ),
]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("around", ["[f(a={})]", "[f({}", "{}", '[f(a=f"{{{}}}")]', "[f(a='{}')]"])
def test_hostile_text_costs_little_and_says_nothing(piece: str, around: str) -> None:
    """No other error than ours, no warning, and no more time than for any text of its length."""
    for count in (30, 70, 300, 5000):
        text = around.format(piece * count)
        begun = time.process_time()
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            for quirks in (False, True):
                _value(lambda text=text, quirks=quirks: parse_response(text, quirks=quirks))  # type: ignore[misc]
                finished_calls(text, quirks=quirks)
            list(FragmentRule().ends(text))
            literal_value(text)
        assert remarks == []
        assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "text",
    ["x" * 150_000 + "!", "é" * 150_000 + "0!", "'" + "a" * 150_000, "1" * 150_000],
    ids=["letters", "wide", "string", "digits"],
)
def test_long_words_take_linear_time(text: str) -> None:
    begun = time.process_time()
    for opening in ("[f(a=", "[", "", "[f("):
        finished_calls(opening + text)
        finished_calls(opening + text, quirks=True)
        looks_like_call(opening + text)
    assert time.process_time() - begun < 5


def test_an_argument_is_bounded_in_length() -> None:
    assert parse_response(f"[f(a='{'x' * (MAX_LENGTH - 4)}')]")
    with pytest.raises(ToolCallSyntaxError, match="more than 200000 characters"):
        parse_response(f"[f(a='{'x' * MAX_LENGTH}')]")
    with pytest.raises(ToolCallSyntaxError, match="levels deep"):
        parsed_expression("-" * 100 + "1")
    assert parse_response(f"[f(a=[{'-1 + 2, ' * 100}], b={{{'1: [2], ' * 100}}})]")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("'x'", "x"), ("[1, 'a']", [1, "a"]), ("true", True), ('{"a": null}', {"a": None}), ("None", None),
     ("x y", "x y"), ("1, 2", (1, 2)), ("f(1)", "f(1)"), ("[" * 5000, "[" * 5000), (" 7", 7)],
)  # fmt: skip
def test_literals_of_api_bank(text: str, value: Any) -> None:
    assert literal_value(text) == value


PIECES = st.sampled_from(
    [
        *("f", "g.h", "(", "(", ")", ",", ", ", "=", "a=", "1", "2.5", "-", "'x, y'", '"z)"', "'''q'''", "'", '"'),
        *("[", "]", "{", "}", ":", "#c\n", "\n", " ", "\t", "`", "\\", "not ", "x", ".", "*", "**", "1e", "if ", "is "),
    ]
)


@settings(deadline=None, max_examples=400)
@given(st.lists(PIECES, max_size=14).map("".join) | st.lists(PIECES, max_size=10).map(lambda p: "[f(a=" + "".join(p)))
@example("]\\\n")
def test_what_is_finished_stays_finished(text: str) -> None:
    """An error that cannot be mended stays; a finished argument is never taken back unless the call was none."""
    hopeless = False
    for length in range(len(text) + 1):
        _, error = finished_calls(text[:length])
        assert not (hopeless and (error is None or error.ended)), text[:length]
        hopeless = error is not None and not error.ended


@pytest.mark.parametrize("begun", ["[f()]", "]", "[f(), g(a=1)] \n"])
def test_a_continued_line_may_still_come_behind_the_list(begun: str) -> None:
    """Python takes `[f()]\\` with a comment on its next line."""
    for text, mendable in ((f"{begun}\\", True), (f"{begun}\\\\", False), (f"{begun}\\x", False)):
        error = finished_calls(text)[1]
        assert error is not None
        assert error.ended == mendable
    assert finished_calls(f"{begun}\\\n#")[1] is None
    with pytest.raises(ToolCallSyntaxError, match="text after the list"):
        parse_response(f"{begun}\\")


@settings(deadline=None, max_examples=400)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_what_is_no_call_to_begin_with_never_decodes(text: str) -> None:
    """But for expressions that are called, such as `f[1](a=1)` or `(f)(a=1)`: to the decoder these are calls too."""
    try:
        calls = parse_response(text)
    except ToolCallSyntaxError:
        return
    odd = any(not call.name for call in calls) or text.lstrip("`\n [\t").startswith("(")
    assert not calls or looks_like_call(text) or odd or "](" in text or ")(" in text


def test_the_python_syntax_is_a_call_syntax() -> None:
    syntax: CallSyntax = PYTHON_CALLS
    calls = syntax.read_response("f(a=true), g()", quirks=True)
    assert syntax.name == "python"
    assert syntax.render_calls(calls) == "[f(a=True), g()]"
    assert syntax.finished_calls("[f(a=1, b=")[0] == [BegunCall("f", {"a": 1})]
    assert FragmentRule(",").syntax is syntax


@pytest.mark.fuzz
def test_many_damaged_answers_decode_as_the_official_decoder_says(bfcl_dir: Path) -> None:
    from itool_pipeline_tests.benchmarks.bfcl.test_outcome_agreement import PIECES as DAMAGE

    functions = official_functions(bfcl_dir)
    python = functions.return_format("python")
    draw = random.Random(3)
    for _ in range(30_000):
        text = list(draw.choice(CALLS))
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(text) + 1)
            text[place : place + draw.choice([0, 0, 1])] = draw.choice(DAMAGE)
        answer = "".join(text)
        ours = _value(lambda answer=answer: _named(answer))  # type: ignore[misc]
        theirs = _official(functions.decode, answer, python)
        assert ours == theirs, answer


def _named(answer: str) -> list[tuple[str, dict[str, Any]]]:
    """The calls without their positional arguments, which the official decoder drops."""
    calls = parse_response(answer)
    return [(c.name, {k: v for k, v in c.arguments.items() if not POSITIONAL.fullmatch(k)}) for c in calls]


def _official(decode: Callable[..., Any], answer: str, python: Any) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            decoded = decode(answer, python, False)
        except Exception:
            return None
    return repr([
        (name, {"**" if key is None else key: value for key, value in arguments.items()})
        for call in decoded for name, arguments in call.items()
    ])  # fmt: skip
