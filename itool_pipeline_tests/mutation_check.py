"""Breaks the method on purpose and runs the tests that should notice: `make mutants`.

    python -m itool_pipeline_tests.mutation_check [core] [store files] [steps/workspace] ...

Every mutant of `mutants.yaml` is applied alone, in a temporary copy of the package: all of them, or those of the places
that are named, a place being a folder, a module, or how its path in the package begins. There are some in every layer:
the method (core, judges), what computes it (training, engines), what reads and scores (data, calls, benchmarks), and
the joints that keep artifacts whole and lineage true (files, store, steps). Prints a table and fails if any survives.
The tests must pass on the copy without a mutant first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
LONGEST = 1200
"""Seconds that the tests of one mutant may take: a break can make a loop endless."""
COPIED = ("itool_pipeline", "itool_pipeline_tests", "docs", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Mutant:
    """`before`, which stands exactly once in `file` of the package, becomes `after`; `tests` should notice."""

    file: str
    name: str
    before: str
    after: str
    tests: tuple[str, ...]

    @property
    def area(self) -> str:
        """The folder, such as `core`, or the module beside the folders."""
        return self.file.split("/")[0]

    def applied(self, source: str) -> str:
        """The module's text with the break in it. Raises ValueError unless the replacement applies exactly once."""
        if (found := source.count(self.before)) != 1 or self.before == self.after:
            raise ValueError(f"{self.file}: {self.name}: {self.before!r} stands {found} times in the module, not once")
        return source.replace(self.before, self.after)


def mutants() -> list[Mutant]:
    """All of `mutants.yaml`."""
    content = yaml.safe_load((ROOT / "itool_pipeline_tests" / "mutants.yaml").read_text(encoding="utf-8"))
    return [
        Mutant(file, name, before, after, tuple(entry["tests"]))
        for file, entry in content.items()
        for name, (before, after) in entry["mutants"].items()
    ]


def copy_to(folder: Path) -> None:
    """What the tests need, without what running leaves behind."""
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copyfile(source, folder / name)


def first_failure(folder: Path, tests: Iterable[str]) -> str:
    """The first test that fails in the copy, or '' when all pass. Tests that need downloads share the repository's."""
    storage = os.environ.get("ITOOL_STORAGE") or str(ROOT / "storage")
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ITOOL_STORAGE": storage,
    }
    files = [f"itool_pipeline_tests/{name}" for name in tests]
    # With and without a mutant the same generated inputs, and none that another mutant was found by.
    shutil.rmtree(folder / ".hypothesis", ignore_errors=True)
    options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return f"no end within {LONGEST} s"
    if done.returncode == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) \S*/(test_\w+\.py(?:::\w+)?)", done.stdout, re.MULTILINE)
    if done.returncode != 1 and not found:
        raise SystemExit(f"pytest could not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found.group(1) if found else "a test"


def caught_by(folder: Path, mutant: Mutant) -> str:
    """The test that notices the mutant, or ''. The copy is put back as it was."""
    file = folder / "itool_pipeline" / mutant.file
    source = file.read_text(encoding="utf-8")
    file.write_text(mutant.applied(source), encoding="utf-8")
    try:
        return first_failure(folder, mutant.tests)
    finally:
        file.write_text(source, encoding="utf-8")


def main(places: list[str]) -> int:
    """0 when every mutant of these folders or modules (without any: of all) is caught."""
    wanted = [mutant for mutant in mutants() if not places or mutant.file.startswith(tuple(places))]
    if not wanted:
        areas = sorted({mutant.area for mutant in mutants()})
        raise SystemExit(f"no mutant in {', '.join(places)}; there are some in {', '.join(areas)}")
    survived = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_to(folder)
        if failed := first_failure(folder, sorted({test for mutant in wanted for test in mutant.tests})):
            raise SystemExit(f"{failed} fails without any mutant: mend it first")
        for mutant in wanted:
            test = caught_by(folder, mutant)
            survived += not test
            print(f"{'caught' if test else 'SURVIVED':<9}{mutant.file:<32}{mutant.name:<42}{test}", flush=True)
    print(f"{len(wanted) - survived} caught, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
