"""Engines on transformers, and the model that they share.

Torch is imported where it is used: it takes seconds, and Dagster loads the steps' modules to draw the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from itool_pipeline.config import ComputeConfig
from itool_pipeline.engines.types import Engine, EngineSettings

if TYPE_CHECKING:
    from itool_pipeline.engines.model import LoadedModel


class TransformersMaker:
    """Keeps the model that was last loaded, its adapter merged: scoring, buffer and shards follow each other.

    Every engine is new, though, and with it the memory of prompts: where rounding goes by what is computed together, as
    on a GPU, what one step has kept would change the next one's answers.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[Path, Path | None, ComputeConfig], LoadedModel] | None = None

    def make(self, settings: EngineSettings, say: Callable[[str], None]) -> Engine:
        """An engine on the kept model, or on one that is loaded in its place. Raises ModelError."""
        from itool_pipeline.engines.transformers_engine import TransformersEngine

        loaded = self._model(settings, say)
        return TransformersEngine(
            loaded,
            settings.rule,
            settings.sampling,
            end_token=settings.end_token,
            end_tokens=loaded.end_tokens,
            batch_tokens=settings.compute.batch_tokens,
            cache_bytes=int(settings.compute.prefix_cache_gib * 2**30),
        )

    def release(self) -> None:
        self._kept = None

    def _model(self, settings: EngineSettings, say: Callable[[str], None]) -> LoadedModel:
        from itool_pipeline.engines.model import load_model
        from itool_pipeline.engines.model_probe import require_exact_engine

        key = (settings.base, settings.adapter, settings.compute)
        if self._kept is None or self._kept[0] != key:
            self.release()  # before the next is loaded: two need not fit
            require_exact_engine(settings.base)
            say(f"loading the model at {settings.name or settings.base}")
            self._kept = key, load_model(settings.base, settings.compute, adapter=settings.adapter, merge=True)
        return self._kept[1]
