"""Code versions that were forgotten: the sources of every step, recorded beside its version.

    make confirm-versions        (python -m itool_pipeline_tests.source_versions)

`source_versions.yaml` holds, for every step, its version and a hash of what it is made of (see `step_sources`), and the
hash of every definition, so that what changed can be named. The test compares. A change that alters what a step makes
raises the step's version; one that cannot is confirmed, and then the step's line in the diff is who answers for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import itool_pipeline
from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.benchmarks.types import Benchmark
from itool_pipeline.steps.plan import CODE_VERSIONS
from itool_pipeline_tests.step_sources import PackageSources, hash_of_all

FILE = Path(__file__).with_name("source_versions.yaml")
CONFIRM = "make confirm-versions"
_NAMED = 12

ROOTS: Mapping[str, tuple[str, ...]] = {
    "base_model": ("steps.prepare.base_model",),
    "examples": ("steps.prepare.examples",),
    "splits": ("steps.prepare.splits",),
    "warmup": ("steps.warmup.warmup",),
    "replay_buffer": ("steps.replay_buffer.replay_buffer",),
    "trees": ("steps.trees.plan_shards", "steps.trees.search_shards", "steps.trees.gather"),
    "pairs": ("steps.pairs.pairs",),
    "policy": ("steps.policy.policy",),
    "cases": ("steps.cases.benchmark_cases",),
    "scores": ("steps.scoring.score_checkpoint",),
    "champion": ("steps.champion.champion",),
    "report": ("steps.report.report",),
    "exported_model": ("steps.exported_model.exported_model",),
}
"""Kind of step → its functions."""
MAKE_CASES = ("source", "load_cases")
MAKE_SCORES = ("draw_cases", "examine", "aggregates", "categories")
LEAVE_OUT = ("load_cases", "questions", "case_signatures", "training_signatures")
"""Of a benchmark: what decides its cases, its scores, and what no experiment trains on."""

_STORE = (
    *("artifacts", "database", "figures", "fingerprint", "holder", "manifest", "paths", "rows", "schema", "sql_shell"),
    *("table_files", "table_types"),
)
LEFT_OUT = frozenset(
    {
        "benchmarks.registry",  # what is asked of its benchmarks is named above
        "config",  # what is set is in the fingerprint
        "errors",
        "experiment_files",
        "files",
        "steps.asset_graph",
        "steps.config_sections",
        "steps.display",
        "steps.live",
        "steps.plan",
        "steps.progress",
        "steps.workspace",
        *(f"store.{module}" for module in _STORE),
        "tracking",
    }
)
"""What does not decide what a step makes: plumbing, presentation, and what the fingerprint has of itself."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step's version and what it is made of: definition → hash. `raise_in` says where the version stands."""

    version: str
    definitions: Mapping[str, str]
    raise_in: str

    @property
    def sources(self) -> str:
        """Hash of all definitions."""
        return hash_of_all(self.definitions)


def current_steps() -> dict[str, StepRecord]:
    """Every kind of step, and the cases and the scores of every benchmark, by name."""
    package = Path(itool_pipeline.__file__).parent
    sources = PackageSources(package, frozenset(f"{package.name}.{module}" for module in LEFT_OUT))
    roots = {kind: [f"{package.name}.{root}" for root in ROOTS[kind]] for kind in CODE_VERSIONS}
    roots["examples"] += [root for benchmark in BENCHMARKS if benchmark.reserved for root in _of(benchmark, LEAVE_OUT)]
    steps = {
        kind: StepRecord(version, sources.reached(roots[kind]), f'CODE_VERSIONS["{kind}"] of steps/plan.py')
        for kind, version in CODE_VERSIONS.items()
    }
    for benchmark in BENCHMARKS:
        name = type(benchmark).__name__
        cases, scores = (sources.reached(_of(benchmark, asked)) for asked in (MAKE_CASES, MAKE_SCORES))
        steps[f"{benchmark.name} cases"] = StepRecord(benchmark.cases_version, cases, f"cases_version of {name}")
        steps[f"{benchmark.name} scores"] = StepRecord(benchmark.scores_version, scores, f"scores_version of {name}")
    return steps


def _of(benchmark: Benchmark[Any], asked: Iterable[str]) -> list[str]:
    return [f"{type(benchmark).__module__}.{type(benchmark).__name__}.{member}" for member in asked]


def recorded_content(steps: Mapping[str, StepRecord]) -> dict[str, Any]:
    """What the file says of these steps."""
    return {
        "steps": {name: {"version": step.version, "sources": step.sources} for name, step in sorted(steps.items())},
        "definitions": dict(sorted(pair for step in steps.values() for pair in step.definitions.items())),
    }


@dataclass(frozen=True, slots=True)
class VersionProblem:
    """What does not agree with the record, and what to do."""

    what: str
    remedy: str = CONFIRM

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def version_problems(steps: Mapping[str, StepRecord], recorded: Mapping[str, Any]) -> list[VersionProblem]:
    """One for each step that does not agree with the record."""
    told = (_problem(name, step, recorded["steps"].get(name), recorded["definitions"]) for name, step in steps.items())
    gone = sorted(recorded["steps"].keys() - steps.keys())
    return [*filter(None, told), *(VersionProblem(f"{name} is no step any more") for name in gone)]


def _problem(
    name: str, step: StepRecord, told: Mapping[str, str] | None, definitions: Mapping[str, str]
) -> VersionProblem | None:
    if told is None:
        return VersionProblem(f"{name} is not recorded")
    if step.version != told["version"]:
        return VersionProblem(f"{name} is now version {step.version}, recorded is {told['version']}")
    if step.sources == told["sources"]:
        return None
    known = set(definitions.values())
    changed = [key for key, value in step.definitions.items() if value != definitions.get(key) and value not in known]
    return VersionProblem(
        f"{name} is still version {step.version}, but {_listed(changed)} changed",
        f"if the step now makes anything else of the same inputs, raise {step.raise_in}; then, and where it cannot, "
        f"confirm with `{CONFIRM}`",
    )


def _listed(changed: Iterable[str]) -> str:
    names = sorted(name.partition(".")[2] for name in changed)
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more]) or "what it uses of its modules"


def read_record(file: Path = FILE) -> dict[str, Any]:
    """The recorded steps and definitions; nothing where there is no file yet."""
    content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None
    return content or {"steps": {}, "definitions": {}}


def main(file: Path = FILE) -> int:
    """Say what is confirmed, and record the steps as they are."""
    steps = current_steps()
    for problem in version_problems(steps, read_record(file)):
        print(f"confirmed: {problem.what}")
    text = yaml.safe_dump(recorded_content(steps), sort_keys=False, width=200)
    file.write_text(f"# Written by `{CONFIRM}`: see source_versions.py.\n\n{text}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
