"""One place makes engines, and of all engines one holds a model at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from itool_pipeline.config import ComputeConfig
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.engines import factory
from itool_pipeline.engines.factory import make_engine, register_engine, release_engines
from itool_pipeline.engines.types import Engine, EngineSettings, Sampling
from itool_pipeline_tests.steps.test_engines import ToyEngine


@dataclass
class NotingMaker:
    """Notes what is asked of it beside what is asked of the others."""

    name: str
    asked: list[str] = field(default_factory=list)

    def make(self, settings: EngineSettings, say: Callable[[str], None]) -> Engine:
        self.asked.append(f"{self.name} made")
        return ToyEngine(3)

    def release(self) -> None:
        self.asked.append(f"{self.name} released")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the two engines there are."""
    noted: list[str] = []
    monkeypatch.setattr(factory, "_MAKERS", {})
    for name in ("one", "other"):
        register_engine(name, NotingMaker(name, noted))
    return noted


def settings(engine: str) -> EngineSettings:
    compute = ComputeConfig().model_copy(update={"engine": engine})
    return EngineSettings(Path(), None, compute, Sampling(), FragmentRule(), end_token=0)


def test_the_engine_that_the_config_names_is_made_after_the_others_let_go(asked: list[str]) -> None:
    make_engine(settings("other"), lambda line: None)
    make_engine(settings("other"), lambda line: None)
    make_engine(settings("one"), lambda line: None)
    assert asked == [*["one released", "other made"] * 2, "other released", "one made"]


def test_before_a_training_all_let_go(asked: list[str]) -> None:
    release_engines()
    assert asked == ["one released", "other released"]
