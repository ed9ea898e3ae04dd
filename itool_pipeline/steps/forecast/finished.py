"""What finished artifacts say of the constants: how much longer, or shorter, steps of their kind took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from itool_pipeline.config import Experiment
from itool_pipeline.experiment_files import ConfigError, experiment_names, load_experiment
from itool_pipeline.steps.asset_graph import asked_benchmarks, cases_asset, step_kind
from itool_pipeline.steps.forecast.devices import KINDS, Device
from itool_pipeline.steps.forecast.material import Find, material_of
from itool_pipeline.steps.forecast.model_shape import ModelShape
from itool_pipeline.steps.forecast.work import step_work
from itool_pipeline.steps.plan import Planned, plan
from itool_pipeline.store.artifacts import ArtifactStore
from itool_pipeline.store.manifest import Artifact


@dataclass(frozen=True, slots=True)
class Experience:
    """Of one kind of step: so many finished ones, and the median of their seconds.

    For kinds that compute with the model `times` is the median of seconds taken by seconds that the constants expect.
    """

    steps: int
    seconds: float
    times: float


def found_by(store: ArtifactStore, planned: Mapping[str, Planned]) -> Find:
    """The finished artifacts of a plan, of which the files' sizes alone are looked at."""
    return lambda asset: store.find(asset, planned[asset].fingerprint, deep=False) if asset in planned else None


def experiences(
    e: Experiment, shape: ModelShape, device: Device, dtype: str, store: ArtifactStore
) -> dict[str, Experience]:
    """Kind of step → what is known of it from artifacts of this and of all other experiments in the store.

    Of steps with the model only those count that were made with the same model, on this device and in this dtype.
    """
    taken: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    base = plan(e)["base_model"].fingerprint
    for other in _experiments(e):
        planned = plan(other)
        find = found_by(store, planned)
        if planned["base_model"].fingerprint != base or not (find("examples") and find("splits")):
            continue
        for made, times in _ratios(other, shape, device, dtype, planned, find):
            taken[step_kind(made.asset)][made.fingerprint] = (made.manifest.seconds, times)
    return {kind: _summed(list(found.values())) for kind, found in taken.items()}


def _summed(found: list[tuple[float, float]]) -> Experience:
    seconds, times = zip(*found, strict=True)
    return Experience(len(found), median(seconds), median(times))


def _experiments(e: Experiment) -> Iterator[Experiment]:
    yield e
    for name in experiment_names():
        if name == e.name:
            continue
        try:
            yield load_experiment(name)
        except ConfigError:
            continue  # it is not what was asked for


def _ratios(
    e: Experiment, shape: ModelShape, device: Device, dtype: str, planned: Mapping[str, Planned], find: Find
) -> Iterator[tuple[Artifact, float]]:
    """(finished artifact, its seconds by those that the constants expect) of what counts of one experiment."""
    benchmarks = [b.name for b in asked_benchmarks(e) if find(cases_asset(b.name))]
    material, size = material_of(e, find, benchmarks), shape.size(e.warmup.lora)
    for asset in planned:
        made, kind = find(asset), step_kind(asset)
        if made is None or (kind == "scores" and asset.partition("/")[0] not in benchmarks):
            continue
        if kind not in KINDS:
            yield made, 1.0
            continue
        metadata = made.manifest.metadata
        if device.named not in str(metadata.get("device", "")) or metadata.get("dtype") != dtype:
            continue
        work = step_work(e, size, material, asset, find)
        if work is not None and work.flops:
            yield made, made.manifest.seconds / device.seconds(kind, work.flops)
