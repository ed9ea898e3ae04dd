"""`init FILE` says what a file holds and writes an experiment for it; the forecast works on what it wrote."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from itool_pipeline import __main__ as command_line
from itool_pipeline.config import ToolAceData, XlamData
from itool_pipeline.data.sources import load_data
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline_tests.data.rows_in_layouts import LAYOUT, ROWS, WEATHER


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where experiments are written."""
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path / "experiments"))
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path / "storage"))
    return tmp_path / "experiments"


class Said:
    """What a command printed, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["itool_pipeline", *map(str, arguments)])
        self.code = command_line.main()
        self.out, self.err = capsys.readouterr()


def test_a_path_that_no_experiment_can_name_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "caf\udce9.jsonl", ROWS["openai"])
    said = Said(capsys, monkeypatch, "init", path)
    assert (said.code, said.out, folder.exists()) == (2, "", False)
    assert "is no text in UTF-8, so no experiment can name it; rename it" in said.err


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ROWS)
def test_every_layout_from_file_to_forecast(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / f"our {name}.v1.jsonl", ROWS[name], ROWS[name])
    said = Said(capsys, monkeypatch, "init", path)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"layout: {LAYOUT.get(name, 'chat')}\n")
    examples = "2 examples (2 single_call)" if name == "xlam" else "4 examples (2 no_call, 2 single_call)"
    assert f"rows: 2, of which 2 give {examples}\nnot read: 0 rows or turns\n" in said.out
    made = folder / f"our_{name}.v1.yaml"
    assert [made] == list(folder.glob("*.yaml"))
    assert str(made) in said.out
    experiment = load_experiment(made.stem)
    kinds = {"toolace": ToolAceData, "xlam": XlamData}
    assert isinstance(experiment.data, kinds.get(name, type(experiment.data)))
    loaded = load_data(experiment.data, tmp_path, seed=0)
    assert len(loaded.train) == (2 if name == "xlam" else 4)
    assert Said(capsys, monkeypatch, "plan", made.stem).code == 0


def test_what_is_not_read_is_counted_with_the_first_position(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = {"messages": ROWS["trl"]["messages"], "tools": [{**WEATHER, "name": "other"}]}
    path = written(tmp_path / "own.jsonl", ROWS["trl"], {"messages": []}, 3, 4, unknown, ROWS["glaive"], ROWS["swift"])
    with path.open("a") as file:
        file.write("{broken\n")
    said = Said(capsys, monkeypatch, "init", path)
    assert said.code == 0
    assert said.out.splitlines()[:12] == [
        "layout: chat",
        "  2 × OpenAI chat, tool_calls",
        "  1 × messages, turns of the role tool_call",
        "  4 rows in another layout: none that is known",
        "  1 rows in another layout: glaive",
        "rows: 8, of which 3 give 5 examples (3 no_call, 2 single_call)",
        "not read: 6 rows or turns",
        "  2 × no messages (first: line 2)",
        "  2 × not a JSON object (first: line 3)",
        "  1 × calls what is not among the tools: ['get_weather'] (first: line 5, turn 1)",
        "  1 × not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1) (first: line 8)",
        "",
    ]
    assert "55% cannot be read, and data.max_quarantined is 10%: the run would stop after `examples`." in said.err


def test_guessed_columns_stand_in_the_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"dialog": ROWS["trl"]["messages"], "apis": ROWS["trl"]["tools"]}
    said = Said(capsys, monkeypatch, "init", written(tmp_path / "own.jsonl", row))
    assert "  messages are taken from the column `dialog`: a guess\n" in said.out
    assert "  tools are taken from the column `apis`: a guess\n" in said.out
    data = yaml.safe_load((folder / "own.yaml").read_text())["data"]
    assert data["columns"] == {"messages": "dialog", "tools": "apis"}
    assert len(load_data(load_experiment("own").data, tmp_path, seed=0).train) == 2


def test_nothing_is_overwritten_and_a_name_may_be_given(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "own.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(ROWS["openai"]).encode()))
    assert Said(capsys, monkeypatch, "init", packed).code == 0
    before = (folder / "own.yaml").read_text()
    again = Said(capsys, monkeypatch, "init", packed)
    assert again.code == 2
    assert "there is an experiment own already; give this one another name with --name" in again.err
    assert (folder / "own.yaml").read_text() == before
    assert Said(capsys, monkeypatch, "init", packed, "--name", "second").code == 0
    assert load_experiment("second").data == load_experiment("own").data
    bad = Said(capsys, monkeypatch, "init", packed, "--name", "../third")
    assert (bad.code, "cannot be an experiment's name" in bad.err) == (2, True)
    (folder / "with.yaml").write_text("extends: own\nablations: [small]\n")
    (folder / "small.yaml").write_text("extends: own\nseed: 3\n")
    taken = Said(capsys, monkeypatch, "init", packed, "--name", "with__small")
    assert (taken.code, "there is an experiment with__small already" in taken.err) == (2, True)


def test_without_a_folder_of_ones_own_it_goes_into_the_storage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ITOOL_EXPERIMENTS")
    path = written(tmp_path / "demo.jsonl", ROWS["openai"])
    shipped = Said(capsys, monkeypatch, "init", path)
    assert (shipped.code, "there is an experiment demo already" in shipped.err) == (2, True)
    assert Said(capsys, monkeypatch, "init", path, "--name", "ours").code == 0
    assert (tmp_path / "storage" / "experiments" / "ours.yaml").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ("There is no file", "own.jsonl")),
        (b"", ("holds no row: the file is empty",)),
        (b"a,b\n1,2\n", ("is no JSON", "`a,b`")),
        (b"PK\x03\x04", ("zip archive",)),
        (b'{"text": "x", "label": 1}\n{"text": "y"}\n', (
            "none of its 2 rows is in a layout that is known; its keys are text, label", "Glaive's `chat`",
            "`prompt` and `completion`", "xLAM's `query`", "data.columns",
        )),
        (b"[1, 2]", ("none of its 2 rows is in a layout that is known; none of them is a JSON object (row 0: not a",)),
        (b'{"messages": [{"role": "user", "content": "x"}]}\n', (
            "no row gives an example to train on, so no experiment is written", "1 × no assistant turn (first: line 1)",
        )),
    ],
)  # fmt: skip
def test_what_no_experiment_is_written_for(
    content: bytes | None,
    words: tuple[str, ...],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "own.jsonl"
    if content is not None:
        path.write_bytes(content)
    said = Said(capsys, monkeypatch, "init", path)
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err
    for one in words:
        assert one in said.err
    assert not folder.exists()
