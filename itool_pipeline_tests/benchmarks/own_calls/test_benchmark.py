"""The users' own calls: verdicts and types of error by hand, what is quarantined, and a whole run to the report."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.own_calls.benchmark import OwnCallsBenchmark, OwnCallsError, decide_call
from itool_pipeline.benchmarks.types import Decided, Pool
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.streams import UnreadableFile
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.judges.mistakes import ErrorType
from itool_pipeline.steps import checks
from itool_pipeline.steps.asset_graph import checkpoints
from itool_pipeline.steps.cases import benchmark_cases
from itool_pipeline.steps.config_sections import local_content
from itool_pipeline.steps.examinee import ModelExaminee
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.report import report
from itool_pipeline.steps.scoring import score_checkpoint
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline_tests.data.rows_in_layouts import ROWS as LAYOUT_ROWS
from itool_pipeline_tests.steps import without_model
from itool_pipeline_tests.steps.by_hand import database_of, experiment, put, workspace, write_train
from itool_pipeline_tests.store.by_hand import ask

BENCHMARK = OwnCallsBenchmark()
PAGE = (Path(__file__).parents[3] / "docs" / "calls.md").read_text(encoding="utf-8")

WEATHER = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
        "required": ["city"],
    },
}
CLOCK = {"name": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def calls(*made: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": n, "arguments": a}} for n, a in made]}


ROWS: list[Any] = [
    {"messages": [user("Rome?"), calls(("weather", {"city": "Rome"}))]},
    {"messages": [user("Rome and Oslo?"), calls(("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"}))]},
    {"messages": [user("Thanks!"), says("You are welcome."), user("Oslo?"), calls(("weather", {"city": "Oslo"}))]},
    {"messages": [user("Who?"), calls(("nobody", {}))]},
    {"messages": "none"},
]
CASES = ["calls_1_1", "calls_2_1", "calls_3_1", "calls_3_3"]


def write(folder: Path, rows: list[Any]) -> Path:
    path = folder / "held_out.jsonl"
    tools = [{"type": "function", "function": tool} for tool in (WEATHER, CLOCK)]
    lines = (json.dumps({**row, "tools": tools}) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def asked(path: Path, **more: Any) -> dict[str, Any]:
    return {"bfcl": None, "calls": {"path": str(path), **more}}


@pytest.fixture
def cases(tmp_path: Path) -> dict[str, Example]:
    e = experiment(evaluation=asked(write(tmp_path, ROWS)))
    return {case.id: case for case in BENCHMARK.load_cases(e, tmp_path).examples}


def test_each_assistant_turn_is_a_case_and_what_cannot_be_read_is_quarantined(tmp_path: Path) -> None:
    rows = BENCHMARK.load_cases(experiment(evaluation=asked(write(tmp_path, ROWS))), tmp_path)
    assert [case.id for case in rows.examples] == CASES
    assert [case.category for case in rows.examples] == ["single_call", "several_calls", "no_call", "single_call"]
    assert {case.source for case in rows.examples} == {"calls"}
    assert {case.group for case in rows.examples} == {"calls_1", "calls_2", "calls_3"}
    assert [(row.source, row.position) for row in rows.quarantined] == [
        ("calls", "line 4, turn 1"),
        ("calls", "line 5"),
    ]


def test_an_answer_that_is_not_to_be_learnt_is_no_case(tmp_path: Path) -> None:
    bad = {"messages": [user("Rome?"), {**calls(("weather", {"city": "Rome"})), "weight": 0}]}
    rows = BENCHMARK.load_cases(experiment(evaluation=asked(write(tmp_path, [bad, ROWS[0]]))), tmp_path)
    assert [case.id for case in rows.examples] == ["calls_2_1"]
    assert [(row.source, row.position, row.reason) for row in rows.quarantined] == [
        ("calls", "line 1, turn 1", "marked as not to be learnt from")
    ]


@pytest.mark.parametrize(
    ("case", "output", "mistake"),
    [
        ("calls_1_1", '[weather(city="Rome")]', None),
        ("calls_1_1", '[weather(city="Rome", days=1)]', None),  # the default
        ("calls_1_1", '[weather(city="Rome", days=1.0)]', None),
        ("calls_1_1", '[weather(city="Oslo")]', ErrorType.PARAMETER_VALUE),
        ("calls_1_1", '[weather(city="rome.")]', ErrorType.PARAMETER_VALUE),
        ("calls_1_1", '[weather(town="Rome")]', ErrorType.PARAMETER_NAME),
        ("calls_1_1", "[weather()]", ErrorType.PARAMETER_COUNT),
        ("calls_1_1", '[clock(zone="Rome")]', ErrorType.TOOL_NAME),
        ("calls_1_1", '[weather(city="Rome"', ErrorType.CODE_SYNTAX),
        ("calls_1_1", "It is warm.", ErrorType.TOOLS_COUNT),
        ("calls_2_1", '[weather(city="Oslo"), weather(city="Rome")]', None),
        ("calls_2_1", '[weather(city="Oslo")]', ErrorType.TOOLS_COUNT),
        ("calls_3_1", "Any words.", None),
        ("calls_3_1", '[weather(city="Oslo")]', ErrorType.TOOLS_COUNT),
    ],
)
def test_verdicts_and_types_of_error(
    cases: dict[str, Example], case: str, output: str, mistake: ErrorType | None
) -> None:
    decision = decide_call(cases[case], output)
    assert decision.correct is (mistake is None)
    assert (decision.mistake.type if decision.mistake else None) == mistake
    assert decision.error_type == (mistake or "")
    assert bool(decision.error) is (mistake is not None)


def test_aggregates_call_by_call(cases: dict[str, Example]) -> None:
    """One of the two calls to two cities is found, and so is the last; the first is words, the third a call."""
    said = {
        "calls_1_1": "No idea.",
        "calls_2_1": '[weather(city="Oslo"), weather(city="Bonn")]',
        "calls_3_1": '[clock(zone="UTC")]',
        "calls_3_3": '[weather(city="Oslo")]',
    }
    decided = [Decided(cases[key], output, decide_call(cases[key], output)) for key, output in said.items()]
    found = [(one.rule, one.part, one.correct, one.total) for one in BENCHMARK.aggregates(decided, {})]
    assert found == [("calls", "found", 2, 4), ("calls", "not called", 1, 3), ("calls", "called in vain", 1, 1)]
    only_words = BENCHMARK.aggregates(decided[2:3], {})[0]
    assert (only_words.accuracy, only_words.missing) == (None, ("found",))


def test_so_many_cases_in_the_proportions_of_the_categories(tmp_path: Path) -> None:
    rows = [ROWS[0]] * 6 + [ROWS[1]] * 3 + [{"messages": [user("Hi " * 50), says("Hi.")]}] * 2
    e = experiment(evaluation=asked(write(tmp_path, rows), cases=3, max_prompt_tokens=20))
    pool = BENCHMARK.load_cases(e, tmp_path).examples
    drawn = BENCHMARK.draw_cases(e, Pool(pool, {x.id: len(x.question.split()) for x in pool}), tmp_path)
    assert Counter(case.category for case in drawn.cases) == {"single_call": 2, "several_calls": 1}
    assert drawn.unfit == {"the prompt is longer than the limit": 2}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (None, r"There is no file .*held_out\.jsonl\. Correct evaluation\.calls\.path in the experiment\."),
        ([], r"held_out\.jsonl: holds no row: the file is empty"),
        (ROWS[3:], r"holds no case: 2 rows cannot be read\. The first, line 4, turn 1: calls what is not among"),
    ],
    ids=["missing", "empty", "quarantined"],
)
def test_a_file_without_cases_is_told(tmp_path: Path, rows: list[Any] | None, told: str) -> None:
    path = tmp_path / "held_out.jsonl" if rows is None else write(tmp_path, rows)
    with pytest.raises((OwnCallsError, UnreadableFile), match=told.replace("line 4", "line 1")):
        BENCHMARK.load_cases(experiment(evaluation=asked(path)), tmp_path)


def test_the_content_of_the_file_is_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path, ROWS)
    home, whole = (experiment(evaluation=asked(p)) for p in (Path("~/held_out.jsonl"), path))
    before, content = plan(whole), local_content(whole)
    assert len(content) == 64
    assert local_content(home) == content
    assert {a: p.fingerprint for a, p in plan(home).items()} == {a: p.fingerprint for a, p in before.items()}
    path.write_text(path.read_text() + "\n")
    after = plan(whole)
    scored = {"calls_cases", *(f"calls/{name}" for name in checkpoints(3))}
    assert {a for a in after if after[a].fingerprint != before[a].fingerprint} == {*scored, "champion", "report"}
    path.unlink()
    assert local_content(whole) == ""


def test_the_layout_of_the_file_is_found_and_is_a_part_of_the_source(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    e = experiment(evaluation=asked(path))
    assert BENCHMARK.source(e) == {"content": local_content(e)}  # as before there were other layouts than chats
    path.write_text(json.dumps(LAYOUT_ROWS["glaive"]))
    assert BENCHMARK.source(e) == {"content": local_content(e), "layout": "glaive"}
    assert [case.id for case in BENCHMARK.load_cases(e, tmp_path).examples] == ["calls_1_1", "calls_1_3"]


def test_the_page_is_what_it_claims_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((name, config),) = re.findall(r"```yaml\n# (\w+)\.yaml\n(.*?)```", PAGE, re.S)
    (line,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / f"{name}.yaml").write_text(config)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "held_out.jsonl").write_text(line)
    rows = BENCHMARK.load_cases(load_experiment(name), tmp_path)
    assert [case.response for case in rows.examples] == ['[weather(city="Rome")]']
    assert not rows.quarantined


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """No iterations; the model gives the expected answer, but says `No.` to one case of two calls."""
    without_model.install_data(monkeypatch)

    def answers(self: ModelExaminee, examples: list[Example]) -> dict[str, str]:
        return {x.id: "No." if x.category == "several_calls" else x.response for x in examples}

    monkeypatch.setattr(ModelExaminee, "answer_each", answers)
    monkeypatch.setattr(without_model.Template, "prompt", lambda self, example: (1, 2, 3))
    made = workspace(tmp_path / "storage", iterations=0, evaluation=asked(write(tmp_path, ROWS)))
    for asset in ("base_model", "warmup/hard"):
        put(made, asset, lambda directory: (directory / "weights").write_text("x"))
    return made


def test_from_the_file_to_the_report(ws: Workspace) -> None:
    benchmark_cases(ws, BENCHMARK)
    put(ws, "examples", lambda directory: write_train(directory, ()))
    assert checks.no_case_is_trained_on(ws, BENCHMARK) == checks.Finding([], {"training_examples": 0, "cases": 4})
    for name in checkpoints(0):
        score_checkpoint(ws, BENCHMARK, name)
        assert checks.scores_cover_every_case(ws, f"calls/{name}") == checks.Finding([], {"cases": 4})
    page = report(ws).artifact.file("report.md").read_text()
    assert "## Leaderboard: your own calls" in page
    head = "| checkpoint | all | single_call | several_calls | no_call |"
    row = "| base | 75.0% (3/4; 30%-95%) | 100.0% (2/2; 34%-100%) | 0.0% (0/1; 0%-79%) | 100.0% (1/1; 21%-100%) |"
    assert head in page
    assert row in page
    assert "| calls | found | 50.0% (2/4; 15%-85%) | 50.0% (2/4; 15%-85%) |" in page
    assert "BFCL" not in page
    board = ask(database_of(ws), "SELECT benchmark, checkpoint, correct, total FROM leaderboard")
    assert board == [("calls", "base", 3, 4), ("calls", "warmup", 3, 4)]
    errors = ask(database_of(ws), "SELECT category, mistake, cases FROM error_types WHERE checkpoint = 'base'")
    assert errors == [("several_calls", "tools_count", 1)]
    assert ask(database_of(ws), "SELECT count(*) FROM quarantine WHERE source = 'calls'") == [(2,)]


def test_a_case_that_is_trained_on_is_named(ws: Workspace, cases: dict[str, Example]) -> None:
    """The same conversation in the training file has other ids there; another question with the same tools is none."""
    benchmark_cases(ws, BENCHMARK)
    stolen = replace(cases["calls_3_3"], id="jsonl_8_3", source="jsonl", group="jsonl_8")
    other = replace(stolen, id="jsonl_9_1", group="jsonl_9", messages=(Message("user", "what about tomorrow"),))
    put(ws, "examples", lambda directory: write_train(directory, [stolen, other]))
    problems = checks.no_case_is_trained_on(ws, BENCHMARK).problems
    assert problems == ["case calls_3_3 asks what these training examples ask: jsonl_8_3"]
