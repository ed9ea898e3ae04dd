"""A model that thinks, through all steps: where thoughts are, and where none are.

First on a tiny random model with Qwen3's own template, against transformers; then on policies out of a hash, for the
trainings of other kinds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from itool_pipeline.core.judge import Judge
from itool_pipeline.core.types import Example, Message
from itool_pipeline.engines.model import LoadedModel, load_model, load_tokenizer
from itool_pipeline.engines.template_rendering import ChatTemplateError
from itool_pipeline.engines.thinking import Thoughts
from itool_pipeline.engines.types import Engine
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps import models, policy, prepare, replay_buffer, thoughts, trees
from itool_pipeline.steps.artifact_files import BUFFER_FILE, CASES_FILE, THOUGHTS_FILE
from itool_pipeline.steps.asset_graph import BY_NAME
from itool_pipeline.steps.cases import benchmark_cases
from itool_pipeline.steps.examinee import ModelExaminee
from itool_pipeline.steps.judging import search_judge
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.scoring import score_checkpoint
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline.training.data_file import read_preference_data, read_sft_data
from itool_pipeline.training.items import PreferenceRow, SftItem
from itool_pipeline.training.runner import run_training_job
from itool_pipeline_tests.core.fake_policy import call_problem, text_problem
from itool_pipeline_tests.engines.family_templates import family_templates
from itool_pipeline_tests.steps.by_hand import database_of, experiment, put, put_whole_model, workspace, write_train
from itool_pipeline_tests.steps.without_model import (
    PROBLEMS,
    HashedPolicy,
    Template,
    Trainings,
    install,
    prepared,
    searched,
    warm_up,
)
from itool_pipeline_tests.store.by_hand import ask

QUESTIONS = {
    "c0": "How warm is it at noon in the shade of that old tree?",
    "c1": "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "t0": "SELECT name FROM towns WHERE river IS NOT NULL ORDER BY height DESC",
    "t1": "Alors, qui est là? Personne, dit le renard.",
}
EXAMPLES = {
    key: replace((call_problem if key[0] == "c" else text_problem)(key).example, messages=(Message("user", question),))
    for key, question in QUESTIONS.items()
}
BUDGET = 6
OPTIMIZER = {"learning_rate": 1e-2, "epochs": 1, "batch_size": 2}
CALLS = [
    {"messages": [{"role": "user", "content": "Rome?"}, {"role": "assistant", "content": "I cannot say."}]},
    {"messages": [{"role": "user", "content": "Oslo?"}, {"role": "assistant", "content": "Nor there."}]},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def thinking_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger weights, so that it says different things, and Qwen3's template."""
    directory = tmp_path_factory.mktemp("thinking_model")
    loaded = load_model(tiny_model_dir, experiment(compute={"device": "cpu", "dtype": "float32"}).compute)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0)
    loaded.model.save_pretrained(directory)
    tokenizer: Any = load_tokenizer(tiny_model_dir)
    tokenizer.chat_template = family_templates()["qwen3"]
    tokenizer.save_pretrained(directory)
    return directory


@dataclass
class Seen:
    """What trainings and judges were handed."""

    sft: list[SftItem] = field(default_factory=list)
    rows: list[PreferenceRow] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The real trainings and the real judge, watched."""
    found = Seen()

    def run(job: Any, progress: Any, **more: Any) -> Any:
        if job.objective.type == "sft":
            found.sft += read_sft_data(job.data).train
        else:
            found.rows += read_preference_data(job.data).train
        return run_training_job(job, progress, **more)

    class Watched:
        def __init__(self, judge: Judge) -> None:
            self._judge = judge

        def verdict(self, example: Example, text: str) -> Any:
            found.judged.append(text)
            return self._judge.verdict(example, text)

        def agreement(self, example: Example, text: str) -> Any:
            found.judged.append(text)
            return self._judge.agreement(example, text)

    monkeypatch.setattr("itool_pipeline.training.runner.run_training_job", run)
    monkeypatch.setattr(trees, "search_judge", lambda ws: Watched(search_judge(ws)))
    return found


@pytest.fixture
def ws(tmp_path: Path, thinking_dir: Path) -> Workspace:
    calls = tmp_path / "held_out.jsonl"
    calls.write_text("".join(f"{json.dumps({**row, 'tools': TOOLS})}\n" for row in CALLS))
    ws = workspace(
        tmp_path / "storage",
        iterations=1,
        prompt={"thinking": True, "max_thinking_tokens": BUDGET},
        compute={"device": "cpu", "dtype": "float32"},
        split={"validation_fraction": 0.0},
        warmup={"curriculum": "mixed", "lora": {"rank": 4}, "optimizer": OPTIMIZER},
        replay_buffer={"fraction": 1.0, "top_fraction": 1.0},
        search={"iterations": 2, "simulation": 1, "max_fragment_tokens": 4, "max_response_tokens": 10},
        pairs={"min_q_difference": None, "min_chosen_q": None},
        preference={"quantization": "none", "gold_weight": 0.5, "optimizer": OPTIMIZER},
        evaluation={"bfcl": None, "calls": {"path": str(calls), "max_new_tokens": 5}},
    )
    put_whole_model(ws, thinking_dir)
    put(ws, "examples", lambda directory: write_train(directory, EXAMPLES.values(), models.chat(ws)))
    prepare.splits(ws)
    return ws


def model_at(ws: Workspace, checkpoint: str) -> LoadedModel:
    """The model at the checkpoint, loaded anew."""
    directory, adapter = models.base_dir(ws), models.adapter_dir(ws, checkpoint)
    return load_model(directory, ws.experiment.compute, adapter=adapter, merge=adapter is not None)


def greedy(loaded: LoadedModel, prompt: Sequence[int], count: int) -> list[int]:
    """The likeliest tokens by transformers, to the end of the turn."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            best = int(loaded.model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
            if best in loaded.end_tokens:
                break
            tokens.append(best)
    return tokens[len(prompt) :]


