"""A machine is measured once for a model, whoever asks; a file that is not whole or not its own is no finding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from itool_pipeline.config import ComputeConfig
from itool_pipeline.engines import dtype_finding
from itool_pipeline.engines.dtype_choice import DtypeName, MatrixWork
from itool_pipeline.engines.dtype_finding import Rates, measured_dtype, rates_here, resolve_dtype
from itool_pipeline.engines.model_config import read_model_config
from itool_pipeline.files.locks import Say

CPU = torch.device("cpu")


class Machine:
    """Measures what it is told; `times` says how often it was asked."""

    def __init__(self, fp32: Rates, bf16: Rates) -> None:
        self.rates: dict[DtypeName, Rates] = {"float32": fp32, "bfloat16": bf16}
        self.times = 0

    def __call__(self, works: tuple[MatrixWork, MatrixWork]) -> Mapping[DtypeName, Rates]:
        assert [work.rows for work in works] == [512, 16]
        self.times += 1
        return self.rates


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return model(tmp_path / "model", 64)


def model(directory: Path, hidden: int) -> Path:
    """A folder with the config of a Llama model, and no weights."""
    directory.mkdir()
    config = {"model_type": "llama", "hidden_size": hidden, "num_attention_heads": 4, "vocab_size": 100}
    (directory / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForCausalLM"]}))
    return directory


def quiet(line: str) -> None:
    pass


FAST_BF16 = ((170e9, 97e9), (760e9, 260e9))
SLOW_BF16 = ((312e9, 200e9), (160e9, 127e9))


def test_what_was_measured_is_said_and_kept(base: Path, tmp_path: Path) -> None:
    fast, slow, said = Machine(*FAST_BF16), Machine(*SLOW_BF16), list[str]()
    findings = tmp_path / "machines"
    assert measured_dtype(base, findings, said.append, measure=fast) == "bfloat16"
    (line,) = said
    assert line.endswith(
        "GFLOP/s in the model's products of 512 and of 16 rows are float32 170 and 97, bfloat16 760 and 260; "
        "computing in bfloat16"
    )
    assert measured_dtype(base, findings, said.append, measure=slow) == "bfloat16", "as it was found first"
    assert (fast.times, slow.times, len(said)) == (1, 0, 1)
    (file,) = findings.glob("*.json")
    assert json.loads(file.read_text())["bfloat16"] == [760e9, 260e9]


def test_without_a_folder_nothing_is_kept(base: Path, tmp_path: Path) -> None:
    slow = Machine(*SLOW_BF16)
    for _ in range(2):
        assert measured_dtype(base, None, quiet, measure=slow) == "float32"
    assert slow.times == 2
    assert [path.name for path in tmp_path.rglob("dtype_*")] == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: "\0" * len(text),
        lambda text: text.replace("170000000000.0", "0"),
        lambda text: text.replace("170000000000.0", "NaN"),
        lambda text: text.replace('"float32"', '"float16"'),
    ],
    ids=["empty", "torn", "a list", "zeros", "no rate", "not a number", "another dtype"],
)
def test_a_damaged_file_is_measured_anew(base: Path, tmp_path: Path, damage: Any) -> None:
    measured_dtype(base, tmp_path, quiet, measure=Machine(*FAST_BF16))
    (file,) = tmp_path.glob("*.json")
    file.write_text(damage(file.read_text()))
    slow, said = Machine(*SLOW_BF16), list[str]()
    for _ in range(2):
        assert measured_dtype(base, tmp_path, said.append, measure=slow) == "float32"
    assert slow.times == 1
    assert said[0] == f"{file} is damaged: measuring anew"
    assert len(said) == 2


def test_a_finding_of_another_machine_under_its_name_is_not_taken(base: Path, tmp_path: Path) -> None:
    measured_dtype(base, tmp_path, quiet, measure=Machine(*FAST_BF16))
    (file,) = tmp_path.glob("*.json")
    content = json.loads(file.read_text())
    content["machine"]["threads"] += 1
    file.write_text(json.dumps(content))
    assert measured_dtype(base, tmp_path, quiet, measure=Machine(*SLOW_BF16)) == "float32"


@pytest.mark.parametrize("other", ["processor", "instructions", "threads", "torch", "model"])
def test_each_machine_and_model_has_a_finding_of_its_own(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    here: dict[str, Any] = {"cpu_name": "One", "avx512_bf16": True, "avx2": True, "l2_cache_size": 1}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: here)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    findings = tmp_path / "machines"
    assert measured_dtype(base, findings, quiet, measure=Machine(*FAST_BF16)) == "bfloat16"
    with monkeypatch.context() as there:
        if other == "processor":
            there.setitem(here, "cpu_name", "Other")
        elif other == "instructions":
            there.setitem(here, "avx512_bf16", False)
        elif other == "threads":
            there.setattr(torch, "get_num_threads", lambda: 1)
        elif other == "torch":
            there.setattr(torch, "__version__", "9.9")
        asked = model(tmp_path / "other", 128) if other == "model" else base
        assert measured_dtype(asked, findings, quiet, measure=Machine(*SLOW_BF16)) == "float32"
    assert measured_dtype(base, findings, quiet, measure=Machine(*SLOW_BF16)) == "bfloat16"
    assert len(list(findings.glob("*.json"))) == 2


def test_of_two_that_ask_at_once_one_measures(base: Path, tmp_path: Path) -> None:
    waits, began = Event(), Event()
    fast, slow = Machine(*FAST_BF16), Machine(*SLOW_BF16)

    def measure_late(works: tuple[MatrixWork, MatrixWork]) -> Mapping[DtypeName, Rates]:
        began.set()
        assert waits.wait(60)
        return fast(works)

    def told(line: str) -> None:
        if line.startswith("Waiting for the measurement of this machine"):
            waits.set()

    with ThreadPoolExecutor(2) as both:
        first = both.submit(measured_dtype, base, tmp_path, quiet, measure=measure_late)
        assert began.wait(60)
        second = both.submit(measured_dtype, base, tmp_path, told, measure=slow)
        assert (first.result(), second.result()) == ("bfloat16", "bfloat16")
    assert (fast.times, slow.times) == (1, 0)


@pytest.mark.parametrize(
    ("compute", "device", "native", "dtype"),
    [
        ("float32", "cuda", True, "float32"),
        ("bfloat16", "cuda", False, "bfloat16"),
        ("auto", "cuda", True, "bfloat16"),
        ("auto", "cuda", False, "float32"),
        ("float32", "cpu", True, "float32"),
        ("bfloat16", "cpu", True, "bfloat16"),
        ("auto", "cpu", True, "measured"),
    ],
)
def test_only_auto_on_a_processor_is_measured(
    monkeypatch: pytest.MonkeyPatch, compute: Any, device: str, native: bool, dtype: str
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    def measured(base: Path, findings: Path | None, say: Say) -> str:
        assert (base, findings) == (Path("base"), Path("findings"))
        return "measured"

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(dtype_finding, "measured_dtype", measured)
    asked = ComputeConfig(dtype=compute)
    assert resolve_dtype(asked, torch.device(device), Path("base"), findings=Path("findings"), say=quiet) == dtype


def test_this_machine_can_be_measured(base: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = measured_dtype(base, tmp_path, said.append)
    assert first in ("float32", "bfloat16")
    assert measured_dtype(base, tmp_path, said.append) == first
    assert len(said) == 1


def test_rates_are_the_better_of_kept_and_now_and_nothing_is_written(base: Path, tmp_path: Path) -> None:
    fast, slow, findings = Machine(*FAST_BF16), Machine(*SLOW_BF16), tmp_path / "machines"
    config = read_model_config(base)
    assert rates_here(config, findings, quiet, measure=fast) == ("bfloat16", fast.rates, False)
    assert not findings.exists()
    measured_dtype(base, findings, quiet, measure=slow)
    dtype, rates, kept = rates_here(config, findings, quiet, measure=fast)
    assert (dtype, kept) == ("float32", True), "the dtype that was kept is what is computed in"
    assert rates == {
        name: tuple(max(pair) for pair in zip(fast.rates[name], slow.rates[name], strict=True))
        for name in ("float32", "bfloat16")
    }
    assert rates not in (fast.rates, slow.rates)
