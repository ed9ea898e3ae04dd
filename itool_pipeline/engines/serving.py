"""Which tasks are under way: as many as their slots fit in memory, the next as soon as one has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic

from itool_pipeline.core.policy import T, Task
from itool_pipeline.engines.drawing import Drawing
from itool_pipeline.engines.prompt_slots import SlotStore
from itool_pipeline.engines.requests_under_way import UnderWay, request_under_way


@dataclass(eq=False)
class _Served(Generic[T]):
    """A task, and the requests whose answers it waits for."""

    number: int
    task: Task[T]
    requests: list[UnderWay] = field(default_factory=list)


class TaskQueue(Generic[T]):
    """Tasks in the order in which they come, each with a slot for every request.

    `ended` holds (number, result) of those that have ended, until they are taken from it.
    """

    def __init__(self, tasks: Iterable[Task[T]], store: SlotStore, drawing: Drawing) -> None:
        self._coming: Iterator[tuple[int, Task[T]]] | None = enumerate(tasks)
        self._store, self._drawing = store, drawing
        self._served: list[_Served[T]] = []
        self._waiting: deque[tuple[_Served[T], UnderWay]] = deque()
        self._most_of_one = 0
        self.ended: deque[tuple[int, T]] = deque()

    def admit(self) -> bool:
        """Begin tasks while there is room for them; False when none is left."""
        while self._coming is not None and self._has_room():
            found = next(self._coming, None)
            if found is None:
                self._coming = None
            else:
                now = _Served(*found)
                self._served.append(now)
                self._go_on(now, None)
                self._seat()
        self._seat()
        return bool(self._served)

    def seated(self) -> list[UnderWay]:
        """The requests that have a slot."""
        return [request for now in self._served for request in now.requests if request.seated]

    def advance(self) -> None:
        """Hand the answers to all tasks that have all they asked for."""
        for now in list(self._served):
            for request in now.requests:
                if request.done and request.seated:
                    request.leave()
            if all(request.done for request in now.requests):
                self._go_on(now, [request.answer() for request in now.requests])

    def close(self) -> None:
        """Give up what is under way."""
        for now in self._served:
            self._store.release(now)

    def _has_room(self) -> bool:
        # Until one task has ended, each is thought to ask about two prompts, as a tree does.
        expected = self._most_of_one or 2 * self._store.largest_slot()
        return not self._served or self._store.owned_bytes() + expected <= self._store.most_bytes

    def _go_on(self, now: _Served[T], answers: list[Any] | None) -> None:
        try:
            asked = next(now.task) if answers is None else now.task.send(answers)
        except StopIteration as end:
            self._served.remove(now)
            self._most_of_one = max(self._most_of_one, self._store.release(now))
            self.ended.append((now.number, end.value))
            return
        now.requests = [request_under_way(request, self._drawing) for request in asked]
        self._waiting.extend((now, request) for request in now.requests)

    def _seat(self) -> None:
        """Slots for those that wait, in their order; one gets its slot in any case."""
        while self._waiting:
            now, request = self._waiting[0]
            slot = self._store.slot(now, request.prompt, request.own_columns(), must=not self.seated())
            if slot is None:
                return
            request.enter(slot)
            self._waiting.popleft()
