"""Engines on vLLM, and the vLLM that they share. vLLM is an extra, and imported where it is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from itool_pipeline.config import ComputeConfig
from itool_pipeline.data.model_folder import ADAPTER_CONFIG, json_object_of
from itool_pipeline.engines.drawing import Drawing
from itool_pipeline.engines.model_config import ModelError, end_tokens_of, read_model_config, require_file
from itool_pipeline.engines.types import Engine, EngineSettings

_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
_Adapter = tuple[Path, int, int]
"""Where an adapter is, and when and with how many bytes its weights were written."""


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """What vLLM must know of adapters before it starts: their largest rank, and the names of the layers they change."""

    rank: int = 0
    layers: frozenset[str] = frozenset()

    def covers(self, other: AdapterShape) -> bool:
        """Whether a vLLM that is ready for this one takes the other one too."""
        return other.rank <= self.rank and other.layers <= self.layers


class VllmMaker:
    """Keeps a running vLLM as long as the base model stays the same; adapters are handed to it as they are."""

    def __init__(self) -> None:
        self._running: Any = None
        self._key: tuple[Path, ComputeConfig] | None = None
        self._shape = AdapterShape()
        self._adapters: dict[_Adapter, Any] = {}
        self._numbers = count(1)

    def make(self, settings: EngineSettings, say: Callable[[str], None]) -> Engine:
        """An engine on the vLLM that runs, or on one that is started in its place. Raises ModelError."""
        require_vllm()
        from itool_pipeline.engines.vllm_core import VllmCore
        from itool_pipeline.engines.vllm_engine import VllmEngine

        drawing = _drawing(settings)
        self._start(settings, say)
        return VllmEngine(VllmCore(self._running, self._adapter(settings)), drawing)

    def release(self) -> None:
        """End vLLM's process."""
        if self._running is not None:
            from itool_pipeline.engines.vllm_core import end_vllm

            end_vllm(self._running)
        self._running = self._key = None
        self._adapters.clear()

    def _start(self, settings: EngineSettings, say: Callable[[str], None]) -> None:
        from itool_pipeline.engines.dtype_finding import resolve_dtype
        from itool_pipeline.engines.model import resolve_device
        from itool_pipeline.engines.vllm_core import is_running, require_device, start_vllm

        shape = AdapterShape() if settings.adapter is None else adapter_shape(settings.adapter)
        key = (settings.base, settings.compute)
        if self._key == key and self._shape.covers(shape) and is_running(self._running):
            return
        self.release()  # before the next is started: two need not fit
        device = resolve_device(settings.compute)
        require_device(device)
        say(f"starting vLLM with the model at {settings.name or settings.base}")
        dtype = resolve_dtype(settings.compute, device, settings.base, findings=None, say=say)
        self._running = start_vllm(settings.base, settings.compute, dtype, shape.rank, shape.layers)
        self._key, self._shape = key, shape

    def _adapter(self, settings: EngineSettings) -> Any:
        from itool_pipeline.data.model_folder import ADAPTER_WEIGHTS
        from itool_pipeline.engines.adapter import require_fitting_adapter
        from itool_pipeline.engines.vllm_core import load_adapter

        directory = settings.adapter
        if directory is None:
            return None
        written = (directory / ADAPTER_WEIGHTS).stat()
        key = (directory, written.st_mtime_ns, written.st_size)
        if key not in self._adapters:  # vLLM believes that a number, once seen, is the same adapter
            require_fitting_adapter(settings.base, directory)  # and fills a smaller one up with zeros
            self._adapters[key] = load_adapter(self._running, directory, next(self._numbers))
        return self._adapters[key]


def require_vllm() -> None:
    """Raise ModelError, with what to install, unless vLLM is there."""
    for name, value in _QUIET.items():  # read when vLLM is imported
        os.environ.setdefault(name, value)
    if find_spec("vllm") is None:
        raise ModelError(
            "compute.engine is vllm, and vLLM is not installed here. It wants other versions than the rest of this "
            "project is tested with, so give it an environment of its own: python -m venv .venv-vllm && "
            ".venv-vllm/bin/pip install -e '.[vllm]' (for a GPU; docs/scaling.md says how without one)"
        )


def adapter_shape(directory: Path) -> AdapterShape:
    """The shape of a LoRA adapter. Raises ModelError or FetchError when its config does not say it."""
    require_file(directory, ADAPTER_CONFIG, "adapter")
    stated = json_object_of(directory / ADAPTER_CONFIG)
    try:
        return AdapterShape(int(stated["r"]), frozenset(name.rpartition(".")[2] for name in stated["target_modules"]))
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{directory}: not a complete adapter: {ADAPTER_CONFIG} lacks its shape ({error})") from error


def stated_end_tokens(directory: Path) -> frozenset[int]:
    """The tokens that the model's configs say end a text, as transformers' `generate` takes them."""
    from transformers import GenerationConfig

    config = read_model_config(directory)
    sources = [config]
    if (directory / "generation_config.json").exists():
        sources.append(GenerationConfig.from_pretrained(str(directory), local_files_only=True))
    return end_tokens_of(sources, config.vocab_size)


def _drawing(settings: EngineSettings) -> Drawing:
    from itool_pipeline.engines.model import load_tokenizer

    ends = stated_end_tokens(settings.base) | {settings.end_token}
    return Drawing(load_tokenizer(settings.base), settings.rule, settings.sampling, settings.end_token, ends)
