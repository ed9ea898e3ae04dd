"""Without a warm-up and without MCTS, on a tiny random model: the real engine, QLoRA on a fresh adapter."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from itool_pipeline.config import MctsConfig, PreferenceConfig
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import LoadedModel, load_model, load_tokenizer
from itool_pipeline.steps import models, policy, prepare, trees
from itool_pipeline.steps.artifact_files import BUFFER_FILE
from itool_pipeline.steps.example_access import each_response_tokens
from itool_pipeline.steps.models import ADAPTER
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.replay_buffer import replay_buffer
from itool_pipeline.steps.tree_rows import generated_tokens
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline_tests.core.fake_policy import call_problem, text_problem
from itool_pipeline_tests.steps.by_hand import put, put_whole_model, workspace, write_train
from itool_pipeline_tests.steps.without_model import searched, warm_up

EXAMPLES = [
    problem(f"{kind}{i}").example for i in range(2) for kind, problem in (("c", call_problem), ("t", text_problem))
]
OPTIMIZER = {"learning_rate": 1e-2, "epochs": 2, "batch_size": 2}


@pytest.fixture
def ws(tmp_path: Path, tiny_model_dir: Path) -> Workspace:
    ws = workspace(
        tmp_path,
        iterations=1,
        compute={"device": "cpu", "dtype": "float32"},
        split={"validation_fraction": 0.0},
        warmup={"curriculum": "none", "lora": {"rank": 4}},
        replay_buffer={"fraction": 1.0, "top_fraction": 1.0},
        search={"type": "sampling", "responses": 3, "max_fragment_tokens": 4, "max_response_tokens": 10},
        preference={"loss": {"type": "dpo", "beta": 0.5}, "quantization": "nf4", "optimizer": OPTIMIZER},
    )
    put_whole_model(ws, tiny_model_dir)

    def examples(directory: Path) -> None:
        write_train(directory, EXAMPLES, models.chat(ws))

    put(ws, "examples", examples)
    prepare.splits(ws)
    return ws


def model_at(ws: Workspace, checkpoint: str) -> LoadedModel:
    """The model at the checkpoint, loaded anew."""
    directory, adapter = models.base_dir(ws), models.adapter_dir(ws, checkpoint)
    return load_model(directory, ws.experiment.compute, adapter=adapter, merge=True)


def logits(ws: Workspace, checkpoint: str) -> torch.Tensor:
    loaded = model_at(ws, checkpoint)
    with torch.no_grad():
        found: torch.Tensor = loaded.model(input_ids=torch.tensor([[5, 6, 7]])).logits
    return found


def test_from_the_base_model_to_a_policy(ws: Workspace, tiny_model_dir: Path) -> None:
    warm_up(ws)
    assert torch.equal(logits(ws, "warmup/hard"), logits(ws, "base_model"))
    nodes = searched(ws)
    responses = [n for n in nodes if n["depth"] == 1]
    assert len({n["tree_id"] for n in responses}) == len(EXAMPLES)
    assert all(1 <= len(n["token_ids"]) < 10 + 4 and n["terminal"] for n in responses)
    text = Chat(load_tokenizer(tiny_model_dir))
    assert all(text.text(n["token_ids"]) == n["fragment"] for n in responses)
    metadata: dict[str, Any] = policy.policy(ws, 1).artifact.manifest.metadata
    assert metadata["pairs"] == ws.input("iteration_1/pairs").manifest.metadata["kept"] > 0
    # DPO against the policy before its first step: a fresh adapter changes nothing, so every margin is 0
    assert metadata["first_loss"] == pytest.approx(-torch.nn.functional.logsigmoid(torch.tensor(0.0)).item())
    assert metadata["last_loss"] < metadata["first_loss"]
    weights = load_file(ws.input("iteration_1/policy").path / ADAPTER / "adapter_model.safetensors")
    assert {w.shape[0] for name, w in weights.items() if "lora_A" in name} == {4}
    assert not torch.equal(logits(ws, "iteration_1/policy"), logits(ws, "base_model"))


def test_from_the_base_model_to_a_policy_by_grpo(ws: Workspace) -> None:
    """A random model has nothing right, so that all rewards are equal and a fresh adapter goes on changing nothing."""
    pytest.importorskip("trl", reason="TRL is an extra")
    optimizer = {**OPTIMIZER, "batch_size": 4}
    preference = {"loss": {"type": "grpo", "generations": 2}, "quantization": "none", "optimizer": optimizer}
    config = PreferenceConfig.model_validate(preference)
    e = ws.experiment.model_copy(update={"preference": config})
    by_grpo = replace(ws, experiment=e, planned=plan(e))
    warm_up(by_grpo)
    searched_tokens = sum(len(n["token_ids"]) * n["visits"] for n in searched(by_grpo) if n["depth"])
    metadata: dict[str, Any] = policy.policy(by_grpo, 1).artifact.manifest.metadata
    assert metadata["token_budget"] == searched_tokens <= metadata["generated_tokens"]
    assert metadata["generated_tokens"] < searched_tokens + 4 * 10, "at most a step of four completions beyond"
    assert metadata["examples"] == len(EXAMPLES)
    assert (metadata["first_reward"], metadata["last_reward"], metadata["mean_equal_rewards"]) == (-1, -1, 1)
    assert metadata["optimizer_steps"] >= searched_tokens / 40
    assert torch.equal(logits(by_grpo, "iteration_1/policy"), logits(by_grpo, "base_model"))


def test_the_likeliest_response_is_chosen_by_the_model_itself(ws: Workspace) -> None:
    """The prior in the rows against the model's own log-probabilities, computed once more by transformers."""
    warm_up(ws)
    nodes = searched(ws)
    loaded = model_at(ws, "warmup/hard")
    template = models.chat(ws)
    by_id = {x.id: x for x in EXAMPLES}
    for node in [n for n in nodes if n["depth"] == 1]:
        prompt = template.prompt(by_id[node["tree_id"]])
        ids = torch.tensor([[*prompt, *node["token_ids"]]])
        with torch.no_grad():
            log_probs = loaded.model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        assert node["prior"] == pytest.approx(log_probs[len(prompt) - 1 :].mean().exp().item(), rel=1e-3)


