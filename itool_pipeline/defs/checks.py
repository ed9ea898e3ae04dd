"""Asset checks: what must hold after an asset is made. They read artifacts, and what reserved benchmarks ask."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg

from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.benchmarks.types import Benchmark
from itool_pipeline.config import MAX_ITERATIONS
from itool_pipeline.defs.assets import asset_key, op_name
from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.metadata import shown_value
from itool_pipeline.defs.partitions import experiments
from itool_pipeline.defs.resources import RunOptions, workspace
from itool_pipeline.steps import checks
from itool_pipeline.steps.asset_graph import ALL, WHOLE, cases_asset, scores_of, started_from
from itool_pipeline.steps.checks import Finding
from itool_pipeline.steps.exported_model import ASSET
from itool_pipeline.steps.round_trip import serves
from itool_pipeline.steps.workspace import Workspace

_SHOWN = 20
"""Problems listed in the UI and in the log; all are counted."""

IN_WORDS = "in_words"
"""Metadata of a check that does not pass: what was found and what to do."""

_MEND_FILE = "Mend the rows (docs/data.md says what is read), or raise data.max_quarantined, and run again."
_TAKE_OUT = "Take these questions out of the training data, or out of what is asked in the test, and run again."
_MORE_PAIRS = "Search more or other examples (replay_buffer), or loosen what refuses them (pairs), and run again."
_TRUER_PAIRS = (
    "Take pairs that are true by gold alone (pairs.truth: gold), or see what the signals tell (docs/sql.md) and weigh "
    "them otherwise (search.outcome, search.self_evaluation), and run again."
)
_BEFORE = "The champion tells which checkpoint to take; docs/dagster.md says what to change, and run again."
_LOWER_RATE = "Lower preference.optimizer.learning_rate and run again."
_SERVE = (
    "docs/serving.md says what each kind of disagreement is, and what to do about it. Where no server is installed, "
    "nothing is known of how it serves."
)
_REPORT = "That is a mistake in the program, not in your files: please report it."


def step_check(
    asset: str,
    name: str,
    find: Callable[[Workspace], Finding],
    remedy: str,
    *,
    also_reads: Sequence[str] = (),
    blocking: bool = False,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetChecksDefinition:
    """A check of `asset`. An experiment that lacks the asset has nothing to check, and yields nothing.

    remedy      what a person can do when it does not pass
    also_reads  other assets that must be made before
    blocking    what is downstream of the asset waits for the check, and does not run when it fails
    """
    key = asset_key(asset)
    with warnings.catch_warnings():
        # What a check says is of one partition; Dagster calls this parameter a preview.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        spec = dg.AssetCheckSpec(
            name,
            asset=key,
            description=(find.__doc__ or "").strip(),
            additional_deps=[asset_key(other) for other in also_reads],
            blocking=blocking,
            partitions_def=experiments,
        )

    @dg.multi_asset_check(name=f"{name}__{op_name(asset)}", specs=[spec], can_subset=True)
    def checked(context: dg.AssetCheckExecutionContext, options: RunOptions) -> Iterator[dg.AssetCheckResult]:
        ws = workspace(context.op_execution_context, options)
        if ws.has(asset):
            with explained(), ws.checking(name, asset, also_reads):
                found = find(ws)
            for problem in found.problems[:_SHOWN]:
                context.log.error(f"{name}: {problem}")
            counts = {key: shown_value(value) for key, value in found.counts.items()}
            metadata = {**counts, "problems": len(found.problems), "first_problems": found.problems[:_SHOWN]}
            if found.problems:
                metadata[IN_WORDS] = told_problems(name, asset, found.problems, remedy)
            yield dg.AssetCheckResult(
                passed=not found.problems, asset_key=key, check_name=name, metadata=metadata, severity=severity
            )
            if blocking and found.problems:
                # Dagster's own failure, which would follow, names the check and not what it found.
                raise dg.Failure(description=metadata[IN_WORDS], allow_retries=False)

    return checked


def did_not_pass(evaluations: Iterable[dg.AssetCheckEvaluation]) -> tuple[list[str], bool]:
    """What the checks of a run that did not pass say, and whether one of them is more than a warning.

    A warning, as that an iteration is worse than its start, is a finding about the model; the run has done its work.
    """
    failed = [one for one in evaluations if not one.passed]
    said = [str(one.metadata[IN_WORDS].value) for one in failed]
    return said, any(one.severity is dg.AssetCheckSeverity.ERROR for one in failed)


def told_problems(name: str, asset: str, problems: Sequence[str], remedy: str) -> str:
    """What a check found and what to do, in a few sentences."""
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"The check {name} of {asset} does not pass: {problems[0]}{more}. {remedy}"


def all_checks() -> list[dg.AssetChecksDefinition]:
    """Checks of examples, splits, pairs, policies, and of every benchmark's cases and scores."""
    iterations = range(1, MAX_ITERATIONS + 1)
    return [
        step_check("examples", "quarantine", checks.quarantine_is_small, _MEND_FILE, blocking=True),
        step_check("splits", "disjoint", checks.splits_are_disjoint, _REPORT, blocking=True),
        step_check("splits", "no_leak", checks.nothing_reserved_is_trained_on, _REPORT, blocking=True),
        *(
            step_check(f"iteration_{k}/pairs", "filters", _of(checks.pairs_respect_filters, k), _REPORT)
            for k in iterations
        ),
        *(
            step_check(
                f"iteration_{k}/pairs",
                "enough",
                _of(checks.enough_pairs, k),
                _MORE_PAIRS,
                severity=dg.AssetCheckSeverity.WARN,
            )
            for k in iterations
        ),
        *(
            step_check(
                f"iteration_{k}/pairs",
                "true_pairs",
                _of(checks.pairs_are_true, k),
                _TRUER_PAIRS,
                severity=dg.AssetCheckSeverity.WARN,
            )
            for k in iterations
        ),
        *(
            step_check(f"iteration_{k}/policy", "finite", _of(checks.held_out_loss_is_finite, k), _LOWER_RATE)
            for k in iterations
        ),
        *(check for benchmark in BENCHMARKS for check in _benchmark_checks(benchmark)),
        step_check(
            ASSET,
            "serves",
            serves,
            _SERVE,
            also_reads=[cases_asset(name) for name in ALL],
            severity=dg.AssetCheckSeverity.WARN,
        ),
    ]


def _benchmark_checks(benchmark: Benchmark[Any]) -> Iterator[dg.AssetChecksDefinition]:
    leaks = _of(checks.no_case_is_trained_on, benchmark)
    yield step_check(cases_asset(benchmark.name), "no_leak", leaks, _TAKE_OUT, also_reads=["examples"], blocking=True)
    for asset in scores_of(replace(WHOLE, benchmarks=(benchmark.name,))):
        yield step_check(asset, "complete", _of(checks.scores_cover_every_case, asset), _REPORT)
        if before := started_from(asset):
            worse = _of(checks.is_not_worse, asset, before)
            yield step_check(
                asset, "not_worse", worse, _BEFORE, also_reads=[before], severity=dg.AssetCheckSeverity.WARN
            )
        for own in benchmark.row_checks:
            rows = _of(checks.rows_pass, asset, own, description=own.description)
            yield step_check(asset, own.name, rows, _REPORT)


def _of(find: Callable[..., Finding], *which: object, description: str = "") -> Callable[[Workspace], Finding]:
    def bound(ws: Workspace) -> Finding:
        return find(ws, *which)

    bound.__doc__ = description or find.__doc__
    return bound
