"""One conversation in the spellings that people's files have. Each is written by itself and knows no reader.

A spelling is a function from a conversation to the JSON row; None where the spelling cannot express it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from itool_pipeline_tests.data.meaning.conversations import Conversation, Made

Row = dict[str, Any]
Spelling = Callable[[Conversation], Row | None]
Messages = list[dict[str, Any]]

SPELLINGS: dict[str, Spelling] = {}


def spelling(write: Spelling) -> Spelling:
    SPELLINGS[write.__name__] = write
    return write


def text_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def wrapped_tools(conversation: Conversation) -> list[dict[str, Any]]:
    return [{"type": "function", "function": tool.described()} for tool in conversation.tools]


def bare_tools(conversation: Conversation) -> list[dict[str, Any]]:
    return [tool.described() for tool in conversation.tools]


def chat(
    conversation: Conversation,
    made: Callable[[int, tuple[Made, ...]], Messages],
    says: Callable[[str], Messages] = lambda text: [{"role": "assistant", "content": text}],
    *,
    user: str = "user",
    system: bool = True,
) -> Messages:
    """The messages. `made` writes the calls of the round of that number, with their results; `says` an answer."""
    messages: Messages = []
    if conversation.system and system:
        messages.append({"role": "system", "content": conversation.system})
    number = 0
    for exchange in conversation.exchanges:
        messages.append({"role": user, "content": exchange.question})
        for together in exchange.rounds:
            messages += made(number, together)
            number += 1
        messages += says(exchange.answer)
    return messages


def entry(call: Made, identity: Any = None, arguments: Callable[[Any], Any] = text_of) -> dict[str, Any]:
    named = {} if identity is None else {"id": identity}
    return {**named, "type": "function", "function": {"name": call.name, "arguments": arguments(dict(call.arguments))}}


def with_ids(number: int, together: Sequence[Made], arguments: Callable[[Any], Any] = text_of) -> Messages:
    ids = [f"call_{number}_{i}" for i in range(len(together))]
    calls = [entry(call, identity, arguments) for call, identity in zip(together, ids, strict=True)]
    results = [
        {"role": "tool", "tool_call_id": identity, "content": call.result}
        for call, identity in zip(together, ids, strict=True)
    ]
    return [{"role": "assistant", "content": None, "tool_calls": calls}, *results]


def calls_json(together: Sequence[Made]) -> list[dict[str, Any]]:
    return [{"name": call.name, "arguments": dict(call.arguments)} for call in together]


def named_results(together: Sequence[Made], role: str = "tool") -> Messages:
    return [{"role": role, "name": call.name, "content": call.result} for call in together]


def results_in_order(together: Sequence[Made], role: str = "tool") -> Messages:
    return [{"role": role, "content": call.result} for call in together]


@spelling
def openai(conversation: Conversation) -> Row:
    return {"messages": chat(conversation, with_ids), "tools": wrapped_tools(conversation)}


@spelling
def objects_and_bare_tools(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        return with_ids(number, together, arguments=dict)

    return {"messages": chat(conversation, made), "tools": bare_tools(conversation), "id": 7, "source": "somewhere"}


@spelling
def results_in_another_order(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        calls, *results = with_ids(number, together)
        return [calls, *reversed(results)]

    return {"messages": chat(conversation, made), "tools": wrapped_tools(conversation)}


@spelling
def ids_that_begin_again(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        return with_ids(0, together)

    return {"messages": chat(conversation, made), "tools": wrapped_tools(conversation)}


@spelling
def no_ids_but_names(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        return [{"role": "assistant", "tool_calls": [entry(call) for call in together]}, *named_results(together)]

    return {"messages": chat(conversation, made), "tools": wrapped_tools(conversation)}


@spelling
def neither_ids_nor_names(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        return [{"role": "assistant", "tool_calls": [entry(call) for call in together]}, *results_in_order(together)]

    return {"messages": chat(conversation, made), "tools": wrapped_tools(conversation)}


@spelling
def words_beside_calls(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        calls, *results = with_ids(number, together)
        return [{**calls, "content": "Let me look that up."}, *results]

    return {"messages": chat(conversation, made), "tools": wrapped_tools(conversation)}


@spelling
def words_in_a_message_before(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        return [{"role": "assistant", "content": "Let me look that up."}, *with_ids(number, together)]

    return {"messages": chat(conversation, made), "tools": wrapped_tools(conversation)}


@spelling
def a_message_for_each_call(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        calls, *results = with_ids(number, together)
        return [*({**calls, "tool_calls": [one]} for one in calls["tool_calls"]), *results]

    return {"messages": chat(conversation, made), "tools": wrapped_tools(conversation)}


@spelling
def flat_calls(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        return [{"role": "assistant", "content": "", "tool_calls": calls_json(together)}, *results_in_order(together)]

    return {"messages": chat(conversation, made), "tools": bare_tools(conversation)}


@spelling
def langchain(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        ids = [f"c{number}{i}" for i in range(len(together))]
        calls = [
            {"name": call.name, "args": dict(call.arguments), "id": identity, "type": "tool_call"}
            for call, identity in zip(together, ids, strict=True)
        ]
        results = [
            {"role": "tool", "tool_call_id": identity, "name": call.name, "content": call.result}
            for call, identity in zip(together, ids, strict=True)
        ]
        return [{"role": "assistant", "content": "", "tool_calls": calls}, *results]

    return {"messages": chat(conversation, made), "tools": bare_tools(conversation)}


@spelling
def everything_as_text(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        calls, *results = with_ids(number, together, lambda arguments: text_of(text_of(arguments)))
        return [{**calls, "tool_calls": text_of(calls["tool_calls"])}, *results]

    return {"messages": chat(conversation, made), "tools": text_of(wrapped_tools(conversation))}


@spelling
def a_text_for_each_tool(conversation: Conversation) -> Row:
    return {"messages": chat(conversation, with_ids), "tools": [text_of(tool) for tool in wrapped_tools(conversation)]}


@spelling
def schemas_as_text(conversation: Conversation) -> Row:
    tools = [{**tool.described(), "parameters": text_of(tool.schema())} for tool in conversation.tools]
    return {"messages": chat(conversation, with_ids), "tools": tools}


@spelling
def anthropic_tools(conversation: Conversation) -> Row:
    tools = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.schema()}
        for tool in conversation.tools
    ]
    return {"messages": chat(conversation, with_ids), "tools": tools}


@spelling
def anthropic_blocks(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        ids = [f"toolu_{number}{i}" for i in range(len(together))]
        uses = [
            {"type": "tool_use", "id": identity, "name": call.name, "input": dict(call.arguments)}
            for call, identity in zip(together, ids, strict=True)
        ]
        results = [
            {"type": "tool_result", "tool_use_id": identity, "content": call.result}
            for call, identity in zip(together, ids, strict=True)
        ]
        say = {"type": "text", "text": "Let me look that up."}
        return [{"role": "assistant", "content": [say, *uses]}, {"role": "user", "content": results}]

    row = anthropic_tools(conversation)
    assert row is not None
    row["messages"] = chat(conversation, made, system=False)
    return {**row, "system": conversation.system} if conversation.system else row


@spelling
def a_system_text_of_its_own(conversation: Conversation) -> Row | None:
    if not conversation.system:
        return None
    messages = chat(conversation, with_ids, system=False)
    return {"system": conversation.system, "messages": messages, "tools": wrapped_tools(conversation)}


@spelling
def developer_and_parts(conversation: Conversation) -> Row:
    messages = chat(
        conversation, with_ids, lambda text: [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
    )
    messages = [{**m, "role": "developer"} if m["role"] == "system" else m for m in messages]
    messages = [
        {**m, "content": [{"type": "text", "text": m["content"]}]} if m["role"] == "user" else m for m in messages
    ]
    return {"messages": messages, "tools": wrapped_tools(conversation)}


@spelling
def legacy_functions(conversation: Conversation) -> Row | None:
    if any(len(together) > 1 for together in conversation.rounds):
        return None

    def made(number: int, together: tuple[Made, ...]) -> Messages:
        (call,) = together
        asked = {"name": call.name, "arguments": text_of(dict(call.arguments))}
        return [{"role": "assistant", "content": None, "function_call": asked}, *named_results(together, "function")]

    return {"messages": chat(conversation, made), "functions": bare_tools(conversation)}


@spelling
def sharegpt(conversation: Conversation) -> Row | None:
    if any(len(together) > 1 for together in conversation.rounds):
        return None

    def made(number: int, together: tuple[Made, ...]) -> Messages:
        (call,) = together
        return [
            {"role": "function_call", "content": text_of(calls_json(together)[0])},
            {"role": "observation", "content": call.result},
        ]

    turns = chat(conversation, made, lambda text: [{"role": "gpt", "content": text}], user="human", system=False)
    row = {
        "conversations": [{"from": turn["role"], "value": turn["content"]} for turn in turns],
        "tools": text_of(bare_tools(conversation)),
    }
    return {**row, "system": conversation.system} if conversation.system else row


@spelling
def sharegpt_with_a_list_of_calls(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        return [
            {"role": "function_call", "content": text_of(calls_json(together))},
            *results_in_order(together, "observation"),
        ]

    turns = chat(conversation, made, lambda text: [{"role": "gpt", "content": text}], user="human")
    turns = [{"from": turn["role"], "value": turn["content"]} for turn in turns]
    return {"conversations": turns, "tools": text_of(bare_tools(conversation))}


@spelling
def roles_of_their_own_for_calls(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        calls = [{"role": "tool_call", "content": text_of(call)} for call in calls_json(together)]
        return [*calls, *results_in_order(together, "tool_response")]

    return {"messages": chat(conversation, made), "tools": text_of(wrapped_tools(conversation))}


@spelling
def prompt_and_completion(conversation: Conversation) -> Row | None:
    messages = chat(conversation, with_ids)
    if len(conversation.exchanges) > 1 or conversation.rounds:
        return None
    return {"prompt": messages[:-1], "completion": messages[-1:], "tools": wrapped_tools(conversation)}


@spelling
def padded_by_arrow(conversation: Conversation) -> Row:
    """What `datasets` makes of rows: every record has the keys of all, those that it did not have are null.

    Arrow also loses the order of keys, and whether a null that a schema allows was there: these two are left as given.
    """
    nullable = {
        name for tool in conversation.tools for name, schema in tool.properties.items() if "null" in schema["type"]
    }
    names = {name for call in conversation.made for name in call.arguments} | {"of_another_row"}

    def arguments(given: dict[str, Any]) -> dict[str, Any]:
        return {**given, **dict.fromkeys(sorted(names - nullable - given.keys()))}

    def made(number: int, together: tuple[Made, ...]) -> Messages:
        return with_ids(number, together, arguments)

    properties = {name for tool in conversation.tools for name in tool.properties} | {"of_another_row"}
    keys = {"type", "description", "enum", "items", "properties", "required"}

    tools = []
    for tool in conversation.tools:
        padded = {name: {**dict.fromkeys(sorted(keys)), **schema} for name, schema in tool.properties.items()}
        schema = {**tool.schema(), "properties": {**dict.fromkeys(sorted(properties)), **padded}}
        tools.append({"type": "function", "function": {**tool.described(), "parameters": schema, "strict": None}})
    everywhere = dict.fromkeys(["content", "tool_calls", "tool_call_id", "name", "function_call"])
    return {"messages": [{**everywhere, **m} for m in chat(conversation, made)], "tools": tools, "functions": None}


def tagged(
    conversation: Conversation, write: Callable[[Sequence[Made]], str], results: Callable[[Sequence[Made]], Messages]
) -> Messages:
    return chat(conversation, lambda _, made: [{"role": "assistant", "content": write(made)}, *results(made)])


@spelling
def hermes(conversation: Conversation) -> Row:
    def write(together: Sequence[Made]) -> str:
        return "\n".join(f"<tool_call>\n{text_of(call)}\n</tool_call>" for call in calls_json(together))

    return {"messages": tagged(conversation, write, results_in_order), "tools": wrapped_tools(conversation)}


@spelling
def hermes_after_words(conversation: Conversation) -> Row:
    def write(together: Sequence[Made]) -> str:
        calls = "\n".join(f"<tool_call>\n{text_of(call)}\n</tool_call>" for call in calls_json(together))
        return f"Let me look that up.\n{calls}"

    return {"messages": tagged(conversation, write, named_results), "tools": wrapped_tools(conversation)}


@spelling
def calls_after_mistrals_token(conversation: Conversation) -> Row:
    def write(together: Sequence[Made]) -> str:
        return f"[TOOL_CALLS] {text_of(calls_json(together))}"

    return {"messages": tagged(conversation, write, results_in_order), "tools": wrapped_tools(conversation)}


@spelling
def a_bare_list_of_calls(conversation: Conversation) -> Row:
    def write(together: Sequence[Made]) -> str:
        return text_of(calls_json(together))

    return {"messages": tagged(conversation, write, results_in_order), "tools": wrapped_tools(conversation)}


@spelling
def a_bare_call_in_a_fence(conversation: Conversation) -> Row | None:
    if any(len(together) > 1 for together in conversation.rounds):
        return None

    def write(together: Sequence[Made]) -> str:
        return f"```json\n{json.dumps(calls_json(together)[0], indent=2)}\n```"

    return {"messages": tagged(conversation, write, results_in_order), "tools": wrapped_tools(conversation)}


def _glaive_can_say(conversation: Conversation) -> bool:
    """One call at a time, and no single quote in the arguments, which stand between such and were never escaped."""
    quoted = any("'" in text_of(dict(call.arguments)) for call in conversation.made)
    return not quoted and all(len(together) <= 1 for together in conversation.rounds)


@spelling
def glaive_calls(conversation: Conversation) -> Row | None:
    """The arguments stand between single quotes."""
    if not _glaive_can_say(conversation):
        return None

    def write(together: Sequence[Made]) -> str:
        (call,) = together
        return f'<functioncall> {{"name": "{call.name}", "arguments": \'{text_of(dict(call.arguments))}\'}}'

    return {"messages": tagged(conversation, write, results_in_order), "tools": bare_tools(conversation)}


@spelling
def llama_parameters(conversation: Conversation) -> Row | None:
    if any(len(together) > 1 for together in conversation.rounds):
        return None

    def write(together: Sequence[Made]) -> str:
        (call,) = together
        return f"<|python_tag|>{text_of({'name': call.name, 'parameters': dict(call.arguments)})}"

    return {"messages": tagged(conversation, write, results_in_order), "tools": wrapped_tools(conversation)}


def _thinking(text: str) -> Messages:
    return [{"role": "assistant", "content": f"<think>\nThat is {{easy}}.\n</think>\n\n{text}"}]


@spelling
def thoughts_in_the_words(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        calls, *results = with_ids(number, together)
        return [{**calls, "content": "<think>I could call f.</think>"}, *results]

    return {"messages": chat(conversation, made, _thinking), "tools": wrapped_tools(conversation)}


@spelling
def thoughts_beside_the_words(conversation: Conversation) -> Row:
    def says(text: str) -> Messages:
        return [{"role": "assistant", "content": text, "reasoning_content": "Easy."}]

    def made(number: int, together: tuple[Made, ...]) -> Messages:
        calls, *results = with_ids(number, together)
        return [{**calls, "reasoning_content": "I could call f."}, *results]

    return {"messages": chat(conversation, made, says), "tools": wrapped_tools(conversation)}


@spelling
def hermes_with_thoughts_and_tools_in_the_system_text(conversation: Conversation) -> Row | None:
    """The system text is the tools and nothing else, so that what is left of it is nothing."""
    if conversation.system:
        return None
    tools = "\n".join(text_of(tool) for tool in wrapped_tools(conversation))

    def write(together: Sequence[Made]) -> str:
        calls = "\n".join(f"<tool_call>\n{text_of(call)}\n</tool_call>" for call in calls_json(together))
        return f"<think>\nI could call f.\n</think>\n{calls}"

    def answered(together: Sequence[Made]) -> Messages:
        text = "\n".join(f"<tool_response>\n{call.result}\n</tool_response>" for call in together)
        return [{"role": "tool", "content": text}]

    return {
        "messages": [
            {"role": "system", "content": f"<tools>\n{tools}\n</tools>"},
            *tagged(conversation, write, answered),
        ]
    }


@spelling
def prompt_and_completion_with_calls(conversation: Conversation) -> Row | None:
    """TRL's: the completion is all that follows the first question, calls and results included."""
    if len(conversation.exchanges) > 1:
        return None
    messages = chat(conversation, lambda number, together: with_ids(number, together, dict))
    first = 2 if conversation.system else 1
    return {"prompt": messages[:first], "completion": messages[first:], "tools": text_of(wrapped_tools(conversation))}


