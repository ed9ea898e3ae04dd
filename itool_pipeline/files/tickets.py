"""A lock for processes on several machines that share a folder, without the file system's own locks.

They stand in a line. Each takes the next number as a file in the lock's folder, `00000007`, and holds the lock when
every lower ticket is out of the way: closed, or shared as its own is.

1. **Take**: create the file of the next number exclusively; where it is there already, the number after that.
2. **Look**: open each lower number by its name until it is out of the way. One that is closed stays so, and one that
   shares can only be closed, so each needs to be passed once. A ticket whose owner is dead is closed with `lost`. A
   number without a ticket is taken, closed at once, and passed.
3. **Give back**: close the own ticket with `over`.

Why at most one holds (alone, or together with those that share): of two holders, the higher has passed the lower one's
ticket. It was there and closed, by its owner, who held no more, or because its owner was dead; or it was not there,
and then it was taken by the higher, and the lower could not have taken it.

Why tickets stay, and why one that is missing is made: say that they were removed when given back, and that missing ones
were just passed. A, with the highest number 7, gives back. B has listed the folder before and takes 8, finds no 7 and
holds. C lists the folder now, finds it empty, takes 1, has nothing to look at and holds too. So a ticket stays, some
500 bytes for each time that the lock was held.

What is asked of the file system: of several that create one name exclusively, one succeeds, as on local disks, NFS 3
and 4, SMB, Lustre and CephFS; not of links, renames or the clocks. What a client shows may be old. An old list of
names only says where to begin to try; a name that seems missing is tried, which the server decides; a ticket that is
closed and seems open is waited for a little longer. Nothing that was closed is ever open again: who writes that a
ticket is closed writes behind what its owner writes.

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
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from itool_pipeline.files.locks import REMIND_SECONDS, Say
from itool_pipeline.files.process_identity import ProcessIdentity
from itool_pipeline.files.storage_errors import StorageError, explaining_full_disk

logger = logging.getLogger(__name__)

OVER, LOST = "over", "lost"
"""How a ticket is closed: by its owner, or by another that took its owner for dead."""
_NAME = re.compile(r"\d{8}")
_RECORD_BYTES = 512
"""Of the owner's part of a ticket, filled up with spaces. Behind it stands how it was closed."""


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
class Ticket:
    """What another's ticket says. Nothing yet while it is being written: then it counts as one that does not share."""

    owner: ProcessIdentity | None = None
    shared: bool = False
    closed: str = ""
    changed_ns: int = 0


class Tickets(Protocol):
    """The tickets of one lock, by number, from 1."""

    def highest(self) -> int:
        """The highest number there is, or any lower one, when an old list of them is shown."""

    def take(self, number: int, ticket: Ticket) -> bool:
        """Make the ticket; False when there is one of this number."""

    def read(self, number: int) -> Ticket | None:
        """The ticket, perhaps as it was a while ago."""

    def close(self, number: int, how: str) -> None:
        """For good."""


@dataclass(frozen=True, slots=True)
class TicketFolder:
    """Tickets as files."""

    folder: Path

    def path(self, number: int) -> Path:
        return self.folder / f"{number:08d}"

    def highest(self) -> int:
        return max((int(path.name) for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), default=0)

    def take(self, number: int, ticket: Ticket) -> bool:
        owner = asdict(ticket.owner) if ticket.owner else None
        record = json.dumps({"owner": owner, "shared": ticket.shared}).ljust(_RECORD_BYTES - 1)
        try:
            descriptor = os.open(self.path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            os.pwrite(descriptor, f"{record}\n".encode(), 0)
        finally:
            os.close(descriptor)
        if ticket.closed:
            self.close(number, ticket.closed)
        return True

    def read(self, number: int) -> Ticket | None:
        # Opening a file is what makes a network file system ask the server how it is now.
        try:
            with self.path(number).open("rb") as file:
                content, changed = file.read(), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None
        closed = content[_RECORD_BYTES:].decode(errors="replace").strip()
        try:
            record = json.loads(content[:_RECORD_BYTES])
            owner = ProcessIdentity(**record["owner"]) if record["owner"] else None
            return Ticket(owner, record["shared"], closed if closed in (OVER, LOST) else "", changed)
        except (ValueError, KeyError, TypeError):  # not written yet, or never
            return Ticket(closed=closed if closed in (OVER, LOST) else "", changed_ns=changed)

    def close(self, number: int, how: str) -> None:
        descriptor = os.open(self.path(number), os.O_WRONLY)
        try:
            os.pwrite(descriptor, f"{how}\n".encode(), _RECORD_BYTES)
        finally:
            os.close(descriptor)

    def renew(self, number: int) -> None:
        """Set its time of change: the owner is alive."""
        os.utime(self.path(number))


IsDead = Callable[[int, Ticket], bool]


@dataclass(slots=True)
class Turn:
    """One's place in the line. Each method is one step, between which others may do anything."""

    tickets: Tickets
    own: Ticket
    number: int
    """to try, then taken"""
    ahead: list[int] = field(default_factory=list)
    """lower numbers that are not out of the way"""

    @staticmethod
    def next(tickets: Tickets, own: Ticket) -> Turn:
        return Turn(tickets, own, tickets.highest() + 1)

    def take(self) -> bool:
        """Whether the number is taken now; else the next one is to be tried."""
        if self.tickets.take(self.number, self.own):
            self.ahead = list(range(1, self.number))
            return True
        self.number += 1
        return False

    def look(self, number: int, is_dead: IsDead) -> Ticket | None:
        """The lower ticket that is still in the way; None when it is not, now and for good."""
        ticket = self.tickets.read(number)
        if ticket is None:
            if not self.tickets.take(number, Ticket(closed=OVER)):
                return Ticket()  # it is there, and seemed missing
        elif not ticket.closed and not (ticket.shared and self.own.shared):
            if not is_dead(number, ticket):
                return ticket
            self.tickets.close(number, LOST)
        self.ahead.remove(number)
        return None

    def is_closed(self) -> bool:
        """Whether another has closed this ticket, or it was removed with the folder and the number taken anew."""
        ticket = self.tickets.read(self.number)
        return ticket is None or bool(ticket.closed) or ticket.owner != self.own.owner


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
