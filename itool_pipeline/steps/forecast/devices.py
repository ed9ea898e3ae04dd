"""What the devices do in a second, and which share of it each kind of work reaches: every constant, in one place.

A share is FLOP that are needed (see `flops`), by the seconds that a step takes after its start and by the device's
rate. What a step spends in Python, on memory and on waiting is in it, so it is below one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from itool_pipeline.errors import ActionableError

Kind = Literal["warmup", "policy", "replay_buffer", "trees", "scores"]
"""Kinds of steps that compute with the model, as `steps.asset_graph.step_kind` names them."""

KINDS: tuple[Kind, ...] = ("warmup", "policy", "replay_buffer", "trees", "scores")


@dataclass(frozen=True, slots=True)
class Share:
    """Of the device's rate; `source` says in words where it is from, beginning with `measured` or `assumed`."""

    share: float
    source: str


@dataclass(frozen=True, slots=True)
class Device:
    """A device that work is foreseen on.

    rate    FLOP/s of its matrix products, which the shares are of
    memory  GiB; None where it is the machine's own and is not looked at
    start   seconds that each step with the model spends before it computes: loading it, above all
    named   how artifacts that were made on it say so in their metadata's `device`
    about   in words, for people
    """

    name: str
    rate: float
    memory: float | None
    start: float
    shares: Mapping[Kind, Share]
    named: str
    about: str

    def seconds(self, kind: Kind, flops: float) -> float:
        """Expected of a step of this kind by the constants alone."""
        return self.start + flops / (self.rate * self.shares[kind].share)


class UnknownDevice(ActionableError):
    """A device is asked for that the table does not have."""


# Measured on two cores of an AMD EPYC with bf16 instructions (373 GFLOP/s in bf16, by compute.dtype auto), in steps of
# the demo, and of a run like it with 167 cases, beside which nothing else ran: FLOP, over the seconds less `start`.
_HERE = "measured on two cores with the demo's model"
CPU_SHARES: Mapping[Kind, Share] = {
    "warmup": Share(0.59, _HERE),
    "policy": Share(0.65, _HERE),
    "replay_buffer": Share(0.60, _HERE),
    "trees": Share(0.37, _HERE),
    "scores": Share(0.37, _HERE),
}

# Measured on one H100 with the shape of Llama-3.1-8B: docs/results.md, "On a GPU".
_H100_SEARCH = "measured on an H100 with the shape of Llama-3.1-8B"
_H100_TRAINING = "measured on an H100 with the shape of Llama-3.1-8B, NF4, packed rows"
_LIKE_TRAINING = "assumed to be as in preference training on an H100"
_LIKE_SEARCH = "assumed to be as in the search on an H100"
H100_SHARES: Mapping[Kind, Share] = {
    "warmup": Share(0.34, _LIKE_TRAINING),
    "policy": Share(0.34, _H100_TRAINING),
    "replay_buffer": Share(0.34, _LIKE_TRAINING),
    "trees": Share(0.15, _H100_SEARCH),
    "scores": Share(0.15, _LIKE_SEARCH),
}
OTHER_GPU_SHARES: Mapping[Kind, Share] = {
    kind: Share(found.share, "assumed to be as on an H100") for kind, found in H100_SHARES.items()
}

CPU_START, GPU_START = 3.0, 20.0
"""The first was measured with the model of 135M parameters; the second is assumed, for a model of 8B."""


def _gpu(name: str, rate: float, memory: float, named: str, source: str) -> Device:
    return Device(name, rate, memory, GPU_START, OTHER_GPU_SHARES, named, source)


NAMED: Mapping[str, Device] = {
    device.name: device
    for device in (
        Device("h100", 790e12, 80, GPU_START, H100_SHARES, "H100", "bf16 products measured at 780 to 813 TFLOP/s"),
        _gpu("h200", 790e12, 141, "H200", "bf16 assumed to be as fast as on an H100"),
        _gpu("a100", 312e12, 80, "A100", "bf16 by the vendor's figure, 312 TFLOP/s"),
        _gpu("l40s", 362e12, 48, "L40S", "bf16 by the vendor's figure, 362 TFLOP/s"),
        _gpu("rtx4090", 165e12, 24, "RTX 4090", "bf16 by the vendor's figure, 165 TFLOP/s"),
        _gpu("l4", 121e12, 24, "L4", "bf16 by the vendor's figure, 121 TFLOP/s"),
    )
}
"""Name → GPU: FLOP/s in dense bf16 products, GiB of memory."""


def named_device(name: str) -> Device:
    """The GPU of that name. Raises UnknownDevice, with the names there are, for any other."""
    if name not in NAMED:
        raise UnknownDevice(f"--device {name}: no such device; there are: cpu (this processor), {', '.join(NAMED)}")
    return NAMED[name]


def processor(rate: float, named: str, about: str) -> Device:
    """The processor of this machine, with the rate that was measured of it."""
    return Device("cpu", rate, None, CPU_START, CPU_SHARES, named, about)
