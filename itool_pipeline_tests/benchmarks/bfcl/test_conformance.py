"""The comparison with the official command line, against a stand-in for it, and against itself with -m fuzz."""

from __future__ import annotations

import json
import random
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.bfcl import conformance as bc
from itool_pipeline.benchmarks.bfcl.conformance import conformance
from itool_pipeline.benchmarks.bfcl.official_checker import CHECKER_RAISED, DECODER_REFUSED
from itool_pipeline.benchmarks.bfcl.official_code import HANDLERS, OfficialMultiTurn, official_multi_turn
from itool_pipeline.benchmarks.second_opinion import ConformanceError, Difference, JudgedCase
from itool_pipeline.data.bfcl import questions_file
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.steps.conformance import compared_verdicts, judged_answers
from itool_pipeline.store.paths import StoragePaths
from itool_pipeline_tests.benchmarks.bfcl.gold_answers import answers
from itool_pipeline_tests.conftest import ROOT

STAND_IN = """#!{python}
# Takes what `bfcl evaluate` takes; every case whose result holds `bad` is wrong.
import json, os, sys
from pathlib import Path
root = Path(os.environ["BFCL_PROJECT_ROOT"])
(root / "arguments.json").write_text(json.dumps(sys.argv[1:]))
for file in (root / "result").rglob("BFCL_v4_*_result.json"):
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    multi = "multi_turn" in file.name
    wrong = [row for row in rows if "bad" in json.dumps(row["result"])]
    error = {{"error": {{"error_type": "multi_turn:x"}}}} if multi else {{"error": ["x"], "error_type": "x:y"}}
    header = {{"total_count": len(rows) {more}, "correct_count": len(rows) - len(wrong)}}
    target = Path(str(file.parent).replace("/result/", "/score/")) / file.name.replace("_result", "_score")
    target.parent.mkdir(parents=True)
    lines = [json.dumps(x, ensure_ascii=False) for x in [header, *({{**error, **row}} for row in wrong)]]
    target.write_text("\\n".join(lines), encoding="utf-8")
sys.exit({code})
"""


@pytest.fixture(scope="module")
def official(bfcl_dir: Path) -> OfficialMultiTurn:
    return official_multi_turn(bfcl_dir)


def stand_in(folder: Path, *, code: int = 0, more: str = "") -> Path:
    command = folder / "bfcl"
    command.write_text(STAND_IN.format(python=sys.executable, code=code, more=more))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return command


def judged(key: str, category: str, result: Any, error_type: str = "") -> JudgedCase:
    return JudgedCase(key, category, result, error_type == "", error_type)


GIVEN = [
    judged("simple_python_2", "simple_python", "good"),
    judged("simple_python_0", "simple_python", "bad", "x:y"),
    judged("simple_python_1", "simple_python", "bad\u2028bad\x85"),
    judged("live_simple_0-0-0", "live_simple", "bad", "other:type"),
    judged("multi_turn_base_0", "multi_turn_base", [["[pwd()]", "bad"]], "multi_turn:x"),
    judged("multi_turn_base_1", "multi_turn_base", "Error during inference: no room", ""),
]


def test_every_verdict_is_compared(bfcl_dir: Path, official: OfficialMultiTurn, tmp_path: Path) -> None:
    found = conformance(GIVEN, bfcl_dir, official, stand_in(tmp_path), tmp_path)
    assert [(c.category, c.compared, c.left_out) for c in found] == [
        ("simple_python", 3, ()),
        ("live_simple", 1, ()),
        ("multi_turn_base", 2, ()),
    ]
    assert [c.different for c in found] == [
        (Difference("simple_python_1", "correct", "x:y"),),
        (Difference("live_simple_0-0-0", "other:type", "x:y"),),
        (),
    ]


