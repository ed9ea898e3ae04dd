"""Keys that carry meaning, of rows and of messages: each is honoured, or the row is refused by the key's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import RowError, expect_that

Keys: TypeAlias = Mapping[str, Any]
"""A JSON object as its file has it."""

THOUGHTS_LEFT_OUT = "thoughts before an answer left out"

THOUGHTS = (
    *("reasoning_content", "reasoning", "reasoning_text", "reasoning_details"),
    *("thinking", "thinking_blocks", "thought", "thoughts"),
)
"""Keys of a message for what its speaker thinks beside it."""

_LEARN = (
    *("weight", "loss", "train", "training", "trainable", "loss_weight", "loss_scale", "loss_mask"),
    *("train_on_turn", "learn", "learnable", "is_trainable"),
)
_DO_NOT_LEARN = ("masked", "is_masked", "ignore_loss", "no_loss")
_RIGHT = (
    *("label", "kto_tag", "correct", "success", "is_valid", "passed", "accepted", "approved", "resolved", "ok", "good"),
    *("keep", "chosen", "preferred"),
)
_WRONG = (
    *("incorrect", "wrong", "bad", "error", "failed", "invalid", "rejected", "truncated", "flagged"),
    *("exclude", "excluded", "skip", "skipped", "ignore", "ignored", "discard", "discarded", "deleted"),
)
"""Verdicts on an answer that call it right, and such as call it wrong; also behind `is_`, `has_` and `was_`."""
_ENDS = ("finish_reason", "finishReason", "stop_reason", "stopReason")
_CUT_OFF = ("length", "max_tokens", "content_filter", "max_output_tokens")
"""Ends of an answer that say that it is not whole."""
_FLAGS = {"0": False, "false": False, "1": True, "true": True, "0.0": False, "1.0": True}

_MEDIA = (
    *("image", "images", "image_url", "image_urls", "video", "videos", "audio", "audios", "files", "attachments"),
    *("documents", "experimental_attachments"),
)
_NOT_READ_OF_ROWS = (
    *("chosen", "rejected", "rejected_response", "rejected_messages", "preferred_output", "non_preferred_output"),
    *("mask", "history", "instructions", *_MEDIA),
)
_NOT_READ_OF_MESSAGES = ("mask", "train_detail", "training_detail", "prefix", "prefill", "partial", *_MEDIA)
_SETTINGS = {
    **dict.fromkeys(("tool_choice", "function_call"), ("auto", {"type": "auto"})),
    "response_format": ("text", {"type": "text"}),
}
"""Settings of a request, and the values of them under which an answer means what it says."""
_SYSTEM_TEXTS = ("system", "system_prompt", "system_message", "system_instruction", "developer", "preamble")
SYSTEM_KEYS = (*_SYSTEM_TEXTS, "systemPrompt", "systemMessage", "systemInstruction")
"""Keys of a row for what the system says."""
_OF_THINKING = ("enable_thinking", "thinking")
_ADDRESSES = {"channel": ("final",), "recipient": ("all", "user", "assistant")}
"""Keys of a message that say to whom it speaks, and the values of ordinary answers."""


def is_absent(value: Any) -> bool:
    """Whether a key with the value says as much as no key: null, blank text or an empty list."""
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


@lru_cache(maxsize=1024)
def names_one_of(key: str, stems: tuple[str, ...]) -> bool:
    """Whether a word of the key begins so: in `inputSchema` one begins with `schema`, in `target` none with `arg`."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower())
    return any(word.startswith(stems) for word in words)


def agreed_value(given: Keys, keys: Iterable[str], noun: str = "") -> Any:
    """The value under those of the keys that are there; None when none is.

    Raises RowError when two of them say different things.
    """
    found = [key for key in keys if not is_absent(given.get(key))]
    for other in found[1:]:
        require_agreement(found[0], given[found[0]], other, given[other], noun)
    return given[found[0]] if found else None


def require_agreement(key: str, value: Any, other: str, other_value: Any, noun: str = "") -> None:
    """Raises RowError unless the two are equal."""
    subject = f"{noun} has" if noun else "has"
    expect_that(value == other_value, f"{subject} both `{key}` and `{other}`, which say different things")


