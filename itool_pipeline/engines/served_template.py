"""The chat template that a model is exported with: of a client's messages and tools it makes the prompts of training.

A client's conversation has calls and results as objects, and the tools beside it. What stands before the model's own
template here makes of it the turns that `ChatTemplate` hands over: our instructions, the tools, calls as text, results
in words. The model's own template then shows these, unchanged. Where that one writes calls itself (`is_untouched`),
nothing of ours is said, and calls and results stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from itool_pipeline.calls.served import LABELS, ServedSyntax, jinja_text
from itool_pipeline.core.prompts import instructions
from itool_pipeline.engines.chat_template import ChatTemplate
from itool_pipeline.engines.template_rendering import FIXED_DATE, ChatTemplateError

_ANSWER = "\u241fanswer\u241f"
"""Stands where the answer goes while a prompt is cut out of an answered conversation."""

REASONING_PARSERS: Mapping[str, str] = {"</think>": "deepseek_r1"}
"""vLLM's parser of thoughts (`--reasoning-parser`) by the mark that ends them; it needs tokens for its two tags."""

_DATE_FORM = re.compile(r"strftime_now\(\s*(?:'([^']*)'|\"([^\"]*)\")\s*\)")
_DATE_ASKED = re.compile(r"strftime_now\(")

_TEXT_OF = """\
{%- macro itool_text(content) -%}
{%- if content is string -%}
{{- content -}}
{%- elif content -%}
{%- for part in content if part.type == 'text' -%}{{- part.text -}}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
"""
"""A message's text, which may be given in parts."""

_JSON = """\
{%- macro itool_json(value) -%}
{%- if value is mapping -%}
{{- '{' -}}
{%- for key, inner in value.items() -%}
{{- ',' if not loop.first -}}{{- key | tojson -}}{{- ':' -}}{{- itool_json(inner) -}}
{%- endfor -%}
{{- '}' -}}
{%- elif value is iterable and value is not string -%}
{{- '[' -}}
{%- for inner in value -%}{{- ',' if not loop.first -}}{{- itool_json(inner) -}}{%- endfor -%}
{{- ']' -}}
{%- else -%}
{{- value | tojson -}}
{%- endif -%}
{%- endmacro -%}
"""
"""JSON as `tool_list_text` writes it. The filter `tojson` takes `separators` in transformers alone: vLLM's server tries
every template on another Jinja as it starts, and ends where that fails.
"""

_READ = """\
{%- set itool = namespace(system=[], said=[], calls=[], results=[], turns=[], handed=[], joint='\\n') -%}
{%- for message in messages -%}
{%- if message.role in ('system', 'developer') -%}
{%- set itool.system = itool.system + [itool_text(message.content)] -%}
{%- elif message.role == 'tool' -%}
{%- set itool.results = itool.results + [message] -%}
{%- if loop.last or loop.nextitem.role != 'tool' -%}
{%- set text = itool_results(itool.results, itool.calls) -%}
{%- set itool.said = itool.said + [{'role': 'tool', 'content': text, 'calls': []}] -%}
{%- set itool.results = [] -%}
{%- set itool.calls = [] -%}
{%- endif -%}
{%- else -%}
{%- set itool.calls = [] -%}
{%- for call in message.tool_calls or [] -%}
{%- set function = call.function if call.function is defined else call -%}
{%- if function.arguments is string -%}
{{- raise_exception('arguments of tool_calls must be a mapping, not JSON in a text') -}}
{%- endif -%}
{%- set one = {'name': function.name, 'arguments': function.arguments or {}, 'id': call.id or ''} -%}
{%- set itool.calls = itool.calls + [one] -%}
{%- endfor -%}
{%- set text = itool_calls(itool.calls) if itool.calls else itool_text(message.content) -%}
{%- if message.role == 'assistant' and text.lstrip().startswith('<think>') -%}
{%- set text = text.split('</think>')[-1].lstrip() -%}
{%- endif -%}
{%- set itool.said = itool.said + [{'role': message.role, 'content': text, 'calls': itool.calls}] -%}
{%- endif -%}
{%- endfor -%}
"""
"""System texts, and the other turns as role, text and calls; of results that follow one another one turn."""

