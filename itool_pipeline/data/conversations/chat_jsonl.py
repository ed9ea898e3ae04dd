"""The users' own data: conversations in the chat layout of OpenAI's API, one JSON object in a line:

{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "tool_calls": [...]}, ...], "tools": [...]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from itool_pipeline.core.types import Message
from itool_pipeline.data.answers import answered_example
from itool_pipeline.data.containers import FileRow
from itool_pipeline.data.conversations.chat_models import ChatLine
from itool_pipeline.data.conversations.known_keys import Keys
from itool_pipeline.data.conversations.spelling import level_row
from itool_pipeline.data.conversations.turns import Turn, read_turns
from itool_pipeline.data.row_models import read_row
from itool_pipeline.data.rows import Changed, PassedOver, Quarantined, Row, RowError, expect_that, row_excerpt
from itool_pipeline.data.tools import Tools

SOURCE = "jsonl"

Translate = Callable[[Keys, Counter[str]], Keys]
"""A row in a layout of its own to one that `level_row` reads; what was changed is counted. Raises RowError."""

NOT_TO_BE_LEARNT = "marked as not to be learnt from"


def chat_rows(rows: Iterable[FileRow], translate: Translate = lambda row, changes: row) -> Iterator[Row]:
    """One example for each assistant turn, with what came before it as context, tool results included.

    A row is translated first; one in another spelling is levelled (`level_row`); what its turns are `read_turns` says.
    Beside calls words are left out, as our prompt asks for calls alone.

    A row that cannot be levelled is quarantined as a whole, a turn that cannot be read with all that comes after it,
    and an answer that cannot be learnt from by itself; one that is marked as not to be learnt from is passed over.
    """
    for row in rows:
        yield from _read_line(row, translate)


def _read_line(given: FileRow, translate: Translate) -> Iterator[Row]:
    changes: Counter[str] = Counter()
    try:
        row = read_row(ChatLine, level_row(_translated(given, translate, changes), changes))
        tools = tuple(row.tools or ())
        read = read_turns(row.messages, tools)
        answers = [position for position, turn in enumerate(read.turns) if turn.message.role == "assistant"]
        if not answers:
            raise read.trouble or RowError("no assistant turn")
    except RowError as error:
        yield Quarantined(SOURCE, given.position, str(error), row_excerpt(given.given))
        return
    changes += read.changes
    yield from (Changed(what, times) for what, times in changes.items() if times)
    for position in answers:
        context = tuple(turn.message for turn in read.turns[:position])
        yield _answer(given, position, context, tools, read.turns[position])
    if read.trouble:
        place = f"{given.position}, from turn {len(read.turns)} on"
        yield Quarantined(SOURCE, place, str(read.trouble), row_excerpt(given.given))


def _translated(given: FileRow, translate: Translate, changes: Counter[str]) -> Keys:
    row = given.json_object()
    try:
        return translate(row, changes)
    except RecursionError as error:
        raise RowError("nested too deeply to be read") from error


def _answer(given: FileRow, position: int, context: tuple[Message, ...], tools: Tools, turn: Turn) -> Row:
    """What an assistant's turn gives."""
    place = f"{given.position}, turn {position}"
    if not turn.learnt:
        return PassedOver(place, NOT_TO_BE_LEARNT)
    name, conversation = f"{SOURCE}_{given.number}_{position}", f"{SOURCE}_{given.number}"
    try:
        expect_that(bool(turn.message.content) or not turn.thoughts, "the answer is nothing but thoughts")
        return answered_example(name, SOURCE, conversation, context, tools, turn.calls or turn.message.content)
    except RowError as error:
        return Quarantined(SOURCE, place, str(error), row_excerpt(turn.message.content))
