"""The figures of long work as they come: to Dagster, a few of them, and to the tracker that the experiment names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from itool_pipeline.core.types import Progress
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.tracking.told import OnceTold
from itool_pipeline.tracking.trackers import TrackedWork, make_tracker
from itool_pipeline.tracking.writers import Dispensable, Sparse


@dataclass(frozen=True, slots=True)
class Live:
    """Takes the figures of one work."""

    told: OnceTold
    observed: Sparse

    def metrics(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """A `core.types.Metrics`."""
        self.told.write(kind, step, values)

    def expect(self, total: int) -> None:
        """How many steps there are in all, as soon as it is known."""
        self.observed.total = total

    def learning_total(self, progress: Progress) -> Progress:
        """`progress`, from whose total ours is learnt."""

        def both(done: int, total: int) -> None:
            self.expect(total)
            progress(done, total)

        return both


@contextmanager
def live(ws: Workspace, asset: str, parts: Parts, *, share: str = "", begins_anew: bool = False) -> Iterator[Live]:
    """Where the asset's figures go while it is made. Which steps were told is kept beside its parts.

    share        of a work that several ops share out, which of them
    begins_anew  a work that does not go on where a killed one was, whose steps are then others

    Raises TrackingError when the experiment's tracker is not installed or does not begin.
    """
    file = parts.directory / f".told{share}.jsonl"
    if begins_anew:
        file.unlink(missing_ok=True)
    e, told = ws.experiment, OnceTold(file)
    work = TrackedWork(e.name, f"{asset}/{share}" if share else asset, told.run, e.model_dump(mode="json"))
    observed = Sparse(lambda figures: ws.observe(asset, figures))
    told.writers.append(observed)
    tracker = make_tracker(e.tracking, work, ws.paths.root)
    if tracker is not None:
        told.writers.append(Dispensable(tracker, e.tracking.type, ws.say))
    try:
        yield Live(told, observed)
    finally:
        told.close()
