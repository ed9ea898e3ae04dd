"""The line in which processes stand for a lock, step by step: the protocol, and why at most one holds.

Each takes the next number, and holds the lock when every lower ticket is out of the way: closed, or shared as its own.

1. **Take**: make the ticket of the next number, unless there is one; then the number after that.
2. **Look**: read each lower number until it is out of the way. One that is closed stays so, and one that
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
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from itool_pipeline.files.process_identity import ProcessIdentity

OVER, LOST = "over", "lost"
"""How a ticket is closed: by its owner, or by another that took its owner for dead."""


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
