"""BFCL's single-turn categories out of the unzipped wheel, and their two halves (Section 4.5: BFCL-half)."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator

from itool_pipeline.calls.rendering import render_gold
from itool_pipeline.calls.tool_schema import Tool, find_tool, parameter_schemas, required_parameters
from itool_pipeline.calls.types import GoldCall
from itool_pipeline.config import BFCL_CATEGORIES, BfclKind
from itool_pipeline.core.types import Example, Expectation, Message
from itool_pipeline.data import near_duplicates
from itool_pipeline.data.row_models import RowModel, read_row
from itool_pipeline.data.rows import Quarantined, RowError, Rows, expect_that, json_object, row_excerpt
from itool_pipeline.data.streams import json_lines
from itool_pipeline.data.tools import GivenTool

SOURCE = "bfcl"
DATA_FOLDER = Path("bfcl_eval") / "data"
FILE_PREFIX = "BFCL_v4_"

LANGUAGES: Mapping[str, str] = {
    name: category.language for name, category in BFCL_CATEGORIES.items() if category.kind is not BfclKind.MULTI_TURN
}
"""Every single-turn category and the language its calls are written in."""

_EXPECTS = {BfclKind.IRRELEVANCE: Expectation.NO_CALL, BfclKind.RELEVANCE: Expectation.ANY_CALL}
"""The kinds of question that have no calls to compare with."""

ABSTENTION = "None of the given functions can answer this."
"""Our gold response where the right answer is to call nothing."""


class BfclMessage(RowModel):
    noun: ClassVar[str] = "a message"

    role: Literal["system", "user", "assistant"]
    content: str


def _single_turn(turns: Any) -> Any:
    single = not isinstance(turns, list) or (len(turns) == 1 and isinstance(turns[0], list))
    expect_that(single, "not a single turn")
    return turns


def _with_user(turns: list[list[BfclMessage]]) -> list[list[BfclMessage]]:
    expect_that(any(message.role == "user" for message in turns[0]), "no user message")
    return turns


class BfclQuestion(RowModel):
    id: str
    question: Annotated[list[list[BfclMessage]], BeforeValidator(_single_turn), AfterValidator(_with_user)]
    function: list[GivenTool]


class BfclAnswer(RowModel):
    id: str
    ground_truth: list[Any]


def questions_file(bfcl_dir: Path, category: str) -> Path:
    """The file with the category's questions and tools."""
    return bfcl_dir / DATA_FOLDER / f"{FILE_PREFIX}{category}.json"


def answers_file(bfcl_dir: Path, category: str) -> Path:
    """The file with the category's possible answers. Relevance and irrelevance categories have none."""
    return bfcl_dir / DATA_FOLDER / "possible_answer" / f"{FILE_PREFIX}{category}.json"


def load_bfcl(bfcl_dir: Path, categories: Iterable[str] = tuple(LANGUAGES)) -> Rows:
    """The examples of the categories, in their order and the files'.

    Groups are those within all single-turn categories, so they do not depend on which are asked for. Java and
    JavaScript rows and `live_relevance` serve to evaluate: their `response` is empty, the first two because core
    renders Python only, the last because the benchmark gives no answer. So it is for the few rows whose possible
    answer contradicts the tool, so that no output can pass.

    Raises ValueError for an unknown category and OSError when the wheel lacks a file.
    """
    wanted = tuple(categories)
    if unknown := sorted(set(wanted) - set(LANGUAGES)):
        raise ValueError(f"unknown BFCL categories {unknown}; known are {list(LANGUAGES)}")
    rows = {category: _read_category(bfcl_dir, category) for category in LANGUAGES}
    group = near_duplicates.groups([example for read in rows.values() for example in read.examples])
    return Rows(
        tuple(replace(e, group=group[e.id]) for category in wanted for e in rows[category].examples),
        tuple(row for category in wanted for row in rows[category].quarantined),
    )


def _read_category(bfcl_dir: Path, category: str) -> Rows:
    file = questions_file(bfcl_dir, category)
    answers, quarantined = _read_answers(answers_file(bfcl_dir, category))
    examples: dict[str, Example] = {}
    for number, line in json_lines(file):
        try:
            example = _example(read_row(BfclQuestion, json_object(line)), category, answers)
            expect_that(example.id not in examples, f"a second row has the same id: {example.id!r}")
            examples[example.id] = example
        except RowError as error:
            quarantined.append(Quarantined(SOURCE, f"{file.name}:{number}", str(error), row_excerpt(line)))
    return Rows(tuple(examples.values()), tuple(quarantined))


