"""What the UI tells of every asset beside its description: owners, tags, tables with their columns, code, freshness.

All of it follows from the asset's name, so a new asset needs nothing of its own here but its step's function.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.metadata.source_code import AnchorBasedFilePathMapping

from itool_pipeline.comparison import whole
from itool_pipeline.steps import champion, pairs, policy, prepare, replay_buffer, report, trees, warmup
from itool_pipeline.steps.asset_graph import step_kind
from itool_pipeline.steps.asset_tables import tables_of
from itool_pipeline.steps.cases import benchmark_cases
from itool_pipeline.steps.scoring import score_checkpoint
from itool_pipeline.store.table_types import Column, Table

GIT_URL, GIT_BRANCH = "ITOOL_GIT_URL", "ITOOL_GIT_BRANCH"
"""Variables: where the repository is, and its branch, `main` without it. Without the first, links lead to files."""

ROOT = Path(__file__).parents[2]

_CODE: Mapping[str, Callable[..., Any]] = {
    "base_model": prepare.base_model,
    "examples": prepare.examples,
    "splits": prepare.splits,
    "warmup": warmup.warmup,
    "replay_buffer": replay_buffer.replay_buffer,
    "trees": trees.search_shards,
    "pairs": pairs.pairs,
    "policy": policy.policy,
    "cases": benchmark_cases,
    "scores": score_checkpoint,
    "champion": champion.champion,
    "report": report.report,
    "comparison": whole.compare,
}
"""Kind of step → what makes its artifacts."""

_TEAMS: Mapping[str, tuple[str, ...]] = {
    "team:data": ("base_model", "examples", "splits", "cases"),
    "team:training": ("warmup", "policy"),
    "team:search": ("replay_buffer", "trees", "pairs"),
    "team:evaluation": ("scores", "champion", "report", "comparison"),
}
"""Whom to ask. A person's address may stand here too."""

_FRESH = dg.FreshnessPolicy.time_window(warn_window=timedelta(days=8), fail_window=timedelta(days=31))
"""Of the report: a day longer than the weekly schedule, and a month."""


def annotated(assets: Iterable[dg.AssetsDefinition]) -> list[Any]:
    """The same assets, with what is told of them."""
    with warnings.catch_warnings():
        # Links to code are a beta of Dagster's.
        warnings.simplefilter("ignore", dg.BetaWarning)
        linked = [asset.map_asset_specs(_told) for asset in assets]
        if not (url := os.environ.get(GIT_URL)):
            return linked
        mapping = AnchorBasedFilePathMapping(local_file_anchor=ROOT, file_anchor_path_in_repository="")
        branch = os.environ.get(GIT_BRANCH) or "main"
        return list(dg.link_code_references_to_git(linked, url, branch, mapping))


def _told(spec: dg.AssetSpec) -> dg.AssetSpec:
    asset = spec.key.to_user_string()
    kind = step_kind(asset)
    return spec.replace_attributes(
        owners=[team for team, kinds in _TEAMS.items() if kind in kinds],
        tags={**spec.tags, **dict(_tags(asset, kind))},
        metadata={**spec.metadata, **_tables(tables_of(asset)), **_link(kind)},
        freshness_policy=_FRESH if kind == "report" else spec.freshness_policy,
    )


def _tags(asset: str, kind: str) -> Iterator[tuple[str, str]]:
    """To select by: `tag:"itool/step"="pairs"`."""
    group, _, name = asset.partition("/")
    yield "itool/step", kind
    if kind == "scores":
        yield from (("itool/benchmark", group), ("itool/checkpoint", name))
    if kind == "cases":
        yield "itool/benchmark", asset.removesuffix("_cases")
    if group.startswith("iteration_"):
        yield "itool/iteration", group.removeprefix("iteration_")


def _tables(tables: tuple[Table, ...]) -> dict[str, Any]:
    """The columns of the asset's first table where Dagster looks for them, and of further ones under their names."""
    if not tables:
        return {}
    first, *others = tables
    named = {"dagster/column_schema": schema_of(first), "dagster/table_name": first.name}
    return named | {f"columns_of_{table.name}": schema_of(table) for table in others}


def schema_of(table: Table) -> dg.TableSchema:
    """The table as the database has it, in Dagster's words."""
    keys = dg.TableConstraints(other=[f"key: {', '.join(table.key)}"]) if table.key else None
    return dg.TableSchema([_column(table, column) for column in table.columns], keys)


def _column(table: Table, column: Column) -> dg.TableColumn:
    constraints = dg.TableColumnConstraints(nullable=not table.is_required(column), unique=table.key == (column.name,))
    return dg.TableColumn(column.name, column.type.value, column.description, constraints)


def _link(kind: str) -> dict[str, Any]:
    return {"dagster/code_references": _reference(kind)} if kind in _CODE else {}


@cache
def _reference(kind: str) -> dg.CodeReferencesMetadataValue:
    made = _CODE[kind]
    path, line = inspect.getfile(made), inspect.getsourcelines(made)[1]
    label = f"{made.__module__}.{made.__qualname__}"
    reference = dg.LocalFileCodeReference(file_path=path, line_number=line, label=label)
    return dg.CodeReferencesMetadataValue(code_references=[reference])
