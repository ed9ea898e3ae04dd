"""Calls that an answer writes in its text: read as what they are, or refused, but never taken for words."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.calls.types import Call
from itool_pipeline.data.conversations.written_calls import read_written_calls
from itool_pipeline.data.rows import RowError

WEATHER = {
    "name": "get_weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
TOOLS = [WEATHER, {"name": "clock", "parameters": {"type": "object", "properties": {}}}]
CALL = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
CLOCK = '{"name": "clock", "arguments": {}}'

ONE = {
    "hermes": f"<tool_call>\n{CALL}\n</tool_call>",
    "hermes, Python's literals": "<tool_call>\n{'arguments': {'city': 'Oslo'}, 'name': 'get_weather'}\n</tool_call>",
    "hermes, not closed": f"<tool_call>{CALL}",
    "hermes, words around": f"Let me look.\n<tool_call>\n{CALL}\n</tool_call>\nOne moment.",
    "hermes, in a fence": f"<tool_call>\n```json\n{CALL}\n```\n</tool_call>",
    "tag with a pipe": f"<|tool_call|>[{CALL}]<|/tool_call|>",
    "tag in capitals": f"<TOOLCALL>[{CALL}]</TOOLCALL>",
    "mistral": f"[TOOL_CALLS] [{CALL}]",
    "mistral, end token": f"[TOOL_CALLS][{CALL}]</s>",
    "mistral, name first": '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}',
    "glaive": """<functioncall> {"name": "get_weather", "arguments": '{"city": "Oslo"}'} <|endoftext|>""",
    "anthropic": '<function_calls>\n<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>\n</invoke>\n'
    "</function_calls>",
    "prefixed invoke": '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>\n'
    "</invoke>\n</minimax:tool_call>",
    "llama": '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Oslo"}}<|eom_id|>',
    "llama, bare": '{"type": "function", "name": "get_weather", "parameters": {"city": "Oslo"}}',
    "llama, function tag": '<function=get_weather>{"city": "Oslo"}</function>',
    "qwen3-coder": "<tool_call>\n<function=get_weather>\n"
    "<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>",
    "glm": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>",
    "deepseek v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
    '{"city": "Oslo"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
    "deepseek v3.1": '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Oslo"}'
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
    '{"city": "Oslo"}<|tool_call_end|><|tool_calls_section_end|>',
    "command-r": '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Oslo"}}]'
    "<|END_ACTION|>",
    "internlm": '<|action_start|><|plugin|>{"name": "get_weather", "parameters": {"city": "Oslo"}}<|action_end|>',
    "lfm2": '<|tool_call_start|>[get_weather(city="Oslo")]<|tool_call_end|>',
    "gemma": '```tool_code\nprint(get_weather(city="Oslo"))\n```',
    "harmony": '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Oslo"}<|call|>',
    "harmony, recipient first": "<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>"
    '{"city": "Oslo"}<|call|>',
    "react": 'Thought: I need it.\nAction: get_weather\nAction Input: {"city": "Oslo"}',
    "children": '<tool_use><name>get_weather</name><arguments>{"city": "Oslo"}</arguments></tool_use>',
    "json": CALL,
    "json, a list": f"[{CALL}]",
    "json, in a fence": f"```json\n{CALL}\n```",
    "json, Python's literals": "{'name': 'get_weather', 'arguments': {'city': 'Oslo'}}",
    "json, arguments as text": '{"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}',
    "json, OpenAI's message": '{"tool_calls": [{"id": "1", "type": "function", "function": {"name": "get_weather", '
    '"arguments": "{\\"city\\": \\"Oslo\\"}"}}]}',
    "json, LangChain's agent": '{"action": "get_weather", "action_input": {"city": "Oslo"}}',
    "json, behind words": f"I will check. {CALL}",
    "json, in a fence behind words": f"I will check:\n```json\n[{CALL}]\n```\n",
    "python": '[get_weather(city="Oslo")]',
    "python, without brackets": 'get_weather(city="Oslo")',
    "python, without a name": "get_weather('Oslo')",
    "python, an object": '[get_weather({"city": "Oslo"})]',
    "python, in a fence": '```python\nget_weather(city="Oslo")\n```',
    "python, behind words": 'Sure.\n[get_weather(city="Oslo")]',
    "json, in a tag of no known family": f"<call>{CALL}</call>",
    "json, before the closing tag alone": f"{CALL}\n</tool_call>",
    "json, in tokens of no known family": f"<|FunctionCallBegin|>[{CALL}]<|FunctionCallEnd|>",
    "python, in a tag of the answer": '<answer>[get_weather(city="Oslo")]</answer>',
}


@pytest.mark.parametrize("text", ONE.values(), ids=ONE.keys())
def test_a_call_is_read_in_every_form(text: str) -> None:
    assert read_written_calls(text, TOOLS) == (Call("get_weather", {"city": "Oslo"}),)


@pytest.mark.parametrize(
    "text",
    [
        f"One:\n<tool_call>{CALL}</tool_call>\nTwo:\n<tool_call>\n{CLOCK}\n</tool_call>",
        f"<tool_call>{CALL}{CLOCK}</tool_call>",
        f"<tool_call>\n{CALL}\n<tool_call>\n{CLOCK}",
        f"[{CALL}, {CLOCK}]",
        f"{CALL}\n{CLOCK}",
        f"{CALL}; {CLOCK}",
        f"First\n{CALL}\nthen\n{CLOCK}\n",
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}[TOOL_CALLS]clock[ARGS]{}',
        '<function=get_weather>{"city": "Oslo"}</function><function=clock></function>',
        'get_weather(city="Oslo")\nclock()',
        '[get_weather(city="Oslo"), clock()]',
        '[get_weather(city="Oslo")]\n[clock()]',
    ],
)
def test_several_calls_are_read_in_order(text: str) -> None:
    assert read_written_calls(text, TOOLS) == (Call("get_weather", {"city": "Oslo"}), Call("clock", {}))


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("<function=get_weather>\n<parameter=city>\n12\n</parameter>\n</function>", {"city": "12"}),
        ("<function=get_weather>\n<parameter=days>\n12\n</parameter>\n</function>", {"days": 12}),
        ("<function=get_weather>\n<parameter=city>\n\n a \n\n</parameter>\n</function>", {"city": "\n a \n"}),
        ("<tool_call>get_weather\n<arg_key>days</arg_key><arg_value>3</arg_value></tool_call>", {"days": 3}),
        ("""<functioncall> {"name": "get_weather", "arguments": '{"city": "it's"}'}""", {"city": "it's"}),
        ("""<functioncall> {"name": "get_weather", "arguments": '{"city": "it\\'s"}'}""", {"city": "it's"}),
        (
            '<tool_call>{"name": "get_weather", "arguments": {"city": "</tool_call>"}}</tool_call>',
            {"city": "</tool_call>"},
        ),
        ('<tool_call>{"name": "get_weather"}</tool_call>', {}),
        ('<tool_call>{"name": "get_weather", "arguments": null}</tool_call>', {}),
        ('{"name": "get_weather", "arguments": ""}', {}),
        ("[get_weather(city='a]b')] ", {"city": "a]b"}),
        ("So:\n[get_weather(city='a]\\'b')]", {"city": "a]'b"}),
    ],
)
def test_values_are_what_the_form_says(text: str, arguments: dict[str, Any]) -> None:
    assert read_written_calls(text, TOOLS) == (Call("get_weather", arguments),)


