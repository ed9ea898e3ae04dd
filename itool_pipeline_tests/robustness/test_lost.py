"""What the drills of kills count, on folders as a kill leaves them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline_tests.robustness.lost import Lost, Watch, lost

FINGERPRINT = "0" * 16
TRAINING = f"artifacts/warmup/easy/{FINGERPRINT}.partial/parts"
SEARCH = f"artifacts/iteration_1/trees/{FINGERPRINT}.partial/parts"
HOLDER = "import sys; held = [open(name, 'a') for name in sys.argv[1:]]; print('held', flush=True); sys.stdin.read()"


def test_steps_since_the_last_checkpoint_are_lost(tmp_path: Path) -> None:
    parts = tmp_path / TRAINING
    _tell(parts / ".told.jsonl", "train", 7)
    assert lost(tmp_path) == Lost(7, 0, 0)
    for step in (2, 4):
        (parts / f"step_{step:08d}").mkdir()
    found = lost(tmp_path)
    assert found == Lost(3, 0, 0)
    assert found.problems(3) == []
    assert found.problems(2) == ["a kill lost 3 optimizer steps"]


def test_shards_that_are_searched_and_not_kept_are_lost(tmp_path: Path) -> None:
    parts = tmp_path / SEARCH
    _tell(parts / ".toldshare_00000.jsonl", "search", 2)
    _tell(parts / ".toldshare_00001.jsonl", "search", 1)
    assert lost(tmp_path).problems(2) == ["a kill lost 3 shards of 0 processes"]
    _write_trees(parts / "trees_00000.parquet", 2)
    assert lost(tmp_path) == Lost(0, 1, 0)
    _write_trees(parts / "trees_00001.parquet", 1)
    assert lost(tmp_path) == Lost(0, 0, 0)


def test_the_shard_under_way_is_lost_too(tmp_path: Path) -> None:
    told = tmp_path / SEARCH / ".toldshare_00000.jsonl"
    _tell(told, "search", 0)
    command = [sys.executable, "-c", HOLDER, str(told), str(tmp_path / "other")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert lost(tmp_path) == Lost(0, 1, 1)
        assert lost(tmp_path / "other") == Lost(0, 0, 0), "another storage's is not"
        holder.kill()


def test_what_is_kept_may_not_be_made_again(tmp_path: Path) -> None:
    shard, checkpoint = tmp_path / SEARCH / "trees_00000.parquet", tmp_path / TRAINING / "step_00000002"
    finished = tmp_path / f"artifacts/splits/{FINGERPRINT}/manifest.json"
    for path in (checkpoint, finished.parent, shard.parent):
        path.mkdir(parents=True)
    for path in (shard, finished, shard.with_name("nodes_00000.parquet"), shard.with_name("job.json")):
        path.write_text("first")
    watch = Watch(tmp_path)
    watch.look()
    watch.look()
    assert watch.again == set()
    for path in (shard, finished, shard.with_name("nodes_00000.parquet"), shard.with_name("job.json")):
        other = path.with_name("other")
        other.write_text("first")
        other.replace(path)
    watch.look()
    assert watch.again == {shard.relative_to(tmp_path).as_posix(), finished.relative_to(tmp_path).as_posix()}


def _tell(told: Path, kind: str, steps: int) -> None:
    told.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"run": "a"}, *({"kind": kind, "step": step} for step in range(1, steps + 1))]
    told.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "tr')


def _write_trees(path: Path, count: int) -> None:
    pq.write_table(pa.table({"tree_id": [str(number) for number in range(count)]}), path)
