"""`check`: whether experiments can run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from itool_pipeline.commands.parsers import Commands, add_set
from itool_pipeline.config import Experiment
from itool_pipeline.experiment_files import ConfigError, experiment_folders, experiment_names, load_experiment
from itool_pipeline.steps.preflight import obstacles
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.variants import make_variant


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("check", help="whether every experiment, or one, can run; nothing is run or written")
    parser.add_argument("experiment", nargs="?")
    add_set(parser)
    parser.set_defaults(command=check)


def check(arguments: argparse.Namespace) -> int:
    """Print of every experiment, or of the one named, what is wrong or would stop it; 1 when anything would."""
    if arguments.set:
        if not arguments.experiment:
            raise ConfigError("check --set: name the experiment that the keys are set in")
        variant = make_variant(arguments.experiment, arguments.set).experiment
        return _checked(lambda: variant, variant.name)
    names = [arguments.experiment] if arguments.experiment else experiment_names()
    if not names:
        folders = ", ".join(map(str, experiment_folders()))
        raise ConfigError(f"No experiment is there: see that ITOOL_EXPERIMENTS names a folder of them ({folders})")
    return max(_checked(partial(load_experiment, name), name) for name in names)


def _checked(load: Callable[[], Experiment], name: str) -> int:
    try:
        experiment = load()
        found = obstacles(experiment, storage_paths())
    except ConfigError as error:
        found = [str(error)]
    print("\n".join([f"bad {name}", *found]) if found else f"ok  {name}: {experiment.description}", flush=True)
    return 1 if found else 0
