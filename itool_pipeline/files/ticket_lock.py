"""A lock for processes on several machines that share a folder, without the file system's own locks.

Who waits stands in a line (`ticket_line`), by tickets in the lock's folder (`ticket_folder`).

Who is dead: of a process of this machine (and container) the system tells at once and surely. Of another, its heart: a
thread renews the ticket's time of change every few seconds, from taking to giving back, and who waits counts how long
it has seen no change, by its own clock and only while it looks, so that neither clocks that differ nor a waiter that
was suspended count. Who was suspended, or cut off, for longer than that and comes back finds its ticket closed: one
that waits takes a new one, and one that holds is stopped with LockLost, at its next beat or when it asks
(`Held.require`). Up to there two work at once, so what is done under such a lock must bear that: files that appear
whole under their names, of a content that does not depend on who wrote them.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from itool_pipeline.files.locks import REMIND_SECONDS, Say
from itool_pipeline.files.process_identity import ProcessIdentity
from itool_pipeline.files.storage_errors import StorageError, explaining_full_disk
from itool_pipeline.files.ticket_folder import TicketFolder
from itool_pipeline.files.ticket_line import OVER, Ticket, Turn

logger = logging.getLogger(__name__)


class LockLost(StorageError):
    """Another process took the holder for dead and goes on in its place."""


class _Stop(BaseException):
    """As Ctrl-C, for who holds a lock that is lost: nothing that is prepared for errors takes it for one."""


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds: between two looks of one who waits, between two beats, and without a beat until one is dead."""

    poll: float = 0.5
    beat: float = 10.0
    patience: float = 90.0


