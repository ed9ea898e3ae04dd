"""`conformance`: our verdicts against a benchmark's own command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from itool_pipeline.calls.syntaxes import SYNTAXES, syntax_named
from itool_pipeline.commands.parsers import Commands
from itool_pipeline.experiment_files import ConfigError
from itool_pipeline.store.paths import storage_paths


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("conformance", help="compare our verdicts with a benchmark's own command line")
    parser.add_argument("experiment", nargs="?", help="every scored checkpoint of it")
    parser.add_argument("--answers", help='a file of lines {"id": …, "result": …} instead')
    parser.add_argument("--benchmark", help="one that has a command line; by default the first")
    parser.add_argument(
        "--calls", choices=tuple(SYNTAXES), default="python", help="how the file of --answers writes calls"
    )
    parser.add_argument("--environment", default=".venv-conformance", help="where the official command line lives")
    parser.set_defaults(command=conformance)


def conformance(arguments: argparse.Namespace) -> int:
    """Compare our verdicts with those of the unmodified official command line; 1 when any differs."""
    from itool_pipeline.steps import conformance as step

    environment, benchmark = Path(arguments.environment).absolute(), arguments.benchmark or next(iter(step.OPINIONS))
    if benchmark not in step.OPINIONS:
        raise ConfigError(f"--benchmark {benchmark}: only {', '.join(step.OPINIONS)} has a command line of its own")
    if arguments.answers:
        file, syntax = Path(arguments.answers), syntax_named(arguments.calls)
        judged = {file.name: step.judged_answers(file, benchmark, storage_paths(), syntax)}
    elif arguments.experiment:
        judged, syntax = step.judged_cases(arguments.experiment, benchmark), step.syntax_of(arguments.experiment)
    else:
        print("name an experiment that has been scored, or a file with --answers", file=sys.stderr)
        return 2
    different = 0
    for name, cases in judged.items():
        text, found = step.compared_verdicts(cases, benchmark, storage_paths(), environment, syntax)
        print(f"{name}\n{text}\n")
        different += found
    return 1 if different else 0
