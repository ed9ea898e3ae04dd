"""Folders of models and adapters as a broken download, another program or a person's editing leaves them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from itool_pipeline.config import ComputeConfig, HubModel
from itool_pipeline.data.base_model import prepare_base_model
from itool_pipeline.data.model_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, TOKENIZER
from itool_pipeline.data.own_adapter import copy_adapter, require_lora
from itool_pipeline.engines.adapter import require_fitting_adapter
from itool_pipeline.engines.model import load_model
from itool_pipeline.errors import ActionableError
from itool_pipeline.steps.models import chat_in, require_usable
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.training.lora import fresh_adapter, save_adapter
from itool_pipeline_tests.robustness.files import damaged
from itool_pipeline_tests.robustness.inputs import mutated
from itool_pipeline_tests.robustness.outcome import Outcome, survives
from itool_pipeline_tests.robustness.scene import folder
from itool_pipeline_tests.small_models import converted_model, save_tiny_model
from itool_pipeline_tests.steps.by_hand import experiment

FP32 = ComputeConfig(device="cpu", dtype="float32")
MODEL_FILES = ("config.json", TOKENIZER, "tokenizer.json", "generation_config.json", "chat_template.jinja")
WEIGHTS = "model.safetensors"
HEADER_BYTES = 2000
"""Of a file of weights, whose rest is numbers."""


def model_folders(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Each model of which one file is damaged is found, probed and loaded, or refused in a sentence."""
    asked = experiment()
    with folder() as root:
        whole, broken, out = _tiny_model(root), root / "broken", root / "out"

        def use() -> None:
            shutil.rmtree(out, ignore_errors=True)

            def require(directory: Path) -> None:
                require_usable(directory)
                chat_in(directory, asked)

            prepare_base_model(HubModel(type="hub", name=str(broken)), root, out, require)
            load_model(broken, FP32)

        _try_damaged(outcome, tries, whole, broken, [*MODEL_FILES, WEIGHTS], use, draw)


def adapters(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Each adapter of which one file is damaged is taken and merged, or refused in a sentence."""
    with folder() as root:
        model, whole, broken, out = _tiny_model(root), root / "adapter", root / "broken", root / "out"
        lora = experiment().warmup.lora.model_copy(update={"targets": ("q_proj", "v_proj")})
        save_adapter(fresh_adapter(load_model(model, FP32).model, lora, seed=0), whole)

        def use() -> None:
            shutil.rmtree(out, ignore_errors=True)
            require_lora(broken)
            require_fitting_adapter(model, broken)
            copy_adapter(broken, out)
            load_model(model, FP32, adapter=out, merge=True)

        _try_damaged(outcome, tries, whole, broken, [ADAPTER_CONFIG, ADAPTER_CONFIG, ADAPTER_WEIGHTS], use, draw)


def _tiny_model(root: Path) -> Path:
    return save_tiny_model(converted_model(storage_paths().downloads), root / "model")


def _try_damaged(
    outcome: Outcome,
    tries: int,
    whole: Path,
    broken: Path,
    names: Sequence[str],
    use: Callable[[], object],
    draw: random.Random,
) -> None:
    """Use copies of the folder, of which one of the files named is damaged; a whole one, first, must be taken."""
    shutil.copytree(whole, broken)
    use()
    for number in range(tries):
        _damage_one(whole, broken, draw.choice(names), draw)
        outcome.tried([f"{number}: {problem}" for problem in survives(use, ActionableError)])


def _damage_one(whole: Path, broken: Path, name: str, draw: random.Random) -> None:
    """A copy of the folder, of whose file the values, the bytes or, of weights, the first bytes are damaged."""
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(whole, broken)
    file = broken / name
    content = file.read_bytes()
    if name.endswith(".json") and draw.random() < 0.8:
        file.write_text(json.dumps(_mutated_but_words(json.loads(content), draw)))
    else:
        kept = content[HEADER_BYTES:] if name.endswith(".safetensors") and draw.random() < 0.5 else b""
        file.write_bytes(damaged(content[: len(content) - len(kept)], draw) + kept)


def _mutated_but_words(value: Any, draw: random.Random) -> Any:
    """Without its thousands of words, among which the rest of a tokenizer would hardly ever be met."""
    model = value.get("model") if isinstance(value, dict) else None
    words = {key: model.pop(key) for key in ("vocab", "merges") if key in model} if isinstance(model, dict) else {}
    changed = mutated(value, draw)
    if isinstance(changed, dict) and isinstance(changed.get("model"), dict):
        changed["model"] = words | changed["model"]
    return changed