def test_the_buffers_perplexity_is_exp_of_transformers_loss(ws: Workspace) -> None:
    """Eq. 4 from end to end: prompt, gold response and end of turn through the model, prompt labels masked."""
    warm_up(ws)
    replay_buffer(ws, 1)
    loaded, template = model_at(ws, "warmup/hard"), models.chat(ws)
    rows = pq.read_table(ws.input("iteration_1/replay_buffer").file(BUFFER_FILE)).to_pylist()
    assert {row["example_id"] for row in rows} == {x.id for x in EXAMPLES}
    for row in rows:
        example = next(x for x in EXAMPLES if x.id == row["example_id"])
        prompt, response = template.prompt(example), template.response(example.response)
        labels = torch.tensor([[*[-100] * len(prompt), *response]])
        with torch.no_grad():
            loss = loaded.model(input_ids=torch.tensor([[*prompt, *response]]), labels=labels).loss
        assert row["perplexity"] == pytest.approx(math.exp(loss.item()), rel=1e-4)
        assert row["response_tokens"] == len(response)


def test_a_search_that_does_not_fit_in_the_models_context_is_refused(ws: Workspace) -> None:
    """The tiny model has 4,096 positions; the grade prompt is the longest that the search reads."""
    warm_up(ws)
    replay_buffer(ws, 1)
    template = models.chat(ws)
    grades = [template.grade(x) for x in EXAMPLES]
    longest = max(len(grade.before) + len(grade.after) for grade in grades)
    assert longest > max(len(template.prompt(x)) for x in EXAMPLES)
    for most, fits in ((4096 - 4 - longest, True), (4096 - 4 - longest + 1, False)):
        search = ws.experiment.search.model_copy(update={"max_response_tokens": most})
        e = ws.experiment.model_copy(update={"search": search})
        longer = replace(ws, experiment=e, planned=plan(e))
        if fits:
            assert trees.plan_shards(longer, 1) == [0]
        else:
            with pytest.raises(
                StepError, match=r"the search takes 4097 tokens .* lower search\.max_response_tokens or"
            ):
                trees.plan_shards(longer, 1)


def test_a_guided_search_finds_what_a_random_model_never_says(ws: Workspace) -> None:
    limits = {"depth": 8, "iterations": 8, "simulation": 7, "max_response_tokens": 60}
    search = MctsConfig.model_validate({"guide": "gold", "self_evaluation": {"type": "none"}, **limits})
    e = ws.experiment.model_copy(update={"search": search})
    guided = replace(ws, experiment=e, planned=plan(e))
    warm_up(guided)
    nodes = {(n["tree_id"], n["node_id"]): n for n in searched(guided)}
    drawn = Counter[str]()
    for node in nodes.values():
        drawn[node["tree_id"]] += 0 if node["given"] else len(node["token_ids"])
    assert generated_tokens(guided, 1) == drawn
    model = model_at(guided, "warmup/hard").model
    tokens = {found.id: found for found in each_response_tokens(guided, {x.id for x in EXAMPLES})}
    for example in (x for x in EXAMPLES if x.gold):
        own = [n for n in nodes.values() if n["tree_id"] == example.id]
        (end,) = [n for n in own if n["correct"]]
        assert end["prefix"] + end["fragment"] == example.response
        path = [end]
        while path[-1]["parent_id"] is not None:
            path.append(nodes[example.id, path[-1]["parent_id"]])
        steps = path[-2::-1]
        assert all(step["given"] and not step["flawed"] for step in steps)
        found = tokens[example.id]
        assert [token for step in steps for token in step["token_ids"]] == list(found.response)
        with torch.no_grad():
            log_probs = model(torch.tensor([found.prompt + found.response])).logits[0].log_softmax(-1)
        at = len(found.prompt)
        for step in steps:
            scores = [log_probs[at + i - 1, token].item() for i, token in enumerate(step["token_ids"])]
            assert step["prior"] == pytest.approx(math.exp(sum(scores) / len(scores)), rel=1e-3)
            at += len(scores)
        assert not any(n["given"] for n in own if n not in steps)
