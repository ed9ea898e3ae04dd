"""One message, however it is spelled, as OpenAI's API has it: {"role", "content", "tool_calls", …}."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from itool_pipeline.data.conversations.call_spellings import level_call, level_calls
from itool_pipeline.data.conversations.known_keys import (
    THOUGHTS_LEFT_OUT,
    Keys,
    agreed_value,
    count_thoughts,
    is_absent,
    is_learnt,
    is_right,
    refuse_unread_message_keys,
    require_agreement,
)
from itool_pipeline.data.conversations.thoughts import split_thoughts
from itool_pipeline.data.conversations.written_calls import read_written_calls
from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import RowError, expect_that

CALL = "calls"
"""The role of a turn whose content is calls. An assistant makes them."""
THOUGHT = "thoughts"
"""The role of a turn that only thinks."""
_ROLES = {
    **dict.fromkeys(("system", "system_prompt"), "system"),
    "developer": "developer",
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "ai", "chatbot", "chatgpt"), "assistant"),
    **dict.fromkeys(("tool", "function", "ipython", "observation", "environment"), "tool"),
    **dict.fromkeys(("tool_response", "tool_responses", "tool_result", "tool_results", "tool_output"), "tool"),
    **dict.fromkeys(("function_response", "function_result", "function_output", "function_call_output"), "tool"),
    **dict.fromkeys(("reasoning", "thought", "thoughts", "thinking", "think"), THOUGHT),
    **dict.fromkeys(("tool_call", "tool_calls", "function_call", "function_calls"), CALL),
}
_ROLE_KEYS, _CONTENT_KEYS = ("role", "from"), ("content", "value", "text")
_RESULT_IDS = ("tool_call_id", "tool_use_id", "call_id", "toolCallId")
_READ = (
    *(*_ROLE_KEYS, *_CONTENT_KEYS, *_RESULT_IDS, "tool_calls", "function_call", "tools", "functions"),
    *("name", "tool_name", "id", "type", "refusal", "parts"),
)
_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
_CALL_PARTS = ("tool_call", "tool-call", "tool_use", "function_call")
_RESULT_PARTS = ("tool_result", "tool-result")
_EMPTY_PARTS = ("step-start",)
_THOUGHT_PARTS = ("reasoning", "thinking", "redacted_thinking")
_TOOL_PARTS = ("tools",)
_BESIDE_TEXT = (
    *("type", "text", "value", "refusal", "annotations"),
    *("citations", "cache_control", "index", "id", "logprobs"),
)
_MORE_THAN_TEXT = "a message holds something else than text"


def role_of(message: Any) -> str:
    """The role as OpenAI's API names it, CALL for a turn of calls; '' for none or an unknown one."""
    if not isinstance(message, dict):
        return ""
    keys = _ROLE_KEYS if _has_role(message) else ("type",)
    roles = {key: _known_role(message[key]) for key in keys if not is_absent(message.get(key))}
    return agreed_value(roles, keys, "a message") or ""


def _known_role(given: Any) -> str:
    return _ROLES.get(re.sub(r"[\s-]+", "_", given.strip().lower()), "") if isinstance(given, str) else ""


def level_message(given: Any, changes: Counter[str]) -> list[dict[str, Any]]:
    """The message as one or more: where results stand among a user's words, each result is a message of its own.

    `content` is text, and `tool_calls` a list; `learnt` says whether the answer is to be learnt from. Tools that stand
    in the message are under `tools`. What is no message, or of no known role, is left to be refused as it is.
    Raises RowError for what is not read.
    """
    message = _flat(given)
    role = role_of(message)
    if not role:
        return [_unknown(message)]
    if role == THOUGHT:
        changes[THOUGHTS_LEFT_OUT] += 1
        return []
    refuse_unread_message_keys(message, _READ)
    content = _content(message, role)
    kept = {"learnt": is_learnt(message) and is_right(message), **_tools_beside(message, role)}
    if role == CALL:
        calls = _calls_beside(message, _calls_in_words(content, changes))
        return [{"role": "assistant", "content": "", "tool_calls": calls, **kept}]
    if role == "tool":
        return _results(message, content)
    changes[THOUGHTS_LEFT_OUT] += count_thoughts(message)
    if isinstance(content, list):
        levelled = _from_parts(role, content, changes)
    else:
        levelled = [{"role": role, "content": _refusal_or(message, content), "tool_calls": []}]
    levelled[-1]["tool_calls"] = _calls_beside(message, levelled[-1].get("tool_calls", []))
    return [{**one, **(kept if one["role"] == role else {})} for one in levelled]


