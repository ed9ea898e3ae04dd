"""The model at a checkpoint, as the steps use it.

Torch is imported where it is used: it takes seconds, and Dagster loads the steps' modules to draw the graph.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from itool_pipeline.config import ComputeConfig
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.data.base_model import base_model_path
from itool_pipeline.engines.chat import Chat
from itool_pipeline.steps.workspace import StepError, Workspace

if TYPE_CHECKING:
    from itool_pipeline.engines.model import LoadedModel
    from itool_pipeline.engines.transformers_engine import TransformersEngine

ADAPTER = "adapter"
"""Directory of the LoRA adapter in a checkpoint's artifact. A checkpoint that nothing was trained for has none."""


def chat(ws: Workspace) -> Chat:
    """The chat template of the experiment's model."""
    from itool_pipeline.engines.model import load_tokenizer

    return Chat(load_tokenizer(base_dir(ws)), ws.experiment.prompt.tools)


def base_dir(ws: Workspace) -> Path:
    """The directory that transformers loads the base model from."""
    return base_model_path(ws.input("base_model").path)


def context_tokens(ws: Workspace) -> int | None:
    """Tokens that the base model can read at once, by its config.json; None when it states none."""
    config = json.loads((base_dir(ws) / "config.json").read_text())
    for section in (config, config.get("text_config")):
        stated = section.get("max_position_embeddings") if isinstance(section, dict) else None
        if isinstance(stated, int):
            return stated
    return None


def require_context(ws: Workspace, tokens: int, what: str, lower: str) -> None:
    """Raise StepError when `what` takes more tokens than the model can read at once; `lower`: the keys to lower."""
    most = context_tokens(ws)
    if most is not None and tokens > most:
        raise StepError(
            f"experiment {ws.experiment.name}: {what} takes {tokens} tokens at once, and the model can read {most} "
            f"(max_position_embeddings in its config.json); lower {lower}, or take a model with a longer context"
        )


def adapter_dir(ws: Workspace, checkpoint: str) -> Path | None:
    """The adapter of a checkpoint's asset; None for the base model."""
    if checkpoint == "base_model":
        return None
    directory = ws.input(checkpoint).path / ADAPTER
    return directory if directory.is_dir() else None


_kept: dict[tuple[Path, Path | None, ComputeConfig], LoadedModel] = {}
"""The model that was last loaded to infer with, if it is still needed: scoring, buffer and shards follow each other."""


def inference_model(ws: Workspace, checkpoint: str) -> LoadedModel:
    """The model at `checkpoint`, its adapter merged. One model is kept for the next step of this process."""
    from itool_pipeline.engines.model import load_model

    directory, adapter, compute = base_dir(ws), adapter_dir(ws, checkpoint), ws.experiment.compute
    key = (directory, adapter, compute)
    if key not in _kept:
        release_model()
        ws.say(f"loading the model at {checkpoint}")
        _kept[key] = load_model(directory, compute, adapter=adapter, merge=True)
    return _kept[key]


def release_model() -> None:
    """Give back the memory of the model that is kept; training needs it."""
    _kept.clear()


def search_engine(ws: Workspace, checkpoint: str) -> tuple[TransformersEngine, Chat]:
    """The policy at `checkpoint` as the search asks for it, and the chat template that renders its prompts."""
    from itool_pipeline.engines.transformers_engine import Sampling, TransformersEngine

    loaded, e = inference_model(ws, checkpoint), ws.experiment
    template, s = Chat(loaded.tokenizer, e.prompt.tools), e.search
    engine = TransformersEngine(
        loaded,
        FragmentRule(s.terminators),
        Sampling(s.temperature, s.top_k, s.top_p, s.max_fragment_tokens),
        end_tokens=frozenset({template.end_token}),
        batch_tokens=e.compute.batch_tokens,
        cache_bytes=int(e.compute.prefix_cache_gib * 2**30),
    )
    return engine, template
