"""The assets that come before any training: base_model, examples, splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import EndpointModel, Experiment
from itool_pipeline.core.difficulty import difficulty_of
from itool_pipeline.core.splits import training_ids, unseen_ids, validation_ids, validation_shortfall
from itool_pipeline.core.types import Example
from itool_pipeline.data.base_model import describe_endpoint, prepare_base_model
from itool_pipeline.data.rows import Quarantined
from itool_pipeline.data.sources import load_data
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.template_rendering import ChatTemplateError
from itool_pipeline.files.durable import write_json
from itool_pipeline.steps.account import account_of, lost
from itool_pipeline.steps.artifact_files import ACCOUNT_FILE, QUARANTINE_FILE, SPLITS_FILE, TRAIN_FILE
from itool_pipeline.steps.display import table
from itool_pipeline.steps.example_files import (
    read_examples,
    size_of,
    training_row,
    write_training_examples,
)
from itool_pipeline.steps.models import call_syntax, chat, chat_in, context_tokens, require_usable
from itool_pipeline.steps.token_spool import TokenSpool
from itool_pipeline.steps.workspace import Produced, StepError, Workspace
from itool_pipeline.steps.writing import NotWritable, in_its_syntax
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import read_table_rows, write_table_file
from itool_pipeline.store.tables import QUARANTINE, SPLITS

SYSTEM_ROLE, FIRST_USER_TURN = "in a role of its own", "before the first user turn"
"""Where prompts have the system text."""


def base_model(ws: Workspace) -> Produced:
    """The base model's weights and tokenizer in safetensors. What no step could use is refused before the weights.

    Of a served model what is stated of it, and the tokenizer that its prompts are measured by.
    """

    def make(step: Step) -> dict[str, Any]:
        e = ws.experiment
        if isinstance(e.model, EndpointModel):
            return describe_endpoint(e.model, ws.paths.downloads, step.work)

        def require(directory: Path) -> None:
            require_usable(directory)
            chat_in(directory, e)

        return prepare_base_model(e.model, ws.paths.downloads, step.work, require)

    return ws.produce("base_model", make)


def examples(ws: Workspace) -> Produced:
    """Examples to train on with their token ids, and what became of every other row, with the reason."""

    def make(step: Step) -> dict[str, Any]:
        template, context, e, syntax = chat(ws), context_tokens(ws), ws.experiment, call_syntax(ws)
        ws.say(_shown_by(template))
        refused: Counter[str] = Counter()
        prompts = TokenSpool(step.work, lambda example: _training_prompt(template, syntax, example, refused))
        responses = TokenSpool(step.work, lambda example: template.response(in_its_syntax(example, syntax).response))

        def fits(example: Example) -> bool:
            return context is None or (prompts.length(example) or 0) + (responses.length(example) or 0) <= context

        loaded = load_data(
            e.data,
            ws.paths.downloads,
            e.seed,
            asked=asked_in_tests(e, ws.paths.downloads),
            token_count=prompts.length,
            fits=fits,
            progress=ws.progress,
        )
        if loaded.layout:
            ws.say(f"data.layout: the rows are read as {loaded.layout}")
        became = account_of(loaded, refused)
        if not loaded.train:
            raise StepError(f"experiment {e.name}: no training example is left. {lost(became)}")
        rows = (_training_row(template, syntax, example, prompts, responses) for example in loaded.train)
        write_training_examples(step.work / TRAIN_FILE, rows)
        write_quarantine(step.work / QUARANTINE_FILE, loaded.quarantined)
        write_json(step.work / ACCOUNT_FILE, became)
        written = list(read_table_rows(step.work / TRAIN_FILE, ["category", "tokenised_alone"]))
        categories = Counter(row["category"] for row in written)
        return {
            "train_examples": len(loaded.train),
            "quarantined": len(loaded.quarantined),
            "left_out": sum(loaded.left_out.values()),
            "tools_shown_by": template.tools_shown_by,
            "system_text": SYSTEM_ROLE if template.has_system_role else FIRST_USER_TURN,
            "with_control_tokens": sum(map(template.holds_control_tokens, read_examples(step.work / TRAIN_FILE))),
            "tokenised_alone": sum(row["tokenised_alone"] for row in written),
            "data_commit": loaded.commit or None,
            "data_layout": loaded.layout or None,
            "by_category": table({"category": name, "train": count} for name, count in sorted(categories.items())),
            "account": table(became),
            "changed": table({"change": what, "times": times} for what, times in sorted(loaded.changed.items())),
            "at_odds_with_tools": table({"what": what, "times": n} for what, n in sorted(loaded.loose.items())),
            "some_quarantined": table(asdict(row) for row in loaded.quarantined[:5]),
            "some_examples": table(_shown(x) for x in islice(read_examples(step.work / TRAIN_FILE), 5)),
        }

    return ws.produce("examples", make)


def splits(ws: Workspace) -> Produced:
    """Training and validation parts, and difficulty (Eq. 1)."""

    def make(step: Step) -> dict[str, Any]:
        data, e = ws.input("examples"), ws.experiment
        bounds = e.split.difficulty
        measures = ["example_id", "group_id", "tool_count", "tool_chars", "call_count"]
        found = {row["example_id"]: row for row in read_table_rows(data.file(TRAIN_FILE), measures)}
        groups, fraction = {k: r["group_id"] for k, r in found.items()}, e.split.validation_fraction
        held_back = validation_ids(groups, fraction, e.seed)
        shortfall = validation_shortfall(groups, held_back, fraction)
        if shortfall:
            ws.say(f"warning: {shortfall} (split.validation_fraction)")
        trained = training_ids(found.keys() - held_back, e.split.train_fraction, e.seed)
        unseen = unseen_ids({key: groups[key] for key in trained}, e.split.warmup_fraction, e.seed)
        if e.split.warmup_fraction < 1 and not unseen:
            ws.say("warning: no example is left unseen: the rest is smaller than each group (split.warmup_fraction)")
        parts = {
            **dict.fromkeys(found, "unused"),
            **dict.fromkeys(held_back, "validation"),
            **dict.fromkeys(trained, "train"),
            **dict.fromkeys(unseen, "unseen"),
        }
        rows = [
            {
                "example_id": key,
                "group_id": row["group_id"],
                "split": parts[key],
                "difficulty": str(difficulty_of(size_of(row), bounds)),
            }
            for key, row in found.items()
        ]
        write_table_file(step.work / SPLITS_FILE, SPLITS, rows)
        counts = Counter((row["difficulty"], row["split"]) for row in rows)
        return {
            "train_examples": len(trained) - len(unseen),
            "unseen_examples": len(unseen),
            "validation_examples": len(held_back),
            "unused_examples": len(found) - len(held_back) - len(trained),
            "validation_shortfall": shortfall or None,
            "by_difficulty": table(
                {"difficulty": d, "split": s, "examples": n} for (d, s), n in sorted(counts.items())
            ),
        }

    return ws.produce("splits", make)


def asked_in_tests(experiment: Experiment, downloads: Path) -> frozenset[bytes]:
    """The signatures of all that the reserved benchmarks may ask: what has one of them is not trained on."""
    return frozenset(
        signature
        for benchmark in BENCHMARKS
        if benchmark.reserved
        for question in benchmark.questions(experiment, downloads)
        for signature in benchmark.case_signatures(question)
    )


def prompt_ids(template: Chat, example: Example, refused: Counter[str]) -> tuple[int, ...] | None:
    """Token ids of the example's prompt; None when the model's chat template refuses it, counted by its words."""
    try:
        return template.prompt(example)
    except ChatTemplateError as error:
        refused[error.reason] += 1
        return None


def _training_prompt(
    template: Chat, syntax: CallSyntax, example: Example, refused: Counter[str]
) -> tuple[int, ...] | None:
    """The same for an example whose answer is to be learnt: None as well when no model can be taught to say that."""
    try:
        example = in_its_syntax(example, syntax)
    except NotWritable as error:
        refused[str(error)] += 1
        return None
    control = template.control_token_in(example.response)
    if control is not None:
        refused[f"the answer holds the control token {control}"] += 1
        return None
    return prompt_ids(template, example, refused)


def _shown_by(template: Chat) -> str:
    """For people: how the model's chat template is used."""
    place = SYSTEM_ROLE if template.has_system_role else f"{FIRST_USER_TURN}, for the template has no role for it"
    return f"prompts: tools are shown by the {template.tools_shown_by}, system text stands {place}"


def write_quarantine(path: Path, rows: Iterable[Quarantined]) -> None:
    """What could not be read, with the reasons."""
    write_table_file(path, QUARANTINE, map(asdict, rows))


def _training_row(
    template: Chat, syntax: CallSyntax, example: Example, prompts: TokenSpool, responses: TokenSpool
) -> dict[str, Any]:
    prompt, response = prompts(example), responses(example)
    example = in_its_syntax(example, syntax)
    assert prompt is not None, "only what has a prompt is chosen to train on"
    assert response is not None
    alone = template.tokenised_alone(example.response)
    return training_row(example, prompt, response, template.grade(example), tokenised_alone=alone)


def _shown(example: Example) -> dict[str, Any]:
    return {"id": example.id, "category": example.category, "question": example.question, "answer": example.response}
