"""What a model says to many prompts, in batches; each is kept as a part, so that a kill loses none that is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.files.parts import Parts

Prompt = tuple[int, ...]
"""Token ids."""
T = TypeVar("T")
Ask = Callable[[Mapping[str, Prompt]], Iterator[tuple[str, T]]]
"""Prompts by key → (key, what the model says) as it comes; that is JSON."""


def answers_in_batches(
    parts: Parts,
    name: str,
    prompts: Mapping[str, Prompt],
    batch_size: int,
    ask: Ask[T],
    progress: Progress = no_progress,
) -> dict[str, T]:
    """By key what the model says. All that are missing are asked at once; each batch is a part as soon as it is whole.

    name  of the parts, which tells one round of questions from another
    """
    found: dict[str, T] = {}
    missing: dict[str, list[str]] = {}
    for number, ids in enumerate(prompt_batches(prompts, batch_size)):
        part = f"{name}_{number:05d}.json"
        kept: dict[str, T] = parts.read_json(part) if parts.has(part) else {}
        if kept.keys() == set(ids):
            found |= kept
        else:
            missing[part] = ids
    for part, made in _each_batch(missing, prompts, ask) if missing else ():
        parts.write_json(part, made)
        found |= made
        progress(len(found), len(prompts))
    return found


def prompt_batches(prompts: Mapping[str, Prompt], most: int) -> list[list[str]]:
    """The keys in batches of at most `most`. Prompts that begin alike follow each other: they are computed together."""
    ordered = sorted(prompts, key=lambda key: (prompts[key], key))
    return [ordered[start : start + most] for start in range(0, len(ordered), most)]


def _each_batch(
    batches: Mapping[str, Sequence[str]], prompts: Mapping[str, Prompt], ask: Ask[T]
) -> Iterator[tuple[str, dict[str, T]]]:
    """(part, what is said to its prompts) as the batches become whole."""
    part_of = {key: part for part, ids in batches.items() for key in ids}
    answers: dict[str, dict[str, T]] = {part: {} for part in batches}
    for key, said in ask({key: prompts[key] for key in part_of}):
        batch = answers[part_of[key]]
        batch[key] = said
        if len(batch) == len(batches[part_of[key]]):
            yield part_of[key], answers.pop(part_of[key])
