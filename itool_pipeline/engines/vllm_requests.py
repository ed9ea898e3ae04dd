"""What is asked of vLLM for a request of the search, and how its answer is put together from what comes back.

Nothing here needs vLLM. Where a fragment ends is for `Branch` to say, token by token, as in the engine on
transformers: vLLM's stop strings know nothing of the syntax of calls. What it has sampled beyond that is left out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itool_pipeline.core.policy import Fragment, GradeRequest, Request, SampleRequest, ScoreRequest
from itool_pipeline.engines.branches import Branch, uniform_numbers
from itool_pipeline.engines.drawing import Drawing

DRAWS = "itool_draws"
"""The key in `SamplingParams.extra_args` under which a text's draws travel (see engines/vllm_draws.py)."""


@dataclass(frozen=True, slots=True)
class CoreRequest:
    """One text for vLLM to go on with.

    prompt      token ids
    max_tokens  how many tokens it samples at most
    options     further arguments of vLLM's `SamplingParams`
    """

    prompt: tuple[int, ...]
    max_tokens: int
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CoreOutput:
    """What has become of one text in one step.

    tokens           ids that were sampled
    logprobs         at each of them the log-probabilities that were asked for, by token, its own among them
    prompt_logprobs  for a request that asks for it, the log-probability of each token of the prompt but the first
    finished         whether nothing more will come
    """

    tokens: Sequence[int]
    logprobs: Sequence[Mapping[int, float]]
    prompt_logprobs: Sequence[float] = ()
    finished: bool = False


class CoreAnswer(ABC):
    """The answer to a request in the making: `texts` are what vLLM is asked, one after the other."""

    texts: list[CoreRequest]

    @abstractmethod
    def take(self, index: int, output: CoreOutput) -> bool:
        """Take an output for `texts[index]`. Returns whether nothing more of that text is needed."""

    @abstractmethod
    def result(self) -> Any:
        """The answer, once nothing more is needed of any text."""


def answer_in_making(request: Request, drawing: Drawing) -> CoreAnswer:
    """What is to be asked for the request. Raises ValueError for an empty prompt."""
    if not request.prompt:
        raise ValueError("a prompt must have at least one token")
    match request:
        case SampleRequest():
            return SampledFragments(request, drawing)
        case GradeRequest():
            return GradedCandidates(request)
        case ScoreRequest():
            return ScoredContinuations(request)


class SampledFragments(CoreAnswer):
    """A text for each fragment, drawn by numbers of its own; greedy where there is one token to choose from."""

    def __init__(self, request: SampleRequest, drawing: Drawing) -> None:
        self._drawing = drawing
        limit = drawing.sampling.max_fragment_tokens
        self._left = [limit] * request.count
        numbers = uniform_numbers(request, limit)
        self._branches = [Branch(request, uniforms, drawing.tail) for uniforms in numbers]
        common = {
            "temperature": 0.0,  # the likeliest token, and the draws leave no other
            "logprobs": 0,
            "stop_token_ids": sorted(drawing.end_tokens),
            "ignore_eos": True,  # the end tokens are ours
        }
        before = request.prompt + request.response
        self.texts = [CoreRequest(before, limit, common | self._draws(uniforms.tolist())) for uniforms in numbers]

    def _draws(self, uniforms: list[float]) -> dict[str, Any]:
        s = self._drawing.sampling
        if s.top_k == 1:
            return {}
        return {"extra_args": {DRAWS: [s.temperature, s.top_k, s.top_p, uniforms]}}

    def take(self, index: int, output: CoreOutput) -> bool:
        branch, drawing = self._branches[index], self._drawing
        for place, (token, logprobs) in enumerate(zip(output.tokens, output.logprobs, strict=True), start=1):
            if branch.done:
                break  # sampled before vLLM heard that this is enough
            self._left[index] -= 1
            # vLLM itself ends a text where the model can read no more.
            last = self._left[index] == 0 or (output.finished and place == len(output.tokens))
            branch.append(token, logprobs[token], drawing.tokenizer, drawing.rule, drawing.end_tokens, last)
        return branch.done or output.finished

    def result(self) -> list[Fragment]:
        return [branch.fragment(self._drawing.end_token) for branch in self._branches]


class GradedCandidates(CoreAnswer):
    """A text for each candidate, closing words included: of the one token that follows, the options' log-probabilities.

    They are wanted among all tokens, so vLLM is free to take another.
    """

    def __init__(self, request: GradeRequest) -> None:
        self._options = request.options
        asked = {"temperature": 0.0, "ignore_eos": True, "logprob_token_ids": list(request.options)}
        texts = [request.prompt + candidate + request.after for candidate in request.candidates]
        self.texts = [CoreRequest(text, 1, asked) for text in texts]
        self._grades: dict[int, tuple[float, ...]] = {}

    def take(self, index: int, output: CoreOutput) -> bool:
        for logprobs in output.logprobs:
            self._grades[index] = tuple(logprobs[option] for option in self._options)
        return index in self._grades

    def result(self) -> list[tuple[float, ...]]:
        return [self._grades[index] for index in range(len(self.texts))]


class ScoredContinuations(CoreAnswer):
    """A text for each continuation that has tokens; vLLM insists on one token more, which nobody reads.

    vLLM keeps no logits beside its cache, so such a text is computed from its beginning.
    """

    def __init__(self, request: ScoreRequest) -> None:
        self._continuations = request.continuations
        self._scored = [continuation for continuation in request.continuations if continuation]
        asked = {"temperature": 0.0, "ignore_eos": True, "prompt_logprobs": 0}
        self.texts = [CoreRequest(request.prompt + continuation, 1, asked) for continuation in self._scored]
        self._scores: dict[int, tuple[float, ...]] = {}

    def take(self, index: int, output: CoreOutput) -> bool:
        if output.prompt_logprobs:
            self._scores[index] = tuple(output.prompt_logprobs[-len(self._scored[index]) :])
        return index in self._scores

    def result(self) -> list[tuple[float, ...]]:
        scores = iter([self._scores[index] for index in range(len(self.texts))])
        return [next(scores) if continuation else () for continuation in self._continuations]
