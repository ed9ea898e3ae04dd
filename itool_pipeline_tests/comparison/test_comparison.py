"""Experiments on the same cases, over rows written by hand; what is expected was worked out on paper."""

from __future__ import annotations

import base64
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import dagster as dg
import pytest

from itool_pipeline import __main__ as command_line
from itool_pipeline.comparison.differences import (
    DifferentCases,
    Share,
    by_difficulty,
    by_member,
    calling,
    difference,
    differences,
    difficulties_of,
    mistakes,
    shifts,
)
from itool_pipeline.comparison.entrants import (
    Case,
    CurvePoint,
    Entered,
    Entrant,
    Member,
    config_without,
    parse_entrant,
    read_entrants,
)
from itool_pipeline.comparison.page import page_of
from itool_pipeline.comparison.pictures import _curves, pictures_of
from itool_pipeline.comparison.tables import TextTable, tables_of
from itool_pipeline.defs.comparison import comparison
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.statistics import wilson_interval
from itool_pipeline.store.database import Database
from itool_pipeline.store.paths import StoragePaths
from itool_pipeline_tests.store.by_hand import artifact, ask, load, rows


def test_names_of_entrants() -> None:
    assert parse_entrant("demo") == Entrant("demo", (Member("demo", ""),))
    assert parse_entrant("a@warmup + b@base").members == (Member("a", "warmup"), Member("b", "base"))
    for text in ("", "@warmup", "a+"):
        with pytest.raises(ValueError, match="write EXPERIMENT"):
            parse_entrant(text)


def right(*marks: int, category: str = "simple", member: int = 0) -> dict[tuple[int, str], Case]:
    return {
        (member, f"{category}{i}"): Case(category, bool(mark), "" if mark else "tool_name", True, True)
        for i, mark in enumerate(marks)
    }


def test_a_difference_by_hand() -> None:
    first, second = right(1, 1, 0, 0, 0), right(1, 0, 1, 1, 1)
    found = difference(first, second)
    assert (found.category, found.cases, found.won, found.lost) == ("all", 5, 3, 1)
    assert found.value == pytest.approx(2 / 5)
    # 2 · (C(4,0) + C(4,1)) / 2^4
    assert found.p_value == pytest.approx(10 / 16)
    assert found.low < found.value < found.high
    assert difference(first, first).value == 0


def test_each_category_and_each_seed_by_itself() -> None:
    first = {**right(1, 0), **right(0, 0, 0, category="multiple"), **right(1, 1, member=1)}
    second = {**right(1, 1), **right(0, 1, 0, category="multiple"), **right(0, 1, member=1)}
    assert [(d.category, d.cases, d.won, d.lost) for d in differences(first, second)] == [
        ("all", 7, 2, 1),
        ("multiple", 3, 1, 0),
        ("simple", 4, 1, 1),
    ]
    assert [(d.cases, d.won, d.lost) for d in by_member(first, second, 2)] == [(5, 2, 0), (2, 0, 1)]


def test_other_cases_cannot_be_compared() -> None:
    with pytest.raises(DifferentCases, match="1 cases were asked of one"):
        difference(right(1, 0), right(1))


def test_calling_by_hand() -> None:
    answers = [(True, True)] * 4 + [(True, False)] * 2 + [(False, True)] * 3 + [(False, False)] + [(None, None)]
    cases = {(0, f"c{i}"): Case("x", True, "", should, calls) for i, (should, calls) in enumerate(answers)}
    assert {name: (share.count, share.total) for name, share in calling(cases).items()} == {
        "precision": (4, 7),
        "recall": (4, 6),
        "abstention": (1, 4),
    }
    assert str(calling({})["recall"]) == "-"
    assert mistakes(right(1, 0, 0)) == {"tool_name": 2}


