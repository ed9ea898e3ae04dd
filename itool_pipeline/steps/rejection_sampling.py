"""iteration_k/policy by rejection sampling: fine-tuning on the policy's own right answers in place of preferences."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from itool_pipeline.config import RejectionSampling
from itool_pipeline.steps.artifact_files import ANSWERS_FILE
from itool_pipeline.steps.asset_graph import policy_before
from itool_pipeline.steps.example_access import each_response_tokens
from itool_pipeline.steps.fine_tuning import fine_tune
from itool_pipeline.steps.held_back import parted
from itool_pipeline.steps.thoughts import behind_thoughts
from itool_pipeline.steps.trained import unchanged
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import read_table_rows
from itool_pipeline.training.items import SftItem


def by_right_answers(ws: Workspace, k: int, step: Step, config: RejectionSampling) -> dict[str, Any]:
    """Make the policy of iteration k from the right answers in its trees; the artifact's metadata."""
    before, preference = policy_before(k), ws.experiment.preference
    items, refused = _items(ws, k, config.answers_per_tree, preference.max_tokens)
    if not items:
        return unchanged(ws, step, before, "the search gave no right answer that could be trained on")
    data = parted(ws, items)
    counts = {"answers": len(data.train), "validation_answers": len(data.validation), "overlong_refused": refused}
    what = f"{len(data.train)} right answers"
    return {**fine_tune(ws, step, before, data, what, preference.optimizer, preference.quantization), **counts}


def _items(ws: Workspace, k: int, most: int, max_tokens: int) -> tuple[list[SftItem], int]:
    """The first `most` right answers of each tree, and how many of them are too long with their prompt."""
    found: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for row in read_table_rows(ws.input(f"iteration_{k}/pairs").file(ANSWERS_FILE), ["tree_id", "answer_ids"]):
        if len(found[row["tree_id"]]) < most:
            found[row["tree_id"]].append(tuple(row["answer_ids"]))
    behind = behind_thoughts(ws, k, found)
    prompts = {tokens.id: behind(tokens.id, tokens.prompt) for tokens in each_response_tokens(ws, found)}
    items = [SftItem(key, prompts[key], answer) for key, answers in found.items() for answer in answers]
    fitting = [item for item in items if item.length <= max_tokens]
    return fitting, len(items) - len(fitting)
