"""The turns of a conversation out of its messages: who says what, which calls are made together, what tools answer."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import Call
from itool_pipeline.core.types import Message
from itool_pipeline.data.conversations.chat_models import ChatMessage
from itool_pipeline.data.conversations.known_keys import THOUGHTS_LEFT_OUT
from itool_pipeline.data.conversations.results import CallsAsked, ToolResult, result_identity
from itool_pipeline.data.conversations.thoughts import split_thoughts
from itool_pipeline.data.conversations.written_calls import read_written_calls
from itool_pipeline.data.rows import RowError, expect_that
from itool_pipeline.data.tools import Tools

CALLS_FROM_WORDS = "calls read out of an assistant's words"
WORDS_LEFT_OUT = "words beside calls left out"
REPEATED = "messages left out that repeat the one before"
JOINED = "messages joined to the one before by the same speaker"
ENDS_LEFT_OUT = "end tokens left out behind an assistant's words"
RESULTS_FROM_WORDS = "results read out of a user's words"

_RESULT_BLOCK = re.compile(
    r"(?:<(?P<tag>tool_(?:response|result|output)s?|function_(?:response|result|output)s?)>(?P<text>.*?)</(?P=tag)>"
    r"|\[TOOL_RESULTS\](?P<listed>.*?)\[/TOOL_RESULTS\])",
    re.S | re.I,
)
_RESULT_ENDS = re.compile(r"</(?:tool|function)_(?:response|result|output)s?>|\[/TOOL_RESULTS\]", re.I)
_END_TOKENS = (
    *("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<|return|>"),
    *("</s>", "<eos>", "<end_of_turn>", "<｜end▁of▁sentence｜>"),
)
_RESULT_KEYS = frozenset({"name", "content", "result", "tool_call_id", "id", "call_id"})
_OBSERVATION = re.compile(r"\s*(?:Observation|FUNCTION RESPONSE)\s*:\s*", re.I)


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as prompts show it.

    calls     what an assistant calls in it
    thoughts  what it thinks beside its calls or words; no part of the message
    learnt    whether it is to be learnt from
    """

    message: Message
    calls: tuple[Call, ...] = ()
    thoughts: tuple[str, ...] = ()
    learnt: bool = True


@dataclass(slots=True)
class ReadTurns:
    """The turns of a conversation, as far as they can be read.

    trouble  why the turn that comes next cannot be read; None where all are
    changes  what was changed of the messages → how often
    """

    turns: list[Turn] = field(default_factory=list)
    trouble: RowError | None = None
    changes: Counter[str] = field(default_factory=Counter)


def read_turns(messages: Sequence[ChatMessage], tools: Tools) -> ReadTurns:
    """The turns of the messages, up to the first that cannot be read.

    - What an assistant says in messages that follow one another is one turn. Beside calls its words are left out.
    - Calls may stand in an assistant's words (`read_written_calls`), thoughts too (`split_thoughts`).
    - Results that follow one another are one turn, in the order of their calls (`CallsAsked`). They may stand in a
      user's words, between tags.
    - A system message comes first: behind other turns a prompt cannot show it in its place.
    """
    read = ReadTurns()
    asked = CallsAsked()
    try:
        for role, group in groupby(_messages(messages, read.changes), key=lambda message: message.role):
            if role == "assistant":
                read.turns += _assistant_turns(list(group), tools, asked, read.changes)
            elif role == "tool":
                results = [result for message in group for result in _results(message)]
                read.turns.append(Turn(Message("tool", asked.show_results(results))))
            else:
                read.turns += _plain_turns(role, group, read.turns)
                asked.pass_turn()
    except RowError as error:
        read.trouble = error
    return read


def _plain_turns(role: str, group: Iterator[ChatMessage], before: Sequence[Turn]) -> list[Turn]:
    role = "system" if role == "developer" else role
    late = role == "system" and any(turn.message.role != "system" for turn in before)
    expect_that(not late, "a system message behind other turns, where no prompt can show it")
    return [Turn(Message(role, message.content.strip())) for message in group]


def _assistant_turns(
    group: Sequence[ChatMessage], tools: Tools, asked: CallsAsked, changes: Counter[str]
) -> list[Turn]:
    """What an assistant says before another speaks: one turn, or several where some words are not to be learnt."""
    distinct = [m for i, m in enumerate(group) if i == 0 or not _same(m, group[i - 1])]
    said = [_said(message, tools, changes) for message in distinct]
    called = [one for one in said if one.calls]
    turns = (
        [_call_turn(said, called)] if called else [_word_turn(list(r)) for _, r in groupby(said, lambda s: s.learnt)]
    )
    changes[REPEATED] += len(group) - len(distinct)
    changes[JOINED] += len(distinct) - len(turns)
    changes[THOUGHTS_LEFT_OUT] += sum(len(turn.thoughts) for turn in turns)
    changes[WORDS_LEFT_OUT] += sum(bool(one.words) for one in said) if called else 0
    if called:
        asked.add_calls(turns[0].calls, [identity for one in called for _, identity in one.calls])
    else:
        asked.pass_turn()
    return turns


