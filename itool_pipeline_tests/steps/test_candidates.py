"""Weights that are kept for right answers: each policy answers as its adapter's file says, on rows by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from itool_pipeline.config import Experiment
from itool_pipeline.core.types import Metrics, Progress
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.files.locks import Say
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps import candidates, policy
from itool_pipeline.steps.candidates import Answered, most_right
from itool_pipeline.steps.example_access import split_rows
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline.training.job import TrainingJob, TrainingResult, Validation, candidate_path
from itool_pipeline_tests.steps.by_hand import database_of
from itool_pipeline_tests.steps.without_model import (
    PROBLEMS,
    Template,
    Trainings,
    adapter,
    install,
    prepared,
    searched,
    warm_up,
)
from itool_pipeline_tests.store.by_hand import ask

FILE = "adapter_model.safetensors"
MOST_RIGHT = {"keep": "most_right"}
LAX = {"min_q_difference": 0.25, "min_chosen_q": -0.5}


@dataclass
class Policies:
    """A policy answers right to as many of the examples as `right` has for its adapter's text, to the others wrong."""

    right: dict[str, int]
    asked: list[str] = field(default_factory=list)

    def engine(self, ws: Workspace, adapter: Path | None, template: Template, name: str) -> Policies._Engine:
        text = (adapter / FILE).read_text() if adapter else "base"
        self.asked.append(text)
        return self._Engine(self.right[text])

    @dataclass
    class _Engine:
        right: int

        def answer_each(
            self, prompts: Sequence[tuple[int, ...]], max_new_tokens: int
        ) -> Iterator[tuple[int, tuple[int, ...]]]:
            assert max_new_tokens == 77
            gold = {problem.prompt: problem.example.response for problem in PROBLEMS.values()}
            for number in reversed(range(len(prompts))):
                text = gold[prompts[number]] if number < self.right else "[g()]"
                yield number, tuple(text.encode())


def trained_policy(
    root: Path, monkeypatch: pytest.MonkeyPatch, right: dict[str, int], curriculum: str = "easy_to_hard"
) -> tuple[Workspace, Policies]:
    """Iteration 1 after a training of 3 steps, whose adapters are "1" and "3" and whose loss is lowest after one."""
    install(monkeypatch)
    policies = Policies(right)

    def run(job: TrainingJob, progress: Progress, *, say: Say, metrics: Metrics) -> TrainingResult:
        result = trainings.run(job, progress, metrics=metrics)
        if job.candidates is None:
            return result
        for step in (1, 3):
            candidate_path(job.candidates, step).mkdir(parents=True)
            (candidate_path(job.candidates, step) / FILE).write_text(str(step))
        (job.out / FILE).write_text("1")
        losses = (Validation(0, 3.0), Validation(1, 1.0), Validation(3, 2.0))
        return TrainingResult((1.0,) * 3, losses, 1, 3, result.examples, 7)

    trainings = Trainings()
    monkeypatch.setattr("itool_pipeline.training.runner.run_training_job", run)
    monkeypatch.setattr(candidates, "adapted_engine", policies.engine)
    monkeypatch.setattr(candidates, "chat", lambda ws: Template())
    ws = prepared(
        root,
        preference=MOST_RIGHT,
        pairs=LAX,
        split={"validation_fraction": 0.25},
        search={"max_response_tokens": 77},
        warmup={"curriculum": curriculum},
    )
    warm_up(ws)
    searched(ws)
    policy.policy(ws, 1)
    return ws, policies


def start(ws: Workspace) -> str:
    return adapter(ws, "warmup/hard") or "base"


@pytest.mark.parametrize(
    ("right", "kept"),
    [
        ({"1": 1, "3": 2}, "3"),  # though its loss is higher
        ({"1": 2, "3": 1}, "1"),
        ({"1": 2, "3": 2}, "3"),  # of equals the later
        ({"1": 1, "3": 1}, "3"),  # as many as before
        ({"1": 0, "3": 0}, ""),
    ],
)
def test_the_most_right_answers_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: dict[str, int], kept: str
) -> None:
    # the warm-up trains one stage: its adapter says "1" too, so it gets another name
    monkeypatch.setattr(Trainings, "run", _named(Trainings.run))
    ws, policies = trained_policy(tmp_path, monkeypatch, {"warm": 1, **right})
    validating = [key for key, row in split_rows(ws).items() if row.split == "validation"]
    assert len(validating) >= 2
    assert policies.asked == ["warm", "1", "3"]
    assert adapter(ws, "iteration_1/policy") == (kept or "warm")
    metadata = ws.input("iteration_1/policy").manifest.metadata
    most = max(1, *right.values())
    best = int(kept or 0)
    assert (metadata["right_before"], metadata["right"], metadata["held_back"]) == (1, most, not kept)
    assert (metadata["validation_answers"], metadata["best_step"]) == (len(validating), best)
    columns = "best_step, validation_loss, right_answers"
    row = ask(database_of(ws), f"SELECT {columns} FROM checkpoints WHERE stage = 'iteration_1/policy'")
    n = len(validating)
    told = [[0, 1, n], [1, right["1"], n], [3, right["3"], n]]
    assert [(step, loss, json.loads(answers)) for step, loss, answers in row] == [
        (best, {0: 3.0, 1: 1.0, 3: 2.0}[best], told)
    ]


def _named(run: object) -> object:
    """Trainings of the warm-up, whose adapter says `warm`."""

    def named(self: Trainings, job: TrainingJob, progress: Progress, *, metrics: Metrics) -> TrainingResult:
        result: TrainingResult = run(self, job, progress)  # type: ignore[operator]
        (job.out / FILE).write_text("warm")
        return result

    return named


def test_a_base_model_that_answers_best_stays_without_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, policies = trained_policy(tmp_path, monkeypatch, {"base": 2, "1": 1, "3": 0}, curriculum="none")
    assert policies.asked == ["base", "1", "3"]
    assert adapter(ws, "iteration_1/policy") is None


def test_what_was_answered_before_a_kill_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws, policies = trained_policy(tmp_path, monkeypatch, {"base": 1, "1": 2, "3": 1}, curriculum="none")
    asked = len(policies.asked)
    parts = Parts(tmp_path / "parts")
    adapters = {0: None, 1: _adapter(tmp_path, "1")}
    with ws.producing("iteration_1/policy"):
        first = candidates.answered(ws, adapters, "it", parts)
        assert len(policies.asked) == asked + 2
        assert candidates.answered(ws, {**adapters, 3: _adapter(tmp_path, "3")}, "it", parts)[:2] == first
    assert policies.asked[asked:] == ["base", "1", "3"]


def _adapter(root: Path, text: str) -> Path:
    (root / text).mkdir()
    (root / text / FILE).write_text(text)
    return root / text


def test_of_equals_the_one_that_was_trained_longest() -> None:
    assert most_right([Answered(0, 3, 9), Answered(5, 3, 9), Answered(9, 2, 9)]) == Answered(5, 3, 9)


def test_without_validation_examples_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    ws = prepared(tmp_path, preference=MOST_RIGHT)
    monkeypatch.setattr(candidates, "split_rows", lambda ws: {})
    with pytest.raises(StepError, match="most_right needs validation examples, and of so few none was set aside"):
        candidates.answered(ws, {}, "it", Parts(tmp_path / "parts"))
    demo = load_experiment("demo").model_dump()
    with pytest.raises(ValueError, match=r"raise split\.validation_fraction"):
        Experiment.model_validate(
            {**demo, "preference": {**demo["preference"], **MOST_RIGHT}, "split": {"validation_fraction": 0}}
        )