TIMING = Timing()


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that is held."""

    turn: Turn
    message: str

    def is_lost(self) -> bool:
        """Whether it is held no longer, or never was by this process, which is a child of the one that holds it."""
        owner = self.turn.own.owner
        return owner is None or owner.pid != os.getpid() or self.turn.is_closed()

    def require(self) -> None:
        """Raises LockLost where the lock is held no longer."""
        if self.is_lost():
            raise LockLost(self.message)


@contextmanager
def ticket_lock(
    folder: Path, what: str, say: Say, *, shared: bool = False, timing: Timing | None = None
) -> Iterator[Held]:
    """Holds the lock of the folder: alone, or with other `shared` holders; first come, first served.

    Waits for as long as it takes (the holder may be training a model), telling `say` who holds it at once and every
    minute, and of a holder that was passed over as dead. Raises LockLost, also amid what is done inside, when this
    process was itself taken for dead, and StorageError on a full disk.
    """
    timing = timing or TIMING
    lost = _lost_message(what, folder, timing)
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with _in_line(TicketFolder(folder), what, shared, timing) as (turn, heart):
                _wait(turn, f"{what} ({folder})", say, timing)
                if turn.is_closed():  # taken for dead while it waited: to the end of the line
                    continue
                held = Held(turn, lost)
                heart.guard(threading.get_ident())
                with _explaining_loss(held):
                    yield held
                return
        except _Stop:
            raise LockLost(lost) from None


@contextmanager
def _in_line(tickets: TicketFolder, what: str, shared: bool, timing: Timing) -> Iterator[tuple[Turn, _Heart]]:
    """With a ticket of its own, and a heart that beats."""
    turn = Turn.next(tickets, Ticket(ProcessIdentity.own(), shared))
    with explaining_full_disk(f"the ticket for {what}", tickets.folder):
        while not turn.take():
            pass
    parent, heart = os.getpid(), _Heart(tickets, turn, timing)
    try:
        yield turn, heart
    finally:
        if os.getpid() == parent:  # a child that was forked off has neither the ticket nor the thread
            heart.stop()
            if not turn.is_closed():
                tickets.close(turn.number, OVER)


@contextmanager
def _explaining_loss(held: Held) -> Iterator[None]:
    """Where the lock is lost, whatever failed (a folder that is no longer there) failed for that."""
    try:
        yield
    except Exception as error:
        if held.turn.is_closed():
            raise LockLost(held.message) from error
        raise


def _wait(turn: Turn, what: str, say: Say, timing: Timing) -> None:
    """Until all lower tickets are out of the way, or this one is closed by another."""
    watch, next_word = _Watch(what, say, timing), 0.0
    while in_the_way := [(number, seen) for number in tuple(turn.ahead) if (seen := turn.look(number, watch.is_dead))]:
        if turn.is_closed():
            return
        if time.monotonic() >= next_word:
            say(f"Waiting for {what}: in use by {watch.describe(*in_the_way[0])}.")
            next_word = time.monotonic() + REMIND_SECONDS
        time.sleep(timing.poll)


@dataclass(slots=True)
class _Stillness:
    """For how many seconds a ticket was seen not to change."""

    last: Ticket
    looked: float
    seconds: float = 0.0


@dataclass(slots=True)
class _Watch:
    """Who of those ahead is dead."""

    what: str
    say: Say
    timing: Timing
    still: dict[int, _Stillness] = field(default_factory=dict)

    def is_dead(self, number: int, ticket: Ticket) -> bool:
        alive = ticket.owner.is_alive() if ticket.owner else None
        if alive is not None:
            return not alive
        seconds = self._seconds_still(number, ticket)
        if seconds < self.timing.patience:
            return False
        self.say(f"{self.what}: {_named(ticket)} gave no sign of life for {seconds:.0f} s and is passed over.")
        return True

    def describe(self, number: int, ticket: Ticket) -> str:
        seconds = self.still[number].seconds if number in self.still else 0.0
        if seconds < 2 * self.timing.beat:
            return _named(ticket)
        patience = f"after {self.timing.patience:.0f} s it is passed over"
        return f"{_named(ticket)}, which gave no sign of life for {seconds:.0f} s; {patience}"

    def _seconds_still(self, number: int, ticket: Ticket) -> float:
        now = time.monotonic()
        known = self.still.get(number)
        if known is None or known.last != ticket:
            known = self.still[number] = _Stillness(ticket, now)
        # Between two looks at most what they are apart when nothing holds this process up.
        known.seconds += min(now - known.looked, 2 * self.timing.poll)
        known.looked = now
        return known.seconds


class _Heart:
    """Renews a ticket from a thread of its own, and stops who holds the lock when another has closed the ticket."""

    def __init__(self, tickets: TicketFolder, turn: Turn, timing: Timing) -> None:
        self._tickets, self._turn, self._timing = tickets, turn, timing
        self._holder: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heart of {tickets.folder.name}", daemon=True)
        self._thread.start()

    def guard(self, thread: int) -> None:
        """From now on the thread is stopped with LockLost when the ticket is lost."""
        self._holder = thread

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        if self._holder is not None:
            _raise_in(self._holder, None)

    def _beat(self) -> None:
        while not self._ended.wait(self._timing.beat):
            try:
                if self._turn.is_closed():
                    if self._holder is not None:
                        _raise_in(self._holder, _Stop)
                        return
                else:
                    self._tickets.renew(self._turn.number)
            except OSError as error:
                path, patience = self._tickets.path(self._turn.number), self._timing.patience
                logger.warning("%s: %s. After %.0f s others take this process for dead.", path, error, patience)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise it in the thread, before its next instruction; None: not any more."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)


def _named(ticket: Ticket) -> str:
    return str(ticket.owner) if ticket.owner else "another process"


def _lost_message(what: str, folder: Path, timing: Timing) -> str:
    return (
        f"{what}: this process gave no sign of life in {folder} for more than {timing.patience:.0f} s (was its machine "
        "suspended, or cut off?), so another has taken its work over. Nothing is damaged. Run again: what is finished "
        "is reused, and what another is making is waited for."
    )
