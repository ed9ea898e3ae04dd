"""Examples and their token ids in Parquet: written as they come, read back all or by id, a few at a time.

`examples` renders and tokenises each example once. Whatever trains, scores or searches reads the token ids from here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.core.difficulty import ExampleSize, measure_size
from itool_pipeline.core.reward import GradePrompt, SearchProblem
from itool_pipeline.core.types import Example, Expectation
from itool_pipeline.data.example_codec import EXAMPLE_COLUMNS, decode_example, encode_example
from itool_pipeline.store.table_files import read_rows_by_key, read_table_rows, write_table_file
from itool_pipeline.store.tables import EXAMPLES

PromptOf = Callable[[Example], Sequence[int] | None]
"""Token ids of an example's prompt; None when the model's chat template refuses it."""

EXAMPLE_GROUP = 100
"""Examples in a row group. Reading by id decodes whole row groups, so they are small."""

_GRADE_COLUMNS = ("grade_before_ids", "grade_after_ids", "grade_option_ids")


@dataclass(frozen=True, slots=True)
class ResponseTokens:
    """What training and perplexity need of an example: `prompt` and `response` (with its end token) as token ids."""

    id: str
    expects: Expectation
    prompt: tuple[int, ...]
    response: tuple[int, ...]


def write_training_examples(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes rows of `training_row` as they are made; returns how many."""
    return write_table_file(path, EXAMPLES, rows, EXAMPLE_GROUP)


def write_cases(path: Path, examples: Iterable[Example], prompt_of: PromptOf) -> int:
    """Writes cases to be scored with their prompts, so that scoring them renders nothing; returns how many."""
    none = dict.fromkeys(("response_ids", *_GRADE_COLUMNS, "tokenised_alone"))
    rows = (_row(x, "held_out", prompt_of(x)) | none for x in examples)
    return write_table_file(path, EXAMPLES, rows, EXAMPLE_GROUP)


def write_counted_cases(path: Path, examples: Iterable[Example], tokens_of: Callable[[Example], int]) -> int:
    """The same for a model whose tokenizer is not known: how long prompts are, about, and no token ids."""
    none = dict.fromkeys(("prompt_ids", "response_ids", *_GRADE_COLUMNS, "tokenised_alone"))
    rows = (_row(x, "held_out", None) | none | {"prompt_tokens": tokens_of(x)} for x in examples)
    return write_table_file(path, EXAMPLES, rows, EXAMPLE_GROUP)


def training_row(
    example: Example, prompt: Sequence[int], response: Sequence[int], grade: GradePrompt, *, tokenised_alone: bool
) -> dict[str, Any]:
    """A row of the table `examples`, in the part to train on, with the token ids that its file has besides."""
    return {
        **_row(example, "train", prompt),
        "response_ids": response,
        **dict(zip(_GRADE_COLUMNS, (grade.before, grade.after, grade.options), strict=True)),
        "tokenised_alone": tokenised_alone,
    }


def read_examples(path: Path, ids: Collection[str] | None = None) -> Iterator[Example]:
    """The examples in the file's order: all, or those with an id in `ids`."""
    return map(decode_example, _read(path, ids, EXAMPLE_COLUMNS))


def read_problems(path: Path, ids: Collection[str]) -> Iterator[SearchProblem]:
    """Training examples as the search takes them, in the file's order."""
    for row in _read(path, ids, (*EXAMPLE_COLUMNS, "prompt_ids", *_GRADE_COLUMNS)):
        before, after, (a, b, c, d) = (row[name] for name in _GRADE_COLUMNS)
        grade = GradePrompt(tuple(before), tuple(after), (a, b, c, d))
        yield SearchProblem(decode_example(row), tuple(row["prompt_ids"]), grade)


def read_response_tokens(path: Path, ids: Collection[str]) -> Iterator[ResponseTokens]:
    """Token ids of training examples, in the file's order; their texts are not read."""
    for row in _read(path, ids, ("example_id", "expects", "prompt_ids", "response_ids")):
        prompt, response = tuple(row["prompt_ids"]), tuple(row["response_ids"])
        yield ResponseTokens(row["example_id"], Expectation(row["expects"]), prompt, response)


def read_prompts(path: Path, ids: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Id → token ids of the prompt. Those that the chat template refuses have none and may not be asked for."""
    return {row["example_id"]: tuple(row["prompt_ids"]) for row in _read(path, ids, ("example_id", "prompt_ids"))}


def read_tool_lengths(path: Path, ids: Collection[str]) -> Iterator[tuple[str, int]]:
    """Ids with the number of characters that the example's tools have as a tuple; nothing else is read."""
    for row in _read(path, ids, ("example_id", "tools")):
        yield row["example_id"], len(str(tuple(json.loads(row["tools"]))))


def size_of(row: Mapping[str, Any]) -> ExampleSize:
    """What the difficulty of the row's example is read from."""
    return ExampleSize(row["tool_count"], row["tool_chars"], row["call_count"])


def _read(path: Path, ids: Collection[str] | None, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    return read_table_rows(path, columns) if ids is None else read_rows_by_key(path, "example_id", ids, columns)


def _row(example: Example, part: str, prompt: Sequence[int] | None) -> dict[str, Any]:
    measured = measure_size(example)
    return {
        **encode_example(example),
        "question": example.question,
        "tool_count": measured.tools,
        "tool_chars": measured.chars,
        "call_count": measured.calls,
        "part": part,
        "prompt_tokens": None if prompt is None else len(prompt),
        "prompt_ids": prompt,
    }
