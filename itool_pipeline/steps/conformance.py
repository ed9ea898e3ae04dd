"""Our BFCL verdicts, of scored checkpoints or on a file of answers, beside those of the official command line."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from itool_pipeline.benchmarks.bfcl.conformance import Conformance, JudgedCase, conformance, official_command
from itool_pipeline.benchmarks.bfcl.conversations import MultiTurnBenchmark, tools_sandbox
from itool_pipeline.benchmarks.bfcl.multi_turn_cases import load_multi_turn
from itool_pipeline.benchmarks.bfcl.official_checker import OfficialChecker
from itool_pipeline.benchmarks.bfcl.official_code import official_multi_turn
from itool_pipeline.config import BFCL_MULTI_TURN
from itool_pipeline.data.bfcl import load_bfcl
from itool_pipeline.data.rows import RowError, expect_that, json_object
from itool_pipeline.data.streams import json_lines
from itool_pipeline.data.wheels import BFCL, fetch_wheel, wheel_file
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.steps.artifact_files import CASES_FILE
from itool_pipeline.steps.display import MARKDOWN, table
from itool_pipeline.steps.plan import checkpoints
from itool_pipeline.steps.workspace import MissingInput, Workspace
from itool_pipeline.store.paths import StoragePaths

_SHOWN = 50


def judged_cases(name: str) -> dict[str, list[JudgedCase]]:
    """Checkpoint → its cases, for every checkpoint of the experiment that has been scored.

    Raises StorageError when none has.
    """
    ws = Workspace.of(name, say=lambda line: print(line, file=sys.stderr))
    found = {}
    for checkpoint in checkpoints(ws.experiment.iterations):
        try:
            file = ws.input(f"bfcl/{checkpoint}").file(CASES_FILE)
        except MissingInput:
            continue
        columns = ["case_id", "category", "output", "correct", "error_type"]
        found[checkpoint] = [_of_row(row) for row in pq.read_table(file, columns=columns).to_pylist()]
    if not found:
        raise StorageError(f"no checkpoint of {name} has been scored; first: python -m itool_pipeline run {name}")
    return found


def _of_row(row: Mapping[str, str]) -> JudgedCase:
    multi_turn = row["category"] in BFCL_MULTI_TURN
    result = json.loads(row["output"]) if multi_turn else row["output"]
    return JudgedCase(row["case_id"], row["category"], result, bool(row["correct"]), row["error_type"])


def judged_answers(file: Path, paths: StoragePaths) -> list[JudgedCase]:
    """Our verdicts on a file of answers, `{"id": …, "result": …}` in a line as the benchmark's generation writes them.

    Raises StorageError for a file that is not there, a line that is not of this layout, or a case that the benchmark
    does not have.
    """
    rows = list(_answers(file))
    directory = fetch_wheel(BFCL, paths.downloads)
    examples = {example.id: example for example in load_bfcl(directory).examples}
    conversations = {case.id: case for case in load_multi_turn(directory)}
    checker, judged = OfficialChecker(directory), []
    with tools_sandbox(directory) as sandbox:
        benchmark = MultiTurnBenchmark.of(directory, sandbox)
        for key, result in rows:
            if key in examples:
                category, verdict = examples[key].category, checker.check(examples[key], result)
            elif key in conversations:
                category, verdict = conversations[key].category, benchmark.check(conversations[key], result)
            else:
                raise StorageError(f"{file}: BFCL has no case {key!r}")
            judged.append(JudgedCase(key, category, result, verdict.correct, verdict.error_type))
    return judged


def _answers(file: Path) -> Iterator[tuple[str, Any]]:
    """(case id, result) of each line."""
    if not file.is_file():
        raise StorageError(f"there is no file {file}")
    for number, line in json_lines(file):
        try:
            row = json_object(line)
            expect_that(isinstance(row.get("id"), str), "no `id`")
            expect_that("result" in row, "no `result`")
        except RowError as error:
            raise StorageError(f"{file}:{number}: {error}") from error
        yield row["id"], row["result"]


def compared(cases: list[JudgedCase], paths: StoragePaths, environment: Path) -> tuple[str, int]:
    """(text for people, number of cases that differ). The environment is made where it is not there."""
    directory = fetch_wheel(BFCL, paths.downloads)
    if not environment.is_dir():
        print(f"making {environment} for the official command line; this takes minutes", file=sys.stderr)
    command = official_command(environment, wheel_file(BFCL, paths.downloads))
    with tempfile.TemporaryDirectory(prefix="itool-conformance-") as folder:
        found = conformance(cases, directory, official_multi_turn(directory), command, Path(folder))
    return _text(found), sum(len(category.different) for category in found)


def _text(found: Iterable[Conformance]) -> str:
    found = list(found)
    counts = table(
        {"category": c.category, "compared": c.compared, "different": len(c.different), "left out": len(c.left_out)}
        for c in found
    )[MARKDOWN]
    different = [f"{d.id}: ours {d.ours}, official {d.official}" for c in found for d in c.different]
    left_out = [f"{key}: left out, {reason}" for c in found for key, reason in c.left_out]
    total = f"{sum(c.compared for c in found)} verdicts compared, {len(different)} different, {len(left_out)} left out"
    return "\n".join([counts, total, *_first(different), *_first(left_out)])


def _first(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"… and {len(lines) - _SHOWN} more"]
