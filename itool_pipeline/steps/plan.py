"""The fingerprint of every asset of an experiment before anything runs.

A fingerprint is made from the step's config section, its code version and its inputs' fingerprints, so it is known
from the config alone: steps find their inputs by it, and experiments that agree up to a step share the artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from itool_pipeline.config import Experiment
from itool_pipeline.data.own_adapter import adapter_content
from itool_pipeline.steps.asset_graph import (
    BY_NAME,
    ON_REQUEST,
    Shape,
    assets_of,
    inputs_of,
    passes_on,
    reads_trees,
    step_kind,
    takes_adapter,
)
from itool_pipeline.steps.config_sections import config_section, data_content
from itool_pipeline.store.manifest import Origin

CODE_VERSIONS = {
    "base_model": "1",
    "examples": "10",
    "splits": "7",
    "warmup": "4",
    "replay_buffer": "5",
    "trees": "10",
    "pairs": "5",
    "policy": "7",
    "cases": "4",
    "scores": "4",
    "champion": "1",
    "report": "10",
    "exported_model": "4",
}
"""Raised by hand when a change of code changes what a step produces; the artifacts made before are then not reused.

`cases` and `scores` are what benchmarks share; each has versions of its own beside them.
"""


@dataclass(frozen=True, slots=True)
class Planned:
    """One asset of an experiment: its inputs (asset → fingerprint), code version and config, and its fingerprint."""

    asset: str
    origin: Origin
    fingerprint: str


def code_version(asset: str) -> str:
    """The version of the code that makes the asset; of a benchmark's, that of its own code is a part."""
    kind, shared = step_kind(asset), CODE_VERSIONS[step_kind(asset)]
    if kind == "scores":
        return f"{shared}.{BY_NAME[asset.partition('/')[0]].scores_version}"
    if kind == "cases":
        return f"{shared}.{BY_NAME[asset.removesuffix('_cases')].cases_version}"
    return shared


def plan(experiment: Experiment) -> dict[str, Planned]:
    """Every asset of the experiment with its fingerprint, inputs first."""
    planned: dict[str, Planned] = {}
    shape, content = Shape.of(experiment), data_content(experiment)
    for asset in assets_of(shape):
        inputs = {name: planned[name].fingerprint for name in inputs_of(asset, shape)}
        section = config_section(experiment, asset, content)
        if passes_on(experiment, asset):  # neither data nor settings matter to it
            del inputs["examples"], inputs["splits"]
            section = {"passes_on": True}
            if takes_adapter(experiment, asset):
                section = {"adapter": adapter_content(experiment.warmup.adapter or "")}
        if reads_trees(experiment, asset):  # which come before the pairs, which the graph has it wait for
            trees = asset.replace("/policy", "/trees")
            inputs[trees] = planned[trees].fingerprint
            section = {**section, "search": experiment.search}
        if experiment.prompt.thinking and step_kind(asset) == "policy":  # which trains behind what was thought there
            buffer = asset.replace("/policy", "/replay_buffer")
            inputs[buffer] = planned[buffer].fingerprint
        if asset.endswith("/pairs") and experiment.prompt.calls == "auto":  # the template says how calls are written
            inputs["base_model"] = planned["base_model"].fingerprint
        origin = Origin(inputs=inputs, code_version=code_version(asset), config=section)
        planned[asset] = Planned(asset, origin, origin.fingerprint(asset))
    return planned


def plan_on_request(experiment: Experiment, planned: Mapping[str, Planned]) -> dict[str, Planned]:
    """Of an experiment that is planned, the assets that are made on request alone."""
    made = {}
    for asset in ON_REQUEST if Shape.of(experiment).trained else ():
        inputs = {name: planned[name].fingerprint for name in inputs_of(asset, Shape.of(experiment))}
        # All of the config, as the model card shows it.
        origin = Origin(inputs=inputs, code_version=code_version(asset), config=experiment.model_dump(mode="json"))
        made[asset] = Planned(asset, origin, origin.fingerprint(asset))
    return made