def test_results_are_in_the_benchmarks_layout(bfcl_dir: Path, official: OfficialMultiTurn, tmp_path: Path) -> None:
    conformance(GIVEN, bfcl_dir, official, stand_in(tmp_path), tmp_path)
    results = tmp_path / "result" / "meta-llama_Llama-3.1-8B-Instruct"
    assert sorted(str(p.relative_to(results)) for p in results.rglob("*.json")) == [
        "live/BFCL_v4_live_simple_result.json",
        "multi_turn/BFCL_v4_multi_turn_base_result.json",
        "non_live/BFCL_v4_simple_python_result.json",
    ]
    lines = (results / "non_live" / "BFCL_v4_simple_python_result.json").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": "simple_python_0", "result": "bad"},
        {"id": "simple_python_1", "result": "bad\u2028bad\x85"},
        {"id": "simple_python_2", "result": "good"},
    ]
    assert json.loads((tmp_path / "arguments.json").read_text()) == [
        *("evaluate", "--model", "meta-llama/Llama-3.1-8B-Instruct"),
        *("--test-category", "live_simple,multi_turn_base,simple_python", "--partial-eval"),
    ]


@pytest.mark.parametrize(
    ("syntax", "model"), [("hermes", "Qwen/Qwen3-0.6B-FC"), ("llama3_json", "meta-llama/Llama-3.1-8B-Instruct-FC")]
)
def test_a_syntax_is_scored_as_a_model_that_writes_it(bfcl_dir: Path, tmp_path: Path, syntax: str, model: str) -> None:
    """The benchmark's own list of models has it, with the handler whose decoder we use."""
    official = official_multi_turn(bfcl_dir, syntax)
    (found, *_) = conformance(GIVEN, bfcl_dir, official, stand_in(tmp_path), tmp_path, syntax)
    assert found.compared == 3
    assert json.loads((tmp_path / "arguments.json").read_text())[1:3] == ["--model", model]
    assert (tmp_path / "result" / model.replace("/", "_")).is_dir()
    models = (bfcl_dir / "bfcl_eval" / "constants" / "model_config.py").read_text()
    entry = models[models.index(f'"{model}": ModelConfig(') :].partition("),\n")[0]
    assert f"model_handler={HANDLERS[syntax][1]}," in entry
    assert "underscore_to_dot=False" in entry


def test_questions_may_hold_any_character(official: OfficialMultiTurn, tmp_path: Path) -> None:
    questions = questions_file(tmp_path, "simple_python")
    questions.parent.mkdir(parents=True)
    questions.write_text('{"id": "simple_python_0", "question": "one\u2028two\x85three"}\n', encoding="utf-8")
    (found,) = conformance(GIVEN[1:2], tmp_path, official, stand_in(tmp_path), tmp_path)
    assert (found.compared, found.different) == (1, ())


@pytest.mark.parametrize(
    ("result", "error_type"),
    [
        ("[f(a=len(b) + 1)]", DECODER_REFUSED),
        ("[f()]", CHECKER_RAISED),
        ([["[open(file='/etc/passwd')]"]], ""),
        ([["[pwd()]"], ["Some words.", "[json.dumps(a=1)]"]], ""),
        ([["[cd(folder=len(str(1)) + 1)]"]], ""),
        ([["""[cd(folder={"a': __import__('os').getcwd(), 'b": 1})]"""]], ""),
        ([["""[cd(folder={"__import__('os').getcwd() or f": {'a': 1}})]"""]], ""),
        ([["""[cd(folder={"().__class__.__base__() or f": {'a': 1}})]"""]], ""),
        ([["""[cd(folder={"(lambda: 1)() or f": {'a': 1}})]"""]], ""),
    ],
)
def test_what_could_run_other_code_never_reaches_the_command_line(
    bfcl_dir: Path, official: OfficialMultiTurn, tmp_path: Path, result: Any, error_type: str
) -> None:
    category = "simple_python" if isinstance(result, str) else "multi_turn_base"
    case = judged(f"{category}_0", category, result, error_type)
    found = conformance([case], bfcl_dir, official, stand_in(tmp_path), tmp_path)
    assert [(c.compared, len(c.left_out)) for c in found] == [(0, 1)]
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize(
    "text",
    ["[pwd()]", "[echo(content=pwd())]", "[unknown(a=-1, b=[1, {'c': (2,)}])]", "[a.b.c(d=1)]", "Some words.", ""],
)
def test_calls_and_literals_are_compared(official: OfficialMultiTurn, text: str) -> None:
    assert not bc._runs_other_code(text, official)


