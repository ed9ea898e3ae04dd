"""What an assistant thinks before or between its words, as the families of models write it into the text of a turn.

One rule for all of a conversation: thoughts are no part of what is learnt or shown, be they beside calls or words, in
the answer or before it. They are handed over apart from the words, so that whoever trains on thoughts finds them here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from itool_pipeline.data.conversations.call_tags import OPENING_TAG
from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import RowError

_WORD = r"(?:[\w-]+[:_])?(?:think(?:ing)?|thoughts?|reasoning|monologue|scratch_?pad|antthinking)(?:_?process)?"
_OPEN = re.compile(
    rf"<{_WORD}(?:\s[^<>]*)?>|\[THINK(?:ING)?\]|<\|(?:begin_of_thought|START_THINKING|think(?:ing)?)\|>|◁think▷", re.I
)
_CLOSE = re.compile(
    rf"</{_WORD}>|\[/THINK(?:ING)?\]|<\|(?:end_of_thought|END_THINKING|/think(?:ing)?)\|>|◁/think▷", re.I
)
_BLOCK_OPENS = r"<details\s+type\s*=\s*[\"']reasoning[\"'][^<>]*>|<\|channel>\s*thought\b|<unused94>(?:\s*thought\b)?"
_BLOCK = re.compile(rf"(?:{_BLOCK_OPENS})(?P<text>.*?)(?:</details>|<channel\|>|<unused95>)", re.S)
"""Thoughts between tags that close other things too, as Open WebUI and Gemma write them."""
_ANSWER = re.compile(
    r"<(?P<tag>answer|final|final_answer|output|response)>(?P<text>.*)</(?P=tag)>"
    r"|<\|begin_of_solution\|>(?P<solution>.*)<\|end_of_solution\|>",
    re.S | re.I,
)
_REACT = re.compile(r"\A\s*Thought\s*:(.*?)^\s*Final Answer\s*:\s*", re.S | re.M)
_HARMONY = re.compile(
    r"(?P<header>(?:<\|start\|>[^<]*+)?(?:<\|(?:channel|constrain)\|>[^<]*+)++)<\|message\|>"
    r"(?P<text>.*?)(?:<\|(?:end|return|call)\|>|(?=<\|(?:start|channel)\|>)|\Z)",
    re.S,
)
_QUOTES = "`\"'"


@dataclass(frozen=True, slots=True)
class Spoken:
    """A text of an assistant: its words, and its thoughts, in order. Blank thoughts are none."""

    words: str
    thoughts: tuple[str, ...] = ()


def split_thoughts(text: str) -> Spoken:
    """The words of a text, and the thoughts in it.

    Thoughts stand between tags of their own, before a closing tag whose opening tag was part of the prompt, in a
    channel of OpenAI's Harmony that is not for the user, or before ReAct's final answer. Tags in quotes or in a block
    of code are words, and so are those between the tags of calls.

    Tags around the answer as a whole belong to the layout of thoughts and go with them.

    Raises RowError for thoughts that do not end, or whose end stands amid a line without a beginning.
    """
    thoughts: list[str] = []
    words = _without_channels(text, thoughts)
    words = _without_leading(words, thoughts)
    if not words.startswith(("{", "[")):  # there, tags are in the arguments of a call
        words = _without_blocks(_without_other_blocks(words, thoughts), thoughts)
    final = _REACT.match(words)
    if final:
        thoughts.append(final[1])
        words = words[final.end() :]
    answer = _ANSWER.fullmatch(words.strip()) if words != text else None
    if answer:
        words = answer["text"] or answer["solution"] or ""
    return Spoken(words.strip(), tuple(thought.strip() for thought in thoughts if thought.strip()))


def _without_channels(text: str, thoughts: list[str]) -> str:
    """The text without Harmony's channel of analysis; calls keep their header, for they are read by it."""

    def kept(found: re.Match[str]) -> str:
        header, said = found["header"], found["text"]
        if " to=" in header:
            return f"{header}<|message|>{said}<|call|>"
        if "analysis" in header:
            thoughts.append(said)
            return ""
        return said

    return _HARMONY.sub(kept, text)


def _without_other_blocks(text: str, thoughts: list[str]) -> str:
    """The text without the blocks whose tags have to be taken together."""

    def left(found: re.Match[str]) -> str:
        if _is_code(text, found):
            return found.group()
        thoughts.append(found["text"])
        return ""

    rest = _BLOCK.sub(left, text)
    opening = re.search(_BLOCK_OPENS, rest)
    if opening and not _is_code(rest, opening):
        raise _unclosed(rest[opening.start() :])
    return rest


def _without_leading(text: str, thoughts: list[str]) -> str:
    """The text without the thoughts that it begins with."""
    position = 0
    while True:
        start = len(text) - len(text[position:].lstrip())
        opening = _OPEN.match(text, start)
        closing = _CLOSE.search(text, opening.end() if opening else start)
        if opening and closing is None:
            raise _unclosed(text[start:])
        if closing is None or not (opening or _ends_prompt(text, start, closing)):
            return text[start:]
        thoughts.append(text[opening.end() if opening else start : closing.start()])
        position = closing.end()


def _ends_prompt(text: str, start: int, closing: re.Match[str]) -> bool:
    """Whether the tag ends thoughts that were begun in the prompt: alone, and at the beginning or end of a line.

    One amid a line, or in the text of an argument, is a word.
    """
    before, after = text[closing.start() - 1 : closing.start()], text[closing.end() : closing.end() + 1]
    alone = _OPEN.search(text, start, closing.start()) is None and not _is_code(text, closing)
    return alone and (before in ("", "\n") or after in ("", "\n"))


def _without_blocks(text: str, thoughts: list[str]) -> str:
    """The text without the thoughts amid its words, as far as its calls, if it has any."""
    calls = OPENING_TAG.search(text)
    end = calls.start() if calls else len(text)
    words, position = "", 0
    for opening in _OPEN.finditer(text, 0, end):
        if opening.start() < position or _is_code(text, opening):
            continue
        closing = _CLOSE.search(text, opening.end())
        if closing is None:
            raise _unclosed(text[opening.start() :])
        thoughts.append(text[opening.end() : closing.start()])
        words += text[position : opening.start()]
        position = closing.end()
    for closing in _CLOSE.finditer(text, position, end):
        if not _is_code(text, closing):
            raise RowError(f"thoughts that do not begin: {shown_value(text[: closing.end()])}")
    return words + text[position:]


def _is_code(text: str, found: re.Match[str]) -> bool:
    before, after = text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1]
    return text.count("```", 0, found.start()) % 2 == 1 or before in tuple(_QUOTES) or after in tuple(_QUOTES)


def _unclosed(text: str) -> RowError:
    return RowError(f"thoughts that do not end: {shown_value(text)}")
