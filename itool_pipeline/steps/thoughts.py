"""What the model thinks before it answers (`prompt.thinking`): drawn first, and then a part of the answer's prompt.

Of what is searched the thoughts are drawn once in each iteration, where the replay buffer asks the newest policy how
hard an example is. The tree's root stands behind them, and so do all its states, its pairs and its gold answer: the
search compares steps of answers that were thought out alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from itool_pipeline.core.reward import SearchProblem
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.types import Engine
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.answer_batches import Prompt, answers_in_batches
from itool_pipeline.steps.artifact_files import THOUGHTS_FILE
from itool_pipeline.steps.example_access import each_problem, each_response_tokens
from itool_pipeline.steps.models import chat, require_context
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.table_files import read_rows_by_key, write_table_file
from itool_pipeline.store.tables import THOUGHTS

Thought = Mapping[str, Any]
"""`engines.thinking.Thoughts` as JSON."""
Behind = Callable[[str, Prompt], Prompt]
"""Example's id and prompt → the prompt behind what was thought about it."""

_BATCH = 64


def each_thought(
    engine: Engine, template: Chat, prompts: Mapping[str, Prompt], most: int
) -> Iterator[tuple[str, Thought]]:
    """(key, what the model thinks before it answers this prompt) as they come, greedy. `most`: tokens of it."""
    assert template.thoughts is not None
    keys, span = list(prompts), template.thoughts
    for number, row in engine.answer_each([span.begun(prompt) for prompt in prompts.values()], most, span.mark):
        yield keys[number], asdict(span.read(row))


def behind_new_thoughts(ws: Workspace, engine: Engine, template: Chat, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts behind what the model thinks now; nothing of it is kept. As they are where it does not think."""
    if not ws.experiment.prompt.thinking:
        return list(prompts)
    assert template.thoughts is not None
    by_number = {str(number): prompt for number, prompt in enumerate(prompts)}
    thoughts = dict(each_thought(engine, template, by_number, ws.experiment.prompt.max_thinking_tokens))
    return [template.thoughts.filled(prompt, thoughts[key]["text"]) for key, prompt in by_number.items()]


def think_about(
    ws: Workspace, parts: Parts, path: Path, ids: Collection[str], engine: Engine
) -> tuple[Behind, dict[str, Any]]:
    """Have the policy think about the examples, and write that to `path` as rows of the table `thoughts`.

    Returns what puts prompts behind it, and what the artifact's metadata says of it.

    Raises StepError when the longest prompt leaves no room for thoughts. Where the model does not think, nothing is
    written and prompts stay as they are.
    """
    most = ws.experiment.prompt.max_thinking_tokens
    if not ws.experiment.prompt.thinking:
        return _as_it_is, {}
    template, prompts = chat(ws), {found.id: found.prompt for found in each_response_tokens(ws, ids)}
    longest = max(map(len, prompts.values()), default=0) + most
    require_context(ws, longest, "thinking about an example", "prompt.max_thinking_tokens or data.max_prompt_tokens")

    def ask(missing: Mapping[str, Prompt]) -> Iterator[tuple[str, Thought]]:
        return each_thought(engine, template, missing, most)

    progress = ws.progress("buffered examples thought about")
    found = answers_in_batches(parts, "thoughts", prompts, _BATCH, ask, progress)
    figures = write_thoughts(path, [thought_row(key, ROUND, found[key]) for key in prompts])
    return _behind(template, {key: str(thought["text"]) for key, thought in found.items()}), figures


def behind_thoughts(ws: Workspace, k: int, ids: Collection[str]) -> Behind:
    """Puts these examples' prompts behind what was thought about them in iteration k."""
    if not ws.experiment.prompt.thinking:
        return _as_it_is
    file = ws.input(f"iteration_{k}/replay_buffer").file(THOUGHTS_FILE)
    rows = read_rows_by_key(file, "subject_id", ids, ["subject_id", "thoughts"])
    return _behind(chat(ws), {row["subject_id"]: row["thoughts"] for row in rows})


def each_problem_thought_out(ws: Workspace, k: int, ids: Collection[str]) -> Iterator[SearchProblem]:
    """These examples as the search takes them, behind what was thought about them; few are held at a time."""
    behind = behind_thoughts(ws, k, ids)
    for problem in each_problem(ws, ids):
        yield replace(problem, prompt=behind(problem.example.id, problem.prompt))


def thought_row(subject: str, asked: str, thought: Thought) -> dict[str, Any]:
    """A row of the table `thoughts`."""
    own = {"thoughts": thought["text"], "tokens": thought["tokens"], "closed": thought["closed"]}
    return {"subject_id": subject, "round": asked, **own}


def write_thoughts(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was thought, as the file of a table; how often the model ended it itself, and how long it is in the mean.

    Nothing is written where nothing was thought.
    """
    if not rows:
        return {}
    write_table_file(path, THOUGHTS, rows)
    return {
        "thoughts": len(rows),
        "thoughts_closed": sum(row["closed"] for row in rows),
        "mean_thought_tokens": fmean(row["tokens"] for row in rows),
    }


ROUND = "answers"
"""The only round of what is asked once."""


def _behind(template: Chat, thoughts: Mapping[str, str]) -> Behind:
    span = template.thoughts
    assert span is not None
    return lambda key, prompt: span.filled(prompt, thoughts[key])


def _as_it_is(_: str, prompt: Prompt) -> Prompt:
    return prompt