def test_a_command_line_that_fails_or_miscounts_is_an_error(
    bfcl_dir: Path, official: OfficialMultiTurn, tmp_path: Path
) -> None:
    for options, message in (({"code": 3}, "ended with 3"), ({"more": "+ 1"}, "where 3 cases were given")):
        folder = tmp_path / message.replace(" ", "_")
        folder.mkdir()
        with pytest.raises(ConformanceError, match=message):
            conformance(GIVEN[:3], bfcl_dir, official, stand_in(folder, **options), folder)


def test_a_case_that_the_benchmark_lacks_is_an_error(
    bfcl_dir: Path, official: OfficialMultiTurn, tmp_path: Path
) -> None:
    with pytest.raises(ConformanceError, match="simple_python has no case 'nothing'"):
        conformance([judged("nothing", "simple_python", "x")], bfcl_dir, official, stand_in(tmp_path), tmp_path)


@pytest.fixture
def answers_file(bfcl_dir: Path, tmp_path: Path) -> Path:
    chosen = random.Random(1).sample(list(answers(bfcl_dir, seed=1)), 100)
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps({"id": key, "result": result}) + "\n" for key, result in chosen))
    return file


def test_answers_from_a_file_get_our_verdicts(answers_file: Path, downloads_dir: Path) -> None:
    found = judged_answers(answers_file, "bfcl", StoragePaths(downloads_dir.parent))
    assert len(found) == 100
    assert 10 < sum(case.correct for case in found) < 90
    assert {case.correct == (case.error_type == "") for case in found} == {True}


def test_answers_may_hold_any_character_and_blank_lines_are_passed_over(tmp_path: Path, downloads_dir: Path) -> None:
    said = ["words\u2028more", "[f(a='\u2029\x85')]"]
    rows = [json.dumps({"id": f"irrelevance_{i}", "result": text}, ensure_ascii=False) for i, text in enumerate(said)]
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(["", rows[0], "  ", rows[1], ""]), encoding="utf-8")
    found = judged_answers(file, "bfcl", StoragePaths(downloads_dir.parent))
    assert [(case.id, case.result, case.correct) for case in found] == [
        ("irrelevance_0", said[0], True),
        ("irrelevance_1", said[1], False),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"result": "x"}', "no `id`"),
        (b'{"id": 1, "result": "x"}', "no `id`"),
        (b'{"id": "irrelevance_1"}', "no `result`"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"id": "\xff"}', "not UTF-8"),
    ],
)
def test_a_line_in_another_layout_is_named(tmp_path: Path, line: bytes, reason: str) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_bytes(b'{"id": "irrelevance_0", "result": "x"}\n\n' + line)
    with pytest.raises(StorageError, match=rf"answers\.jsonl:3: {reason}"):
        judged_answers(file, "bfcl", StoragePaths(tmp_path))


def test_a_file_of_answers_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no file .*answers\.jsonl"):
        judged_answers(tmp_path / "answers.jsonl", "bfcl", StoragePaths(tmp_path))


@pytest.mark.fuzz
def test_the_official_command_line_gives_our_verdicts(bfcl_dir: Path, downloads_dir: Path, tmp_path: Path) -> None:
    """On mutated gold answers to all cases of all categories. Needs `make conformance` to have been run once."""
    environment = ROOT / ".venv-conformance"
    if not (environment / "ready").exists():
        pytest.skip("the official command line is not set up; `make conformance` does it")
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps({"id": k, "result": r}) + "\n" for k, r in answers(bfcl_dir, seed=2)))
    paths = StoragePaths(downloads_dir.parent)
    text, different = compared_verdicts(judged_answers(file, "bfcl", paths), "bfcl", paths, environment)
    assert different == 0, text
    assert "4441 verdicts compared" in text
