"""BFCL's multi-turn conversations out of the unzipped wheel: questions turn by turn, tools, and what they act on.

They serve to evaluate only: their gold answers are paths of calls that are executed, and no text to learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from itool_pipeline.config import BFCL_MULTI_TURN
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.bfcl import DATA_FOLDER, SOURCE, answers_file, questions_file
from itool_pipeline.data.streams import json_rows

TOOL_FILES: Mapping[str, str] = {
    "GorillaFileSystem": "gorilla_file_system.json",
    "MathAPI": "math_api.json",
    "MessageAPI": "message_api.json",
    "TicketAPI": "ticket_api.json",
    "TradingBot": "trading_bot.json",
    "TravelAPI": "travel_booking.json",
    "TwitterAPI": "posting_api.json",
    "VehicleControlAPI": "vehicle_control.json",
}
"""Each class of tools that these conversations use, and the file that describes its methods."""


@dataclass(frozen=True, slots=True)
class MultiTurnCase:
    """One conversation.

    turns         the messages that open each turn; a turn without any hands over `added_tools`
    tools         what may be called from the first turn on
    added_tools   turn → tools that are held back until then (`miss_func`)
    world         the benchmark's own `id`, `initial_config` and `involved_classes`: what the calls act on
    ground_truth  the expected calls of each turn, as text; none where the turn cannot be served
    """

    id: str
    category: str
    turns: tuple[tuple[Message, ...], ...]
    tools: tuple[Mapping[str, Any], ...]
    added_tools: Mapping[int, tuple[Mapping[str, Any], ...]]
    world: Mapping[str, Any]
    ground_truth: tuple[tuple[str, ...], ...]

    def questions(self) -> Iterator[Example]:
        """Each of the user's messages as an example without an answer, to be compared with what is trained on."""
        for message in chain.from_iterable(self.turns):
            yield Example(self.id, SOURCE, self.category, (message,), self.tools, response="", gold=(), group=self.id)


def load_multi_turn(bfcl_dir: Path, categories: Iterable[str] = BFCL_MULTI_TURN) -> tuple[MultiTurnCase, ...]:
    """The conversations of the categories, in their order and the files'.

    Raises ValueError for an unknown category, OSError when the wheel lacks a file.
    """
    wanted = tuple(categories)
    if unknown := sorted(set(wanted) - set(BFCL_MULTI_TURN)):
        raise ValueError(f"unknown multi-turn categories {unknown}; known are {list(BFCL_MULTI_TURN)}")
    folder = bfcl_dir / DATA_FOLDER / "multi_turn_func_doc"
    tools = {name: tuple(json_rows(folder / file)) for name, file in TOOL_FILES.items()}
    return tuple(case for category in wanted for case in _cases(bfcl_dir, category, tools))


def _cases(bfcl_dir: Path, category: str, tools: Mapping[str, tuple[dict[str, Any], ...]]) -> list[MultiTurnCase]:
    answers = {row["id"]: row["ground_truth"] for row in json_rows(answers_file(bfcl_dir, category))}
    return [_case(row, category, tools, answers[row["id"]]) for row in json_rows(questions_file(bfcl_dir, category))]


def _case(
    row: Mapping[str, Any], category: str, tools: Mapping[str, tuple[dict[str, Any], ...]], answer: list[list[str]]
) -> MultiTurnCase:
    offered = [tool for name in row["involved_classes"] for tool in tools[name]]
    added = {}
    for turn, names in row.get("missed_function", {}).items():
        held_back = [next(tool for tool in offered if tool["name"] == name) for name in names]
        offered = [tool for tool in offered if tool not in held_back]
        added[int(turn)] = tuple(held_back)
    return MultiTurnCase(
        id=row["id"],
        category=category,
        turns=tuple(tuple(Message(m["role"], m["content"]) for m in turn) for turn in row["question"]),
        tools=tuple(offered),
        added_tools=added,
        world={key: row[key] for key in ("id", "initial_config", "involved_classes")},
        ground_truth=tuple(tuple(turn) for turn in answer),
    )
