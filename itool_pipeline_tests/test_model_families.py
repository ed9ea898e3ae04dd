"""Every family of docs/models.md: search and training give what transformers' eager forward pass gives on its own rows.

The models are tiny and random, their windows eight tokens, and all prompts longer than that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import SampleRequest, ScoreRequest
from itool_pipeline.core.token_trie import pack_row
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.engines.model_probe import engine_branches, require_exact
from itool_pipeline.engines.transformers_engine import TransformersEngine
from itool_pipeline.engines.types import Sampling
from itool_pipeline.training.log_probs import TokenLogProbs
from itool_pipeline.training.lora import trainable_parameters
from itool_pipeline.training.model_probe import fused_branches, plain_branches
from itool_pipeline_tests.conftest import ROOT
from itool_pipeline_tests.model_families import REFUSED, VOCABULARY, WINDOW, WORKING, tiny_config

TOLERANCE = 1e-4
"""Nats; a window that is left out makes 0.05 or more of these models' log-probabilities."""


def ids(count: int, seed: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.random.default_rng([count, seed]).integers(3, VOCABULARY, count))


SHARED = ids(5, 1)
REQUESTS = [
    ScoreRequest(ids(21, 0), ((*SHARED, *ids(9, 2)), (*SHARED, *ids(4, 3)), ids(12, 4), SHARED[:1])),
    ScoreRequest(ids(11, 5), (ids(14, 6), ids(3, 7))),
    ScoreRequest(ids(2, 8), (ids(13, 9),)),
]


EDGE = [ScoreRequest(ids(2, 10), (ids(WINDOW, 11),))]
"""The last token that is computed is the first that no longer sees the first."""


def tiny_model(family: tuple[str, dict[str, Any]]) -> PreTrainedModel:
    """A random model in fp32 with eager attention, with weights so large that every part of it matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model: Any = AutoModelForCausalLM.from_config(
            tiny_config(family), attn_implementation="eager", dtype=torch.float32
        )
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
                else:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def own_pass(model: Any, prompt: Sequence[int], continuation: Sequence[int]) -> torch.Tensor:
    """Log-probability of each token of the continuation, by the model's own forward pass over that row alone."""
    row = torch.tensor([[*prompt, *continuation]])
    log_probs = model(input_ids=row).logits[0].float().log_softmax(-1)
    at = torch.arange(len(prompt) - 1, row.shape[1] - 1)
    return log_probs[at, row[0, len(prompt) :]]


@torch.no_grad()
def own_passes(model: Any, requests: Sequence[ScoreRequest] = REQUESTS) -> list[list[list[float]]]:
    return [[own_pass(model, r.prompt, c).tolist() for c in r.continuations] for r in requests]


def largest(found: Any, expected: Any) -> float:
    """The largest difference between two nested lists of the same shape."""
    if isinstance(expected, float):
        return abs(found - expected)
    assert len(found) == len(expected)
    return max(largest(a, b) for a, b in zip(found, expected, strict=True))


def engine_of(model: PreTrainedModel) -> TransformersEngine:
    words: Any = SimpleNamespace(decode=lambda tokens, **_: "".join(chr(200 + token) for token in tokens))
    loaded = LoadedModel(model, words, torch.device("cpu"), torch.float32)
    return TransformersEngine(loaded, FragmentRule(""), Sampling(1.0, 50, 1.0, 12), end_tokens=frozenset({2}))


def trained(model: Any, kernels: Any, gradient_checkpointing: bool = False) -> list[list[torch.Tensor]]:
    """Log-probabilities of all continuations in one packed, padded pass."""
    rows = [pack_row(r.prompt, r.continuations) for r in REQUESTS]
    wanted = [np.unique(np.concatenate(row.spans)) for row in rows]
    parts = TokenLogProbs(model, kernels, gradient_checkpointing)(rows, wanted).split([len(w) for w in wanted])
    places = [dict(zip(w.tolist(), part, strict=True)) for w, part in zip(wanted, parts, strict=True)]
    return [[torch.stack([at[i] for i in s.tolist()]) for s in row.spans] for at, row in zip(places, rows, strict=True)]


