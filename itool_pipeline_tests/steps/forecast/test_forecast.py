"""A whole dry run on a real store: what is reused, what it rests on, how it reads; and that it writes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from itool_pipeline import __main__ as command_line
from itool_pipeline.engines import dtype_finding, model
from itool_pipeline.steps.artifact_files import SPLITS_FILE
from itool_pipeline.steps.forecast.devices import CPU_SHARES, NAMED, UnknownDevice, named_device, processor
from itool_pipeline.steps.forecast.forecast import Forecast, StepForecast, forecast
from itool_pipeline.steps.forecast.material import Basis
from itool_pipeline.steps.forecast.memory import Memory
from itool_pipeline.steps.forecast.text import duration, forecast_text
from itool_pipeline.steps.forecast.work import StepWork
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import SPLITS
from itool_pipeline_tests.steps.by_hand import example, experiment, put, put_cases, put_model, workspace, write_train

LLAMA = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 10}
ON_H100 = {"device": "NVIDIA H100 80GB HBM3", "dtype": "bfloat16"}


@pytest.fixture(autouse=True)
def no_other_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments").mkdir()
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path / "experiments"))
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path / "storage"))


def started(tmp_path: Path) -> Workspace:
    """An experiment with its model, its data and nothing else."""
    asked = {"checkpoints": ("base", "warmup"), "bfcl": {"max_new_tokens": 20}}
    ws = workspace(tmp_path / "storage", iterations=1, evaluation=asked)
    put_model(ws, tmp_path / "model", LLAMA)
    put(ws, "examples", lambda out: write_train(out, map(example, "abcd")))
    put(ws, "splits", lambda out: _splits(out, "abcd"))
    put_cases(ws, "bfcl", map(example, "xy"))
    return ws


def _splits(out: Path, keys: str) -> None:
    where = dict(zip(keys, ("easy", "easy", "hard", "hard"), strict=True))
    rows = [{"example_id": k, "group_id": k, "split": "train", "difficulty": d} for k, d in where.items()]
    write_table_file(out / SPLITS_FILE, SPLITS, rows)


def finish(ws: Workspace, asset: str, seconds: float, **metadata: Any) -> None:
    """The artifact, as made in so many seconds."""
    planned = ws.planned[asset]
    with ws.artifacts.open(asset, planned.fingerprint) as step:
        step.finish(planned.origin, metadata, seconds)


def foreseen(ws: Workspace, asked: str | None = "h100") -> Forecast:
    return forecast(ws.experiment, ws.paths, asked, lambda line: None)


def steps_of(found: Forecast) -> dict[str, StepForecast]:
    return {step.asset: step for step in found.steps}


def test_what_is_there_by_fingerprint_is_reused_and_nothing_else(tmp_path: Path) -> None:
    ws = started(tmp_path)
    finish(ws, "warmup/easy", 1.0)
    found = foreseen(ws)
    assert [step.asset for step in found.steps] == list(ws.planned)
    there = {"base_model", "examples", "splits", "bfcl_cases", "warmup/easy"}
    assert {s.asset for s in found.steps if s.reused} == there
    assert found.seconds == sum(step.seconds for step in found.steps if not step.reused) > 0
    other = ws.experiment.model_copy(update={"seed": 5})
    assert {s.asset for s in forecast(other, ws.paths, "h100", print).steps if s.reused} == {"base_model"}


def test_a_step_takes_its_flop_by_the_rate_and_the_share(tmp_path: Path) -> None:
    found = steps_of(foreseen(started(tmp_path)))
    easy = found["warmup/easy"]
    # Two examples of nine and seven tokens.
    assert easy.work.trains == 2 * 16
    assert easy.rests_on == "constants"
    assert easy.seconds == pytest.approx(20 + easy.work.flops / (790e12 * 0.34))
    # No example is of medium difficulty.
    assert (found["warmup/medium"].seconds, found["warmup/medium"].rests_on) == (0.0, "nothing to compute")


def test_finished_steps_of_the_kind_on_the_device_say_how_long_it_takes(tmp_path: Path) -> None:
    ws = started(tmp_path)
    by_constants = steps_of(foreseen(ws))
    finish(ws, "warmup/easy", 3 * by_constants["warmup/easy"].seconds, **ON_H100)
    finish(ws, "report", 7.0)
    found = steps_of(foreseen(ws))
    assert found["warmup/hard"].rests_on == "1 finished step"
    assert found["warmup/hard"].seconds == pytest.approx(3 * by_constants["warmup/hard"].seconds)
    # Not of another kind, and not on another device.
    assert found["iteration_1/trees"] == by_constants["iteration_1/trees"]
    elsewhere = steps_of(foreseen(ws, "a100"))
    assert elsewhere["warmup/hard"].rests_on == "constants"


def test_another_dtype_or_model_says_nothing(tmp_path: Path) -> None:
    ws = started(tmp_path)
    finish(ws, "warmup/easy", 1_000.0, device="NVIDIA H100 80GB HBM3", dtype="float32")
    assert steps_of(foreseen(ws))["warmup/hard"].rests_on == "constants"


def test_other_experiments_count_where_their_files_are(tmp_path: Path) -> None:
    ws = started(tmp_path)
    (tmp_path / "experiments" / "hand.yaml").write_text(
        "model: {type: smollm2_wheel}\ndata: {type: bfcl_half}\niterations: 1\n"
        "evaluation: {checkpoints: [base, warmup], bfcl: {max_new_tokens: 20}}\n"
    )
    (tmp_path / "experiments" / "broken.yaml").write_text("iterations: many\n")
    finish(ws, "warmup/easy", 100.0, **ON_H100)
    other = experiment(name="other", iterations=0, warmup={"lora": {"rank": 4}})
    assert steps_of(forecast(other, ws.paths, "h100", print))["warmup/easy"].rests_on == "1 finished step"


def test_nothing_is_written(tmp_path: Path) -> None:
    ws = started(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    foreseen(ws)
    assert sorted(tmp_path.rglob("*")) == before


def test_this_processor_is_measured_where_nothing_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = started(tmp_path)
    (tmp_path / "model" / "config.json").write_text(
        '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 2, '
        '"num_attention_heads": 4, "vocab_size": 10}'
    )
    slow = partial(dtype_finding.rates_here, measure=lambda works: {"float32": (3e9, 1e9), "bfloat16": (1e9, 1e9)})
    monkeypatch.setattr(dtype_finding, "rates_here", slow)
    found = foreseen(ws, "cpu")
    assert (found.device.rate, found.dtype, found.device.shares) == (3e9, "float32", CPU_SHARES)
    assert "3 GFLOP/s in float32, measured just now" in found.device.about


def test_a_gpu_of_this_machine_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = started(tmp_path)
    monkeypatch.setattr(model, "resolve_device", lambda compute: torch.device("cuda"))
    monkeypatch.setattr(dtype_finding, "device_text", lambda device: "NVIDIA A100-SXM4-80GB")
    found = foreseen(ws, None)
    assert (found.device, found.dtype) == (NAMED["a100"], "bfloat16")
    monkeypatch.setattr(dtype_finding, "device_text", lambda device: "Tesla T4")
    with pytest.raises(UnknownDevice, match="the rate of Tesla T4 is not known; name what is most like it: --device"):
        foreseen(ws, None)


def test_fp32_on_a_gpu_is_not_known(tmp_path: Path) -> None:
    e = experiment(compute={"dtype": "float32"})
    with pytest.raises(UnknownDevice, match="of h100 only the rate in bf16 is known"):
        forecast(e, started(tmp_path).paths, "h100", print)


def test_the_table_of_named_devices() -> None:
    assert named_device("h100").seconds("trees", 790e12 * 0.15 * 10) == pytest.approx(20 + 10)
    with pytest.raises(UnknownDevice, match=r"--device tpu: no such device; there are: cpu .*h100"):
        named_device("tpu")
    for device in NAMED.values():
        assert all(share.source.startswith(("measured", "assumed")) for share in device.shares.values())


def test_how_it_reads() -> None:
    work, memory = StepWork(reads=12_345, generates=678, flops=1.0), Memory(1.0, 2.0, 3.0, loading=2.0)
    steps = (
        StepForecast("examples", True, StepWork(), 0.0, None, ""),
        StepForecast("iteration_1/trees", False, work, 1_234.0, memory, "constants"),
        StepForecast("report", False, StepWork(), 2.0, None, "3 finished steps"),
    )
    basis = Basis(("examples",), ("splits",))
    text = forecast_text(Forecast("mine", steps, processor(1e9, "A, 2 threads", "1 GFLOP/s"), "float32", basis, 17, 45))
    assert text.splitlines() == [
        "step                         reads  generates  trains on  seconds  rests on",
        "-----------------  -------  ------  ---------  ---------  -------  ----------------",
        "examples           reused",
        "iteration_1/trees  to make  12,345        678               1,234  constants",
        "report             to make                                      2  3 finished steps",
        "(3 rows)",
        "",
        "mine: 2 of 3 steps to make, 21 minutes in all.",
        "on A, 2 threads: 1 GFLOP/s; computing in float32",
        "amounts of data: as counted in examples",
        "amounts of data: of splits, not there yet, by the config's limits: an upper bound",
        "assumed: trees have 17 of at most 45 nodes",
        "memory, at most, in iteration_1/trees: 6.0 GiB (weights 1.0, KV cache 2.0, activations 3.0)",
        "constants, shares of that rate, measured on two cores with the demo's model: trees 37%",
    ]


def test_memory_beside_the_device_s_and_when_all_is_there() -> None:
    too_large = Memory(10.0, 2.0, 3.0, loading=30.0)
    step = StepForecast("bfcl/base", False, StepWork(reads=1.0, flops=1.0), 1.0, too_large, "constants")
    on_l4 = Forecast("mine", (step,), NAMED["l4"], "bfloat16", Basis((), ()), 1, 1)
    held = "weights 10.0, KV cache 2.0, activations 3.0; while its adapter is merged, weights in fp32: 30.0"
    assert f"30.0 GiB ({held}); the device has 24, too little" in forecast_text(on_l4)
    reused = StepForecast("examples", True, StepWork(), 0.0, None, "")
    done = Forecast("mine", (reused,), NAMED["l4"], "bfloat16", Basis((), ()), 1, 1)
    assert forecast_text(done).endswith("mine: everything is there; a run makes nothing.")


def test_durations() -> None:
    assert [duration(s) for s in (0, 119, 600, 7_300)] == ["0 seconds", "119 seconds", "10 minutes", "2.0 hours"]


def said_by(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["itool_pipeline", "plan", *arguments])
    return command_line.main()


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.delenv("ITOOL_EXPERIMENTS")
    assert said_by(monkeypatch, "demo", "--device", "h100", "--set", "iterations=1") == 0
    printed = capsys.readouterr().out
    assert "iteration_1/policy" in printed
    assert "iteration_2" not in printed
    assert said_by(monkeypatch, "demo", "--device", "tpu") == 2
    assert "--device tpu: no such device; there are" in capsys.readouterr().err
    assert said_by(monkeypatch, "nodemo", "--device", "h100") == 2
    assert "no such experiment; there are" in capsys.readouterr().err
    assert not (tmp_path / "storage").exists()
