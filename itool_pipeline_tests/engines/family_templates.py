"""Chat templates of model families: TRL's copies of the real ones, and short ones of families that it has none of.

And templates that cannot show a conversation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import trl

MISTRAL_V1 = """\
{{ bos_token }}{% for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{%- if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}
{%- else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"""

MISTRAL_V3 = """\
{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}
{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set user_messages = loop_messages | selectattr('role', 'equalto', 'user') | list %}
{%- for message in loop_messages %}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('After the optional system message, conversation roles must alternate') }}{%- endif %}{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
{%- if message['role'] == 'user' %}
{%- if tools is not none and (message == user_messages[-1]) %}{{- '[AVAILABLE_TOOLS] [' }}
{%- for tool in tools %}{{- '{"type": "function", "function": {' }}
{%- for key, val in tool.function.items() if key != 'return' %}
{%- if val is string %}{{- '"' + key + '": "' + val + '"' }}
{%- else %}{{- '"' + key + '": ' + val | tojson }}{%- endif %}
{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}{{- '}}' }}
{%- if not loop.last %}{{- ', ' }}{%- else %}{{- ']' }}{%- endif %}{%- endfor %}{{- '[/AVAILABLE_TOOLS]' }}{%- endif %}
{%- if loop.last and system_message is defined %}
{{- '[INST] ' + system_message + '\\n\\n' + message['content'] + '[/INST]' }}
{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}
{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] | trim + eos_token }}{%- endif %}{%- endfor %}"""

PIXTRAL = MISTRAL_V3.replace("and (message == user_messages[-1])", "and loop.last")
"""Shows tools too in the last turn alone."""

LLAMA_2 = """\
{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}
{%- set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}
{%- set system_message = false %}{% endif %}{% for message in loop_messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- if loop.index0 == 0 and system_message != false %}
{%- set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
{%- else %}{% set content = message['content'] %}{% endif %}
{%- if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{%- else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""

GRANITE = """\
{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}
{%- set loop_messages = messages[1:] %}{%- else %}{%- set system_message = 'You are Granite.' %}
{%- set loop_messages = messages %}{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>Today is ' + strftime_now('%B %d, %Y') + '.\\n' + system_message }}
{{- '<|end_of_text|>\\n' }}
{%- if tools %}{{- '<|start_of_role|>tools<|end_of_role|>' + tools | tojson(indent=4) }}{{- '<|end_of_text|>\\n' }}
{%- endif %}{%- for message in loop_messages %}
{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] }}{{- '<|end_of_text|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"""

SMOLLM3 = """\
{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}
{%- set mode = '/think' if enable_thinking else '/no_think' %}
{{- '<|im_start|>system\\nToday Date: ' ~ strftime_now('%d %B %Y') ~ '\\nReasoning Mode: ' ~ mode ~ '\\n\\n' }}
{%- if messages[0].role == 'system' %}
{{- messages[0].content.replace('/no_think', '').replace('/think', '').rstrip() ~ '\\n\\n' }}{%- endif %}
{%- if tools %}{{- '### Tools\\n' }}{%- for tool in tools %}{{- (tool | string) ~ '\\n' }}{%- endfor %}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
{%- if message.role == 'user' %}{{ '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' ~ ('' if enable_thinking else '<think>\\n\\n</think>\\n') }}
{{- message.content.lstrip('\\n') ~ '<|im_end|>\\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' ~ ('' if enable_thinking else '<think>\\n\\n</think>\\n') }}{%- endif %}"""

OWN = {
    "mistral_v1": MISTRAL_V1,
    "mistral_v3": MISTRAL_V3,
    "pixtral": PIXTRAL,
    "llama_2": LLAMA_2,
    "granite": GRANITE,
    "smollm3": SMOLLM3,
}


def family_templates() -> dict[str, str]:
    """Name → template of every family. TRL's variants for training are its own."""
    files = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    real = {file.stem: file.read_text() for file in files if not file.stem.endswith("_training")}
    assert len(real) > 30
    return {**real, **OWN}


CONTROL = re.compile(
    r"<[|｜][^<>{}\s]*?[|｜]>|</?s>|<(?:start|end)_of_\w+>|<(?:bos|eos|sop|turn\|)>|<\|turn>|\[gMASK\]"
    r"|\[/?(?:INST|AVAILABLE_TOOLS)\]"
)
WRITTEN = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""Tokens that the families' templates write though they are not special."""


def control_tokens() -> list[str]:
    """The special tokens of all families."""
    return sorted({token for template in family_templates().values() for token in CONTROL.findall(template)})


_TURNS = """\
{%- for message in TURNS %}{{ '<|im_start|>' + message.role + '\\n' + TEXT + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"""


def _turns(turns: str = "messages", text: str = "message.content") -> str:
    return _TURNS.replace("TURNS", turns).replace("TEXT", text)


HOPELESS = {
    "refuses all": ("{{ raise_exception('Ask our sales team.') }}", r"refuses the conversation: Ask our sales team\."),
    "needs a date as text": ("{{ 'Today is ' + today }}" + _turns(), "'today' is undefined"),
    "does arithmetic on text": ("{{ messages[0].content + 1 }}", "can only concatenate str"),
    "is no template": ("{% for message in messages %}", "Unexpected end of template"),
    "loses earlier turns": (_turns("messages[-2:]"), "leaves out a text"),
    "loses earlier answers": (
        _turns("messages | rejectattr('role', 'equalto', 'assistant') | list + messages[-1:]"),
        r"leaves out a text of the conversation: '\[probe_of_the_template",
    ),
    "loses results": (_turns("messages | selectattr('content', 'ne', messages[3].content)"), "leaves out a text"),
    "truncates": (_turns(text="message.content | truncate(60)"), "leaves out a text"),
    "reverses": (_turns("messages[:-1] | reverse | list + messages[-1:]"), "leaves out a text"),
    "shows roles alone": (_turns(text="'…'"), "leaves out what the assistant says"),
    "deletes tags": (_turns(text="message.content | striptags"), "leaves out a text"),
}
"""Name → template, and words of the error."""


def know_all_families(tokenizer: Any) -> Any:
    """The tokenizer, which now has the control tokens of all families, and the tokens that they write."""
    tokenizer.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": control_tokens()})
    tokenizer.add_tokens(list(WRITTEN))
    return tokenizer
