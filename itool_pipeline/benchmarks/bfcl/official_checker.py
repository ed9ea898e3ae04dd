"""BFCL verdicts for single-turn categories by the official checkers."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.bfcl.official_code import MODEL_NAME, official_functions
from itool_pipeline.calls.arithmetic import CodeRefused
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import BFCL_CATEGORIES, BfclKind
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import LANGUAGES, answers_file, questions_file
from itool_pipeline.data.streams import json_rows

DECODER_REFUSED = "ast_decoder:code_refused"
"""Ours: the official decoder would have executed code in the output. Wrong in every category."""

CHECKER_RAISED = "ast_checker:exception"
"""Ours: the official checker stopped with an exception on this output, where the official run would end. Wrong."""

_WITHOUT_CALLS = (BfclKind.IRRELEVANCE, BfclKind.RELEVANCE)
"""The kinds of question that are decided by whether anything is called."""


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """The decision on one case. `error_type` and `error` are the official checker's; empty when correct."""

    correct: bool
    error_type: str = ""
    error: str = ""


class OfficialChecker:
    """The chain of `bfcl_eval/eval_checker/eval_runner.py`: decode, check the form, compare.

    Answers in Python's syntax are decoded as those of a prompted model, others by the benchmark's handler of models
    that write them.

    Expected calls and tools are looked up by id in the wheel, so what decides is exactly the benchmark's own. Two
    outcomes are ours, since the official run has none for them: DECODER_REFUSED and CHECKER_RAISED.
    """

    def __init__(self, bfcl_dir: Path, syntax: CallSyntax = PYTHON_CALLS) -> None:
        self.syntax = syntax
        self._bfcl_dir = bfcl_dir
        self._official = official_functions(bfcl_dir, syntax.name)
        self._entries: dict[str, dict[str, dict[str, Any]]] = {}

    def check(self, case: Example, output: str) -> CaseVerdict:
        """The verdict on a model's output. Nothing in the output is executed.

        Raises LookupError when the case is not one of the benchmark's.
        """
        entry = self._entry(case)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # the parser's remarks on what a model wrote
            try:
                kind = BFCL_CATEGORIES[case.category].kind
                return self._relevance(kind, output) if kind in _WITHOUT_CALLS else self._ast(entry, case, output)
            except CodeRefused as refused:
                return CaseVerdict(False, DECODER_REFUSED, f"Would have to run code: {refused}")

    def _entry(self, case: Example) -> Mapping[str, Any]:
        if case.category not in LANGUAGES:
            raise LookupError(f"{case.category!r} is not a single-turn category of BFCL")
        if case.category not in self._entries:
            self._entries[case.category] = _read_entries(self._bfcl_dir, case.category)
        try:
            return self._entries[case.category][case.id]
        except KeyError:
            raise LookupError(f"BFCL has no case {case.id!r} in {case.category}") from None

    def _relevance(self, kind: BfclKind, output: str) -> CaseVerdict:
        """Whether the output holds a call at all. What cannot be decoded holds none."""
        problem = ""
        try:
            called = not self._official.is_empty(self._decode(output, "python"))
        except CodeRefused:
            raise
        except Exception as error:
            called, problem = False, str(error)
        if kind is BfclKind.RELEVANCE:
            text = f"Invalid syntax. Failed to decode AST when it should have. {problem}"
            return CaseVerdict(True) if called else CaseVerdict(False, "relevance_error:decoder_failed", text)
        text = "Valid syntax. Successfully decode AST when it should not."
        return CaseVerdict(False, "irrelevance_error:decoder_success", text) if called else CaseVerdict(True)

    def _ast(self, entry: Mapping[str, Any], case: Example, output: str) -> CaseVerdict:
        language = LANGUAGES[case.category]
        try:
            decoded = self._decode(output, language)
        except CodeRefused:
            raise
        except Exception as error:
            text = f"Invalid syntax. Failed to decode AST. {error}"
            return CaseVerdict(False, "ast_decoder:decoder_failed", text)
        if not self._official.is_call_format(decoded):
            return CaseVerdict(
                False, "ast_decoder:decoder_wrong_output_format", "Did not output in the specified format."
            )
        try:
            result = self._official.check(
                copy.deepcopy(entry["function"]),
                decoded,
                copy.deepcopy(entry["ground_truth"]),
                self._official.language(language),
                case.category,
                MODEL_NAME,
            )
        except Exception as error:
            return CaseVerdict(False, CHECKER_RAISED, f"{type(error).__name__}: {error}")
        return (
            CaseVerdict(True) if result["valid"] else CaseVerdict(False, result["error_type"], _text(result["error"]))
        )

    def _decode(self, output: str, language: str) -> Any:
        return self._official.decode(output, self._official.return_format(language), False)


def _read_entries(bfcl_dir: Path, category: str) -> dict[str, dict[str, Any]]:
    """The benchmark's own rows by id, with `ground_truth` where the category has one."""
    entries = {row["id"]: row for row in json_rows(questions_file(bfcl_dir, category))}
    answers = answers_file(bfcl_dir, category)
    for row in json_rows(answers) if answers.exists() else ():
        entries[row["id"]]["ground_truth"] = row["ground_truth"]
    return entries


def _text(error: Any) -> str:
    """The official error, a list of sentences or of nested records, as one text."""
    parts = error if isinstance(error, list) else [error]
    return "\n".join(part if isinstance(part, str) else json.dumps(part, default=repr) for part in parts)