def _flat(given: Any) -> Any:
    """The message with what LangChain puts into objects of their own: {"type": "ai", "data": {…}}."""
    wrapped = isinstance(given, dict) and isinstance(given.get("data"), dict) and "type" in given
    message = {"type": given["type"], **given["data"]} if wrapped and not _has_role(given) else given
    if not isinstance(message, dict) or not isinstance(message.get("additional_kwargs"), dict):
        return message
    calls = {key: message["additional_kwargs"].get(key) for key in ("tool_calls", "function_call")}
    return {**calls, **{key: value for key, value in message.items() if not (key in calls and is_absent(value))}}


def _has_role(message: Keys) -> bool:
    return any(not is_absent(message.get(key)) for key in _ROLE_KEYS)


def _content(message: Keys, role: str) -> Any:
    """What a message says; None where it says that it is nothing."""
    keys = (*_CONTENT_KEYS, "output") if role == "tool" else _CONTENT_KEYS
    there = [key for key in keys if message.get(key) not in (None, "")]
    if role == CALL and not there:
        return {key: value for key, value in message.items() if key not in _ROLE_KEYS}
    found = agreed_value({key: [message[key]] for key in there}, there, "a message")
    parts = message.get("parts")
    if isinstance(parts, list) and parts:
        texts = "".join(str(part["text"]) for part in parts if _kind(part) == "text")
        require_agreement("content", found[0] if found else texts, "parts", texts, "a message")
        return parts
    named = any(key in message for key in (*keys, "refusal", "tool_calls", "function_call"))
    expect_that(named or role == "assistant", "a message has no content")
    return None if found is None else found[0]


def _unknown(message: Any) -> Any:
    """The message with the role that it claims, for the words in which it is refused."""
    if not isinstance(message, dict):
        return message
    claimed = next((message[key] for key in (*_ROLE_KEYS, "type") if not is_absent(message.get(key))), None)
    return {} if claimed is None else {"role": claimed}


def _tools_beside(message: Keys, role: str) -> dict[str, Any]:
    tools = agreed_value(message, ("tools", "functions"), "a message")
    offered = tools is None or role in ("system", "developer")
    expect_that(offered, f"tools are offered by another than the system: {role}")
    return {} if tools is None else {"tools": tools}


def _refusal_or(message: Keys, content: Any) -> Any:
    """The words of a message; those in which an answer is refused are its words too."""
    refusal = message.get("refusal")
    if is_absent(refusal):
        return "" if content is None else content
    if content is not None:
        require_agreement("content", content, "refusal", refusal, "a message")
    return refusal


def _calls_beside(message: Keys, in_parts: list[Any]) -> Any:
    """The calls of a message, under whichever key, or in parts of its content."""
    listed, old = level_calls(message.get("tool_calls")), level_calls(message.get("function_call"), "function_call")
    spelled = {"tool_calls": listed, "function_call": old, "content": in_parts}
    spelled = {key: calls for key, calls in spelled.items() if calls}
    if not spelled:
        return []
    (first, calls), *others = spelled.items()
    for key, other in others:
        require_agreement(first, _without_ids(calls), key, _without_ids(other), "a message")
    return calls


def _without_ids(calls: Any) -> Any:
    if not isinstance(calls, list):
        return calls
    return [call.get("function") if isinstance(call, dict) else call for call in calls]


def _calls_in_words(content: Any, changes: Counter[str]) -> Any:
    """The calls that a turn of calls consists of."""
    if isinstance(content, str):
        spoken = split_thoughts(content)
        changes[THOUGHTS_LEFT_OUT] += len(spoken.thoughts)
        content = spoken.words
    try:
        calls = level_calls(content, "content")
    except RowError:
        if not isinstance(content, str):
            raise
        # Not one JSON document: several, or calls between tags as in an assistant's words.
        written = read_written_calls(content, ())
        calls = [level_call({"name": call.name, "arguments": dict(call.arguments)}) for call in written]
        if not calls:
            raise
    expect_that(isinstance(calls, list) and bool(calls), "a turn of calls holds none")
    return calls


