"""Who is compared: checkpoints of experiments, seeds of one setting taken together, and what is known of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.sql_shell import ask_database

LAST = ""
"""Stands for the last checkpoint of an experiment that is scored."""


@dataclass(frozen=True, slots=True)
class Member:
    """A checkpoint of an experiment: `base`, `warmup`, `iteration_1`, …, or LAST."""

    experiment: str
    checkpoint: str = LAST


@dataclass(frozen=True, slots=True)
class Entrant:
    """One line of a comparison. Its members are seeds of one setting; their cases are pooled, each with its own."""

    name: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One answer. `mistake` is the type of error, '' when it is right; the last two are None for conversations."""

    category: str
    correct: bool
    mistake: str
    should_call: bool | None
    calls: bool | None


Cases: TypeAlias = Mapping[tuple[int, str], Case]
"""By the number of the member and the benchmark's id of the case."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A scored checkpoint on the way to an entrant's, all members together."""

    checkpoint: str
    correct: int
    total: int


@dataclass(frozen=True, slots=True)
class Entered:
    """What the database knows of an entrant.

    cases    benchmark → its cases
    curves   benchmark → its checkpoints in their order
    seconds  what making its checkpoints took, everything before them included
    """

    entrant: Entrant
    cases: Mapping[str, Cases]
    curves: Mapping[str, Sequence[CurvePoint]]
    seconds: float


def parse_entrant(text: str) -> Entrant:
    """`demo`, `demo@warmup`, or seeds of one setting: `a+b+c`, `a@warmup+b@warmup`. Raises ValueError for no name."""
    members = []
    for part in text.split("+"):
        experiment, _, checkpoint = part.strip().partition("@")
        if not experiment:
            raise ValueError(f"{text!r}: write EXPERIMENT, EXPERIMENT@CHECKPOINT, or several joined by +")
        members.append(Member(experiment, checkpoint))
    return Entrant(text, tuple(members))


_MEMBERS = """
WITH asked AS (SELECT unnest($members, recursive := true)),
found AS (
    SELECT asked.entrant, asked.member, asked.experiment,
        CASE WHEN asked.checkpoint <> '' THEN asked.checkpoint ELSE (
            SELECT arg_max(l.checkpoint, l.sequence) FROM leaderboard AS l
            WHERE l.experiment = asked.experiment AND NOT l.stale
        ) END AS checkpoint
    FROM asked
)
"""
_CASES = f"""{_MEMBERS}
SELECT found.entrant, found.member, c.benchmark, c.case_id, c.category, c.correct,
    CASE WHEN c.correct THEN '' ELSE coalesce(c.mistake, 'unclassified') END, c.should_call, c.calls
FROM found
JOIN experiment_artifacts AS m ON m.experiment = found.experiment AND NOT m.stale
JOIN cases AS c ON c.artifact = m.artifact AND c.checkpoint = found.checkpoint
ORDER BY ALL
"""
_CURVES = f"""{_MEMBERS}
SELECT found.entrant, l.benchmark, l.checkpoint, sum(l.correct)::BIGINT, sum(l.total)::BIGINT
FROM found
JOIN leaderboard AS l ON l.experiment = found.experiment AND NOT l.stale
    AND l.sequence <= checkpoint_sequence(found.checkpoint)
GROUP BY ALL
ORDER BY found.entrant, l.benchmark, any_value(l.sequence)
"""
_SECONDS = f"""{_MEMBERS}
SELECT found.entrant, sum(cost.seconds)
FROM found
JOIN cost ON cost.experiment = found.experiment
WHERE coalesce(checkpoint_sequence(cost.asset), 0) <= checkpoint_sequence(found.checkpoint)
    AND cost.asset NOT IN (SELECT m.asset FROM materializations AS m JOIN scores AS s ON s.artifact = m.artifact)
    AND cost.asset <> 'report'
GROUP BY ALL
"""


def read_entrants(database: Path, entrants: Sequence[Entrant]) -> list[Entered]:
    """All that is compared of them. Raises StorageError when there is no database, or none of a member's cases."""
    members = [
        {"entrant": i, "member": j, "experiment": member.experiment, "checkpoint": member.checkpoint}
        for i, entrant in enumerate(entrants)
        for j, member in enumerate(entrant.members)
    ]

    def ask(sql: str) -> list[tuple[Any, ...]]:
        return ask_database(database, sql, lambda cursor: cursor.fetchall(), parameters={"members": members})

    cases: dict[int, dict[str, dict[tuple[int, str], Case]]] = defaultdict(lambda: defaultdict(dict))
    for i, j, benchmark, case_id, *rest in ask(_CASES):
        cases[i][benchmark][j, case_id] = Case(*rest)
    _require_all(database, entrants, cases)
    curves: dict[int, dict[str, list[CurvePoint]]] = defaultdict(lambda: defaultdict(list))
    for i, benchmark, *point in ask(_CURVES):
        curves[i][benchmark].append(CurvePoint(*point))
    seconds = dict(ask(_SECONDS))
    return [Entered(one, cases[i], curves[i], seconds.get(i, 0.0)) for i, one in enumerate(entrants)]


def _require_all(
    database: Path, entrants: Sequence[Entrant], cases: Mapping[int, Mapping[str, Mapping[tuple[int, str], Case]]]
) -> None:
    for i, entrant in enumerate(entrants):
        scored = {j for of_benchmark in cases[i].values() for j, _ in of_benchmark}
        for j, member in enumerate(entrant.members):
            if j not in scored:
                sql = "SELECT DISTINCT experiment || '@' || checkpoint FROM leaderboard WHERE NOT stale ORDER BY 1"
                known = [name for (name,) in ask_database(database, sql, lambda cursor: cursor.fetchall())]
                asked = f"{member.experiment}@{member.checkpoint}" if member.checkpoint else member.experiment
                raise StorageError(f"{asked} is not scored here; there are: {', '.join(known) or 'none'}")