def log_probs(loaded: LoadedModel, prompt: Sequence[int], said: Sequence[int]) -> list[float]:
    ids = torch.tensor([[*prompt, *said]])
    with torch.no_grad():
        found = loaded.model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
    return [float(p) for p in found[len(prompt) - 1 :, 0]]


@dataclass
class Read:
    """The tokenizer by itself: what texts and tokens are, whatever our code says."""

    tokenizer: Any

    def text(self, ids: Sequence[int]) -> str:
        found: str = self.tokenizer.decode(list(ids))
        return found

    def tokens(self, text: str) -> tuple[int, ...]:
        """As they are when a word follows: two line breaks are one token only at the end of a text."""
        *before, word = self.tokenizer.encode(f"{text}x", add_special_tokens=False)
        assert self.text([word]) == "x"
        return tuple(before)

    def before_thoughts(self, prompt: Sequence[int]) -> str:
        """Up to the opened tag, behind which the model thinks."""
        text = self.text(prompt)
        assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
        return text.removesuffix("\n</think>\n\n")


def rows_of(ws: Workspace, asset: str, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(ws.input(asset).file(name)).to_pylist()
    return found


def test_thoughts_are_drawn_once_and_nothing_is_cut_judged_or_trained_on_of_them(ws: Workspace, seen: Seen) -> None:
    warm_up(ws)
    nodes = searched(ws)
    policy.policy(ws, 1)
    template, before, read = models.chat(ws), model_at(ws, "warmup/hard"), Read(load_tokenizer(models.base_dir(ws)))

    # Each example was thought about by the newest policy, greedily, as long as the budget lets.
    kept = rows_of(ws, "iteration_1/replay_buffer", THOUGHTS_FILE)
    assert {row["subject_id"] for row in kept} == EXAMPLES.keys()
    prompts: dict[str, tuple[int, ...]] = {}
    for row in kept:
        opened = read.before_thoughts(template.prompt(EXAMPLES[row["subject_id"]]))
        drawn = greedy(before, read.tokens(opened), BUDGET)
        text = read.text(drawn).strip()
        assert (row["thoughts"], row["round"], row["closed"]) == (text, "answers", False)
        assert row["tokens"] == len(drawn) <= BUDGET
        prompts[row["subject_id"]] = read.tokens(f"{opened}{text}\n</think>\n\n")
    assert len({row["thoughts"] for row in kept}) > 1
    assert max(row["tokens"] for row in kept) == BUDGET
    told = ws.input("iteration_1/replay_buffer").manifest.metadata
    assert (told["thoughts"], told["thoughts_closed"]) == (len(EXAMPLES), 0)
    assert told["mean_thought_tokens"] == sum(row["tokens"] for row in kept) / len(kept)

    # Perplexity (Eq. 4) and priors (Eq. 5) are those behind the thoughts.
    for row in rows_of(ws, "iteration_1/replay_buffer", BUFFER_FILE):
        response = template.response(EXAMPLES[row["example_id"]].response)
        found = log_probs(before, prompts[row["example_id"]], response)
        assert row["perplexity"] == pytest.approx(math.exp(-sum(found) / len(found)), rel=1e-4)
    first = [node for node in nodes if node["depth"] == 1]
    assert {node["tree_id"] for node in first} == EXAMPLES.keys()
    for node in first:
        found = log_probs(before, prompts[node["tree_id"]], node["token_ids"])
        assert node["prior"] == pytest.approx(math.exp(sum(found) / len(found)), rel=1e-3)

    # Nodes, and what is judged, have the answer's tokens and no others, which have a budget of their own.
    for node in nodes:
        assert read.text([token for token in node["token_ids"] if token != template.end_token]) == node["fragment"]
        assert len(node["token_ids"]) <= 4
    said = {node["prefix"] + node["fragment"] for node in nodes}
    going = {node["prefix"] + node["fragment"] for node in nodes if not node["terminal"]}
    assert going <= set(seen.judged) <= said

    # Trainings learn nothing of thoughts: they are in prompts, and empty before the gold answers of the warm-up.
    gold = {key: template.response(x.response) for key, x in EXAMPLES.items()}
    assert {item.name: item.prompt for item in seen.sft} == {key: template.prompt(x) for key, x in EXAMPLES.items()}
    assert {item.name: item.response for item in seen.sft} == gold
    assert seen.rows
    for paired in seen.rows:
        tokens = {tuple(node["token_ids"]) for node in nodes if node["tree_id"] == paired.name}
        assert (paired.prompt, paired.gold) == (prompts[paired.name], gold[paired.name])
        assert {pair.chosen for pair in paired.pairs} | {pair.rejected for pair in paired.pairs} <= tokens


def test_a_benchmark_s_answers_stand_behind_thoughts_which_are_no_part_of_the_output(ws: Workspace) -> None:
    warm_up(ws)
    benchmark_cases(ws, BY_NAME["calls"])
    made = score_checkpoint(ws, BY_NAME["calls"], "warmup").artifact
    template, model, read = models.chat(ws), model_at(ws, "warmup/hard"), Read(load_tokenizer(models.base_dir(ws)))
    cases = BY_NAME["calls"].load_cases(ws.experiment, ws.paths.downloads).examples
    outputs = {row["case_id"]: row["output"] for row in pq.read_table(made.file(CASES_FILE)).to_pylist()}
    assert outputs.keys() == {case.id for case in cases}
    assert len(cases) == 2
    for case in cases:
        opened = read.before_thoughts(template.prompt(case))
        thought = read.text(greedy(model, read.tokens(opened), BUDGET)).strip()
        answer = greedy(model, read.tokens(f"{opened}{thought}\n</think>\n\n"), 5)
        assert outputs[case.id] == template.text(answer)
        query = f"SELECT thoughts, round FROM thoughts WHERE subject_id = '{case.id}'"
        assert ask(database_of(ws), query) == [(thought, "answers")]


def test_thoughts_that_do_not_fit_in_the_model_s_context_are_refused(ws: Workspace) -> None:
    warm_up(ws)
    longer = with_prompt(ws, max_thinking_tokens=4096)
    with pytest.raises(StepError, match=r"thinking about an example takes \d+ .*lower prompt\.max_thinking_tokens or"):
        replay_buffer.replay_buffer(longer, 1)


def test_a_model_without_thoughts_is_refused_before_anything_is_asked_of_it(tiny_model_dir: Path) -> None:
    with pytest.raises(ChatTemplateError, match=r"prompt\.thinking is on, and .* knows no thoughts"):
        models.chat_in(tiny_model_dir, experiment(prompt={"thinking": True}))


def with_prompt(ws: Workspace, **over: Any) -> Workspace:
    prompt = ws.experiment.prompt.model_copy(update=over)
    e = ws.experiment.model_copy(update={"prompt": prompt})
    return replace(ws, experiment=e, planned=plan(e))


THINKING, CLOSED = -5, -6
"""Tokens: thoughts begin, thoughts end."""


class Span:
    """In place of `ThoughtSpan`: a thought is one token."""

    mark = "."

    def begun(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        return (*prompt, THINKING)

    def filled(self, prompt: tuple[int, ...], thoughts: str) -> tuple[int, ...]:
        return (*prompt, THINKING, int(thoughts), CLOSED)

    def read(self, token_ids: Sequence[int]) -> Thoughts:
        (token,) = token_ids
        return Thoughts(str(token), 1, True)


class ThinkingTemplate(Template):
    thoughts = Span()


class ThinkingPolicy(HashedPolicy, Engine):
    """Thinks of the length of the prompt, and counts how often it thinks."""

    def __init__(self) -> None:
        super().__init__(3)
        self.thought: list[tuple[int, ...]] = []

    def answer_each(
        self, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, until: str = ""
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        assert (max_new_tokens, until) == (BUDGET, ".")
        self.thought += prompts
        yield from ((number, (-len(prompt),)) for number, prompt in enumerate(prompts))


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    found, thinker = install(monkeypatch), ThinkingPolicy()
    for module in (trees, replay_buffer):
        monkeypatch.setattr(module, "search_engine", lambda ws, checkpoint: thinker)
    monkeypatch.setattr(thoughts, "chat", lambda ws: ThinkingTemplate())
    monkeypatch.setattr(thoughts, "require_context", lambda *_: None)
    found.thinker = thinker  # type: ignore[attr-defined]
    return found


def behind(key: str) -> tuple[int, ...]:
    prompt = PROBLEMS[key].prompt
    return (*prompt, THINKING, -len(prompt) - 1, CLOSED)


def made(root: Path, **preference: Any) -> Workspace:
    loss = {"preference": preference, "pairs": {"min_q_difference": None, "min_chosen_q": None}}
    ws = prepared(root, prompt={"thinking": True, "max_thinking_tokens": BUDGET}, **loss)
    warm_up(ws)
    searched(ws)
    policy.policy(ws, 1)
    return ws


def test_what_is_rehearsed_stands_behind_no_thoughts(tmp_path: Path, trainings: Trainings) -> None:
    ws = made(tmp_path, gold_weight=0.5, rehearse=True)
    asked = trainings.asked[-1]
    rows = [*asked.train, *asked.validation]
    paired = {row.name for row in rows if row.pairs}
    assert paired
    assert {row.name for row in rows} - paired
    assert all(row.prompt == (behind(row.name) if row.pairs else PROBLEMS[row.name].prompt) for row in rows)
    buffered = {row["example_id"] for row in rows_of(ws, "iteration_1/replay_buffer", BUFFER_FILE)}
    thinker: ThinkingPolicy = trainings.thinker  # type: ignore[attr-defined]
    assert sorted(thinker.thought) == sorted((*PROBLEMS[key].prompt, THINKING) for key in buffered), "once for each"


def test_right_answers_are_trained_behind_the_thoughts_that_they_followed(tmp_path: Path, trainings: Trainings) -> None:
    made(tmp_path, loss={"type": "rejection_sampling"})
    items = trainings.asked[-1].train
    assert items
    assert all(item.prompt == behind(item.name) for item in items)


def test_grpo_goes_on_from_the_thoughts_of_what_was_searched(tmp_path: Path, trainings: Trainings) -> None:
    made(tmp_path, loss={"type": "grpo"})
    (asked,) = trainings.by_grpo
    assert asked.prompts
    assert all(prompt == behind(key) for key, prompt in asked.prompts.items())


def test_candidates_think_before_they_answer(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, prompt={"thinking": True, "max_thinking_tokens": BUDGET})
    prompts = [problem.prompt for problem in PROBLEMS.values()]
    template: Any = ThinkingTemplate()
    assert thoughts.behind_new_thoughts(ws, ThinkingPolicy(), template, prompts) == [behind(key) for key in PROBLEMS]


def test_a_killed_replay_buffer_thinks_about_nothing_twice(tmp_path: Path, trainings: Trainings) -> None:
    ws = prepared(tmp_path, prompt={"thinking": True, "max_thinking_tokens": BUDGET})
    warm_up(ws)
    thinker, parts = ThinkingPolicy(), Parts(tmp_path / "parts")
    for name in ("first", "second"):
        thoughts.think_about(ws, parts, tmp_path / name, list(PROBLEMS), thinker)
    assert len(thinker.thought) == len(PROBLEMS)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_what_thinking_changes_of_the_plan(tmp_path: Path) -> None:
    """Prompts, and what is drawn; how much is thought matters to nothing that draws no thoughts."""
    off, on = experiment(iterations=1), experiment(iterations=1, prompt={"thinking": True})
    longer = experiment(iterations=1, prompt={"thinking": True, "max_thinking_tokens": 2048})
    unused = experiment(iterations=1, prompt={"max_thinking_tokens": 2048})
    plans = [{name: p.fingerprint for name, p in plan(e).items()} for e in (off, on, longer, unused)]
    assert plans[0] == plans[3]
    same = {name for name in plans[0] if plans[0][name] == plans[1][name]}
    assert same == {"base_model"}
    same = {name for name in plans[0] if plans[1][name] == plans[2][name]}
    assert same == {
        "base_model",
        "examples",
        "splits",
        "bfcl_cases",
        *(f"warmup/{s}" for s in ("easy", "medium", "hard")),
    }
    assert "iteration_1/replay_buffer" not in plan(off)["iteration_1/policy"].origin.inputs
    assert "iteration_1/replay_buffer" in plan(on)["iteration_1/policy"].origin.inputs


def test_thoughts_leave_less_of_the_context_for_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("itool_pipeline.steps.examinee.context_tokens", lambda ws: 1000)
    monkeypatch.setattr("itool_pipeline.steps.examinee.chat", lambda ws: None)
    for over, room in (({}, 1000), ({"thinking": True, "max_thinking_tokens": 300}, 700)):
        ws = workspace(tmp_path, prompt=over)
        settings = ws.experiment.evaluation.bfcl
        assert settings is not None
        assert ModelExaminee.of(ws, "base", "bfcl", settings, Parts(tmp_path / "parts")).context == room
