"""python -m itool_pipeline.training job.json: runs one training job, or goes on with it after a kill.

In several processes: `accelerate launch --num_processes 2 -m itool_pipeline.training job.json`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from itool_pipeline.errors import ActionableError
from itool_pipeline.files.storage_errors import explaining_full_disk
from itool_pipeline.training.job import read_job
from itool_pipeline.training.runner import run_training_job


def main(arguments: list[str] | None = None) -> int:
    """0 when the adapter and its result are written; 1, with one sentence, for what a person can mend."""
    parser = argparse.ArgumentParser(prog="python -m itool_pipeline.training", description="Run one training job.")
    parser.add_argument("job", type=Path, help="JSON file of a TrainingJob")
    path: Path = parser.parse_args(arguments).job
    try:
        job = read_job(path)
        what, silent = f"training {path}", os.environ.get("RANK", "0") != "0"
        with tqdm(unit="step", desc=what, disable=silent) as bar, explaining_full_disk(what, job.parts):

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            result = run_training_job(job, progress, tqdm.write)
    except ActionableError as error:
        print(error, file=sys.stderr)
        return 1
    if not silent:
        print(f"{result.steps} steps, the best after {result.best_step}: {job.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
