"""LoRA layers as one autograd function each, in the dtype of its input, and PyTorch's own attention.

About ten passes over the activations and all their fp32 copies are saved; the result is the same up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Params4bit
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from itool_pipeline.engines.attention_masks import register_attention
from itool_pipeline.engines.written_attention import needs_writing_out, written_attention

NATIVE_ATTENTION = "itool_native"


def dense_weight(layer: nn.Module, dtype: torch.dtype) -> Tensor:
    """[out, in]: the layer's weight, decoded if it is in 4 bits."""
    weight: Any = layer.weight
    if isinstance(weight, Params4bit):
        return dequantize_4bit(weight.data, weight.quant_state).to(dtype)
    return weight.to(dtype)


class _LoraLinear(torch.autograd.Function):  # type: ignore[misc]
    """y = x Wᵀ + s (z Aᵀ) Bᵀ with gradients for x, z, A and B. z is x, or x after dropout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, a: Tensor, b: Tensor, scaling: float, base: nn.Linear) -> Tensor:
        flat, dropped = x.flatten(0, -2), z.flatten(0, -2)
        a_low, b_low = a.to(x.dtype), (b * scaling).to(x.dtype)
        inner = dropped @ a_low.t()
        # What is returned must be no view, or a model that adds to it in place cannot be trained.
        y = x.new_empty(*x.shape[:-1], base.out_features)
        rows = y.view(len(flat), base.out_features)
        torch.mm(flat, dense_weight(base, x.dtype).t(), out=rows)
        rows.addmm_(inner, b_low.t())
        if base.bias is not None:
            rows += base.bias.to(x.dtype)
        ctx.save_for_backward(dropped, inner, a_low, b_low)
        ctx.base, ctx.scaling, ctx.same = base, scaling, x is z
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dropped, inner, a_low, b_low = ctx.saved_tensors
        flat = grad.flatten(0, -2)
        grad_inner = flat @ b_low
        grad_b = (flat.t() @ inner).float().mul_(ctx.scaling)
        grad_a = (grad_inner.t() @ dropped).float()
        shape = (*grad.shape[:-1], dropped.shape[-1])
        grad_x = grad_z = None
        if ctx.needs_input_grad[0]:
            grad_x = flat @ dense_weight(ctx.base, grad.dtype)
            if ctx.same:
                grad_x.addmm_(grad_inner, a_low)
            grad_x = grad_x.view(shape)
        if ctx.needs_input_grad[1] and not ctx.same:
            grad_z = (grad_inner @ a_low).view(shape)
        return grad_x, grad_z, grad_a, grad_b, None, None


def use_fused_lora(model: nn.Module) -> int:
    """Let every linear LoRA layer of peft's `model` compute by `_LoraLinear`; returns how many there are.

    The parameters stay peft's, so that saving, loading and switching the adapter off work as before.
    """
    layers = [m for m in model.modules() if isinstance(m, LoraLayer) and isinstance(m.get_base_layer(), nn.Linear)]
    for layer in layers:
        layer.forward = _fused_forward(layer)
    return len(layers)


def _fused_forward(layer: Any) -> Any:
    base, name = layer.get_base_layer(), layer.active_adapters[0]
    a, b, dropout = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name]
    scaling = layer.scaling[name]

    def forward(x: Tensor) -> Tensor:
        if layer.disable_adapters:
            bias = None if base.bias is None else base.bias.to(x.dtype)
            return F.linear(x, dense_weight(base, x.dtype), bias)
        y: Tensor = _LoraLinear.apply(x, dropout(x), a.weight, b.weight, scaling, base)
        return y

    return forward


def native_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """PyTorch's own attention, by transformers' function for it; what that does not know is written out."""
    if needs_writing_out(softcap, s_aux):
        return written_attention(query, key, value, attention_mask, scaling, softcap, s_aux)
    result: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **options
    )
    return result


register_attention(NATIVE_ATTENTION, native_attention, always=False)
