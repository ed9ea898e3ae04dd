"""Messages to token ids, by the model's own chat template.

A prompt is the text that the template puts before an assistant's turn, and a response what it puts from there on to
the token that ends the turn. So prompt and response together are what the model would read of the whole conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import syntax_named
from itool_pipeline.calls.tool_schema import Tool
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import Fragment
from itool_pipeline.core.prompts import CANDIDATE, OPTIONS, grade_messages
from itool_pipeline.core.reward import GradePrompt
from itool_pipeline.core.types import Example, Message
from itool_pipeline.engines.chat_template import ChatTemplate, written_syntax
from itool_pipeline.engines.template_probe import probed
from itool_pipeline.engines.template_rendering import ChatTemplateError, Place
from itool_pipeline.engines.thinking import ThinkingTemplate, ThoughtSpan

_ANSWER = "Option "
"""How the answer to the grade prompt begins; one of OPTIONS follows."""

_PROBED_WORDS = "It says <one> & two."

Calls = Literal["python", "hermes", "llama3_json", "auto"]
"""The names of `calls.syntaxes`; or what the template writes, Python where that is none of them."""


class Chat:
    """Renders prompts for one tokenizer.

    tools     `template` shows them by the chat template, `system` as JSON in the system message, `auto` by the template
              where it shows them
    calls     how the model writes calls
    thinking  whether the model thinks before it answers: prompts then end behind thoughts, see `thoughts`

    Raises ChatTemplateError on construction when the tokenizer has no end-of-turn token, when its template can show a
    whole conversation in no way, when it is asked to show tools and cannot, when an option letter is more than one
    token, or when prompt and response together are not what the template makes of a whole conversation.
    """

    def __init__(
        self,
        tokenizer: Any,
        tools: Literal["auto", "template", "system"] = "auto",
        calls: Calls = "python",
        *,
        thinking: bool = False,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ChatTemplateError("the tokenizer has no end token (eos_token); use an instruction-tuned model")
        self._tokenizer = tokenizer
        self.syntax: CallSyntax = written_syntax(tokenizer) if calls == "auto" else syntax_named(calls)
        """How the model writes calls."""
        self._graded = ChatTemplate(tokenizer, tools, self.syntax)
        own = ThinkingTemplate(tokenizer, tools, self.syntax) if thinking else None
        self._template = own or self._graded
        self._left_out = self._special_tokens_that_are_no_text()
        before, after = self._template.around_response([Message("user", "Hello")])
        self._before = before.rstrip(" ")
        self._lead = before[len(self._before) :]
        self._trail, end = self._end(after)
        self.end_token: int = end
        """The token that ends the assistant's turn."""
        self._opened = self._opening(self._before)
        self.thoughts: ThoughtSpan | None = ThoughtSpan(tokenizer, own, self._opening) if own else None
        """Where prompts have thoughts, which are empty ones; None where the model answers without."""
        self._closing("")
        for response in (probed(self.syntax).response, _PROBED_WORDS):
            self._check_whole(response)

    @property
    def template(self) -> ChatTemplate:
        """The model's chat template, and how it is used."""
        return self._template

    @property
    def tools_shown_by(self) -> Place:
        """How the prompts show the tools."""
        return self._template.tools_shown_by

    @property
    def is_untouched(self) -> bool:
        """Whether the template itself tells the model how to call, and prompts hold nothing of ours."""
        return self._template.is_untouched

    @property
    def has_system_role(self) -> bool:
        """Whether the system text has a role of its own; else it goes before the user's words that follow it."""
        return self._template.has_system_role

    def prompt(self, example: Example) -> tuple[int, ...]:
        """Token ids up to where the assistant's response begins. Raises ChatTemplateError, with the example's id.

        Every text of the conversation is in it; a control token in a text is spelled in ordinary tokens.
        Spaces at the end belong to the response: most tokenizers join a space with the word after it, and a model
        expects no word after a space that stands alone.
        """
        messages, tools = self._template.asked(example)
        return self._opening(self._prompt_text(example, messages, tools).rstrip(" "))

    def begun(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        """Of a prompt what a model goes on from by itself: all of it, or where it thinks that up to its thoughts."""
        return prompt if self.thoughts is None else self.thoughts.begun(prompt)

    def response(self, text: str) -> tuple[int, ...]:
        """Token ids of a complete response, the end-of-turn token included.

        They are cut out of a whole conversation, for a text can have other tokens there than by itself. Where the
        tokenizer joins the end of the prompt and the beginning of the response, the response is taken by itself: so
        it follows a prompt when the model generates.

        Raises ChatTemplateError for a text with a control token: no model can be taught to say it as text.
        """
        control = self.control_token_in(text)
        if control is not None:
            raise ChatTemplateError(f"the answer holds the control token {control}")
        own = f"{self._lead}{text}{self._trail}"
        within = self._within(own)
        return (*(self._encode(own) if within is None else within), self.end_token)

    def control_token_in(self, text: str) -> str | None:
        """The first control token of the template's in a response; those that mark its calls are none."""
        return self._template.control.found_in(text, said=True)

    def tokenised_alone(self, text: str) -> bool:
        """Whether the response had to be taken by itself."""
        return self._within(f"{self._lead}{text}{self._trail}") is None

    def holds_control_tokens(self, example: Example) -> bool:
        """Whether a text of the conversation or of a tool holds a control token, which its prompt spells out."""
        found, said = self._template.control.found_in, "assistant"
        in_turns = any(found(message.content, said=message.role == said) for message in example.messages)
        return in_turns or any(found(str(tool)) for tool in example.tools)

    def grade(self, example: Example) -> GradePrompt:
        """The self-evaluation prompt (Eq. 7), cut where the candidate goes. Raises ChatTemplateError.

        It is graded without thoughts, and none are in the candidate.
        """
        before, _, after = self._prompt_text(example, grade_messages(example), by=self._graded).rpartition(CANDIDATE)
        closing, options = self._closing(after)
        return GradePrompt(self._encode(before), closing, options)

    def fragments(self, response: Sequence[int], rule: FragmentRule, limit: int) -> tuple[Fragment, ...]:
        """The token ids of a response, its end token included, in the fragments that the search would draw them in."""
        from itool_pipeline.engines.branches import cut_response  # torch

        return cut_response(response, self._tokenizer, rule, self.end_token, limit)

    def text(self, token_ids: Sequence[int]) -> str:
        """Token ids back to text, special tokens left out but for those that mark calls."""
        if self._left_out is not None:
            kept = [token for token in token_ids if token not in self._left_out]
            return str(self._tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _special_tokens_that_are_no_text(self) -> frozenset[int] | None:
        """The special tokens but those that mark calls; None where no special token does."""
        special = {key: token.content for key, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        if not set(special.values()) & set(self.syntax.tokens):
            return None
        return frozenset(key for key, content in special.items() if content not in self.syntax.tokens)

    def _prompt_text(
        self, example: Example, messages: Sequence[Message], tools: Sequence[Tool] = (), by: ChatTemplate | None = None
    ) -> str:
        try:
            return (by or self._template).prompt_text(messages, tools)
        except ChatTemplateError as error:
            raise ChatTemplateError(error.reason, example=example.id, words=error.words) from error

    def _within(self, own: str) -> tuple[int, ...] | None:
        """Token ids of `own` after a prompt; None where the tokenizer joins it with the prompt's end."""
        whole = self._encode(self._before + own)
        return whole[len(self._opened) :] if whole[: len(self._opened)] == self._opened else None

    def _check_whole(self, response: str) -> None:
        """Prompt and response of a probe must read as the whole conversation that the template makes of them.

        Tokens may differ where the tokenizer joins the two, or in white space; other text, more text, or another end of
        the turn, would train the model on what it never reads. Where the template itself shows the prompt in another
        way once it is answered, this holds from the last question on.
        """
        example = probed(self.syntax)
        messages, tools = self._template.asked(example)
        text = self._template.answered_text(messages, response, tools)
        _, after = self._template.around_response(messages, tools)
        found = self._squeezed((*self.prompt(example), *self.response(response)[:-1]))
        whole, end = self._squeezed(self._encode(text)), self._squeezed([self.end_token])
        if not self._template.is_cut_out:
            asked = "".join(messages[-1].content.split())
            found, whole = found.rpartition(asked)[2], whole.rpartition(asked)[2]
        ended = whole == found or whole.startswith(found + end)
        if not ended or self._end(after)[1] != self.end_token:
            advice = "set prompt.tools to `system`, or " if self.tools_shown_by == "template" else ""
            raise ChatTemplateError(
                f"{self._template.name} changes what the assistant says, or how its turn ends; the model would be "
                f"trained on what it never reads. {advice}use a model with another chat template. "
                f"It made of {response!r}: {text[-200:]!r}"
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

    def _end(self, after: str) -> tuple[str, int]:
        """White space and token that the template ends an assistant's turn with; the end token if it has none."""
        ending = after.lstrip()
        first = self._encode(ending)[:1]
        if first and first[0] in self._tokenizer.added_tokens_decoder:
            return after[: len(after) - len(ending)], first[0]
        return "", int(self._tokenizer.eos_token_id)

    def _opening(self, before: str) -> tuple[int, ...]:
        """Token ids of a prompt, as they are when something follows: some tokenizers join line breaks only at the end
        of a text.
        """
        followed, rest = self._encode(f"{before}{self._lead}x"), 0
        while rest < len(followed) and self._tokenizer.decode(list(followed[-rest - 1 :])).strip(" ") == "x":
            rest += 1
        return followed[:-rest] if rest else self._encode(before)

    def _encode(self, text: str) -> tuple[int, ...]:
        return self._template.control.encode(text)
