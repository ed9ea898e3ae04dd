"""`run`: one experiment from data to report, then its leaderboard."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from itool_pipeline.commands.parsers import Commands, add_set
from itool_pipeline.commands.scores import print_scores
from itool_pipeline.config import Experiment
from itool_pipeline.experiment_files import ConfigError, experiment_names, load_experiment
from itool_pipeline.steps.asset_graph import asked_benchmarks
from itool_pipeline.steps.preflight import obstacles
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.variants import make_variant, write_variant


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("run", help="run one experiment from data to report")
    parser.add_argument("experiment", help=f"one of: {', '.join(experiment_names())}".replace("%", "%%"))
    parser.add_argument("--force", action="store_true", help="make everything again even where it is there")
    parser.add_argument("--as", dest="name", help="the name of the experiment that --set makes")
    add_set(parser)
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Execute the job `itool` on one partition, begun by this process and recorded in the Dagster instance."""
    experiment = _asked_experiment(arguments)
    if found := obstacles(experiment, storage_paths()):
        print(f"{experiment.name} cannot run; nothing was begun.", *found, sep="\n", file=sys.stderr)
        return 1
    os.environ.setdefault("DAGSTER_HOME", str(_dagster_home()))

    import dagster as dg  # slow to import, and the other commands do without

    from itool_pipeline.definitions import itool_job
    from itool_pipeline.defs.automation import SHORT_LOG
    from itool_pipeline.defs.checks import did_not_pass
    from itool_pipeline.defs.partitions import PARTITION_TAG

    start, name = time.monotonic(), experiment.name
    config = {**SHORT_LOG, "resources": {"options": {"config": {"force": arguments.force}}}}
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            dg.reconstructable(itool_job), instance=instance, run_config=config, tags={PARTITION_TAG: name}
        )
    seconds = time.monotonic() - start
    if not result.success:
        return 1  # the log has said why
    print_scores(name, [benchmark.name for benchmark in asked_benchmarks(experiment)])
    print(f"\n{name}: finished in {seconds:.0f} s. `make ui` shows every artifact of run {result.run_id}.", flush=True)
    said, failed = did_not_pass(result.get_asset_check_evaluations())
    print(*said, sep="\n", end="\n" if said else "", file=sys.stderr)
    return int(failed)


def _asked_experiment(arguments: argparse.Namespace) -> Experiment:
    """The experiment of that name, or with `--set` its variant, whose file is written before Dagster looks for it."""
    if not arguments.set:
        if arguments.name:
            raise ConfigError("--as names what --set makes: give at least one --set key=value")
        return load_experiment(arguments.experiment)
    variant = make_variant(arguments.experiment, arguments.set, arguments.name)
    write_variant(variant)
    print(f"{variant.experiment.name}: {variant.path}")
    return variant.experiment


def _dagster_home() -> Path:
    """The storage root, with the settings of the Dagster instance."""
    root, settings = storage_paths().root, Path(__file__).parents[2] / "storage" / "dagster.yaml"
    root.mkdir(parents=True, exist_ok=True)
    if not (root / settings.name).exists() and settings.exists():
        shutil.copyfile(settings, root / settings.name)
    return root
