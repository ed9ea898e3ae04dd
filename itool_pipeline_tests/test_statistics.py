"""Scores and comparisons against values worked out by hand and against enumeration."""

from __future__ import annotations

import itertools
import math

import pytest

from itool_pipeline.statistics import mcnemar_exact, paired_bootstrap, summarise


def test_scores_by_hand() -> None:
    cases = [
        ("live_simple", True),
        ("multiple", False),
        ("live_simple", False),
        ("multiple", False),
        ("live_simple", True),
    ]
    multiple, live = summarise(cases, ["multiple", "live_simple"])
    assert (multiple.category, multiple.correct, multiple.total) == ("multiple", 0, 2)
    assert (live.category, live.correct, live.total) == ("live_simple", 2, 3)
    assert summarise([]) == []
    assert [s.category for s in summarise(cases)] == ["live_simple", "multiple"]


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 6, 2 / 64),
        (1, 5, 2 * (1 + 6) / 64),
        (7, 2, 2 * (1 + 9 + 36) / 512),
        (3, 3, 1.0),
    ],
)
def test_mcnemar_worked_out_by_hand(gained: int, lost: int, p: float) -> None:
    assert mcnemar_exact(gained, lost) == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize("n", range(1, 11))
def test_mcnemar_against_every_toss_of_the_coins(n: int) -> None:
    for gained in range(n + 1):
        uneven = abs(2 * gained - n)
        tosses = itertools.product((0, 1), repeat=n)
        as_uneven = sum(abs(2 * sum(toss) - n) >= uneven for toss in tosses)
        assert mcnemar_exact(gained, n - gained) == pytest.approx(as_uneven / 2**n, rel=1e-12)


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="needs counts"):
        mcnemar_exact(-1, 2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((True, False, False, True), (True, True, True, False)),
        ((False, False, False), (True, True, False)),
        ((True, True, False, False, True), (False, True, False, False, True)),
    ],
)
def test_bootstrap_against_every_resample(first: tuple[bool, ...], second: tuple[bool, ...]) -> None:
    n = len(first)
    changes = [b - a for a, b in zip(first, second, strict=True)]
    every = sorted(sum(changes[i] for i in drawn) / n for drawn in itertools.product(range(n), repeat=n))
    difference, low, high = paired_bootstrap(first, second, seed=5, resamples=200_000)
    assert difference == pytest.approx(sum(changes) / n)
    assert low == pytest.approx(every[math.floor(0.025 * len(every))])
    assert high == pytest.approx(every[math.floor(0.975 * len(every))])


def test_bootstrap_on_many_cases_is_near_the_normal_interval() -> None:
    # 2000 cases, 500 gained, 300 lost: mean 0.1, variance of one case 0.4 - 0.01
    first = [True] * 300 + [False] * 500 + [True] * 1200
    second = [False] * 300 + [True] * 500 + [True] * 1200
    difference, low, high = paired_bootstrap(first, second, seed=1)
    half = 1.96 * math.sqrt(0.39 / 2000)
    assert difference == pytest.approx(0.1)
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=1.5e-3)


def test_bootstrap_depends_on_the_seed_alone() -> None:
    first, second = [i % 3 == 0 for i in range(200)], [i % 5 == 0 for i in range(200)]
    assert paired_bootstrap(first, second, seed=3) == paired_bootstrap(first, second, seed=3)
    assert paired_bootstrap(first, first, seed=3) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False])])
def test_bootstrap_refuses_what_is_not_paired(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(ValueError, match="needs two verdicts"):
        paired_bootstrap(first, second, seed=1)