def test_difficulties_and_shifts_by_hand() -> None:
    def case(level: str, mistake: str) -> Case:
        return Case("simple", not mistake, mistake, True, True, level)

    first = {
        (0, "a"): case("hard", "tool_name"),
        (0, "b"): case("easy", ""),
        (0, "c"): case("hard", ""),
        (0, "d"): case("", ""),
    }
    second = {
        **first,
        (0, "a"): case("hard", ""),
        (0, "c"): case("hard", "parameter_value"),
        (0, "b"): case("easy", "x"),
    }
    assert difficulties_of(first) == ["easy", "hard"]
    assert [(d.category, d.cases, d.won, d.lost) for d in by_difficulty(first, second)] == [
        ("easy", 1, 0, 1),
        ("hard", 2, 1, 1),
    ]
    assert shifts(first, second) == {
        ("tool_name", "right"): 1,
        ("right", "x"): 1,
        ("right", "parameter_value"): 1,
        ("right", "right"): 1,
    }
    assert by_difficulty(right(1), right(0)) == []


def entered(name: str, *marks: int, share: float = 1.0, curriculum: str = "easy_to_hard", rate: float = 1.0) -> Entered:
    config = {
        "name": name,
        "description": name,
        "split": {"train_fraction": share, "validation_fraction": 0.1},
        "warmup": {"curriculum": curriculum, "rate": rate},
    }
    return Entered(Entrant(name, (Member(name),)), {"bfcl": right(*marks)}, {"bfcl": []}, 60.0, config)


def test_a_line_is_what_differs_in_one_key() -> None:
    ones = [
        entered("all", 1, 1),
        entered("half", 1, 0, share=0.5),
        entered("other half", 0, 0, share=0.5, rate=2.0),
        entered("other", 0, 1, rate=2.0),
        entered("easy", 0, 0, curriculum="easy"),
        entered("alone", 0, 0, share=0.25, rate=3.0),
        entered("mixed", 0, 0, curriculum="mixed"),
    ]
    shares, stages = _curves("bfcl", ones)
    assert (shares[0], shares[2]) == (
        "the share of the training data",
        {"all": [(0.5, Share(1, 2)), (1.0, Share(2, 2))], "other": [(0.5, Share(0, 2)), (1.0, Share(1, 2))]},
    )
    assert (stages[0], stages[2]) == ("the warm-up's stages", {"all": [(0, Share(0, 2)), (2, Share(2, 2))]})
    assert list(_curves("bfcl", ones[:1])) == []


def test_every_picture_is_a_png() -> None:
    ones = [entered("all", 1, 1), entered("half", 1, 0, share=0.5), entered("easy", 0, 0, curriculum="easy")]
    drawn = dict(pictures_of("bfcl", ones))
    assert [caption.removeprefix("bfcl: ").split(",")[0] for caption in drawn] == [
        "right cases",
        "difference to all",
        "wrong cases by type of error",
        "right cases from checkpoint to checkpoint",
        "right cases over the share of the training data",
        "right cases over the warm-up's stages",
        "right cases and what they cost",
    ]
    assert all(png.startswith(b"\x89PNG") for png in drawn.values())


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """`sft` has a warm-up with one of three right; `full` its own iteration with two, and `other` the same cases."""
    made = Database(StoragePaths(tmp_path).database)
    verdicts = {"sft": ("warmup", (1, 0, 0)), "full": ("iteration_1", (1, 1, 0)), "other": ("warmup", (0, 0, 1))}
    for digit, (name, (checkpoint, marks)) in enumerate(verdicts.items(), 1):
        scored, trained, base = (str(digit) * 15 + kind for kind in "abc")
        common = {"checkpoint": checkpoint, "checkpoint_artifact": trained, "benchmark": "bfcl"}
        cases = [
            {
                **common,
                "category": "simple",
                "case_id": f"c{i}",
                "correct": bool(mark),
                "mistake": None if mark else "tool_name",
                "should_call": True,
                "calls": True,
            }
            for i, mark in enumerate(marks)
        ]
        load(made, "cases", scored, rows(made, "cases", *cases))
        score = {**common, "category": "simple", "correct": sum(marks), "total": 3}
        load(made, "scores", scored, rows(made, "scores", score))
        old = {**score, "checkpoint": "base", "checkpoint_artifact": base, "correct": 0}
        load(made, "scores", base, rows(made, "scores", old))
        asset = "warmup/hard" if checkpoint == "warmup" else "iteration_1/policy"
        for one in (
            artifact("base_model", base[::-1], seconds=1.0),
            artifact(asset, trained, seconds=10.0 * digit),
            artifact("bfcl/base", base, seconds=100.0),
            artifact(f"bfcl/{checkpoint}", scored, seconds=100.0),
            *([artifact("iteration_2/policy", "f" * 16, seconds=5000.0)] if name == "full" else []),
        ):
            made.record_materialization(name, one, run_id="run", reused=False)
    return made


