"""Fixtures that need the pinned wheels. Without them, and without an index, the tests that ask for them are skipped.

Hypothesis runs without a clock, so that a busy machine fails no test.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from itool_pipeline.config import WheelModel
from itool_pipeline.data import base_model
from itool_pipeline.data.wheels import BFCL, SMOLLM2, FetchError, PinnedWheel, fetch_wheel
from itool_pipeline.files.durable import write_whole
from itool_pipeline.files.locks import file_lock

settings.register_profile("no_clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no_clock")

ROOT = Path(__file__).parents[1]
TINY_SEED = 7


def _fetch_or_skip(wheel: PinnedWheel, downloads: Path) -> Path:
    try:
        return fetch_wheel(wheel, downloads)
    except FetchError as error:
        pytest.skip(f"needs {wheel.requirement}: {error}")


@pytest.fixture(scope="session")
def downloads_dir() -> Path:
    """Where the project keeps downloads: below ITOOL_STORAGE, or below storage/ in the repository."""
    return Path(os.environ.get("ITOOL_STORAGE") or ROOT / "storage") / "downloads"


@pytest.fixture(scope="session")
def bfcl_dir(downloads_dir: Path) -> Path:
    """The unzipped BFCL wheel: a directory with the package `bfcl_eval`."""
    return _fetch_or_skip(BFCL, downloads_dir)


@pytest.fixture(scope="session")
def base_model_dir(downloads_dir: Path) -> Path:
    """SmolLM2-135M-Instruct as a directory that transformers loads.

    Converted once and kept between sessions, until the wheel or the code that converts it changes.
    """
    _fetch_or_skip(SMOLLM2, downloads_dir)
    cache = downloads_dir.parent / "test_cache"
    code = hashlib.sha256(Path(base_model.__file__).read_bytes()).hexdigest()
    model = cache / f"base_model.{SMOLLM2.sha256[:12]}.{code[:12]}"
    with file_lock(cache / ".base_model.lock", "the converted model", print):
        if not model.exists():
            write_whole(
                model, lambda path: base_model.prepare_base_model(WheelModel(), downloads_dir, path), alone=True
            )
    assert (model / base_model.SOURCE_FILE).exists()
    return model


@pytest.fixture(scope="session")
def tiny_model_dir(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers and width 64 with SmolLM2's tokenizer: for tests of torch code in a second."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(base_model_dir)
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
    directory = tmp_path_factory.mktemp("tiny_model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TINY_SEED)
        LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
