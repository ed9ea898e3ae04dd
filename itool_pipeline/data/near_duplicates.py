"""Near-duplicates: questions that a model could answer by having seen the other one. They share a group."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from itool_pipeline.calls.syntaxes import calls_anything
from itool_pipeline.core.types import Example

_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)|`[^`]*`|“[^”]*”")
_CAPITALISED = re.compile(r"\b[A-Z][\w'’-]*")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_MASK = "¤"
_MASKS = re.compile(rf"{_MASK}(?:[\s,.]*{_MASK})*")

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
"""Thai, Lao, Burmese, Khmer, Chinese, Japanese and Korean by character."""
_OPENING_WORDS = 6
_OWN_WORDS = 4

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
        if one.role == "user" and after.role == "assistant" and calls_anything(after.content)
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
        self._conversation: dict[str, _Key] = {}

    def add(self, example: Example) -> None:
        """An example more."""
        self._join(self._placed(example), signatures(example))

    def _placed(self, example: Example) -> _Key:
        """The key of the example's conversation, under which its id is noted."""
        key = _digest("group", example.group)
        self._conversation[example.id] = key
        return key

    def _join(self, conversation: _Key, keys: Iterable[_Key]) -> None:
        for key in keys:
            self._parent[self._root(key)] = self._root(conversation)

    def names(self) -> dict[str, str]:
        """From each id to the least id of its group."""
        least: dict[_Key, str] = {}
        for identity, key in self._conversation.items():
            root = self._root(key)
            least[root] = min(identity, least.get(root, identity))
        return {identity: least[self._root(key)] for identity, key in self._conversation.items()}

    def _root(self, key: _Key) -> _Key:
        """The representative of the key's set in a union-find forest, halving the path on the way."""
        parent = self._parent
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key


class ConversationGroups(Groups):
    """Groups of the turns of conversations, which words that anybody may say do not join.

    A turn such as `Thanks!`, `yes` or `for two, please` asks nothing by itself: it joins two conversations only
    together with all that was said before it. A later turn asks something by itself when it says in words of its own
    what the calls that answer it are given. A first turn does, but for a few words that are answered in words before
    the user goes on: that is an opening, such as `Hi`.

    The examples of a conversation are met one after the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._openings: dict[_Key, tuple[_Key, ...]] = {}

    def add(self, example: Example) -> None:
        conversation = self._placed(example)
        if sum(message.role == "user" for message in example.messages) == 1:
            if example.gold or _word_count(example.question) > _OPENING_WORDS:
                self._join(conversation, _telling_signatures(example))
            else:
                self._openings[conversation] = _telling_signatures(example)
            return
        self._openings.pop(conversation, None)
        if _asks_by_itself(example):
            self._join(conversation, _telling_signatures(example))
        else:
            whole = "\n".join(message.content for message in example.messages)
            self._join(conversation, signatures(example, whole))

    def names(self) -> dict[str, str]:
        for conversation, keys in self._openings.items():
            self._join(conversation, keys)  # it did not go on, so that was the question
        return super().names()


def _telling_signatures(example: Example) -> tuple[_Key, ...]:
    """Its signatures, without the pattern where no word is left of the question: any shouted one has that."""
    question, with_tools = signatures(example)
    return (question, with_tools) if re.search(r"\w", pattern(example.question)) else (question,)


def _asks_by_itself(example: Example) -> bool:
    """Whether the words of a turn hold every value of the calls that answer it, and enough words beside these."""
    asked, own = normalised(example.question), _word_count(example.question)
    values = {normalised(text) for call in example.gold for given in call.arguments.values() for text in _texts(given)}
    held = all(value and value in asked for value in values)
    return bool(values) and held and own - sum(map(_word_count, values)) >= _OWN_WORDS


def _texts(value: Any) -> Iterator[str]:
    """The texts and numbers in a value."""
    match value:
        case list() | tuple():
            for item in value:
                yield from _texts(item)
        case Mapping():
            yield from _texts(list(value.values()))
        case str() | int() | float() if not isinstance(value, bool):
            yield str(value)


def _word_count(text: str) -> int:
    """Words, in scripts that write them without spaces between them characters."""
    return len(_WORD.findall(text))


def _digest(*parts: str) -> _Key:
    text = json.dumps(parts).encode("ascii")
    return hashlib.blake2b(text, digest_size=16).digest()
