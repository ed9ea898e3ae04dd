"""How an engine draws: the fragments of the search, and whole answers, which are fragments too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import Fragment, SampleRequest, Task
from itool_pipeline.engines.types import Sampling

_CHARACTER = 4
"""Bytes that a character may have."""


@dataclass(frozen=True, slots=True)
class EndsBehind(FragmentRule):
    """A fragment ends behind this text, and nowhere before."""

    mark: str = ""

    def ends(self, text: str) -> Iterator[int]:
        at = text.find(self.mark)
        if at >= 0:
            yield at + len(self.mark)


@dataclass(frozen=True, slots=True)
class Drawing:
    """How fragments are drawn, and where they end.

    end_token   stands at the end of a finished fragment, whichever token ended it; None for that token itself
    end_tokens  all tokens that end the turn
    tail        tokens at the end of a text that tell where it ends; None for all of them
    """

    tokenizer: Any
    rule: FragmentRule
    sampling: Sampling
    end_token: int | None
    end_tokens: frozenset[int]
    tail: int | None = None

    def of_answers(self, max_new_tokens: int, until: str = "") -> Drawing:
        """The same for whole answers: the likeliest token, again and again, and no termination character ends one.

        until  a text behind which they end too; none where it is empty
        """
        greedy = Sampling(temperature=1.0, top_k=1, max_fragment_tokens=max_new_tokens)
        if not until:
            return replace(self, rule=FragmentRule(""), sampling=greedy)
        # Thoughts are long, and decoded anew with each token; no token has less than a byte.
        return replace(self, rule=EndsBehind(mark=until), sampling=greedy, tail=len(until.encode()) + _CHARACTER)


def whole_answer(prompt: tuple[int, ...]) -> Task[tuple[int, ...]]:
    """The answer to the prompt, drawn as `Drawing.of_answers` says.

    The end token is not part of it, nor is the beginning of a character that the limit cuts in two.
    """
    answers: list[list[Fragment]] = yield (SampleRequest(prompt, (), "", 1, seed=0),)
    ((fragment,),) = answers
    return fragment.token_ids[:-1] if fragment.finished else fragment.token_ids
