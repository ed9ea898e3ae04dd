"""Whether a model computes on trees what it computes on separate rows, tried on its small twin before it is used.

Whatever is not plain about a model's attention or logits is honoured exactly, or the model is refused by its name: no
family is believed in because it is on a list. The twin stands for the model, because it runs the same code; it is
tried far beyond its windows, which in the model may be too long to try.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import ScoreRequest
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.model_config import ModelError, read_model_config
from itool_pipeline.engines.model_twin import TWIN_VOCABULARY, TWIN_WINDOW, small_twin
from itool_pipeline.engines.transformers_engine import TransformersEngine
from itool_pipeline.engines.types import Sampling

TOLERANCE = 1e-3
"""Nats. In fp32 rounding makes 1e-6 to 4e-5 of the log-probabilities, a wrong mask or scale 0.05 to 5."""

Branches = Callable[[PreTrainedModel, Sequence[ScoreRequest]], Sequence[float]]
"""(twin, requests) → log-probability of each token of each continuation, in order."""

_PLAIN_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
_STATES = re.compile("mamba|ssm|^state_size$|recurrent|^linear_|^rescale_every$|^lru_|^xlstm|^conv_")
_PASSED: set[tuple[Branches, str]] = set()


def require_exact_engine(directory: Path) -> None:
    """Try the engine on the twin of the model in `directory`. Raises ModelError, as `require_exact` does."""
    require_exact(read_model_config(directory), engine_branches, "the engine")


def require_exact(config: PreTrainedConfig, branches: Branches, what: str) -> None:
    """`branches` must give, of the twin of a model, what transformers' own forward pass gives on separate rows.

    what  what `branches` is, in words

    Tried once for each config in a process. Raises ModelError, with the model's class, when they differ by more than
    TOLERANCE or either fails.
    """
    key = (branches, json.dumps(config.to_dict(), sort_keys=True, default=str))
    if key in _PASSED:
        return
    problem = _problem(config, branches)
    if problem:
        raise ModelError(
            f"{MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__} cannot be used: {_peculiar(config)}, and texts that "
            f"share a beginning do not get what each would get alone ({what} {problem}). Take a model of another "
            "family; docs/models.md lists those that are known to work"
        )
    _PASSED.add(key)


def engine_branches(twin: PreTrainedModel, requests: Sequence[ScoreRequest]) -> list[float]:
    """The engine's scores."""
    no_tokenizer: Any = None  # scores are of token ids
    loaded = LoadedModel(twin, no_tokenizer, torch.device("cpu"), torch.float32)
    engine = TransformersEngine(loaded, FragmentRule(""), Sampling(), end_tokens=frozenset())
    return [value for rows in engine.score(requests) for row in rows for value in row]


def _problem(config: PreTrainedConfig, branches: Branches) -> str:
    """What is wrong, in words; empty when nothing is."""
    try:
        twin = small_twin(config)
        expected = separate_rows(twin, PROBES)
        found = np.array(branches(twin, PROBES))
    except Exception as error:  # whatever a class of transformers makes of it: here it is an answer, not a mishap
        return f"fails: {type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}"
    largest = float(np.abs(found - expected).max())
    return "" if largest <= TOLERANCE else f"is off by {largest:.2g} from the model's own forward pass"


def separate_rows(model: Any, requests: Sequence[ScoreRequest]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Log-probability of each token of each continuation, each in a forward pass of its own."""
    values: list[float] = []
    for request in requests:
        for continuation in request.continuations:
            row = torch.tensor([[*request.prompt, *continuation]])
            with torch.no_grad():
                log_probs = model(input_ids=row).logits[0].float().log_softmax(-1)
            before = len(request.prompt) - 1
            values += log_probs[before + torch.arange(len(continuation)), torch.tensor(continuation)].tolist()
    return np.array(values)


def _peculiar(config: PreTrainedConfig) -> str:
    """What of a config is known to be beyond causal attention, in words."""
    text = config.get_text_config(decoder=True)
    kinds = sorted({str(kind) for kind in vars(text).get("layer_types") or ()} - _PLAIN_LAYERS)
    if kinds:
        return f"it has layers that are not attention ({', '.join(kinds)})"
    states = sorted(key for key in vars(text) if _STATES.search(key))
    if states:
        return f"it keeps a running state ({', '.join(states[:2])})"
    if vars(text).get("alibi") or text.model_type in ("bloom", "mpt"):
        return "it has ALiBi, which goes by columns"
    if vars(text).get("is_decoder") is False:
        return "its tokens see those after them"
    return "it computes more than causal attention"


def _tokens(count: int, seed: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.random.default_rng([count, seed]).integers(1, TWIN_VOCABULARY, count))


def _probes() -> tuple[ScoreRequest, ...]:
    shared = _tokens(TWIN_WINDOW // 2, 1)
    long = (*shared, *_tokens(TWIN_WINDOW, 2)), (*shared, *_tokens(TWIN_WINDOW // 2, 3)), _tokens(TWIN_WINDOW + 1, 4)
    return (
        ScoreRequest(_tokens(2 * TWIN_WINDOW + 3, 0), long),
        ScoreRequest(_tokens(TWIN_WINDOW + 1, 5), (_tokens(TWIN_WINDOW + 3, 6), _tokens(TWIN_WINDOW, 7))),
    )


PROBES = _probes()
"""Two prompts of different lengths, with branches that share a beginning, longer than the twin's windows."""
