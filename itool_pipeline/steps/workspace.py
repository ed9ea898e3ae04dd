"""What every step works with: the experiment, its plan, the store, and one way to make or reuse an artifact."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from itool_pipeline.config import Experiment
from itool_pipeline.errors import ActionableError
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.steps.plan import Planned, plan, plan_on_request
from itool_pipeline.steps.progress import Say, Timed
from itool_pipeline.steps.records import DatabaseRecords, Records
from itool_pipeline.store.artifacts import ArtifactStore, Step, reuse_or_make
from itool_pipeline.store.database import Database
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.paths import StoragePaths, storage_paths

Make = Callable[[Step], Mapping[str, Any]]
Observe = Callable[[str, Mapping[str, float]], None]
"""Called with an asset that is being made, and figures of it by name."""


def unobserved(asset: str, figures: Mapping[str, float]) -> None:
    """The default: nobody watches."""


@dataclass(frozen=True, slots=True)
class Produced:
    """An asset's artifact, and whether it was there already."""

    artifact: Artifact
    reused: bool


class StepError(ActionableError):
    """A step cannot be made of what it is given: its settings, its data, its model and its inputs do not fit."""


class MissingInput(StepError):
    """A step was asked for before what it is made from."""


class UndeclaredInput(Exception):
    """A step or a check reads what it did not declare: a mistake of ours, which a fingerprint would not show."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads at the moment, what it declared, and where: the message names all three."""

    name: str
    declared: frozenset[str]
    declaration: str


@dataclass(frozen=True, slots=True)
class Workspace:
    """One experiment in one run. `say` takes lines for people, and `observe` figures of what is being made;
    `force` makes again what is asked for.

    While an asset is made (`producing`) or checked (`checking`), `input` gives what was declared for it and nothing
    else, because only what is declared is in the fingerprint. Of the config nothing is guarded: what a step reads of
    `experiment` must stand in its section of `plan`. Without a reader, as in a notebook, `input` gives everything.
    """

    experiment: Experiment
    planned: Mapping[str, Planned]
    artifacts: ArtifactStore
    records: Records
    paths: StoragePaths
    say: Say
    run_id: str = ""
    force: bool = False
    observe: Observe = unobserved
    readers: list[Reader] = field(default_factory=list, compare=False)
    """Who reads at the moment, the innermost last."""

    @staticmethod
    def of(
        name: str,
        *,
        say: Say,
        run_id: str = "",
        force: bool = False,
        records: Records | None = None,
        observe: Observe = unobserved,
    ) -> Workspace:
        """The workspace of the experiment `name`, which writes into the database unless other `records` are given.

        Raises ConfigError when the experiment's file is not valid.
        """
        experiment, paths = load_experiment(name), storage_paths()
        store = ArtifactStore(paths.artifacts, say)
        written = records or DatabaseRecords(Database(paths.database, say=say))
        planned = plan(experiment)
        planned |= plan_on_request(experiment, planned)
        return Workspace(experiment, planned, store, written, paths, say, run_id, force, observe)

    def has(self, asset: str) -> bool:
        """Whether the experiment has this asset; one with fewer iterations has not those of the later."""
        return asset in self.planned

    def producing(self, asset: str) -> AbstractContextManager[None]:
        """Inside, `input` gives what the plan declares as inputs of the asset."""
        return self._reading(Reader(asset, frozenset(self.planned[asset].origin.inputs), "steps.asset_graph.inputs_of"))

    def checking(self, name: str, asset: str, also_reads: Collection[str] = ()) -> AbstractContextManager[None]:
        """Inside, `input` gives the asset, what it is made from, and what the check `name` declares to read."""
        declared = {asset, *self.planned[asset].origin.inputs, *also_reads}
        return self._reading(Reader(f"the check {name} of {asset}", frozenset(declared), "also_reads in defs.checks"))

    @contextmanager
    def _reading(self, reader: Reader) -> Iterator[None]:
        self.readers.append(reader)
        try:
            yield
        finally:
            self.readers.pop()

    def input(self, asset: str) -> Artifact:
        """A finished input.

        Raises MissingInput when it has not been made, with the way to make it, and UndeclaredInput when whoever reads
        has not declared it.
        """
        if self.readers and asset not in self.readers[-1].declared:
            reader = self.readers[-1]
            raise UndeclaredInput(
                f"{reader.name} reads {asset}, which it does not declare; it declares {sorted(reader.declared)}. "
                f"Add it in {reader.declaration}, so that lineage and fingerprint know of it."
            )
        planned = self.planned[asset]
        found, problems = self.artifacts.look(asset, planned.fingerprint)
        if problems or found is None:
            state = f"is damaged ({'; '.join(problems)})" if problems else "is not there"
            raise MissingInput(
                f"{asset} of experiment {self.experiment.name} (fingerprint {planned.fingerprint}) {state}; "
                f"materialize it first, or run it all: python -m itool_pipeline run {self.experiment.name}"
            )
        return found

    def produce(self, asset: str, make: Make, *, force: bool | None = None) -> Produced:
        """Make or reuse the artifact, and record that this run of this experiment has it, with its rows."""
        planned = self.planned[asset]
        origin = replace(planned.origin, run_id=self.run_id)
        force = self.force if force is None else force
        with self.producing(asset):
            artifact, reused = reuse_or_make(
                self.artifacts, asset, planned.fingerprint, make, origin=origin, force=force, say=self.say
            )
        self.record(artifact, reused=reused)
        how = "reused" if reused else f"made in {artifact.manifest.seconds:.0f} s"
        self.say(f"{asset} {planned.fingerprint}: {how}")
        return Produced(artifact, reused)

    def record(self, artifact: Artifact, *, reused: bool) -> None:
        """Say that this experiment has the artifact. Doing it twice changes nothing."""
        self.records.write(self.experiment, artifact, run_id=self.run_id, reused=reused)

    def progress(self, unit: str) -> Timed:
        """A progress callback that says from time to time how far the work is and how long it will take."""
        return Timed(unit, self.say)
