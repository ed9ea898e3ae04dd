"""Who is champion, and whether an iteration is worse than what it started from, on scores written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itool_pipeline.config import ChampionConfig
from itool_pipeline.steps import checks
from itool_pipeline.steps.artifact_files import CASES_FILE, CHAMPION_FILE
from itool_pipeline.steps.asset_graph import started_from
from itool_pipeline.steps.champion import Challenge, challenge, champion, why_not
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline_tests.steps.by_hand import experiment, put, workspace

BOUNDS = ChampionConfig()
CASES = 40
"""The first half are of category a, the second of category b."""
ASSETS = {
    **{"base": "base_model", "warmup": "warmup/hard"},
    **{"iteration_1": "iteration_1/policy", "iteration_2": "iteration_2/policy"},
}
"""Which asset each checkpoint is."""


def verdicts(right: Sequence[int]) -> dict[str, tuple[str, bool]]:
    return {f"c{i}": ("a" if i < CASES // 2 else "b", i in right) for i in range(CASES)}


def put_scores(ws: Workspace, benchmark: str, checkpoint: str, right: Sequence[int]) -> None:
    rows = [{"case_id": key, "category": c, "correct": ok} for key, (c, ok) in verdicts(right).items()]
    put(ws, f"{benchmark}/{checkpoint}", lambda d: pq.write_table(pa.Table.from_pylist(rows), d / CASES_FILE))


def scored(root: Path, *right: Sequence[int], **asked: Any) -> Workspace:
    """An experiment of two iterations whose base, warm-up and iterations have these cases right."""
    ws = workspace(root, iterations=2, evaluation=asked)
    for name, cases in zip(("base", "warmup", "iteration_1", "iteration_2"), right, strict=True):
        put_scores(ws, "bfcl", name, cases)
    return ws


def won_by(ws: Workspace) -> tuple[str, list[str]]:
    """The champion, and what became of each challenge."""
    artifact = champion(ws).artifact
    told = json.loads(artifact.file(CHAMPION_FILE).read_text())
    assert artifact.manifest.metadata["champion"] == told["checkpoint"]
    assert told["asset"] == ASSETS[told["checkpoint"]]
    assert told["fingerprint"] == ws.planned[told["asset"]].fingerprint
    return told["checkpoint"], [row["title"] for row in told["challenges"]]


def test_whoever_wins_by_the_test_takes_the_title(tmp_path: Path) -> None:
    base = range(4)
    six_more = [*range(7), 20, 21, 22]  # six of six: p 0.03125, by the binomial distribution
    five_others = [*range(7), 20, 21, 22, *range(23, 28)]  # five of five: 0.0625
    ws = scored(tmp_path, base, six_more, five_others, six_more)
    assert won_by(ws) == ("warmup", ["goes to warmup", "no better, by the test", "no better, by the test"])


def test_each_challenges_the_holder_and_not_the_one_before(tmp_path: Path) -> None:
    """The third is better than the second, and worse than the first, which still has the title."""
    ws = scored(tmp_path, range(20, 40), range(20, 30), range(20, 38), range(40))
    assert won_by(ws) == (
        "iteration_2",
        ["worse, by the test", "no better, by the test", "goes to iteration_2"],
    )


def test_one_that_lets_a_category_fall_does_not_take_it(tmp_path: Path) -> None:
    more_but_less_of_a = [*range(5), *range(20, 40)]
    bounds = {"category_drop": 0.1}
    ws = scored(tmp_path / "one", range(10), more_but_less_of_a, range(10), range(10), champion=bounds)
    name, (told, *_) = won_by(ws)
    assert (name, told) == ("base", "a category falls too low: a 50.0% → 25.0%, by more than category_drop")
    ws = scored(
        tmp_path / "other", range(10), more_but_less_of_a, range(10), range(10), champion={"category_drop": 0.25}
    )
    assert won_by(ws)[0] == "warmup"


def test_a_category_below_the_floor_keeps_one_from_the_title(tmp_path: Path) -> None:
    ws = scored(tmp_path, range(1), range(20), range(20), range(22), champion={"category_floor": 0.1})
    name, told = won_by(ws)
    assert name == "iteration_2"
    assert told[0] == "a category falls too low: b 0.0% → 0.0%, below category_floor"


def test_a_benchmark_on_which_it_is_worse_keeps_one_from_the_title(tmp_path: Path) -> None:
    ws = workspace(tmp_path, iterations=0, evaluation={"api_bank": {}})
    for benchmark, base, warm in (("bfcl", range(4), range(14)), ("api_bank", range(20, 40), range(20, 30))):
        put_scores(ws, benchmark, "base", base)
        put_scores(ws, benchmark, "warmup", warm)
    assert won_by(ws) == ("base", ["worse, by the test"] * 2)


def test_the_bounds_are_in_the_fingerprint_of_the_champion_alone() -> None:
    usual, strict = (plan(experiment(evaluation={"champion": {"max_p": p}})) for p in (0.05, 0.01))
    assert {asset for asset in usual if usual[asset].fingerprint != strict[asset].fingerprint} == {"champion"}


def test_without_scores_there_is_no_champion() -> None:
    assert "champion" not in plan(experiment(evaluation={"bfcl": None}))


# 2 (C(n, 0) + … + C(n, min)) / 2^n by hand
@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(6, 0, 1 / 32), (5, 0, 1 / 16), (9, 1, 22 / 1024), (0, 6, 1 / 32), (12, 3, 1152 / 32768), (3, 3, 1.0)],
)
def test_the_test_is_mcnemars(gained: int, lost: int, p: float) -> None:
    before = verdicts(range(lost))
    after = verdicts(range(CASES - gained, CASES))
    found = challenge(before, after, ChampionConfig(category_drop=1.0))
    assert found == Challenge(gained, lost, pytest.approx(p), ())  # type: ignore[arg-type]
    assert found.is_won(BOUNDS) == (p <= 0.05 and gained > lost)
    assert found.is_lost(BOUNDS) == (p <= 0.05 and lost > gained)


def test_other_cases_are_not_compared() -> None:
    first, *_ = own = verdicts(())
    others = {f"other {key}" if key == first else key: verdict for key, verdict in own.items()}
    with pytest.raises(StepError, match="not scored on the same cases"):
        challenge(own, others, BOUNDS)


def test_the_first_reason_is_the_one_told() -> None:
    won, lost = Challenge(9, 0, 0.004), Challenge(0, 9, 0.004, ("a falls",))
    assert why_not([won, lost], BOUNDS) == "worse, by the test"
    assert why_not([won, Challenge(1, 1, 1.0, ("a falls",))], BOUNDS) == "a category falls too low: a falls"
    assert why_not([won, Challenge(1, 2, 1.0)], BOUNDS) == ""


def test_an_iteration_that_is_worse_than_what_it_started_from(tmp_path: Path) -> None:
    ws = scored(tmp_path, range(4), range(20), range(14), range(9))
    found = checks.is_not_worse(ws, "bfcl/iteration_1", "bfcl/warmup")
    assert found.problems == ["iteration_1 is worse than warmup, which it started from: 0 cases won, 6 lost, p 0.031"]
    assert (found.counts["gained"], found.counts["lost"]) == (0, 6)
    # five lost of five may be chance
    assert checks.is_not_worse(ws, "bfcl/iteration_2", "bfcl/iteration_1").problems == []


def test_an_iteration_whose_start_is_not_scored(tmp_path: Path) -> None:
    ws = workspace(tmp_path, iterations=2, evaluation={"checkpoints": ("last",)})
    put_scores(ws, "bfcl", "iteration_2", ())
    assert checks.is_not_worse(ws, "bfcl/iteration_2", "bfcl/iteration_1") == checks.Finding([])


def test_what_an_iteration_started_from() -> None:
    told = {name: started_from(f"bfcl/{name}") for name in ("base", "warmup", "iteration_1", "iteration_3")}
    assert told == {
        "base": None,
        "warmup": None,
        "iteration_1": "bfcl/warmup",
        "iteration_3": "bfcl/iteration_2",
    }