def _same(message: ChatMessage, other: ChatMessage) -> bool:
    return (message.content, message.tool_calls) == (other.content, other.tool_calls)


@dataclass(frozen=True, slots=True)
class _Said:
    words: str
    calls: tuple[tuple[Call, str], ...]
    thoughts: tuple[str, ...]
    learnt: bool


def _call_turn(said: Sequence[_Said], called: Sequence[_Said]) -> Turn:
    calls = tuple(call for one in called for call, _ in one.calls)
    return Turn(Message("assistant", render_calls(calls)), calls, _thoughts(said), all(one.learnt for one in called))


def _word_turn(said: Sequence[_Said]) -> Turn:
    words = "\n".join(one.words for one in said if one.words)
    return Turn(Message("assistant", words), (), _thoughts(said), said[0].learnt)


def _thoughts(said: Sequence[_Said]) -> tuple[str, ...]:
    return tuple(thought for one in said for thought in one.thoughts)


def _said(message: ChatMessage, tools: Tools, changes: Counter[str]) -> _Said:
    """The words, the calls with their ids, and the thoughts of one message."""
    if message.tool_calls:
        calls = [Call(call.function.name, call.function.arguments) for call in message.tool_calls]
        words, thoughts = _beside_calls(message.content, calls, tools)
        identities = [result_identity(call.id) for call in message.tool_calls]
        return _Said(words, tuple(zip(calls, identities, strict=True)), thoughts, message.learnt)
    spoken = split_thoughts(message.content)
    words = _without_end_tokens(spoken.words)
    changes[ENDS_LEFT_OUT] += words != spoken.words
    results = _RESULT_ENDS.search(words) and _RESULT_BLOCK.search(words)
    expect_that(not results, "an assistant's words hold the results of tools")
    written = tuple((call, "") for call in read_written_calls(words, tools))
    changes[CALLS_FROM_WORDS] += len(written)
    return _Said("" if written else words, written, spoken.thoughts, message.learnt)


def _without_end_tokens(text: str) -> str:
    bare = text.rstrip()
    while bare.endswith(_END_TOKENS):
        bare = next(bare.removesuffix(token) for token in _END_TOKENS if bare.endswith(token)).rstrip()
    return bare


def _beside_calls(text: str, calls: Sequence[Call], tools: Tools) -> tuple[str, tuple[str, ...]]:
    """The words and thoughts beside calls. Raises RowError when the words write calls of other functions."""
    try:
        spoken = split_thoughts(text)
        written = read_written_calls(spoken.words, tools)
    except RowError:
        return text.strip(), ()  # left out in any case
    others = bool(written) and sorted(call.name for call in written) != sorted(call.name for call in calls)
    expect_that(not others, "writes other calls as text than it makes")
    return "" if written else spoken.words, spoken.thoughts


def _messages(messages: Sequence[ChatMessage], changes: Counter[str]) -> Iterator[ChatMessage]:
    """The messages, with results that stand in a user's words as messages of their own."""
    said: str | None = None
    for message in messages:
        if message.role == "user" and said is not None:
            results, words = _results_in_words(message.content, said)
            changes[RESULTS_FROM_WORDS] += len(results)
            yield from (message.model_copy(update={"role": "tool", "content": text}) for text in results)
            if results and not words:
                continue
            message = message.model_copy(update={"content": words})
        said = message.content if message.role == "assistant" else said
        yield message


def _results_in_words(text: str, said: str) -> tuple[list[str], str]:
    """The results that a user's message begins with, and its other words. `said` is what the assistant said last."""
    observed = _OBSERVATION.match(text)
    if observed and re.search(r"^[ *]*Action[ _]Input|<functioncall>", said, re.M):
        return [text[observed.end() :]], ""
    results: list[str] = []
    text = text.strip()
    while block := _RESULT_BLOCK.match(text):
        results.append(block.group())
        text = text[block.end() :].lstrip()
    return results, text


def _results(message: ChatMessage) -> list[ToolResult]:
    """The results that a tool's message holds: several where each stands between tags of its own."""
    identity, name = result_identity(message.tool_call_id), result_identity(message.name)
    blocks: list[ToolResult] = []
    rest = message.content.strip()
    while block := _RESULT_BLOCK.match(rest):
        blocks.append(_tagged_result((block["text"] or block["listed"] or "").strip()))
        rest = rest[block.end() :].lstrip()
    if not blocks or rest:
        return [ToolResult(message.content, identity, name)]
    if len(blocks) == 1:
        return [ToolResult(blocks[0].text, identity or blocks[0].identity, name or blocks[0].name)]
    return blocks


def _tagged_result(text: str) -> ToolResult:
    """A result between tags. Some write it as an object with the function's name."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return ToolResult(text)
    if not isinstance(given, dict) or not given.keys() <= _RESULT_KEYS or not isinstance(given.get("name"), str):
        return ToolResult(text)
    content = given.get("content", given.get("result"))
    if len(given.keys() & {"content", "result"}) != 1:
        return ToolResult(text)
    identity = next((given[key] for key in ("tool_call_id", "call_id", "id") if given.get(key) is not None), None)
    shown = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return ToolResult(shown, result_identity(identity), given["name"])
