"""A whole run counts what is rendered and what is read: prompts once for all iterations, examples only by id."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from itool_pipeline.core.reward import GradePrompt
from itool_pipeline.core.types import Example
from itool_pipeline.steps import cases, models, pairs, policy, prepare, replay_buffer, trees
from itool_pipeline.steps.artifact_files import TRAIN_FILE
from itool_pipeline.steps.asset_graph import BY_NAME
from itool_pipeline_tests.steps.by_hand import put, workspace
from itool_pipeline_tests.steps.without_model import HELD_OUT, PROBLEMS, Template, install, install_data, warm_up

NESTED = {"tools", "messages", "gold"}
"""The columns that take long to decode."""


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Example id → prompts made for it; with `grade ` before it, grade prompts."""
    counts: Counter[str] = Counter()
    prompt, grade = Template.prompt, Template.grade

    def counted_prompt(self: Template, example: Example) -> tuple[int, ...]:
        counts[example.id] += 1
        return prompt(self, example)

    def counted_grade(self: Template, example: Example) -> GradePrompt:
        counts[f"grade {example.id}"] += 1
        return grade(self, example)

    monkeypatch.setattr(Template, "prompt", counted_prompt)
    monkeypatch.setattr(Template, "grade", counted_grade)
    return counts


@pytest.fixture
def whole_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files of examples whose nested columns were read from the first row to the last."""
    found: list[str] = []
    iter_batches = pq.ParquetFile.iter_batches

    def noting(self: Any, batch_size: int, columns: list[str] | None) -> Any:
        if self.schema_arrow.names[0] == "example_id" and NESTED & set(columns or self.schema_arrow.names):
            found.append(str(columns))
        return iter_batches(self, batch_size=batch_size, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noting)
    return found


def test_every_prompt_is_rendered_once_and_no_iteration_reads_the_examples_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rendered: Counter[str], whole_reads: list[str]
) -> None:
    install(monkeypatch)
    install_data(monkeypatch)
    for module in (prepare, models):
        monkeypatch.setattr(module, "context_tokens", lambda ws: 10**6)
    buffer = {"fraction": 1.0, "top_fraction": 1.0}
    ws = workspace(tmp_path, iterations=3, replay_buffer=buffer, search={"shard_size": 5})
    put(ws, "base_model", lambda directory: (directory / "weights").write_text("x"))
    prepare.examples(ws)
    cases.benchmark_cases(ws, BY_NAME["bfcl"])
    assert ws.input("examples").file(TRAIN_FILE).exists()
    whole_reads.clear()
    prepare.splits(ws)
    warm_up(ws)
    for k in (1, 2, 3):
        replay_buffer.replay_buffer(ws, k)
        for index in trees.plan_shards(ws, k):
            trees.search_shards(ws, k, [index])
        trees.gather(ws, k)
        assert pairs.pairs(ws, k).artifact.manifest.metadata["kept"]
        policy.policy(ws, k)
    assert rendered == Counter([*PROBLEMS, *(f"grade {key}" for key in PROBLEMS), *(x.id for x in HELD_OUT)])
    assert whole_reads == []
