"""Keeps what people write apart from what the chat template writes.

`<|im_end|>` in a question is text. Left to the tokenizer it would end the turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

BREAK = "\ufdd0"
"""Breaks a control token that stands in a text. Unicode keeps it for such use: it is no character of any text."""

_ALWAYS = re.compile(r"<[|｜].*[|｜]>")
"""An added token of this form is a control token, though the template builds it out of pieces."""


class ControlTokens:
    """The tokens by which one tokenizer's chat template parts and ends turns.

    They are its special tokens, and of its other added tokens those that the template writes: some tokenizers have
    line breaks, words or HTML tags among these, which are text.

    own  those that a model writes itself when it makes calls: in what an assistant says, and in our instructions, they
         are what they are
    """

    def __init__(self, tokenizer: Any, own: Collection[str] = ()) -> None:
        self._tokenizer = tokenizer
        template = tokenizer.chat_template
        written = "\n".join(template.values()) if isinstance(template, dict) else str(template)
        added = tokenizer.added_tokens_decoder.values()
        texts = [token.content for token in added if token.special or _is_control(token.content, written)]
        self._any = _any_of(texts)
        self._not_own = _any_of([text for text in texts if text not in own])
        self._line_break = tuple(tokenizer.encode("\n", add_special_tokens=False))

    def found_in(self, text: str, *, said: bool = False) -> str | None:
        """The first control token in the text; `said`: by an assistant, whose own tokens are none."""
        found = (self._not_own if said else self._any).search(text)
        return found.group() if found else None

    def broken(self, text: str, *, said: bool = False) -> str:
        """The text with a BREAK in every control token; `said`: by an assistant, or by us."""
        pattern = self._not_own if said else self._any
        return (
            re.sub(f"(?={pattern.pattern})(.)", rf"\1{BREAK}", text, flags=re.DOTALL) if pattern.search(text) else text
        )

    def broken_values(self, value: Any) -> Any:
        """JSON with a BREAK in every control token of its texts."""
        return self._broken_json(value) if self._any.search(json.dumps(value, ensure_ascii=False)) else value

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of the text, without the breaks: what they break is spelled in ordinary tokens."""
        first, *others = text.split(BREAK)
        ids = list(self._tokenizer.encode(first, add_special_tokens=False))
        for piece in others:
            ids += self._encode_continued(piece)
        return tuple(ids)

    def _encode_continued(self, piece: str) -> list[int]:
        """Some tokenizers put a space before a text; after a line break they put none."""
        ids: list[int] = self._tokenizer.encode(f"\n{piece}", add_special_tokens=False)
        before = len(self._line_break)
        if tuple(ids[:before]) == self._line_break:
            return ids[before:]
        return list(self._tokenizer.encode(piece, add_special_tokens=False))

    def _broken_json(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.broken(value)
        if isinstance(value, Mapping):
            return {self.broken(str(key)): self._broken_json(inner) for key, inner in value.items()}
        return [self._broken_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """What finds the longest of the texts; single characters are none of them."""
    longest_first = sorted((text for text in texts if len(text) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _is_control(token: str, template: str) -> bool:
    """Whether the template writes the added token, and it is neither white space nor a word."""
    return bool(_ALWAYS.fullmatch(token)) or (token in template and bool(token.strip()) and not token.isalnum())