def _read_answers(file: Path) -> tuple[dict[str, tuple[GoldCall, ...]], list[Quarantined]]:
    answers: dict[str, tuple[GoldCall, ...]] = {}
    quarantined: list[Quarantined] = []
    for number, line in json_lines(file) if file.exists() else ():
        try:
            row = read_row(BfclAnswer, json_object(line))
            answers[row.id] = tuple(_gold_call(call) for call in row.ground_truth)
        except RowError as error:
            quarantined.append(
                Quarantined(SOURCE, f"possible_answer/{file.name}:{number}", str(error), row_excerpt(line))
            )
    return answers, quarantined


def _gold_call(call: Any) -> GoldCall:
    expect_that(isinstance(call, dict) and len(call) == 1, "an expected call is not one function with its arguments")
    name, arguments = next(iter(call.items()))
    expect_that(isinstance(arguments, dict), f"the arguments of an expected call are not a mapping: {name!r}")
    for key, accepted in arguments.items():
        expect_that(isinstance(accepted, list), f"a parameter has no list of accepted values: {key!r} of {name!r}")
    return GoldCall(name, {key: tuple(accepted) for key, accepted in arguments.items()})


def _example(row: BfclQuestion, category: str, answers: Mapping[str, tuple[GoldCall, ...]]) -> Example:
    messages = tuple(Message(message.role, message.content) for message in row.question[0])
    tools = tuple(row.function)
    expects = _EXPECTS.get(BFCL_CATEGORIES[category].kind, Expectation.CALLS)
    expect_that(expects is not Expectation.CALLS or bool(answers.get(row.id)), "no possible answer")
    gold = answers[row.id] if expects is Expectation.CALLS else ()
    missing = sorted({call.name for call in gold} - {str(tool["name"]) for tool in tools})
    expect_that(not missing, f"expected functions are not among the tools: {missing}")
    return Example(
        id=row.id,
        source=SOURCE,
        category=category,
        messages=messages,
        tools=tools,
        response=_response(category, gold, tools),
        gold=gold,
        group=row.id,
        language=LANGUAGES[category],
        expects=expects,
    )


def _response(category: str, gold: tuple[GoldCall, ...], tools: Sequence[Tool]) -> str:
    if BFCL_CATEGORIES[category].kind is BfclKind.IRRELEVANCE:
        return ABSTENTION
    python = LANGUAGES[category] == "python"
    possible = python and bool(gold) and all(_possible(call, tools) for call in gold)
    return render_gold([_known(call, tools) for call in gold], tools) if possible else ""


def _possible(call: GoldCall, tools: Sequence[Tool]) -> bool:
    """Whether the official checker takes any arguments at all for this call."""
    tool = find_tool(tools, call.name) or {}
    given = all(name in call.arguments for name in required_parameters(tool))
    return given and all(
        accepted and (name in parameter_schemas(tool) or "" in accepted) for name, accepted in call.arguments.items()
    )


def _known(call: GoldCall, tools: Sequence[Tool]) -> GoldCall:
    """Without parameters that the tool does not have: an output that uses one is refused."""
    names = parameter_schemas(find_tool(tools, call.name) or {})
    return GoldCall(call.name, {name: accepted for name, accepted in call.arguments.items() if name in names})


def halves(examples: Sequence[Example], seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Two disjoint parts, (train, held_out), of about half of each category; a group is never divided.

    Which half an example is in depends on the seed and on the set of examples, not on their order. Large groups
    are placed first; each goes where its categories have fewer so far, and by a coin when there is no difference.
    """
    members: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda e: e.id):
        members[example.group].append(example)
    draw = random.Random(seed)
    names = sorted(members)
    draw.shuffle(names)
    lead: Counter[str] = Counter()  # per category: training examples so far minus held-out ones
    train: set[str] = set()
    for name in sorted(names, key=lambda name: -len(members[name])):
        sizes = Counter(example.category for example in members[name])
        balance = sum(lead[category] * size for category, size in sizes.items())
        to_train = draw.random() < 0.5 if balance == 0 else balance < 0
        if to_train:
            train.add(name)
        for category, size in sizes.items():
            lead[category] += size if to_train else -size
    return tuple(e for e in examples if e.group in train), tuple(e for e in examples if e.group not in train)
