"""One way of handing conversations to a model's chat template, and the text that the template makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from typing import Any, Literal, NamedTuple

from jinja2 import TemplateError

from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.tool_schema import Tool, json_schema
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


def handlings(places: Sequence[Place], *, calls: bool) -> Iterator[Handling]:
    """Every way, the most natural first. `calls`: also those in which the template writes the calls."""
    if calls and "template" in places:
        for in_parts, system, answered in product((False, True), (True, False), (True, False)):
            yield Handling("template", in_parts, system, answered, calls=True)
    for tools, in_parts, system, answered in product(places, (False, True), (True, False), (True, False)):
        yield Handling(tools, in_parts, system, answered)


@dataclass(frozen=True, slots=True)
class Rendering:
    """A tokenizer's chat template, handed conversations in one way.

    syntax    how the assistant's texts write calls
    control   the tokens that are the template's alone
    thinking  of a template with a switch for thoughts, whether it is on
    several   whether several calls of one turn are handed over as calls; else they are text
    """

    tokenizer: Any
    syntax: CallSyntax
    control: ControlTokens
    thinking: bool
    handling: Handling
    several: bool = True

    @property
    def switches(self) -> dict[str, bool]:
        """How the template is asked for the mode with thoughts or without."""
        return {"enable_thinking": self.thinking, "thinking": self.thinking}

    def asked(self, example: Example) -> tuple[tuple[Message, ...], Sequence[Tool]]:
        """What the template is to show of an example: its turns with our instructions, if any, and its tools, if so."""
        if self.handling.calls:
            return own_messages(example), example.tools
        in_template = self.handling.tools == "template"
        messages = response_messages(example, list_tools=not in_template, syntax=self.syntax)
        return messages, example.tools if in_template else ()

    def canonical(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with calls as the template will write them, without the words beside them."""
        found = [(message, self._calls_of(message)) for message in messages]
        return [Message(m.role, self.syntax.render_calls(calls)) if calls else m for m, calls in found]

    def around(self, messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[str, str]:
        """What stands before and after an assistant's turn that follows the messages, by the answered conversation."""
        turns = [*messages, Message("assistant", RESPONSE)]
        before, found, after = self.text(turns, tools, answered=True).rpartition(RESPONSE)
        if not found:
            raise ChatTemplateError("the chat template leaves out what the assistant says")
        return before, after

    def text(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        *,
        answered: bool,
        last: Mapping[str, str] | None = None,
    ) -> str:
        """The template's text; unless it is answered, up to where the assistant begins to speak.

        last  what the last turn has beside role and content
        """
        first, *others = _turns(messages, self.handling)
        turns = [self._turn(first, self._told()), *(self._turn(turn) for turn in others)]
        turns[-1] |= last or {}
        parts = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
        functions = [{"type": "function", "function": json_schema(tool)} for tool in tools]
        try:
            _fix_date(self.tokenizer.get_chat_template(None, functions or None))
            rendered: str = self.tokenizer.apply_chat_template(
                parts if self.handling.in_parts else turns,
                tools=self.control.broken_values(functions) if functions else None,
                tokenize=False,
                add_generation_prompt=not answered,
                **self.switches,
            )
        except _FAILURES as error:
            raise ChatTemplateError(f"the chat template refuses the conversation: {error}") from error
        return rendered

    def _calls_of(self, message: Message) -> tuple[Call, ...]:
        """The calls that are handed to the template as such."""
        if not self.handling.calls or message.role != "assistant" or not self.syntax.has_begun_call(message.content):
            return ()
        try:
            calls = self.syntax.read_response(message.content)
        except ToolCallSyntaxError:
            return ()
        return calls if self.several or len(calls) == 1 else ()

    def _told(self) -> str:
        """Our instructions, with which the first turn of what is asked begins; none where nothing of ours is said."""
        if self.handling.calls:
            return ""
        return instructions(list_tools=self.handling.tools == "system", syntax=self.syntax)

    def _turn(self, turn: _Turn, told: str = "") -> dict[str, Any]:
        """The turn as the template is given it. One that is joined of several messages is text, as it is when served.

        told  a beginning of the text that is ours and no data: tokens that mark calls are what they are there, as in
              the model's own template
        """
        calls = () if turn.joined else self._calls_of(Message(turn.role, turn.text))
        if not calls:
            ours = told if turn.text.startswith(told) else ""
            said = turn.role == "assistant"
            rest = self.control.broken(turn.text.removeprefix(ours), said=said)
            return {"role": turn.role, "content": self.control.broken(ours, said=True) + rest}
        functions = [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]
        tool_calls = [{"type": "function", "function": self.control.broken_values(given)} for given in functions]
        return {"role": turn.role, "content": "", "tool_calls": tool_calls}


def _fix_date(template: str) -> None:
    """Let the template's `strftime_now` tell FIXED_DATE. transformers compiles a template once and keeps it."""
    from transformers.utils.chat_template_utils import _compile_jinja_template  # slow to import

    _compile_jinja_template(template).globals["strftime_now"] = lambda form: FIXED_DATE.strftime(form)


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


def require_whole(prompt: str, messages: Sequence[Message], names: Iterable[str]) -> None:
    """Raise ChatTemplateError unless the prompt holds every text of the messages, and the names."""
    lost = lost_text(prompt.replace(BREAK, ""), messages, names)
    if lost is not None:
        shown = lost if len(lost) <= 80 else f"{lost[:77]}..."
        raise ChatTemplateError("the chat template leaves out a text of the conversation", words=f": {shown!r}")
