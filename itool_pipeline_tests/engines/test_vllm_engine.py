"""The engine on vLLM itself, against the engine on transformers, with a real model on a CPU.

Runs where vLLM is installed (docs/scaling.md says how); vLLM is started once, for all of this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from itool_pipeline.config import ComputeConfig, LoraConfig, MctsConfig
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import GradeRequest, SampleRequest, ScoreRequest
from itool_pipeline.core.reward import SearchProblem
from itool_pipeline.core.search import search_trees
from itool_pipeline.engines.branches import draw_tokens
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import LoadedModel, load_model
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.engines.transformers_engine import TransformersEngine
from itool_pipeline.engines.types import Engine, EngineSettings, Sampling
from itool_pipeline.engines.vllm_maker import VllmMaker
from itool_pipeline.training.lora import fresh_adapter, save_adapter, trainable_parameters
from itool_pipeline_tests.core.fake_policy import call_problem, text_problem
from itool_pipeline_tests.engines.test_vllm_requests import close, ids, sample_requests, without_logprobs
from itool_pipeline_tests.judges.by_source import JUDGE

pytest.importorskip(
    "vllm", reason="needs vLLM, an extra in an environment of its own: docs/scaling.md says how to install it"
)
pytestmark = pytest.mark.slow

CPU = ComputeConfig(engine="vllm", device="cpu", dtype="float32", prefix_cache_gib=0.5)
SAMPLING = Sampling(temperature=1.2, top_k=50, max_fragment_tokens=8)
RULE = FragmentRule("aq,.)")
Makes = Callable[..., Engine]
SET_FOR_VLLM = ("LD_PRELOAD", "NUMEXPR_MAX_THREADS", "TORCH_COMPILE_DISABLE", "VLLM_USE_V2_MODEL_RUNNER")
"""Variables that are set for vLLM's processes, by us or by itself, and are not meant for ours."""


