"""Greedy generation of whole responses, for scoring."""

from __future__ import annotations

from collections.abc import Sequence

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import SampleRequest
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.transformers_engine import Sampling, TransformersEngine


def generate_greedy(
    loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, end_token: int
) -> list[tuple[int, ...]]:
    """The likeliest next token, again and again, for one batch of prompts.

    The end token is not part of the result, nor is the beginning of a character that the limit cuts in two.
    A response is a fragment that no termination character ends. The search's engine drops rows as they finish, where
    transformers' `generate` computes all of them until the last is done.
    """
    engine = TransformersEngine(
        loaded,
        FragmentRule(""),
        Sampling(temperature=1.0, top_k=1, max_fragment_tokens=max_new_tokens),
        end_tokens=frozenset({end_token}),
        batch_tokens=len(prompts) * (max(map(len, prompts)) + max_new_tokens),
    )
    answers = engine.sample([SampleRequest(prompt, (), "", 1, seed=0) for prompt in prompts])
    return [fragment.token_ids[:-1] if fragment.finished else fragment.token_ids for (fragment,) in answers]
