"""What runs by itself when an experiment's data change: its data, and when the checks of those pass, all the rest.

The sensor `automation` sees to it. Like the sensor `source_files`, which tells it of changes, it is off until someone
turns it on. What was never made is left alone: only a change of data begins anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg
from dagster import AutomationCondition as When
from dagster._core.storage.tags import AUTOMATION_CONDITION_TAG

from itool_pipeline.defs.assets import asset_key
from itool_pipeline.defs.sources import LOCAL_FILES
from itool_pipeline.steps.asset_graph import ALL, ON_REQUEST, cases_asset

_LAST = ("splits", *map(cases_asset, ALL))
DATA = ("examples", *_LAST)
"""What is made of data alone, and checked before anything is trained or scored; the last of it begins the rest."""
_DATA, _LAST_DATA = (dg.AssetSelection.assets(*map(asset_key, names)) for names in (DATA, _LAST))
_FILES = dg.AssetSelection.assets(LOCAL_FILES)

_CHANGED: Any = When.newly_updated() & When.data_version_changed()
# A run that a person started makes all that it was asked for itself.
_MADE_BY_ITSELF: Any = _CHANGED & When.any_new_update_has_run_tags(tag_keys={AUTOMATION_CONDITION_TAG})
_IN_THE_SAME_RUN: Any = When.any_deps_match(When.will_be_requested())

DATA_CHANGED = (
    (When.any_deps_match(_CHANGED).allow(_FILES) | _IN_THE_SAME_RUN).since_last_handled()
    & ~When.missing()
    & ~When.in_progress()
).with_label("the files have changed since it was made")

CHECKED_DATA_CHANGED = (
    (When.any_deps_match(_MADE_BY_ITSELF).allow(_LAST_DATA) | _IN_THE_SAME_RUN.ignore(_DATA)).since_last_handled()
    & When.all_deps_blocking_checks_passed().allow(_DATA)
    & ~When.any_deps_in_progress().allow(_DATA)
    & ~When.in_progress()
).with_label("the data have changed, and their checks pass")


def automated(assets: Iterable[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The same assets, each with what it runs on; not the base model, which does not come of data, nor what is made on
    request alone.
    """
    return [asset.map_asset_specs(_automated) for asset in assets]


def _automated(spec: dg.AssetSpec) -> dg.AssetSpec:
    name = spec.key.to_user_string()
    if name in ("base_model", *ON_REQUEST) or spec.partitions_def is None:
        return spec
    condition: Any = DATA_CHANGED if name in DATA else CHECKED_DATA_CHANGED
    return spec.replace_attributes(automation_condition=condition)


automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    description="When local data change: reads them again and, if their checks pass, searches, trains and scores.",
)
