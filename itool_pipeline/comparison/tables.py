"""A comparison as tables: for the terminal, and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itool_pipeline.comparison.differences import (
    RIGHT,
    Difference,
    DifferentCases,
    by_difficulty,
    by_member,
    calling,
    categories_of,
    differences,
    mistakes,
    share_of,
    shifts,
)
from itool_pipeline.comparison.entrants import Entered
from itool_pipeline.files.storage_errors import StorageError


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of texts under a title."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables_of(benchmark: str, entered: Sequence[Entered]) -> list[TextTable]:
    """All tables of one benchmark: the first entrant is what the others are held against.

    Raises StorageError when one of them was not asked the same cases.
    """
    first, *others = entered
    tables = [_scores(benchmark, entered)]
    for other in others:
        try:
            tables += _against(benchmark, first, other)
        except DifferentCases as error:
            raise StorageError(
                f"{first.entrant.name} and {other.entrant.name} cannot be compared on {benchmark}: {error}. Members "
                "are paired in their order, and each pair needs the same evaluation and seed"
            ) from error
    return [*tables, _calling(benchmark, entered), _mistakes(benchmark, entered), _cost(benchmark, entered)]


def _scores(benchmark: str, entered: Sequence[Entered]) -> TextTable:
    categories = sorted({name for one in entered for name in categories_of(one.cases[benchmark])})
    rows = [
        [
            one.entrant.name,
            str(share_of(one.cases[benchmark].values())),
            *(str(share_of(c for c in one.cases[benchmark].values() if c.category == name)) for name in categories),
        ]
        for one in entered
    ]
    return TextTable(f"{benchmark}: right cases, with 95% Wilson intervals", ["", "all", *categories], rows)


def _against(benchmark: str, first: Entered, second: Entered) -> list[TextTable]:
    one, other = first.cases[benchmark], second.cases[benchmark]
    title = f"{benchmark}: {second.entrant.name} against {first.entrant.name}"
    told = "difference by paired bootstrap, p by McNemar's exact test"
    tables = [_differences(f"{title}, {told}", "category", [(d.category, d) for d in differences(one, other)])]
    if difficulties := by_difficulty(one, other):
        rows = [(d.category, d) for d in difficulties]
        tables.append(_differences(f"{title}, by the question's difficulty", "difficulty", rows))
    count = len(first.entrant.members)
    if count > 1:
        members = zip(first.entrant.members, second.entrant.members, strict=True)
        named = [f"{b.experiment} against {a.experiment}" for a, b in members]
        found = list(zip(named, by_member(one, other, count), strict=True))
        tables.append(_differences(f"{title}, each by itself", "members", found))
    return [*tables, _shifts(first, second, benchmark)]


def _shifts(first: Entered, second: Entered, benchmark: str) -> TextTable:
    counts = shifts(first.cases[benchmark], second.cases[benchmark])
    kinds = sorted({kind for pair in counts for kind in pair}, key=lambda kind: (kind != RIGHT, kind))
    rows = [[kind, *(str(counts[kind, other]) for other in kinds)] for kind in kinds]
    title = f"{benchmark}: what {first.entrant.name} answers (rows), and {second.entrant.name} to the same (columns)"
    return TextTable(title, ["", *kinds], rows)


def _differences(title: str, head: str, rows: Sequence[tuple[str, Difference]]) -> TextTable:
    shown = [
        [
            name,
            str(d.cases),
            str(d.won),
            str(d.lost),
            f"{d.value:+.1%}",
            f"{d.low:+.1%} to {d.high:+.1%}",
            f"{d.p_value:.2g}",
        ]
        for name, d in rows
    ]
    return TextTable(title, [head, "cases", "won", "lost", "difference", "95%", "p"], shown)


def _calling(benchmark: str, entered: Sequence[Entered]) -> TextTable:
    found = [(one.entrant.name, calling(one.cases[benchmark])) for one in entered]
    rows = [[name, *map(str, shares.values())] for name, shares in found]
    return TextTable(
        f"{benchmark}: to call or not, whatever is called", ["", "precision", "recall", "abstention"], rows
    )


def _mistakes(benchmark: str, entered: Sequence[Entered]) -> TextTable:
    counts = [(one.entrant.name, mistakes(one.cases[benchmark])) for one in entered]
    kinds = sorted({kind for _, count in counts for kind in count})
    rows = [[name, *(str(count[kind]) for kind in kinds)] for name, count in counts]
    return TextTable(f"{benchmark}: wrong cases by type of error", ["", *kinds], rows)


def _cost(benchmark: str, entered: Sequence[Entered]) -> TextTable:
    def row(one: Entered) -> list[Any]:
        cases = one.cases[benchmark].values()
        right = sum(case.correct for case in cases)
        return [one.entrant.name, f"{one.seconds:.0f}", f"{right / len(cases):.1%}"]

    title = f"{benchmark}: what the checkpoints took to make, in seconds, and what they are worth"
    return TextTable(title, ["", "seconds", "right"], [row(one) for one in entered])
