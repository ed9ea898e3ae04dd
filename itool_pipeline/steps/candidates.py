"""Which weights of a training are kept: those that answer most validation examples right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from itool_pipeline.core.types import Metrics, no_metrics
from itool_pipeline.engines.factory import release_engines
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.example_access import each_problem, split_rows
from itool_pipeline.steps.judging import search_judge
from itool_pipeline.steps.models import adapted_engine, chat
from itool_pipeline.steps.thoughts import behind_new_thoughts
from itool_pipeline.steps.workspace import StepError, Workspace


@dataclass(frozen=True, slots=True)
class Answered:
    """How many of the validation examples the policy after `step` optimizer steps answers right."""

    step: int
    right: int
    examples: int


def answered(
    ws: Workspace, adapters: Mapping[int, Path | None], name: str, parts: Parts, metrics: Metrics = no_metrics
) -> list[Answered]:
    """Greedy answers of each policy to the warm-up's validation examples, decided as the search decides.

    adapters  optimizer steps → the adapter then; None for the base model without one
    name      of the policies, for messages
    parts     where what is found for a policy is kept
    metrics   told of `answers` as each policy has answered

    Raises StepError when no example validates.
    """
    ids = {key for key, row in split_rows(ws).items() if row.split == "validation"}
    if not ids:
        raise StepError(
            f"experiment {ws.experiment.name}: preference.keep: most_right needs validation examples, and of so few "
            "none was set aside; raise split.validation_fraction"
        )
    problems, judge, template = list(each_problem(ws, ids)), search_judge(ws), chat(ws)
    prompts, progress = [problem.prompt for problem in problems], ws.progress("validation examples answered")
    found: list[Answered] = []
    for step, adapter in adapters.items():
        part = f"answered_{step:08d}.json"
        if not parts.has(part):
            engine = adapted_engine(ws, adapter, template, f"{name} after {step} steps")
            right, asked = 0, behind_new_thoughts(ws, engine, template, prompts)
            for number, row in engine.answer_each(asked, ws.experiment.search.max_response_tokens):
                right += judge.verdict(problems[number].example, template.text(row)).correct
            parts.write_json(part, asdict(Answered(step, right, len(problems))))
            # The next policy has other weights.
            release_engines()
        found.append(Answered(**parts.read_json(part)))
        metrics("answers", step, {"right": found[-1].right / found[-1].examples})
        progress(len(found) * len(problems), len(adapters) * len(problems))
    return found


def most_right(policies: Sequence[Answered]) -> Answered:
    """Of equals the one that was trained longest: nothing speaks against it."""
    return max(policies, key=lambda policy: (policy.right, policy.step))