@pytest.mark.parametrize("name", WORKING)
def test_search_and_training_are_the_models_own_passes(name: str) -> None:
    model = tiny_model(WORKING[name])
    expected, edge = own_passes(model), own_passes(model, EDGE)
    assert np.std([v for rows in expected for row in rows for v in row]) > 0.3, "uneven enough for a wrong mask to show"
    own = engine_of(model)
    assert largest(own.score(REQUESTS), expected) < TOLERANCE
    assert largest(own.score(REQUESTS[:1]), expected[:1]) < TOLERANCE, "from the cache, without padding"
    assert largest(own.score(EDGE), edge) < TOLERANCE, "where the window begins to matter"
    asked = [SampleRequest(r.prompt, r.continuations[0], "", 3, 7) for r in REQUESTS]
    sampled = own.sample(asked)
    for kernels in ("fused", "plain"):
        with torch.no_grad():
            found = [[values.tolist() for values in row] for row in trained(model, kernels)]
        assert largest(found, expected) < TOLERANCE, kernels
    model = tiny_model(WORKING[name])
    for request, fragments in zip(asked, sampled, strict=True):
        for fragment in fragments:
            with torch.no_grad():
                drawn = own_pass(model, (*request.prompt, *request.response), fragment.token_ids).tolist()
            assert largest(list(fragment.logprobs), drawn) < TOLERANCE


@pytest.mark.parametrize("kernels", ["fused", "plain"])
@pytest.mark.parametrize(
    "name", ["Mistral (window)", "Gemma 2 (window, soft caps)", "gpt-oss (window, sinks)", "DeepSeek-V3"]
)
def test_gradients_are_those_of_the_models_own_passes(name: str, kernels: Any) -> None:
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    gradients = []
    for packed in (False, True):
        torch.manual_seed(0)
        model = get_peft_model(tiny_model(WORKING[name]), adapter)
        parameters = trainable_parameters(model)
        with torch.no_grad():
            for parameter in parameters.values():
                parameter.normal_(std=0.1)
        if packed:
            rows = trained(model, kernels)
        else:
            rows = [[own_pass(model, r.prompt, c) for c in r.continuations] for r in REQUESTS]
        score = sum((k + 1) * values.sum() for row in rows for k, values in enumerate(row))
        gradients.append(torch.autograd.grad(score, list(parameters.values())))
    assert max(gradient.abs().max() for gradient in gradients[0]) > 1
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", WORKING)
def test_gradient_checkpointing_changes_no_gradient(name: str) -> None:
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    gradients = []
    for gradient_checkpointing in (False, True):
        torch.manual_seed(0)
        model = get_peft_model(tiny_model(WORKING[name]), adapter)
        with torch.no_grad():
            for parameter in trainable_parameters(model).values():
                parameter.normal_(std=0.1)
        rows = trained(model, "fused", gradient_checkpointing)
        score = sum(values.sum() for row in rows for values in row)
        gradients.append(torch.autograd.grad(score, list(trainable_parameters(model).values()), allow_unused=True))
    for kept, recomputed in zip(*gradients, strict=True):
        assert kept is recomputed is None or torch.equal(kept, recomputed)


@pytest.mark.parametrize("name", WORKING)
def test_what_works_is_not_refused(name: str) -> None:
    for branches in (engine_branches, fused_branches, plain_branches):
        require_exact(tiny_config(WORKING[name]), branches, "search or training")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(name: str) -> None:
    config = tiny_config(REFUSED[name])
    expected = type(tiny_model(REFUSED[name])).__name__
    with pytest.raises(
        ModelError, match=rf"^{expected} cannot be used: its? .* alone \(the engine (is off by|fails: )"
    ):
        require_exact(config, engine_branches, "the engine")


def test_the_page_lists_what_is_tested() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    works, _, refused = page.partition("## What is refused")
    for part, families in ((works, WORKING), (refused, REFUSED)):
        listed = re.findall(r"^\| ([^|]+?) \| `(\w+)` \|", part, re.M)
        assert [(name, kind) for name, kind in listed] == [(name, kind) for name, (kind, _) in families.items()]
