"""A model's chat template as text: how it is to be handed a conversation so that the prompt holds all of it.

Templates differ in what they can say. Some refuse the system role (Gemma 1 and 2), some show the system text only
where the model is about to speak (Mistral), some want content in parts, some know no tools. What the model's own can
do is probed once, on a conversation with all of this in it, and every prompt is then made in that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import SYNTAXES
from itool_pipeline.calls.tool_schema import Tool
from itool_pipeline.core.types import Example, Message
from itool_pipeline.engines.control_tokens import ControlTokens
from itool_pipeline.engines.template_probe import probed_bridge, writes_several
from itool_pipeline.engines.template_rendering import (
    ChatTemplateError,
    Handling,
    Place,
    Rendering,
    handlings,
    require_whole,
)


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
        self.rendering, self.bridge = self._chosen(tools)
        """`bridge` is what stands between the prompt that the template makes and the response."""

    @property
    def handling(self) -> Handling:
        """How conversations are handed to the template."""
        return self.rendering.handling

    @property
    def switches(self) -> dict[str, bool]:
        """How the template is asked for the mode with thoughts or without."""
        return self.rendering.switches

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
        return self.handling.tools

    @property
    def is_untouched(self) -> bool:
        """Whether the template itself tells the model how to call, and prompts hold nothing of ours."""
        return self.handling.calls

    @property
    def hands_over_several(self) -> bool:
        """Whether several calls of one turn are handed to the template as such; Llama's refuse them, and get text."""
        return self.rendering.several

    @property
    def has_system_role(self) -> bool:
        """Whether the system text has a role of its own; else it goes before the user's words that follow it."""
        return self.handling.system

    @property
    def is_cut_out(self) -> bool:
        """Whether a prompt is cut out of the answered conversation, which then begins with it."""
        return self.handling.answered

    @property
    def name(self) -> str:
        """Whose template it is, for messages."""
        return f"the chat template of {self._tokenizer.name_or_path or 'the model'}"

    def asked(self, example: Example) -> tuple[tuple[Message, ...], Sequence[Tool]]:
        """What the template is to show of an example: its turns with our instructions, if any, and its tools, if so."""
        return self.rendering.asked(example)

    def around_response(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> tuple[str, str]:
        """What stands before and after an assistant's turn that follows the messages, by the answered conversation."""
        return self.rendering.around(messages, tools)

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """The text up to the assistant's response, which holds every text of the messages and each tool's name.

        Control tokens in these texts are broken by BREAK. Raises ChatTemplateError.
        """
        messages = self.rendering.canonical(messages)
        if self.handling.answered:
            before, _ = self.around_response(messages, tools)
        else:
            before = self.rendering.text(messages, tools, answered=False) + self.bridge
        require_whole(before, messages, (str(tool["name"]) for tool in tools))
        return before

    def opened_text(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """The text with which the template itself asks the assistant to speak."""
        return self.rendering.text(messages, tools, answered=False)

    def answered_text(self, messages: Sequence[Message], response: str, tools: Sequence[Tool] = ()) -> str:
        """The text of the whole conversation, answered."""
        return self.rendering.text([*messages, Message("assistant", response)], tools, answered=True)

    def _chosen(self, asked: str) -> tuple[Rendering, str]:
        """The first way in which the probe is shown whole, and its bridge."""
        reasons: list[str] = []
        places: tuple[Place, ...] = ("system",) if asked == "system" else ("template", "system")
        for handling in handlings(places, calls=self.syntax is not PYTHON_CALLS):
            rendering = Rendering(self._tokenizer, self.syntax, self.control, self._thinking, handling)
            try:
                bridge = probed_bridge(rendering)
            except ChatTemplateError as error:
                reasons += [str(error)] if handling.tools == "system" else []
                continue
            if asked == "template" and handling.tools != asked:
                raise ChatTemplateError(
                    "prompt.tools is `template`, but the model's chat template does not show tools with all their "
                    "parameters; set it to `auto` or `system`"
                )
            return replace(rendering, several=not handling.calls or writes_several(rendering)), bridge
        tried = "; or otherwise: ".join(dict.fromkeys(reasons)).rstrip(".")
        raise ChatTemplateError(
            f"{self.name} cannot show the model a whole conversation, with system text, turns and results: {tried}. "
            f"Use an instruction-tuned model with another chat template"
        )


def written_syntax(tokenizer: Any) -> CallSyntax:
    """The syntax in which the tokenizer's chat template writes calls; Python's where it writes none that we know.

    Raises ChatTemplateError as ChatTemplate does.
    """
    for syntax in SYNTAXES.values():
        if syntax is not PYTHON_CALLS and ChatTemplate(tokenizer, "auto", syntax).is_untouched:
            return syntax
    return PYTHON_CALLS
