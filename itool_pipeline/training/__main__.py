"""python -m itool_pipeline.training job.json: runs one training job, or goes on with it after a kill.

In as many processes as its `compute.processes` says, or as a launcher has started: `torchrun --nproc_per_node 2 -m
itool_pipeline.training job.json`.
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
from itool_pipeline.training.launching import run_launched, train_in_processes


def main(arguments: list[str] | None = None) -> int:
    """0 when the adapter and its result are written; 1, with one sentence, for what a person can mend."""
    parser = argparse.ArgumentParser(prog="python -m itool_pipeline.training", description="Run one training job.")
    parser.add_argument("job", type=Path, help="JSON file of a TrainingJob")
    parser.add_argument("--launched", action="store_true", help="as one of the processes that another has started")
    options = parser.parse_args(arguments)
    path: Path = options.job
    if options.launched:
        return run_launched(path)
    try:
        job = read_job(path)
        what, silent = f"training {path}", os.environ.get("RANK", "0") != "0"
        with tqdm(unit="step", desc=what, disable=silent) as bar, explaining_full_disk(what, job.parts):

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            if job.compute.processes > 1 and "RANK" not in os.environ:
                result = train_in_processes(path, progress, tqdm.write)
            else:
                from itool_pipeline.training.runner import run_training_job  # slow, and not needed to start others

                result = run_training_job(job, progress, tqdm.write)
    except ActionableError as error:
        print(error, file=sys.stderr)
        return 1
    if not silent:
        print(f"{result.steps} steps, the best after {result.best_step}: {job.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
