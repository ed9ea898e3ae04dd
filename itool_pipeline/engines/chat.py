"""Messages to token ids, by the model's own chat template.

A prompt is the text that the template puts before an assistant's turn, and a response what it puts from there on to
the token that ends the turn. So prompt and response together are what the model would read of the whole conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from jinja2 import TemplateError

from itool_pipeline.calls.tool_schema import Tool, json_schema
from itool_pipeline.core.prompts import CANDIDATE, OPTIONS, grade_messages, response_messages
from itool_pipeline.core.reward import GradePrompt
from itool_pipeline.core.types import Example, Message
from itool_pipeline.errors import ActionableError

_ANSWER = "Option "
"""How the answer to the grade prompt begins; one of OPTIONS follows."""

_RESPONSE = "\u241fresponse\u241f"
"""Stands where the response goes; never part of a real conversation."""

_PROBE: Tool = {
    "name": "probe_of_the_template",
    "description": "Shows whether the template looks at tools.",
    "parameters": {"type": "object", "properties": {"n": {"type": "integer", "description": "A number."}}},
}


_PROBED = Example(
    id="probe_of_the_template",
    source="",
    category="",
    messages=(Message("system", "Be brief."), Message("user", "Which number? ")),
    tools=(_PROBE,),
    response='[probe_of_the_template(n=1, text="one & two")]',
    gold=(),
    group="",
)
"""A whole conversation with tools, to see whether prompt and response are what the template makes of it."""


class ChatTemplateError(ActionableError):
    """The model's chat template cannot express what the prompts need."""


