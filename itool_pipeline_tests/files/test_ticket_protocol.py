"""Every order in which the steps of several processes can follow each other, with all that a file system may show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

from itool_pipeline.files.process_identity import ProcessIdentity
from itool_pipeline.files.ticket_line import OVER, Ticket, Turn

FRESH, MISSING, OPEN = "as it is", "missing", "open"
"""What is shown of a ticket: network file systems show names that others have made, and contents, after a while."""


@dataclass
class Memory:
    """Tickets in memory, of which an older state may be shown. Each method is done at one stroke."""

    tickets: dict[int, Ticket]
    hint: int = 0
    shown: str = FRESH

    def highest(self) -> int:
        return self.hint

    def take(self, number: int, ticket: Ticket) -> bool:
        return self.tickets.setdefault(number, ticket) is ticket

    def read(self, number: int) -> Ticket | None:
        ticket = None if self.shown == MISSING else self.tickets.get(number)
        return replace(ticket, closed="") if ticket and self.shown == OPEN else ticket

    def close(self, number: int, how: str) -> None:
        self.tickets[number] = replace(self.tickets[number], closed=how)


class Passing(Memory):
    """Broken: a ticket that seems missing is passed and not made."""

    def take(self, number: int, ticket: Ticket) -> bool:
        return bool(ticket.closed) or super().take(number, ticket)


class Removing(Passing):
    """Broken: a ticket that is given back is removed, the highest too."""

    def close(self, number: int, how: str) -> None:
        del self.tickets[number]


class Overwriting(Memory):
    """Broken: of two that take a number, both have it."""

    def take(self, number: int, ticket: Ticket) -> bool:
        self.tickets[number] = ticket
        return True


@dataclass(frozen=True)
class Actor:
    """A process: what it does, which ticket it has, and how often it still wants the lock."""

    doing: str
    shared: bool
    times: int
    number: int = 0
    ahead: tuple[int, ...] = ()


@dataclass(frozen=True)
class State:
    actors: tuple[Actor, ...]
    tickets: tuple[tuple[int, Ticket], ...] = ()

    def is_wrong(self) -> bool:
        held = [actor.shared for actor in self.actors if actor.doing == "holds"]
        return len(held) > 1 and not all(held)

    def is_done(self) -> bool:
        return all(actor.doing in ("is killed", "rests") and not actor.times for actor in self.actors)


def after(state: State, kind: type[Memory], stale: Sequence[str], kills: bool) -> Iterator[State]:
    """Every state that one step of one process can lead to."""
    for index, actor in enumerate(state.actors):
        own = Ticket(ProcessIdentity("", "", index, ""), actor.shared)
        highest = max((number for number, _ in state.tickets), default=0)
        hints = range(highest + 1) if actor.doing == "rests" and actor.times else [0]
        looks = [(n, shown) for n in actor.ahead for shown in stale] if actor.doing == "waits" else [(0, FRESH)]
        for hint in hints:
            for number, shown in looks:
                memory = kind(dict(state.tickets), hint, shown)
                yield then(state, index, one_step(state, actor, Turn(memory, own, actor.number), number), memory)
        if kills and actor.doing != "is killed" and actor.number:
            yield then(state, index, replace(actor, doing="is killed", times=0), kind(dict(state.tickets)))


def one_step(state: State, actor: Actor, turn: Turn, number: int) -> Actor:
    """The actor after its next step, which has changed the tickets."""

    def is_dead(_: int, ticket: Ticket) -> bool:
        return ticket.owner is not None and state.actors[ticket.owner.pid].doing == "is killed"

    turn.ahead = list(actor.ahead)
    if actor.doing == "rests" and actor.times:
        found = Turn.next(turn.tickets, turn.own)
        return replace(actor, doing="takes", number=found.number, times=actor.times - 1)
    if actor.doing == "takes":
        taken = turn.take()
        doing = ("waits" if turn.ahead else "holds") if taken else "takes"
        return replace(actor, doing=doing, number=turn.number, ahead=tuple(turn.ahead))
    if actor.doing == "waits":
        turn.look(number, is_dead)
        return replace(actor, doing="waits" if turn.ahead else "holds", ahead=tuple(turn.ahead))
    if actor.doing == "holds":
        turn.tickets.close(actor.number, OVER)
        return replace(actor, doing="rests", number=0)
    return actor


def then(state: State, index: int, actor: Actor, memory: Memory) -> State:
    actors = (*state.actors[:index], actor, *state.actors[index + 1 :])
    return State(actors, tuple(sorted(memory.tickets.items(), key=lambda item: item[0])))


def explore(start: State, kind: type[Memory], stale: Sequence[str], kills: bool) -> dict[State, set[State]]:
    """Every state that can be reached, with those from which one step leads to it. Ends at the first wrong one."""
    before: dict[State, set[State]] = {start: set()}
    waiting = [start]
    while waiting:
        state = waiting.pop()
        for following in after(state, kind, stale, kills):
            if following not in before:
                before[following] = set()
                waiting.append(following)
            before[following].add(state)
            if following.is_wrong():
                return before
    return before


def from_where_done_is_reached(before: dict[State, set[State]]) -> set[State]:
    good = {state for state in before if state.is_done()}
    waiting = list(good)
    while waiting:
        for state in before[waiting.pop()] - good:
            good.add(state)
            waiting.append(state)
    return good


ALONE, SHARED = False, True
LINES = {
    "two alone, twice": [(ALONE, 2), (ALONE, 2)],
    "three alone": [(ALONE, 1), (ALONE, 1), (ALONE, 1)],
    "two share, one alone": [(SHARED, 1), (SHARED, 1), (ALONE, 1)],
    "one shares, two alone": [(SHARED, 1), (ALONE, 1), (ALONE, 1)],
    "one shares twice, one alone twice": [(SHARED, 2), (ALONE, 2)],
    "one alone twice, two shared": [(ALONE, 2), (SHARED, 1), (SHARED, 1)],
}


def line(wants: Sequence[tuple[bool, int]], tickets: tuple[tuple[int, Ticket], ...] = ()) -> State:
    return State(tuple(Actor("rests", shared, times) for shared, times in wants), tickets)


@pytest.mark.parametrize("wants", LINES.values(), ids=LINES)
@pytest.mark.parametrize("kills", [False, True], ids=["", "and kills"])
def test_never_two_at_once_and_nobody_waits_for_ever(wants: list[tuple[bool, int]], kills: bool) -> None:
    before = explore(line(wants), Memory, (FRESH, MISSING, OPEN), kills)
    assert not any(state.is_wrong() for state in before)
    assert from_where_done_is_reached(before) == before.keys()
    at_once = max(sum(actor.doing == "holds" for actor in state.actors) for state in before)
    assert at_once == max(1, sum(shared for shared, _ in wants)), "those that share hold it together"


def test_tickets_that_were_removed_with_none_at_work_do_no_harm() -> None:
    before = explore(
        line(LINES["two alone, twice"], ((2, Ticket(closed=OVER)),)), Memory, (FRESH, MISSING, OPEN), False
    )
    assert not any(state.is_wrong() for state in before)
    assert from_where_done_is_reached(before) == before.keys()


@pytest.mark.parametrize(
    ("kind", "stale"),
    [(Removing, (FRESH,)), (Passing, (FRESH, MISSING)), (Overwriting, (FRESH,))],
    ids=["removed when given back", "missing ones passed", "not exclusive"],
)
def test_what_is_left_out_is_missed(kind: type[Memory], stale: Sequence[str]) -> None:
    wants = LINES["three alone"]
    assert any(state.is_wrong() for state in explore(line(wants), kind, stale, False))
    assert not any(state.is_wrong() for state in explore(line(wants), Memory, stale, False))


def test_first_come_first_served() -> None:
    """One alone that waits is passed by none that came later, also none that could share with the holder."""
    for state in explore(line(LINES["two share, one alone"]), Memory, (FRESH,), False):
        waiting = [actor for actor in state.actors if actor.doing == "waits" and not actor.shared]
        holding = [actor for actor in state.actors if actor.doing == "holds"]
        assert all(other.number < one.number for one in waiting for other in holding)
