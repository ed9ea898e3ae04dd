"""What was measured of a machine's dtypes, kept in a file, so that all processes and later runs choose alike."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from itool_pipeline.config import ComputeConfig
from itool_pipeline.engines.dtype_choice import (
    DTYPES,
    NARROW,
    WIDE,
    DtypeName,
    MatrixWork,
    faster_dtype,
    matrix_rates,
    model_work,
)
from itool_pipeline.engines.model_config import read_model_config
from itool_pipeline.files.durable import write_json
from itool_pipeline.files.json_text import to_json
from itool_pipeline.files.locks import Say, file_lock

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rates = tuple[Rate, Rate]
"""FLOP/s in the wide and in the narrow products."""
Measure = Callable[[tuple[MatrixWork, MatrixWork]], Mapping[DtypeName, Rates]]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MachineKey(_Record):
    """What a finding holds for: the processor, the threads, torch, and the model's products (inputs, outputs, weights).

    Processors of several generations share a name on virtual machines; their instructions tell them apart.
    """

    processor: str
    instructions: str
    threads: int
    torch: str
    products: list[list[int]]

    @property
    def file(self) -> str:
        return f"dtype_{hashlib.sha256(to_json(self).encode()).hexdigest()[:16]}.json"


class DtypeFinding(_Record):
    """What one machine was measured to do at one model's shapes."""

    machine: MachineKey
    float32: Rates
    bfloat16: Rates

    @property
    def rates(self) -> Mapping[DtypeName, Rates]:
        return {"float32": self.float32, "bfloat16": self.bfloat16}


def device_text(device: torch.device) -> str:
    """The GPU's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return processor_text()


def processor_text() -> str:
    """The processor's name with the number of threads."""
    return _threads_of(_processor(), torch.get_num_threads())


def resolve_dtype(
    compute: ComputeConfig, device: torch.device, base: Path, *, findings: Path | None, say: Say
) -> DtypeName:
    """The dtype that `compute` names. For `auto` on a GPU bf16 where it has it and fp32 elsewhere, else as measured."""
    if compute.dtype != "auto":
        return compute.dtype
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return measured_dtype(base, findings, say)


def measure_rates(works: tuple[MatrixWork, MatrixWork]) -> Mapping[DtypeName, Rates]:
    """The rates of both dtypes on this processor now."""
    rates, (wide, narrow) = matrix_rates(list(DTYPES.values()), works), works
    return {name: (rates[dtype, wide], rates[dtype, narrow]) for name, dtype in DTYPES.items()}


def measured_dtype(base: Path, findings: Path | None, say: Say, *, measure: Measure = measure_rates) -> DtypeName:
    """The dtype in which this processor computes the model in the folder `base` fastest.

    findings  folder in which the measurement is kept; one that is there is taken. Of several processes one measures,
              the others wait for it. None: measured anew, and not kept
    say       hears what was measured

    Raises ModelError or FetchError when the model's config cannot be read.
    """
    works = model_work(read_model_config(base))
    machine = _machine(works)
    if findings is None:
        return _measured(machine, works, say, measure)
    path = findings / machine.file
    with file_lock(path.with_suffix(".lock"), "the measurement of this machine", say):
        found = _kept(path, machine, say)
        if found is not None:
            return faster_dtype(found.rates, works)
        return _measured(machine, works, say, measure, keep=path)


def rates_here(
    config: Any, findings: Path, say: Say, *, measure: Measure = measure_rates
) -> tuple[DtypeName, Mapping[DtypeName, Rates], bool]:
    """Of this processor, in a model of this config: the dtype it computes in, FLOP/s in each, whether one was kept.

    The dtype is the one that `findings` kept, as that is taken. The rates are measured now, which takes half a second,
    and where what was kept is faster, now there is other work beside: that counts. Nothing is written.
    """
    works = model_work(config)
    machine = _machine(works)
    kept, now = _kept(findings / machine.file, machine, say), measure(works)
    if kept is None:
        return faster_dtype(now, works), now, False
    best = {name: (max(wide, now[name][0]), max(narrow, now[name][1])) for name, (wide, narrow) in kept.rates.items()}
    return faster_dtype(kept.rates, works), best, True


def _machine(works: tuple[MatrixWork, MatrixWork]) -> MachineKey:
    capabilities: dict[str, Any] = torch.cpu.get_capabilities()
    products = dict.fromkeys(product for work in works for product in work.products)
    return MachineKey(
        processor=_processor(),
        instructions=" ".join(sorted(name for name, has in capabilities.items() if has is True)),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        products=[[p.inputs, p.outputs, p.weights] for p in products],
    )


def _processor() -> str:
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine())


def _threads_of(processor: str, threads: int) -> str:
    return f"{processor}, {threads} thread{'s' if threads > 1 else ''}"


def _kept(path: Path, machine: MachineKey, say: Say) -> DtypeFinding | None:
    """The finding in the file if it is whole and of this machine."""
    try:
        found = DtypeFinding.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        say(f"{path} is damaged: measuring anew")
        return None
    return found if found.machine == machine else None


def _measured(
    machine: MachineKey,
    works: tuple[MatrixWork, MatrixWork],
    say: Say,
    measure: Measure,
    *,
    keep: Path | None = None,
) -> DtypeName:
    rates = measure(works)
    if keep is not None:
        found = DtypeFinding(machine=machine, float32=rates["float32"], bfloat16=rates["bfloat16"])
        write_json(keep, found)
    choice = faster_dtype(rates, works)
    told = ", ".join(f"{name} {wide / 1e9:.3g} and {narrow / 1e9:.3g}" for name, (wide, narrow) in rates.items())
    say(
        f"{_threads_of(machine.processor, machine.threads)}: GFLOP/s in the model's products of {WIDE} and of {NARROW} "
        f"rows are {told}; computing in {choice}"
    )
    return choice
