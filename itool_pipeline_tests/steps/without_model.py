"""The real steps of an experiment on a policy that is a hash: from examples to pairs, and what training is handed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.bfcl import benchmark as bfcl
from itool_pipeline.benchmarks.bfcl.benchmark import BfclBenchmark
from itool_pipeline.benchmarks.bfcl.official_checker import CaseVerdict
from itool_pipeline.core.policy import ScoreRequest
from itool_pipeline.core.reward import GradePrompt
from itool_pipeline.core.types import Example, Metrics, Progress, no_metrics
from itool_pipeline.data.rows import Rows
from itool_pipeline.data.sources import Chosen, LoadedData
from itool_pipeline.engines import dtype_finding
from itool_pipeline.files.locks import Say
from itool_pipeline.steps import (
    cases,
    computing,
    examinee,
    grpo,
    models,
    pairs,
    prepare,
    replay_buffer,
    trained,
    training_run,
    trees,
    warmup,
)
from itool_pipeline.steps.examinee import ModelExaminee
from itool_pipeline.steps.models import ADAPTER
from itool_pipeline.steps.tree_rows import read_trees
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.training.data_file import read_preference_data, read_sft_data
from itool_pipeline.training.grpo import RewardOf
from itool_pipeline.training.job import GrpoJob, GrpoResult, TrainingJob, TrainingResult
from itool_pipeline_tests.core.fake_policy import END, RandomPolicy, call_problem, text_problem
from itool_pipeline_tests.steps.by_hand import put, workspace, write_train

PROBLEMS = {p.example.id: p for i in range(8) for p in (call_problem(f"call{i}"), text_problem(f"text{i}"))}
"""Eight examples that expect a call, eight that expect none."""

HELD_OUT = (call_problem("held_out").example, call_problem("held_out_too").example)


class Template:
    """In place of the chat template."""

    tools_shown_by = "system"
    has_system_role = True
    end_token = END

    def control_token_in(self, text: str) -> None:
        return None

    def holds_control_tokens(self, example: Example) -> bool:
        return False

    def grade(self, example: Example) -> GradePrompt:
        return PROBLEMS[example.id].grade

    def prompt(self, example: Example) -> tuple[int, ...]:
        return (PROBLEMS.get(example.id) or call_problem(example.id)).prompt

    def response(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def text(self, token_ids: Sequence[int]) -> str:
        return bytes(token_ids).decode()

    def tokenised_alone(self, text: str) -> bool:
        return False


class HashedPolicy(RandomPolicy):
    """Scores gold responses too."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[list[tuple[float, ...]]]:
        return [self._gold(r) if r.prompt[0] == -100 else super(HashedPolicy, self).score([r])[0] for r in requests]

    def _gold(self, request: ScoreRequest) -> list[tuple[float, ...]]:
        digest = hashlib.sha256(repr(request.prompt).encode()).digest()
        return [tuple(-digest[0] / 100 for _ in c) for c in request.continuations]


@dataclass
class Trained:
    """What a training was asked for: from which checkpoint, by which job, on which data."""

    start: str
    job: TrainingJob
    train: Sequence[Any]
    validation: Sequence[Any]


@dataclass
class TrainedByGrpo:
    """What a training by GRPO was asked for."""

    start: str
    job: GrpoJob
    prompts: Mapping[str, tuple[int, ...]]
    reward: RewardOf


@dataclass
class Trainings:
    """Stands in for the trainings of all kinds; an adapter is a file with the training's number among its kind."""

    asked: list[Trained] = field(default_factory=list)
    by_grpo: list[TrainedByGrpo] = field(default_factory=list)
    engines: list[str] = field(default_factory=list)  # the checkpoint of every engine that was asked for
    start: str = ""

    def adapter_dir(self, ws: Workspace, checkpoint: str) -> Path | None:
        self.start = checkpoint
        return models.adapter_dir(ws, checkpoint)

    def run(
        self, job: TrainingJob, progress: Progress, *, say: Say | None = None, metrics: Metrics = no_metrics
    ) -> TrainingResult:
        read: Any = read_sft_data if job.objective.type == "sft" else read_preference_data
        data = read(job.data)
        self.asked.append(Trained(self.start, job, data.train, data.validation))
        job.out.mkdir()
        (job.out / "adapter_model.safetensors").write_text(str(len(self.asked)))
        metrics("train", 1, {"loss": 1.0})
        return TrainingResult((1.0,), (), 1, 1, len(data.train), 7)

    def run_grpo(
        self,
        job: GrpoJob,
        prompts: Mapping[str, tuple[int, ...]],
        reward: RewardOf,
        progress: Progress,
        metrics: Metrics,
    ) -> GrpoResult:
        self.by_grpo.append(TrainedByGrpo(self.start, job, prompts, reward))
        job.out.mkdir(exist_ok=True)
        (job.out / "adapter_model.safetensors").write_text(f"grpo {len(self.by_grpo)}")
        progress(job.budget, job.budget)
        metrics("train", 1, {"loss": 0.5})
        return GrpoResult((0.5, 0.25), (-1.0, 0.5), (1.0, 0.5), job.budget + 3, len(prompts), 7)


