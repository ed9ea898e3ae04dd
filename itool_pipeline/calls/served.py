"""Calls between a served model and its clients: how a chat template writes earlier ones, and who reads new ones.

A client hands a call over as a name and a mapping of arguments, as JSON has it. A chat template, which is Jinja, must
write it exactly as training did; a server's own parser must read it out of what the model says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.types import Call


@dataclass(frozen=True, slots=True)
class ServedSyntax:
    """A call syntax as servers know it.

    syntax  the syntax itself, which says what the macro must write
    parser  vLLM's name of what reads it (`--tool-call-parser`)
    plugin  Python that registers OWN_PARSER with vLLM (`--tool-parser-plugin`), for what that parser cannot read
    macro   Jinja that defines the macro `itool_calls(calls)`: a list of objects with `name` and `arguments`, as text
    """

    syntax: CallSyntax
    parser: str
    plugin: str
    macro: str


OWN_PARSER = "itool"
"""The name under which an exported model's own parser is registered with vLLM."""


def jinja_text(text: str) -> str:
    """The text as a literal of Jinja, in ASCII."""
    escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'


def _python_escapes() -> str:
    """Jinja's mapping of every character that a Python string of ours escapes; JSON in UTF-8 has no others."""
    before, after = render_calls([Call("f", {"a": "|"})]).split("|")
    written = {c: render_calls([Call("f", {"a": c})])[len(before) : -len(after)] for c in map(chr, range(0xA0))}
    pairs = (f"{jinja_text(c)}: {jinja_text(text)}" for c, text in written.items() if text != c)
    return f"{{{', '.join(pairs)}}}"


_PYTHON_MACRO = (
    """\
{%- macro itool_value(value, escapes) -%}
{%- if value is string -%}
"{%- for character in value -%}{{- escapes.get(character, character) -}}{%- endfor -%}"
{%- elif value is mapping -%}
{{- '{' -}}
{%- for key, inner in value.items() -%}
{{- ', ' if not loop.first -}}{{- itool_value(key, escapes) -}}{{- ': ' -}}{{- itool_value(inner, escapes) -}}
{%- endfor -%}
{{- '}' -}}
{%- elif value is iterable -%}
{{- '[' -}}
{%- for inner in value -%}
{{- ', ' if not loop.first -}}{{- itool_value(inner, escapes) -}}
{%- endfor -%}
{{- ']' -}}
{%- else -%}
{{- value -}}
{%- endif -%}
{%- endmacro -%}
{%- macro itool_calls(calls) -%}
{%- set escapes = """
    + _python_escapes()
    + """ -%}
{{- '[' -}}
{%- for call in calls -%}
{{- ', ' if not loop.first -}}{{- call.name -}}{{- '(' -}}
{%- for name, value in call.arguments.items() -%}
{{- ', ' if not loop.first -}}{{- name -}}{{- '=' -}}{{- itool_value(value, escapes) -}}
{%- endfor -%}
{{- ')' -}}
{%- endfor -%}
{{- ']' -}}
{%- endmacro -%}
"""
)

_PYTHONIC_PLUGIN = f'''\
"""vLLM's own parser of calls as a Python list, for functions whose names have periods too:

    vllm serve . --enable-auto-tool-choice --tool-parser-plugin tool_parser.py --tool-call-parser {OWN_PARSER}
"""

import regex

from vllm.tool_parsers.abstract_tool_parser import ToolParserManager
from vllm.tool_parsers.pythonic_tool_parser import PythonicToolParser


class PythonCallsParser(PythonicToolParser):
    """Takes every text between brackets that begins with a call; what is none is then found when it is read."""

    TOOL_CALL_REGEX = regex.compile(r"\[\s*[A-Za-z_][\w.]*\s*\(.*\)\s*\]\s*\Z", regex.DOTALL)


ToolParserManager.register_module("{OWN_PARSER}", module=PythonCallsParser)
'''

SERVED: Mapping[str, ServedSyntax] = {
    PYTHON_CALLS.name: ServedSyntax(PYTHON_CALLS, "pythonic", _PYTHONIC_PLUGIN, _PYTHON_MACRO),
}
"""By the syntax's name."""
