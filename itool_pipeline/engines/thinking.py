"""The thoughts of a model that reasons: a span of its own between the prompt and the answer.

How such a span begins and ends is probed from the chat template: by what it makes of an answer with thoughts, by the
empty thoughts of its other mode, or by the tag with which it opens an answer. A prompt is then the text up to the
answer, behind thoughts that are empty; `ThoughtSpan` puts others in their place. So thoughts are part of what an answer
is given: nothing that is cut into fragments, trained on or judged holds any of them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.tool_schema import Tool
from itool_pipeline.core.types import Message
from itool_pipeline.engines.chat_template import ChatTemplate
from itool_pipeline.engines.template_probe import LAST, probed
from itool_pipeline.engines.template_rendering import RESPONSE, ChatTemplateError

_THOUGHTS = "\u241fthoughts\u241f"
"""Stands where thoughts go; never part of a real conversation."""
_KEYS = ("reasoning_content", "thinking", "reasoning")
"""Under which templates look for what an assistant's turn thought."""
_PROBED_THOUGHTS = "First <one> & two.\n\nThen three."
_TAG = r"(?:<[^<>\s]+>|\[[^\[\]\s]+\])"
_EMPTY = re.compile(rf"(?P<opening>{_TAG})(?P<gap>\s*)(?P<closing>{_TAG})(?P<after>\s*)")
_OPENED = re.compile(rf"(?P<tag>{_TAG})(?P<gap>\s*)\Z")


@dataclass(frozen=True, slots=True)
class ThoughtForm:
    """How a template writes thoughts; all of it text.

    replaced  what it puts between the beginning of the turn and an answer without thoughts; the span takes its place
    opening   what stands before the thoughts
    closing   what stands between them and the answer
    """

    replaced: str
    opening: str
    closing: str


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What a model thought before an answer.

    text    without the tags
    tokens  that were drawn for it, those of the closing tag included
    closed  whether the model ended it; else the answer follows where its budget or the model's turn ended
    """

    text: str
    tokens: int
    closed: bool


class ThinkingTemplate(ChatTemplate):
    """A chat template in its mode with thoughts: every answer stands behind thoughts, which are empty.

    Raises ChatTemplateError where the template writes no thoughts.
    """

    def __init__(
        self,
        tokenizer: Any,
        tools: Literal["auto", "template", "system"] = "auto",
        syntax: CallSyntax = PYTHON_CALLS,
    ) -> None:
        super().__init__(tokenizer, tools, syntax, thinking=True)
        self.form = self._probed_form(ChatTemplate(tokenizer, self.tools_shown_by, syntax))

    @property
    def opening(self) -> tuple[str, str]:
        return self.form.replaced, self.form.opening

    def around_response(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> tuple[str, str]:
        before, after = super().around_response(messages, tools)
        return self._behind_thoughts(before), after

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        before = super().prompt_text(messages, tools)
        # Where the prompt is cut out of the answered conversation, `around_response` has put them there.
        return before if self.is_cut_out else self._behind_thoughts(before)

    def answered_text(self, messages: Sequence[Message], response: str, tools: Sequence[Tool] = ()) -> str:
        text = super().answered_text(messages, response, tools)
        before, _ = super().around_response(messages, tools)
        return self._behind_thoughts(before) + text.removeprefix(before) if text.startswith(before) else text

    def before_thoughts(self, prompt: str) -> str:
        """Of a prompt's text what stands before its thoughts."""
        return prompt.removesuffix(self.form.closing)

    def _behind_thoughts(self, before: str) -> str:
        replaced, opening, closing = self.form.replaced, self.form.opening, self.form.closing
        if not before.endswith(replaced):
            raise ChatTemplateError(
                f"{self.name} begins answers in different ways, so thoughts have no place of their own"
            )
        return before.removesuffix(replaced) + opening + closing

    def _probed_form(self, without: ChatTemplate) -> ThoughtForm:
        """The form, by the first of three signs of it. `without` is the same template in its mode without thoughts."""
        messages, tools = self._probe()
        answered = _ending(self.rendering.around(messages, tools)[0])
        opened, opened_without = (_ending(template.opened_text(messages, tools)) for template in (self, without))
        form = (
            self._by_an_answer_with_thoughts(answered)
            or self._by_an_opened_answer(answered, opened, opened_without)
            or _by_empty_thoughts(answered, opened, opened_without)
        )
        if form is None:
            raise ChatTemplateError(
                f"prompt.thinking is on, and {self.name} knows no thoughts: it shows none that a turn has "
                "(reasoning_content), opens none, and has no mode with them. Set prompt.thinking to off, or use a "
                "model that reasons"
            )
        return form

    def _by_an_answer_with_thoughts(self, answered: str) -> ThoughtForm | None:
        """By what it makes of a turn with thoughts."""
        for key in _KEYS:
            try:
                begun, shown, closing = self._answered_with(key, _THOUGHTS).partition(_THOUGHTS)
                if not shown or self._answered_with(key, _PROBED_THOUGHTS) != f"{begun}{_PROBED_THOUGHTS}{closing}":
                    continue
            except ChatTemplateError:
                continue
            shared = _shared_length(begun, answered)
            return ThoughtForm(answered[shared:], begun[shared:], closing)
        return None

    def _by_an_opened_answer(self, answered: str, opened: str, without: str) -> ThoughtForm | None:
        """By the tag with which its prompts end. Its counterpart is known from the answer that it shows, or from its
        mode without thoughts; else it is the same tag with a slash, which the template or the tokenizer must know.
        """
        tag = _OPENED.search(opened)
        if tag is None or opened == answered:
            return None
        shared = _shared_length(opened, answered)
        opening, replaced = opened[shared:], answered[shared:]
        name, gap = f"{tag['tag'][0]}/{tag['tag'][1:]}", tag["gap"]
        if without.startswith(opened) and without.removeprefix(opened).strip():
            return ThoughtForm(replaced, opening, without.removeprefix(opened))
        if name in answered:
            return ThoughtForm(replaced, opening, gap + answered[answered.rindex(name) :])
        known = name in str(self._tokenizer.chat_template) or name in self._tokenizer.get_vocab()
        return ThoughtForm(replaced, opening, f"{gap}{name}{gap * 2}") if known else None

    def _answered_with(self, key: str, thoughts: str) -> str:
        """What stands between question and answer where the answer has these thoughts under the key."""
        messages, tools = self._probe()
        turns = [*messages, Message("assistant", RESPONSE)]
        text = self.rendering.text(turns, tools, answered=True, last={key: thoughts})
        return _ending(text).partition(RESPONSE)[0]

    def _probe(self) -> tuple[tuple[Message, ...], Sequence[Tool]]:
        return self.asked(probed(self.syntax))


