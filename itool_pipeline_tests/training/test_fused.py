"""The fused parts against what they replace, value and gradient, in fp32."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from itool_pipeline.training.fused import use_fused_lora


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


def test_what_a_layer_gives_may_be_changed_in_place() -> None:
    model = lora_model()
    x = torch.randn(2, 5, 12)
    expected = run(nn.Sequential(model, Doubling()), x)
    use_fused_lora(model)
    for got, want in zip(run(nn.Sequential(model, Doubling()), x), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


class Doubling(nn.Module):
    """Twice what it is given, in its place, as some models add a residual."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)