def test_what_the_database_knows_of_entrants(database: Database) -> None:
    entrants = [parse_entrant("sft+other"), parse_entrant("full@iteration_1+other")]
    first, second = read_entrants(database.path, entrants)
    assert {key: case.correct for key, case in first.cases["bfcl"].items()} == {
        (0, "c0"): True, (0, "c1"): False, (0, "c2"): False, (1, "c0"): False, (1, "c1"): False, (1, "c2"): True,
    }  # fmt: skip
    assert first.cases["bfcl"][0, "c1"] == Case("simple", False, "tool_name", True, True)
    assert first.curves["bfcl"] == [CurvePoint("base", 0, 6), CurvePoint("warmup", 2, 6)]
    assert [point.checkpoint for point in second.curves["bfcl"]] == ["base", "warmup", "iteration_1"]
    # the base model and the training of each; not the scoring, nor what came later
    assert (first.seconds, second.seconds) == (1 + 10 + 1 + 30, 1 + 20 + 1 + 30)


def test_difficulties_and_configs_are_looked_up(database: Database) -> None:
    """By the paper's bounds: one tool, 999 characters and one call are easy, four tools hard."""
    pool = "9" * 16
    asked = [
        {"example_id": "c0", "part": "held_out", "tool_count": 1, "tool_chars": 999, "call_count": 1},
        {"example_id": "c1", "part": "held_out", "tool_count": 4, "tool_chars": 999, "call_count": 1},
    ]
    load(database, "examples", pool, rows(database, "examples", *asked))
    database.record_materialization("sft", artifact("bfcl_cases", pool), run_id="run", reused=False)
    database.record_experiment("sft", "", {"seed": 3, "split": {"train_fraction": 0.5}}, ["bfcl_cases", "bfcl/warmup"])
    (found,) = read_entrants(database.path, [parse_entrant("sft@warmup")])
    assert [found.cases["bfcl"][0, f"c{i}"].difficulty for i in range(3)] == ["easy", "hard", ""]
    assert found.config == {"seed": 3, "split": {"train_fraction": 0.5}}
    assert config_without(found, ("split", "train_fraction")) == '{"seed": 3, "split": {}}'


def test_the_asset_shows_and_writes_the_same_page(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path))
    config = {"ops": {"comparison": {"config": {"entrants": ["sft", "full@iteration_1"]}}}}
    result = dg.materialize([comparison], run_config=config)
    (made,) = result.asset_materializations_for_node("comparison")
    page = tmp_path / "comparisons" / "sft_vs_full@iteration_1.html"
    assert made.metadata["page"].value == str(page)
    assert {Seen(page.read_text()).tags.count(tag) for tag in ("table", "img")} == {6, 5}
    shown = [str(value.value) for key, value in made.metadata.items() if key != "page"]
    assert sum(text.startswith("| ") for text in shown) == 6
    assert sum("](data:image/png;base64," in text for text in shown) == 5
    config["ops"]["comparison"]["config"]["entrants"] = ["sft", "nobody"]
    failed = dg.materialize([comparison], run_config=config, raise_on_error=False)
    assert not failed.success


def test_the_last_checkpoint_is_meant_unless_one_is_named(database: Database) -> None:
    last, named, base = read_entrants(database.path, [parse_entrant(t) for t in ("full", "full@iteration_1", "sft")])
    assert last.cases == named.cases
    assert sum(case.correct for case in base.cases["bfcl"].values()) == 1


