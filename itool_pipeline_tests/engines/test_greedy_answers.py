"""A batch answers as each prompt alone does, token by token the likeliest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.transformers_engine import TransformersEngine
from itool_pipeline.engines.types import Sampling

NEVER = 1
"""A token that these greedy answers do not hold."""


def ids(count: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.random.default_rng(count).integers(300, 49000, count))


PROMPTS = [ids(12), ids(1), ids(9), ids(40), ids(24)]
ENDS_IN_HALF_A_CHARACTER = ids(23)


def greedy(model: Any, prompt: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The likeliest token after prompt and all before it, each by a forward pass of its own."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tuple(tokens[len(prompt) :])


def answers_of(loaded: LoadedModel, prompts: list[tuple[int, ...]], count: int, end: int) -> list[tuple[int, ...]]:
    """Of an engine whose fragments are short, end early and are drawn wildly: nothing of that is for answers."""
    wild = Sampling(temperature=9.0, top_k=99, max_fragment_tokens=3)
    return TransformersEngine(loaded, FragmentRule("etaoin,"), wild, end_tokens=frozenset({end})).answer(prompts, count)


@pytest.fixture(scope="module")
def expected(plain_model: Any) -> list[tuple[int, ...]]:
    return [greedy(plain_model, prompt, 12) for prompt in PROMPTS]


def test_a_batch_answers_as_each_prompt_alone(loaded: LoadedModel, expected: list[tuple[int, ...]]) -> None:
    assert all(NEVER not in row for row in expected)
    assert len(set(expected)) == len(PROMPTS)
    assert answers_of(loaded, PROMPTS, 12, NEVER) == expected
    assert [answers_of(loaded, [prompt], 12, NEVER)[0] for prompt in PROMPTS] == expected


def test_answers_stop_before_the_end_token(loaded: LoadedModel, expected: list[tuple[int, ...]]) -> None:
    """The others of the batch go on, and what fills up the row of the first is not part of its answer."""
    end = expected[2][4]
    cut = [row[: row.index(end)] if end in row else row for row in expected]
    assert len(cut[2]) <= 4
    assert any(len(row) == 12 for row in cut)
    assert answers_of(loaded, PROMPTS, 12, end) == cut


def test_an_answer_may_be_empty(loaded: LoadedModel, expected: list[tuple[int, ...]]) -> None:
    assert answers_of(loaded, [PROMPTS[0]], 5, expected[0][0]) == [()]


def test_a_character_that_the_limit_cuts_in_two_is_left_out(loaded: LoadedModel, plain_model: Any) -> None:
    whole = greedy(plain_model, ENDS_IN_HALF_A_CHARACTER, 12)
    assert loaded.tokenizer.decode(whole).endswith("\ufffd")
    (answer,) = answers_of(loaded, [ENDS_IN_HALF_A_CHARACTER], 12, NEVER)
    assert answer == whole[: len(answer)]
    assert len(answer) < 12
    assert not loaded.tokenizer.decode(answer).endswith("\ufffd")
