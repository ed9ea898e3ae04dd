"""The fused parts against what they replace, value and gradient, in fp32."""

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import nn

from itool_pipeline.training.fused import dense_attention, use_fused_lora


def lora_model(bias: bool = True, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(12, 20, bias=bias), nn.SiLU(), nn.Linear(20, 8, bias=bias))
    model = get_peft_model(base, LoraConfig(r=3, lora_alpha=6, lora_dropout=dropout, target_modules=["0", "2"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def run(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradient of the input, gradients of the adapter."""
    x = x.clone().requires_grad_()
    parameters = [p for p in model.parameters() if p.requires_grad]
    torch.manual_seed(1)
    out = model(x)
    return [out, *torch.autograd.grad(out.square().sum(), [x, *parameters])]


@pytest.mark.parametrize(("bias", "dropout"), [(True, 0.0), (False, 0.0), (True, 0.4)])
def test_fused_lora_equals_pefts(bias: bool, dropout: float) -> None:
    model = lora_model(bias, dropout)
    x = torch.randn(2, 5, 12)
    expected = run(model, x)
    assert use_fused_lora(model) == 2
    for got, want in zip(run(model, x), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_a_switched_off_adapter_is_the_base_model() -> None:
    model = lora_model()
    x = torch.randn(3, 12)
    with model.disable_adapter():
        expected = model(x)
    use_fused_lora(model)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), expected)
    assert not torch.allclose(model(x), expected)


@pytest.mark.parametrize("batched_mask", [False, True])
def test_dense_attention_equals_pytorchs(batched_mask: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 7, 4, requires_grad=True) for heads in (6, 3, 3))
    allowed = torch.rand(2 if batched_mask else 1, 1, 7, 7) < 0.5
    allowed = allowed | torch.eye(7, dtype=torch.bool)
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    want = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, scale=0.3, enable_gqa=True)
    want = want.transpose(1, 2)
    got, _ = dense_attention(nn.Module(), query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(got, want)
    inputs = (query, key, value)
    weight = torch.randn_like(want)
    for a, b in zip(
        torch.autograd.grad((got * weight).sum(), inputs),
        torch.autograd.grad((want * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