@pytest.mark.parametrize("name", ["nobody", "sft@iteration_1"])
def test_who_is_not_scored_is_told_with_those_who_are(database: Database, name: str) -> None:
    with pytest.raises(StorageError, match=f"{name} is not scored here; there are: full@base, full@iteration_1, oth"):
        read_entrants(database.path, [parse_entrant("sft"), parse_entrant(name)])


def test_tables_of_a_comparison(database: Database) -> None:
    entered = read_entrants(database.path, [parse_entrant("sft"), parse_entrant("full")])
    tables = {table.title: table for table in tables_of("bfcl", entered)}
    scores, against, shifted, asked, wrong, cost = tables.values()
    assert [row[0] for row in scores.rows] == ["sft", "full"]
    assert scores.rows[1][1].startswith("66.7% (2/3; ")
    assert [row[:5] for row in against.rows] == [["all", "3", "1", "0", "+33.3%"], ["simple", "3", "1", "0", "+33.3%"]]
    assert [list(row) for row in (shifted.head, *shifted.rows)] == [
        ["", "right", "tool_name"],
        ["right", "1", "0"],
        ["tool_name", "1", "1"],
    ]
    assert asked.head == ["", "precision", "recall", "abstention"]
    assert [list(row) for row in wrong.rows] == [["sft", "2"], ["full", "1"]]
    assert [list(row) for row in cost.rows] == [["sft", "11", "33.3%"], ["full", "21", "66.7%"]]


def test_entrants_on_other_cases_are_refused_with_what_to_do(database: Database) -> None:
    one, other = read_entrants(database.path, [parse_entrant("sft"), parse_entrant("full")])
    fewer = Entered(other.entrant, {"bfcl": dict(list(other.cases["bfcl"].items())[:2])}, other.curves, 0.0)
    with pytest.raises(StorageError, match=r"sft and full cannot be compared on bfcl: .* same evaluation and seed"):
        tables_of("bfcl", [one, fewer])


class Seen(HTMLParser):
    """Every tag and text; nothing on the page may come from elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_names_cannot_write_on_the_page() -> None:
    evil = "<script>alert(1)</script>"
    seen = Seen(page_of(evil, [TextTable(evil, [evil], [[evil]])], [(evil, b"png")]))
    assert "script" not in seen.tags
    assert seen.texts.count(evil) == 6


def test_the_command_prints_and_writes_a_page(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["itool_pipeline", "compare", "sft", "full@iteration_1"])
    assert command_line.main() == 0
    told = capsys.readouterr().out
    assert "bfcl: full@iteration_1 against sft" in told
    page = Path(told.splitlines()[-1])
    assert page == tmp_path / "comparisons" / "sft_vs_full@iteration_1.html"
    seen = Seen(page.read_text())
    assert seen.tags.count("table") == 6
    assert len(seen.sources) == 5
    for source in seen.sources:
        assert source.startswith("data:image/png;base64,")
        assert base64.b64decode(source.partition(",")[2]).startswith(b"\x89PNG")
    assert not re.search(r"https?://", page.read_text())


@pytest.mark.parametrize(
    ("entrants", "told"),
    [
        (["sft", "full+other"], "need as many of them each"),
        (["sft", "@x"], "write EXPERIMENT"),
        (["sft", "x"], "x is not"),
    ],
)
def test_what_cannot_be_compared_is_said(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    entrants: list[str],
    told: str,
) -> None:
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["itool_pipeline", "compare", *entrants])
    assert command_line.main() == 2
    assert told in capsys.readouterr().err


def test_intervals_are_those_of_the_views(database: Database) -> None:
    for correct, total in ((0, 0), (0, 10), (3, 7), (10, 10), (250, 1000)):
        sql = f"SELECT wilson_low({correct}, {total}), wilson_high({correct}, {total})"
        assert wilson_interval(correct, total) == pytest.approx(ask(database, sql)[0], abs=1e-12)