def _results(message: Keys, content: Any) -> list[dict[str, Any]]:
    """What a tool said: text as it is, text parts as their text, and any other value as its JSON."""
    if isinstance(content, list) and any(_kind(part) in _RESULT_PARTS for part in content):
        return _from_parts("tool", content, Counter())
    identity = next((message[key] for key in _RESULT_IDS if not is_absent(message.get(key))), None)
    name = agreed_value(message, ("name", "tool_name"), "a message")
    calls = _calls_beside(message, [])
    failed = message.get("status") == "error" or message.get("is_error") is True
    text = _result_text(content, failed)
    return [{"role": "tool", "content": text, "tool_call_id": identity, "name": name, "tool_calls": calls}]


def _result_text(content: Any, failed: bool) -> str:
    if content is None:
        text = ""
    elif isinstance(content, str):
        text = content
    elif isinstance(content, list) and content and all(_kind(part) in _TEXT_PARTS for part in content):
        text = "".join(map(_part_text, content))
    elif isinstance(content, dict) and content.get("type") == "text":
        text = _part_text(content)
    else:
        others = content if isinstance(content, list) else [content]
        media = any(_kind(part).startswith(("image", "audio", "video", "document")) for part in others)
        expect_that(not media, _MORE_THAN_TEXT)
        text = json.dumps(content, ensure_ascii=False)
    return f"Error: {text}" if failed and "error" not in text.lower() else text


def _from_parts(role: str, parts: list[Any], changes: Counter[str]) -> list[dict[str, Any]]:
    """A message, or several where results stand among its parts, in their order."""
    levelled: list[dict[str, Any]] = []
    current: dict[str, Any] = {"role": role, "content": "", "tool_calls": []}
    for part in parts:
        kind = _kind(part)
        if kind in _RESULT_PARTS and role in ("user", "tool"):
            levelled += [current] if current["content"] else []
            current = {"role": role, "content": "", "tool_calls": []}
            levelled.append(_result_of_part(part))
        elif kind in _CALL_PARTS and role == "assistant":
            current["tool_calls"] += _calls_of_part(part)
        elif kind in _THOUGHT_PARTS and role == "assistant":
            changes[THOUGHTS_LEFT_OUT] += 1
        elif kind in _TOOL_PARTS and role == "system":
            current["tools"] = part.get("value")
        elif kind in _EMPTY_PARTS:
            continue
        else:
            current["content"] += _part_text(part)
    alone = not levelled or current["content"] or current["tool_calls"]
    return [*levelled, current] if alone else levelled


def _result_of_part(part: Keys) -> dict[str, Any]:
    """The result that a part is: Anthropic's, or the AI SDK's, which may say in its output what kind that is of."""
    content = next((part[key] for key in ("content", "result", "output") if part.get(key) is not None), None)
    failed = part.get("is_error") is True or part.get("isError") is True
    if part.get("output") is content and isinstance(content, dict) and content.keys() == {"type", "value"}:
        failed, content = failed or str(content["type"]).startswith("error"), content["value"]
    identity = next((part[key] for key in _RESULT_IDS if not is_absent(part.get(key))), None)
    name = agreed_value(part, ("name", "toolName"), "a message")
    return {"role": "tool", "content": _result_text(content, failed), "tool_call_id": identity, "name": name}


def _calls_of_part(part: Keys) -> list[Any]:
    """The calls of a part: Anthropic's part is one itself, LLaMA-Factory's holds it as its value."""
    if not is_absent(part.get("value")):
        calls = level_calls(part["value"], "value")
        expect_that(isinstance(calls, list), _MORE_THAN_TEXT)
        return list(calls)
    inner = next((part[key] for key in _CALL_PARTS if isinstance(part.get(key), dict)), None)
    return [level_call({key: value for key, value in part.items() if key != "type"} if inner is None else inner)]


def _kind(part: Any) -> str:
    """What a part of a content is; '' for what is none."""
    if not isinstance(part, dict):
        return ""
    kind = part.get("type")
    return "text" if kind is None and "text" in part else kind if isinstance(kind, str) else ""


def _part_text(part: Any) -> str:
    """The text of a part. Raises RowError when it is another part, or holds more than text."""
    kind = _kind(part) or (", ".join(map(str, part)) if isinstance(part, dict) else part)
    expect_that(_kind(part) in _TEXT_PARTS, f"{_MORE_THAN_TEXT}: {shown_value(kind)}")
    more = [key for key, value in part.items() if key not in _BESIDE_TEXT and not is_absent(value)]
    text = agreed_value(part, ("text", "value", "refusal"), "a message")
    if more or not isinstance(text, str | None):
        raise RowError(_MORE_THAN_TEXT)
    return text or ""