_RESULTS = """\
{%- macro itool_results(results, calls) -%}
{%- if results | length == 1 and (calls | length < 2 or not results[0].tool_call_id) -%}
{{- itool_text(results[0].content) -}}
{%- else -%}
{%- set shown = namespace(lines=[], left=results) -%}
{%- for call in calls -%}
{%- set found = namespace(text=none, left=[]) -%}
{%- for result in shown.left -%}
{%- if found.text is none and (not result.tool_call_id or result.tool_call_id == call.id) -%}
{%- set found.text = itool_text(result.content) -%}
{%- else -%}
{%- set found.left = found.left + [result] -%}
{%- endif -%}
{%- endfor -%}
{%- set shown.left = found.left -%}
{%- if found.text is not none -%}
{%- set whole = itool_label(call) -%}
{%- set same = namespace(names=0, calls=0) -%}
{%- for other in calls -%}
{%- set same.names = same.names + (1 if other.name == call.name else 0) -%}
{%- set same.calls = same.calls + (1 if itool_label(other) == whole else 0) -%}
{%- endfor -%}
{%- set label = call.name if same.names == 1 else whole -%}
{%- set label = label ~ ' (call ' ~ loop.index ~ ')' if same.calls > 1 else label -%}
{%- set shown.lines = shown.lines + [label ~ ': ' ~ found.text] -%}
{%- endif -%}
{%- endfor -%}
{%- for result in shown.left -%}
{%- set shown.lines = shown.lines + [itool_text(result.content)] -%}
{%- endfor -%}
{{- shown.lines | join('\\n') -}}
{%- endif -%}
{%- endmacro -%}
"""
"""Results of the calls right before as one text, in the order of the calls: as `CallsAsked.show_results` has them."""

_TURNS = """\
{%- if itool.system -%}
{%- set first = {'role': 'system', 'content': itool.system | join('\\n\\n'), 'calls': []} -%}
{%- set itool.said = [first] + itool.said -%}
{%- endif -%}
{%- for turn in itool.said -%}
{%- set in_words = turn.role == 'tool' and not itool_untouched -%}
{%- set role = 'user' if in_words or (turn.role == 'system' and not itool_system_role) else turn.role -%}
{%- set text = 'Result: ' ~ turn.content if in_words else turn.content -%}
{%- if itool.turns and itool.turns[-1].role == role and role not in ('system', 'tool') -%}
{%- set joined = itool.turns[-1].content ~ itool.joint ~ text -%}
{%- set itool.turns = itool.turns[:-1] + [{'role': role, 'content': joined, 'calls': []}] -%}
{%- else -%}
{%- set itool.turns = itool.turns + [{'role': role, 'content': text, 'calls': turn.calls}] -%}
{%- endif -%}
{%- set itool.joint = '\\n\\n' if turn.role == 'system' else '\\n' -%}
{%- endfor -%}
"""
"""The turns that the model's template is handed: those of one speaker joined, as `template_rendering._turns` does."""

_HANDED = """\
{%- for turn in itool.turns -%}
{%- set as_calls = itool_untouched and (turn.calls | length == 1 or (turn.calls and itool_several)) -%}
{%- set text = '' if as_calls else turn.content -%}
{%- set content = [{'type': 'text', 'text': text}] if itool_in_parts else text -%}
{%- if as_calls -%}
{%- set shown = namespace(calls=[]) -%}
{%- for call in turn.calls -%}
{%- set function = {'name': call.name, 'arguments': call.arguments} -%}
{%- set shown.calls = shown.calls + [{'type': 'function', 'function': function}] -%}
{%- endfor -%}
{%- set itool.handed = itool.handed + [{'role': turn.role, 'content': content, 'tool_calls': shown.calls}] -%}
{%- else -%}
{%- set itool.handed = itool.handed + [{'role': turn.role, 'content': content}] -%}
{%- endif -%}
{%- endfor -%}
"""
"""The turns in the form that the template takes, as `ChatTemplate` hands them over."""


