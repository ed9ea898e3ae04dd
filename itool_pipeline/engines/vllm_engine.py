"""The engine on vLLM: for GPUs, many texts in one batch that never waits, shared beginnings kept in vLLM's cache.

A fragment, a candidate to be graded and a text to be scored are each one request to vLLM. A task goes on as soon as
its own answers are there, so the batch stays as wide as the tasks that are left make it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

from itool_pipeline.core.policy import Request, T, Task
from itool_pipeline.engines.drawing import Drawing, whole_answer
from itool_pipeline.engines.types import Engine
from itool_pipeline.engines.vllm_requests import CoreAnswer, CoreOutput, CoreRequest, answer_in_making


class LanguageCore(Protocol):
    """vLLM, as far as it is needed here: a batch that texts join and leave at any time."""

    @property
    def width(self) -> int:
        """How many texts are computed at once; more may be asked for, and wait."""
        ...

    @property
    def tokens(self) -> int:
        """How many tokens its cache holds; beyond that, what was used longest ago is computed again."""
        ...

    def add(self, request: CoreRequest) -> str:
        """Ask for a text; returns the name that its outputs have."""
        ...

    def step(self) -> list[tuple[str, CoreOutput]]:
        """Wait for what comes next. There is a text that was asked for and has not finished."""
        ...

    def abort(self, names: Sequence[str]) -> None:
        """Nothing more is needed of these texts, and nothing more is heard of them."""
        ...


class VllmEngine(Engine):
    """Implements `engines.types.Engine` on a `LanguageCore`, which decides model and adapter."""

    def __init__(self, core: LanguageCore, drawing: Drawing) -> None:
        self._core = core
        self._drawing = drawing

    def serve(self, tasks: Iterable[Task[T]]) -> Iterator[tuple[int, T]]:
        """See `Policy.serve`. Tasks are begun while vLLM could compute more, and its cache holds more."""
        return _Flight[T](self._core, self._drawing).serve(tasks)

    def answer_each(
        self, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, until: str = ""
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """See `Engine.answer_each`."""
        drawing = self._drawing.of_answers(max_new_tokens, until)
        return _Flight[tuple[int, ...]](self._core, drawing).serve(map(whole_answer, prompts))


@dataclass
class _Served(Generic[T]):
    """A task that waits: for how many texts still, and what its answers are put together in.

    lengths  of each prompt that it has asked about, how long a text with it may get: what the cache should hold of it
    """

    number: int
    task: Task[T]
    parts: list[CoreAnswer] = field(default_factory=list)
    missing: int = 0
    lengths: dict[tuple[int, ...], int] = field(default_factory=dict)

    def next_requests(self) -> tuple[Request, ...]:
        """Hand the task its answers. Raises StopIteration with its result when it has ended."""
        answers: list[Any] = [part.result() for part in self.parts]
        return self.task.send(answers) if answers else next(self.task)


class _Flight(Generic[T]):
    """Tasks under way, and whose text is whose: the task, which of its answers, which text of that."""

    def __init__(self, core: LanguageCore, drawing: Drawing) -> None:
        self._core, self._drawing = core, drawing
        self._places: dict[str, tuple[_Served[T], CoreAnswer, int]] = {}
        self._held = 0

    def serve(self, tasks: Iterable[Task[T]]) -> Iterator[tuple[int, T]]:
        waiting = enumerate(tasks)
        try:
            while True:
                while self._has_room() and (begun := next(waiting, None)) is not None:
                    yield from self._go_on(_Served(*begun))
                if not self._places:
                    return
                for served in self._step():
                    yield from self._go_on(served)
        finally:  # nobody waits for them any more: a task has failed, or its result is not wanted
            self._core.abort(list(self._places))

    def _has_room(self) -> bool:
        return not self._places or (len(self._places) < self._core.width and self._held < self._core.tokens)

    def _step(self) -> list[_Served[T]]:
        """Take what has come. Returns the tasks that need not wait any longer."""
        ready, enough = [], []
        for name, output in self._core.step():
            served, part, index = self._places[name]
            if part.take(index, output):
                del self._places[name]
                if not output.finished:
                    enough.append(name)
                served.missing -= 1
                if not served.missing:
                    ready.append(served)
            elif output.finished:
                raise RuntimeError("vLLM has ended a text without all that it was asked for")
        self._core.abort(enough)
        return ready

    def _go_on(self, served: _Served[T]) -> Iterator[tuple[int, T]]:
        """Ask for what the task wants next. Yields its result if it has ended."""
        while not served.missing:
            try:
                requests = served.next_requests()
            except StopIteration as end:
                self._held -= sum(served.lengths.values())
                yield served.number, end.value
                return
            served.parts = [answer_in_making(request, self._drawing) for request in requests]
            for request, part in zip(requests, served.parts, strict=True):
                for index, text in enumerate(part.texts):
                    self._places[self._core.add(text)] = served, part, index
                    self._note(served, request.prompt, text)
                served.missing += len(part.texts)

    def _note(self, served: _Served[T], prompt: tuple[int, ...], text: CoreRequest) -> None:
        before = served.lengths.get(prompt, 0)
        served.lengths[prompt] = max(before, len(text.prompt) + text.max_tokens)
        self._held += served.lengths[prompt] - before
