"""A model's chat template as text: how it is to be handed a conversation so that the prompt holds all of it.

Templates differ in what they can say. Some refuse the system role (Gemma 1 and 2), some show the system text only
where the model is about to speak (Mistral), some want content in parts, some know no tools. What the model's own can
do is probed once, on a conversation with all of this in it, and every prompt is then made in that way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import product
from typing import Any, Literal, NamedTuple

from jinja2 import TemplateError

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import SYNTAXES, in_syntax
from itool_pipeline.calls.tool_schema import Tool, json_schema, parameter_schemas
from itool_pipeline.calls.types import Call, ToolCallSyntaxError
from itool_pipeline.core.prompts import instructions, own_messages, response_messages
from itool_pipeline.core.types import Example, Message
from itool_pipeline.engines.control_tokens import BREAK, ControlTokens
from itool_pipeline.engines.whole_text import lost_text, spoken_text
from itool_pipeline.errors import ActionableError

Place = Literal["template", "system"]
"""Who shows the tools: the template, or the system text."""

FIXED_DATE = date(2024, 7, 26)
"""What templates are told today is: the date that Llama's show where nobody tells them. The same prompts tomorrow."""

RESPONSE = "\u241fresponse\u241f"
"""Stands where the response goes; never part of a real conversation."""

_FAILURES = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""How a template ends on what it does not expect: it is a program that comes with the model."""

_PROBE: Tool = {
    "name": "probe_of_the_template",
    "description": "Shows whether the template looks at tools.",
    "parameters": {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "description": "The number asked for."},
            "where": {"type": "object", "properties": {"page_of_it": {"type": "integer"}}},
        },
        "required": ["n"],
    },
}
LAST = "And which text?"
"""The probe's last words before the answer."""


PROBED = Example(
    id="probe_of_the_template",
    source="",
    category="",
    messages=(
        Message("system", "Be brief today."),
        Message("user", "Which <number> is it & where?"),
        Message("assistant", "[probe_of_the_template(n=1)]"),
        Message("tool", '{"number": "seven"}'),
        Message("assistant", "It is seven."),
        Message("user", f"{LAST} "),
    ),
    tools=(_PROBE,),
    response='[probe_of_the_template(n=1, text="one & two")]',
    gold=(),
    group="",
)
"""A whole conversation: a system text, several turns, a tool, its result."""


def probed(syntax: CallSyntax) -> Example:
    """PROBED with its calls in the syntax."""
    messages = tuple(Message(m.role, in_syntax(m.content, syntax)) for m in PROBED.messages)
    return replace(PROBED, messages=messages, response=in_syntax(PROBED.response, syntax))


class ChatTemplateError(ActionableError):
    """The model's chat template cannot express what the prompts need.

    `reason` is why: the message without the example's id and its words.
    """

    def __init__(self, reason: str, *, example: str = "", words: str = "") -> None:
        self.reason, self.words = reason, words
        super().__init__(f"{example}{': ' if example else ''}{reason}{words}")


@dataclass(frozen=True, slots=True)
class Handling:
    """How a conversation is handed to a template.

    tools       who shows the tools
    in_parts    content is a list of parts, not a text
    system      the system text has a role of its own; else it goes before the user's words that follow it
    answered    the prompt is cut out of the conversation with an answer; else the template is asked for the prompt
    calls       calls and results are handed as such, for the template writes them; and nothing of ours is said
    """

    tools: Place
    in_parts: bool
    system: bool
    answered: bool
    calls: bool = False


