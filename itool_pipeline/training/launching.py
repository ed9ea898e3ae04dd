"""A training job in several processes of this machine: started, heard, and ended with the process that starts them.

torch's launcher starts them, and ends the others when one has died. (accelerate's own starts one process on a CPU, and
on GPUs torch's launcher with whatever the user's file of accelerate's settings says.) What the processes tell comes as
lines of JSON on their standard output. Their standard input is a pipe that the starting process alone holds open: when
it ends, however it ends, the pipe does, and so do they.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

import itool_pipeline
from itool_pipeline.core.types import Metrics, Progress, no_metrics
from itool_pipeline.errors import words_for
from itool_pipeline.files.locks import Say
from itool_pipeline.files.storage_errors import explaining_full_disk
from itool_pipeline.training.job import TrainingError, TrainingJob, TrainingResult, read_job

LOG = "processes.log"
"""In the job's parts: what the processes of its last start printed on standard error."""
Told = Literal["progress", "metrics", "say", "refused", "failed"]
"""What a line is: steps done and their total; what `Metrics` takes; a line for people; an error that a person can act
on; any other error."""

_DEATH = re.compile(r"rank\s*: (\d+) .*\n\s*exitcode\s*: (-?\d+) ")
"""In the launcher's last words: a process, and how it ended."""


def train_in_processes(file: Path, progress: Progress, say: Say, metrics: Metrics = no_metrics) -> TrainingResult:
    """Run the job of `file` in as many processes as its `compute.processes` says; like `run_training_job`.

    When this call ends, by an exception too, all of them have ended. Raises TrainingError when one of them fails.
    """
    job = read_job(file)
    job.parts.mkdir(parents=True, exist_ok=True)
    with _launched(file, job) as process:
        assert process.stdout is not None
        heard = _Heard(progress, say, metrics)
        for line in process.stdout:
            heard.take(line)
        code = process.wait()
    if code:
        raise TrainingError(heard.refused or _words(job, heard.failed))
    return TypeAdapter(TrainingResult).validate_json(job.result.read_bytes())


def run_launched(file: Path) -> int:
    """One of the processes: run the job of `file` beside the others, and tell the process that started them."""
    _end_with_starter()
    try:
        job = read_job(file)
        with explaining_full_disk(f"training {file}", job.parts):
            from itool_pipeline.training.runner import run_training_job  # takes seconds, in which it can be ended

            run_training_job(
                job,
                lambda done, total: _tell("progress", [done, total]),
                lambda line: _tell("say", line),
                lambda kind, step, values: _tell("metrics", [kind, step, dict(values)]),
            )
    except Exception as error:
        words = words_for(error)
        if words is None:
            traceback.print_exc()
            _tell("failed", f"{type(error).__name__}: {error}")
        else:
            _tell("refused", words)
        return 1
    return 0


@dataclass
class _Heard:
    """What the processes have told; of several errors the first."""

    progress: Progress
    say: Say
    metrics: Metrics
    refused: str = ""
    failed: str = ""

    def take(self, line: str) -> None:
        """Lines that libraries print between ours are of no interest."""
        try:
            ((kind, content),) = json.loads(line).items()
        except (ValueError, AttributeError):
            return
        if kind == "progress":
            self.progress(*content)
        elif kind == "metrics":
            self.metrics(*content)
        elif kind == "say":
            self.say(content)
        elif kind == "refused":
            self.refused = self.refused or content
        elif kind == "failed":
            self.failed = self.failed or content


def _tell(kind: Told, content: Any) -> None:
    sys.stdout.write(json.dumps({kind: content}) + "\n")
    sys.stdout.flush()


def _end_with_starter() -> None:
    """From now on, end when the process at the other end of standard input has ended, whatever is being done."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _launched(file: Path, job: TrainingJob) -> Iterator[subprocess.Popen[str]]:
    """The launcher with its processes; at the end none of them is left."""
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(job.compute.processes)]
    command += ["--log_dir", str(job.parts / "launcher")]  # of which /tmp would keep one for each start
    with (job.parts / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "-m", "itool_pipeline.training", "--launched", str(file)],
            env=_environment(job),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C in a terminal is for this process, which then ends them
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.stdin.close()  # which ends the processes
        process.kill()
        process.wait()
        process.stdout.read()  # ends when nobody is left who could write to it
        process.stdout.close()


def _environment(job: TrainingJob) -> dict[str, str]:
    """This process's, with this very package, a share of the cores for each process, and the CPU where it is named."""
    paths = [str(Path(itool_pipeline.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    cores = max(1, len(os.sched_getaffinity(0)) // job.compute.processes)
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if job.compute.device == "cpu":
        own["ACCELERATE_USE_CPU"] = "true"
    return {"OMP_NUM_THREADS": str(cores), **os.environ, **own}


def _words(job: TrainingJob, failed: str) -> str:
    """For a person: what ended the processes, how to go on, and where more is to be read."""
    log = job.parts / LOG
    text = log.read_text(errors="replace")
    deaths = [(rank, -int(code)) for rank, code in _DEATH.findall(text)]
    killed = [(rank, number) for rank, number in deaths if number > 0 and number != signal.SIGTERM]
    if killed:
        rank, number = killed[0]
        what = f"process {rank} was killed by {signal.Signals(number).name}, as the system does where memory runs out"
    else:
        what = failed or (text.strip().splitlines() or ["nothing was said"])[-1]
    return (
        f"The training in {job.compute.processes} processes has ended: {what}. Those that were left were ended too. "
        f"Run again, and it goes on from its last checkpoint. If it ends so again, {log} has what they printed."
    )
