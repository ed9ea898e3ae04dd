"""What a drill found: how often it was tried, what went wrong, and how long it took."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Of one drill. `failures`: a sentence of each try that went wrong; `skipped`: why it was not tried at all."""

    drill: str
    seed: int
    tries: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""
    note: str = ""

    def tried(self, problems: Sequence[str]) -> None:
        """One more try, with what was wrong of it."""
        self.tries += 1
        if problems:
            self.failures.append("; ".join(problems))
            print(f"  failed: {self.failures[-1][:2000]}", flush=True)


def survives(work: Callable[[], object], *refusals: type[Exception]) -> list[str]:
    """What is wrong with how work ends: nothing where it ends well, or in one of the refusals."""
    try:
        work()
    except refusals:
        pass
    except Exception as error:
        return [f"{type(error).__name__}: {str(error)[:200]}"]
    return []


@dataclass(frozen=True)
class Drill:
    """Something that is tried `tries` times by default: `perform` adds its tries to the outcome."""

    name: str
    about: str
    tries: int
    perform: Callable[[Outcome, int, random.Random], None]


def performed(drill: Drill, tries: int | None, seed: int) -> Outcome:
    """The outcome of a drill. A drill that breaks has failed."""
    print(f"{drill.name}: {drill.about}", flush=True)
    outcome, start = Outcome(drill.name, seed), time.monotonic()
    try:
        drill.perform(outcome, tries or drill.tries, random.Random(seed))
    except KeyboardInterrupt:
        outcome.note = "stopped"
    except Exception as error:
        outcome.tried([f"the drill broke: {type(error).__name__}: {error}"])
    outcome.seconds = time.monotonic() - start
    print(f"  {line(outcome)}", flush=True)
    return outcome


def line(outcome: Outcome) -> str:
    """Tries, failures, seconds and seed of one drill."""
    if outcome.skipped:
        return f"skipped: {outcome.skipped}"
    told = f"{outcome.tries} tries, {len(outcome.failures)} failures, {outcome.seconds:.0f} s, seed {outcome.seed}"
    return f"{told}; {outcome.note}" if outcome.note else told


def summary(outcomes: Sequence[Outcome]) -> str:
    """All drills as a markdown table."""
    rows = ["| drill | tries | failures | seconds | seed | |", "| --- | --- | --- | --- | --- | --- |"]
    for one in outcomes:
        rows.append(
            f"| {one.drill} | {one.tries} | {len(one.failures)} | {one.seconds:.0f} | {one.seed} | "
            f"{one.skipped or one.note} |"
        )
    return "\n".join(rows)
