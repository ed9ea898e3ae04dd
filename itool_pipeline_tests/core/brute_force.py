"""The search of Section 3.2 once more, written from the paper for small problems: slow, recursive, sharing no code.

A state is the path of the names of the moves taken. Nothing but visits is stored: V (Eq. 8) and Q (Eq. 9) are
worked out anew from the whole subtree whenever they are asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Path = tuple[str, ...]


@dataclass
class BruteForce:
    """moves: names and priors after a path; reward: R of a path; over: whether a path is terminal."""

    moves: Callable[[Path], Sequence[tuple[str, float]]]
    reward: Callable[[Path], float]
    over: Callable[[Path], bool]
    depth: int
    c: float
    gamma: float
    simulation: int
    opened: dict[Path, Sequence[tuple[str, float]]] = field(default_factory=dict)
    visits: Counter[Path] = field(default_factory=Counter)

    def v(self, path: Path) -> float:
        """Eq. 8; 0 where nothing has been visited."""
        below = [(*path, name) for name, _ in self.opened.get(path, ())]
        total = sum(self.visits[s] for s in below)
        return sum(self.visits[s] * self.q(s) for s in below) / total if total else 0.0

    def q(self, path: Path) -> float:
        """Eq. 9 for the last move of a path."""
        return self.reward(path) - self.reward(path[:-1]) + self.gamma * self.v(path)

    def best(self, path: Path) -> Path:
        """Eq. 5."""
        terms = {
            (*path, name): self.q((*path, name))
            + self.c * prior * math.sqrt(self.visits[path]) / (1 + self.visits[*path, name])
            for name, prior in self.opened[path]
        }
        return max(terms, key=lambda s: terms[s])

    def iterate(self) -> Path:
        """One iteration; the path at whose end the backup began."""
        path: Path = ()
        while self.opened.get(path):
            path = self.best(path)
        for _ in range(1 + self.simulation):
            if self.over(path) or len(path) == self.depth:
                break
            self.opened[path] = self.moves(path)
            if not self.opened[path]:
                break
            path = self.best(path)
        for length in range(len(path) + 1):
            self.visits[path[:length]] += 1
        return path

    def optimal(self, path: Path = ()) -> tuple[float, Path]:
        """The largest sum of discounted rewards below `path`, over all paths, and the path that has it."""
        if self.over(path) or len(path) == self.depth or not self.moves(path):
            return 0.0, path
        return max(
            (self.reward(s) - self.reward(path) + self.gamma * self.optimal(s)[0], self.optimal(s)[1])
            for s in ((*path, name) for name, _ in self.moves(path))
        )
