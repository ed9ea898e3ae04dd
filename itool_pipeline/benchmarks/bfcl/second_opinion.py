"""`bfcl evaluate` as the second opinion on BFCL verdicts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.bfcl.conformance import conformance, official_command
from itool_pipeline.benchmarks.bfcl.conversations import MultiTurnBenchmark, tools_sandbox
from itool_pipeline.benchmarks.bfcl.multi_turn_cases import load_multi_turn
from itool_pipeline.benchmarks.bfcl.official_checker import OfficialChecker
from itool_pipeline.benchmarks.bfcl.official_code import official_multi_turn
from itool_pipeline.benchmarks.second_opinion import Conformance, ConformanceError, JudgedCase
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import BFCL_MULTI_TURN
from itool_pipeline.data.bfcl import load_bfcl
from itool_pipeline.data.wheels import BFCL, fetch_wheel, wheel_file


class BfclCommandLine:
    """Results are in the layout that the benchmark's own generation writes."""

    def judged_case(self, row: Mapping[str, Any]) -> JudgedCase:
        multi_turn = row["category"] in BFCL_MULTI_TURN
        result = json.loads(row["output"]) if multi_turn else row["output"]
        return JudgedCase(row["case_id"], row["category"], result, bool(row["correct"]), row["error_type"])

    def judge_answers(
        self, answers: Iterable[tuple[str, Any]], downloads: Path, syntax: CallSyntax
    ) -> list[JudgedCase]:
        directory = fetch_wheel(BFCL, downloads)
        examples = {example.id: example for example in load_bfcl(directory).examples}
        conversations = {case.id: case for case in load_multi_turn(directory)}
        checker, judged = OfficialChecker(directory, syntax), []
        with tools_sandbox(directory) as sandbox:
            benchmark = MultiTurnBenchmark.of(directory, sandbox, syntax.name)
            for key, result in answers:
                if key in examples:
                    category, verdict = examples[key].category, checker.check(examples[key], result)
                elif key in conversations:
                    category, verdict = conversations[key].category, benchmark.check(conversations[key], result)
                else:
                    raise ConformanceError(f"BFCL has no case {key!r}. Take it out of the file.")
                judged.append(JudgedCase(key, category, result, verdict.correct, verdict.error_type))
        return judged

    def compare_verdicts(
        self, cases: Sequence[JudgedCase], downloads: Path, environment: Path, syntax: CallSyntax
    ) -> list[Conformance]:
        directory = fetch_wheel(BFCL, downloads)
        command = official_command(environment, wheel_file(BFCL, downloads))
        with tempfile.TemporaryDirectory(prefix="itool-conformance-") as folder:
            official = official_multi_turn(directory, syntax.name)
            return conformance(cases, directory, official, command, Path(folder), syntax.name)
