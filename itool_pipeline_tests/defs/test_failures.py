"""Whatever stops a run, the run ends, with 1, and its last words are the cause and what to do."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import duckdb
import pytest
import yaml

from itool_pipeline import __main__ as command_line
from itool_pipeline.commands import run as run_command
from itool_pipeline.definitions import defs
from itool_pipeline.defs import checks as asset_checks
from itool_pipeline.defs import executors
from itool_pipeline.defs.errors import is_explained, words_of
from itool_pipeline.defs.partitions import NoExperiment
from itool_pipeline.defs.resources import GPU_POOL
from itool_pipeline.defs.step_compute import _asking
from itool_pipeline.steps import checks, prepare
from itool_pipeline.store.database import Database

Row = dict[str, Any]
GOOD: Row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
BAD: Row = {"messages": 7}
NAME = "demo"
"""One of the names that the definitions know; its file is written here."""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that Dagster's own files and the base model are made once."""
    return tmp_path_factory.mktemp("storage")


class Trial:
    """An experiment on a file of conversations, to be broken and run."""

    def __init__(
        self, folder: Path, model: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self.folder, self.model, self.patch, self._capsys = folder, folder / "model", patch, capsys
        shutil.copytree(model, self.model, copy_function=os.link)
        self.data = folder / "data.jsonl"
        self.write([GOOD] * 3)
        self.config: Row = {
            "model": {"type": "hub", "name": str(self.model)},
            "data": {"type": "jsonl", "path": str(self.data)},
            "evaluation": {"bfcl": None},
        }

    def write(self, rows: list[Row]) -> None:
        self.data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, and what is printed on both channels."""
        (self.folder / f"{NAME}.yaml").write_text(yaml.safe_dump(self.config))
        self.patch.setattr("sys.argv", ["itool_pipeline", *arguments])
        self._capsys.readouterr()
        code = command_line.main()
        return code, *self._capsys.readouterr()

    def run(self, *, looked_before: bool = False) -> str:
        """The last words of a run that must fail. What is looked for before a run is found in its steps as well."""
        with pytest.MonkeyPatch.context() as patch:
            if not looked_before:
                patch.setattr(run_command, "obstacles", lambda *_: [])
            code, _, said = self.command("run", NAME)
        assert code == 1, said
        mark = "nothing was begun" if looked_before else "The run failed after"
        head, found, last = said.rpartition(mark)
        assert found, said
        assert "Traceback" not in last
        assert "Stack Trace" not in last
        self.before = head
        told = last.partition("\n")[2].strip()
        if not looked_before:
            assert_the_ui_says_it_last(told)
        return told


def assert_the_ui_says_it_last(told: str) -> None:
    """What is said last is the end of the last event of the run's page."""
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs(limit=1)
        entries = [entry for entry in instance.all_logs(run.run_id) if entry.level >= logging.ERROR]
    *_, last = entries
    assert last.dagster_event is not None
    assert last.dagster_event.event_type == dg.DagsterEventType.RUN_FAILURE
    assert last.message.endswith(told.splitlines()[0] if "run: " not in told else told.partition("run: ")[2])
    assert not [entry for entry in entries if "Not executing" in entry.message]


@pytest.fixture
def trial(
    storage: Path,
    tmp_path: Path,
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Trial:
    for variable in ("ITOOL_STORAGE", "DAGSTER_HOME"):
        monkeypatch.setenv(variable, str(storage))
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    monkeypatch.setattr(prepare, "asked_in_tests", lambda *_: frozenset())
    return Trial(tmp_path, tiny_model_dir, capsys, monkeypatch)


def no_such_data(t: Trial) -> None:
    t.data.unlink()


def folder_for_data(t: Trial) -> None:
    t.data.unlink()
    t.data.mkdir()


def empty_data(t: Trial) -> None:
    t.write([])


def data_in_another_layout(t: Trial) -> None:
    t.data.write_bytes("{}\n".encode("utf-16"))


def no_such_model(t: Trial) -> None:
    shutil.rmtree(t.model)


def model_without_weights(t: Trial) -> None:
    (t.model / "model.safetensors").rename(t.model / "model.bin")


def damaged_weights(t: Trial) -> None:
    weights = (t.model / "model.safetensors").read_bytes()
    (t.model / "model.safetensors").unlink()
    (t.model / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def part_of_the_weights(t: Trial) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (t.model / "model.safetensors.index.json").write_text(json.dumps(index))


def an_adapter(t: Trial) -> None:
    (t.model / "config.json").unlink()
    (t.model / "adapter_config.json").write_text("{}")


def no_tokenizer(t: Trial) -> None:
    (t.model / "tokenizer_config.json").unlink()


def without_the_tokenizers_file(t: Trial) -> None:
    (t.model / "tokenizer.json").unlink()


def damaged_tokenizer(t: Trial) -> None:
    replace(t.model / "tokenizer.json", (t.model / "tokenizer.json").read_bytes()[:1000])


def damaged_chat_template(t: Trial) -> None:
    replace(t.model / "chat_template.jinja", b"\xff\xfe{\x00}\x00")


def config_of_another_type(t: Trial) -> None:
    config = json.loads((t.model / "config.json").read_text())
    replace(t.model / "config.json", json.dumps({**config, "hidden_size": "many"}).encode())


def config_nested_too_deep(t: Trial) -> None:
    replace(t.model / "config.json", b"[" * 9000)


def replace(file: Path, content: bytes) -> None:
    """Not in place, as it is one of a file that the tests share."""
    file.unlink()
    file.write_bytes(content)


def no_chat_template(t: Trial) -> None:
    (t.model / "chat_template.jinja").unlink()


def no_own_calls(t: Trial) -> None:
    t.config["evaluation"]["calls"] = {"path": str(t.folder / "nowhere.jsonl")}


def folder_for_own_calls(t: Trial) -> None:
    t.config["evaluation"]["calls"] = {"path": str(t.folder)}


def no_api_bank(t: Trial) -> None:
    t.config["evaluation"]["api_bank"] = {"path": str(t.folder)}


def no_gpu(t: Trial) -> None:
    t.config["compute"] = {"device": "cuda"}


SEEN_BEFORE: dict[Callable[[Trial], None], str] = {
    no_such_data: r"There is no file .*data\.jsonl\. Correct data\.path",
    folder_for_data: r"data\.jsonl is a folder.* Correct data\.path",
    empty_data: r"data\.jsonl: holds no row.* Read are",
    data_in_another_layout: r"data\.jsonl.*UTF-16; save it as UTF-8",
    no_such_model: r"The model directory .* does not exist\. Correct model\.name",
    model_without_weights: r"holds no \*\.safetensors: it has model\.bin.* Save the model there",
    damaged_weights: r"model\.safetensors is damaged or cut off.* Download or copy it again",
    part_of_the_weights: r"lacks 1 of the 2 files.*model-00002-of-00002\.safetensors first\. Download",
    an_adapter: r"is a LoRA adapter and no model\. Merge it",
    no_tokenizer: r"has no tokenizer_config\.json.* Save it there",
    without_the_tokenizers_file: r"holds no tokenizer that transformers reads \(.*\); save or fetch it again",
    damaged_tokenizer: r"holds no tokenizer that transformers reads \(.*\); save or fetch it again",
    damaged_chat_template: r"holds no tokenizer that transformers reads \(.*\); save or fetch it again",
    config_of_another_type: r"config\.json is no config that transformers reads .*hidden_size",
    config_nested_too_deep: r"config\.json cannot be read: maximum recursion depth .* Download or copy it again",
    no_chat_template: r"no chat template.*use an instruction-tuned model",
    no_own_calls: r"There is no file .*nowhere\.jsonl\. Correct evaluation\.calls\.path",
    folder_for_own_calls: r"is a folder.* Correct evaluation\.calls\.path",
    no_api_bank: r"There is no file .*api_descriptions\.json\. Correct evaluation\.api_bank\.path",
}


@pytest.mark.parametrize(("break_it", "words"), SEEN_BEFORE.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_what_is_not_there_is_said_by_check_before_a_run_and_in_it(
    trial: Trial, break_it: Callable[[Trial], None], words: str
) -> None:
    assert trial.command("check", NAME)[:2] == (0, f"ok  {NAME}: \n")
    break_it(trial)
    code, said, _ = trial.command("check", NAME)
    assert code == 1
    assert said.startswith(f"bad {NAME}\n")
    assert len(said.splitlines()) == 2
    for told in (said, trial.run(looked_before=True), trial.run()):
        assert_words(told.strip().splitlines()[-1], words)


def assert_words(told: str, words: str) -> None:
    assert re.search(words, told), told


def test_a_device_that_is_not_there(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    no_gpu(trial)
    assert trial.command("check", NAME)[0] == 1
    assert_words(trial.run(looked_before=True), "torch sees no GPU; install torch's CUDA build or say auto")


def test_everything_that_is_missing_is_said_at_once(trial: Trial) -> None:
    for break_it in (no_such_data, no_such_model, no_own_calls, no_api_bank):
        break_it(trial)
    assert len(trial.run(looked_before=True).splitlines()) == 4


def nothing_left(t: Trial) -> None:
    t.write([BAD] * 3)


def much_quarantined(t: Trial) -> None:
    t.write([GOOD] * 7 + [BAD] * 3)


def own_calls_without_a_case(t: Trial) -> None:
    path = t.folder / "calls.jsonl"
    path.write_text(json.dumps(BAD) + "\n")
    t.config["evaluation"]["calls"] = {"path": str(path)}


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def full_disk(t: Trial) -> None:
    t.write([GOOD, GOOD])
    t.patch.setattr(prepare, "write_training_examples", raising(OSError(errno.ENOSPC, "No space left on device")))


def refused_by_the_system(t: Trial) -> None:
    t.write([GOOD] * 4)
    t.patch.setattr(prepare, "write_quarantine", raising(PermissionError(errno.EACCES, "Permission denied", "/x/y")))


def out_of_memory(t: Trial) -> None:
    t.write([GOOD] * 5)
    t.patch.setattr(prepare, "load_data", raising(MemoryError("Unable to allocate 9 GiB")))


def out_of_gpu_memory(t: Trial) -> None:
    import torch

    t.write([GOOD] * 6)
    t.patch.setattr(prepare, "load_data", raising(torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB")))


def locked_database(t: Trial) -> None:
    t.write([GOOD] * 8)
    held = duckdb.IOException("IO Error: Could not set lock on file: Conflicting lock is held in /bin/duckdb (PID 77)")
    t.patch.setattr("duckdb.connect", raising(held))
    t.patch.setitem(Database.__init__.__kwdefaults__, "wait_seconds", 0.2)


def no_lock_file(t: Trial) -> None:
    t.patch.setattr(executors, "sign_of_life", raising(PermissionError(errno.EACCES, "Permission denied", "/x/runs")))


WORDS: dict[Callable[[Trial], None], str] = {
    nothing_left: r"^examples: .*no training example is left\. .*3 of jsonl quarantined",
    much_quarantined: r"^quarantine/examples: .*30\.0% of the rows .*3 × .*Mend .* raise data\.max_quarantined",
    own_calls_without_a_case: r"^calls_cases: .*holds no case: 1 rows cannot be read.*docs/calls\.md",
    full_disk: r"^examples: The disk is full: .*Free some space",
    refused_by_the_system: r"^examples: Permission denied: /x/y\. Let the user of this process",
    out_of_memory: r"^examples: There is not enough memory \(Unable to allocate 9 GiB\)\. Lower compute\.batch_tokens",
    out_of_gpu_memory: r"^examples: There is not enough memory \(CUDA out of memory.*Lower",
    no_lock_file: r"^run: Permission denied: /x/runs\. Let the user of this process",
    locked_database: r"is still open in process 77 \(/bin/duckdb\) after .*Close it there",
}


@pytest.mark.parametrize(("break_it", "words"), WORDS.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_the_last_words_are_the_cause_and_the_remedy(
    trial: Trial, break_it: Callable[[Trial], None], words: str
) -> None:
    break_it(trial)
    (told,) = trial.run().splitlines()
    assert_words(told, words)
    assert "Stack Trace" not in trial.before, "a trace says nothing more to a person"
    assert "Not executing" not in trial.before


OURS = (
    r"KeyError: 'ours'\. This is a mistake in the program, not in your files; please report it with the trace above\.$"
)


@pytest.mark.parametrize("error", [KeyError("ours"), SystemExit(3)], ids=str)
def test_after_the_trace_of_a_mistake_comes_what_it_is(trial: Trial, error: BaseException) -> None:
    trial.write([GOOD] * 9)
    trial.patch.setattr(prepare, "load_data", raising(error))
    (told,) = trial.run().splitlines()
    assert told.startswith(f"examples: {type(error).__name__}: {error}")
    assert told.endswith("please report it with the trace above.")
    assert "load_data" in trial.before


def test_a_check_that_breaks(trial: Trial) -> None:
    trial.patch.setattr(checks, "source_account", raising(KeyError("ours")))
    (told,) = trial.run().splitlines()
    assert_words(told, rf"^quarantine/examples: {OURS}")
    assert "source_account" in trial.before


def test_a_database_that_is_none(trial: Trial, storage: Path) -> None:
    database = storage / "itool.duckdb"
    kept = database.rename(storage / "kept") if database.exists() else None
    database.write_bytes(b"nothing of the kind" * 1000)
    (told,) = trial.run().splitlines()
    assert_words(told, r"itool\.duckdb cannot be opened: .* move it away and run again")
    database.unlink()
    if kept:
        kept.rename(database)


def test_a_storage_that_cannot_be_written_to(trial: Trial, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    trial.patch.setenv("ITOOL_STORAGE", str(tmp_path / "file" / "storage"))
    words = r"Nothing can be written to .*file/storage: .*file is a file\. Point ITOOL_STORAGE"
    code, said, _ = trial.command("check", NAME)
    assert code == 1
    assert_words(said, words)
    assert_words(trial.run(looked_before=True), words)


def test_a_wheel_that_cannot_be_fetched(trial: Trial, tmp_path: Path) -> None:
    trial.patch.setenv("ITOOL_STORAGE", str(tmp_path / "other"))
    trial.patch.setenv("PIP_NO_INDEX", "1")
    trial.config["data"] = {"type": "bfcl_half"}
    told = trial.run()
    assert_words(told.splitlines()[-1], r"^examples: bfcl-eval.* could not be downloaded.* Check the network")


def test_what_the_config_does_not_know(trial: Trial) -> None:
    trial.config["data"] = {"type": "bfcl_half", "categories": ["simple_pyton"]}
    code, _, said = trial.command("run", NAME)
    assert code == 2
    assert_words(said.strip().splitlines()[-1], r"simple_pyton")
    code, out, _ = trial.command("check", NAME)
    assert code == 1
    assert "simple_pyton" in out


def test_a_check_that_blocks_says_what_it_found() -> None:
    told = asset_checks.told_problems("no_leak", "calls_cases", ["case 3 is asked", "case 4 too"], "Take it out.")
    assert told == "The check no_leak of calls_cases does not pass: case 3 is asked, and 1 more. Take it out."


def test_a_run_that_names_no_experiment(trial: Trial) -> None:
    """As `dg launch --job itool` without `--partition`."""
    trial.command("check", NAME)
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("itool").execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("base_model")], raise_on_error=False
        )
    error = result.failure_data_for_node("base_model").error
    assert is_explained(error)
    assert words_of(error).startswith("The run is for no single experiment: name one with `dg launch --job")
    assert f"there are {NAME}" in words_of(error)


def test_a_step_on_a_cluster_of_a_run_that_names_no_experiment() -> None:
    step: Any = SimpleNamespace(pool=GPU_POOL, tags={})
    with pytest.raises(NoExperiment, match="name one with"):
        _asking(step, {})
