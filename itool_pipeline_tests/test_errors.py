"""Every error is for someone: for a person who can act on it, for a caller that handles it, or for us."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

import itool_pipeline
from itool_pipeline import __main__ as command_line
from itool_pipeline.commands import check
from itool_pipeline.defs.errors import explained
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.errors import ActionableError, words_for
from itool_pipeline.experiment_files import ConfigError

HANDLED = {
    "itool_pipeline.calls.types.ToolCallSyntaxError": "what the model writes is judged by it, and never stops a run",
    "itool_pipeline.steps.writing.NotWritable": "its example is left out and counted, with the reason",
    "itool_pipeline.data.rows.RowError": "its reader puts the row into quarantine, with the reason",
    "itool_pipeline.steps.workspace.UndeclaredInput": "a mistake of ours: the trace shows which step reads",
    "itool_pipeline.comparison.differences.DifferentCases": "the table says of the two why they are not compared",
    "itool_pipeline.files.ticket_lock._Stop": "whoever held the lock that is lost is stopped, and raises LockLost",
    "itool_pipeline.files.config_yaml.UnreadableYaml": "whoever reads a file or an option names it, in a ConfigError",
    "itool_pipeline.calls.arithmetic.CodeRefused": "the checker makes it the verdict on an output",
    "itool_pipeline.engines.endpoint.client._Unusable": "the request is made again, and at last told in a ModelError",
}
"""Errors that are not for people, and why."""

WITH_VLLM = {"itool_pipeline.engines.vllm_core", "itool_pipeline.engines.vllm_draws"}
"""Modules that only a process with the extra `vllm` loads."""

MODULES = sorted(
    {module.name for module in pkgutil.walk_packages(itool_pipeline.__path__, "itool_pipeline.")}
    - (set() if importlib.util.find_spec("vllm") else WITH_VLLM)
)


def own_errors() -> set[type[BaseException]]:
    """Every exception class that a module of the package defines."""
    found = (inspect.getmembers(importlib.import_module(name), inspect.isclass) for name in MODULES)
    return {
        item
        for members in found
        for _, item in members
        if issubclass(item, BaseException) and item.__module__.startswith("itool_pipeline.")
    }


def test_every_error_is_actionable_or_is_handled_for_a_stated_reason() -> None:
    names = {f"{error.__module__}.{error.__qualname__}" for error in own_errors() if not is_actionable(error)}
    assert names == HANDLED.keys()
    assert len(own_errors()) > len(HANDLED) + 10


def is_actionable(error: type[BaseException]) -> bool:
    return issubclass(error, ActionableError)


def test_every_actionable_error_says_what_it_is_about() -> None:
    assert all(error.__doc__ for error in own_errors())


@pytest.mark.parametrize("error", sorted(filter(is_actionable, own_errors()), key=str), ids=lambda e: e.__name__)
def test_dagster_shows_an_actionable_error_as_its_sentence(error: type[ActionableError]) -> None:
    with pytest.raises(dg.Failure) as shown, explained():
        raise error("the disk is full: free some")
    assert shown.value.description == "the disk is full: free some"
    assert not shown.value.allow_retries


def test_a_mistake_of_ours_keeps_its_trace() -> None:
    with pytest.raises(KeyError, match="ours"), explained():
        raise KeyError("ours")


@pytest.mark.parametrize("error", [ConfigError, ModelError])
def test_the_command_line_prints_the_sentence_and_ends_with_2(
    error: type[ActionableError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise error("no such model: correct model.name")

    monkeypatch.setattr(check, "check", fail)
    monkeypatch.setattr("sys.argv", ["itool_pipeline", "check"])
    assert command_line.main() == 2
    assert capsys.readouterr().err == "no such model: correct model.name\n"


def test_a_reader_that_has_had_enough_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `head`, be it in the midst of what is printed or at its end."""
    monkeypatch.setattr("sys.argv", ["itool_pipeline", "check"])
    for lines in (1, 100_000):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as closed, monkeypatch.context() as here:
            here.setattr("sys.stdout", closed)
            here.setattr(check, "check", lambda _, lines=lines: print("a line\n" * lines) or 0)
            assert command_line.main() == 128 + signal.SIGPIPE
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the device that is always full")
def test_a_full_disk_behind_what_is_printed_is_told(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "itool_pipeline", "check", "demo"]
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(asked, env=os.environ, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr.startswith("No space left on device. Free some space")


def test_a_user_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError) as caught:
        Path("~nobody of that name/x").expanduser()
    assert (words_for(caught.value) or "").endswith("Write the path out.")


def test_a_broken_pipe_to_another_is_still_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(check, "check", fail)
    monkeypatch.setattr("sys.argv", ["itool_pipeline", "check"])
    assert command_line.main() == 2
    assert "Broken pipe" in capsys.readouterr().err


def test_what_a_terminal_cannot_show_is_spelled_out(tmp_path: Path) -> None:
    """In ASCII, or with a name that is no text."""
    (tmp_path / "mine.yaml").write_text("description: caf\u00e9\nextends: demo\n", encoding="utf-8")
    asked = [sys.executable, "-m", "itool_pipeline", "check", "mine"]
    variables = {"PYTHONIOENCODING": "ascii", "ITOOL_EXPERIMENTS": str(tmp_path), "ITOOL_STORAGE": str(tmp_path)}
    said = subprocess.run(asked, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    assert said.stdout == "ok  mine: caf\\xe9\n"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EEXIST, r"^File exists: /a/b\. There is something of that name already: .* then run again\.$"),
        (errno.EUCLEAN, r": /a/b\. The disk does not read or write there: .* then run again\.$"),
        (errno.EBADMSG, r": /a/b\. The disk does not read or write there: .* then run again\.$"),
        (errno.ESTALE, r": /a/b\. The file server has lost sight of it: .* then run again\.$"),
        (errno.ENAMETOOLONG, r"^File name too long: /a/b\. Choose a shorter name, then run again\.$"),
        (errno.ELOOP, r"/a/b\. A link leads back to itself: remove it"),
    ],
)
def test_what_the_system_refuses_is_a_persons_to_mend(number: int, words: str) -> None:
    assert re.search(words, words_for(OSError(number, os.strerror(number), "/a/b")) or "")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT]", "No space left on device .*Free some"),
        ("(sqlite3.OperationalError) attempt to write a readonly database", "Read-only file system .*Let the user"),
        ("(sqlite3.OperationalError) disk I/O error", "Input/output error .*look at it"),
        ("(sqlite3.OperationalError) unable to open database file\n[SQL: PRAGMA]", "A database .* inodes .*run again"),
    ],
)
def test_what_a_library_says_of_the_disk_is_a_persons_to_mend(said: str, words: str) -> None:
    told = words_for(RuntimeError(said))
    assert told is not None
    assert re.match(words, told), told
    assert "\n" not in told
