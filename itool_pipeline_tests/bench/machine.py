"""The machine that a bench runs on, and the rate of its matrix products."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from itool_pipeline.engines.dtype_choice import MatrixWork, layer_products, matrix_rates

Dtype = Literal["float32", "bfloat16"]

_ROWS, _SECONDS = 512, 3.0
"""Rows of the products that are measured, wide enough that more do not go faster, and for how long."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What stands at the head of every table. `matrix_gflops`: those in the model's layers, in `dtype`."""

    processor: str
    cores: int
    torch: str
    dtype: Dtype
    matrix_gflops: float


def processor_name() -> str:
    """As the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measured_machine(config: Any) -> Machine:
    """This machine, with the dtype in which the products in the layers of the model of this config are faster."""
    wide = MatrixWork(_ROWS, layer_products(config))
    dtypes: tuple[Dtype, ...] = ("float32", "bfloat16")
    rates = matrix_rates([getattr(torch, dtype) for dtype in dtypes], [wide], seconds=_SECONDS)
    found = {dtype: rates[getattr(torch, dtype), wide] for dtype in dtypes}
    best = max(dtypes, key=found.__getitem__)
    return Machine(processor_name(), usable_cores(), torch.__version__, best, found[best] / 1e9)
