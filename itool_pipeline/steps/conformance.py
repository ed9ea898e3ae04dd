"""Our verdicts, of scored checkpoints or on a file of answers, beside those of a benchmark's own command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.benchmarks.second_opinion import Conformance, ConformanceError, JudgedCase, SecondOpinion
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.data.rows import RowError, expect_that, json_object
from itool_pipeline.data.streams import json_lines
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.steps.artifact_files import CASES_FILE
from itool_pipeline.steps.display import MARKDOWN, table
from itool_pipeline.steps.models import call_syntax
from itool_pipeline.steps.workspace import MissingInput, Workspace
from itool_pipeline.store.paths import StoragePaths
from itool_pipeline.store.table_files import read_table_rows

OPINIONS: dict[str, SecondOpinion] = {b.name: b.second_opinion for b in BENCHMARKS if b.second_opinion is not None}
"""Benchmark → its command line, where it has one."""

_SHOWN = 50


def judged_cases(name: str, benchmark: str) -> dict[str, list[JudgedCase]]:
    """Checkpoint → its cases, for every checkpoint of the experiment that has been scored on the benchmark.

    Raises StorageError when none has.
    """
    ws = Workspace.of(name, say=lambda line: print(line, file=sys.stderr))
    found = {}
    for checkpoint in ws.experiment.scored_checkpoints():
        asset = f"{benchmark}/{checkpoint}"
        if not ws.has(asset):
            continue
        try:
            file = ws.input(asset).file(CASES_FILE)
        except MissingInput:
            continue
        columns = ["case_id", "category", "output", "correct", "error_type"]
        found[checkpoint] = [OPINIONS[benchmark].judged_case(row) for row in read_table_rows(file, columns)]
    if not found:
        raise StorageError(
            f"no checkpoint of {name} has been scored on {benchmark}; first: python -m itool_pipeline run {name}"
        )
    return found


def syntax_of(name: str) -> CallSyntax:
    """How the experiment's model writes calls."""
    return call_syntax(Workspace.of(name, say=lambda line: print(line, file=sys.stderr)))


def judged_answers(
    file: Path, benchmark: str, paths: StoragePaths, syntax: CallSyntax = PYTHON_CALLS
) -> list[JudgedCase]:
    """Our verdicts on a file of answers, `{"id": …, "result": …}` in a line as the benchmark's generation writes them.

    syntax  how they write calls

    Raises StorageError for a file that is not there or a line that is not of this layout, ConformanceError for a case
    that the benchmark does not have.
    """
    answers = list(_answers(file))
    try:
        return OPINIONS[benchmark].judge_answers(answers, paths.downloads, syntax)
    except ConformanceError as error:
        raise ConformanceError(f"{file}: {error}") from error


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


def compared_verdicts(
    cases: list[JudgedCase], benchmark: str, paths: StoragePaths, environment: Path, syntax: CallSyntax = PYTHON_CALLS
) -> tuple[str, int]:
    """(text for people, number of cases that differ)."""
    if not environment.is_dir():
        print(f"making {environment} for the official command line; this takes minutes", file=sys.stderr)
    found = OPINIONS[benchmark].compare_verdicts(cases, paths.downloads, environment, syntax)
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
