"""`init`: an experiment out of a file of one's own conversations."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from itool_pipeline.commands.parsers import Commands


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("init", help="look at a file of conversations, and write an experiment for it")
    parser.add_argument("file", help="JSON lines, a JSON array or Parquet, also in gzip")
    parser.add_argument("--name", help="of the experiment; by default the file's")
    parser.set_defaults(command=init)


def init(arguments: argparse.Namespace) -> int:
    """Print what a file of conversations holds, and write an experiment that trains on it; nothing is overwritten."""
    from itool_pipeline.steps.new_experiment import new_experiment, told, warning, write_experiment

    made = new_experiment(Path(arguments.file), arguments.name)
    write_experiment(made)
    name = made.experiment.name
    print(f"{told(made.look)}\n\n{made.path}\n\n{made.text}")
    print(f"Next: python -m itool_pipeline plan {name}, then run {name}. docs/data.md has every key.")
    if said := warning(made):
        print(said, file=sys.stderr)
    return 0
