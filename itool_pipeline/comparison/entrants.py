"""Who is compared: checkpoints of experiments, seeds of one setting taken together, and what is known of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from itool_pipeline.config import DifficultyConfig
from itool_pipeline.core.difficulty import ExampleSize, difficulty_of
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
    """One answer.

    mistake      the type of error, '' when it is right
    should_call  None for conversations, as `calls`
    difficulty   of the question, by the paper's bounds (Section 3.1); '' for conversations
    """

    category: str
    correct: bool
    mistake: str
    should_call: bool | None
    calls: bool | None
    difficulty: str = ""


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
    config   of its first member's experiment
    """

    entrant: Entrant
    cases: Mapping[str, Cases]
    curves: Mapping[str, Sequence[CurvePoint]]
    seconds: float
    config: Mapping[str, Any] = field(default_factory=dict)


def parse_entrant(text: str) -> Entrant:
    """`demo`, `demo@warmup`, or seeds of one setting: `a+b+c`, `a@warmup+b@warmup`. Raises ValueError for no name."""
    members = []
    for part in text.split("+"):
        experiment, _, checkpoint = part.strip().partition("@")
        if not experiment:
            raise ValueError(f"{text!r}: write EXPERIMENT, EXPERIMENT@CHECKPOINT, or several joined by +")
        members.append(Member(experiment, checkpoint))
    return Entrant(text, tuple(members))


_NAMES = ("name", "description", "scheduled", "ablations", "tracking")
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
    CASE WHEN c.correct THEN '' ELSE coalesce(c.mistake, 'unclassified') END, c.should_call, c.calls,
    asked.tool_count, asked.tool_chars, asked.call_count
FROM found
JOIN experiment_artifacts AS m ON m.experiment = found.experiment AND NOT m.stale
JOIN cases AS c ON c.artifact = m.artifact AND c.checkpoint = found.checkpoint
LEFT JOIN materializations AS pool ON pool.experiment = found.experiment AND pool.asset = c.benchmark || '_cases'
LEFT JOIN examples AS asked ON asked.artifact = pool.artifact AND asked.example_id = c.case_id
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


_CONFIGS = f"""{_MEMBERS}
SELECT found.entrant, e.config::VARCHAR
FROM found
JOIN experiments AS e ON e.experiment = found.experiment
WHERE found.member = 0
"""
_BOUNDS = DifficultyConfig()


def config_without(entered: Entered, key: tuple[str, str]) -> str:
    """What the entrant's experiment is set to but for this key of a section, and for its names: equal where all is."""
    rest = {name: value for name, value in entered.config.items() if name not in _NAMES}
    section, inner = key
    rest[section] = {name: value for name, value in rest.get(section, {}).items() if name != inner}
    return json.dumps(rest, sort_keys=True)


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
    for i, j, benchmark, case_id, *rest, tools, chars, calls in ask(_CASES):
        difficulty = "" if tools is None else str(difficulty_of(ExampleSize(tools, chars, calls), _BOUNDS))
        cases[i][benchmark][j, case_id] = replace(Case(*rest), difficulty=difficulty)
    _require_all(database, entrants, cases)
    curves: dict[int, dict[str, list[CurvePoint]]] = defaultdict(lambda: defaultdict(list))
    for i, benchmark, *point in ask(_CURVES):
        curves[i][benchmark].append(CurvePoint(*point))
    seconds = dict(ask(_SECONDS))
    configs = {i: json.loads(config) for i, config in ask(_CONFIGS)}
    return [
        Entered(one, cases[i], curves[i], seconds.get(i, 0.0), configs.get(i, {})) for i, one in enumerate(entrants)
    ]


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
