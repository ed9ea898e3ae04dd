"""The dtype of a machine is found by measuring; here the measured seconds are given."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from itool_pipeline.engines import dtype_choice
from itool_pipeline.engines.dtype_choice import (
    MatrixProduct,
    MatrixWork,
    layer_products,
    matrix_rate,
    matrix_rates,
    vocabulary_product,
)

FP32, BF16 = torch.float32, torch.bfloat16
SMALL, LARGE = MatrixProduct(4, 2, 30), MatrixProduct(8, 4, 70)


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.dtype, int, MatrixProduct]]:
    """Walks that take given seconds a FLOP: fp32 1, 5, 2 in its first three turns, bf16 ten times as long."""
    done: list[tuple[torch.dtype, int, MatrixProduct]] = []

    class Walk:
        def __init__(self, product: MatrixProduct, rows: int, dtype: torch.dtype, device: torch.device) -> None:
            self.key, self.times = (dtype, rows, product), iter((1.0, 5.0, 2.0))

        def seconds_a_flop(self) -> float:
            done.append(self.key)
            dtype, _, product = self.key
            return next(self.times) * (10 if dtype == BF16 else 1) * (1 if product == SMALL else 2)

    monkeypatch.setattr(dtype_choice, "_Walk", Walk)
    return done


def clock(monkeypatch: pytest.MonkeyPatch, readings: Sequence[float]) -> None:
    left = iter(readings)
    monkeypatch.setattr(dtype_choice, "perf_counter", lambda: next(left))


def test_rates_are_of_the_weights_that_the_products_stand_for(
    monkeypatch: pytest.MonkeyPatch, walked: list[tuple[torch.dtype, int, MatrixProduct]]
) -> None:
    """Three turns of a second each fit into three and a half; medians 2 and 4 seconds a FLOP, in bf16 20 and 40."""
    clock(monkeypatch, [0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0])
    work = MatrixWork(16, (SMALL, LARGE))
    rates = matrix_rates([FP32, BF16], [work], seconds=3.5)
    assert rates == {
        (FP32, work): pytest.approx(200 / (60 * 2 + 140 * 4)),
        (BF16, work): pytest.approx(200 / (60 * 20 + 140 * 40)),
    }
    turn = [(FP32, 16, SMALL), (FP32, 16, LARGE), (BF16, 16, SMALL), (BF16, 16, LARGE)]
    assert walked == turn * 3


def test_each_is_measured_once_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, walked: list[tuple[torch.dtype, int, MatrixProduct]]
) -> None:
    clock(monkeypatch, [0.0, 0.0, 50.0, 50.0])
    assert matrix_rate(BF16, [SMALL], 512, seconds=0.3) == pytest.approx(1 / 10)
    assert walked == [(BF16, 512, SMALL)]


def test_a_machine_has_a_rate() -> None:
    assert matrix_rate(FP32, [SMALL], 2**20, seconds=0.0) > 0


CONFIG = LlamaConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=12,
    vocab_size=100,
)


def test_the_products_stand_for_all_weights_of_the_model() -> None:
    linear = [
        (name, module)
        for name, module in LlamaForCausalLM(CONFIG).named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    layers = {(m.in_features, m.out_features) for name, m in linear if name != "lm_head"}
    products = layer_products(CONFIG, threads=1)
    assert {(p.inputs, p.outputs) for p in products} == layers
    assert len(products) == len(layers)
    vocabulary = vocabulary_product(CONFIG, threads=1)
    assert (vocabulary.inputs, vocabulary.outputs) == (32, 100)
    assert sum(p.weights for p in (*products, vocabulary)) == sum(m.weight.numel() for _, m in linear)


def test_a_large_matrix_is_cut_down_and_stands_for_the_whole() -> None:
    large = LlamaConfig(vocab_size=2**20, hidden_size=4096)
    assert vocabulary_product(large, threads=2) == MatrixProduct(4096, 256, 2**32)
    assert vocabulary_product(large, threads=64) == MatrixProduct(4096, 8192, 2**32)


def test_a_model_that_states_little_has_the_usual_shapes() -> None:
    class Stated:
        hidden_size, num_hidden_layers, num_attention_heads, vocab_size = 8, 2, 2, 10

    assert layer_products(Stated, threads=1) == (
        MatrixProduct(8, 8, 2 * 4 * 64),
        MatrixProduct(8, 32, 2 * 2 * 256),
        MatrixProduct(32, 8, 2 * 256),
    )
