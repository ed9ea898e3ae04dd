"""What vLLM does, by plain forward passes: a batch that texts join and leave, for the engine to run on anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from itool_pipeline.engines.branches import draw_tokens
from itool_pipeline.engines.types import Sampling
from itool_pipeline.engines.vllm_requests import DRAWS, CoreOutput, CoreRequest

KNOWN = {
    "temperature",
    "logprobs",
    "stop_token_ids",
    "ignore_eos",
    "extra_args",
    "logprob_token_ids",
    "prompt_logprobs",
}


@dataclass
class Text:
    request: CoreRequest
    sampled: list[int] = field(default_factory=list)


@dataclass
class PlainCore:
    """Implements `vllm_engine.LanguageCore` with transformers' own model.

    burst    tokens in an output, where a text is not over before
    context  tokens that the model can read: a text ends there
    widest   the most texts there were at once
    steps    how often what comes next was waited for
    """

    model: Any
    width: int = 1000
    tokens: int = 10**9
    burst: int = 1
    context: int = 10**9
    widest: int = 0
    steps: int = 0
    texts: dict[str, Text] = field(default_factory=dict)
    added: int = 0

    def add(self, request: CoreRequest) -> str:
        assert request.options.keys() <= KNOWN
        assert request.options["temperature"] == 0.0
        assert request.options["ignore_eos"]
        self.added += 1
        self.texts[str(self.added)] = Text(request)
        self.widest = max(self.widest, len(self.texts))
        return str(self.added)

    def abort(self, names: Sequence[str]) -> None:
        for name in names:
            del self.texts[name]

    def step(self) -> list[tuple[str, CoreOutput]]:
        """An output for each text of the batch; in another order than they were asked for in."""
        assert self.texts
        self.steps += 1
        outputs = [(name, self._go_on(text)) for name, text in list(self.texts.items())[: self.width]]
        for name, output in outputs:
            if output.finished:
                del self.texts[name]
        return outputs[::-1]

    def _go_on(self, text: Text) -> CoreOutput:
        options = text.request.options
        tokens: list[int] = []
        found: list[dict[int, float]] = []
        over = False
        while not over and len(tokens) < self.burst:
            ids = [*text.request.prompt, *text.sampled]
            with torch.no_grad():
                logits = self.model(torch.tensor([ids])).logits[0].float()
            log_probs = logits.log_softmax(-1)
            token = self._choose(text, logits[-1:])
            wanted = {token, *options.get("logprob_token_ids", ())}
            asked = "logprobs" in options or "logprob_token_ids" in options
            found.append({i: float(log_probs[-1, i]) for i in wanted if asked})
            text.sampled.append(token)
            tokens.append(token)
            over = (
                len(text.sampled) == text.request.max_tokens
                or token in options.get("stop_token_ids", ())
                or len(ids) + 1 >= self.context
            )
        of_prompt: list[float] = []
        if "prompt_logprobs" in options:
            of_prompt = [float(log_probs[i, token]) for i, token in enumerate(text.request.prompt[1:])]
        return CoreOutput(tokens, found, of_prompt, over)

    def _choose(self, text: Text, logits: torch.Tensor) -> int:
        draws = text.request.options.get("extra_args", {}).get(DRAWS)
        if draws is None:
            return int(logits.argmax())
        temperature, top_k, top_p, numbers = draws
        sampling = Sampling(temperature, top_k, top_p, len(numbers))
        (token,), _ = draw_tokens(logits, [numbers[len(text.sampled)]], sampling)
        return token
