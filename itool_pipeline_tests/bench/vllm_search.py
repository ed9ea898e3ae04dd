"""vLLM as a contender in the search (docs/scaling.md says how to install it).

It computes in processes of its own. Without a GPU VLLM_CPU_OMP_THREADS_BIND says on which cores, in the place of
OMP_NUM_THREADS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from itool_pipeline.engines.types import Engine, EngineSettings
from itool_pipeline.engines.vllm_maker import VllmMaker
from itool_pipeline.steps.forecast.flops import ModelSize
from itool_pipeline_tests.bench.flops import model_size
from itool_pipeline_tests.bench.machine import Dtype
from itool_pipeline_tests.bench.worker import Figures, peak_memory_mb
from itool_pipeline_tests.bench.workload import Workload, base_directory, compute_config


class VllmContender:
    """vLLM with the embedded model and an adapter on it.

    size     of the model
    columns  tokens computed so far: of each text what was not in the cache, and what was sampled but for the last
    """

    def __init__(self, workload: Workload, adapter: Path, dtype: Dtype) -> None:
        base, compute = base_directory(), compute_config(dtype).model_copy(update={"engine": "vllm"})
        end = workload.chat().end_token
        self._settings = EngineSettings(base, adapter, compute, workload.sampling, workload.rule, end)
        self._maker = VllmMaker()
        self._maker.make(self._settings, print)
        self._vllm = self._maker._running
        self._vllm.step = self._counted(self._vllm.step)
        self.columns = 0
        with torch.device("meta"):
            self.size: ModelSize = model_size(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)))

    def policy(self) -> Engine:
        """A new engine; vLLM forgets what it has computed for the last one, which was asked the same."""
        self._vllm.reset_prefix_cache()
        return self._maker.make(self._settings, print)

    def memory(self) -> Figures:
        """Of all processes, what they hold now: vLLM takes what it takes when it starts."""
        import psutil

        held = sum(process.memory_info().rss for process in psutil.Process().children(recursive=True))
        return {"peak_memory_mb": peak_memory_mb() + held / 1e6}

    def close(self) -> None:
        """End vLLM."""
        self._maker.release()

    def _counted(self, step: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
        begun: set[str] = set()

        def counting() -> list[Any]:
            outputs = step()
            for output in outputs:
                sampled = len(output.outputs[0].token_ids)
                if output.request_id not in begun:
                    begun.add(output.request_id)
                    self.columns += len(output.prompt_token_ids) - (output.num_cached_tokens or 0) - 1
                self.columns += sampled
            return outputs

        return counting
