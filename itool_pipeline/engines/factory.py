"""The one place that makes the engine which the config names (`compute.engine`).

To add an engine: a maker (see `EngineMaker`) in a module of its own, its name in `ComputeConfig.engine`, and a line in
the register below. Nothing else knows which engine answers.
"""

from __future__ import annotations

from collections.abc import Callable

from itool_pipeline.engines.transformers_maker import TransformersMaker
from itool_pipeline.engines.types import Engine, EngineMaker, EngineSettings
from itool_pipeline.engines.vllm_maker import VllmMaker

_MAKERS: dict[str, EngineMaker] = {"transformers": TransformersMaker(), "vllm": VllmMaker()}


def register_engine(name: str, maker: EngineMaker) -> None:
    """Make `maker` the one for `compute.engine: name`."""
    _MAKERS[name] = maker


def make_engine(settings: EngineSettings, say: Callable[[str], None]) -> Engine:
    """The engine that `settings.compute` names. What other engines keep is released: one model is held at a time."""
    for name, maker in _MAKERS.items():
        if name != settings.compute.engine:
            maker.release()
    return _MAKERS[settings.compute.engine].make(settings, say)


def release_engines() -> None:
    """Give back the memory that engines hold; training needs it."""
    for maker in _MAKERS.values():
        maker.release()
