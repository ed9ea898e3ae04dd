"""The same search without an engine of its own: transformers' `generate` for a node, a forward pass for an evaluation.

Nothing is kept between calls. A node's fragments are the `num_return_sequences` of one `generate` call on the whole
prompt and path; a candidate's grade is read of one forward pass over its whole evaluation prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import Fragment, GradeRequest, PolicyInRounds, SampleRequest, ScoreRequest
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.types import Sampling

_INCOMPLETE = "\ufffd"
"""What the beginning of a character is decoded to."""


class FragmentReader:
    """Reads fragments out of sampled tokens: where they end, and their texts."""

    def __init__(self, tokenizer: Any, rule: FragmentRule, end_tokens: frozenset[int], end_token: int) -> None:
        self._tokenizer, self._rule = tokenizer, rule
        self.end_tokens, self._end_token = end_tokens, end_token

    def text(self, token_ids: Sequence[int]) -> str:
        """Special tokens included, as the engine reads them."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def ends_with(self, request: SampleRequest, drawn: Sequence[int]) -> bool:
        """Whether the last of the tokens ends the turn, or a fragment of `request`."""
        if drawn[-1] in self.end_tokens:
            return True
        text = self.text([*request.response, *drawn])
        return not text.endswith(_INCOMPLETE) and self._rule.ends_within(text, len(request.response_text))

    def fragment(self, request: SampleRequest, drawn: Sequence[int], logprobs: Sequence[float]) -> Fragment:
        """The fragment that `drawn` begins with; what was drawn behind its end is left out."""
        ends = (n for n in range(1, len(drawn) + 1) if self.ends_with(request, drawn[:n]))
        own = list(drawn[: next(ends, len(drawn))])
        finished = own[-1] in self.end_tokens
        said = own[:-1] if finished else own
        while not finished and said and self.text([*request.response, *said]).endswith(_INCOMPLETE):
            said = said[:-1]
        text = self.text([*request.response, *said])[len(request.response_text) :] if said else ""
        token_ids = (*said, self._end_token) if finished else tuple(said)
        return Fragment(token_ids, text, tuple(logprobs[: len(token_ids)]), finished)


class _EachEnds(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, reader: FragmentReader, request: SampleRequest) -> None:
        self._reader, self._request = reader, request
        self._start = len(request.prompt) + len(request.response)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        drawn = input_ids[:, self._start :].tolist()
        ended = [any(self._reader.ends_with(self._request, row[:n]) for n in range(1, len(row) + 1)) for row in drawn]
        return torch.tensor(ended, device=input_ids.device)


class NaivePolicy(PolicyInRounds):
    """The policy by transformers alone. Its random numbers are torch's, from a request's seed."""

    def __init__(self, loaded: LoadedModel, rule: FragmentRule, sampling: Sampling, *, end_token: int) -> None:
        self._model, self._sampling = loaded.model, sampling
        self._reader = FragmentReader(loaded.tokenizer, rule, loaded.end_tokens | {end_token}, end_token)

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Fragment]]:
        """Fragments of each request, one request after the other."""
        return [self._sample(request) for request in requests]

    def grade(self, requests: Sequence[GradeRequest]) -> list[list[tuple[float, ...]]]:
        """The options' log-probabilities, by a forward pass over the whole evaluation prompt of each candidate."""
        return [[self._grade(request, candidate) for candidate in request.candidates] for request in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[list[tuple[float, ...]]]:
        """Log-probabilities of each continuation, by a forward pass of its own."""
        return [
            [self._score(request.prompt, continuation) for continuation in request.continuations]
            for request in requests
        ]

    def _grade(self, request: GradeRequest, candidate: tuple[int, ...]) -> tuple[float, ...]:
        log_probs = self._log_probs((*request.prompt, *candidate, *request.after), 1)[0]
        return tuple(float(log_probs[option]) for option in request.options)

    def _score(self, prompt: tuple[int, ...], continuation: tuple[int, ...]) -> tuple[float, ...]:
        log_probs = self._log_probs((*prompt, *continuation[:-1]), len(continuation))
        return tuple(float(row[token]) for row, token in zip(log_probs, continuation, strict=True))

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _log_probs(self, token_ids: tuple[int, ...], last: int) -> Tensor:
        """[last, V]: after each of the last places."""
        logits = self._model(torch.tensor([token_ids]), logits_to_keep=last, use_cache=False).logits
        log_probs: Tensor = logits[0].float().log_softmax(-1)
        return log_probs

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _sample(self, request: SampleRequest) -> list[Fragment]:
        ids, s = torch.tensor([[*request.prompt, *request.response]]), self._sampling
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            made = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=s.temperature,
                top_k=s.top_k,
                top_p=s.top_p,
                num_return_sequences=request.count,
                max_new_tokens=s.max_fragment_tokens,
                eos_token_id=sorted(self._reader.end_tokens),
                pad_token_id=min(self._reader.end_tokens),
                stopping_criteria=StoppingCriteriaList([_EachEnds(self._reader, request)]),
                output_logits=True,
                return_dict_in_generate=True,
            )
        drawn = made.sequences[:, ids.shape[1] :]
        logprobs = torch.stack(made.logits, 1).float().log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
        return [self._reader.fragment(request, *row) for row in zip(drawn.tolist(), logprobs.tolist(), strict=True)]
