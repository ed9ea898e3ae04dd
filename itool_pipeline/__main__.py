"""The small command line for what Dagster's own does not cover.

python -m itool_pipeline init FILE       look at your own conversations, and write an experiment that trains on them
python -m itool_pipeline run demo        one experiment from data to report, then its leaderboard
python -m itool_pipeline run demo --set iterations=1     the same with other keys, as an experiment of its own
python -m itool_pipeline plan demo       what a run would make, and what of time and memory that would take
python -m itool_pipeline check           every experiment file: is it valid, and is what it needs there?
python -m itool_pipeline compare sft_entire demo     experiments on the same cases: who is better, how surely?
python -m itool_pipeline sql "FROM …"    ask the database, read-only
python -m itool_pipeline verify          the whole storage: is it still what was written? --deep: each byte and row
python -m itool_pipeline export demo     its last checkpoint as a folder that others load and serve
python -m itool_pipeline conformance demo     our verdicts against a benchmark's own command line
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable

from itool_pipeline.commands import check, compare, conformance, export, init, plan, run, sql, verify
from itool_pipeline.errors import mistake_of_ours, words_for
from itool_pipeline.stopping import how_to_go_on, stop_when_asked


def _parser() -> argparse.ArgumentParser:
    """Every command with its arguments; `command` is the function that it calls."""
    parser = argparse.ArgumentParser(prog="python -m itool_pipeline", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)
    for command in (init, run, check, plan, compare, sql, verify, export, conformance):
        command.add_to(commands)
    return parser


def main() -> int:
    """Parse the command line; errors that a person can act on are printed without a trace, and their words last."""
    try:
        arguments = _parser().parse_args()
        command: Callable[[argparse.Namespace], int] = arguments.command
        code = command(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(how_to_go_on(), file=sys.stderr)
        return 1
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not _is_printed("\n"):
            return 128 + signal.SIGPIPE
        words = words_for(error)
        if words is None:
            traceback.print_exc()
            words = mistake_of_ours(f"{type(error).__name__}: {error}")
        _is_printed("")  # what was printed before stands before the words
        print(words, file=sys.stderr)
        return 2


def _is_printed(text: str) -> bool:
    """Print the text; whether it and all before arrive: a reader may have had enough, as `head`, or a disk be full."""
    try:
        print(text, end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal in ASCII, a name that is no text
    asked = stop_when_asked()
    code = main()
    sys.exit(asked.exit_code or code)
