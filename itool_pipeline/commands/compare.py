"""`compare`: experiments on the same cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from itool_pipeline.commands.parsers import Commands
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.store.sql_shell import text_table


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("compare", help="how experiments differ on the same cases, as tables and a page")
    parser.add_argument(
        "entrants", nargs="+", help="NAME, NAME@CHECKPOINT, or seeds of one setting: A+B+C; first the base"
    )
    parser.add_argument("--html", help="the page's file; by default one in the storage's folder comparisons")
    parser.set_defaults(command=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Print how experiments, or checkpoints of one, differ on the same cases, and write the same as an HTML page."""
    from itool_pipeline.comparison.whole import compare as compare_entrants

    made = compare_entrants(
        storage_paths(), arguments.entrants, Path(arguments.html).resolve() if arguments.html else None
    )
    for table in made.tables:
        print(f"{table.title}\n{text_table(list(table.head), [tuple(row) for row in table.rows])}\n")
    print(made.page)
    return 0
