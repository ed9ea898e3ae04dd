"""What the commands share. Each is a module here: `add_to` adds its parser, whose `command` is the function to call."""

from __future__ import annotations

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_set(parser: argparse.ArgumentParser) -> None:
    """`--set KEY=VALUE`, any number of times: the experiment with these keys changed."""
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="with this key changed, a.b.c=1e-5")
