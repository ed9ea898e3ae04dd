"""`run NAME --set key=value` makes an experiment file, and refuses what a file would be refused for."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from itool_pipeline import __main__ as command_line
from itool_pipeline.commands import run as run_command
from itool_pipeline.config import Experiment
from itool_pipeline.experiment_files import ConfigError, experiment_names, load_experiment
from itool_pipeline.steps.plan import plan
from itool_pipeline.variants import make_variant, write_variant

RATE = "preference.optimizer.learning_rate"


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ITOOL_EXPERIMENTS", raising=False)
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path))
    return tmp_path


def written(base: str, *settings: str, name: str | None = None) -> Path:
    variant = make_variant(base, settings, name)
    write_variant(variant)
    return variant.path


def refused(base: str, *settings: str, name: str | None = None) -> str:
    before = experiment_names()
    with pytest.raises(ConfigError) as caught:
        make_variant(base, settings, name)
    assert experiment_names() == before
    return str(caught.value)


def test_a_variant_is_the_experiment_with_these_keys_under_a_readable_name(storage: Path) -> None:
    path = written("demo", f"{RATE}=1e-5", "iterations=1")
    assert path == storage / "experiments" / "demo__learning_rate_1e-5__iterations_1.yaml"
    base, variant = load_experiment("demo"), load_experiment(path.stem)
    assert variant.preference.optimizer.learning_rate == 1e-5
    assert variant.iterations == 1
    assert variant.description == f"demo with {RATE}=1e-5, iterations=1"
    optimizer = base.preference.optimizer.model_copy(update={"learning_rate": 1e-5})
    preference = base.preference.model_copy(update={"optimizer": optimizer})
    same = {"name": path.stem, "description": variant.description, "iterations": 1, "preference": preference}
    assert variant == base.model_copy(update={**same, "scheduled": False})


def test_what_does_not_change_is_shared_with_the_base() -> None:
    ours, theirs = plan(load_experiment(written("demo", "iterations=1").stem)), plan(load_experiment("demo"))
    assert "iteration_2/policy" not in ours
    assert ours["iteration_1/policy"].fingerprint == theirs["iteration_1/policy"].fingerprint


def test_a_variant_is_a_partition() -> None:
    path = written("demo", "iterations=1")
    code = "from itool_pipeline.defs.partitions import experiments; print(*experiments.get_partition_keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert path.stem in done.stdout.split()
    assert "demo" in done.stdout.split()


def test_the_users_folder_takes_the_variants_of_its_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.yaml").write_text("extends: demo\nseed: 5\n")
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(own))
    assert written("mine", "iterations=0") == own / "mine__iterations_0.yaml"
    again = written("mine__iterations_0", "seed=6")
    assert again.name == "mine__iterations_0__seed_6.yaml"
    assert (load_experiment(again.stem).seed, load_experiment(again.stem).iterations) == (6, 0)
    assert experiment_names() == ["mine", "mine__iterations_0", "mine__iterations_0__seed_6"]


def test_the_same_again_is_the_same_file() -> None:
    path = written("demo", f"{RATE}=1e-5", name="slow")
    path.write_text(f"# a note\n{path.read_text()}")
    before = path.read_text()
    assert written("demo", f"{RATE}=0.00001", name="slow") == path
    assert path.read_text() == before


@pytest.mark.parametrize("name", ["slow", "dpo", "demo"])
def test_another_content_does_not_take_a_name(name: str) -> None:
    written("demo", "iterations=1", name="slow")
    said = refused("demo", "iterations=2", name=name)
    assert said.endswith(f"{name}.yaml: there is another experiment of this name already; give this one one with --as")


def test_two_keys_with_one_last_part_do_not_share_a_file() -> None:
    written("demo", "warmup.optimizer.learning_rate=1e-5")
    assert "demo__learning_rate_1e-5.yaml: there is another experiment" in refused("demo", f"{RATE}=1e-5")


@pytest.mark.parametrize("value", ['"1e-5"', "'a: b'", "caf\u00e9", "'#'", "'yes'", "'3'", "''"])
def test_what_is_written_is_what_was_checked(value: str) -> None:
    """Text that looks like something else is text still, when the file is read."""
    path = written("demo", f"description={value}", name="said")
    assert load_experiment(path.stem).description == value.strip("'\"")


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("preference.optimiser.learning_rate=1", "demo --set: preference."),
        (f"{RATE}=fast", f"demo --set: {RATE}: Input should be a valid number"),
        ("iterations=9", "demo --set: iterations: Input should be less than or equal to 5 (given: 9)"),
        ("name=x", "demo --set: name: the file's name is the experiment's name"),
        ("extends=dpo", "--set extends: what is extended is the experiment itself"),
        ("iterations", "--set iterations: must be key=value"),
        ("=3", "--set =3: must be key=value"),
        ("seed={", "--set seed: the value cannot be read as YAML"),
        ("seed=", "demo --set: seed: Input should be a valid integer (given: None)"),
        ("a..b=3", "--set a..b=3: must be key=value"),
    ],
)
def test_errors_name_the_key_and_the_reason(setting: str, reason: str) -> None:
    assert refused("demo", setting).startswith(reason)


def test_a_key_is_set_once() -> None:
    assert refused("demo", "seed=1", "seed=2") == "--set seed: is set twice"
    assert refused("demo", "seed=1", "seed.x=2") == "--set seed.x: seed is set already, as a whole"
    assert refused("demo", "split.x=1", "split=2") == "--set split: is set twice"


def test_an_unknown_base_is_named_beside_the_known() -> None:
    assert "dmo.yaml: no such experiment; there are: bfcl_half" in refused("dmo", "seed=1")


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "a b", "x" * 200])
def test_names_that_are_no_names(name: str) -> None:
    assert "cannot be an experiment's name: give one with --as" in refused("demo", "seed=1", name=name)


def asked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, list[Experiment]]:
    """What the command line answers, and which experiments it would run."""
    run: list[Experiment] = []

    def instead(parsed: argparse.Namespace) -> int:
        run.append(run_command._asked_experiment(parsed))
        return 0

    monkeypatch.setattr(run_command, "run", instead)
    monkeypatch.setattr(sys, "argv", ["itool_pipeline", *arguments])
    return command_line.main(), run


def test_the_command_line_runs_the_variant(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("run", "demo", "--set", f"{RATE}=1e-5", "--set", "iterations=1", "--as", "slow")
    for _ in range(2):
        code, (experiment,) = asked(monkeypatch, *arguments)
        assert (code, experiment.name, experiment.iterations) == (0, "slow", 1)
    assert capsys.readouterr().out == f"slow: {storage / 'experiments' / 'slow.yaml'}\n" * 2
    assert asked(monkeypatch, "run", "demo") == (0, [load_experiment("demo")])


def test_the_command_line_checks_without_writing(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(monkeypatch, "check", "demo", "--set", "iterations=1") == (0, [])
    assert capsys.readouterr().out == "ok  demo__iterations_1: demo with iterations=1\n"
    assert not (storage / "experiments").exists()
    assert asked(monkeypatch, "check", "demo", "--set", "iterations=9")[0] == 2
    assert capsys.readouterr().err.startswith("demo --set: iterations: Input should be less")
    assert asked(monkeypatch, "check", "demo")[0] == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert asked(monkeypatch, "check", "--set", "seed=1")[0] == 2
    assert asked(monkeypatch, "run", "demo", "--as", "slow") == (2, [])
