"""What the UI tells of an asset: owners, tags, columns as the database has them, rows as they are, its code."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from itool_pipeline.definitions import defs
from itool_pipeline.defs.annotations import GIT_URL
from itool_pipeline.defs.metadata import shown
from itool_pipeline.steps.artifact_files import nodes_file, trees_file
from itool_pipeline.steps.asset_graph import assets_of
from itool_pipeline.steps.asset_tables import rows_of, tables_of
from itool_pipeline.steps.workspace import Produced
from itool_pipeline.store.artifacts import Step, reuse_or_make
from itool_pipeline.store.tables import TABLES
from itool_pipeline_tests.steps.by_hand import database_of, workspace
from itool_pipeline_tests.store.by_hand import ask

ROOT = Path(__file__).parents[2]
OWN_TABLES = {
    "examples": ["examples", "quarantine"],
    "bfcl_cases": ["examples", "quarantine"],
    "splits": ["splits"],
    "warmup/easy": ["checkpoints"],
    "iteration_1/replay_buffer": ["buffer", "thoughts"],
    "iteration_2/trees": ["trees", "nodes"],
    "iteration_5/pairs": ["pairs", "right_answers"],
    "iteration_1/policy": ["checkpoints"],
    "api_bank/warmup": ["scores", "cases", "aggregate_scores", "thoughts"],
    "report": ["comparisons"],
    "base_model": [],
    "champion": [],
}


@pytest.fixture(scope="module")
def graph() -> AssetGraph:
    return defs.resolve_asset_graph()


def key(asset: str) -> dg.AssetKey:
    return dg.AssetKey(asset.split("/"))


ASSETS = (*assets_of(), "comparison")


@pytest.mark.parametrize("asset", ASSETS)
def test_every_asset_has_owners_tags_and_a_link_to_its_code(graph: AssetGraph, asset: str) -> None:
    node = graph.get(key(asset))
    assert node.owners
    assert node.tags["itool/step"]
    (link,) = node.metadata["dagster/code_references"].code_references
    path = Path(link.file_path)
    assert path.is_relative_to(ROOT / "itool_pipeline")
    assert path.read_text().splitlines()[link.line_number - 1].startswith(f"def {link.label.rpartition('.')[2]}(")


def test_tags_select_what_they_say() -> None:
    found = dg.AssetSelection.from_string('tag:"itool/step"="scores" and tag:"itool/checkpoint"="iteration_2"')
    keys = {k.to_user_string() for k in found.resolve(defs.resolve_asset_graph())}
    assert keys == {f"{benchmark}/iteration_2" for benchmark in ("bfcl", "api_bank", "calls")}
    assert {
        k.to_user_string() for k in dg.AssetSelection.tag("itool/iteration", "3").resolve(defs.resolve_asset_graph())
    } == {f"iteration_3/{step}" for step in ("replay_buffer", "trees", "pairs", "policy")}


@pytest.mark.parametrize("asset", OWN_TABLES)
def test_its_tables(asset: str) -> None:
    assert [table.name for table in tables_of(asset)] == OWN_TABLES[asset]


def test_every_table_of_artifacts_belongs_to_an_asset() -> None:
    found = {table.name for asset in assets_of() for table in tables_of(asset)}
    assert found == {table.name for table in TABLES.values() if table.made_by}


@pytest.mark.parametrize("asset", [name for name, tables in OWN_TABLES.items() if tables])
def test_the_columns_are_those_of_the_database(graph: AssetGraph, asset: str, tmp_path: Path) -> None:
    metadata = graph.get(key(asset)).metadata
    first, *others = OWN_TABLES[asset]
    told = {first: metadata["dagster/column_schema"], **{name: metadata[f"columns_of_{name}"] for name in others}}
    assert metadata["dagster/table_name"] == first
    database = database_of(workspace(tmp_path))
    with database.transaction():
        pass  # which makes the tables
    for table, schema in told.items():
        columns = ask(
            database,
            "SELECT column_name, data_type, comment, is_nullable FROM duckdb_columns() "
            f"WHERE table_name = '{table}' AND column_name <> 'artifact' ORDER BY column_index",
        )
        assert [(c.name, c.type, c.description, c.constraints.nullable) for c in schema.columns] == columns


def by_hand(root: Path) -> Any:
    """An artifact of trees in two shards: three trees, five nodes."""
    ws = workspace(root, iterations=1)
    counts = {trees_file: (2, 1), nodes_file: (3, 2)}

    def make(step: Step) -> dict[str, Any]:
        for name, rows in counts.items():
            for shard, count in enumerate(rows):
                pq.write_table(pa.table({"x": range(count)}), step.work / name(shard))
        return {"shards": 2}

    planned = ws.planned["iteration_1/trees"]
    artifact, _ = reuse_or_make(ws.artifacts, "iteration_1/trees", planned.fingerprint, make, origin=planned.origin)
    return artifact


def test_rows_are_counted(tmp_path: Path) -> None:
    artifact = by_hand(tmp_path)
    metadata = shown(Produced(artifact, False))
    counted = {name: metadata[name] for name in ("dagster/row_count", "dagster/partition_row_count", "rows_of_nodes")}
    assert counted == {"dagster/row_count": 3, "dagster/partition_row_count": 3, "rows_of_nodes": 5}
    assert set(rows_of(artifact)) == {"trees", "nodes"}


def test_the_report_is_to_be_no_older_than_a_week_and_a_day(graph: AssetGraph) -> None:
    policies = {name: graph.get(key(name)).freshness_policy for name in ASSETS}
    found = policies.pop("report")
    assert found == dg.FreshnessPolicy.time_window(warn_window=timedelta(days=8), fail_window=timedelta(days=31))
    assert set(policies.values()) == {None}


def test_links_lead_to_the_repository_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import dagster as dg\nfrom itool_pipeline.definitions import defs\n"
        "node = defs.resolve_asset_graph().get(dg.AssetKey(['report']))\n"
        "print(node.metadata['dagster/code_references'].code_references[0].url)"
    )
    monkeypatch.setenv(GIT_URL, "https://github.com/us/ours")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("https://github.com/us/ours/tree/main/itool_pipeline/steps/report.py#L")
