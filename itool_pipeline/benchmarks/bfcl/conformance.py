"""Holds our verdicts against the benchmark's own command line, unmodified, in an environment of its own.

The outputs are written in the benchmark's layout of results, one file for each category, `bfcl evaluate` scores them,
and each of its verdicts is compared with ours. Its command line knows the models of its own list only; MODELS has one
for each syntax of calls, whose handler decodes answers in it: in Python's by the default functions for prompted models.
Their names of functions keep their dots. The name decides nothing else.

The command line evaluates text that comes from a model, and ends where a checker raises. Such cases are left out and
named: those that our checker refused to run or that stopped it, and conversations that call anything but their tools.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.bfcl.conversations import CHECKER_STOPPED
from itool_pipeline.benchmarks.bfcl.official_checker import CHECKER_RAISED, DECODER_REFUSED
from itool_pipeline.benchmarks.bfcl.official_code import OfficialMultiTurn
from itool_pipeline.benchmarks.second_opinion import Conformance, ConformanceError, Difference, JudgedCase
from itool_pipeline.calls.arithmetic import CodeRefused
from itool_pipeline.config import BFCL_CATEGORIES, BFCL_MULTI_TURN
from itool_pipeline.data.bfcl import FILE_PREFIX, questions_file
from itool_pipeline.data.streams import json_rows
from itool_pipeline.files.hashes import joined_sha256

MODELS = {
    "python": "meta-llama/Llama-3.1-8B-Instruct",
    "hermes": "Qwen/Qwen3-0.6B-FC",
    "llama3_json": "meta-llama/Llama-3.1-8B-Instruct-FC",
}
REQUIREMENTS = Path(__file__).with_name("conformance_requirements.txt")
"""What the imports of the command line need, at the versions that the wheel pins where it pins one."""

_REMAKE = "Delete the folder of --environment (.venv-conformance), which is then made again, and run once more"
_NOT_COMPARED = {
    DECODER_REFUSED: "the official decoder would run code",
    CHECKER_RAISED: "the official checker raises, and its run would end",
    CHECKER_STOPPED: "the official checker was stopped by our sandbox",
}
_PLAIN = (
    *(ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Attribute, ast.expr_context),
    *(ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.UnaryOp, ast.unaryop),
)


def conformance(
    cases: Sequence[JudgedCase],
    bfcl_dir: Path,
    official: OfficialMultiTurn,
    command: Path,
    folder: Path,
    syntax: str = "python",
) -> list[Conformance]:
    """Let the official command line score the cases, in `folder`, and compare. Each case at most once.

    official, syntax  how answers are decoded, and the name of the syntax of their calls

    Raises ConformanceError when it fails, or scores another number of cases than it was given.
    """
    reasons = {case.id: _not_compared(case, official) for case in cases}
    given = [case for case in cases if not reasons[case.id]]
    verdicts = official_verdicts(given, bfcl_dir, command, folder, MODELS[syntax]) if given else {}
    order = [category for category in BFCL_CATEGORIES if category in {case.category for case in cases}]
    return [
        _compared(category, [case for case in cases if case.category == category], verdicts, reasons)
        for category in order
    ]


def _compared(
    category: str, cases: Sequence[JudgedCase], verdicts: Mapping[str, str], reasons: Mapping[str, str]
) -> Conformance:
    given = [case for case in cases if not reasons[case.id]]
    ours = {case.id: "correct" if case.correct else case.error_type for case in given}
    different = [Difference(key, ours[key], verdicts[key]) for key in ours if ours[key] != verdicts[key]]
    left_out = [(case.id, reasons[case.id]) for case in cases if reasons[case.id]]
    return Conformance(category, len(given), tuple(different), tuple(left_out))


def official_verdicts(
    cases: Sequence[JudgedCase], bfcl_dir: Path, command: Path, folder: Path, model: str
) -> dict[str, str]:
    """Case id → `correct` or the official error type, by `bfcl evaluate` on result files written to `folder`."""
    categories = sorted({case.category for case in cases})
    for category in categories:
        _write_results(
            [case for case in cases if case.category == category], bfcl_dir, _file(folder, model, category, "result")
        )
    options = ["--model", model, "--test-category", ",".join(categories), "--partial-eval"]
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "BFCL_PROJECT_ROOT": str(folder)}
    done = subprocess.run(
        [str(command), "evaluate", *options], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ConformanceError(
            f"`bfcl evaluate` ended with {done.returncode}: {done.stderr.strip()[-2000:]}\n"
            f"{_REMAKE}; where the text above is about a case, take that out of the answers."
        )
    return {key: verdict for category in categories for key, verdict in _scored(cases, category, folder, model)}


def _write_results(cases: Sequence[JudgedCase], bfcl_dir: Path, file: Path) -> None:
    """In the order of the benchmark's questions, which its evaluation relies on."""
    results = {case.id: case.result for case in cases}
    ids = [row["id"] for row in json_rows(questions_file(bfcl_dir, cases[0].category))]
    if unknown := sorted(results.keys() - set(ids)):
        raise ConformanceError(f"{cases[0].category} has no case {unknown[0]!r}. Take it out of the answers.")
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": key, "result": results[key]}) for key in ids if key in results]
    file.write_text("".join(f"{line}\n" for line in lines))


