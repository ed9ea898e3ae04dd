"""Sizes by hand, and against what the models themselves count."""

from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline.config import LoraConfig
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.steps.forecast.model_shape import KNOWN, SMOLLM2_SHAPE, ModelShape, shape_of, stated_shape
from itool_pipeline_tests.steps.by_hand import experiment

TINY = ModelShape(2, 4, 8, 2, 1, 2, 10, tied=True)
"""Two layers of width 4 and 8, two heads of width 2 that share one key and value, ten words."""


def test_a_tiny_model_by_hand() -> None:
    # query 4x4, key and value 4x2, output 4x4, gate and up 4x8, down 8x4: 16 + 8 + 8 + 16 + 32 + 32 + 32 in a layer
    assert TINY.decoder_parameters == 2 * 144
    assert TINY.parameters == 288 + 4 * 10
    assert ModelShape(2, 4, 8, 2, 1, 2, 10, tied=False).parameters == 288 + 2 * 4 * 10
    # inputs and outputs of a layer's matrices: 8 + 6 + 6 + 8 + 12 + 12 + 12
    assert TINY.adapter_parameters(LoraConfig(rank=3)) == 2 * 3 * 64
    assert TINY.cache_numbers() == 2 * 2 * 1 * 2
    size = TINY.size(LoraConfig(rank=3))
    assert (size.parameters, size.layers, size.heads, size.head_width) == (288, 2, 2, 2)
    assert (size.hidden, size.vocabulary, size.adapter) == (4, 10, 384)


@pytest.mark.parametrize(
    ("name", "counted", "norms_and_biases"),
    [
        # Norms: two a layer and one at the end. Qwen has biases on query, key and value besides.
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248, 65 * 4096),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824, 57 * 3072),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512, 57 * 3584 + 28 * (3584 + 2 * 512)),
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768, 49 * 896 + 24 * (896 + 2 * 128)),
    ],
)
def test_known_models_have_the_parameters_that_their_weights_count(
    name: str, counted: int, norms_and_biases: int
) -> None:
    assert KNOWN[name].parameters + norms_and_biases == counted


def test_the_embedded_model_has_the_parameters_that_its_artifacts_state() -> None:
    assert SMOLLM2_SHAPE.parameters + 61 * 576 == 134_515_008
    assert SMOLLM2_SHAPE.adapter_parameters(LoraConfig(rank=16)) == 4_884_480


def test_a_config_states_the_sizes_or_leaves_them_to_defaults() -> None:
    llama = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 10}
    assert stated_shape(llama) == ModelShape(2, 8, 32, 4, 4, 2, 10, tied=True)
    more = {"intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 6, "tie_word_embeddings": False}
    assert stated_shape(llama | more) == ModelShape(2, 8, 24, 4, 2, 6, 10, tied=False)
    gpt2 = {"n_embd": 8, "n_layer": 2, "n_head": 4, "n_inner": None, "vocab_size": 10}
    assert stated_shape(gpt2) == stated_shape(llama)
    del llama["vocab_size"]
    with pytest.raises(ModelError, match="states no vocab_size"):
        stated_shape(llama)


def test_a_model_that_is_neither_here_nor_known_is_refused_in_words(tmp_path: Path) -> None:
    known = experiment(model={"type": "hub", "name": "Qwen/Qwen2.5-7B-Instruct"})
    assert shape_of(known, None) is KNOWN["Qwen/Qwen2.5-7B-Instruct"]
    assert shape_of(experiment(), None) is SMOLLM2_SHAPE
    with pytest.raises(ModelError, match="a/b is not on this machine, and a dry run downloads nothing"):
        shape_of(experiment(model={"type": "hub", "name": "a/b"}), None)
    (tmp_path / "config.json").write_text('{"n_embd": 8, "n_layer": 2, "n_head": 4, "vocab_size": 10}')
    assert shape_of(experiment(model={"type": "hub", "name": "a/b"}), tmp_path).hidden_size == 8
