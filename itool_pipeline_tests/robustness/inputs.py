"""Generated inputs by the hundred thousand: rows, config files, model outputs, and what people are shown of them."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import random
import re
import string
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.bfcl.conversations import MultiTurnBenchmark, tools_sandbox
from itool_pipeline.benchmarks.bfcl.multi_turn_cases import load_multi_turn
from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.benchmarks.sandbox.sandbox import Limits
from itool_pipeline.calls.reading import parse_response
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import Call, ToolCallSyntaxError
from itool_pipeline.core.types import Example, Expectation
from itool_pipeline.data.bfcl import load_bfcl
from itool_pipeline.data.layouts import read_any_layout
from itool_pipeline.data.rows import PassedOver, Quarantined
from itool_pipeline.data.wheels import BFCL, fetch_wheel
from itool_pipeline.errors import ActionableError
from itool_pipeline.experiment_files import SHIPPED, load_experiment
from itool_pipeline.judges.rule_judge import RuleJudge
from itool_pipeline.steps.display import MARKDOWN, table
from itool_pipeline.store.paths import storage_paths
from itool_pipeline_tests.data.rows_in_layouts import ROWS
from itool_pipeline_tests.robustness.outcome import Outcome, survives
from itool_pipeline_tests.robustness.scene import folder

ODD: list[Any] = [
    None, True, 0, -1, 10**400, 1e308, "", " ", "\x00", "\ud800", "x" * 5000, [], {}, [[]], {"": {}}, "{", "[f(",
    "<tool_call>", "</tools>", "```", "null", "[1, 2", '{"name": 1}', float("inf"), "\u202e", "🦉",
]  # fmt: skip
HOSTILE = [
    "().__class__.__bases__[0].__subclasses__()", "__import__('os').system('id')", "9**9**9**9", "'a' * 10**12",
    "open('/etc/passwd').read()", "(" * 3000, "[" * 3000 + "]" * 3000, "-" * 5000 + "1", "lambda: 0", "f'{exit()}'",
    "__builtins__", "eval('1')", "[i for i in range(10**9)]", "1e999", "0x" + "f" * 3000, "\\N{BULLET}", "\x00",
    "*a, **b", "a.b.c.d", "{**{}}", "not", "print(1)", "globals()", "socket.socket()", "'\\ud800'",
]  # fmt: skip
CONFIG_PIECES = [
    "\x00", "&a [*a]", "[" * 3000, "extends: ../../x\n", "- ", ": ", "{", "!!python/name:os.system", "1e400", "\t",
    "null", "~", "9" * 5000, "2026-13-41", "<<: *x\n", 'extends: "a\\0"\n', "*", "iterations: -1\n",
]  # fmt: skip
MARKS = [
    "[a](http://x)", "![a](http://x)", "<img src=x onerror=alert(1)>", "|", "`", "*a*", "**a**", "_a_", "<b>", "&lt;",
    "<http://x>", "\\", "\n", "~~a~~", "[a]: http://x", "# a", "&#60;script>", "<!--", "[a][b]", "](http://x)", "a",
]  # fmt: skip
ASKED = ("simple_python", "multiple", "parallel", "live_simple", "live_multiple", "live_parallel")
"""Categories whose gold calls are Python's."""
CHUNK = 2000
"""Rows in a file, so that a layout is found once for many."""


def mutated(value: Any, draw: random.Random) -> Any:
    """The row with one to four of its inner values replaced, dropped, doubled, renamed or wrapped."""
    row = copy.deepcopy(value)
    for _ in range(draw.randint(1, 4)):
        places = list(_places(row))
        if not places:
            break
        holder, key = draw.choice(places)
        match draw.randrange(6):
            case 0:
                holder[key] = draw.choice(ODD)
            case 1:
                del holder[key]
            case 2:
                holder[key] = [holder[key]] * draw.randint(1, 3)
            case 3 if isinstance(holder, dict):
                holder[draw.choice(["", "role", "content", "name", "value", "x"])] = holder.pop(key)
            case 4 if isinstance(holder[key], str):
                holder[key] = _damaged(holder[key], draw)
            case _:
                holder[key] = {"value": holder[key]}
    return row


def _places(value: Any) -> Iterable[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _damaged(text: str, draw: random.Random) -> str:
    """With letters taken out, put in, or a hostile piece in the middle."""
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(text) + 1)
        piece = draw.choice(["", draw.choice(string.printable), draw.choice(HOSTILE), draw.choice('()[]{}",=')])
        text = text[:place] + piece + text[place + draw.randrange(3) :]
    return text


