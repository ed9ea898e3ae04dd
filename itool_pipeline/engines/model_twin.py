"""A small random twin of a model, made from its configuration alone: the same code, layers of every kind, tiny sizes.

What a model computes beside plain causal attention shows in its twin as it would in the model, in a fraction of a
second, in fp32, without its weights, and far beyond every window, since the twin's windows are small too.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

TWIN_WINDOW = 8
"""What the twin sees at most, where the model has a window or a chunk."""

TWIN_VOCABULARY = 96
_SEED = 11
_SPREAD = 0.25
"""Standard deviation of the twin's weights: so large that every part of it shows in the log-probabilities."""

_SPANS = re.compile(
    r"window(_size|_len)?$|chunk_size$|chunk_length$|^local_attention$|^index_topk|_floor$|^floor_scale$"
)
"""Keys that count tokens: how far a layer sees, or from where on it changes."""

_INNER = {
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size"), 48),
    **dict.fromkeys(("intermediate_size_mlp", "ffn_dim", "ffn_hidden_size", "n_inner"), 48),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group"), 1),
}
"""Sizes that no others depend on."""

_WIDTHS = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 64),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("head_dim", "q_lora_rank", "kv_lora_rank", "v_head_dim"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim"), 16),
    **{"qk_head_dim": 32, "rotary_dim": 8},
}
_KV_HEADS = ("num_key_value_heads", "num_kv_heads")


def small_twin(config: PreTrainedConfig) -> PreTrainedModel:
    """A random model of `config`'s class in fp32 on the CPU, with eager attention; the same for the same config.

    Widths are made small where the class lets them be, and stay as they are otherwise.
    Raises what transformers raises when it cannot make a causal language model of such a config.
    """
    try:
        return _random_model(_smaller(config, narrow=True))
    except Exception:  # widths that depend on each other in ways of the class's own
        return _random_model(_smaller(config, narrow=False))


def _random_model(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                # A norm's weights stay near what they are, one or zero; all else is drawn anew.
                if parameter.ndim > 1:
                    parameter.normal_(std=_SPREAD)
                else:
                    parameter.add_(torch.randn_like(parameter) * _SPREAD)
            # One pass shows whether the sizes fit together.
            model.eval()(input_ids=torch.arange(2 * TWIN_WINDOW)[None])
    return model


def _smaller(config: PreTrainedConfig, narrow: bool) -> PreTrainedConfig:
    small = copy.deepcopy(config)
    text = small.get_text_config(decoder=True)
    _keep_kinds_of_layers(text)
    for name, value in list(vars(text).items()):
        if _SPANS.search(name) and _is_count(value) and value > TWIN_WINDOW:
            setattr(text, name, TWIN_WINDOW)
    text.vocab_size = TWIN_VOCABULARY
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(text, name, None) is not None:
            setattr(text, name, 0)
    _shrink(text, _INNER)
    if narrow:
        _narrow(text)
    return small


def _narrow(text: Any) -> None:
    heads, before = text.num_attention_heads, _head_width(text)
    for name in _KV_HEADS:
        shared = vars(text).get(name)
        if _is_count(shared):
            setattr(text, name, 1 if shared == 1 else 4 if shared == heads else 2)
    _shrink(text, _WIDTHS)
    rotary = getattr(text, "rope_parameters", None)
    if isinstance(rotary, dict):
        for key in ("short_factor", "long_factor"):
            if isinstance(rotary.get(key), list):
                rotary[key] = rotary[key][: len(rotary[key]) * _head_width(text) // before]


def _shrink(text: Any, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if _is_count(vars(text).get(name)):
            setattr(text, name, min(size, vars(text)[name]))


def _head_width(text: Any) -> int:
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)


def _keep_kinds_of_layers(text: Any) -> None:
    """Leave the first layer of each kind, by all lists that say something of every layer; at least two, at most six."""
    count = text.num_hidden_layers
    lists = {name: v for name, v in vars(text).items() if isinstance(v, list) and len(v) == count}
    kinds = list(zip(*(map(repr, v) for v in lists.values()), strict=True)) or [()] * count
    kept = [i for i in range(count) if kinds.index(kinds[i]) == i][:6]
    kept = sorted({*kept, *range(min(count, 2))}) if lists else list(range(min(count, 4)))
    for name, values in lists.items():
        setattr(text, name, [values[i] for i in kept])
    text.num_hidden_layers = len(kept)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
