"""An engine that the package does not know, plugged in by its name, runs an experiment's search and scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from itool_pipeline.engines import factory
from itool_pipeline.engines.factory import register_engine, release_engines
from itool_pipeline.engines.types import Engine, EngineSettings
from itool_pipeline.steps import examinee, models, trees
from itool_pipeline.steps.artifact_files import CASES_FILE
from itool_pipeline.steps.asset_graph import BY_NAME
from itool_pipeline.steps.cases import benchmark_cases
from itool_pipeline.steps.examinee import ModelExaminee
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.scoring import score_checkpoint
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline_tests.steps.by_hand import experiment
from itool_pipeline_tests.steps.without_model import (
    HELD_OUT,
    HashedPolicy,
    Template,
    install_data,
    no_measurement,
    prepared,
    searched,
    warm_up,
)

ANSWER = HELD_OUT[0].response


class ToyEngine(HashedPolicy, Engine):
    """Fragments out of a hash, and always the same answer."""

    def answer_each(
        self, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, until: str = ""
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        yield from ((number, tuple(ANSWER.encode())[:max_new_tokens]) for number, _ in enumerate(prompts))


@dataclass
class ToyMaker:
    made: list[EngineSettings] = field(default_factory=list)
    released: int = 0

    def make(self, settings: EngineSettings, say: Callable[[str], None]) -> Engine:
        say(f"toy at {settings.name}")
        self.made.append(settings)
        return ToyEngine(3)

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def toy() -> Iterator[ToyMaker]:
    maker = ToyMaker()
    register_engine("toy", maker)
    yield maker
    del factory._MAKERS["toy"]


@pytest.fixture
def ws(tmp_path: Path, toy: ToyMaker, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    ws = prepared(tmp_path, warmup={"curriculum": "none"})
    compute = ws.experiment.compute.model_copy(update={"engine": "toy"})
    own = ws.experiment.model_copy(update={"compute": compute})
    ws = replace(ws, experiment=own, planned=plan(own))
    for module in (models, examinee):
        monkeypatch.setattr(module, "chat", lambda ws: Template())
    for module in (trees, models, examinee):
        monkeypatch.setattr(module, "context_tokens", lambda ws: None)
    monkeypatch.setattr(models, "weights_dir", lambda ws: ws.input("base_model").path)
    no_measurement(monkeypatch)
    return ws


def test_a_registered_engine_searches_and_answers(
    ws: Workspace, toy: ToyMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm_up(ws)
    assert len({node["tree_id"] for node in searched(ws)}) > 8
    answer_each = ModelExaminee.answer_each
    install_data(monkeypatch)  # a checker that needs no wheel
    monkeypatch.setattr(ModelExaminee, "answer_each", answer_each)  # but real answering
    benchmark_cases(ws, BY_NAME["bfcl"])
    artifact = score_checkpoint(ws, BY_NAME["bfcl"], "warmup").artifact
    rows = pq.read_table(artifact.file(CASES_FILE)).to_pylist()
    assert {row["case_id"]: row["output"] for row in rows} == {case.id: ANSWER for case in HELD_OUT}
    assert {settings.name for settings in toy.made} == {"warmup/hard"}
    assert all(settings.base == ws.input("base_model").path and settings.adapter is None for settings in toy.made)


def test_what_engines_hold_is_released(toy: ToyMaker) -> None:
    release_engines()
    assert toy.released == 1


def test_the_engine_is_part_of_what_it_makes_and_of_nothing_else() -> None:
    e = experiment(iterations=1)
    other = e.model_copy(update={"compute": e.compute.model_copy(update={"engine": "toy"})})
    one, two = plan(e), plan(other)
    same = {asset for asset in one if one[asset].fingerprint == two[asset].fingerprint}
    assert same == {"base_model", "examples", "splits", "bfcl_cases", "warmup/easy", "warmup/medium", "warmup/hard"}
    assert one["iteration_1/policy"].origin.config == two["iteration_1/policy"].origin.config
