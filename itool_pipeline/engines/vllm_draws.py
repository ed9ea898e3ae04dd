"""The search's own draws inside vLLM: each text's tokens by the numbers that came with it.

Loaded by vLLM in its own process, by name. vLLM's seeds would do on some devices and crash on others, and its draws
depend on the batch; these depend on the request alone, and are those of the engine on transformers.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, process_dict_updates

from itool_pipeline.engines.branches import draw_tokens
from itool_pipeline.engines.types import Sampling
from itool_pipeline.engines.vllm_requests import DRAWS

_Draws = tuple[Sampling, list[float], list[int]]
"""How tokens are drawn, a number for each of them, and those sampled so far: vLLM's own list, which grows."""


class SeededDraws(LogitsProcessor):  # type: ignore[misc]
    """Leaves of each text's logits only the token that its number draws; vLLM then takes the likeliest.

    The log-probabilities that vLLM returns are those from before (`logprobs_mode: raw_logprobs`).
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._draws: dict[int, _Draws] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._draws, batch_update, _draws_of)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` [texts, V] fp32, changed in place."""
        groups: dict[Sampling, list[int]] = defaultdict(list)
        for row, (sampling, _, _) in self._draws.items():
            groups[sampling].append(row)
        for sampling, rows in groups.items():
            at = torch.tensor(rows, device=logits.device)
            tokens, _ = draw_tokens(logits[at], [self._number(row) for row in rows], sampling)
            logits[at] = -torch.inf
            logits[at, torch.tensor(tokens, device=logits.device)] = 0.0
        return logits

    def _number(self, row: int) -> float:
        _, numbers, sampled = self._draws[row]
        return numbers[len(sampled)]


def _draws_of(params: Any, prompt: list[int] | None, sampled: list[int]) -> _Draws | None:
    found = (params.extra_args or {}).get(DRAWS)
    if found is None:
        return None
    temperature, top_k, top_p, numbers = found
    return Sampling(temperature, top_k, top_p, len(numbers)), numbers, sampled
