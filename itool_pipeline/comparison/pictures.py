"""A comparison as pictures, each a PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from itool_pipeline.comparison.differences import (
    ALL,
    Share,
    by_difficulty,
    categories_of,
    differences,
    difficulties_of,
    mistakes,
    share_of,
)
from itool_pipeline.comparison.entrants import Case, Entered, config_without
from itool_pipeline.statistics import wilson_interval

Picture: TypeAlias = tuple[str, bytes]
"""Caption, PNG."""
Point: TypeAlias = tuple[float, Share]

_STAGES = ("easy", "easy_to_medium", "easy_to_hard")
_BAR_WIDTH = 0.8


def pictures_of(benchmark: str, entered: Sequence[Entered]) -> list[Picture]:
    """All pictures of one benchmark; the first entrant is what the others are held against."""
    first, *others = entered
    drawn = [("right cases, with 95% Wilson intervals", _scores(benchmark, entered))]
    if others:
        drawn.append((f"difference to {first.entrant.name}, with 95% intervals", _differences(benchmark, entered)))
    drawn.append(("wrong cases by type of error", _mistakes(benchmark, entered)))
    drawn.append(("right cases from checkpoint to checkpoint", _checkpoints(benchmark, entered)))
    for caption, label, lines, ticks in _curves(benchmark, entered):
        drawn.append((f"right cases over {caption}", _lines(label, lines, ticks)))
    drawn.append(("right cases and what they cost", _cost(benchmark, entered)))
    return [(f"{benchmark}: {caption}", png) for caption, png in drawn]


def _scores(benchmark: str, entered: Sequence[Entered]) -> bytes:
    """Bars of all cases, of each category and of each difficulty."""
    cases = [one.cases[benchmark] for one in entered]
    groups: dict[str, Callable[[Case], bool]] = {ALL: lambda _: True}
    for name in sorted({name for these in cases for name in categories_of(these)}):
        groups[name] = lambda case, name=name: case.category == name  # type: ignore[misc]
    for name in difficulties_of(cases[0]):
        groups[name] = lambda case, name=name: case.difficulty == name  # type: ignore[misc]
    shares = [[share_of(filter(belongs, these.values())) for belongs in groups.values()] for these in cases]
    return _bars([one.entrant.name for one in entered], list(groups), shares)


def _bars(names: Sequence[str], groups: Sequence[str], shares: Sequence[Sequence[Share]]) -> bytes:
    figure, axes = _figure()
    width = _BAR_WIDTH / len(names)
    for i, (name, row) in enumerate(zip(names, shares, strict=True)):
        places = [k + (i - (len(names) - 1) / 2) * width for k in range(len(groups))]
        axes.bar(places, [_value(share) for share in row], width, yerr=_errors(row), capsize=2, label=name)
    axes.set_xticks(range(len(groups)), groups, rotation=20, ha="right")
    axes.set(ylabel="share of right cases")
    figure.legend(loc="outside right upper")
    return _png(figure)


def _differences(benchmark: str, entered: Sequence[Entered]) -> bytes:
    """The others against the first, of all cases, of each category and of each difficulty."""
    figure, axes = _figure()
    first, *others = entered
    for i, other in enumerate(others):
        pair = first.cases[benchmark], other.cases[benchmark]
        found = [*differences(*pair), *by_difficulty(*pair)]
        places = [k + 0.12 * i for k in range(len(found))]
        errors = [[d.value - d.low for d in found], [d.high - d.value for d in found]]
        axes.errorbar([d.value for d in found], places, xerr=errors, fmt="o", capsize=3, label=other.entrant.name)
        axes.set_yticks(range(len(found)), [d.category for d in found])
    axes.axvline(0.0, color="gray", linewidth=1)
    axes.invert_yaxis()
    axes.set(xlabel=f"difference to {first.entrant.name}")
    figure.legend(loc="outside right upper")
    return _png(figure)


def _mistakes(benchmark: str, entered: Sequence[Entered]) -> bytes:
    figure, axes = _figure()
    counts = [mistakes(one.cases[benchmark]) for one in entered]
    kinds = sorted({kind for count in counts for kind in count})
    width = _BAR_WIDTH / len(entered)
    for i, (one, count) in enumerate(zip(entered, counts, strict=True)):
        places = [k + (i - (len(entered) - 1) / 2) * width for k in range(len(kinds))]
        axes.bar(places, [count[kind] for kind in kinds], width, label=one.entrant.name)
    axes.set_xticks(range(len(kinds)), kinds, rotation=20, ha="right")
    axes.set(ylabel="wrong cases")
    figure.legend(loc="outside right upper")
    return _png(figure)


def _checkpoints(benchmark: str, entered: Sequence[Entered]) -> bytes:
    """The checkpoints of each entrant in their order."""
    names = list(dict.fromkeys(point.checkpoint for one in entered for point in one.curves[benchmark]))
    lines = {
        one.entrant.name: [
            (float(names.index(point.checkpoint)), Share(point.correct, point.total)) for point in one.curves[benchmark]
        ]
        for one in entered
    }
    return _lines("", lines, names)


def _curves(
    benchmark: str, entered: Sequence[Entered]
) -> Iterator[tuple[str, str, Mapping[str, Sequence[Point]], Sequence[str] | None]]:
    """Entrants that differ in one thing only: over the share of the data (Fig. 1, 8), over the warm-up's end (Fig. 5).

    Caption, name of the axis, lines by name, and the ticks' names where it has no numbers.
    """
    shares = _varied(benchmark, entered, ("split", "train_fraction"), lambda share: share)
    if shares:
        yield "the share of the training data", "share of the training data", shares, None
    stages = _varied(benchmark, entered, ("warmup", "curriculum"), _STAGES.index, among=_STAGES)
    if stages:
        yield "the warm-up's stages", "", stages, _STAGES


def _varied(
    benchmark: str,
    entered: Sequence[Entered],
    key: tuple[str, str],
    place: Callable[[Any], float],
    among: Sequence[Any] | None = None,
) -> dict[str, list[Point]]:
    """Name of the last entrant of a line → its points: at least two entrants whose configs differ in the key only."""
    lines: dict[str, list[tuple[float, Share, str]]] = {}
    for one in entered:
        value = one.config.get(key[0], {}).get(key[1])
        if value is not None and (among is None or value in among):
            point = place(value), share_of(one.cases[benchmark].values()), one.entrant.name
            lines.setdefault(config_without(one, key), []).append(point)
    found = [sorted(points, key=lambda point: point[0]) for points in lines.values()]
    return {
        points[-1][2]: [(x, share) for x, share, _ in points] for points in found if len({x for x, *_ in points}) > 1
    }


def _lines(label: str, lines: Mapping[str, Sequence[Point]], ticks: Sequence[str] | None) -> bytes:
    figure, axes = _figure()
    step = 0.06 if ticks else 0.006
    for i, (name, points) in enumerate(lines.items()):
        shares = [share for _, share in points]
        # Side by side, so that intervals do not hide each other.
        places = [x + step * i for x, _ in points]
        values = [_value(share) for share in shares]
        axes.errorbar(places, values, yerr=_errors(shares), marker="o", capsize=3, label=name)
    if ticks:
        axes.set_xticks(range(len(ticks)), ticks)
    axes.set(xlabel=label, ylabel="share of right cases")
    figure.legend(loc="outside right upper")
    return _png(figure)


def _cost(benchmark: str, entered: Sequence[Entered]) -> bytes:
    """The share of right cases over the minutes that the checkpoints took."""
    figure, axes = _figure()
    for one in entered:
        share = share_of(one.cases[benchmark].values())
        axes.errorbar(
            [one.seconds / 60], [_value(share)], yerr=_errors([share]), fmt="o", capsize=3, label=one.entrant.name
        )
    axes.set(xlabel="minutes", ylabel="share of right cases")
    figure.legend(loc="outside right upper")
    return _png(figure)


def _value(share: Share) -> float:
    return share.count / share.total if share.total else 0.0


def _errors(shares: Sequence[Share]) -> list[list[float]]:
    """How far the ends of the intervals are below and above."""
    bounds = [wilson_interval(share.count, share.total) if share.total else (0.0, 0.0) for share in shares]
    below = [max(0.0, _value(share) - low) for share, (low, _) in zip(shares, bounds, strict=True)]
    above = [max(0.0, high - _value(share)) for share, (_, high) in zip(shares, bounds, strict=True)]
    return [below, above]


def _figure() -> tuple[Any, Any]:
    # The object interface, not pyplot: no global state, no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.0), dpi=110, layout="constrained")
    return figure, figure.subplots()


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