@pytest.mark.parametrize(
    "name", ["Get Today's Prices", "Query (H3 Geo)", "Statistics: Goals", "/forex/signal", "a.b-c", "f", "functions.f"]
)
def test_a_name_may_hold_what_it_likes(name: str) -> None:
    tools = [{"name": name, "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}, {"name": "g"}]
    for text in (
        f"<function={name}><parameter=a>1</parameter></function>",
        f'<invoke name="{name}"><parameter name="a">1</parameter></invoke>',
        f"<tool_call>{name}\n<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>",
        f'[TOOL_CALLS]{name}[ARGS]{{"a": 1}}',
        f'<|tool_call_begin|>functions.{name}:0<|tool_call_argument_begin|>{{"a": 1}}<|tool_call_end|>',
        f'<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{{"a": 1}}\n```<｜tool▁call▁end｜>',
        f"<tool_call>{json.dumps({'name': name, 'arguments': {'a': 1}})}</tool_call>",
        f"[{name}(a=1)]",
        f"So:\n[{name}(a=1)]",
    ):
        assert read_written_calls(text, tools) == (Call(name, {"a": 1}),), text
    assert read_written_calls(f"<tool_call>{name}\n</tool_call>", tools) == (Call(name, {}),)


@pytest.mark.parametrize("text", ['{"name": "sundial", "arguments": {}}', f"<tool_call>{CALL}</tool_call>"])
def test_a_call_of_no_tool_is_a_call(text: str) -> None:
    """So that the reason says which tool is not there."""
    assert len(read_written_calls(text, [{"name": "other"}])) == len(read_written_calls(text, [])) == 1


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "get_weather", "argum</tool_call>',
        '<tool_call>{"name": "get_weather", "arguments": {}}}</tool_call>',
        '<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call>',
        f"<tool_call>{CALL}</tool_call><tool_call>hm</tool_call>",
        "<tool_call></tool_call>",
        "<tool_call>none</tool_call>",
        "[TOOL_CALLS] []",
        "[]",
        "Action: Finish\nAction Input: the answer is 3",
        '{"name": "get_weather", "arguments": {"city": "Os',
        '{"name": "clock"}',
        '{"get_weather": {"city": "Oslo"}}',
        '{"choices": [{"message": {"tool_calls": [{"function": {"name": "clock", "arguments": "{}"}}]}}]}',
        f"You can call {CALL} if you like.",
        "I call [clock()] and wait.",
        'Text {"name": "sundial", "arguments": {}}',
        "It is {'name': 'clock', 'arguments': {}}",
        '[get_weather(city="Oslo"',
        "[get_weather(city=]",
        'Sure:\nget_weather(city="Oslo")\nDone.',
        "<get_weather><city>Oslo</city></get_weather>",
        '<call tool="get_weather"/>',
        'get_weather\n{"city": "Oslo"}',
        '>>>get_weather\n{"city": "Oslo"}',
        "{get_weather|{'city'-'Oslo'}}",
        "(get_weather:<city--'Oslo'>)",
        "([get_weather]=>['city'='Oslo'])",
        '{"tool_calls": []}',
        '{"content": "Hello.", "tool_calls": []}',
        '<tool_code>get_weather(city="Oslo")</tool_code>',
        '- get_weather(city="Oslo")\n- clock()',
        'Action: get_weather(city="Oslo")',
        "Action: get_weather[Oslo]",
        'await get_weather(city="Oslo")',
        'Calling get_weather(city="Oslo")...',
        'Tool call: get_weather with {"city": "Oslo"}',
        '[Tool: get_weather]\n{"city": "Oslo"}',
        '✿FUNCTION✿: get_weather\n✿ARGS✿: {"city": "Oslo"}',
        '<|assistant|>get_weather\n{"city": "Oslo"}',
        "- name: get_weather\n  arguments:\n    city: Oslo",
        'to=functions.get_weather {"city": "Oslo"}',
        "<use_mcp_tool><tool_name>get_weather</tool_name></use_mcp_tool>",
        'get_weather city="Oslo"',
        "<longcat_tool_call>get_weather\n<longcat_arg_key>city</longcat_arg_key></longcat_tool_call>",
        "<start_function_call>call:get_weather{city:<escape>Oslo<escape>}<end_function_call>",
    ],
)
def test_what_looks_like_a_call_and_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(RowError, match=r"^writes calls as text: "):
        read_written_calls(text, TOOLS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello.",
        '{"temperature": 3}',
        '{"name": "Bob", "age": 3}',
        'Here is a person: {"name": "Bob", "age": 3}',
        '{"name": "copy", "description": "Copies.", "parameters": {"type": "object", "properties": {}}}',
        'Config: {"type": "x", "name": "y", "parameters": {"a": 1}}',
        json.dumps(WEATHER),
        "[1, 2]",
        "See [1] and [a map](http://x).",
        "Use get_weather(city) to ask, or clock().",
        "I can use:\n- get_weather(city): the weather\n- clock(): the time",
        'get_weather takes an object such as {"city": "Oslo"}.',
        'I called get_weather for you. It said {"temperature": 3}.',
        '```python\nprint("x")\n```',
        "Action: drink water.",
        "A <b>bold</b> <function> of <tool>",
        "The clock (see above) is right.",
        'You can call `get_weather(city="Oslo")` yourself, or `clock()`.',
        'I would call get_weather(city="Oslo") if you asked.',
        "clock: it is noon.",
        "| tool | does |\n|---|---|\n| get_weather | the weather |",
        "```python\ndef clock():\n    return 12\n```",
        "x = [get(1)]",
        "[clock](http://x) shows it.",
        "{",
        "[",
        '{"name": ',
    ],
)
def test_an_answer_in_words_stays_one(text: str) -> None:
    assert read_written_calls(text, TOOLS) == ()
    assert read_written_calls(text, []) == ()


@settings(deadline=None)
@given(st.text(alphabet="[]{}()<>\"'`:,= \nab|/", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for spelt in (text, f"<tool_call>{text}", f"ab {text}"):
        try:
            assert isinstance(read_written_calls(spelt, [{"name": "a"}, {"name": "ab"}]), tuple)
        except RowError:
            continue


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(alphabet="abc_", min_size=1, max_size=4), JSON_VALUES, max_size=3))
def test_arguments_survive_each_form_of_json(arguments: dict[str, Any]) -> None:
    call = json.dumps({"name": "f", "arguments": arguments})
    text = json.dumps({"name": "f", "arguments": json.dumps(arguments)}, ensure_ascii=False)
    for written in (call, f"<tool_call>{call}</tool_call>", f"[TOOL_CALLS] [{text}]", f"Words\n{call}\n"):
        assert read_written_calls(written, [{"name": "f"}]) == (Call("f", arguments),)


@pytest.mark.parametrize(
    "piece", ["[", '{"name":', "<tool_call>", "[f(", "to=", "<a>", '{"name": "f", "arguments": {', "f("]
)
def test_long_texts_are_read_in_time(piece: str) -> None:
    with suppress(RowError):
        read_written_calls(piece * 20_000, [{"name": "f"}])
