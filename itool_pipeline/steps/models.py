"""The model at a checkpoint, as the steps use it: its template, its context, and the engine that answers.

Torch is imported where it is used: it takes seconds, and Dagster loads the steps' modules to draw the graph.
"""

from __future__ import annotations

from pathlib import Path

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import syntax_named
from itool_pipeline.config import EndpointModel, Experiment
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.data.base_model import base_model_path, require_same_weights
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.factory import make_engine
from itool_pipeline.engines.model_config import context_length
from itool_pipeline.engines.types import Engine, EngineSettings, Sampling
from itool_pipeline.steps.workspace import StepError, Workspace

ADAPTER = "adapter"
"""Directory of the LoRA adapter in a checkpoint's artifact. A checkpoint that nothing was trained for has none."""


def chat(ws: Workspace) -> Chat:
    """The chat template of the experiment's model."""
    return chat_in(base_dir(ws), ws.experiment)


def chat_in(directory: Path, experiment: Experiment) -> Chat:
    """The chat template of the model in the directory, as the experiment uses it. Raises ChatTemplateError."""
    from itool_pipeline.engines.model import load_tokenizer

    p = experiment.prompt
    return Chat(load_tokenizer(directory), p.tools, p.calls, thinking=p.thinking)


def call_syntax(ws: Workspace) -> CallSyntax:
    """How the experiment's model writes calls; with `prompt.calls: auto` as its chat template does.

    What a served model calls comes as calls, which are kept in Python's syntax.
    """
    if isinstance(ws.experiment.model, EndpointModel):
        return PYTHON_CALLS
    asked = ws.experiment.prompt.calls
    return chat(ws).syntax if asked == "auto" else syntax_named(asked)


def fragment_rule(ws: Workspace) -> FragmentRule:
    """Where the fragments of the experiment's search end."""
    return FragmentRule(ws.experiment.search.terminators, call_syntax(ws))


def base_dir(ws: Workspace) -> Path:
    """The directory that transformers loads the base model from."""
    return base_model_path(ws.input("base_model").path)


def weights_dir(ws: Workspace) -> Path:
    """`base_dir` for whoever loads the weights. Raises FetchError when they have changed since it was made."""
    directory = base_dir(ws)
    require_same_weights(ws.input("base_model").path)
    return directory


def context_tokens(ws: Workspace) -> int | None:
    """Tokens that the base model can read at once, by its config.json; None when it states none."""
    return context_length(base_dir(ws))


def require_usable(directory: Path) -> None:
    """Raise ModelError when the model whose config is in `directory` cannot be searched with or trained exactly."""
    from itool_pipeline.engines.model_probe import require_exact_engine
    from itool_pipeline.training.model_probe import require_exact_training

    require_exact_engine(directory)
    require_exact_training(directory)


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


def inference_engine(ws: Workspace, checkpoint: str, template: Chat) -> Engine:
    """The model at `checkpoint`, on the engine that the config names. `template` renders the prompts that it gets."""
    return adapted_engine(ws, adapter_dir(ws, checkpoint), template, checkpoint)


def adapted_engine(ws: Workspace, adapter: Path | None, template: Chat, name: str) -> Engine:
    """The base model with this adapter, which `name` is a name of for messages."""
    e, s = ws.experiment, ws.experiment.search
    settings = EngineSettings(
        weights_dir(ws),
        adapter,
        e.compute,
        Sampling(s.temperature, s.top_k, s.top_p, s.max_fragment_tokens),
        fragment_rule(ws),
        template.end_token,
        name=name,
    )
    return make_engine(settings, ws.say)


def search_engine(ws: Workspace, checkpoint: str) -> Engine:
    """The policy at `checkpoint`, as the search asks for it."""
    return inference_engine(ws, checkpoint, chat(ws))
