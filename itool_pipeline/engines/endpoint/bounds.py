"""How fast an endpoint is asked, and for how much in all. Shared by threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from itool_pipeline.config import EndpointModel
from itool_pipeline.engines.model_config import ModelError

Sleep = Callable[[float], object]


class Pace:
    """At most so many requests a minute, evenly: each waits for its turn. None: as fast as they come."""

    def __init__(self, per_minute: float | None, sleep: Sleep, clock: Callable[[], float] = time.monotonic) -> None:
        self._between = 60.0 / per_minute if per_minute else 0.0
        self._sleep, self._clock, self._lock = sleep, clock, threading.Lock()
        self._next = clock()

    def wait(self) -> None:
        with self._lock:
            turn = max(self._next, self._clock())
            self._next = turn + self._between
        left = turn - self._clock()
        if left > 0:
            self._sleep(left)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were paid for."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.completion + other.completion)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.prompt - other.prompt, self.completion - other.completion)

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    def cost(self, model: EndpointModel) -> float:
        """In the currency of the config's prices; 0 where it states none."""
        return (self.prompt * (model.prompt_price or 0.0) + self.completion * (model.completion_price or 0.0)) / 1e6


NOTHING = Usage()


class Account:
    """What was spent, and what the requests under way may spend: together never more than the config's bounds."""

    def __init__(self, model: EndpointModel, spent: Usage) -> None:
        self.spent, self._held = spent, NOTHING
        self._model, self._lock = model, threading.Lock()

    def hold(self, most: Usage) -> None:
        """Set aside what a request may cost at most. Raises ModelError where that is not left."""
        with self._lock:
            after = self.spent + self._held + most
            if self._model.max_total_tokens is not None and after.tokens > self._model.max_total_tokens:
                raise self._reached("max_total_tokens", f"{self._model.max_total_tokens} tokens")
            if self._model.max_cost is not None and after.cost(self._model) > self._model.max_cost:
                raise self._reached("max_cost", f"{self._model.max_cost:g}")
            self._held += most

    def settle(self, most: Usage, used: Usage) -> None:
        """A request has ended: what it used is spent, the rest is free again."""
        with self._lock:
            self._held -= most
            self.spent += used

    def _reached(self, key: str, bound: str) -> ModelError:
        spent, cost = self.spent, self.spent.cost(self._model)
        told = f" ({cost:.4g} by the prices given)" if cost else ""
        return ModelError(
            f"model.{key}: another answer might pass the bound of {bound}: {spent.tokens} tokens are spent{told}. The "
            f"answers that came are kept. Raise model.{key}, or ask fewer cases, and run again."
        )
