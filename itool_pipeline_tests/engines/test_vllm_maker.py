"""What is known before vLLM is started, and what is said where it is not installed."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from itool_pipeline.config import ComputeConfig
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.engines import vllm_maker
from itool_pipeline.engines.factory import make_engine, release_engines
from itool_pipeline.engines.model import load_model
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.engines.types import EngineSettings, Sampling
from itool_pipeline.engines.vllm_maker import AdapterShape, adapter_shape, stated_end_tokens


def test_where_vllm_is_not_installed_the_words_say_how_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_maker, "find_spec", lambda name: None)
    settings = EngineSettings(tmp_path, None, ComputeConfig(engine="vllm"), Sampling(), FragmentRule(), end_token=0)
    with pytest.raises(ModelError, match=r"pip install -e '\.\[vllm\]'"):
        make_engine(settings, lambda line: None)
    release_engines()


def test_the_module_looked_for_is_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def known(name: str) -> object:
        asked.append(name)
        return find_spec("json")

    monkeypatch.setattr(vllm_maker, "find_spec", known)
    vllm_maker.require_vllm()
    assert asked == ["vllm"]


@pytest.mark.parametrize("generation", [None, {"eos_token_id": [5, 7]}, {"eos_token_id": 9}, {}])
def test_end_tokens_are_those_that_transformers_stops_at(
    tiny_model_dir: Path, tmp_path: Path, generation: dict[str, object] | None
) -> None:
    directory = tmp_path / "model"
    shutil.copytree(tiny_model_dir, directory)
    (directory / "generation_config.json").unlink()
    if generation is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation))
    loaded = load_model(directory, ComputeConfig(device="cpu", dtype="float32"))
    assert stated_end_tokens(directory) == loaded.end_tokens
    assert len(loaded.end_tokens) == {"[5, 7]": 3, "9": 2}.get(str((generation or {}).get("eos_token_id")), 1)


def test_the_shape_of_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a complete adapter"):
        adapter_shape(tmp_path)
    stated = {"r": 24, "target_modules": ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj", "q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(stated))
    assert adapter_shape(tmp_path) == AdapterShape(24, frozenset({"up_proj", "q_proj"}))


def test_vllm_is_started_anew_for_adapters_that_it_is_not_ready_for() -> None:
    ready = AdapterShape(16, frozenset({"up_proj", "q_proj"}))
    assert ready.covers(AdapterShape())
    assert ready.covers(AdapterShape(8, frozenset({"q_proj"})))
    assert not ready.covers(AdapterShape(17, frozenset({"q_proj"})))
    assert not ready.covers(AdapterShape(8, frozenset({"down_proj"})))
    assert not AdapterShape().covers(AdapterShape(8, frozenset({"q_proj"})))
