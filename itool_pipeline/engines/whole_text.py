"""Whether a prompt holds every text of its conversation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from markupsafe import escape

from itool_pipeline.core.types import Message

_THOUGHT, _THOUGHT_ENDS = "<think>", "</think>"


def lost_text(prompt: str, messages: Sequence[Message], names: Iterable[str] = ()) -> str | None:
    """The first text that the prompt does not hold; None when it holds them all.

    White space may differ, and a text may be escaped. Turns come in their order; system texts and the `names` of
    tools may stand anywhere. Of an assistant's turn the thought before its words may be left out.
    """
    turns = [_after_thought(message) for message in messages if message.role != "system"]
    anywhere = [*(message.content for message in messages if message.role == "system"), *names]
    if _lost_in(prompt, turns, anywhere, lambda text: [text.strip()]) is None:
        return None
    return _lost_in(_squeezed(prompt), turns, anywhere, _escaped_forms)


def spoken_text(message: Message) -> str:
    """What the message says: of an assistant's, what follows its thought."""
    thought = message.content.lstrip().startswith(_THOUGHT)
    return _after_thought(message).lstrip() if thought else message.content


def _after_thought(message: Message) -> str:
    return message.content.rpartition(_THOUGHT_ENDS)[2] if message.role == "assistant" else message.content


def _lost_in(
    prompt: str, turns: Sequence[str], anywhere: Sequence[str], forms: Callable[[str], Sequence[str]]
) -> str | None:
    for text in anywhere:
        if not any(form in prompt for form in forms(text)):
            return text
    place = 0
    for text in turns:
        found = [(at, len(form)) for form in forms(text) if (at := prompt.find(form, place)) >= 0]
        if not found:
            return text
        place = sum(min(found))
    return None


def _escaped_forms(text: str) -> list[str]:
    """The text as it is and as templates escape it, each without white space."""
    as_json = (json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
    return [_squeezed(form) for form in (text, *as_json, str(escape(text)))]


def _squeezed(text: str) -> str:
    return "".join(text.split())