def refuse_unread_keys(row: Keys) -> None:
    """Raises RowError for the first key of a row that carries meaning and is not read."""
    _refuse(row, _NOT_READ_OF_ROWS)
    for key, allowed in _SETTINGS.items():
        expect_that(is_absent(row.get(key)) or row[key] in allowed, _not_read(key, row.get(key)))
    settings = row.get("chat_template_kwargs")
    if isinstance(settings, dict):
        settings = {key: value for key, value in settings.items() if value and key not in _OF_THINKING}
    expect_that(not settings, _not_read("chat_template_kwargs", settings))
    for key, value in row.items():
        said = names_one_of(key, ("system", "sys", "developer")) and names_one_of(
            key, ("prompt", "instruct", "message")
        )
        said = said or key.lower() in ("system", "sys", *_SYSTEM_TEXTS)
        expect_that(key in SYSTEM_KEYS or not said or is_absent(value), _not_read(key, value))
        named = names_one_of(key, ("tool", "function", "api")) and _holds_objects(value)
        known = key in ("tools", "functions") or key in _SETTINGS
        expect_that(known or not (named or describes_tools(value)), _not_read(key, value))


def refuse_unread_message_keys(message: Keys, read: Iterable[str]) -> None:
    """Raises RowError for the first key of a message that carries meaning and is not among those that are read."""
    _refuse(message, _NOT_READ_OF_MESSAGES, "a message")
    for key, allowed in _ADDRESSES.items():
        expect_that(
            is_absent(message.get(key)) or message[key] in allowed, _not_read(key, message.get(key), "a message")
        )
    known = {*read, *_LEARN, *_DO_NOT_LEARN, *THOUGHTS}
    for key, value in message.items():
        calls = names_one_of(key, ("tool", "call", "function")) and _holds_objects(value)
        weighs = names_one_of(key, ("loss", "train", "weight")) and not is_absent(value)
        expect_that(key in known or not (calls or weighs), _not_read(key, value, "a message"))


def count_thoughts(message: Keys) -> int:
    """How many keys of the message hold thoughts."""
    return sum(not is_absent(message.get(key)) for key in THOUGHTS)


def is_learnt(given: Keys) -> bool:
    """Whether an answer, or a row's answers, are to be learnt from: unless a key says no.

    Raises RowError for a weight that is neither 0 nor 1, and when two keys say different things.
    """
    marks = {key: _flag(key, given[key]) for key in _LEARN if not is_absent(given.get(key))}
    marks |= {key: not _flag(key, given[key]) for key in _DO_NOT_LEARN if not is_absent(given.get(key))}
    said = list(marks)
    for other in said[1:]:
        require_agreement(said[0], marks[said[0]], other, marks[other])
    return all(marks.values())


def is_marked(given: Keys) -> bool:
    """Whether a key says that an answer is to be learnt from, or that it is not."""
    return any(not is_absent(given.get(key)) for key in (*_LEARN, *_DO_NOT_LEARN))


def is_right(given: Keys) -> bool:
    """Whether an answer, or a row's last one, is right and whole, as far as a verdict beside it says.

    Raises RowError for a verdict as a number, which may be something else.
    """
    for key in ("label", "kto_tag"):
        number = not isinstance(given.get(key), bool) and given.get(key) in (0, 1)
        expect_that(not number, _not_read(key, given.get(key)))
    for key, value in given.items():
        verdict = re.sub(r"^(?:is|has|was)_", "", key)
        if (value is False and (verdict in _RIGHT or key in _RIGHT)) or (value is True and verdict in _WRONG):
            return False
    return not any(str(given.get(key)).lower() in _CUT_OFF for key in _ENDS)


def _flag(key: str, value: Any) -> bool:
    found = _FLAGS.get(str(value).strip().lower()) if isinstance(value, bool | int | float | str) else None
    if found is None:
        raise RowError(f"`{key}` is neither 0 nor 1: {shown_value(value)}")
    return found


def _refuse(given: Keys, keys: Sequence[str], noun: str = "") -> None:
    for key in keys:
        expect_that(not given.get(key), _not_read(key, given.get(key), noun))


def _not_read(key: str, value: Any, noun: str = "") -> str:
    return f"{noun + ' ' if noun else ''}has `{key}`, which is not read: {shown_value(value)}"


def describes_tools(value: Any) -> bool:
    """Whether a value is a list of tools by its looks."""
    described = ("parameters", "input_schema", "inputSchema", "function")
    members = value if isinstance(value, list) else []
    return any(isinstance(tool, dict) and any(isinstance(tool.get(key), dict) for key in described) for tool in members)


def _holds_objects(value: Any) -> bool:
    """Whether a value holds what a tool or a call could be: an object among others, or the text of one."""
    if isinstance(value, str):
        return value.strip()[:1] in ("[", "{", "<")
    members = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return any(isinstance(member, dict | list) or _holds_objects(member) for member in members)
