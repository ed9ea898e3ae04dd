"""`plan`: what a run would make, and what of time and memory that would take."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from itool_pipeline.commands.parsers import Commands, add_set
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.variants import make_variant


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("plan", help="what a run would make, in what time and memory; nothing is begun")
    parser.add_argument("experiment")
    parser.add_argument("--device", help="cpu, or a GPU by name: h100, a100, …; by default what this machine has")
    add_set(parser)
    parser.set_defaults(command=plan)


def plan(arguments: argparse.Namespace) -> int:
    """Print what a run of the experiment would reuse and make, on this machine or on a named device."""
    from itool_pipeline.steps.forecast.forecast import forecast
    from itool_pipeline.steps.forecast.text import forecast_text

    name = arguments.experiment
    experiment = make_variant(name, arguments.set).experiment if arguments.set else load_experiment(name)
    say = partial(print, file=sys.stderr)
    print(forecast_text(forecast(experiment, storage_paths(), arguments.device, say)))
    return 0
