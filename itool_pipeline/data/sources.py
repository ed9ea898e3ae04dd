"""From an experiment's config to the examples it trains on.

A data set is read twice, a row at a time: once to see what is in it, once for the examples that were chosen. Ids,
categories and digests are held, the examples are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from itool_pipeline.config import BfclHalfData, DataConfig, JsonlData, ToolAceData, XlamData
from itool_pipeline.core.types import Example, Progress, no_progress
from itool_pipeline.data.answers import loose_answers
from itool_pipeline.data.bfcl import SOURCE as BENCHMARK
from itool_pipeline.data.bfcl import halves, load_bfcl
from itool_pipeline.data.containers import missing_file
from itool_pipeline.data.drawing import TokenCount, draw_ids, quotas, why_unfit
from itool_pipeline.data.hub import commit_of, download_dataset_file, download_dataset_files
from itool_pipeline.data.layouts import read_any_layout, read_in_layout, resolved_layout, source_name
from itool_pipeline.data.near_duplicates import ConversationGroups, Groups, signatures_of_turns
from itool_pipeline.data.rows import Changed, PassedOver, Quarantined, Row, Source
from itool_pipeline.data.toolace import read_toolace
from itool_pipeline.data.wheels import BFCL, FetchError, fetch_wheel
from itool_pipeline.data.xlam import read_xlam

FileData = ToolAceData | XlamData | JsonlData

FileReader = Callable[[Path, Progress], Iterator[Row]]

READERS: Mapping[str, FileReader] = {"toolace": read_toolace, "xlam": read_xlam, "jsonl": read_any_layout}
"""How a local file of each type of data is read. The type is also the source's name in examples and quarantine."""

HUB_FILES = {"toolace": "data.json", "xlam": "xlam_function_calling_60k.json"}
"""The file that a data set is on the hub."""

ASKED_IN_TEST = "a benchmark asks nearly the same in a test"
NO_ANSWER = "no answer to learn from, or none that its tools allow"
TOO_LONG_WITH_ANSWER = "prompt and answer are longer than the model's context"
NOT_DRAWN = "not drawn: data.train_limit"
NOT_ASKED_FOR = "of a category that is not trained on: data.categories"
HELD_OUT_HALF = "in the half that is held out"
LOOKED_THROUGH = "kB of training data looked through"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The examples to train on, read anew from their source by each `iter`.

    groups  id → group of near-duplicates, for each chosen example
    """

    source: Source
    groups: Mapping[str, str]
    progress: Progress = no_progress

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Example]:
        for row in self.source(self.progress):
            if isinstance(row, Example) and row.id in self.groups:
                yield replace(row, group=self.groups[row.id])


@dataclass(frozen=True, slots=True)
class LoadedData:
    """What an experiment trains on. Of the source, read = trained on + left out.

    source       what is trained on
    commit       of the data set on the hub; empty for a local file
    train        examples to train on
    quarantined  rows of the source that are no examples
    read         how many examples are in it
    left_out     reason → how many of them the experiment's limits exclude, or the data set itself
    changed      what was changed of rows as they were read → how often
    loose        what in the answers is at odds with the tools' schemas → how often
    layout       in which the rows were read, where that is not the source's own
    """

    source: str
    commit: str
    train: Chosen
    quarantined: tuple[Quarantined, ...]
    read: int
    left_out: Mapping[str, int]
    changed: Mapping[str, int] = field(default_factory=dict)
    loose: Mapping[str, int] = field(default_factory=dict)
    layout: str = ""


def load_data(
    data: DataConfig,
    downloads: Path,
    seed: int,
    *,
    asked: Collection[bytes] = frozenset(),
    token_count: TokenCount | None = None,
    fits: Callable[[Example], bool] = lambda example: True,
    progress: Callable[[str], Progress] = lambda unit: no_progress,
) -> LoadedData:
    """Read the source and apply the limits of the config. Without `token_count` no prompt is too long.

    asked  signatures of what is asked in a test: an example that has one of them is left out
    fits   whether the model can read the example with its answer at once

    The halves of BFCL depend on the seed alone, so experiments with one seed agree on what is held out. `progress`
    makes a callback for work that is counted in the unit it is given.

    Raises FetchError when something cannot be downloaded or found, UnreadableFile for a file in the wrong layout.
    """
    if isinstance(data, BfclHalfData):
        return _load_half(data, downloads, seed, asked, token_count, fits, progress)
    paths = local_files(data)
    if isinstance(data, JsonlData):
        layout = resolved_layout(data, paths)
        name, source = source_name(layout), partial(read_in_layout, data, paths, layout)
    else:
        layout, name, source = "", data.type, partial(READERS[data.type], paths[0])
    survey = _survey(source, data, asked, token_count, fits, progress(LOOKED_THROUGH))
    loaded = _loaded(name, commit_of(paths[0]), source, survey, survey.groups.names(), data, seed, progress)
    return replace(loaded, layout=layout)


def _load_half(
    data: BfclHalfData,
    downloads: Path,
    seed: int,
    asked: Collection[bytes],
    token_count: TokenCount | None,
    fits: Callable[[Example], bool],
    progress: Callable[[str], Progress],
) -> LoadedData:
    """BFCL's own examples, of which one half is held out. Their groups are those within the whole benchmark."""
    whole = load_bfcl(fetch_wheel(BFCL, downloads))
    half, held_out = halves(whole.examples, seed)
    wanted = [example for example in half if example.category in data.categories]

    def source(progress: Progress) -> Iterator[Row]:
        return iter(wanted)

    survey = _survey(source, data, asked, token_count, fits, progress(LOOKED_THROUGH))
    survey.quarantined.extend(whole.quarantined)
    survey.read = len(whole.examples)
    survey.left_out.update({HELD_OUT_HALF: len(held_out), NOT_ASKED_FOR: len(half) - len(wanted)})
    groups = {example.id: example.group for example in wanted}
    return _loaded(BENCHMARK, "", source, survey, groups, data, seed, progress)


