"""The rule of layers, read out of every module's imports: an arrow may point down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import itool_pipeline

PACKAGE = "itool_pipeline"
ROOT = Path(itool_pipeline.__file__).parent

OUTSIDE = frozenset({"data", "benchmarks", "engines", "training"})
ERRORS = frozenset({"errors"})
FLOOR = frozenset({"files", "calls", "core", "config", "judges", "statistics"}) | ERRORS
BELOW: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "statistics": frozenset(),
    "stopping": frozenset(),
    "files": ERRORS,
    "calls": ERRORS,
    "config": ERRORS,
    "experiment_files": ERRORS | {"config", "files", "store"},
    "variants": FLOOR | {"experiment_files"},
    "core": ERRORS | {"calls", "config"},
    "judges": ERRORS | {"calls", "config", "core"},
    "data": FLOOR,
    "benchmarks": FLOOR | {"data"},
    "engines": FLOOR | {"data"},
    "training": FLOOR | {"data", "engines"},
    "tracking": FLOOR,
    "store": FLOOR | OUTSIDE,
    "frames": FLOOR | {"store"},
    "comparison": FLOOR | {"store"},
    "steps": FLOOR | OUTSIDE | {"experiment_files", "store", "tracking"},
    "defs": FLOOR | OUTSIDE | {"experiment_files", "store", "steps", "comparison", "tracking"},
    "definitions": frozenset({"defs"}),
    "commands": FLOOR
    | OUTSIDE
    | {"experiment_files", "variants", "store", "steps", "defs", "definitions", "comparison"},
    "__main__": ERRORS | {"commands", "stopping"},
}
"""What each layer may import besides itself. Of the outside world, data lies lowest, and training uses engines."""

PURE = frozenset(
    {
        "__future__",
        "abc",
        "ast",
        "bisect",
        "codeop",
        "collections",
        "collections.abc",
        "contextlib",
        "copy",
        "dataclasses",
        "decimal",
        "difflib",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "json",
        "keyword",
        "math",
        "numbers",
        "operator",
        "random",
        "re",
        "statistics",
        "string",
        "sys",
        "textwrap",
        "types",
        "typing",
        "unicodedata",
        "warnings",
        "numpy",
        "numpy.typing",
    }
)
"""All that the pure layers may import from outside: no file, clock, network or other process is read."""

ONLY_IN: dict[str, frozenset[str]] = {
    "dagster": frozenset({"defs", "definitions", "commands"}),
    "dagster_ray": frozenset({"defs"}),
    "dagster_k8s": frozenset({"defs"}),
    "duckdb": frozenset({"store"}),
    "pandas": frozenset({"frames"}),
    "torch": frozenset({"data", "engines", "training"}),
    "transformers": frozenset({"data", "engines", "training"}),
    "peft": frozenset({"engines", "training"}),
    "bitsandbytes": frozenset({"engines", "training"}),
    "vllm": frozenset({"engines"}),
    "trl": frozenset({"training"}),
    "datasets": frozenset({"training"}),
    **dict.fromkeys(("tensorboard", "trackio", "wandb", "mlflow"), frozenset({"tracking"})),
    "bfcl_eval": frozenset({"benchmarks"}),
    "httpx2": frozenset({"data", "engines"}),
}
COMPUTED = frozenset({"benchmarks"})
"""Layers that may import a module whose name is computed: BFCL's own, out of its wheel."""

FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def module_name(path: Path) -> str:
    parts = (PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str:
    return module.split(".")[1]


def imported(tree: ast.AST, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Every module that is imported anywhere: in functions, in TYPE_CHECKING blocks, relatively, by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: None if is_package else -1]
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source
            if source == PACKAGE:
                yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            name = node.args[0] if node.args else None
            assert isinstance(name, ast.Constant) or layer_of(module) in COMPUTED, f"{ast.unparse(node)} hides its name"
            if isinstance(name, ast.Constant):
                yield str(name.value)


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return set(imported(tree, module_name(path), is_package=path.name == "__init__.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_reader_of_imports_sees_them_all() -> None:
    source = """
import os.path
from itool_pipeline import config
from . import near
from ..files.durable import write
if TYPE_CHECKING:
    from torch import Tensor
def f():
    import duckdb as d
    importlib.import_module("yaml")
"""
    assert set(imported(ast.parse(source), "itool_pipeline.data.hub")) == {
        "os.path",
        "itool_pipeline",
        "itool_pipeline.config",
        "itool_pipeline.data",
        "itool_pipeline.files.durable",
        "torch",
        "duckdb",
        "yaml",
    }


def test_every_layer_is_known_and_acyclic() -> None:
    assert {layer_of(module_name(path)) for path in FILES} <= BELOW.keys()
    seen: set[str] = set()
    while len(seen) < len(BELOW):
        ready = {layer for layer, below in BELOW.items() if below <= seen} - seen
        assert ready, "the layers go round in a circle"
        seen |= ready


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down_only(path: Path) -> None:
    layer = layer_of(module_name(path))
    own = {m for m in imports_of(path) if m.startswith(f"{PACKAGE}.")}
    assert {m for m in own if layer_of(m) not in BELOW[layer] | {layer}} == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_each_library_has_its_layer(path: Path) -> None:
    layer = layer_of(module_name(path))
    libraries = {m.split(".")[0] for m in imports_of(path)}
    assert {library for library in libraries & ONLY_IN.keys() if layer not in ONLY_IN[library]} == set()


CORE = [path for path in FILES if layer_of(module_name(path)) in ("calls", "core", "judges", "statistics")]


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_core_is_pure(path: Path) -> None:
    layers = ("errors", "calls", "config", "core", "judges", "statistics")
    own = (PACKAGE, *(f"{PACKAGE}.{layer}" for layer in layers))
    foreign = {m for m in imports_of(path) if not m.startswith(own[1:]) and m not in own}
    assert foreign <= PURE
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"open", "print", "input", "eval", "exec", "compile", "__import__", "breakpoint"} == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_tests_are_not_imported(path: Path) -> None:
    assert not {m for m in imports_of(path) if m.split(".")[0] in {"itool_pipeline_tests", "pytest", "hypothesis"}}


HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "trl", "dagster", "duckdb", "pyarrow")


@pytest.mark.parametrize(
    "modules", [["itool_pipeline.config"], [module_name(path) for path in CORE]], ids=["config", "core"]
)
def test_import_pulls_in_nothing_heavy(modules: list[str]) -> None:
    code = f"import sys, {', '.join(modules)}; print(sorted({{*{HEAVY!r}}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