def _scored(cases: Sequence[JudgedCase], category: str, folder: Path, model: str) -> Iterator[tuple[str, str]]:
    """The file of scores holds a header, then every wrong case."""
    file = _file(folder, model, category, "score")
    if not file.is_file():
        raise ConformanceError(f"`bfcl evaluate` wrote no scores of {category}. {_REMAKE}.")
    header, *wrong = json_rows(file)
    ids = [case.id for case in cases if case.category == category]
    errors = {row["id"]: _error_type(row) for row in wrong}
    if header["total_count"] != len(ids) or header["correct_count"] != len(ids) - len(errors):
        raise ConformanceError(
            f"`bfcl evaluate` scored {header['total_count']} of {category}, {header['correct_count']} correct and "
            f"{len(errors)} wrong, where {len(ids)} cases were given. {_REMAKE}."
        )
    yield from ((key, errors.get(key, "correct")) for key in ids)


def _error_type(row: Mapping[str, Any]) -> str:
    error = row["error"]
    return str(error["error_type"] if isinstance(error, dict) else row["error_type"])


def _file(folder: Path, model: str, category: str, kind: str) -> Path:
    group = "multi_turn" if category in BFCL_MULTI_TURN else "live" if BFCL_CATEGORIES[category].live else "non_live"
    return folder / kind / model.replace("/", "_") / group / f"{FILE_PREFIX}{category}_{kind}.json"


def _not_compared(case: JudgedCase, official: OfficialMultiTurn) -> str:
    if case.error_type in _NOT_COMPARED:
        return _NOT_COMPARED[case.error_type]
    if isinstance(case.result, str):
        return ""
    texts = [text for turn in case.result for text in turn]
    return "would call what is no tool" if any(_runs_other_code(text, official) for text in texts) else ""


def _runs_other_code(text: str, official: OfficialMultiTurn) -> bool:
    """Whether the official evaluation of a conversation's answer could reach anything but the tools."""
    try:
        calls = official.decode(text)
    except CodeRefused:
        return True
    except Exception:
        return False
    return not all(_harmless(call, {*vars(builtins), *vars(official.execution)}) for call in calls)


def _harmless(call: str, reachable: Collection[str]) -> bool:
    """Whether the text is calls and literals only, none of them by a name that is known beside the tools."""
    try:
        nodes = list(ast.walk(ast.parse(call, mode="eval")))
    except (SyntaxError, ValueError):
        return True  # so it is for whoever evaluates it
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    owners = [node.value for node in nodes if isinstance(node, ast.Attribute)]
    return (
        all(isinstance(node, _PLAIN) for node in nodes)
        and all(isinstance(owner, ast.Name | ast.Attribute) for owner in owners)
        and not any(name in reachable for name in names)
    )


def official_command(environment: Path, wheel: Path) -> Path:
    """The `bfcl` of the environment, which is made where it is not there or was made of other things.

    Raises ConformanceError when pip fails.
    """
    made_of = joined_sha256([REQUIREMENTS, wheel])
    ready = environment / "ready"
    if not ready.is_file() or ready.read_text() != made_of:
        python, pip = str(environment / "bin" / "python"), ["-m", "pip", "install", "--quiet", "--no-input"]
        _run([sys.executable, "-m", "venv", "--clear", str(environment)])
        _run([python, *pip, "--requirement", str(REQUIREMENTS)])
        _run([python, *pip, "--no-deps", str(wheel)])
        ready.write_text(made_of)
    return environment / "bin" / "bfcl"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConformanceError(
            f"`{' '.join(command)}` failed: {done.stderr.strip()[-2000:]}\n"
            "It installs what the official command line needs: see that pip reaches its index (PIP_INDEX_URL, "
            "PIP_PROXY) and that the disk is not full, then run again."
        )
