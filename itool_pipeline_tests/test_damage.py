"""What is damaged, an artifact or a part of one, is used by no run: it is moved aside and made again, the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline_tests.damage import flip_a_byte
from itool_pipeline_tests.drills import FORCE, KILLS, Storage, contents
from itool_pipeline_tests.small_experiment import ASSET, RUN, write_experiment

pytestmark = pytest.mark.slow

DAMAGED_BYTES = 4000
WEIGHTS = "adapter/adapter_model.safetensors"
ANSWERS = "artifacts/bfcl/iteration_1/*.partial/parts/answers_*.json"
FOUND = f"{WEIGHTS} has another content than when it was written"


def flip(file: Path, count: int) -> None:
    """The last `count` bytes, each to another; the size stays."""
    content = file.read_bytes()
    file.write_bytes(content[:-count] + bytes(byte ^ 0xFF for byte in content[-count:]))


@pytest.fixture
def empty(tmp_path: Path, downloads_dir: Path, bfcl_dir: Path, tiny_model_dir: Path) -> Storage:
    """In which the experiment is known."""
    write_experiment(tmp_path / "experiments", tiny_model_dir)
    return Storage(tmp_path / "empty", downloads_dir, ITOOL_EXPERIMENTS=str(tmp_path / "experiments"))


@pytest.fixture
def storage(tmp_path: Path, downloads_dir: Path, empty: Storage) -> Storage:
    """Of a whole run."""
    made = Storage(tmp_path / "storage", downloads_dir, **empty.variables)
    done = made.run(*RUN)
    assert done.code == 0, done.text[-3000:]
    return made


def test_a_damaged_adapter_is_used_by_no_worker_and_made_again_by_the_next_run(storage: Storage) -> None:
    before = storage.manifests()
    adapter = storage.root / "artifacts" / "warmup" / "hard" / before["warmup/hard"].fingerprint
    flip(adapter / WEIGHTS, DAMAGED_BYTES)

    storage.variables["ITOOL_EXECUTOR"] = "multiprocess"
    worker = storage.run(*ASSET, "--select", "iteration_1/replay_buffer", "--config-json", FORCE)
    assert worker.code != 0
    assert f"warmup/hard of experiment small (fingerprint {adapter.name}) is damaged ({FOUND})" in worker.text

    storage.variables["ITOOL_EXECUTOR"] = "in_process"
    again = storage.run(*RUN)
    assert again.code == 0, again.text[-3000:]
    assert f"{adapter} is damaged ({FOUND}): moved aside to {adapter.name}.damaged, making it again." in again.text
    after = storage.manifests()
    made_again = {asset for asset in after if after[asset].run_id != before[asset].run_id}
    assert made_again == {"warmup/hard", "iteration_1/replay_buffer"}, "the latter had been taken away by force"
    assert contents(after) == contents(before)
    assert storage.run("itool_pipeline", "verify", "--deep").code == 0


def test_a_damaged_part_is_used_by_no_run_and_made_again(storage: Storage, empty: Storage) -> None:
    """A byte of a checkpoint, of a shard's nodes and of a batch of answers, each after a kill."""
    parts = ((KILLS["warm-up"], "optimizer.safetensors"), (KILLS["search"], "../nodes_00000.parquet"), (ANSWERS, ""))
    texts = []
    for pattern, name in parts:
        texts.append(empty.run_until(pattern, *RUN).text)
        damaged = next(empty.root.glob(pattern)) / name
        flip_a_byte(damaged.resolve())
    done = empty.run(*RUN)
    assert done.code == 0, done.text[-3000:]
    for text, part in zip([*texts[1:], done.text], ("step_", "nodes_00000.parquet", "answers_"), strict=True):
        assert f"/{part}" in text[: text.index(" is damaged, it is not what was written")]
    assert contents(empty.manifests()) == contents(storage.manifests())
