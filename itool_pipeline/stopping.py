"""Ctrl-C and SIGTERM end the process, whatever it is doing.

Python hands a signal to the main thread between two of its own instructions, and Dagster keeps it back between steps.
Neither helps where a library does not come back, or waits for its threads at the end. So a thread of its own hears of
each signal too, and ends the process when that has not ended by itself. Everything on the disk is written to stand
that: the next run goes on from what is finished.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import threading
from dataclasses import dataclass

GRACE_SECONDS = 10.0
"""For what has begun to end in order. A second signal ends it at once."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Asked:
    """Whether the process was asked to stop, and by which signal."""

    number: int = 0

    @property
    def exit_code(self) -> int:
        """As shells have it; 0 when nobody asked."""
        return 128 + self.number if self.number else 0


def stop_when_asked(grace_seconds: float = GRACE_SECONDS) -> Asked:
    """From now on, for as long as the process lives. To be called in its main thread."""
    asked = Asked()
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The socket that is written to lives as long as the thread that holds it.
    threading.Thread(target=_listen, args=(heard, told, asked, grace_seconds), daemon=True).start()
    return asked


def how_to_go_on() -> str:
    """The sentence for a person who has stopped the process."""
    return (
        f"Stopped; what is finished is kept. To go on: {shlex.join(['python', '-m', 'itool_pipeline', *sys.argv[1:]])}"
    )


def _listen(heard: socket.socket, told: socket.socket, asked: Asked, grace_seconds: float) -> None:
    while not asked.number:
        number = heard.recv(1)[0]
        asked.number = number if number in SIGNALS else 0
    _say(f"\nStopping; at the latest in {grace_seconds:.0f} s. Once more ends it at once.\n")
    heard.settimeout(grace_seconds)
    try:
        while heard.recv(1)[0] not in SIGNALS:
            pass
    except TimeoutError:
        pass
    _say(f"{how_to_go_on()}\n")
    os._exit(asked.exit_code)


def _say(text: str) -> None:
    """Past Python's own buffers, which whoever is stuck may have locked."""
    os.write(2, text.encode(errors="replace"))
