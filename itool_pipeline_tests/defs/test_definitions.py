"""The definitions load, and the graph that Dagster sees is the one of the design, written out here by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from itool_pipeline.config import EvaluationConfig
from itool_pipeline.definitions import defs
from itool_pipeline.defs.metadata import shown
from itool_pipeline.experiment_files import experiment_names
from itool_pipeline.steps.display import IMAGE, MARKDOWN
from itool_pipeline.steps.workspace import Produced
from itool_pipeline.store.manifest import Artifact, FileEntry, Manifest

ROOT = Path(__file__).parents[2]

ITERATIONS = (1, 2, 3, 4, 5)
GRAPH = {
    "base_model": "sources/experiment_file",
    "examples": "base_model sources/local_files",
    "splits": "examples",
    "warmup/easy": "base_model examples splits",
    "warmup/medium": "base_model examples splits warmup/easy",
    "warmup/hard": "base_model examples splits warmup/medium",
    "iteration_1/replay_buffer": "base_model examples splits warmup/hard",
    "iteration_1/trees": "base_model examples warmup/hard iteration_1/replay_buffer",
    "iteration_1/pairs": "examples iteration_1/trees",
    "iteration_1/policy": "base_model examples splits warmup/hard iteration_1/pairs",
    "iteration_2/replay_buffer": "base_model examples splits iteration_1/policy",
    "iteration_2/trees": "base_model examples iteration_1/policy iteration_2/replay_buffer",
    "iteration_2/pairs": "examples iteration_2/trees",
    "iteration_2/policy": "base_model examples splits iteration_1/policy iteration_2/pairs",
    "iteration_3/replay_buffer": "base_model examples splits iteration_2/policy",
    "iteration_3/trees": "base_model examples iteration_2/policy iteration_3/replay_buffer",
    "iteration_3/pairs": "examples iteration_3/trees",
    "iteration_3/policy": "base_model examples splits iteration_2/policy iteration_3/pairs",
    "iteration_4/replay_buffer": "base_model examples splits iteration_3/policy",
    "iteration_4/trees": "base_model examples iteration_3/policy iteration_4/replay_buffer",
    "iteration_4/pairs": "examples iteration_4/trees",
    "iteration_4/policy": "base_model examples splits iteration_3/policy iteration_4/pairs",
    "iteration_5/replay_buffer": "base_model examples splits iteration_4/policy",
    "iteration_5/trees": "base_model examples iteration_4/policy iteration_5/replay_buffer",
    "iteration_5/pairs": "examples iteration_5/trees",
    "iteration_5/policy": "base_model examples splits iteration_4/policy iteration_5/pairs",
}
BENCHMARKS = tuple(name for name in EvaluationConfig.model_fields if name not in ("checkpoints", "champion"))
CHECKPOINTS = {
    "base": "base_model",
    "warmup": "warmup/hard",
    **{f"iteration_{k}": f"iteration_{k}/policy" for k in ITERATIONS},
}
for _benchmark in BENCHMARKS:
    GRAPH[f"{_benchmark}_cases"] = "base_model sources/local_files"
    for _name, _asset in CHECKPOINTS.items():
        GRAPH[f"{_benchmark}/{_name}"] = f"base_model {_benchmark}_cases {_asset}"
GRAPH["champion"] = " ".join(f"{benchmark}/{name}" for benchmark in BENCHMARKS for name in CHECKPOINTS)
GRAPH["report"] = " ".join(
    [f"{benchmark}/{name}" for benchmark in BENCHMARKS for name in CHECKPOINTS]
    + [f"iteration_{k}/{step}" for k in ITERATIONS for step in ("trees", "pairs")]
)

EXPORT = {
    "exported_model": " ".join(
        ["base_model", "examples", "splits", "warmup/hard"]
        + [f"iteration_{k}/{step}" for k in ITERATIONS for step in ("pairs", "policy")]
        + [f"{benchmark}/{name}" for benchmark in BENCHMARKS for name in CHECKPOINTS]
    )
}
"""Made on request alone."""

SCORES = tuple(f"{benchmark}/" for benchmark in BENCHMARKS)

USES_MODEL = {
    name.replace("/", "__")
    for name in GRAPH
    if name.split("/")[-1] in ("easy", "medium", "hard", "replay_buffer", "policy") or name.startswith(SCORES)
} | {f"iteration_{k}_{op}" for k in ITERATIONS for op in ("search_shards", "gather")}

CASES = tuple(f"{benchmark}_cases" for benchmark in BENCHMARKS)
DATA = {"base_model", "examples", "splits", *CASES}


@pytest.fixture(scope="module")
def graph() -> AssetGraph:
    return defs.resolve_asset_graph()


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(name.split("/"))


def test_the_definitions_are_valid() -> None:
    dg.Definitions.validate_loadable(defs)


def test_assets_and_their_inputs(graph: AssetGraph) -> None:
    found = {
        k.to_user_string(): {parent.to_user_string() for parent in graph.get(k).parent_keys}
        for k in graph.get_all_asset_keys()
    }
    others: dict[str, set[str]] = {
        name: set() for name in ("comparison", "sources/experiment_file", "sources/local_files")
    }
    assert found == {name: set(inputs.split()) for name, inputs in (GRAPH | EXPORT).items()} | others


@pytest.mark.parametrize("name", [*GRAPH, *EXPORT])
def test_an_asset_says_what_it_is(graph: AssetGraph, name: str) -> None:
    node = graph.get(key(name))
    assert node.description
    assert node.description.endswith(".")
    assert node.group_name == ("data" if name in DATA else "report" if name == "champion" else name.split("/")[0])
    assert node.code_version
    assert node.kinds
    assert isinstance(node.partitions_def, dg.DynamicPartitionsDefinition)
    assert list(node.partitions_def.get_partition_keys()) == experiment_names()


def all_ops() -> dict[str, Any]:
    """Every op of the job `itool`, those inside of graphs too."""
    found: dict[str, Any] = {}

    def walk(nodes: Any) -> None:
        for node in nodes:
            if isinstance(node, dg.GraphDefinition):
                walk(node.node_defs)
            else:
                found[node.name] = node

    walk(defs.resolve_job_def("itool").graph.node_defs)
    return found


def test_ops_that_use_the_model_take_a_place_in_the_pool() -> None:
    ops = all_ops()
    assert {name for name, op in ops.items() if op.pool} == USES_MODEL
    assert {ops[name].pool for name in USES_MODEL} == {"gpu"}
    assert len(ops) == len(USES_MODEL) + len(DATA) + 5 * (1 + 1) + 2 + len(CHECKS)


def test_trees_fan_out_over_shards() -> None:
    ops = all_ops()
    for k in ITERATIONS:
        (out,) = ops[f"iteration_{k}_plan_shards"].output_defs
        assert out.is_dynamic
        assert ops[f"iteration_{k}_gather"].input_defs[0].name == "shares"


CHECKS = {
    ("examples", "quarantine"),
    ("splits", "disjoint"),
    ("splits", "no_leak"),
    *((f"iteration_{k}/pairs", name) for k in ITERATIONS for name in ("filters", "enough", "true_pairs")),
    *((f"iteration_{k}/policy", "finite") for k in ITERATIONS),
    *((name, "no_leak") for name in CASES),
    *((name, "complete") for name in GRAPH if name.startswith(SCORES)),
    *((f"{benchmark}/iteration_{k}", "not_worse") for benchmark in BENCHMARKS for k in ITERATIONS),
    *((name, "errors_agree") for name in GRAPH if name.startswith("bfcl/")),
}


def test_checks(graph: AssetGraph) -> None:
    found = {(c.asset_key.to_user_string(), c.name) for c in graph.asset_check_keys}
    assert found == CHECKS | {("exported_model", "serves")}
    for check in defs.asset_checks or []:
        assert all(spec.description for spec in check.check_specs)


@pytest.mark.parametrize(
    ("job", "assets"),
    [
        ("itool", set(GRAPH)),
        ("evaluate", {name for name in GRAPH if name.startswith((*SCORES, *CASES))} | {"champion", "report"}),
        ("report", {"report"}),
        ("export", set(EXPORT)),
    ],
)
def test_jobs(job: str, assets: set[str]) -> None:
    found = defs.resolve_job_def(job)
    assert {k.to_user_string() for k in found.asset_layer.executable_asset_keys} == assets
    assert found.description
    assert found.partitions_def is not None
    assert found.partitions_def.get_partition_keys() == experiment_names()


def test_a_comparison_is_of_no_partition_and_a_job_of_its_own(graph: AssetGraph) -> None:
    assert graph.get(key("comparison")).partitions_def is None
    found = defs.resolve_job_def("compare")
    assert {k.to_user_string() for k in found.asset_layer.executable_asset_keys} == {"comparison"}
    assert found.description


def test_what_starts_runs_is_off_until_someone_turns_it_on_and_what_keeps_order_is_on() -> None:
    schedules, sensors = list(defs.schedules or []), list(defs.sensors or [])
    assert [(s.name, s.default_status) for s in schedules] == [("weekly", dg.DefaultScheduleStatus.STOPPED)]
    assert [(s.name, s.default_status, s.minimum_interval_seconds) for s in sensors] == [
        ("local_data", dg.DefaultSensorStatus.STOPPED, 60),
        ("automation", dg.DefaultSensorStatus.STOPPED, 30),
        ("experiment_files", dg.DefaultSensorStatus.RUNNING, 15),
        ("lost_runs", dg.DefaultSensorStatus.RUNNING, 30),
        ("source_files", dg.DefaultSensorStatus.STOPPED, 60),
    ]


def test_loading_needs_neither_torch_nor_transformers() -> None:
    """Dagster loads the definitions again and again, in many processes."""
    program = (
        "import sys, itool_pipeline.definitions\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'peft', 'matplotlib'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


PNG = b"\x89PNG\r\n\x1a\n not really"


def produced(tmp_path: Path, metadata: dict[str, Any]) -> Produced:
    (tmp_path / "loss.png").write_bytes(PNG)
    manifest = Manifest(
        asset="base_model",
        fingerprint="a" * 16,
        inputs={},
        code_version="1",
        run_id="r",
        config=None,
        metadata=metadata,
        files={"loss.png": FileEntry(size=len(PNG), sha256=None)},
        created_at="2025-01-01T00:00:00+00:00",
        seconds=2.5,
    )
    return Produced(Artifact("base_model", "a" * 16, tmp_path, manifest), True)


def test_metadata_as_the_ui_shows_it(tmp_path: Path) -> None:
    given = {
        "loss": {IMAGE: "loss.png"},
        "rows": {MARKDOWN: "| a |"},
        "steps": 7,
        "absent": None,
        "list": [1, 2],
        "why": "nothing",
    }
    metadata = shown(produced(tmp_path, given))
    # base64 of the bytes of PNG, by `base64` of coreutils
    picture = "![loss.png](data:image/png;base64,iVBORw0KGgogbm90IHJlYWxseQ==)"
    assert metadata == {
        "loss": dg.MetadataValue.md(picture),
        "rows": dg.MetadataValue.md("| a |"),
        "steps": 7,
        "list": dg.MetadataValue.json([1, 2]),
        "why": "nothing",
        "fingerprint": "a" * 16,
        "reused": True,
        "seconds": 2.5,
        "artifact": dg.MetadataValue.path(str(tmp_path)),
    }
    dg.MaterializeResult(metadata=metadata)
