"""A training is a file: what runs it in this process, from outside, or after a kill agrees."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.config import ComputeConfig, DpoLoss, LoraConfig, OptimizerConfig, SimpoLoss
from itool_pipeline.engines import dtype_finding
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.files.seals import is_sound, write_sealed
from itool_pipeline.training import checkpoint, log_probs, runner
from itool_pipeline.training.__main__ import main
from itool_pipeline.training.data_file import write_preference_data, write_sft_data
from itool_pipeline.training.items import PreferenceRow, SftItem, TokenPair, TrainingData
from itool_pipeline.training.job import (
    ContinuedAdapter,
    FreshAdapter,
    PreferenceObjective,
    SftObjective,
    TrainingError,
    TrainingJob,
    read_job,
)
from itool_pipeline.training.recomputation import use_gradient_checkpointing
from itool_pipeline.training.runner import run_training_job
from itool_pipeline_tests.damage import flip_a_byte

ITEMS = tuple(SftItem(f"item{i}", tuple(range(5, 8 + i)), (100 + i, 200 + i, 2)) for i in range(6))
ROWS = tuple(
    PreferenceRow(f"tree{i}", (5, 6 + i), (TokenPair((7,), (8 + i,), (9, 10)), TokenPair((), (7, 3), (4,))))
    for i in range(4)
)
OPTIMIZER = OptimizerConfig(learning_rate=0.01, epochs=2, batch_size=3, checkpoint_every=1, micro_batch_tokens=24)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def sft_job(tmp_path: Path, tiny_model_dir: Path) -> TrainingJob:
    data = tmp_path / "data.parquet"
    write_sft_data(data, TrainingData(ITEMS[:5], ITEMS[5:]))
    return TrainingJob(
        base_model=tiny_model_dir,
        compute=ComputeConfig(device="cpu", dtype="float32"),
        adapter=FreshAdapter(lora=LoraConfig(rank=4), seed=3),
        data=data,
        objective=SftObjective(),
        optimizer=OPTIMIZER,
        seed=7,
        parts=tmp_path / "parts",
        out=tmp_path / "adapter",
        result=tmp_path / "result.json",
    )


@pytest.fixture
def dpo_job(sft_job: TrainingJob, tmp_path: Path) -> TrainingJob:
    """From the adapter of the SFT job, against the base model."""
    run_training_job(moved(sft_job, tmp_path / "warmup"))
    data = tmp_path / "pairs.parquet"
    write_preference_data(data, TrainingData(ROWS[:3], ROWS[3:]))
    objective = PreferenceObjective(loss=DpoLoss(type="dpo", beta=0.5, reference="base"))
    adapter = ContinuedAdapter(directory=tmp_path / "warmup" / "adapter")
    return sft_job.model_copy(update={"data": data, "objective": objective, "adapter": adapter})


def moved(job: TrainingJob, root: Path, **over: Any) -> TrainingJob:
    """The same training, writing elsewhere."""
    root.mkdir(exist_ok=True)
    where = {"parts": root / "parts", "out": root / "adapter", "result": root / "result.json"}
    return job.model_copy(update={**where, **over})


def weights(root: Path) -> bytes:
    return (root / "adapter" / "adapter_model.safetensors").read_bytes()


def command(job: TrainingJob) -> list[str]:
    """Write the job beside its output; the command that runs it."""
    path = job.out.parent / "job.json"
    path.write_text(job.model_dump_json())
    return [sys.executable, "-m", "itool_pipeline.training", str(path)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_started_from_outside_and_killed_it_ends_with_the_same_bytes(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    job: TrainingJob = request.getfixturevalue(f"{kind}_job")
    result = run_training_job(moved(job, tmp_path / "inside"))
    outside = moved(job, tmp_path / "outside")
    done = subprocess.run(command(outside), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{result.steps} steps, the best after {result.best_step}" in done.stdout
    assert weights(tmp_path / "outside") == weights(tmp_path / "inside")
    texts = [(tmp_path / place / "result.json").read_text() for place in ("inside", "outside")]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["losses"] == list(result.losses)

    killed = moved(job, tmp_path / "killed")
    running = subprocess.Popen(command(killed), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while running.poll() is None and not any(killed.parts.glob("step_*")):
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not killed.result.exists()
    run_training_job(killed)
    assert weights(tmp_path / "killed") == weights(tmp_path / "inside")
    assert killed.result.read_text() == texts[0]


@pytest.mark.parametrize(
    "damaged", ["weights.safetensors", "best.safetensors", "optimizer.safetensors", "state.json", "candidate"]
)
def test_a_job_uses_no_damaged_checkpoint_and_ends_with_the_same_bytes(
    sft_job: TrainingJob, tmp_path: Path, damaged: str
) -> None:
    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == total - 1:
            raise Killed

    optimizer = sft_job.optimizer.model_copy(update={"epochs": 3, "checkpoint_every": 1})
    jobs, said = {}, list[str]()
    for place in ("calm", "killed"):
        root = tmp_path / place
        jobs[place] = moved(sft_job, root, optimizer=optimizer, candidates=root / "candidates")
    run_training_job(jobs["calm"])
    killed = jobs["killed"]
    with pytest.raises(Killed):
        run_training_job(killed, kill)
    (last,), (adapter, *_) = killed.parts.glob("step_*"), sorted((tmp_path / "killed/candidates").glob("step_*"))
    flip_a_byte(adapter / "adapter_model.safetensors" if damaged == "candidate" else last / damaged)
    done: list[int] = []
    run_training_job(killed, lambda step, total: done.append(step), said.append)
    assert done[0] == 1, "the training has begun again"
    (line,) = said
    assert str(adapter if damaged == "candidate" else last) in line
    for made in sorted((tmp_path / "calm").rglob("adapter_model.safetensors")):
        assert (tmp_path / "killed" / made.relative_to(tmp_path / "calm")).read_bytes() == made.read_bytes()
    assert jobs["killed"].result.read_text() == jobs["calm"].result.read_text()


def test_a_kill_beside_a_damaged_adapter_leaves_no_checkpoint_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing would be left that tells of the adapter, and the training would end without it."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    parts, candidates = tmp_path / "parts", tmp_path / "candidates"
    for folder in (parts, candidates):
        write_sealed(folder / "step_00000002", lambda path: path.write_text("as it was"))
    flip_a_byte(candidates / "step_00000002")
    monkeypatch.setattr(checkpoint, "put_aside", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.put_damaged_aside(parts, candidates, lambda line: None)
    assert list(parts.glob("step_*")) == []
    assert not is_sound(candidates / "step_00000002"), "the next run finds it again"


def test_gradient_checkpointing_is_asked_for_by_the_job_and_changes_no_byte(
    sft_job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noting(model: Any) -> int:
        asked.append(use_gradient_checkpointing(model))
        return asked[-1]

    monkeypatch.setattr(log_probs, "use_gradient_checkpointing", noting)
    kept = run_training_job(moved(sft_job, tmp_path / "kept"))
    assert asked == []
    compute = sft_job.compute.model_copy(update={"gradient_checkpointing": True})
    assert run_training_job(moved(sft_job, tmp_path / "again", compute=compute)) == kept
    assert asked == [2]
    assert weights(tmp_path / "again") == weights(tmp_path / "kept")


def test_paths_are_relative_to_the_job_file(sft_job: TrainingJob, tmp_path: Path) -> None:
    content = json.loads(sft_job.model_dump_json())
    for name in ("data", "parts", "out", "result"):
        content[name] = Path(content[name]).name
    content["adapter"] = {"type": "continued", "directory": "start"}
    path = tmp_path / "job.json"
    path.write_text(json.dumps(content))
    job = read_job(path)
    assert (job.data, job.parts, job.out, job.result) == (sft_job.data, sft_job.parts, sft_job.out, sft_job.result)
    assert job.base_model == sft_job.base_model
    assert job.adapter == ContinuedAdapter(directory=tmp_path / "start")


def test_a_written_job_is_read_back(dpo_job: TrainingJob, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(dpo_job.model_dump_json())
    assert read_job(tmp_path / "job.json") == dpo_job


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 3}, "steps: Extra inputs are not permitted"),
        ({"objective": {"type": "preference", "loss": {"type": "simpo", "reference": "base"}}}, "Extra inputs"),
        ({"seed": "7"}, "seed: Input should be a valid integer"),
        ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate: Input should be greater than 0"),
        ({"base_model": "nowhere"}, "nowhere with a model."),
        ({"data": "nowhere.parquet"}, "nowhere.parquet: cannot be read as Parquet"),
        ({"adapter": {"type": "continued", "directory": "nowhere"}}, "nowhere: no such adapter directory"),
        ({"adapter": {"type": "fresh", "lora": {"targets": ["nothing"]}}}, "match no layer of the model"),
    ],
)
def test_what_a_person_can_mend_is_told_in_one_sentence(
    sft_job: TrainingJob, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, told: str
) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({**json.loads(sft_job.model_dump_json()), **change}))
    assert main([str(path)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert told in error
    assert not sft_job.result.exists()


def test_a_missing_job_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "job.json")]) == 1
    assert "job.json: cannot be read: No such file or directory" in capsys.readouterr().err


def test_checkpoints_of_another_job_are_refused(sft_job: TrainingJob) -> None:
    run_training_job(sft_job)
    with pytest.raises(TrainingError, match="another training"):
        run_training_job(sft_job.model_copy(update={"seed": 8}))


def test_a_job_goes_on_in_the_dtype_that_it_was_begun_in(
    sft_job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` is settled once; parts of another dtype than the one that is named are refused."""
    fastest, said = iter(("bfloat16", "float32")), list[str]()
    monkeypatch.setattr(dtype_finding, "measured_dtype", lambda base, findings, say: next(fastest))
    auto = moved(sft_job, tmp_path / "auto", compute=ComputeConfig(device="cpu"))
    named = moved(sft_job, tmp_path / "named", compute=ComputeConfig(device="cpu", dtype="bfloat16"))
    for job in (auto, named, auto):
        run_training_job(job, say=said.append)
    assert weights(tmp_path / "auto") == weights(tmp_path / "named")
    assert next(fastest) == "float32", "measured once"
    assert said == []
    with pytest.raises(ModelError, match=r"made in bfloat16, and compute\.dtype is float32"):
        run_training_job(auto.model_copy(update={"compute": sft_job.compute}))