class Chat:
    """Renders prompts for one tokenizer.

    tools   `template` shows them by the chat template, `system` as JSON in the system message, `auto` by the template
            where it knows tools

    Raises ChatTemplateError on construction when the tokenizer has no chat template or no end-of-turn token, when it
    is asked to show tools and cannot, when an option letter is more than one token, or when prompt and response
    together are not what the template makes of a whole conversation.
    """

    def __init__(self, tokenizer: Any, tools: Literal["auto", "template", "system"] = "auto") -> None:
        if not tokenizer.chat_template or tokenizer.eos_token_id is None:
            raise ChatTemplateError(
                "the tokenizer has no chat template or no end token; use an instruction-tuned model"
            )
        self._tokenizer = tokenizer
        self.tools_shown_by: Literal["template", "system"] = self._tools_shown_by(tools)
        """How the prompts show the tools."""
        before, after = self._around_response([Message("user", "Hello")])
        self._before = before.rstrip(" ")
        self._lead = before[len(self._before) :]
        self._trail, end = self._end(after)
        self.end_token: int = end
        """The token that ends the assistant's turn."""
        self._opened = self._opening(self._before)
        self._closing("")
        self._check_whole()

    def prompt(self, example: Example) -> tuple[int, ...]:
        """Token ids up to where the assistant's response begins. Raises ChatTemplateError, with the example's id.

        Spaces at the end belong to the response: most tokenizers join a space with the word after it, and a model
        expects no word after a space that stands alone.
        """
        in_template = self.tools_shown_by == "template"
        messages = response_messages(example, list_tools=not in_template)
        try:
            before, _ = self._around_response(messages, example.tools if in_template else ())
        except ChatTemplateError as error:
            raise ChatTemplateError(f"{example.id}: {error}") from error
        return self._opening(before.rstrip(" "))

    def response(self, text: str) -> tuple[int, ...]:
        """Token ids of a complete response, the end-of-turn token included.

        They are cut out of a whole conversation, for a text can have other tokens there than by itself. Where the
        tokenizer joins the end of the prompt and the beginning of the response, the response is taken by itself: so
        it follows a prompt when the model generates.
        """
        own = f"{self._lead}{text}{self._trail}"
        within = self._within(own)
        return (*(self._encode(own) if within is None else within), self.end_token)

    def tokenised_alone(self, text: str) -> bool:
        """Whether the response had to be taken by itself."""
        return self._within(f"{self._lead}{text}{self._trail}") is None

    def grade(self, example: Example) -> GradePrompt:
        """The self-evaluation prompt (Eq. 7), cut where the candidate goes."""
        before, _, after = self._render(grade_messages(example)).rpartition(CANDIDATE)
        closing, options = self._closing(after)
        return GradePrompt(self._encode(before), closing, options)

    def text(self, token_ids: Sequence[int]) -> str:
        """Token ids back to text, special tokens left out."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _within(self, own: str) -> tuple[int, ...] | None:
        """Token ids of `own` after a prompt; None where the tokenizer joins it with the prompt's end."""
        whole = self._encode(self._before + own)
        return whole[len(self._opened) :] if whole[: len(self._opened)] == self._opened else None

    def _check_whole(self) -> None:
        """Prompt and response of a probe must read as the whole conversation that the template makes of them.

        Tokens may differ where the tokenizer joins the two, or in white space; other text, more text, or another end of
        the turn, would train the model on what it never reads. A conversation that is refused is refused when it comes.
        """
        shown = self.tools_shown_by == "template"
        messages, tools = response_messages(_PROBED, list_tools=not shown), _PROBED.tools if shown else ()
        try:
            _, after = self._around_response(messages, tools)
            text = self._render([*messages, Message("assistant", _PROBED.response)], tools=tools, answered=True)
        except ChatTemplateError:
            return
        found = self._squeezed((*self.prompt(_PROBED), *self.response(_PROBED.response)[:-1]))
        whole, end = self._squeezed(self._encode(text)), self._squeezed([self.end_token])
        ended = whole == found or whole.startswith(found + end)
        if not ended or self._end(after)[1] != self.end_token:
            advice = "set prompt.tools to `system`, or " if shown else ""
            raise ChatTemplateError(
                f"the chat template of {self._tokenizer.name_or_path or 'the model'} changes what the assistant says, "
                f"or how its turn ends; the model would be trained on what it never reads. "
                f"{advice}use a model with another chat template. It made of {_PROBED.response!r}: {text[-200:]!r}"
            )

    def _squeezed(self, token_ids: Sequence[int]) -> str:
        """The text without white space."""
        return "".join(self._tokenizer.decode(list(token_ids)).split())

    def _closing(self, after: str) -> tuple[tuple[int, ...], tuple[int, int, int, int]]:
        """`after` and the beginning of the answer as token ids, and the four tokens of which one comes next.

        They are cut out of whole answers: most tokenizers join a letter with the space before it, and a model expects
        no letter after a space that stands alone.
        """
        answers = [self._encode(f"{after}{_ANSWER}{letter}") for letter in OPTIONS]
        if len({answer[:-1] for answer in answers}) != 1:
            raise ChatTemplateError("the options A, B, C, D are not single tokens of this tokenizer")
        a, b, c, d = (answer[-1] for answer in answers)
        return answers[0][:-1], (a, b, c, d)

    def _tools_shown_by(self, asked: str) -> Literal["template", "system"]:
        """The template knows tools if its text with a tool differs from that without, and names the tool."""
        turns = [Message("user", "Hello")]
        try:
            shown = self._render(turns, tools=[_PROBE])
            knows_tools = shown != self._render(turns) and str(_PROBE["name"]) in shown
        except ChatTemplateError:
            knows_tools = False
        if asked == "template" and not knows_tools:
            raise ChatTemplateError(
                "prompt.tools is `template`, but the model's chat template does not show tools; set it to `auto` or "
                "`system`"
            )
        return "template" if knows_tools and asked != "system" else "system"

    def _around_response(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> tuple[str, str]:
        """What the template puts before and after an assistant's turn that follows the messages."""
        turns = [*messages, Message("assistant", _RESPONSE)]
        before, found, after = self._render(turns, tools=tools, answered=True).rpartition(_RESPONSE)
        if not found:
            raise ChatTemplateError("the chat template leaves out what the assistant says")
        return before, after

    def _end(self, after: str) -> tuple[str, int]:
        """White space and token that the template ends an assistant's turn with; the end token if it has none."""
        ending = after.lstrip()
        first = self._encode(ending)[:1]
        if first and first[0] in self._tokenizer.added_tokens_decoder:
            return after[: len(after) - len(ending)], first[0]
        return "", int(self._tokenizer.eos_token_id)

    def _render(self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), answered: bool = False) -> str:
        """The template's text; unless it is answered, up to where the assistant begins to speak.

        Turns of the same speaker are joined, because many templates insist that user and assistant alternate.
        """
        turns: list[dict[str, str]] = []
        for message in messages:
            role, content = message.role, message.content
            if role == "tool":
                role, content = "user", f"Result: {content}"
            if turns and turns[-1]["role"] == role != "system" and content != _RESPONSE:
                turns[-1]["content"] += f"\n{content}"
            else:
                turns.append({"role": role, "content": content})
        functions = [{"type": "function", "function": json_schema(tool)} for tool in tools]
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                turns, tools=functions or None, tokenize=False, add_generation_prompt=not answered
            )
        except TemplateError as error:
            raise ChatTemplateError(f"the chat template refuses the conversation: {error}") from error
        return rendered

    def _opening(self, before: str) -> tuple[int, ...]:
        """Token ids of a prompt, as they are when something follows: some tokenizers join line breaks only at the end
        of a text.
        """
        followed, rest = self._encode(f"{before}{self._lead}x"), 0
        while rest < len(followed) and self._tokenizer.decode(list(followed[-rest - 1 :])).strip(" ") == "x":
            rest += 1
        return followed[:-rest] if rest else self._encode(before)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))
