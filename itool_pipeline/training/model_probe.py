"""Whether training computes on packed rows what a model computes on separate ones, tried before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from itool_pipeline.core.policy import ScoreRequest
from itool_pipeline.core.token_trie import pack_row
from itool_pipeline.engines.model_config import read_model_config
from itool_pipeline.engines.model_probe import require_exact
from itool_pipeline.training.log_probs import Kernels, TokenLogProbs


def require_exact_training(directory: Path) -> None:
    """Try both kernels of training on the twin of the model in `directory`. Raises ModelError."""
    config = read_model_config(directory)
    require_exact(config, fused_branches, "training")
    require_exact(config, plain_branches, "training with plain kernels")


def fused_branches(twin: PreTrainedModel, requests: Sequence[ScoreRequest]) -> list[float]:
    """Log-probability of each token of each continuation, by packed rows and fused kernels."""
    return _branches(twin, requests, "fused")


def plain_branches(twin: PreTrainedModel, requests: Sequence[ScoreRequest]) -> list[float]:
    """Log-probability of each token of each continuation, by packed rows and plain kernels."""
    return _branches(twin, requests, "plain")


def _branches(twin: PreTrainedModel, requests: Sequence[ScoreRequest], kernels: Kernels) -> list[float]:
    rows = [pack_row(request.prompt, request.continuations) for request in requests]
    wanted = [np.unique(np.concatenate(row.spans)) for row in rows]
    with torch.no_grad():
        values = TokenLogProbs(twin, kernels)(rows, wanted)
    found = values.split([len(places) for places in wanted])
    by_place = [dict(zip(w.tolist(), part.tolist(), strict=True)) for w, part in zip(wanted, found, strict=True)]
    return [by[place] for by, row in zip(by_place, rows, strict=True) for span in row.spans for place in span.tolist()]
