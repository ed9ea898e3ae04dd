"""`sql`: a query over the database."""

from __future__ import annotations

import argparse

from itool_pipeline.commands.parsers import Commands
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.store.sql_shell import run_sql


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("sql", help="ask the database, read-only")
    parser.add_argument("query")
    parser.set_defaults(command=sql)


def sql(arguments: argparse.Namespace) -> int:
    """Print the result of one query."""
    print(run_sql(storage_paths().database, arguments.query))
    return 0