@spelling
def parts_with_values(conversation: Conversation) -> Row:
    """LLaMA-Factory's later layout: every content is a list of parts, and each message has a weight."""

    def message(role: str, kind: str, *values: str) -> dict[str, Any]:
        parts = [{"type": kind, "value": value} for value in values]
        return {"role": role, "content": parts, "loss_weight": float(role == "assistant")}

    def made(number: int, together: tuple[Made, ...]) -> Messages:
        calls = message("assistant", "tool_call", *map(text_of, calls_json(together)))
        return [calls, *(message("tool", "text", call.result) for call in together)]

    messages = chat(conversation, made, lambda text: [message("assistant", "text", text)])
    messages = [m if isinstance(m["content"], list) else message(m["role"], "text", m["content"]) for m in messages]
    return {"messages": messages, "tools": text_of(bare_tools(conversation))}


@spelling
def glaive(conversation: Conversation) -> Row | None:
    """Version 2: tools in `system`, all that is said in one text."""
    if not _glaive_can_say(conversation):
        return None
    tools = "\n\n".join(json.dumps(tool, indent=4, ensure_ascii=False) for tool in bare_tools(conversation))
    intro = "You are a helpful assistant with access to the following functions. Use them if required -"
    said = ""
    for exchange in conversation.exchanges:
        said += f"USER: {exchange.question}\n\n\n"
        for (call,) in exchange.rounds:
            arguments = text_of(dict(call.arguments))
            said += f'ASSISTANT: <functioncall> {{"name": "{call.name}", "arguments": \'{arguments}\'}} <|endoftext|>'
            said += f"\n\n\nFUNCTION RESPONSE: {call.result}\n\n\n"
        said += f"ASSISTANT: {exchange.answer} <|endoftext|>\n\n\n"
    return {"system": f"SYSTEM: {intro}\n{tools}\n\n{conversation.system}", "chat": said}


@spelling
def gemini(conversation: Conversation) -> Row:
    def made(number: int, together: tuple[Made, ...]) -> Messages:
        calls = [{"functionCall": {"name": call.name, "args": dict(call.arguments)}} for call in together]
        results = [{"functionResponse": {"name": call.name, "response": {"output": call.result}}} for call in together]
        return [{"role": "model", "parts": calls}, {"role": "user", "parts": results}]

    turns = chat(conversation, made, lambda text: [{"role": "model", "parts": [{"text": text}]}], system=False)
    contents = [{"role": t["role"], "parts": t.get("parts", [{"text": t.get("content")}])} for t in turns]
    row = {"contents": contents, "tools": [{"functionDeclarations": _in_capitals(bare_tools(conversation))}]}
    system = {"systemInstruction": {"parts": [{"text": conversation.system}]}} if conversation.system else {}
    return {**row, **system}


def _in_capitals(value: Any) -> Any:
    """The types of a schema as Gemini writes them."""
    if isinstance(value, list):
        return [_in_capitals(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {k: v.upper() if k == "type" and isinstance(v, str) else _in_capitals(v) for k, v in value.items()}
