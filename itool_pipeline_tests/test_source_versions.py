"""No code version is forgotten; and what notices it notices what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

import itool_pipeline
from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.steps.plan import CODE_VERSIONS
from itool_pipeline_tests.source_versions import (
    LEFT_OUT,
    ROOTS,
    StepRecord,
    current_steps,
    main,
    read_record,
    recorded_content,
    version_problems,
)
from itool_pipeline_tests.step_sources import PackageSources, hash_of_all

STEP = '''
"""Makes trees."""
from toy.core import search
from toy.handed import Judge
from toy.settings import LIMIT


def make(judge: Judge) -> int:
    """Prose."""
    from toy.late import prepare

    # why
    return prepare(search.grow(LIMIT), "toy.child")


def other() -> int:
    return unknown
'''
SEARCH = """
WIDTH = 3
DEPTH = 4


def grow(limit: int) -> int:
    return WIDTH * limit


def unused() -> int:
    return DEPTH
"""
HANDED = """
class Judge:
    kind = 1

    def judge(self) -> int:
        return self.mark() + self.kind

    def mark(self) -> int:
        return 2

    def draw(self) -> int:
        return 3
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    root = tmp_path / "toy"
    (root / "core").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "core/__init__.py": "",
        "core/search.py": SEARCH,
        "step.py": STEP,
        "handed.py": HANDED,
        "late.py": "def prepare(value: int, child: str) -> int:\n    return value\n",
        "child.py": "import sys\n\nsys.setrecursionlimit(100)\nEXIT = 3\n",
        "settings.py": "LIMIT = 7\n",
    }.items():
        (root / name).write_text(text)
    return root


def change(root: Path, file: str, before: str, after: str) -> None:
    text = (root / file).read_text()
    assert before in text
    (root / file).write_text(text.replace(before, after))


def reached(root: Path, name: str = "toy.step.make") -> dict[str, str]:
    return PackageSources(root, frozenset({"toy.settings"})).reached([name])


@pytest.fixture(scope="module")
def steps() -> dict[str, StepRecord]:
    return current_steps()


def test_every_kind_of_step_is_watched(steps: dict[str, StepRecord]) -> None:
    assert ROOTS.keys() == CODE_VERSIONS.keys()
    of_benchmarks = {f"{benchmark.name} {made}" for benchmark in BENCHMARKS for made in ("cases", "scores")}
    assert steps.keys() == CODE_VERSIONS.keys() | of_benchmarks


def test_what_is_left_out_is_there() -> None:
    package = Path(itool_pipeline.__file__).parent
    modules = PackageSources(package).modules
    assert {f"{package.name}.{module}" for module in LEFT_OUT} <= modules.keys()


def test_no_code_version_is_forgotten(steps: dict[str, StepRecord]) -> None:
    problems = version_problems(steps, read_record())
    assert not problems, "\n\n".join(map(str, problems))


def test_the_search_is_what_trees_are_made_of_and_what_pairs_are_not(steps: dict[str, StepRecord]) -> None:
    search, drawing, losses = (
        "itool_pipeline.core.search.grow_tree",
        "itool_pipeline.engines.branches.draw_tokens",
        "itool_pipeline.training.losses.pair_losses",
    )
    assert {search, drawing} <= steps["trees"].definitions.keys()
    assert losses not in steps["trees"].definitions
    assert losses in steps["policy"].definitions
    assert not {search, drawing, losses} & steps["pairs"].definitions.keys()
    child = "itool_pipeline.benchmarks.sandbox.sandbox_child.main"  # started as a process, by its module's name
    assert child in steps["bfcl scores"].definitions
    assert child not in steps["bfcl cases"].definitions


def test_what_is_named_is_reached_and_nothing_else(toy: Path) -> None:
    assert reached(toy).keys() == {
        "toy.step.make",
        "toy.core.search.grow",
        "toy.core.search.WIDTH",
        "toy.handed.Judge",
        "toy.late.prepare",
        "toy.child.EXIT",
        "toy.child.",
    }


