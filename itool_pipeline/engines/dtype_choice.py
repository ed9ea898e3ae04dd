"""Which dtype a processor computes a model in fastest, found by measuring both.

A processor's list of instructions does not tell: of two that list AVX512-BF16, one multiplies four times as fast in
bf16 as in fp32, and the other half as fast.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor

DtypeName = Literal["bfloat16", "float32"]
DTYPES: Mapping[DtypeName, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WIDE, NARROW = 512, 16
"""Rows of the measured products: a prompt or a training pass has as many columns, a step of decoding as few."""

_CPU = torch.device("cpu")
_WEIGHTS_A_THREAD = 2**19
"""Weights of one measured product for each thread: the work in it that a thread has does not depend on their number."""
_WALK = 2**26
"""Multiply-adds in one timed walk. With few rows it needs so many weights that they come from memory, as a model's."""

_LONGEST = 0.02
"""Seconds after which a walk ends early: what is as slow as that needs no more to be known."""


@dataclass(frozen=True, slots=True)
class MatrixProduct:
    """A product with a matrix of `inputs` x `outputs` weights, which stands for `weights` of the model."""

    inputs: int
    outputs: int
    weights: int

    @property
    def size(self) -> int:
        return self.inputs * self.outputs


def layer_products(config: Any, threads: int | None = None) -> tuple[MatrixProduct, ...]:
    """The products in all layers of the model of this transformers config, each shape once.

    A matrix so large that measuring it would take long is cut down for the number of threads (torch's own where none
    is given): its rate is hardly another.
    """
    hidden, layers = _size(config, "hidden_size", 1024), _size(config, "num_hidden_layers", 1)
    heads = _size(config, "num_attention_heads", 1)
    head = _size(config, "head_dim", hidden // heads)
    kv = _size(config, "num_key_value_heads", heads)
    inner = _size(config, "intermediate_size", 4 * hidden)
    query, key, gate = (hidden, heads * head), (hidden, kv * head), (hidden, inner)
    shapes = Counter((query, query[::-1], key, key, gate, gate, gate[::-1]))
    return tuple(_cut(*shape, layers * count, threads) for shape, count in shapes.items())


def vocabulary_product(config: Any, threads: int | None = None) -> MatrixProduct:
    """The product that gives the logits, cut down like those of the layers."""
    hidden = _size(config, "hidden_size", 1024)
    return _cut(hidden, _size(config, "vocab_size", hidden), 1, threads)


def _size(config: Any, key: str, otherwise: int) -> int:
    """What the config states; `otherwise` where it states nothing, or another size for each layer."""
    try:
        stated = getattr(config, key, None)
    except RuntimeError:  # transformers' word for what is not one number
        stated = None
    return stated if isinstance(stated, int) and stated > 0 else otherwise


def _cut(inputs: int, outputs: int, count: int, threads: int | None) -> MatrixProduct:
    most = max(1, (threads or torch.get_num_threads()) * _WEIGHTS_A_THREAD // inputs)
    return MatrixProduct(inputs, min(outputs, most), inputs * outputs * count)


def model_work(config: Any, threads: int | None = None) -> tuple[MatrixWork, MatrixWork]:
    """What the search does with the model: wide products in its layers, and narrow ones that give logits too."""
    products = layer_products(config, threads)
    return MatrixWork(WIDE, products), MatrixWork(NARROW, (*products, vocabulary_product(config, threads)))


def faster_dtype(rates: Mapping[DtypeName, Sequence[float]], works: Sequence[MatrixWork]) -> DtypeName:
    """The dtype in which one column of each work takes less time in all, by its FLOP/s in each; if equal, fp32."""
    seconds = {
        name: sum(work.column_flops / rate for work, rate in zip(works, found, strict=True))
        for name, found in rates.items()
    }
    return min(DTYPES, key=lambda name: seconds[name])


@dataclass(frozen=True, slots=True)
class MatrixWork:
    """Products with `rows` rows each, as one forward pass of so many columns does them."""

    rows: int
    products: tuple[MatrixProduct, ...]

    @property
    def column_flops(self) -> int:
        """Of one column in the whole model: two for each weight."""
        return 2 * sum(product.weights for product in self.products)


def matrix_rate(
    dtype: torch.dtype,
    products: Sequence[MatrixProduct],
    rows: int = 512,
    *,
    device: torch.device = _CPU,
    seconds: float = 0.3,
) -> float:
    """FLOP/s of the device in these products, each counted by the weights that it stands for; at least one walk."""
    work = MatrixWork(rows, tuple(products))
    return matrix_rates([dtype], [work], device=device, seconds=seconds)[dtype, work]


def matrix_rates(
    dtypes: Sequence[torch.dtype], works: Sequence[MatrixWork], *, device: torch.device = _CPU, seconds: float = 0.3
) -> dict[tuple[torch.dtype, MatrixWork], float]:
    """FLOP/s in each dtype and work, from medians; measured in turns for about so many seconds, and at least once."""
    walks = {
        (dtype, work, product): _Walk(product, work.rows, dtype, device)
        for dtype in dtypes
        for work in works
        for product in work.products
    }
    taken: dict[tuple[torch.dtype, MatrixWork, MatrixProduct], list[float]] = {key: [] for key in walks}
    begin, turn = perf_counter(), 0.0
    while not turn or perf_counter() - begin + turn <= seconds:
        start = perf_counter()
        for key, walk in walks.items():
            taken[key].append(walk.seconds_a_flop())
        turn = perf_counter() - start
    return {
        (dtype, work): work.column_flops / sum(2 * p.weights * median(taken[dtype, work, p]) for p in work.products)
        for dtype in dtypes
        for work in works
    }


class _Walk:
    """One product done again and again with other weights, so that few rows cannot live on the processor's cache."""

    def __init__(self, product: MatrixProduct, rows: int, dtype: torch.dtype, device: torch.device) -> None:
        count = math.ceil(_WALK / (rows * product.size))
        # Not zeros, and nothing small: neither may be faster or slower than a model's numbers.
        self._weights = [self._filled(product.outputs, product.inputs, dtype, device) for _ in range(count)]
        self._columns = self._filled(rows, product.inputs, dtype, device)
        self._flops = 2 * rows * product.size

    @staticmethod
    def _filled(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full((rows, columns), 0.01, dtype=dtype, device=device)

    def seconds_a_flop(self) -> float:
        self._wait()
        done, start = 0, perf_counter()
        with torch.inference_mode():
            for weight in self._weights:
                torch.nn.functional.linear(self._columns, weight)
                done += 1
                if perf_counter() - start > _LONGEST:
                    break
        self._wait()
        return float((perf_counter() - start) / (self._flops * done))

    def _wait(self) -> None:
        if self._columns.device.type == "cuda":
            torch.cuda.synchronize(self._columns.device)
