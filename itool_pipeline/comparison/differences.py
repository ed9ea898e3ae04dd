"""How entrants differ on the same cases: counts with intervals, and paired tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from itool_pipeline.comparison.entrants import Case, Cases
from itool_pipeline.core.difficulty import Difficulty
from itool_pipeline.statistics import mcnemar_exact, paired_bootstrap, wilson_interval

ALL = "all"
"""The category that stands for all of them."""
RIGHT = "right"
"""Stands beside the types of error for an answer without one."""
_SEED = 0
"""Of the bootstrap: the same comparison twice gives the same interval."""


class DifferentCases(ValueError):
    """Two entrants were not asked the same."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with the 95% Wilson interval of the share."""

    count: int
    total: int

    def __str__(self) -> str:
        if not self.total:
            return "-"
        low, high = wilson_interval(self.count, self.total)
        return f"{self.count / self.total:.1%} ({self.count}/{self.total}; {low:.0%}-{high:.0%})"


@dataclass(frozen=True, slots=True)
class Difference:
    """The second against the first on the same cases of one category.

    won, lost         cases that only the second, only the first has right
    value, low, high  difference of the accuracies, and its 95% interval by paired bootstrap
    p_value           McNemar's exact test, two-sided
    """

    category: str
    cases: int
    won: int
    lost: int
    value: float
    low: float
    high: float
    p_value: float


def categories_of(cases: Cases) -> list[str]:
    """In the order of their names."""
    return sorted({case.category for case in cases.values()})


def difficulties_of(cases: Cases) -> list[str]:
    """Those that occur, easiest first."""
    found = {case.difficulty for case in cases.values()}
    return [str(name) for name in Difficulty if name in found]


def share_of(cases: Iterable[Case], counted: Callable[[Case], bool] = lambda case: case.correct) -> Share:
    """Of these cases, how many are counted."""
    found = [counted(case) for case in cases]
    return Share(sum(found), len(found))


def calling(cases: Cases) -> dict[str, Share]:
    """Whether to call at all: precision, recall, and abstention where no call is right (see the view `calling`)."""
    asked = [case for case in cases.values() if case.should_call is not None]
    return {
        "precision": share_of((c for c in asked if c.calls), lambda c: c.should_call is True),
        "recall": share_of((c for c in asked if c.should_call), lambda c: c.calls is True),
        "abstention": share_of((c for c in asked if not c.should_call), lambda c: not c.calls),
    }


def mistakes(cases: Cases) -> Counter[str]:
    """Wrong cases by their type of error."""
    return Counter(case.mistake for case in cases.values() if not case.correct)


def difference(first: Cases, second: Cases, category: str = ALL) -> Difference:
    """Of one category, or of all. Raises DifferentCases unless both were asked the same."""
    if first.keys() != second.keys():
        raise DifferentCases(f"{len(first.keys() ^ second.keys())} cases were asked of one of the two only")
    keys = sorted(key for key, case in first.items() if category in (ALL, case.category))
    before, after = [first[key].correct for key in keys], [second[key].correct for key in keys]
    won = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    value, low, high = paired_bootstrap(before, after, seed=_SEED)
    return Difference(category, len(keys), won, lost, value, low, high, mcnemar_exact(won, lost))


def differences(first: Cases, second: Cases) -> list[Difference]:
    """Of all cases, and of each category."""
    return [difference(first, second, category) for category in (ALL, *categories_of(first))]


def by_difficulty(first: Cases, second: Cases) -> list[Difference]:
    """Of the questions of each difficulty, which stands in `category`; none where it is not known."""
    found = []
    for name in difficulties_of(first):
        keys = [key for key, case in first.items() if case.difficulty == name and key in second]
        one, other = ({key: cases[key] for key in keys} for cases in (first, second))
        found.append(replace(difference(one, other), category=name))
    return found


def shifts(first: Cases, second: Cases) -> Counter[tuple[str, str]]:
    """What became of the first's answers in the second's: types of error, or RIGHT."""
    return Counter((case.mistake or RIGHT, second[key].mistake or RIGHT) for key, case in first.items())


def by_member(first: Cases, second: Cases, count: int) -> Sequence[Difference]:
    """Of all cases of each pair of members: how much the seeds agree."""
    parts = [[{key: c for key, c in cases.items() if key[0] == j} for cases in (first, second)] for j in range(count)]
    return [difference(one, other) for one, other in parts]
