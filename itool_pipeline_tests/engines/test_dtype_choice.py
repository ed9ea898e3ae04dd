"""The dtype of a machine is found by measuring; here the measured seconds are given."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from itool_pipeline.engines import dtype_choice
from itool_pipeline.engines.dtype_choice import (
    DtypeName,
    MatrixProduct,
    MatrixWork,
    faster_dtype,
    layer_products,
    matrix_rate,
    matrix_rates,
    model_work,
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


@pytest.mark.parametrize(
    ("fp32", "bf16", "faster"),
    [
        ((170e9, 97e9), (760e9, 260e9), "bfloat16"),  # AVX512-BF16 that is fast
        ((312e9, 200e9), (160e9, 127e9), "float32"),  # AVX512-BF16 that is slow
        ((70e9, 36e9), (9e9, 8e9), "float32"),  # no such instructions
        ((200e9, 50e9), (100e9, 100e9), "bfloat16"),  # 1/200 + 1/50 is more than 1/100 + 1/100
        ((200e9, 80e9), (100e9, 100e9), "float32"),  # 1/200 + 1/80 is less
        ((100e9, 50e9), (100e9, 50e9), "float32"),
    ],
)
def test_the_faster_is_the_one_with_less_time_for_a_column_of_each(
    fp32: tuple[float, float], bf16: tuple[float, float], faster: str
) -> None:
    works = (MatrixWork(512, (LARGE,)), MatrixWork(16, (LARGE,)))
    assert faster_dtype({"float32": fp32, "bfloat16": bf16}, works) == faster
    assert faster_dtype({"bfloat16": bf16, "float32": fp32}, works) == faster


def test_a_work_with_more_weights_weighs_more() -> None:
    """1/45 + 1/100 s a FLOP are more than 1/90 + 1/60; with three times the weights narrow, 1/45 + 3/100 are less."""
    rates: dict[DtypeName, tuple[float, float]] = {"float32": (45.0, 100.0), "bfloat16": (90.0, 60.0)}
    wide, narrow, with_head = (
        MatrixWork(rows, products)
        for rows, products in ((512, (LARGE,)), (16, (LARGE,)), (16, (LARGE, MatrixProduct(8, 2, 140))))
    )
    assert faster_dtype(rates, (wide, narrow)) == "bfloat16"
    assert faster_dtype(rates, (wide, with_head)) == "float32"


def test_the_work_of_a_model_is_wide_in_its_layers_and_narrow_up_to_the_logits() -> None:
    wide, narrow = model_work(CONFIG, threads=1)
    assert (wide.rows, narrow.rows) == (512, 16)
    assert wide.products == layer_products(CONFIG, threads=1)
    assert narrow.products == (*wide.products, vocabulary_product(CONFIG, threads=1))
    assert narrow.column_flops - wide.column_flops == 2 * 32 * 100


def test_sizes_that_differ_from_layer_to_layer_are_taken_as_the_usual_ones() -> None:
    class Uneven:
        hidden_size, num_hidden_layers, num_attention_heads, vocab_size = 8, 2, 2, 10
        intermediate_size = (16, 32)

        @property
        def head_dim(self) -> int:
            raise RuntimeError("ambiguous")

    assert {(p.inputs, p.outputs) for p in layer_products(Uneven(), threads=1)} == {(8, 8), (8, 32), (32, 8)}
