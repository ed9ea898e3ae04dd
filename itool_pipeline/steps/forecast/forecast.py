"""What an experiment would do if it were run now: step by step, reused or made, with tokens, seconds and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from itool_pipeline.config import Experiment
from itool_pipeline.files.locks import Say
from itool_pipeline.steps.asset_graph import asked_benchmarks, step_kind
from itool_pipeline.steps.forecast.devices import KINDS, Device
from itool_pipeline.steps.forecast.finished import Experience, experiences, found_by
from itool_pipeline.steps.forecast.here import device_for
from itool_pipeline.steps.forecast.material import Basis, Find, Material, material_of
from itool_pipeline.steps.forecast.memory import Memory, answering_memory, training_memory
from itool_pipeline.steps.forecast.model_shape import ModelShape, model_folder, shape_of
from itool_pipeline.steps.forecast.work import StepWork, expected_nodes, step_work, tree_limit
from itool_pipeline.steps.plan import plan
from itool_pipeline.store.artifacts import ArtifactStore
from itool_pipeline.store.paths import StoragePaths

OTHER_SECONDS: Mapping[str, float] = {
    "base_model": 27.0,
    "examples": 3.0,
    "splits": 0.1,
    "cases": 4.0,
    "pairs": 0.1,
    "champion": 0.1,
    "report": 2.0,
}
"""Of steps that compute nothing with the model, as measured in the demo; what is downloaded comes on top."""
CONSTANTS = "constants"


@dataclass(frozen=True, slots=True)
class StepForecast:
    """One step. `work`, `seconds` and `memory` are of what is to be made; a reused step has none.

    rests_on  where the seconds are from, in words: the constants, or so many finished steps
    """

    asset: str
    reused: bool
    work: StepWork
    seconds: float
    memory: Memory | None
    rests_on: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """A whole experiment on one device.

    basis              where the amounts of data are from
    nodes, most_nodes  of a tree: how many are expected, and how many there may be
    """

    experiment: str
    steps: tuple[StepForecast, ...]
    device: Device
    dtype: str
    basis: Basis
    nodes: float
    most_nodes: int

    @property
    def seconds(self) -> float:
        """Of all that is to be made."""
        return sum(step.seconds for step in self.steps)

    @property
    def largest(self) -> StepForecast | None:
        """The step that takes most memory; None when none computes with the model."""
        return max((s for s in self.steps if s.memory), key=lambda s: s.memory.total if s.memory else 0.0, default=None)


def forecast(e: Experiment, paths: StoragePaths, asked: str | None, say: Say) -> Forecast:
    """Look at what is there, and foresee the rest on the device `asked`. Nothing is made, downloaded or written.

    Raises UnknownDevice for a device, and ModelError for a model, whose size is not known.
    """
    store, planned = ArtifactStore(paths.artifacts, say), plan(e)
    find = found_by(store, planned)
    folder = model_folder(e, find("base_model"))
    shape = shape_of(e, folder)
    device, dtype = device_for(e, asked, shape, folder, paths.machines, say)
    known = experiences(e, shape, device, dtype, store)
    material = material_of(e, find, [benchmark.name for benchmark in asked_benchmarks(e)])
    foreseen = _Foreseen(e, shape, material, find, device, dtype, known)
    steps = tuple(foreseen.step(asset) for asset in planned)
    return Forecast(e.name, steps, device, dtype, material.basis, expected_nodes(e.search), tree_limit(e.search))


@dataclass(frozen=True, slots=True)
class _Foreseen:
    """What every step's forecast is made from."""

    e: Experiment
    shape: ModelShape
    material: Material
    find: Find
    device: Device
    dtype: str
    known: Mapping[str, Experience]

    def step(self, asset: str) -> StepForecast:
        if self.find(asset) is not None:
            return StepForecast(asset, True, StepWork(), 0.0, None, "")
        size = self.shape.size(self.e.warmup.lora)
        work = step_work(self.e, size, self.material, asset, self.find)
        if work is None:
            seconds, rests_on = _other_seconds(step_kind(asset), self.known)
            return StepForecast(asset, False, StepWork(), seconds, None, rests_on)
        if not work.flops:
            return StepForecast(asset, False, work, 0.0, None, "nothing to compute")
        seconds, rests_on = _model_seconds(step_kind(asset), work, self.device, self.known)
        memory = _memory(self.e, asset, self.shape, work, self.dtype)
        return StepForecast(asset, False, work, seconds, memory, rests_on)


def _other_seconds(kind: str, known: Mapping[str, Experience]) -> tuple[float, str]:
    if kind in known:
        return known[kind].seconds, _finished(known[kind])
    return OTHER_SECONDS[kind], CONSTANTS


def _model_seconds(kind: str, work: StepWork, device: Device, known: Mapping[str, Experience]) -> tuple[float, str]:
    assert kind in KINDS, f"{kind} computes nothing with the model"
    expected = device.seconds(kind, work.flops)
    if kind in known:
        return expected * known[kind].times, _finished(known[kind])
    return expected, CONSTANTS


def _finished(known: Experience) -> str:
    return f"{known.steps} finished step{'s' if known.steps > 1 else ''}"


def _memory(e: Experiment, asset: str, shape: ModelShape, work: StepWork, dtype: str) -> Memory:
    if not work.trains:
        return answering_memory(e, shape, work, dtype)
    preference = e.preference if step_kind(asset) == "policy" else None
    optimizer = preference.optimizer if preference else e.warmup.optimizer
    in_4_bits = preference is not None and preference.quantization == "nf4"
    return training_memory(e, shape, work, dtype, optimizer, in_4_bits=in_4_bits)
