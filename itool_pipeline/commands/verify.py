"""`verify`: the whole storage, is it still what was written?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from itool_pipeline.commands.parsers import Commands
from itool_pipeline.steps.progress import Timed
from itool_pipeline.store.artifacts import ArtifactStore
from itool_pipeline.store.database import Database
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.store.row_verification import remedy, verify_rows
from itool_pipeline.store.sql_shell import text_table
from itool_pipeline.store.verification import REMEDY, verify_store

DATABASE_WAIT_SECONDS = 60.0
"""How long it waits for another process that has the database open."""


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("verify", help="the artifacts: are they still what was written?")
    parser.add_argument("assets", nargs="*", help="iteration_1/pairs, or iteration_1 for all in it; default: all")
    parser.add_argument("--deep", action="store_true", help="each file's sha256 and the database's rows too")
    parser.set_defaults(command=verify)


def verify(arguments: argparse.Namespace) -> int:
    """Hold the files of all artifacts, or of the assets named, against their manifests; 1 when any is damaged.

    `--deep` also holds the database's rows against them, and raises DatabaseLocked when another process keeps it.
    """
    store = ArtifactStore(storage_paths().artifacts)
    progress = Timed("artifacts verified", lambda line: print(line, file=sys.stderr))
    verified = verify_store(store, [name.strip("/") for name in arguments.assets], progress, deep=arguments.deep)
    names = ["asset", "artifacts", "files", "bytes", "only size compared", "damaged"]
    rows = [(a.asset, a.artifacts, a.files, a.bytes, a.not_hashed, len(a.damaged)) for a in verified.assets]
    print(text_table(names, rows))
    if verified.aside:
        print("\nNo artifacts, and never taken for one:", *(f"{f.state:<11}{f.path}" for f in verified.aside), sep="\n")
    if verified.damaged:
        print("\nDamaged:", *(f"{path}: {'; '.join(found)}" for path, found in verified.damaged.items()), sep="\n")
        print(REMEDY)
    differing = arguments.deep and _rows_differ([artifact for asset in verified.assets for artifact in asset.whole])
    return 1 if verified.damaged or differing else 0


def _rows_differ(artifacts: Sequence[Artifact]) -> bool:
    """Print how the rows in the database differ from these artifacts'; whether any do."""
    from itool_pipeline.steps.asset_tables import rows_of

    tell = partial(print, file=sys.stderr)
    database = Database(storage_paths().database, wait_seconds=DATABASE_WAIT_SECONDS, say=tell)
    found = verify_rows(database, artifacts, rows_of, Timed("artifacts' rows compared", tell))
    if found is None:
        print("\nThere is no database with today's tables to compare rows with: the next run makes one.")
        return False
    unknown = f"; of {found.not_loaded} it knows nothing: the next run that uses one loads its rows"
    differ = f"those of {found.compared} artifacts compared, {len(found.different)} differ"
    print(f"\nRows in {database.path}: {differ}{unknown if found.not_loaded else ''}")
    if found.different:
        print(*found.lines(), remedy(database.path), sep="\n")
    return bool(found.different)