def served_template(template: ChatTemplate, syntax: ServedSyntax) -> str:
    """Jinja whose prompts, in tokens, are those of `Chat.prompt` for the conversation that a client sends; where the
    model thinks, up to its thoughts.

    Four things it cannot do: spell a control token that stands in a text in ordinary tokens, write a tool with keys
    that clients cannot send, read calls out of a text, and escape a NUL in an argument. Raises ChatTemplateError for a
    template that asks for the date in a form that it makes.
    """
    handling, in_template = template.handling, template.handling.tools == "template"
    flags = {
        "itool_untouched": handling.calls,
        "itool_several": template.hands_over_several,
        "itool_system_role": handling.system,
        "itool_in_parts": handling.in_parts,
    }
    parts = [
        _dates(template),
        _TEXT_OF,
        "" if in_template else _JSON,
        LABELS,
        syntax.macro,
        _RESULTS,
        _READ,
        _set(flags),
        "" if handling.calls else _ours(syntax, in_template),
        _TURNS,
        "{%- set itool.prompted = add_generation_prompt or false -%}\n",
        _answered() if handling.answered else "",
        _HANDED,
        f"{{%- set messages = itool.handed -%}}\n{{%- set tools = {'tools or none' if in_template else 'none'} -%}}\n",
        _set(template.switches),
        "{%- set itool_whole %}\n",
        _own(template, in_template),
        "{% endset -%}\n",
        _prompt(template),
    ]
    return "".join(parts)


def _set(flags: Mapping[str, bool]) -> str:
    return "".join(f"{{%- set {name} = {str(value).lower()} -%}}\n" for name, value in flags.items())


def _ours(syntax: ServedSyntax, in_template: bool) -> str:
    """Our instructions before the conversation's own system texts."""
    told = jinja_text(instructions(list_tools=not in_template, syntax=syntax.syntax))
    listed = "" if in_template else " ~ itool_json((tools or []) | map(attribute='function') | list)"
    return f"{{%- set itool.system = [{told}{listed}] + itool.system -%}}\n"


def _answered() -> str:
    answer = f"{{'role': 'assistant', 'content': {jinja_text(_ANSWER)}, 'calls': []}}"
    return (
        f"{{%- if itool.prompted -%}}{{%- set itool.turns = itool.turns + [{answer}] -%}}{{%- endif -%}}\n"
        "{%- set add_generation_prompt = false -%}\n"
    )


def _own(template: ChatTemplate, in_template: bool) -> str:
    """The model's own template; of several the ones that training used, with tools and without."""
    without, with_tools = (_ending(template.source(shown)) for shown in (False, True))
    if not in_template or with_tools == without:
        return without
    return f"{{% if tools %}}\n{with_tools}{{% else %}}\n{without}{{% endif %}}"


def _ending(source: str) -> str:
    """Jinja leaves out a line break at the very end of a template, and blanks before a block on a line of its own."""
    source = source.removesuffix("\n")
    last = source.rpartition("\n")[2]
    return f"{source}{{{{ '' }}}}" if last.isspace() else source


def _prompt(template: ChatTemplate) -> str:
    cut_out, (ending, opening) = template.is_cut_out, template.opening
    joined = f"(itool_whole ~ {jinja_text(template.bridge)})"
    made = f"itool_whole.rsplit({jinja_text(_ANSWER)}, 1)[0]" if cut_out else joined
    made = f"{made}.rsplit({jinja_text(ending)}, 1)[0]" if ending else made
    made = f"({made} ~ {jinja_text(opening)})" if opening else made
    return f"{{{{- {made}.rstrip(' ') if itool.prompted else itool_whole -}}}}"


def _dates(template: ChatTemplate) -> str:
    """What tells the template the date that training told it."""
    sources = {template.source(shown) for shown in (False, True)}
    forms = {a or b for source in sources for a, b in _DATE_FORM.findall(source)}
    asked = sum(len(_DATE_ASKED.findall(source)) for source in sources)
    if asked != sum(len(_DATE_FORM.findall(source)) for source in sources):
        raise ChatTemplateError(
            f"{template.name} asks for the date in a form that it makes itself, so no template can show the date that "
            "training showed. Use a model with another chat template, or serve without an export"
        )
    if not forms:
        return ""
    dates = ", ".join(f"{jinja_text(form)}: {jinja_text(FIXED_DATE.strftime(form))}" for form in sorted(forms))
    return f"{{%- macro strftime_now(form) -%}}{{{{- {{{dates}}}[form] -}}}}{{%- endmacro -%}}\n"
