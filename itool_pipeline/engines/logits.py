"""Logits of chosen places, as the model's own forward pass makes them of its decoder's output.

Between the last hidden states and the logits models scale, cap and norm as they like. What each does is not known
here: its own code runs, over a decoder that hands the hidden states through.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast


class _States(BaseModelOutputWithPast):  # type: ignore[misc]
    """A decoder's output that has, of all that decoders can return, the hidden states alone."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


class _GivenStates(nn.Module):  # type: ignore[misc]
    """Stands for the decoder: what it is given as embeddings it returns as hidden states."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> _States:
        return _States(last_hidden_state=inputs_embeds)


def decoder_of(model: Any) -> Any:
    """The part of the causal language model `model` that gives the last hidden states."""
    found = model.get_decoder()
    if isinstance(found, PreTrainedModel) and found is not model:
        return found
    return next(module for module in model.children() if isinstance(module, PreTrainedModel))


def logits_of(model: Any, hidden: Tensor) -> Tensor:
    """[K, V]: the logits of the causal language model `model` for its decoder's last hidden states [K, H]."""
    decoder = decoder_of(model)
    path = next(name for name, module in model.named_modules() if module is decoder)
    own = _replaced(model, path.split("."))
    logits: Tensor = own(inputs_embeds=hidden[None], use_cache=False).logits
    return logits[0]


def _replaced(module: Any, path: Sequence[str]) -> Any:
    """`module` with another decoder at `path`: a copy of the modules on the way there; all others are the same ones."""
    own = copy.copy(module)
    at, *further = path
    own._modules = {**module._modules, at: _replaced(module._modules[at], further) if further else _GivenStates()}
    return own