def write_adapter(base: Path, directory: Path, seed: int, rank: int = 4) -> Path:
    """An adapter that changes what the model says, as peft saves it."""
    model = load_model(base, CPU).model
    config = LoraConfig(rank=rank, alpha=2 * rank, dropout=0.0)
    adapted = fresh_adapter(model, config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in trainable_parameters(adapted).items():
            if "lora_B" in name:
                weight.normal_(0.0, 0.02, generator=generator)
    save_adapter(adapted, directory)
    return directory


@pytest.fixture(scope="module")
def adapters(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [write_adapter(base_model_dir, root / str(seed), seed) for seed in (1, 2)]


def settings_of(base: Path, adapter: Path | None, **changes: Any) -> EngineSettings:
    return replace(EngineSettings(base, adapter, CPU, SAMPLING, RULE, end_token=2), **changes)


def processes() -> set[int]:
    """Of all descendants of this process, those that run."""
    import psutil

    found = psutil.Process().children(recursive=True)
    return {child.pid for child in found if child.status() != psutil.STATUS_ZOMBIE}


@pytest.fixture(scope="module")
def made(base_model_dir: Path, adapters: list[Path]) -> Iterator[Makes]:
    """Makes engines by adapter. Adapters come first, so that one start is enough for all."""
    maker, said = VllmMaker(), list[str]()

    def make(adapter: Path | None = None, **changes: Any) -> Engine:
        return maker.make(settings_of(base_model_dir, adapter, **changes), said.append)

    before, environment = processes(), [os.environ.get(name) for name in SET_FOR_VLLM]
    make(adapters[0])
    started = processes() - before
    assert [os.environ.get(name) for name in SET_FOR_VLLM] == environment
    yield make
    maker.release()
    assert len(said) == 1, "started more than once"
    assert started
    assert not [pid for pid in processes() & started if "resource_tracker" not in command_of(pid)]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def on_transformers(base: Path, adapter: Path | None = None) -> tuple[LoadedModel, TransformersEngine]:
    loaded = load_model(base, CPU, adapter=adapter, merge=adapter is not None)
    return loaded, TransformersEngine(loaded, RULE, SAMPLING, end_token=2, end_tokens=loaded.end_tokens)


def test_fragments_are_those_of_the_engine_on_transformers(made: Makes, base_model_dir: Path) -> None:
    """Drawn by the same numbers, cut at the same token, log-probabilities at temperature 1 over the vocabulary."""
    loaded, other = on_transformers(base_model_dir)
    requests = [*sample_requests(loaded), SampleRequest(ids(90), (), "", 4, seed=5)]
    found, expected = made().sample(requests), other.sample(requests)
    assert without_logprobs(found) == without_logprobs(expected)
    for found_row, expected_row in zip(found, expected, strict=True):
        assert all(np.allclose(f.logprobs, e.logprobs, atol=2e-3) for f, e in zip(found_row, expected_row, strict=True))
    assert len({len(f.token_ids) for row in found for f in row}) > 2


def test_grades_scores_and_answers_are_those_of_the_engine_on_transformers(made: Makes, base_model_dir: Path) -> None:
    _, other = on_transformers(base_model_dir)
    own = made()
    graded = [
        GradeRequest(ids(70), (ids(3), (), ids(40)), ids(2), (65, 66, 67, 68)),
        GradeRequest(ids(3), ((),), (), (9,)),
    ]
    for rows, expected in zip(own.grade(graded), other.grade(graded), strict=True):
        assert all(np.allclose(row, e, atol=2e-3) for row, e in zip(rows, expected, strict=True))
    scored = [ScoreRequest(ids(70), (ids(3), ids(1), ids(40))), ScoreRequest(ids(1), (ids(5),))]
    for _ in range(2):  # the second time all of it is in the cache
        for rows, expected in zip(own.score(scored), other.score(scored), strict=True):
            assert all(np.allclose(row, e, atol=2e-3) for row, e in zip(rows, expected, strict=True))
    prompts = [ids(20), ids(1), ids(50)]
    assert own.answer(prompts, 9) == other.answer(prompts, 9)


def test_adapters_answer_as_merged_ones_do(made: Makes, base_model_dir: Path, adapters: list[Path]) -> None:
    request = ScoreRequest(ids(40), (ids(6),))
    found = []
    for adapter in (None, *adapters, None, adapters[0]):
        _, other = on_transformers(base_model_dir, adapter)
        (row,), (expected,) = made(adapter).score([request])[0], other.score([request])[0]
        assert np.allclose(row, expected, atol=2e-3)
        found.append(row)
    assert not close(found[0], found[1])
    assert not close(found[1], found[2])
    assert close(found[0], found[3])
    assert close(found[1], found[4])


def test_an_adapter_written_anew_is_another_one(made: Makes, base_model_dir: Path, tmp_path: Path) -> None:
    request = SampleRequest(ids(64), (), "", 2, seed=1)
    rows = []
    for seed in (3, 4):
        (tmp_path / "work").mkdir(exist_ok=True)
        for file in write_adapter(base_model_dir, tmp_path / f"new{seed}", seed).iterdir():
            file.replace(tmp_path / "work" / file.name)
        rows.append(made(tmp_path / "work").sample([request])[0])
    assert not close(rows[0][0].logprobs[:1], rows[1][0].logprobs[:1])


def test_an_adapter_of_another_model_is_refused_and_the_engine_goes_on(
    made: Makes, tiny_model_dir: Path, tmp_path: Path
) -> None:
    foreign = write_adapter(tiny_model_dir, tmp_path / "foreign", 1)
    with pytest.raises(ModelError, match="adapter of another model"):
        made(foreign)
    with pytest.raises(ModelError, match="not a complete adapter"):
        made(tmp_path)
    assert len(made().answer([ids(4)], 3)[0]) == 3


def test_a_device_that_this_build_is_not_for_is_refused(made: Makes) -> None:
    from itool_pipeline.engines.vllm_core import require_device

    require_device(torch.device("cpu"))
    with pytest.raises(ModelError, match="the build for a CPU"):
        require_device(torch.device("cuda"))


def problems(base: Path) -> list[SearchProblem]:
    from itool_pipeline.engines.model import load_tokenizer

    template = Chat(load_tokenizer(base))
    examples = [call_problem("a").example, text_problem("b").example, call_problem("c").example]
    return [SearchProblem(e, template.prompt(e), template.grade(e)) for e in examples]


def test_a_search_makes_trees_that_are_right(made: Makes, base_model_dir: Path) -> None:
    """N is the sum below and what ended there; V and Q are Eq. 8 and 9; siblings differ; fragments join."""
    limits = MctsConfig(iterations=3, max_response_tokens=24, max_fragment_tokens=8)
    engine = made(rule=FragmentRule())
    trees = search_trees(problems(base_model_dir), engine, JUDGE, limits, seed=11)
    assert [tree.problem.example.id for tree in trees] == ["a", "b", "c"]
    for tree in trees:
        assert tree.nodes[0].visits == limits.iterations
        assert len(tree.nodes) > 6
        for index, node in enumerate(tree.nodes):
            below = [tree.nodes[i] for i in node.children]
            visits = sum(n.visits for n in below)
            assert visits <= node.visits
            value = sum(n.visits * n.action_value for n in below) / visits if visits else 0.0
            assert node.value == pytest.approx(value, abs=1e-9)
            siblings = [(n.text, n.state.finished) for n in below]
            assert len(set(siblings)) == len(siblings) <= limits.width
            if index:
                above = tree.nodes[node.parent]
                assert node.reward == pytest.approx(node.rewards.total - above.rewards.total, abs=1e-12)
                assert node.action_value == pytest.approx(node.reward + limits.gamma * node.value, abs=1e-9)
                assert node.fragment is not None
                assert node.state.text == above.state.text + node.fragment.text
                assert node.state.token_ids == above.state.token_ids + node.fragment.token_ids
                assert all(p <= 1e-4 for p in node.fragment.logprobs)


def test_the_same_search_twice_makes_the_same_trees(made: Makes, base_model_dir: Path) -> None:
    """Whatever else is in the batch: a draw depends on its request, and on rounding, which decides nothing here."""
    limits = MctsConfig(iterations=2, max_response_tokens=16, max_fragment_tokens=8)
    asked, engine = problems(base_model_dir), made(rule=FragmentRule())
    together = search_trees(asked, engine, JUDGE, limits, seed=12)
    alone = [search_trees([problem], engine, JUDGE, limits, seed=12)[0] for problem in asked]
    assert [[n.text for n in tree.nodes] for tree in together] == [[n.text for n in tree.nodes] for tree in alone]


class TestDraws:
    """The part that runs inside vLLM, alone."""

    def test_each_text_draws_by_its_own_numbers(self) -> None:
        from vllm import SamplingParams
        from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

        from itool_pipeline.engines.vllm_draws import SeededDraws
        from itool_pipeline.engines.vllm_requests import DRAWS

        rng = np.random.default_rng(0)
        logits = torch.from_numpy(rng.normal(size=(5, 90)).astype(np.float32) * 3)
        warm, cold = Sampling(1.5, 20, 1.0), Sampling(0.7, 50, 0.9)
        numbers = rng.random((4, 6)).tolist()
        kinds = [warm, cold, warm, warm]
        params = [
            SamplingParams(extra_args={DRAWS: [k.temperature, k.top_k, k.top_p, n]})
            for k, n in zip(kinds, numbers, strict=True)
        ]
        sampled: list[list[int]] = [[], [7, 8], [5], []]
        draws = SeededDraws(None, torch.device("cpu"), False)
        added = [(i, params[i], None, sampled[i]) for i in range(4)]
        draws.update_state(BatchUpdate(5, [], [*added, (4, SamplingParams(), None, [])], []))

        def expected(row: int, text: int) -> int:
            ((token,), _) = draw_tokens(logits[row : row + 1], [numbers[text][len(sampled[text])]], kinds[text])
            return token

        changed = draws.apply(logits.clone())
        assert changed[:4].argmax(-1).tolist() == [expected(i, i) for i in range(4)]
        assert torch.equal(changed[4], logits[4])
        sampled[1].append(3)  # vLLM's own list grows
        draws.update_state(BatchUpdate(4, [0], [], [(3, 0, MoveDirectionality.UNIDIRECTIONAL)]))
        changed = draws.apply(logits.clone())
        assert changed[:3].argmax(-1).tolist() == [expected(0, 3), expected(1, 1), expected(2, 2)]
        assert torch.equal(changed[3:], logits[3:])