def _shared_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items the two begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _ending(text: str) -> str:
    """Of the probe's text what follows the last question."""
    return text.rpartition(LAST)[2]


def _by_empty_thoughts(answered: str, opened: str, without: str) -> ThoughtForm | None:
    """By the empty thoughts that its prompts have in the mode without thoughts."""
    found = _EMPTY.fullmatch(without.removeprefix(opened))
    if found is None or not answered.startswith(opened):
        return None
    half = len(found["gap"]) // 2
    opening, closing = found["opening"] + found["gap"][:half], found["gap"][half:] + found["closing"] + found["after"]
    return ThoughtForm(answered.removeprefix(opened), opening, closing)


class ThoughtSpan:
    """Thoughts in prompts, as token ids; a prompt comes with empty ones.

    encode  token ids of a prompt's text
    mark    the text that ends thoughts, as a model writes it
    """

    def __init__(self, tokenizer: Any, template: ThinkingTemplate, encode: Callable[[str], tuple[int, ...]]) -> None:
        self._tokenizer, self._control, self._encode = tokenizer, template.control, encode
        self._closing = template.form.closing
        self.mark = _first_mark(tokenizer, self._closing.strip())
        before, _ = template.around_response([Message("user", "Hello")])
        self._before = template.before_thoughts(before)
        empty, begun = encode(before.rstrip(" ")), encode(self._before)
        self._shared = _shared_length(empty, begun)
        self._kept, self._empty, self._begun = begun[: self._shared], empty[self._shared :], begun[self._shared :]

    def begun(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        """The prompt up to where the model thinks."""
        return self._without_empty(prompt) + self._begun

    def filled(self, prompt: tuple[int, ...], thoughts: str) -> tuple[int, ...]:
        """The prompt behind these thoughts, in the tokens that the template gives them."""
        text = self._control.broken(thoughts.strip())
        whole = self._encode(f"{self._before}{text}{self._closing}".rstrip(" "))
        if whole[: self._shared] == self._kept:
            return self._without_empty(prompt) + whole[self._shared :]
        return self.begun(prompt) + self._control.encode(text) + self._control.encode(self._closing.rstrip(" "))

    def read(self, token_ids: Sequence[int]) -> Thoughts:
        """The thoughts among tokens that were drawn after `begun`."""
        text = self._tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        thoughts, found, _ = text.partition(self.mark)
        return Thoughts(thoughts.strip(), len(token_ids), bool(found))

    def behind(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """Of tokens drawn after `begun`, without a stop, those behind the thoughts; none where these do not end."""
        # Each look decodes all tokens up to there, and thoughts are long: some ten looks, not one for each token.
        ends = range(1, len(token_ids) + 1)
        closed = bisect_left(ends, True, key=lambda end: self.read(token_ids[:end]).closed)
        return tuple(token_ids[closed + 1 :])

    @property
    def gap(self) -> str:
        """The white space between the mark and the answer."""
        return self._closing.partition(self.mark)[2]

    def _without_empty(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        if prompt[-len(self._empty) :] != self._empty:
            raise ChatTemplateError("a prompt does not end in empty thoughts, so none can be put in their place")
        return prompt[: -len(self._empty)]


def _first_mark(tokenizer: Any, closing: str) -> str:
    """What ends thoughts for certain: the closing's first token if it is one of its own, or its first tag."""
    first = tokenizer.encode(closing, add_special_tokens=False)[0]
    if first in tokenizer.added_tokens_decoder:
        return str(tokenizer.added_tokens_decoder[first].content)
    tag = re.match(_TAG, closing)
    return tag.group() if tag else closing
