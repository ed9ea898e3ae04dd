"""docs/method.md: every link leads somewhere, every name and config key in it exists, and no method key is missing."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from itool_pipeline import config
from itool_pipeline.experiment_files import SHIPPED, experiment_names

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "method.md").read_text(encoding="utf-8")
LINKS: list[tuple[str, str]] = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", TEXT)
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| Paper |", "| --- |"))]
METHOD_SECTIONS = ("split", "warmup", "replay_buffer", "search", "pairs", "preference")
ONCE_FOR_BOTH = ("weight_decay", "max_grad_norm", "micro_batch_tokens", "checkpoint_every")
"""Keys of the optimizer that are explained for the warm-up and mean the same for preferences."""


@cache
def names(file: Path) -> frozenset[str]:
    """Functions, classes, `Class.member`s and constants that a module defines."""
    found: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    collect(ast.parse(file.read_text(encoding="utf-8")).body, "")
    return frozenset(found)


def sections(annotation: Any) -> list[type[BaseModel]]:
    """The section that a field holds, or the ones that its `type` chooses between."""
    if get_origin(annotation) in (Union, UnionType):
        return [s for part in get_args(annotation) if part is not NoneType for s in sections(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Dotted keys of all leaves; where a `type` chooses, its name stands in the path."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        below = sections(field.annotation)
        if not below:
            found.add(prefix + name)
        if len(below) > 1:
            found.add(prefix + name)  # what its `type` chooses
        for section in below:
            chosen = f"{get_args(section.model_fields['type'].annotation)[0]}." if len(below) > 1 else ""
            found |= keys(section, f"{prefix}{name}.{chosen}")
    return found


KEYS = keys(config.Experiment)


def problem(text: str, target: str) -> str:
    """What is wrong with a link, or ''."""
    file = (DOCS / target).resolve()
    if file == Path(config.__file__).resolve().parent:
        known = KEYS.union(*map(names, file.glob("*.py")))
        return "" if text in known else "no such key"
    if not file.is_file():
        return "no such file"
    if file.suffix == ".py":
        of_tests = text.startswith("test_") == file.name.startswith("test_")
        return "" if of_tests and text in names(file) else "no such name"
    if file.suffix == ".yaml":
        return "" if text == file.stem and text in experiment_names() else "no such experiment"
    if file.suffix == ".sql":
        return "" if f"VIEW {text} AS" in file.read_text() else "no such view"
    return ""


def test_links_lead_to_what_they_name() -> None:
    assert len(LINKS) > 250
    assert [(text, target, problem(text, target)) for text, target in LINKS if problem(text, target)] == []


def test_wrong_links_are_seen() -> None:
    """The check itself: a missing file, key, name, experiment, view, and a test that is linked as code."""
    wrong = [
        ("x", "nowhere.md"),
        ("search.width.x", "../itool_pipeline/config"),
        ("SearchTree.grow", "../itool_pipeline/core/tree.py"),
        ("test_absent", "../itool_pipeline_tests/core/test_tree.py"),
        ("PROBLEM", "../itool_pipeline_tests/core/test_tree.py"),
        ("dpo", "../itool_pipeline/experiments/ipo.yaml"),
        ("costs", "../itool_pipeline/store/views.sql"),
    ]
    assert all(problem(text, target) for text, target in wrong)
    assert problem("SearchTree.backup", "../itool_pipeline/core/tree.py") == ""


def test_every_row_has_a_test_or_says_that_it_has_none() -> None:
    assert len(ROWS) > 60
    for row in ROWS:
        cells = re.split(r"(?<!\\)\|", row)[1:-1]
        assert len(cells) == 5, row
        held = cells[3]
        assert ("](../itool_pipeline_tests/" in held) != ("no test" in held), row
        assert all(": " in part for part in held.split(";")) or "no test" in held, f"a test without its oracle: {row}"


def test_every_key_of_the_method_is_in_the_table() -> None:
    linked = {text for text, target in LINKS if target.endswith("/config")}
    method = {key for key in KEYS if key.split(".")[0] in METHOD_SECTIONS and not key.endswith(".type")}
    shared = {f"preference.optimizer.{key}" for key in ONCE_FOR_BOTH}
    # What both ways to search have is explained for MCTS.
    shared |= {key for key in method if key.replace("search.sampling", "search.mcts") in method & linked} - linked
    assert method - linked == shared


def test_every_experiment_is_in_the_table() -> None:
    linked = {text for text, target in LINKS if target.endswith(".yaml")}
    assert {path.stem for path in SHIPPED.glob("*.yaml")} - linked == {"demo"}
