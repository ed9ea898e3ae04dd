"""Asset checks: what must hold after an asset is made. They read artifacts only, and are cheap."""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from itool_pipeline.config import MAX_ITERATIONS
from itool_pipeline.defs.assets import asset_key, op_name
from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.metadata import shown_value
from itool_pipeline.defs.resources import RunOptions, workspace
from itool_pipeline.steps import checks
from itool_pipeline.steps.plan import scores_of
from itool_pipeline.steps.workspace import Workspace

_SHOWN = 20
"""Problems listed in the UI and in the log; all are counted."""


def step_check(
    asset: str,
    name: str,
    find: Callable[[Workspace], checks.Finding],
    *,
    also_reads: Sequence[str] = (),
    blocking: bool = False,
) -> dg.AssetChecksDefinition:
    """A check of `asset`. An experiment that lacks the asset has nothing to check, and yields nothing.

    also_reads  other assets that must be made before
    blocking    what is downstream of the asset waits for the check, and does not run when it fails
    """
    key = asset_key(asset)

    @dg.multi_asset_check(
        name=f"{name}__{op_name(asset)}",
        specs=[
            dg.AssetCheckSpec(
                name,
                asset=key,
                description=(find.__doc__ or "").strip(),
                additional_deps=[asset_key(other) for other in also_reads],
                blocking=blocking,
            )
        ],
        can_subset=True,
    )
    def checked(context: dg.AssetCheckExecutionContext, options: RunOptions) -> Iterator[dg.AssetCheckResult]:
        ws = workspace(context.op_execution_context, options)
        if ws.has(asset):
            with explained():
                found = find(ws)
            for problem in found.problems[:_SHOWN]:
                context.log.error(f"{name}: {problem}")
            counts = {key: shown_value(value) for key, value in found.counts.items()}
            metadata = {**counts, "problems": len(found.problems), "first_problems": found.problems[:_SHOWN]}
            yield dg.AssetCheckResult(passed=not found.problems, asset_key=key, check_name=name, metadata=metadata)

    return checked


def all_checks() -> list[dg.AssetChecksDefinition]:
    """Checks of examples, splits, pairs, policies and scores."""
    iterations = range(1, MAX_ITERATIONS + 1)
    return [
        step_check("examples", "quarantine", checks.quarantine_is_small, blocking=True),
        step_check("splits", "disjoint", checks.splits_are_disjoint, blocking=True),
        step_check("splits", "no_leak", checks.no_question_leaks, blocking=True),
        *(step_check(f"iteration_{k}/pairs", "filters", _of(checks.pairs_respect_filters, k)) for k in iterations),
        *(step_check(f"iteration_{k}/policy", "finite", _of(checks.held_out_loss_is_finite, k)) for k in iterations),
        step_check(
            "api_bank_cases", "no_leak", checks.nothing_of_api_bank_is_trained_on, also_reads=["splits"], blocking=True
        ),
        *(step_check(asset, "complete", _of(checks.scores_cover_every_case, asset)) for asset in scores_of()),
        *(step_check(asset, "errors_agree", _of(checks.errors_agree, asset)) for asset in scores_of(api_bank=False)),
    ]


def _of(find: Callable[..., checks.Finding], which: int | str) -> Callable[[Workspace], checks.Finding]:
    def bound(ws: Workspace) -> checks.Finding:
        return find(ws, which)

    bound.__doc__ = find.__doc__
    return bound
