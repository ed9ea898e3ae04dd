"""Messages to token ids, by the model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itool_pipeline.core.prompts import CANDIDATE, OPTIONS, grade_messages, response_messages
from itool_pipeline.core.reward import GradePrompt, Problem
from itool_pipeline.core.types import Example, Message

_ANSWER = "Option "
"""How the answer to the grade prompt begins; one of OPTIONS follows."""


class ChatTemplateError(ValueError):
    """The model's chat template cannot express what the prompts need."""


class Chat:
    """Renders prompts for one tokenizer.

    Raises ChatTemplateError on construction when the tokenizer has no chat template or no end-of-turn token, or when
    an option letter is more than one token.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.chat_template or tokenizer.eos_token_id is None:
            raise ChatTemplateError(
                "the tokenizer has no chat template or no end token; use an instruction-tuned model"
            )
        self._tokenizer = tokenizer
        self.end_token: int = tokenizer.eos_token_id
        """The token that ends the assistant's turn."""
        self._closing("")

    def prompt(self, example: Example) -> tuple[int, ...]:
        """Token ids up to where the assistant's response begins."""
        return self._encode(self._render(response_messages(example)))

    def response(self, text: str) -> tuple[int, ...]:
        """Token ids of a complete response, the end-of-turn token included."""
        return (*self._encode(text), self.end_token)

    def grade(self, example: Example) -> GradePrompt:
        """The self-evaluation prompt (Eq. 7), cut where the candidate goes."""
        before, _, after = self._render(grade_messages(example)).rpartition(CANDIDATE)
        closing, options = self._closing(after)
        return GradePrompt(self._encode(before), closing, options)

    def problem(self, example: Example) -> Problem:
        """What the search needs to know of an example."""
        return Problem(example, self.prompt(example), self.grade(example))

    def text(self, token_ids: Sequence[int]) -> str:
        """Token ids back to text, special tokens left out."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

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

    def _render(self, messages: Sequence[Message]) -> str:
        turns = [
            {"role": "user", "content": f"Result: {m.content}"}
            if m.role == "tool"
            else {"role": m.role, "content": m.content}
            for m in messages
        ]
        rendered: str = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return rendered

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))
