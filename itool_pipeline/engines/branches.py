"""One sampled branch, and the drawing of its next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import Fragment, SampleRequest
from itool_pipeline.engines.types import Sampling

_INCOMPLETE = "\ufffd"
"""What tokenizers decode the beginning of a multi-byte character to."""


def draw_tokens(
    logits: torch.Tensor, uniforms: Any, sampling: Sampling, rows: torch.Tensor | None = None
) -> tuple[list[int], list[float]]:
    """One token for each of `uniforms` [M] in [0, 1) by inverse CDF from its row of `logits` [N, V].

    rows  [M] which row is whose; None where the i-th is that of the i-th number

    Returns token ids, and their natural log-probabilities at temperature 1 over the whole vocabulary.
    """
    top, ids = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1)
    weights = torch.softmax((top / sampling.temperature).double(), dim=-1)
    before = weights.cumsum(-1) - weights
    weights = torch.where(before < sampling.top_p, weights, torch.zeros_like(weights))
    cumulative, logprobs = weights.cumsum(-1), top - logits.logsumexp(-1, keepdim=True)
    if rows is not None:
        cumulative, logprobs, ids = cumulative[rows], logprobs[rows], ids[rows]
    targets = torch.as_tensor(uniforms, device=logits.device)[:, None] * cumulative[:, -1:]
    choice = torch.searchsorted(cumulative, targets, right=True).clamp(max=weights.shape[-1] - 1)
    return ids.gather(-1, choice)[:, 0].tolist(), logprobs.gather(-1, choice)[:, 0].tolist()


def uniform_numbers(request: SampleRequest, limit: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[count, limit] numbers in [0, 1) that depend on the request's seed alone: those that decide its tokens."""
    rng = np.random.Generator(np.random.Philox(key=request.seed))
    return rng.random((request.count, limit))


def cut_response(
    token_ids: Sequence[int], tokenizer: Any, rule: FragmentRule, end_token: int, limit: int
) -> tuple[Fragment, ...]:
    """A response that is there already, its end token included, in the fragments that it would be sampled in.

    limit  the longest fragment, in tokens. They have no log-probabilities. Where a limit below the length of one
           character would stop it, the rest is left out.
    """
    fragments: list[Fragment] = []
    done, text = 0, ""
    while done < len(token_ids):
        branch = Branch(SampleRequest((), tuple(token_ids[:done]), text, 1, seed=0), np.zeros(0))
        for token in token_ids[done:]:
            branch.append(token, 0.0, tokenizer, rule, frozenset({end_token}), last=branch.length + 1 == limit)
            if branch.done:
                break
        fragment = branch.fragment()
        if not fragment.token_ids:
            break
        fragments.append(replace(fragment, logprobs=()))
        done, text = done + len(fragment.token_ids), text + fragment.text
    return tuple(fragments)


class Branch:
    """A fragment in the making. `uniforms` [max_fragment_tokens] decide its tokens.

    tail  so many tokens at the end are the text in which the rule looks for an end, and all that the fragment has;
          None for all of them
    """

    def __init__(
        self, request: SampleRequest, uniforms: np.ndarray[Any, np.dtype[np.float64]], tail: int | None = None
    ) -> None:
        self._request, self._tail = request, tail
        self.uniforms = uniforms
        self.done = False
        self._finished = False
        self._token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._text = ""

    @property
    def length(self) -> int:
        """Tokens drawn so far."""
        return len(self._token_ids)

    @property
    def last_token(self) -> int:
        """The token drawn last."""
        return self._token_ids[-1]

    def append(
        self, token: int, logprob: float, tokenizer: Any, rule: FragmentRule, end_tokens: frozenset[int], last: bool
    ) -> None:
        """Take a token; the branch is done at a termination character, the end of the turn, or the `last` token."""
        self._token_ids.append(token)
        self._logprobs.append(logprob)
        if token in end_tokens:
            self.done = self._finished = True
            return
        self._text = self._decode(tokenizer)
        start = len(self._request.response_text)
        whole = not self._text.endswith(_INCOMPLETE)
        self.done = last or (whole and rule.ends_within(self._text, start))
        if self.done:
            self._drop_incomplete(tokenizer)

    def _decode(self, tokenizer: Any) -> str:
        ids = [*self._request.response, *self._token_ids][-(self._tail or 0) :]
        text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _drop_incomplete(self, tokenizer: Any) -> None:
        """Cut the tokens of a character that was not completed, so that texts and tokens stay in step."""
        while self._token_ids and self._text.endswith(_INCOMPLETE):
            self._token_ids.pop()
            self._logprobs.pop()
            self._text = self._decode(tokenizer)

    def fragment(self, end_token: int | None = None) -> Fragment:
        """What was sampled; without tokens if nothing of it could be kept.

        `end_token` stands for whichever token ended the turn: what is trained on ends as the chat template does.
        """
        text = self._text[len(self._request.response_text) :] if self._text else ""
        token_ids = tuple(self._token_ids)
        if self._finished and end_token is not None:
            token_ids = (*token_ids[:-1], end_token)
        return Fragment(token_ids, text, tuple(self._logprobs), self._finished)
