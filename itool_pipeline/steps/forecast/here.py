"""The device that an experiment is foreseen on: one of the table, or this machine's own, whose rate is measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

from itool_pipeline.config import Experiment
from itool_pipeline.files.locks import Say
from itool_pipeline.steps.forecast.devices import NAMED, Device, UnknownDevice, named_device, processor
from itool_pipeline.steps.forecast.model_shape import ModelShape

CPU = "cpu"


def device_for(
    e: Experiment, asked: str | None, shape: ModelShape, folder: Path | None, machines: Path, say: Say
) -> tuple[Device, str]:
    """(the device, the dtype that it computes in).

    asked     a name of the table, or `cpu`; None: what the experiment would take on this machine
    folder    of the model, where it is here: what was measured of a machine is kept by the model's own config
    machines  where that is

    Raises UnknownDevice for a name, and for a GPU of this machine, that the table does not have, and for fp32 on a GPU.
    """
    if asked not in (None, CPU):
        return _in_bf16(e, named_device(asked))
    if asked is None:
        from itool_pipeline.engines.dtype_finding import device_text
        from itool_pipeline.engines.model import resolve_device

        device = resolve_device(e.compute)
        if device.type == "cuda":
            return _in_bf16(e, _gpu_of_this_machine(device_text(device)))
    return _processor(e, shape, folder, machines, say)


def _in_bf16(e: Experiment, device: Device) -> tuple[Device, str]:
    if e.compute.dtype == "float32":
        raise UnknownDevice(
            f"of {device.name} only the rate in bf16 is known, and compute.dtype is float32: "
            "add --set compute.dtype=bfloat16 to see what that would take"
        )
    return device, "bfloat16"


def _gpu_of_this_machine(text: str) -> Device:
    for device in NAMED.values():
        if device.named in text:
            return device
    raise UnknownDevice(f"the rate of {text} is not known; name what is most like it: --device {', '.join(NAMED)}")


def _processor(e: Experiment, shape: ModelShape, folder: Path | None, machines: Path, say: Say) -> tuple[Device, str]:
    from itool_pipeline.engines.dtype_finding import processor_text, rates_here
    from itool_pipeline.engines.model_config import read_model_config

    config = read_model_config(folder) if folder is not None else SimpleNamespace(**asdict(shape))
    faster, rates, kept = rates_here(config, machines, say)
    dtype = faster if e.compute.dtype == "auto" else e.compute.dtype
    named, (wide, _) = processor_text(), rates[dtype]
    when = f"the better of what {machines} keeps and of now" if kept else "measured just now"
    about = f"{wide / 1e9:.0f} GFLOP/s in {dtype}, {when}; too low if other work ran beside"
    return processor(wide, named, about), dtype
