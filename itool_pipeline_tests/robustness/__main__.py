"""`make drills`: everything that may happen to a run is tried many times over, and counted.

python -m itool_pipeline_tests.robustness                    all drills
python -m itool_pipeline_tests.robustness kills_in_process --tries 5 --seed 3
"""

from __future__ import annotations

import argparse
import sys

from itool_pipeline_tests.robustness import databases, disks, files, inputs, models, secrets, together
from itool_pipeline_tests.robustness.kills import before_its_lock, kills
from itool_pipeline_tests.robustness.outcome import Drill, performed, summary

MANY = 100_000
ROOM = f"size={disks.ROOM_MIB}m"
FEW_NAMES = f"{ROOM},nr_inodes=3000"
corrupted = databases.between_steps(databases.corrupt, refused=True)
DRILLS = (
    Drill("kills_in_process", "SIGKILL at random moments, all steps in one process", 50, kills("in_process")),
    Drill("kills_multiprocess", "SIGKILL of the run alone, each step a process", 50, kills("multiprocess")),
    Drill("kills_ray", "SIGKILL of the run alone, steps on Ray", 50, kills("ray", "dagster_ray", "aiohttp_cors")),
    Drill("kills_at_the_start", "SIGKILL in the first seconds of a run", 10, before_its_lock),
    Drill("disk_full", "no room at a random moment", 30, disks.broken(ROOM, disks.fill)),
    Drill("no_inodes", "no room for another name at a random moment", 5, disks.broken(FEW_NAMES, disks.use_up_inodes)),
    Drill("read_only", "storage made read-only at a random moment", 5, disks.broken(ROOM, disks.make_read_only)),
    Drill("odd_path", "spaces, quotes, other scripts in the storage's path", 4, disks.odd_path),
    Drill("other_file_system", "storage and temporary folder on two file systems", 1, disks.other_file_system),
    Drill("database_held", "open in another process for a minute", 1, databases.held),
    Drill("database_corrupted", "pages overwritten between two steps", 5, corrupted),
    Drill("database_older", "of an older version between two steps", 1, databases.between_steps(databases.make_older)),
    Drill("database_deleted", "deleted between two steps", 1, databases.between_steps(databases.delete)),
    Drill("same_partition", "two runs of one partition at once", 3, together.same_partition),
    Drill("shared_warmup", "two experiments that share a warm-up at once", 3, together.shared_warmup),
    Drill("beside_dev", "a run killed beside `dagster dev`, another in its queue", 5, together.beside_dev),
    Drill("tokens", "a token in the environment is in no file", 1, secrets.tokens),
    Drill("rows", "mutated rows of every layout", MANY, inputs.rows),
    Drill("damaged_files", "files of rows, damaged byte by byte", MANY, files.damaged_files),
    Drill("model_folders", "a model of which one file is damaged", 1000, models.model_folders),
    Drill("adapters", "an adapter of which one file is damaged", 2000, models.adapters),
    Drill("configs", "damaged config files", MANY, inputs.configs),
    Drill("outputs", "damaged and hostile model outputs, read and judged", MANY, inputs.outputs),
    Drill("sandbox", "hostile calls to the tools of the multi-turn benchmark", MANY, inputs.sandboxed),
    Drill("markdown", "links, images, HTML and table marks in the UI's tables", MANY, inputs.markdown),
)


def main() -> int:
    """Perform the drills that are named, or all; 1 when any try failed."""
    parser = argparse.ArgumentParser(description="Robustness drills; each prints tries, failures, seconds and seed.")
    names = [drill.name for drill in DRILLS]
    parser.add_argument("drills", nargs="*", metavar="DRILL", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--tries", type=int, help="how often each is tried; default: its own number")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    arguments = parser.parse_args()
    if unknown := set(arguments.drills) - set(names):
        parser.error(f"there is no drill {', '.join(sorted(unknown))}")
    chosen = [drill for drill in DRILLS if not arguments.drills or drill.name in arguments.drills]
    outcomes = [performed(drill, arguments.tries, arguments.seed) for drill in chosen]
    print(f"\n{summary(outcomes)}")
    return 1 if any(outcome.failures for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