class ChatTemplate:
    """The chat template of one tokenizer, and the way in which it shows a whole conversation.

    tools     `template` shows them by the chat template, `system` as JSON in the system message, `auto` by the template
              where it shows them
    syntax    how the assistant's texts write calls. Where the template shows tools and writes calls so by itself, these
              are handed to it as calls, results as results, and the system text is the conversation's own
    thinking  of a template with a switch for thoughts, whether this is the mode with them

    Raises ChatTemplateError, with the template's own words, when there is no template, when it can show a
    conversation in no way, or when it is asked to show tools and cannot.
    """

    def __init__(
        self,
        tokenizer: Any,
        tools: Literal["auto", "template", "system"] = "auto",
        syntax: CallSyntax = PYTHON_CALLS,
        *,
        thinking: bool = False,
    ) -> None:
        if not tokenizer.chat_template:
            raise ChatTemplateError("the tokenizer has no chat template; use an instruction-tuned model")
        self.syntax = syntax
        self.control = ControlTokens(tokenizer, syntax.tokens)
        """The tokens that are the template's alone."""
        self._tokenizer = tokenizer
        self._thinking = thinking
        self._bridge = ""
        self._several = True
        self._handling = self._chosen(tools)
        self._several = not self.is_untouched or self._writes_several()

    @property
    def handling(self) -> Handling:
        """How conversations are handed to the template."""
        return self._handling

    @property
    def switches(self) -> dict[str, bool]:
        """How the template is asked for the mode with thoughts or without."""
        return {"enable_thinking": self._thinking, "thinking": self._thinking}

    @property
    def bridge(self) -> str:
        """What stands between the prompt that the template makes and the response."""
        return self._bridge

    @property
    def opening(self) -> tuple[str, str]:
        """What its prompts end in, and what stands there instead where a model is to think; nothing where none does."""
        return "", ""

    def source(self, shows_tools: bool) -> str:
        """The template's own text; some have one for conversations with tools and one for those without."""
        source: str = self._tokenizer.get_chat_template(None, [{}] if shows_tools else None)
        return source

    @property
    def tools_shown_by(self) -> Place:
        """How the prompts show the tools."""
        return self._handling.tools

    @property
    def is_untouched(self) -> bool:
        """Whether the template itself tells the model how to call, and prompts hold nothing of ours."""
        return self._handling.calls

    @property
    def hands_over_several(self) -> bool:
        """Whether several calls of one turn are handed to the template as such; Llama's refuse them, and get text."""
        return self._several

    @property
    def has_system_role(self) -> bool:
        """Whether the system text has a role of its own; else it goes before the user's words that follow it."""
        return self._handling.system

    @property
    def is_cut_out(self) -> bool:
        """Whether a prompt is cut out of the answered conversation, which then begins with it."""
        return self._handling.answered

    @property
    def name(self) -> str:
        """Whose template it is, for messages."""
        return f"the chat template of {self._tokenizer.name_or_path or 'the model'}"

    def asked(self, example: Example) -> tuple[tuple[Message, ...], Sequence[Tool]]:
        """What the template is to show of an example: its turns with our instructions, if any, and its tools, if so."""
        return self._asked(self._handling, example)

    def around_response(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> tuple[str, str]:
        """What stands before and after an assistant's turn that follows the messages, by the answered conversation."""
        return self._around(self._handling, messages, tools)

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """The text up to the assistant's response, which holds every text of the messages and each tool's name.

        Control tokens in these texts are broken by BREAK. Raises ChatTemplateError.
        """
        messages = self._canonical(self._handling, messages)
        if self._handling.answered:
            before, _ = self.around_response(messages, tools)
        else:
            before = self._render(self._handling, messages, tools, answered=False) + self._bridge
        require_whole(before, messages, (str(tool["name"]) for tool in tools))
        return before

    def opened_text(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """The text with which the template itself asks the assistant to speak."""
        return self._render(self._handling, messages, tools, answered=False)

    def answered_text(self, messages: Sequence[Message], response: str, tools: Sequence[Tool] = ()) -> str:
        """The text of the whole conversation, answered."""
        return self._render(self._handling, [*messages, Message("assistant", response)], tools, answered=True)

    def _chosen(self, asked: str) -> Handling:
        """The first way in which the probe is shown whole, and its bridge kept."""
        reasons: list[str] = []
        places: tuple[Place, ...] = ("system",) if asked == "system" else ("template", "system")
        for handling in _handlings(places, calls=self.syntax is not PYTHON_CALLS):
            try:
                self._bridge = self._probed_bridge(handling)
            except ChatTemplateError as error:
                reasons += [str(error)] if handling.tools == "system" else []
                continue
            if asked == "template" and handling.tools != asked:
                raise ChatTemplateError(
                    "prompt.tools is `template`, but the model's chat template does not show tools with all their "
                    "parameters; set it to `auto` or `system`"
                )
            return handling
        tried = "; or otherwise: ".join(dict.fromkeys(reasons)).rstrip(".")
        raise ChatTemplateError(
            f"{self.name} cannot show the model a whole conversation, with system text, turns and results: {tried}. "
            f"Use an instruction-tuned model with another chat template"
        )

    def _probed_bridge(self, handling: Handling) -> str:
        """What stands between the prompt that the template makes and the response. Raises ChatTemplateError.

        A conversation that is cut out needs none.
        """
        messages, tools = self._asked(handling, probed(self.syntax))
        before, _ = self._around(handling, messages, tools)
        bridge, prompt = "", before
        if not handling.answered:
            prompt = self._render(handling, messages, tools, answered=False)
            ending, opening = (text.rpartition(LAST)[2] for text in (before, prompt))
            if not ending.startswith(opening):
                raise ChatTemplateError(f"it begins an answer by {opening!r} and shows one after {ending!r}")
            bridge = ending.removeprefix(opening)
        require_whole(prompt, messages, (text for tool in tools for text in _tool_texts(tool)))
        if handling.calls:
            self._require_calls(handling, messages, tools)
        return bridge

    def _require_calls(self, handling: Handling, messages: Sequence[Message], tools: Sequence[Tool]) -> None:
        """Raise ChatTemplateError unless the template writes an answer's calls as the syntax does."""
        response = probed(self.syntax).response
        turns = [*messages, Message("assistant", response)]
        written = self._render(handling, turns, tools, answered=True).replace(BREAK, "")
        if "".join(response.split()) not in "".join(written.split()):
            raise ChatTemplateError(f"the chat template does not write calls as {self.syntax.name} does")

    def _writes_several(self) -> bool:
        """Whether the template writes several calls of one turn, as the syntax does; Llama's refuse to."""
        response = self.syntax.render_calls([Call(str(_PROBE["name"]), {"n": n}) for n in (1, 2)])
        messages, tools = self._asked(self._handling, probed(self.syntax))
        try:
            turns = [*messages, Message("assistant", response)]
            written = self._render(self._handling, turns, tools, answered=True)
        except ChatTemplateError:
            return False
        return "".join(response.split()) in "".join(written.split())

    def _asked(self, handling: Handling, example: Example) -> tuple[tuple[Message, ...], Sequence[Tool]]:
        if handling.calls:
            return own_messages(example), example.tools
        in_template = handling.tools == "template"
        messages = response_messages(example, list_tools=not in_template, syntax=self.syntax)
        return messages, example.tools if in_template else ()

    def _calls_of(self, handling: Handling, message: Message) -> tuple[Call, ...]:
        """The calls that are handed to the template as such."""
        if not handling.calls or message.role != "assistant" or not self.syntax.has_begun_call(message.content):
            return ()
        try:
            calls = self.syntax.read_response(message.content)
        except ToolCallSyntaxError:
            return ()
        return calls if self._several or len(calls) == 1 else ()

    def _canonical(self, handling: Handling, messages: Sequence[Message]) -> list[Message]:
        """The messages with calls as the template will write them, without the words beside them."""
        found = [(message, self._calls_of(handling, message)) for message in messages]
        return [Message(m.role, self.syntax.render_calls(calls)) if calls else m for m, calls in found]

    def _around(self, handling: Handling, messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[str, str]:
        turns = [*messages, Message("assistant", RESPONSE)]
        before, found, after = self._render(handling, turns, tools, answered=True).rpartition(RESPONSE)
        if not found:
            raise ChatTemplateError("the chat template leaves out what the assistant says")
        return before, after

    def _render(
        self,
        handling: Handling,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        *,
        answered: bool,
        last: Mapping[str, str] | None = None,
    ) -> str:
        """The template's text; unless it is answered, up to where the assistant begins to speak.

        last  what the last turn has beside role and content
        """
        first, *others = _turns(messages, handling)
        turns = [self._turn(handling, first, self._told(handling)), *(self._turn(handling, turn) for turn in others)]
        turns[-1] |= last or {}
        parts = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
        functions = [{"type": "function", "function": json_schema(tool)} for tool in tools]
        try:
            _fix_date(self._tokenizer.get_chat_template(None, functions or None))
            rendered: str = self._tokenizer.apply_chat_template(
                parts if handling.in_parts else turns,
                tools=self.control.broken_values(functions) if functions else None,
                tokenize=False,
                add_generation_prompt=not answered,
                enable_thinking=self._thinking,
                thinking=self._thinking,
            )
        except _FAILURES as error:
            raise ChatTemplateError(f"the chat template refuses the conversation: {error}") from error
        return rendered

    def _told(self, handling: Handling) -> str:
        """Our instructions, with which the first turn of what is asked begins; none where nothing of ours is said."""
        return "" if handling.calls else instructions(list_tools=handling.tools == "system", syntax=self.syntax)

    def _turn(self, handling: Handling, turn: _Turn, told: str = "") -> dict[str, Any]:
        """The turn as the template is given it. One that is joined of several messages is text, as it is when served.

        told  a beginning of the text that is ours and no data: tokens that mark calls are what they are there, as in
              the model's own template
        """
        calls = () if turn.joined else self._calls_of(handling, Message(turn.role, turn.text))
        if not calls:
            ours = told if turn.text.startswith(told) else ""
            said = turn.role == "assistant"
            rest = self.control.broken(turn.text.removeprefix(ours), said=said)
            return {"role": turn.role, "content": self.control.broken(ours, said=True) + rest}
        functions = [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]
        tool_calls = [{"type": "function", "function": self.control.broken_values(given)} for given in functions]
        return {"role": turn.role, "content": "", "tool_calls": tool_calls}


def written_syntax(tokenizer: Any) -> CallSyntax:
    """The syntax in which the tokenizer's chat template writes calls; Python's where it writes none that we know.

    Raises ChatTemplateError as ChatTemplate does.
    """
    for syntax in SYNTAXES.values():
        if syntax is not PYTHON_CALLS and ChatTemplate(tokenizer, "auto", syntax).is_untouched:
            return syntax
    return PYTHON_CALLS


def _fix_date(template: str) -> None:
    """Let the template's `strftime_now` tell FIXED_DATE. transformers compiles a template once and keeps it."""
    from transformers.utils.chat_template_utils import _compile_jinja_template  # slow to import

    _compile_jinja_template(template).globals["strftime_now"] = lambda form: FIXED_DATE.strftime(form)


def require_whole(prompt: str, messages: Sequence[Message], names: Iterable[str]) -> None:
    """Raise ChatTemplateError unless the prompt holds every text of the messages, and the names."""
    lost = lost_text(prompt.replace(BREAK, ""), messages, names)
    if lost is not None:
        shown = lost if len(lost) <= 80 else f"{lost[:77]}..."
        raise ChatTemplateError("the chat template leaves out a text of the conversation", words=f": {shown!r}")


def _handlings(places: Sequence[Place], *, calls: bool) -> Iterator[Handling]:
    """Every way, the most natural first. `calls`: also those in which the template writes the calls."""
    if calls and "template" in places:
        for in_parts, system, answered in product((False, True), (True, False), (True, False)):
            yield Handling("template", in_parts, system, answered, calls=True)
    for tools, in_parts, system, answered in product(places, (False, True), (True, False), (True, False)):
        yield Handling(tools, in_parts, system, answered)


class _Turn(NamedTuple):
    """A turn for the template. `joined`: of several messages of the same speaker."""

    role: str
    text: str
    joined: bool = False


def _turns(messages: Sequence[Message], handling: Handling) -> list[_Turn]:
    """The turns, as the template is given them.

    Those of the same speaker are joined, because many templates insist that user and assistant alternate.
    """
    turns: list[_Turn] = []
    joint = "\n"
    for message in messages:
        role, text = message.role, spoken_text(message)
        if role == "tool" and not handling.calls:
            role, text = "user", f"Result: {text}"
        elif role == "system" and not handling.system:
            role = "user"
        if turns and turns[-1].role == role not in ("system", "tool") and text != RESPONSE:
            turns[-1] = _Turn(role, f"{turns[-1].text}{joint}{text}", joined=True)
        else:
            turns.append(_Turn(role, text))
        joint = "\n\n" if message.role == "system" else "\n"
    return turns


def _tool_texts(tool: Tool) -> Iterator[str]:
    """What a template that shows the tool shows of it: the words, and the names of parameters at every depth."""
    yield str(tool["name"])
    yield str(tool["description"])
    yield from _parameter_texts(parameter_schemas(tool))


def _parameter_texts(schemas: Any) -> Iterator[str]:
    for name, schema in schemas.items():
        yield name
        yield from (schema[key] for key in ("description",) if key in schema)
        yield from _parameter_texts(schema.get("properties", {}))
