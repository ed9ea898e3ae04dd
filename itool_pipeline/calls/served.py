"""Calls between a served model and its clients: how a chat template writes earlier ones, and who reads new ones.

A client hands a call over as a name and a mapping of arguments, as JSON has it. A chat template, which is Jinja, must
write it exactly as training did; a server's own parser must read it out of what the model says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from itool_pipeline.calls.hermes import HERMES_CALLS
from itool_pipeline.calls.json_calls import json_mark
from itool_pipeline.calls.llama3_json import LLAMA3_JSON_CALLS
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.types import Call


@dataclass(frozen=True, slots=True)
class ServedSyntax:
    """A call syntax as servers know it.

    syntax  the syntax itself, which says what the macro must write
    parser  vLLM's name of what reads it (`--tool-call-parser`)
    macro   Jinja that defines the macro `itool_calls(calls)`: a list of objects with `name` and `arguments`, as text
    plugin  Python that registers OWN_PARSER with vLLM (`--tool-parser-plugin`); empty where that parser reads all
    lacks   what that parser cannot do and the plugin can, in words that follow its name
    reads_behind_thoughts  whether that parser reads calls behind thoughts, where line breaks stand before them
    """

    syntax: CallSyntax
    parser: str
    macro: str
    plugin: str = ""
    lacks: str = ""
    reads_behind_thoughts: bool = True


OWN_PARSER = "itool"
"""The name under which an exported model's own parser is registered with vLLM."""


_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def jinja_text(text: str) -> str:
    """The text as a literal of Jinja; of llama.cpp's too, which knows no escapes by number."""
    return f'"{text.translate(_ESCAPED)}"'


def _python_escapes() -> str:
    """Jinja's filters that escape what a Python string of ours escapes; JSON in UTF-8 has no others.

    Not NUL: a template with it would end there for llama.cpp.
    """
    before, after = render_calls([Call("f", {"a": "|"})]).split("|")
    characters = sorted(map(chr, range(1, 0xA0)), key=lambda c: c != "\\")  # the backslash before those it escapes
    written = {c: render_calls([Call("f", {"a": c})])[len(before) : -len(after)] for c in characters}
    return "".join(f" | replace({jinja_text(c)}, {jinja_text(text)})" for c, text in written.items() if text != c)


LABELS = (
    """\
{%- macro itool_value(value) -%}
{%- if value is string -%}
{{- '"' ~ (value"""
    + _python_escapes()
    + """) ~ '"' -}}
{%- elif value is mapping -%}
{{- '{' -}}
{%- for key, inner in value.items() -%}
{{- ', ' if not loop.first -}}{{- itool_value(key) -}}{{- ': ' -}}{{- itool_value(inner) -}}
{%- endfor -%}
{{- '}' -}}
{%- elif value is iterable -%}
{{- '[' -}}
{%- for inner in value -%}
{{- ', ' if not loop.first -}}{{- itool_value(inner) -}}
{%- endfor -%}
{{- ']' -}}
{%- else -%}
{{- 'None' if value is none else value -}}
{%- endif -%}
{%- endmacro -%}
{%- macro itool_label(call) -%}
{{- call.name -}}{{- '(' -}}
{%- for name, value in call.arguments.items() -%}
{{- ', ' if not loop.first -}}{{- name -}}{{- '=' -}}{{- itool_value(value) -}}
{%- endfor -%}
{{- ')' -}}
{%- endmacro -%}
"""
)
"""Jinja that defines the macro `itool_label(call)`: the call in Python's syntax, which labels results in each one."""

_PYTHON_MACRO = """\
{%- macro itool_calls(calls) -%}
{{- '[' -}}
{%- for call in calls -%}{{- ', ' if not loop.first -}}{{- itool_label(call) -}}{%- endfor -%}
{{- ']' -}}
{%- endmacro -%}
"""


def _json_macro(syntax: CallSyntax, between: str) -> str:
    """What writes each call as the syntax does, with `between` between calls.

    transformers' filter `tojson` writes values as `json_text` does. What stands around them is cut out of a call that
    the syntax wrote.
    """
    before, middle, after = syntax.render_calls([Call("|", {"|": 0})]).replace('{"|": 0}', '"|"').split('"|"')
    written = "".join(f" | replace({jinja_text(mark)}, {jinja_text(json_mark(mark))})" for mark in syntax.tokens)
    return f"""\
{{%- macro itool_calls(calls) -%}}
{{%- for call in calls -%}}
{{{{- {jinja_text(between)} if not loop.first -}}}}
{{{{- {jinja_text(before)} ~ (call.name | tojson{written}) -}}}}
{{{{- {jinja_text(middle)} ~ (call.arguments | tojson{written}) ~ {jinja_text(after)} -}}}}
{{%- endfor -%}}
{{%- endmacro -%}}
"""


_PYTHONIC_PLUGIN = f'''\
"""vLLM's own parser of calls as a Python list, for functions whose names have periods and behind thoughts too:

    vllm serve . --enable-auto-tool-choice --tool-parser-plugin tool_parser.py --tool-call-parser {OWN_PARSER}
"""

import regex

from vllm.tool_parsers.abstract_tool_parser import ToolParserManager
from vllm.tool_parsers.pythonic_tool_parser import PythonicToolParser


class PythonCallsParser(PythonicToolParser):
    """Takes every text between brackets that begins with a call; what is none is then found when it is read."""

    TOOL_CALL_REGEX = regex.compile(r"\\n*\\[\\s*[A-Za-z_][\\w.]*\\s*\\(.*\\)\\s*\\]\\s*\\Z", regex.DOTALL)


ToolParserManager.register_module("{OWN_PARSER}", module=PythonCallsParser)
'''

_LLAMA_PLUGIN = f'''\
"""vLLM's own parser of Llama's bare JSON, for tokenizers without the token `<|python_tag|>` too:

    vllm serve . --enable-auto-tool-choice --tool-parser-plugin tool_parser.py --tool-call-parser {OWN_PARSER}
"""

from vllm.tool_parsers.abstract_tool_parser import ToolParserManager
from vllm.tool_parsers.llama_tool_parser import Llama3JsonToolParser


class JsonCallsParser(Llama3JsonToolParser):
    """Takes a vocabulary without that token for one that has it, for nothing else is asked of its id."""

    @property
    def vocab(self):
        return {{self.bot_token: -1, **super().vocab}}


ToolParserManager.register_module("{OWN_PARSER}", module=JsonCallsParser)
'''

SERVED: Mapping[str, ServedSyntax] = {
    served.syntax.name: served
    for served in (
        ServedSyntax(
            *(PYTHON_CALLS, "pythonic", _PYTHON_MACRO, _PYTHONIC_PLUGIN),
            lacks="knows no function whose name has a period, and reads no calls behind thoughts",
            reads_behind_thoughts=False,
        ),
        ServedSyntax(HERMES_CALLS, "hermes", _json_macro(HERMES_CALLS, "\n")),
        ServedSyntax(
            *(LLAMA3_JSON_CALLS, "llama3_json", _json_macro(LLAMA3_JSON_CALLS, "; "), _LLAMA_PLUGIN),
            lacks="starts with no tokenizer that lacks the token `<|python_tag|>`",
        ),
    )
}
"""By the syntax's name."""
