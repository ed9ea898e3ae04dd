"""Near-duplicates: questions that a model could answer by having seen the other one. They share a group."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from itool_pipeline.core.types import Example

_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)|`[^`]*`|“[^”]*”")
_CAPITALISED = re.compile(r"\b[A-Z][\w'’-]*")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_MASK = "¤"
_MASKS = re.compile(rf"{_MASK}(?:[\s,.]*{_MASK})*")

_Key = tuple[str, ...]


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


def own_id(example: Example) -> str:
    """The default link: every example stands for itself."""
    return example.id


def groups(examples: Sequence[Example], link: Callable[[Example], str] = own_id) -> dict[str, str]:
    """From each example's id to the name of its group: the least id in it.

    Two examples are in one group when they have the same tool names and the same question pattern, or the same
    normalised question whatever the tools, or the same `link` (say, the conversation both come from), or are
    joined by a chain of such pairs.
    """
    parent: dict[_Key, _Key] = {}
    for example in examples:
        for key in (_tools_key(example), ("link", link(example))):
            parent[_root(parent, key)] = _root(parent, _question_key(example))
    least: dict[_Key, str] = {}
    for example in examples:
        root = _root(parent, _question_key(example))
        least[root] = min(example.id, least.get(root, example.id))
    return {example.id: least[_root(parent, _question_key(example))] for example in examples}


def _question_key(example: Example) -> _Key:
    return ("question", normalised(example.question))


def _tools_key(example: Example) -> _Key:
    names = sorted(str(tool["name"]) for tool in example.tools)
    return ("tools", pattern(example.question), *names)


def _root(parent: dict[_Key, _Key], key: _Key) -> _Key:
    """The representative of the key's set in a union-find forest, halving the path on the way."""
    parent.setdefault(key, key)
    while parent[key] != key:
        parent[key] = parent[parent[key]]
        key = parent[key]
    return key
