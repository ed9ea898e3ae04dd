"""Every asset's rows are found by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.artifact_files import CHECKPOINT_FILE
from itool_pipeline.steps.asset_graph import ALL, ON_REQUEST, WHOLE, assets_of, step_kind
from itool_pipeline.steps.asset_tables import BY_KIND, rows_of
from itool_pipeline.steps.plan import CODE_VERSIONS
from itool_pipeline.store.manifest import Artifact, FileEntry, Manifest
from itool_pipeline.store.tables import TABLES
from itool_pipeline_tests.store.by_hand import A, artifact


class AnyFiles(dict[str, FileEntry]):
    """The files of an artifact that has each that is asked for."""

    def __contains__(self, name: object) -> bool:
        return True


def made(asset: str, folder: Path) -> Artifact:
    known = artifact(asset, A).manifest
    manifest = Manifest.model_construct(**{**dict(known), "files": AnyFiles(), "metadata": {"shards": 2}})
    Parts(folder).write_json(CHECKPOINT_FILE, {"stage": asset})
    return Artifact(asset, A, folder, manifest)


def declared(asset: str) -> set[str]:
    """The tables that say of themselves that such an asset makes them."""
    group, _, name = asset.partition("/")
    ours = {asset, f"{group}/*", f"iteration_k/{name}"}
    if group in ALL:
        ours = {"<benchmark>/*"}
    elif group.removesuffix("_cases") in ALL:
        ours = {"<benchmark>_cases"}
    return {table.name for table in TABLES.values() if ours & set(table.made_by)}


@pytest.mark.parametrize("asset", assets_of(WHOLE))
def test_an_asset_loads_the_tables_that_are_declared_as_its(asset: str, tmp_path: Path) -> None:
    assert set(rows_of(made(asset, tmp_path))) == declared(asset)


def test_every_kind_of_step_is_known_and_every_table_is_somebodys() -> None:
    assert BY_KIND.keys() == CODE_VERSIONS.keys()
    loaded = {name for asset in assets_of(WHOLE) for name in declared(asset)}
    assert loaded == {table.name for table in TABLES.values() if table.made_by}
    assert {step_kind(asset) for asset in (*assets_of(WHOLE), *ON_REQUEST)} == BY_KIND.keys()


def test_an_asset_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="grades"):
        rows_of(made("grades", tmp_path))


def test_the_rows_of_trees_are_those_of_all_shards_in_their_order(tmp_path: Path) -> None:
    rows = rows_of(made("iteration_2/trees", tmp_path))
    assert {table: [Path(str(file)).name for file in files] for table, files in rows.items()} == {
        "trees": ["trees_00000.parquet", "trees_00001.parquet"],
        "nodes": ["nodes_00000.parquet", "nodes_00001.parquet"],
    }