def rows(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Each mutated row of each layout becomes examples, or is quarantined or passed over in words."""
    with folder() as root:
        path = root / "rows.jsonl"
        while outcome.tries < tries:
            for name, row in ROWS.items():
                count = min(CHUNK, tries - outcome.tries)
                others = [json.dumps(mutated(row, draw)) for _ in range(count)]
                first = [json.dumps(row)] * 3
                # Only where the whole is not read well its rows are looked at one by one.
                for lines in [others] if not _read(path, [*first, *others]) else [[line] for line in others]:
                    problems = _read(path, [*first, *lines])
                    for _ in lines[1:]:
                        outcome.tried([])
                    if lines:
                        outcome.tried([f"{name}: {problem} for {lines[0][:600]}" for problem in problems])


def _read(path: Path, lines: list[str]) -> list[str]:
    """What is wrong with how the rows are read: a trace, or rows that became nothing."""
    path.write_text("\n".join(lines) + "\n")
    examples, others = set(), set()
    try:
        for row in read_any_layout(path):
            if isinstance(row, Example):
                examples.add(_number(row.group))
            elif isinstance(row, Quarantined | PassedOver):
                others.add(_number(row.position.partition(",")[0]))
    except ActionableError:
        return []
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    first = min(examples)  # of the good rows; some readers count their examples from nought, and lines from one
    seen = others | {number - first + 1 for number in examples}
    return [] if len(seen) == len(lines) else [f"of {len(lines)} rows {len(seen)} were accounted for"]


def _number(name: str) -> int:
    """`xlam_7` → 7, `line 7` → 7."""
    return int(re.findall(r"\d+", name)[-1])


def configs(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Each damaged config file is an experiment, or is refused in a sentence."""
    texts = [path.read_text() for path in sorted(SHIPPED.glob("*.yaml"))]
    with folder() as root, _environment("ITOOL_EXPERIMENTS", str(root)):
        for number in range(tries):
            text = draw.choice(texts)
            for _ in range(draw.randint(1, 4)):
                place = draw.randrange(len(text) + 1)
                text = (
                    text[:place]
                    + draw.choice([*CONFIG_PIECES, draw.choice(string.printable)])
                    + text[place + draw.randrange(9) :]
                )
            (root / "mine.yaml").write_text(text, encoding="utf-8")
            outcome.tried(_told(survives(lambda: load_experiment("mine"), ActionableError), number, text))


def outputs(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Each answer is read, judged and compared, or is refused as no call; never a trace, never long."""
    bfcl = load_bfcl(fetch_wheel(BFCL, storage_paths().downloads)).examples
    examples = [e for e in bfcl if e.expects is Expectation.CALLS and e.category.startswith(ASKED)]
    judge = RuleJudge(BFCL_RULES)

    def judged(example: Example, answer: str) -> None:
        judge.verdict(example, answer)
        judge.agreement(example, answer)
        parse_response(answer)

    for number in range(tries):
        example = draw.choice(examples)
        answer, start = _damaged(_gold_text(example), draw), time.monotonic()
        problems = _told(survives(lambda e=example, a=answer: judged(e, a), ToolCallSyntaxError), number, answer)  # type: ignore[misc]
        outcome.tried([*problems, *(["took more than 10 s"] if time.monotonic() - start > 10 else [])])


def _gold_text(example: Example) -> str:
    return render_calls(
        Call(call.name, {name: values[0] for name, values in call.arguments.items() if values}) for call in example.gold
    )


def sandboxed(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Hostile calls to the benchmark's own tools end in an answer to the model, and leave no file outside."""
    directory = fetch_wheel(BFCL, storage_paths().downloads)
    cases, start = load_multi_turn(directory), time.monotonic()
    with folder() as outside, tools_sandbox(directory, Limits(cpu_seconds=2)) as sandbox:
        benchmark = MultiTurnBenchmark.of(directory, sandbox)
        while outcome.tries < tries:
            case = draw.choice(cases)
            talk = benchmark.begin(case)
            tools = [str(tool["name"]) for tool in case.tools]
            for _ in range(min(10, tries - outcome.tries)):
                call = f"{draw.choice([*tools, '__init__', '_load_scenario', 'exit', 'eval', 'open'])}"
                value = draw.choice([*HOSTILE, f"open('{outside}/x', 'w')", repr("../" * 9 + "etc/passwd"), "1"])
                text = f"[{call}({draw.choice(['a', 'path', 'file_name', 'content', '__class__'])}={value})]"
                problems = survives(lambda t=talk, x=text: _step(benchmark, t, x))  # type: ignore[misc]
                outcome.tried(_told(problems, outcome.tries, text))
        if list(outside.iterdir()):
            outcome.tried(["a file was written outside of the sandbox"])
    outcome.note = f"{outcome.tries / (time.monotonic() - start):.0f} a second"


def _step(benchmark: MultiTurnBenchmark, talk: Any, text: str) -> None:
    if not talk.over:
        benchmark.proceed(talk, text)


def markdown(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Whatever stands in a cell of a table is shown as text."""
    if importlib.util.find_spec("markdown_it") is None:
        outcome.skipped = "markdown-it-py is not installed"
        return
    from markdown_it import MarkdownIt

    read = MarkdownIt("commonmark").enable("table")
    allowed = {"text", "text_special", "softbreak"}
    for _ in range(tries):
        text = "".join(draw.choice(MARKS) for _ in range(draw.randint(1, 5)))
        shown = table([{"first": text, "second": "end"}])[MARKDOWN]
        tokens = read.parse(shown)
        cells = [token for token in tokens if token.type == "inline"]
        inner = {child.type for cell in cells for child in cell.children or ()}
        problems = [f"{text!r} is shown as {sorted(inner - allowed)}"] if inner - allowed else []
        wanted = ["first", "second", " ".join(text.split()) if "\n" in text else text.strip(), "end"]
        found = ["".join(child.content for child in cell.children or ()) for cell in cells]
        outcome.tried(problems or ([] if found == wanted else [f"{text!r} is shown as {found}"]))


def _told(problems: list[str], number: int, text: str) -> list[str]:
    return [f"{number}: {problem} for {text[:300]!r}" for problem in problems]


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """An environment variable for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
