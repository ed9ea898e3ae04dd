"""Contenders take turns, each in its own process, and warm-up rounds are thrown away."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from itool_pipeline_tests.bench.contenders import Contender, ContenderError, compare, median_round
from itool_pipeline_tests.bench.worker import Finished, Options, Turns


def play_noting(options: Options, turns: Turns) -> None:
    """Writes its name into a file that all contenders share."""
    number = 0
    while True:
        turns.await_turn()
        with Path(options["file"]).open("a") as file:
            file.write(options["name"])
        print("what a library prints is no answer")
        turns.report(number=number)
        number += 1


def play_failing(options: Options, turns: Turns) -> None:
    """Ends before its first round."""
    raise RuntimeError("there is no such model")


def test_contenders_take_turns_and_warm_ups_do_not_count(tmp_path: Path) -> None:
    order = tmp_path / "order"
    contenders = [Contender(name, play_noting, {"file": str(order), "name": name}) for name in "ab"]
    found = compare(contenders, rounds=2, warm_ups=1, logs=tmp_path / "logs")
    assert order.read_text() == "ababab"
    assert {name: [figures["number"] for figures in rounds] for name, rounds in found.items()} == {
        "a": [1, 2],
        "b": [1, 2],
    }
    assert all(figures["peak_memory_mb"] > 1 for rounds in found.values() for figures in rounds)


def test_another_version_of_the_project_plays_by_its_own_code(tmp_path: Path) -> None:
    here = Path(__file__).parent
    there = tmp_path / "itool_pipeline_tests" / "bench"
    there.mkdir(parents=True)
    for package in (there, there.parent):
        (package / "__init__.py").touch()
    (there / "worker.py").write_text((here / "worker.py").read_text())
    (there / here.joinpath(__file__).name).write_text(
        "def play_noting(options, turns):\n    turns.await_turn()\n    turns.report(number=99)\n"
    )
    other = Contender("beside", play_noting, checkout=tmp_path)
    assert compare([other], rounds=1, warm_ups=0, logs=tmp_path / "logs")["beside"][0]["number"] == 99


def test_a_contender_that_ends_is_named_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match=r"(?s)^trl ended.*there is no such model"):
        compare([Contender("trl", play_failing)], rounds=1, warm_ups=0, logs=tmp_path)


def test_what_comes_after_the_clock_was_stopped_is_not_part_of_a_round() -> None:
    said = io.StringIO()
    turns = Turns(io.StringIO("go\n"), said)
    turns.await_turn()
    turns.stop_clock()
    time.sleep(0.2)
    turns.report()
    assert json.loads(said.getvalue().splitlines()[1])["wall_s"] < 0.1
    with pytest.raises(Finished):
        turns.await_turn()


def test_the_median_round_has_the_peak_memory_of_all() -> None:
    rounds = [{"wall_s": wall, "peak_memory_mb": peak} for wall, peak in ((3.0, 1.0), (1.0, 7.0), (2.0, 4.0))]
    assert median_round(rounds) == {"wall_s": 2.0, "peak_memory_mb": 7.0}
    assert median_round(rounds[:2])["wall_s"] == 1.0
