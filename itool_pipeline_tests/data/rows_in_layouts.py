"""One conversation in every layout that people have, as a row that knows no reader."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA}
WRAPPED = {"type": "function", "function": WEATHER}
ARGUMENTS = {"city": "Oslo"}
CALL = {"name": "get_weather", "arguments": ARGUMENTS}
CALL_TEXT = json.dumps(CALL)
QUESTION, RESULT, ANSWER = "How warm is it in Oslo?", '{"degrees": 3}', "It is 3 degrees."

USER, SAYS = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}
HUMAN, GPT = {"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}
CALLS = {"role": "assistant", "tool_calls": [{"type": "function", "function": CALL}]}
NAMED_RESULT = {"role": "tool", "name": "get_weather", "content": RESULT}
HERMES_SYSTEM = (
    "You are a function calling AI model. You are provided with function signatures within <tools> </tools> XML tags. "
    "You may call one or more functions to assist with the user query. Don't make assumptions about what values to "
    f"plug into functions.\n<tools>\n{json.dumps([WRAPPED])}\n</tools>\nFor each function call return a JSON object, "
    "with the following pydantic model json schema:\n{'title': 'FunctionCall', 'type': 'object', 'properties': "
    "{'name': {'title': 'Name', 'type': 'string'}, 'arguments': {'title': 'Arguments', 'type': 'object'}}, "
    "'required': ['arguments', 'name']}\nEach function call should be enclosed within <tool_call> </tool_call> XML "
    "tags.\n<tool_call>\n{'arguments': <args-dict>, 'name': <function-name>}\n</tool_call>"
)
HERMES_KEPT = (
    "You are a function calling AI model. You may call one or more functions to assist with the user query. Don't make "
    "assumptions about what values to plug into functions."
)
GLAIVE_SYSTEM = "You are a helpful assistant with access to the following functions. Use them if required -"
GLAIVE_CHAT = (
    f"USER: {QUESTION}\n\n\nASSISTANT: <functioncall> "
    f'{{"name": "get_weather", "arguments": \'{json.dumps(ARGUMENTS)}\'}} <|endoftext|>'
    f"\n\n\nFUNCTION RESPONSE: {RESULT}\n\n\nASSISTANT: {ANSWER} <|endoftext|>\n\n\n"
)

ROWS: Mapping[str, dict[str, Any]] = {
    "openai": {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "type": "function", "function": {**CALL, "arguments": json.dumps(ARGUMENTS)}}
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": RESULT},
            SAYS,
        ],
        "tools": [WRAPPED],
        "parallel_tool_calls": False,
    },
    "openai_functions": {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "function_call": {**CALL, "arguments": json.dumps(ARGUMENTS)}},
            {"role": "function", "name": "get_weather", "content": RESULT},
            SAYS,
        ],
        "functions": [WEATHER],
    },
    "sharegpt": {
        "conversations": [
            HUMAN, {"from": "function_call", "value": CALL_TEXT}, {"from": "observation", "value": RESULT}, GPT,
        ],
        "tools": json.dumps([WEATHER]),
        "system": "",
    },
    "hermes": {
        "id": "a1",
        "conversations": [
            {"from": "system", "value": HERMES_SYSTEM},
            HUMAN,
            {"from": "gpt", "value": f"<tool_call>\n{CALL!r}\n</tool_call>"},
            {"from": "tool", "value": f"<tool_response>\n{RESULT}\n</tool_response>"},
            GPT,
        ],
        "tools": json.dumps([WRAPPED]),
        "category": "Weather",
    },
    "hermes_messages": {
        "messages": [
            {"role": "system", "content": f"<tools>\n{json.dumps(WRAPPED)}\n</tools>"},
            USER,
            {"role": "assistant", "content": f"<tool_call>\n{CALL_TEXT}\n</tool_call>"},
            {"role": "user", "content": f"<tool_response>\n{RESULT}\n</tool_response>"},
            SAYS,
        ],
    },
    "glaive": {"system": f"SYSTEM: {GLAIVE_SYSTEM}\n{json.dumps(WEATHER, indent=4)}\n", "chat": GLAIVE_CHAT},
    "glaive_1": {
        "sample": f"SYSTEM: {GLAIVE_SYSTEM}\n{json.dumps(WEATHER, indent=4)}\n{GLAIVE_CHAT}".replace("\n\n\n", "\n")
    },
    "trl": {"messages": [USER, CALLS, NAMED_RESULT, SAYS], "tools": [WRAPPED]},
    "trl_prompt": {"prompt": [USER], "completion": [CALLS, NAMED_RESULT, SAYS], "tools": json.dumps([WRAPPED])},
    "swift": {
        "tools": json.dumps([WRAPPED]),
        "messages": [
            USER, {"role": "tool_call", "content": CALL_TEXT}, {"role": "tool_response", "content": RESULT}, SAYS,
        ],
    },
    "anthropic": {
        "messages": [
            USER,
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "t1", "name": "get_weather", "input": ARGUMENTS}
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": RESULT}]}
            ]},
            {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
        ],
        "tools": [{"name": "get_weather", "description": "The weather.", "input_schema": SCHEMA}],
    },
    "llamafactory_parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "value": QUESTION}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "tool_call", "value": CALL_TEXT}], "loss_weight": 1.0},
            {"role": "tool", "content": [{"type": "text", "value": RESULT}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "text", "value": ANSWER}], "loss_weight": 1.0},
        ],
        "tools": json.dumps([WEATHER]),
    },
    "gemini": {
        "contents": [
            {"role": "user", "parts": [{"text": QUESTION}]},
            {"role": "model", "parts": [{"functionCall": {"name": "get_weather", "args": ARGUMENTS}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "get_weather", "response": json.loads(RESULT)}}
            ]},
            {"role": "model", "parts": [{"text": ANSWER}]},
        ],
        "tools": [{"functionDeclarations": [{**WEATHER, "parameters": {
            "type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"],
        }}]}],
    },
    "toolace": {
        "system": f"Here is a list of functions in JSON format that you can invoke:\n{json.dumps([WEATHER])}.",
        "conversations": [
            {"from": "user", "value": QUESTION},
            {"from": "assistant", "value": '[get_weather(city="Oslo")]'},
            {"from": "tool", "value": RESULT},
            {"from": "assistant", "value": ANSWER},
        ],
    },
    "xlam": {"query": QUESTION, "tools": json.dumps([WEATHER]), "answers": json.dumps([CALL])},
}  # fmt: skip

LAYOUT = {"glaive": "glaive", "glaive_1": "glaive", "gemini": "gemini", "xlam": "xlam", "toolace": "toolace"}
"""Name of a row → its layout where that is not `chat`."""

FIRST = [("user", QUESTION)]
WHOLE = [*FIRST, ("assistant", '[get_weather(city="Oslo")]'), ("tool", RESULT)]