def _loaded(
    name: str,
    commit: str,
    source: Source,
    survey: _Survey,
    groups: Mapping[str, str],
    data: DataConfig,
    seed: int,
    progress: Callable[[str], Progress],
) -> LoadedData:
    drawn = draw_ids(survey.kept, quotas(Counter(survey.kept.values()), data.train_limit), seed)
    survey.left_out[NOT_DRAWN] += len(survey.kept) - len(drawn)
    return LoadedData(
        source=name,
        commit=commit,
        train=Chosen(source, {key: groups[key] for key in drawn}, progress("kB of training data read")),
        quarantined=tuple(survey.quarantined),
        read=survey.read,
        left_out=+survey.left_out,  # without the zeros
        changed=survey.changed,
        loose=survey.loose,
    )


def local_files(data: FileData) -> tuple[Path, ...]:
    """The files that are trained on, in their order, fetched from the hub unless they are local.

    Raises FetchError when one is not there or cannot be fetched.
    """
    if isinstance(data, JsonlData) and data.name is not None:
        return download_dataset_files(data.name, data.revision, data.files)
    return (local_file(data),)


def local_file(data: FileData) -> Path:
    """The file that is trained on, fetched from the hub unless it is local.

    Raises FetchError when it is not there or cannot be fetched.
    """
    if data.path is None and not isinstance(data, JsonlData):
        return download_dataset_file(data.name, data.revision, HUB_FILES[data.type])
    path = Path(str(data.path)).expanduser()
    if not path.is_file():
        remedy = "" if isinstance(data, JsonlData) else ", or remove it to ask the hub"
        raise FetchError(f"{missing_file(path)} Correct data.path in the experiment{remedy}.")
    return path


@dataclass(slots=True)
class _Survey:
    """What is in a source. `kept` has the category of each example within the limits, by id."""

    kept: dict[str, str]
    groups: Groups
    read: int
    quarantined: list[Quarantined]
    left_out: Counter[str]
    changed: Counter[str]
    loose: Counter[str]


def _survey(
    source: Source,
    data: DataConfig,
    asked: Collection[bytes],
    token_count: TokenCount | None,
    fits: Callable[[Example], bool],
    progress: Progress,
) -> _Survey:
    survey = _Survey({}, ConversationGroups(), 0, [], Counter(), Counter(), Counter())
    for row in source(progress):
        if isinstance(row, Quarantined):
            survey.quarantined.append(row)
            continue
        if isinstance(row, Changed):
            survey.changed[row.what] += row.times
            continue
        survey.read += 1
        if isinstance(row, PassedOver):
            survey.left_out[row.reason] += 1
            continue
        survey.groups.add(row)
        if any(signature in asked for signature in signatures_of_turns(row)):
            survey.left_out[ASKED_IN_TEST] += 1
        elif not row.response:
            survey.left_out[NO_ANSWER] += 1
        elif reason := why_unfit(row, data.max_prompt_tokens, token_count):
            survey.left_out[reason] += 1
        elif not fits(row):
            survey.left_out[TOO_LONG_WITH_ANSWER] += 1
        else:
            survey.kept[row.id] = row.category
            if row.source != BENCHMARK:  # whose gold has several values for each parameter
                survey.loose.update(loose_answers(row))
    return survey