def test_a_method_is_reached_with_what_it_asks_of_itself(toy: Path) -> None:
    assert reached(toy, "toy.handed.Judge.judge").keys() == {f"toy.handed.Judge.{m}" for m in ("judge", "mark", "kind")}
    assert reached(toy, "toy.handed.Judge.inherited") == {}
    with pytest.raises(KeyError, match=r"there is no toy\.step\.gone"):
        reached(toy, "toy.step.gone")


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("step.py", "Prose.", "Other prose."),
        ("step.py", "# why", "# why not"),
        ("step.py", "from toy.late import prepare", "from toy.late import (\n        prepare,\n    )"),
        ("step.py", "return unknown", "return 5"),
        ("core/search.py", "DEPTH = 4", "DEPTH = 5"),
        ("core/search.py", "WIDTH * limit", "(WIDTH  *  limit)"),
        ("settings.py", "7", "8"),
    ],
)
def test_prose_and_what_is_not_reached_are_not_seen(toy: Path, file: str, before: str, after: str) -> None:
    known = hash_of_all(reached(toy))
    change(toy, file, before, after)
    assert hash_of_all(reached(toy)) == known


@pytest.mark.parametrize(
    ("file", "before", "after", "name"),
    [
        ("core/search.py", "WIDTH = 3", "WIDTH = 4", "toy.core.search.WIDTH"),
        ("core/search.py", "WIDTH * limit", "WIDTH + limit", "toy.core.search.grow"),
        ("late.py", "return value", "return -value", "toy.late.prepare"),
        ("handed.py", "return 3", "return None", "toy.handed.Judge"),
        ("child.py", "EXIT = 3", "EXIT = 4", "toy.child.EXIT"),
        ("child.py", "(100)", "(200)", "toy.child."),
    ],
)
def test_what_is_reached_is_seen_and_named(toy: Path, file: str, before: str, after: str, name: str) -> None:
    known = reached(toy)
    change(toy, file, before, after)
    now = reached(toy)
    assert [key for key in now if now[key] != known[key]] == [name]
    assert hash_of_all(now) != hash_of_all(known)


def test_a_definition_that_moves_changes_nothing(toy: Path) -> None:
    known = reached(toy)
    (toy / "late.py").rename(toy / "later.py")
    change(toy, "step.py", "toy.late", "toy.later")
    assert reached(toy).keys() != known.keys()
    assert hash_of_all(reached(toy)) == hash_of_all(known)


def test_a_forgotten_version_is_named_with_what_changed_and_what_to_do(toy: Path) -> None:
    record = recorded_content({"trees": StepRecord("6", reached(toy), "CODE_VERSIONS")})
    change(toy, "core/search.py", "WIDTH * limit", "WIDTH + limit")
    (problem,) = version_problems({"trees": StepRecord("6", reached(toy), "CODE_VERSIONS")}, record)
    assert str(problem) == (
        "trees is still version 6, but core.search.grow changed: if the step now makes anything else of the same "
        "inputs, raise CODE_VERSIONS; then, and where it cannot, confirm with `make confirm-versions`"
    )
    change(toy, "step.py", "search.grow(LIMIT)", "LIMIT")
    (problem,) = version_problems({"trees": StepRecord("6", reached(toy), "CODE_VERSIONS")}, record)
    assert "but step.make changed" in problem.what


def test_a_raised_version_a_new_step_and_one_that_is_gone_ask_to_be_recorded(toy: Path) -> None:
    step = StepRecord("6", reached(toy), "")
    record = recorded_content({"trees": step, "old": step})
    assert version_problems({"trees": step, "old": step}, record) == []
    problems = version_problems({"trees": StepRecord("7", reached(toy), ""), "new": step}, record)
    assert [str(problem) for problem in problems] == [
        "trees is now version 7, recorded is 6: make confirm-versions",
        "new is not recorded: make confirm-versions",
        "old is no step any more: make confirm-versions",
    ]


def test_confirming_says_what_it_records_and_then_all_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: dict[str, StepRecord]
) -> None:
    file = tmp_path / "versions.yaml"
    assert main(file) == 0
    assert "confirmed: trees is not recorded\n" in capsys.readouterr().out
    assert version_problems(steps, read_record(file)) == []
    assert main(file) == 0
    assert capsys.readouterr().out == ""
