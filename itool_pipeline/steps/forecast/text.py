"""A forecast as people read it: a table of steps, and a few lines below it."""

from __future__ import annotations

from itool_pipeline.steps.asset_graph import step_kind
from itool_pipeline.steps.forecast.devices import KINDS
from itool_pipeline.steps.forecast.forecast import CONSTANTS, Forecast, StepForecast
from itool_pipeline.store.sql_shell import text_table

HEAD = ("step", "", "reads", "generates", "trains on", "seconds", "rests on")
NUMBERS = range(2, 6)
"""Columns that are aligned to the right."""


def forecast_text(found: Forecast) -> str:
    """Tokens are those of the texts, before what they share is counted once."""
    head, *rows = _aligned([HEAD, *map(_row, found.steps)])
    return "\n".join([text_table(list(head), rows), "", *_lines(found)])


def _aligned(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The rows with their numbers, which are text here, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [tuple(cell.rjust(widths[at]) if at in NUMBERS else cell for at, cell in enumerate(row)) for row in rows]


def _row(step: StepForecast) -> tuple[str, ...]:
    if step.reused:
        return (step.asset, "reused", "", "", "", "", "")
    work = step.work
    tokens = (_count(work.reads), _count(work.generates), _count(work.trains))
    return (step.asset, "to make", *tokens, f"{step.seconds:,.0f}", step.rests_on)


def _count(tokens: float) -> str:
    return f"{tokens:,.0f}" if tokens else ""


def _lines(found: Forecast) -> list[str]:
    device = found.device
    made = sum(not step.reused for step in found.steps)
    if not made:
        return [f"{found.experiment}: everything is there; a run makes nothing."]
    lines = [
        f"{found.experiment}: {made} of {len(found.steps)} steps to make, {duration(found.seconds)} in all.",
        f"on {device.named}: {device.about}; computing in {found.dtype}",
        *_amounts(found),
        *_memory_line(found),
    ]
    return [*lines, *_shares(found)]


def _amounts(found: Forecast) -> list[str]:
    """Of what is there, of what is not, and what is assumed beside both."""
    there, absent = (", ".join(names) for names in (found.basis.there, found.basis.absent))
    to_make = {step_kind(step.asset) for step in found.steps if not step.reused}
    told = {
        f"amounts of data: as counted in {there}": bool(there),
        f"amounts of data: of {absent}, not there yet, by the config's limits: an upper bound": bool(absent),
        "assumed: the base model answers to the limit, all others as briefly as gold answers": "scores" in to_make,
        f"assumed: trees have {found.nodes:.0f} of at most {found.most_nodes} nodes": "trees" in to_make,
    }
    return [line for line, holds in told.items() if holds]


def _shares(found: Forecast) -> list[str]:
    """Where the constants are from, those of one source together."""
    used = {step_kind(step.asset) for step in found.steps if step.rests_on == CONSTANTS}
    by_source: dict[str, list[str]] = {}
    for kind in KINDS:
        if kind in used:
            share = found.device.shares[kind]
            by_source.setdefault(share.source, []).append(f"{kind} {share.share:.0%}")
    return [f"constants, shares of that rate, {source}: {', '.join(told)}" for source, told in by_source.items()]


def _memory_line(found: Forecast) -> list[str]:
    step = found.largest
    if step is None or step.memory is None:
        return []
    m, room = step.memory, found.device.memory
    held = f"weights {m.weights:.1f}, KV cache {m.cache:.1f}, activations {m.activations:.1f}"
    merging = f"; while its adapter is merged, weights in fp32: {m.loading:.1f}" if m.total == m.loading else ""
    fits = "" if room is None else f"; the device has {room:.0f}, {'enough' if m.total < room else 'too little'}"
    return [f"memory, at most, in {step.asset}: {m.total:.1f} GiB ({held}{merging}){fits}"]


def duration(seconds: float) -> str:
    """In the unit that suits."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
