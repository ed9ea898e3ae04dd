"""The processes that the multiprocess executor starts for steps, and how one ends whose run was killed.

It goes on, and what it makes is kept. Its events go into a pipe that the run reads; but as the process holds both ends
of the pipe it does not hear that nobody does, and with some 64 KiB of events it would wait for ever for more room.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from functools import cache
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any

_PIPE_BYTES = 1 << 16


@cache
def outlive_the_run() -> None:
    """In the process of a step: once that of the run is gone, read what it would have read. Elsewhere: nothing."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    # Of multiprocessing's own attributes: a process has what its target is called with, and a queue its pipe's end.
    arguments: tuple[Any, ...] = getattr(multiprocessing.current_process(), "_args", ())
    for queue in arguments:
        if isinstance(queue, Queue):
            threading.Thread(target=_read_instead, args=(parent, queue), daemon=True).start()


def _read_instead(parent: BaseProcess, queue: Any) -> None:
    parent.join()
    while os.read(queue._reader.fileno(), _PIPE_BYTES):
        pass
