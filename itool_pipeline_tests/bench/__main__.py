"""Measure sampling and preference training against plain transformers and peft. Needs an idle machine.

Each pair of figures is taken alternately, three times; the median counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch

from itool_pipeline.config import BfclHalfData, LoraConfig, SimpoLoss, WheelModel
from itool_pipeline.config import ComputeConfig as Compute
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import SampleRequest
from itool_pipeline.core.types import Example
from itool_pipeline.data.base_model import base_model_path, prepare_base_model
from itool_pipeline.data.sources import load_data
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import LoadedModel, load_model
from itool_pipeline.engines.transformers_engine import TransformersEngine
from itool_pipeline.engines.types import Sampling
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.training.items import PreferenceRow, SftItem, TokenPair
from itool_pipeline.training.log_probs import TokenLogProbs
from itool_pipeline.training.lora import fresh_adapter
from itool_pipeline.training.preference import preference_loss
from itool_pipeline.training.sft import sft_loss

TREES, BRANCHES, TOKENS, PAIRS, ROUNDS = 16, 4, 16, 4, 3


def load() -> tuple[LoadedModel, Chat, list[Example]]:
    """The embedded model and BFCL questions with prompts of ordinary length."""
    paths = storage_paths()
    directory = paths.root / "test_cache" / "bench_model"
    if not directory.exists():
        prepare_base_model(WheelModel(), paths.downloads, directory)
    loaded = load_model(base_model_path(directory), Compute())
    template = Chat(loaded.tokenizer)
    data = load_data(
        BfclHalfData(categories=("live_simple",), max_prompt_tokens=400),
        paths.downloads,
        0,
        token_count=lambda example: len(template.prompt(example)),
    )
    return loaded, template, list(islice(data.train, TREES))


def sampling(loaded: LoadedModel, template: Chat, examples: Sequence[Example]) -> None:
    """Tokens per second of `BRANCHES` samples after each prompt: our engine, and `generate` on repeated prompts."""
    prompts = [template.prompt(example) for example in examples]
    nothing_ends = FragmentRule("\0")
    engine = TransformersEngine(
        loaded, nothing_ends, Sampling(1.0, 50, 1.0, TOKENS), end_tokens=frozenset(), batch_tokens=1 << 20
    )
    requests = [SampleRequest(prompt, (), "", BRANCHES, i) for i, prompt in enumerate(prompts)]
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), template.end_token)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1

    def ours() -> None:
        loaded.model.set_attn_implementation("itool_tree")
        engine.sample(requests)

    def theirs() -> None:
        loaded.model.set_attn_implementation("sdpa")
        options = {"do_sample": True, "temperature": 1.0, "top_k": 50, "eos_token_id": -1, "pad_token_id": 0}
        loaded.model.generate(
            input_ids=ids, attention_mask=mask, num_return_sequences=BRANCHES, max_new_tokens=TOKENS, **options
        )

    report("sampling, prompts in the cache", "tokens/s", TREES * BRANCHES * TOKENS, ours, theirs)


def preference(loaded: LoadedModel, template: Chat, examples: Sequence[Example]) -> None:
    """Pairs per second, forward and backward: one packed row for a tree, and one row for each branch."""
    fragments = [template.response(f'[f(a={i}, b="some value {i}")]')[:12] for i in range(2 * PAIRS)]
    pairs = [TokenPair((), fragments[2 * i], fragments[2 * i + 1]) for i in range(PAIRS)]
    config = SimpoLoss()
    trees = [template.prompt(example) for example in examples[:4]]
    model = fresh_adapter(loaded.model, LoraConfig(), 0)
    policy = TokenLogProbs(model)

    def ours() -> None:
        for prompt in trees:
            preference_loss(policy, [PreferenceRow("tree", prompt, tuple(pairs))], config).total.backward()

    def theirs() -> None:
        for prompt in trees:
            sft_loss(policy, [SftItem("branch", prompt, branch) for branch in fragments]).total.backward()

    report("preference training, a tree's pairs", "pairs/s", len(trees) * PAIRS, ours, theirs)


def report(what: str, unit: str, amount: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Print both speeds and their ratio."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for run in (ours, theirs):
        run()
    for _ in range(ROUNDS):
        for name, run in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    a, b = (amount / statistics.median(seconds[name]) for name in ("ours", "theirs"))
    print(f"{what}: {a:.1f} {unit} against {b:.1f}, {a / b:.1f} times")


def main() -> None:
    loaded, template, examples = load()
    sampling(loaded, template, examples)
    preference(loaded, template, examples)


if __name__ == "__main__":
    main()