def test_the_result_is_written_last(sft_job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(target: Path, value: object) -> Path:
        assert target == sft_job.result
        assert (sft_job.out / "adapter_model.safetensors").is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        run_training_job(sft_job)
    assert not sft_job.result.exists()


def test_each_setting_of_a_job_reaches_its_training(sft_job: TrainingJob, tmp_path: Path) -> None:
    """Every one of them changes the weights."""
    write_preference_data(tmp_path / "pairs.parquet", TrainingData([replace(row, gold=(9, 10)) for row in ROWS]))
    pairs = {"data": tmp_path / "pairs.parquet", "objective": PreferenceObjective(loss=SimpoLoss())}
    jobs: dict[str, dict[str, Any]] = {
        "as it is": {},
        "seed": {"seed": 8},
        "adapter seed": {"adapter": FreshAdapter(lora=LoraConfig(rank=4), seed=4)},
        "alpha": {"adapter": FreshAdapter(lora=LoraConfig(rank=4, alpha=8), seed=3)},
        "learning rate": {"optimizer": OPTIMIZER.model_copy(update={"learning_rate": 0.02})},
        "quantization": {"quantization": "nf4"},
        "dtype": {"compute": ComputeConfig(device="cpu", dtype="bfloat16")},
        "kernels": {"kernels": "plain"},
        "pairs": pairs,
        "loss": {**pairs, "objective": PreferenceObjective(loss=SimpoLoss(beta=1.0))},
        "gold answers": {**pairs, "objective": PreferenceObjective(loss=SimpoLoss(), gold_weight=0.5)},
    }
    for name, over in jobs.items():
        run_training_job(moved(sft_job, tmp_path / name, **over))
    assert len({weights(tmp_path / name) for name in jobs}) == len(jobs)