def install(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """Put the fakes where the steps take a model from."""
    trainings = Trainings()

    def engine(ws: Workspace, checkpoint: str) -> HashedPolicy:
        ws.input(checkpoint)
        trainings.engines.append(checkpoint)
        return HashedPolicy(3)

    monkeypatch.setattr(trees, "context_tokens", lambda ws: None)
    no_measurement(monkeypatch)
    for module in (trees, replay_buffer):
        monkeypatch.setattr(module, "search_engine", engine)
    for module in (training_run, trained):
        monkeypatch.setattr(module, "adapter_dir", trainings.adapter_dir)
    for module in (training_run, grpo):
        monkeypatch.setattr(module, "weights_dir", lambda ws: ws.input("base_model").path)
    monkeypatch.setattr(grpo, "chat", lambda ws: Template())
    monkeypatch.setattr("itool_pipeline.training.runner.run_training_job", trainings.run)
    monkeypatch.setattr("itool_pipeline.training.grpo.train_by_grpo", trainings.run_grpo)
    return trainings


def no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base model has no config, and `auto` is fp32."""
    monkeypatch.setattr(computing, "base_dir", lambda ws: ws.input("base_model").path)
    monkeypatch.setattr(dtype_finding, "measured_dtype", lambda base, findings, say: "float32")


def install_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes for what comes before the splits and for the benchmark, so that whole runs do without a model too."""

    def base_model(model: Any, downloads: Path, out: Path, require: Any) -> dict[str, Any]:
        (out / "weights").write_text("x")
        return {}

    class Checker:
        def __init__(self, wheel: Path, syntax: object = None) -> None:
            pass

        def check(self, example: Example, response: str) -> CaseVerdict:
            right = response == example.response
            return CaseVerdict(right, "" if right else "ast_decoder:decoder_failed", "" if right else "no call")

    trained = {p.example.id: p.example for p in PROBLEMS.values()}
    train = Chosen(lambda progress: iter(trained.values()), {key: x.group for key, x in trained.items()})
    loaded = LoadedData("by hand", "", train, (), len(train), {})
    answers = {HELD_OUT[0].id: HELD_OUT[0].response, HELD_OUT[1].id: "No."}
    no_measurement(monkeypatch)
    monkeypatch.setattr(prepare, "prepare_base_model", base_model)
    monkeypatch.setattr(prepare, "load_data", lambda *args, **rest: loaded)
    for module in (prepare, cases, examinee):
        monkeypatch.setattr(module, "chat", lambda ws: Template())
    monkeypatch.setattr(prepare, "context_tokens", lambda ws: None)
    monkeypatch.setattr(BfclBenchmark, "load_cases", lambda *_: Rows(HELD_OUT, ()))
    monkeypatch.setattr(BfclBenchmark, "questions", lambda *_: HELD_OUT)
    monkeypatch.setattr(bfcl, "fetch_wheel", lambda wheel, downloads: downloads)
    monkeypatch.setattr(bfcl, "OfficialChecker", Checker)
    monkeypatch.setattr(ModelExaminee, "answer_each", lambda self, examples: answers)


def prepared(root: Path, **over: Any) -> Workspace:
    """An experiment of one iteration up to its splits; the base model is an empty artifact."""
    small = {"iterations": 1, "replay_buffer": {"fraction": 1.0, "top_fraction": 1.0}}
    ws = workspace(root, **{**small, **over})
    put(ws, "base_model", lambda directory: (directory / "weights").write_text("x"))

    def examples(directory: Path) -> None:
        write_train(directory, (p.example for p in PROBLEMS.values()), Template())

    put(ws, "examples", examples)
    ws.record(ws.input("examples"), reused=False)
    prepare.splits(ws)
    return ws


def warm_up(ws: Workspace) -> None:
    for stage in ("easy", "medium", "hard"):
        warmup.warmup(ws, stage)


def searched(ws: Workspace) -> list[dict[str, Any]]:
    """Buffer, trees and pairs of the first iteration; the nodes of all trees."""
    replay_buffer.replay_buffer(ws, 1)
    for index in trees.plan_shards(ws, 1):
        trees.search_shards(ws, 1, [index])
    trees.gather(ws, 1)
    pairs.pairs(ws, 1)
    return [node._asdict() for tree in read_trees(ws, 1) for node in tree]


def adapter(ws: Workspace, asset: str) -> str | None:
    """Which training made the adapter of a checkpoint; None when it has no adapter."""
    file = ws.input(asset).path / ADAPTER / "adapter_model.safetensors"
    return file.read_text() if file.exists() else None
