"""The two models of the tests: the embedded one, converted once, and a random one that is tiny."""

from __future__ import annotations

import hashlib
from pathlib import Path

from itool_pipeline.config import WheelModel
from itool_pipeline.data import base_model
from itool_pipeline.data.wheels import SMOLLM2
from itool_pipeline.files.durable import write_whole
from itool_pipeline.files.locks import file_lock

TINY_SEED = 7


def converted_model(downloads: Path) -> Path:
    """SmolLM2-135M-Instruct as a directory that transformers loads, kept beside the downloads.

    It is converted again when the wheel or the code that converts it changes.
    """
    cache = downloads.parent / "test_cache"
    code = hashlib.sha256(Path(base_model.__file__).read_bytes()).hexdigest()
    model = cache / f"base_model.{SMOLLM2.sha256[:12]}.{code[:12]}"
    with file_lock(cache / ".base_model.lock", "the converted model", print):
        if not model.exists():
            write_whole(model, lambda path: base_model.prepare_base_model(WheelModel(), downloads, path), alone=True)
    assert (model / base_model.SOURCE_FILE).exists()
    return model


def save_tiny_model(base: Path, directory: Path) -> Path:
    """A random Llama of two layers and width 64 with the tokenizer of `base`, saved in the directory."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(base)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TINY_SEED)
        LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
