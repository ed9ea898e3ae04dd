"""champion: the scored checkpoint that holds the title at the end.

The first holds it to begin with. Each later one challenges the holder on the same cases, and takes the title where it
wins by the paired test on a benchmark, loses by it on none, and lets no category fall too low.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itool_pipeline.config import ChampionConfig
from itool_pipeline.files.json_text import to_json
from itool_pipeline.statistics import mcnemar_exact
from itool_pipeline.steps.artifact_files import CASES_FILE, CHAMPION_FILE
from itool_pipeline.steps.asset_graph import asked_benchmarks, checkpoints
from itool_pipeline.steps.display import table
from itool_pipeline.steps.workspace import Produced, StepError, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import read_table_rows

Verdicts = Mapping[str, tuple[str, bool]]
"""Case → its category, and whether the checkpoint has it right."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A checkpoint beside the holder on the cases of one benchmark.

    gained, lost  cases that only the challenger, only the holder has right
    p_value       McNemar's exact test, two-sided
    too_low       what is wrong with categories, in words; empty when nothing is
    """

    gained: int
    lost: int
    p_value: float
    too_low: tuple[str, ...] = ()

    def is_won(self, bounds: ChampionConfig) -> bool:
        """Whether the challenger is better, by the test."""
        return self.gained > self.lost and self.p_value <= bounds.max_p

    def is_lost(self, bounds: ChampionConfig) -> bool:
        """Whether the challenger is worse, by the test."""
        return self.lost > self.gained and self.p_value <= bounds.max_p


def challenge(holder: Verdicts, challenger: Verdicts, bounds: ChampionConfig) -> Challenge:
    """How they compare. Raises StepError unless both answered the same cases."""
    if holder.keys() != challenger.keys():
        raise StepError("two checkpoints were not scored on the same cases; materialize their scores again")
    gained = sum(challenger[key][1] and not holder[key][1] for key in holder)
    lost = sum(holder[key][1] and not challenger[key][1] for key in holder)
    return Challenge(gained, lost, mcnemar_exact(gained, lost), tuple(_too_low(holder, challenger, bounds)))


def _too_low(holder: Verdicts, challenger: Verdicts, bounds: ChampionConfig) -> list[str]:
    before, after = _accuracies(holder), _accuracies(challenger)
    found = []
    for category in sorted(before):
        told = f"{category} {before[category]:.1%} → {after[category]:.1%}"
        if after[category] < bounds.category_floor:
            found.append(f"{told}, below category_floor")
        elif before[category] - after[category] > bounds.category_drop:
            found.append(f"{told}, by more than category_drop")
    return found


def _accuracies(verdicts: Verdicts) -> dict[str, float]:
    decided: dict[str, list[bool]] = defaultdict(list)
    for category, correct in verdicts.values():
        decided[category].append(correct)
    return {category: sum(right) / len(right) for category, right in decided.items()}


def why_not(challenges: Sequence[Challenge], bounds: ChampionConfig) -> str:
    """Why the title stays with its holder; empty when the challenger takes it."""
    too_low = [told for one in challenges for told in one.too_low]
    if any(one.is_lost(bounds) for one in challenges):
        return "worse, by the test"
    if not any(one.is_won(bounds) for one in challenges):
        return "no better, by the test"
    return f"a category falls too low: {'; '.join(too_low)}" if too_low else ""


def read_verdicts(ws: Workspace, benchmark: str, checkpoint: str) -> dict[str, tuple[str, bool]]:
    """Of every case of a scored checkpoint."""
    file = ws.input(f"{benchmark}/{checkpoint}").file(CASES_FILE)
    rows = read_table_rows(file, ["case_id", "category", "correct"])
    return {row["case_id"]: (row["category"], row["correct"]) for row in rows}


def champion(ws: Workspace) -> Produced:
    """`champion.json`: name, asset and fingerprint of the checkpoint, and how each that challenged fared."""

    def make(step: Step) -> dict[str, Any]:
        bounds, names = ws.experiment.evaluation.champion, ws.experiment.scored_checkpoints()
        benchmarks = [benchmark.name for benchmark in asked_benchmarks(ws.experiment)]
        holder, rows = names[0], list[dict[str, Any]]()
        for name in names[1:]:
            found = {
                one: challenge(read_verdicts(ws, one, holder), read_verdicts(ws, one, name), bounds)
                for one in benchmarks
            }
            refused = why_not(list(found.values()), bounds)
            rows += [_row(holder, name, benchmark, one, refused) for benchmark, one in found.items()]
            holder = holder if refused else name
        asset = checkpoints()[holder]
        won = {"checkpoint": holder, "asset": asset, "fingerprint": ws.planned[asset].fingerprint}
        (step.work / CHAMPION_FILE).write_text(to_json({**won, "challenges": rows}))
        return {"champion": holder, "champion_asset": asset, "challenges": table(rows)}

    return ws.produce("champion", make)


def _row(holder: str, challenger: str, benchmark: str, one: Challenge, refused: str) -> dict[str, Any]:
    return {
        "holder": holder,
        "challenger": challenger,
        "benchmark": benchmark,
        "gained": one.gained,
        "lost": one.lost,
        "p": round(one.p_value, 6),
        "title": refused or f"goes to {challenger}",
    }
