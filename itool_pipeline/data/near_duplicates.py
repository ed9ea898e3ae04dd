"""Near-duplicates: questions that a model could answer by having seen the other one. They share a group."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from itertools import pairwise

from itool_pipeline.calls.reading import looks_like_call
from itool_pipeline.core.types import Example

_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)|`[^`]*`|“[^”]*”")
_CAPITALISED = re.compile(r"\b[A-Z][\w'’-]*")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_MASK = "¤"
_MASKS = re.compile(rf"{_MASK}(?:[\s,.]*{_MASK})*")

_Key = bytes


def normalised(question: str) -> str:
    """The question without case, punctuation and spacing: equal for what a reader would call the same question."""
    return " ".join(re.findall(r"\w+", question.casefold()))


def pattern(question: str) -> str:
    """The normalised question with quoted strings, capitalised words and numbers masked.

    Two questions have the same pattern when one is the other with its values exchanged.
    """
    text = question
    for expression in (_QUOTED, _CAPITALISED, _NUMBER):
        text = expression.sub(_MASK, text)
    text = _MASKS.sub(f" {_MASK} ", text)
    return " ".join(re.findall(rf"\w+|{_MASK}", text.casefold()))


def signatures(example: Example, question: str | None = None) -> tuple[bytes, bytes]:
    """Digests of the normalised question (by default the example's), and of its pattern with the tool names.

    Of two examples that share one of them, the answer to the one gives away, or nearly so, the answer to the other.
    """
    text = example.question if question is None else question
    names = sorted(str(tool["name"]) for tool in example.tools)
    return _digest("question", normalised(text)), _digest("tools", pattern(text), *names)


def signatures_of_turns(example: Example) -> set[bytes]:
    """The signatures of the question, and of each earlier one that calls answer: these can be read off the context.

    Not of all that is said earlier: of turns such as `ok` two conversations may well have the same.
    """
    answered = (
        one.content
        for one, after in pairwise(example.messages)
        if one.role == "user" and after.role == "assistant" and looks_like_call(after.content)
    )
    return {s for question in (example.question, *answered) for s in signatures(example, question)}


def signatures_of_conversation(example: Example) -> tuple[bytes, bytes]:
    """The signatures of all that the user says, taken together."""
    return signatures(example, "\n".join(message.content for message in example.messages if message.role == "user"))


def groups(examples: Iterable[Example]) -> dict[str, str]:
    """From each example's id to the name of its group: the least id in it. See `Groups`."""
    found = Groups()
    for example in examples:
        found.add(example)
    return found.names()


class Groups:
    """Groups of examples that are met one at a time; keeps digests of them, not the examples.

    Two examples are in one group when they share one of their `signatures`, or the same `group` already (say, the
    conversation both come from), or are joined by a chain of such pairs.
    """

    def __init__(self) -> None:
        self._parent: dict[_Key, _Key] = {}
        self._question: dict[str, _Key] = {}

    def add(self, example: Example) -> None:
        question, with_tools = signatures(example)
        for key in (with_tools, _digest("group", example.group)):
            self._parent[self._root(key)] = self._root(question)
        self._question[example.id] = question

    def names(self) -> dict[str, str]:
        """From each id to the least id of its group."""
        least: dict[_Key, str] = {}
        for identity, key in self._question.items():
            root = self._root(key)
            least[root] = min(identity, least.get(root, identity))
        return {identity: least[self._root(key)] for identity, key in self._question.items()}

    def _root(self, key: _Key) -> _Key:
        """The representative of the key's set in a union-find forest, halving the path on the way."""
        parent = self._parent
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key


def _digest(*parts: str) -> _Key:
    text = json.dumps(parts).encode("ascii")
    return hashlib.blake2b(text, digest_size=16).digest()
