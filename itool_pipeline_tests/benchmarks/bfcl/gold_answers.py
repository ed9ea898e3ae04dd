"""Writes a file of gold answers, and mutated ones, to every BFCL case, for `make conformance`.

python -m itool_pipeline_tests.benchmarks.bfcl.gold_answers FILE [SEED [SYNTAX]]
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.bfcl.multi_turn_cases import MultiTurnCase, load_multi_turn
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import in_syntax, rendered_calls, syntax_named
from itool_pipeline.calls.tool_schema import tool_names
from itool_pipeline.calls.types import Call
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import load_bfcl
from itool_pipeline.data.wheels import BFCL, fetch_wheel
from itool_pipeline.store.paths import storage_paths
from itool_pipeline_tests.benchmarks.bfcl.conversation_cases import gold_script, mutated_script
from itool_pipeline_tests.benchmarks.bfcl.mutations import mutated_answer


def answers(bfcl_dir: Path, seed: int, syntax: CallSyntax = PYTHON_CALLS) -> Iterator[tuple[str, Any]]:
    """(case id, result) for every case of every category; about one in four unchanged."""
    draw = random.Random(seed)
    for example in load_bfcl(bfcl_dir).examples:
        yield example.id, single_turn(example, draw) if syntax is PYTHON_CALLS else in_json(example, draw, syntax)
    for case in load_multi_turn(bfcl_dir):
        yield case.id, [[in_syntax(text, syntax) for text in turn] for turn in multi_turn(case, draw)]


def in_json(example: Example, draw: random.Random, syntax: CallSyntax) -> str:
    """The same as `single_turn`, written in another syntax."""
    unchanged = draw.random() < 0.25
    if example.language != "python":
        (call,) = rendered_calls(source(example))
        texts = [syntax.render_calls([call]), syntax.render_calls([Call(call.name, {**call.arguments, "x": "1"})])]
        return texts[0] if unchanged else draw.choice([*texts, texts[0].replace('"', "", 1), "I cannot do that."])
    if not example.gold:
        calls = syntax.render_calls([Call(str(example.tools[0]["name"]) if example.tools else "f", {"a": True})])
        return draw.choice([calls, calls[:-1], calls.replace("true", "1"), "I can't do that.", "", "[]", "{}"])
    if unchanged and example.response:
        return in_syntax(example.response, syntax, tool_names(example.tools))
    return mutated_answer(example, draw, syntax)[1]


def single_turn(example: Example, draw: random.Random) -> str:
    """A gold answer, changed more often than not; a call or plain text where there is no gold."""
    unchanged = draw.random() < 0.25
    if example.language != "python":
        return changed(source(example), draw) if not unchanged else source(example)
    if not example.gold:
        called = f"[{example.tools[0]['name'] if example.tools else 'f'}()]"
        return draw.choice(["[f(a=1)]", "I cannot do that.", "", "[]", "[f()", called])
    return example.response if unchanged and example.response else mutated_answer(example, draw)[1]


def source(example: Example) -> str:
    """A Java or JavaScript call with the first accepted value of each parameter."""
    call = example.gold[0]
    given = {name: accepted[0] for name, accepted in call.arguments.items() if accepted[0] != ""}
    return f"[{call.name}({', '.join(f'{name}={literal(value)}' for name, value in given.items())})]"


def literal(value: Any) -> str:
    return json.dumps(value if isinstance(value, str) else json.dumps(value))


def changed(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text))
    return draw.choice(
        [
            text[:place] + text[place + 1 :],
            text[:place],
            text.replace('"', "'", 2),
            text.replace("=", "_=", 1),
            text.replace('="', '="x', 1),
            text.replace("true", "false"),
            text.replace("(", "2(", 1),
            text.replace("[", "", 1),
            f"{text[:-1]}, {text[1:]}",
            "I cannot do that.",
        ]
    )


def multi_turn(case: MultiTurnCase, draw: random.Random) -> list[list[str]]:
    script = gold_script(case, one_by_one=draw.random() < 0.5)
    return script if draw.random() < 0.25 else mutated_script(case, draw)


def main() -> None:
    file, seed = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    syntax = syntax_named(sys.argv[3] if len(sys.argv) > 3 else "python")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lines:
        for key, result in answers(fetch_wheel(BFCL, storage_paths().downloads), seed, syntax):
            lines.write(json.dumps({"id": key, "result": result}) + "\n")


if __name__ == "__main__":
    main()
