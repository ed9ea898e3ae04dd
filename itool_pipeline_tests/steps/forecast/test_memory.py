"""Memory by hand, and against what an H100 took."""

from __future__ import annotations

import pytest

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.steps.forecast.memory import GIB, answering_memory, training_memory
from itool_pipeline.steps.forecast.model_shape import KNOWN
from itool_pipeline.steps.forecast.work import StepWork
from itool_pipeline_tests.steps.by_hand import experiment
from itool_pipeline_tests.steps.forecast.test_model_shape import TINY

LLAMA = KNOWN["meta-llama/Llama-3.1-8B-Instruct"]


def test_a_tiny_step_that_answers_by_hand() -> None:
    found = answering_memory(experiment(), TINY, StepWork(reads=90, generates=10), "bfloat16")
    assert found.weights * GIB == 328 * 2
    assert found.cache * GIB == 100 * 8 * 2
    assert found.activations * GIB == 100 * (8 * 4 + 4 * 8) * 2
    assert found.loading * GIB == 328 * 4
    assert found.total * GIB == 328 * 2 + 100 * 8 * 2 + 100 * 64 * 2


def test_the_cache_has_a_bound_and_merging_may_take_most() -> None:
    e = experiment(compute={"prefix_cache_gib": 3.0, "batch_tokens": 1})
    found = answering_memory(e, LLAMA, StepWork(reads=10**9), "bfloat16")
    assert found.cache == 3.0
    assert found.total == found.loading == LLAMA.parameters * 4 / GIB


@pytest.mark.parametrize(
    ("in_4_bits", "checkpointing", "measured"), [(False, False, 39.1), (True, False, 29.3), (True, True, 8.1)]
)
def test_training_takes_what_an_h100_took(in_4_bits: bool, checkpointing: bool, measured: float) -> None:
    """docs/results.md, "On a GPU": 4,096 tokens in a pass."""
    e = experiment(compute={"gradient_checkpointing": checkpointing})
    optimizer = OptimizerConfig(learning_rate=1.0)
    found = training_memory(e, LLAMA, StepWork(trains=10**6, row=1_000), "bfloat16", optimizer, in_4_bits=in_4_bits)
    assert found.total == pytest.approx(measured, rel=0.05)
