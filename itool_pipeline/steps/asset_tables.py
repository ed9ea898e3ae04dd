"""Which rows of which tables an artifact loads into the database: found by the name of its asset.

So whoever loads them needs the artifact alone, in whatever process it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.artifact_files import (
    AGGREGATES_FILE,
    ANSWERS_FILE,
    BUFFER_FILE,
    CASES_FILE,
    CHECKPOINT_FILE,
    COMPARISONS_FILE,
    PAIRS_FILE,
    POOL_FILE,
    QUARANTINE_FILE,
    SCORES_FILE,
    SPLITS_FILE,
    THOUGHTS_FILE,
    TRAIN_FILE,
    nodes_file,
    shard_files,
    trees_file,
)
from itool_pipeline.steps.asset_graph import ALL, step_kind
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.rows import Rows, count_rows
from itool_pipeline.store.table_types import Table
from itool_pipeline.store.tables import (
    AGGREGATE_SCORES,
    BUFFER,
    CASES,
    CHECKPOINTS,
    COMPARISONS,
    EXAMPLES,
    NODES,
    PAIRS,
    QUARANTINE,
    RIGHT_ANSWERS,
    SCORES,
    SPLITS,
    TABLES,
    THOUGHTS,
    TREES,
)

TableRows = Mapping[str, Rows]


def rows_of(artifact: Artifact) -> TableRows:
    """Table → the artifact's rows; nothing for an asset that has none. Raises KeyError for an unknown asset."""
    return BY_KIND[step_kind(artifact.asset)](artifact)


def tables_of(asset: str) -> tuple[Table, ...]:
    """The tables that have rows of the asset's artifacts: first those that no other kind of step has rows of."""
    own = (table for table in TABLES.values() if any(_is_maker(maker, asset) for maker in table.made_by))
    return tuple(sorted(own, key=lambda table: len(table.made_by)))


def _is_maker(maker: str, asset: str) -> bool:
    """Whether the asset is one of those that a table names: `iteration_k/trees`, `warmup/*`, `<benchmark>_cases`."""
    group, _, name = maker.partition("/")
    groups = [group.replace("<benchmark>", one) for one in ALL]
    own_group, _, own_name = asset.partition("/")
    same_group = own_group in groups or (group == "iteration_k" and own_group.startswith("iteration_"))
    return same_group and (name == own_name or (name == "*" and own_name != ""))


def row_counts(artifact: Artifact) -> dict[str, int]:
    """Table → how many rows of it the artifact loads, in the order of `tables_of`."""
    found = rows_of(artifact)
    return {table.name: count_rows(found[table.name]) for table in tables_of(artifact.asset) if table.name in found}


def _tree_rows(artifact: Artifact) -> dict[str, Rows]:
    return {TREES.name: shard_files(artifact, trees_file), NODES.name: shard_files(artifact, nodes_file)}


def _checkpoint_rows(artifact: Artifact) -> dict[str, Rows]:
    row = Parts(artifact.path).read_json(CHECKPOINT_FILE)
    # Artifacts from before `right_answers` have none.
    return {CHECKPOINTS.name: [{"right_answers": [], **row, "seconds": artifact.manifest.seconds}]}


def _files(files: Mapping[str, str], perhaps: Mapping[str, str] | None = None) -> Callable[[Artifact], TableRows]:
    """Of artifacts that have one file for each of these tables; of `perhaps`, some have none."""

    def found(artifact: Artifact) -> TableRows:
        there = {table: name for table, name in (perhaps or {}).items() if name in artifact.manifest.files}
        return {table: [artifact.file(name)] for table, name in {**files, **there}.items()}

    return found


def _none(_: Artifact) -> TableRows:
    return {}


BY_KIND: Mapping[str, Callable[[Artifact], TableRows]] = {
    "base_model": _none,
    "examples": _files({EXAMPLES.name: TRAIN_FILE, QUARANTINE.name: QUARANTINE_FILE}),
    "splits": _files({SPLITS.name: SPLITS_FILE}),
    "warmup": _checkpoint_rows,
    "replay_buffer": _files({BUFFER.name: BUFFER_FILE}, {THOUGHTS.name: THOUGHTS_FILE}),
    "trees": _tree_rows,
    "pairs": _files({PAIRS.name: PAIRS_FILE, RIGHT_ANSWERS.name: ANSWERS_FILE}),
    "policy": _checkpoint_rows,
    "cases": _files({EXAMPLES.name: POOL_FILE, QUARANTINE.name: QUARANTINE_FILE}),
    "scores": _files(
        {SCORES.name: SCORES_FILE, CASES.name: CASES_FILE, AGGREGATE_SCORES.name: AGGREGATES_FILE},
        {THOUGHTS.name: THOUGHTS_FILE},
    ),
    "champion": _none,
    "report": _files({COMPARISONS.name: COMPARISONS_FILE}),
    "exported_model": _none,
}
"""Kind of step, as in CODE_VERSIONS → the rows of its artifacts. One source for whoever loads them."""
