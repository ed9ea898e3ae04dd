"""`export`: a checkpoint as a folder that others load and serve."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from itool_pipeline.commands.parsers import Commands


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("export", help="a checkpoint as a folder that others load and serve")
    parser.add_argument("experiment")
    parser.add_argument("--checkpoint", help="base, warmup, iteration_1, …; by default the last")
    parser.add_argument("--out", help="the folder; by default one in the storage's folder exports")
    parser.add_argument(
        "--check",
        nargs="?",
        const="vllm",
        choices=("vllm", "own"),
        help="serve it and compare its calls with those scored; `own`: by the parser that comes with the export",
    )
    parser.add_argument("--gguf", action="store_true", help="also as model.gguf, for llama.cpp")
    parser.add_argument("--push-to", metavar="OWNER/NAME", help="upload it to this repository of the hub")
    parser.set_defaults(command=export)


def export(arguments: argparse.Namespace) -> int:
    """Write a checkpoint as a folder to load and to serve; with --check, 1 unless it serves what was scored."""
    from itool_pipeline.data.publish import publish, require_token
    from itool_pipeline.steps.exported_model import add_gguf, export_to, last_checkpoint
    from itool_pipeline.steps.round_trip import round_trip
    from itool_pipeline.steps.workspace import Workspace

    if arguments.push_to:
        require_token(arguments.push_to)
    ws = Workspace.of(arguments.experiment, say=partial(print, file=sys.stderr))
    checkpoint = arguments.checkpoint or last_checkpoint(ws)
    name = arguments.experiment if arguments.checkpoint is None else f"{arguments.experiment}.{checkpoint}"
    out = Path(arguments.out) if arguments.out else ws.paths.exports / name
    for key, value in export_to(ws, checkpoint, out).items():
        print(f"{key}: {value}")
    print(out)
    if arguments.gguf:
        print(add_gguf(out))
    failed = 0
    if arguments.check:
        found = round_trip(ws, out, checkpoint, own_parser=arguments.check == "own")
        print(*(f"{key}: {value}" for key, value in found.counts.items()), *found.problems, sep="\n")
        failed = int(bool(found.problems))
    if arguments.push_to:
        print(publish(out, arguments.push_to))
    return failed
