"""iteration_k/replay_buffer: the buffer's perplexities under the newest policy, and the hardest of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

from itool_pipeline.core.perplexity import response_perplexity
from itool_pipeline.core.policy import Policy, ScoreRequest, Task
from itool_pipeline.core.replay_buffer import RankedExample, most_frequent, select_hardest, share_among_mistakes
from itool_pipeline.core.response_sampling import draw_mistakes
from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.core.types import Example, Expectation
from itool_pipeline.steps.artifact_files import BUFFER_FILE, THOUGHTS_FILE
from itool_pipeline.steps.asset_graph import policy_before
from itool_pipeline.steps.computing import computed_in, settled
from itool_pipeline.steps.display import histogram, table
from itool_pipeline.steps.example_access import buffered_rows, each_problem, each_response_tokens, training_examples
from itool_pipeline.steps.example_files import ResponseTokens
from itool_pipeline.steps.judging import mistake_type, search_judge
from itool_pipeline.steps.models import search_engine
from itool_pipeline.steps.progress import Timed
from itool_pipeline.steps.thoughts import Behind, think_about
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import BUFFER

CALL, NO_CALL = "call", "no_call"
"""The two groups of `balance: by_call`: what the right answer does."""


def replay_buffer(ws: Workspace, k: int) -> Produced:
    """Refresh the buffer with the newest policy and mark what iteration k searches (Section 3.2, Eq. 4)."""
    asset = f"iteration_{k}/replay_buffer"

    def make(step: Step) -> dict[str, Any]:
        settings = ws.experiment.replay_buffer
        buffered = buffered_rows(ws)
        engine = search_engine(settled(ws, step.parts), policy_before(k))
        behind, thought = think_about(ws, step.parts, step.work / THOUGHTS_FILE, buffered, engine)
        progress = ws.progress("buffered examples scored")
        gold = (replace(x, prompt=behind(x.id, x.prompt)) for x in each_response_tokens(ws, buffered))
        scored, groups = _score(gold, len(buffered), engine, progress)
        seed = derive_seed(ws.experiment.seed, asset)
        mistakes = _mistakes(ws, buffered, behind, engine, seed) if settings.select_by == "mistakes" else {}
        right = {key: (settings.answers - own.total()) / settings.answers for key, own in mistakes.items()}
        kinds = {key: most_frequent(own) for key, own in mistakes.items()}
        calibrated = settings.balance == "by_mistake"
        groups_of = {"by_call": groups, "by_mistake": {key: kind or "" for key, kind in kinds.items()}}
        ranking = select_hardest(
            {key: h for key, (h, _) in scored.items()},
            settings.top_fraction,
            by=settings.select_by,
            seed=seed,
            groups=groups_of.get(settings.balance),
            counts=share_among_mistakes(mistakes, settings.top_fraction) if calibrated else None,
            right=right,
        )
        selected = Counter(groups[r.example_id] for r in ranking if r.selected)
        rows = [
            {
                "example_id": r.example_id,
                "perplexity": r.perplexity,
                "response_tokens": scored[r.example_id][1],
                "right_share": right.get(r.example_id),
                "mistakes": mistakes.get(r.example_id),
                "mistake": kinds.get(r.example_id),
                "rank": r.rank,
                "selected": r.selected,
            }
            for r in ranking
        ]
        write_table_file(step.work / BUFFER_FILE, BUFFER, rows)
        values = sorted(r.perplexity for r in ranking)
        hardest = training_examples(ws, {r.example_id for r in ranking[:8]})
        return {
            "examples": len(ranking),
            "selected": selected.total(),
            **{f"selected_{group}": selected[group] for group in (CALL, NO_CALL)},
            "median_perplexity": values[len(values) // 2],
            "highest_perplexity": values[-1],
            "perplexities": histogram(
                step.work / "perplexity.png", values, "Perplexity of gold responses", "perplexity"
            ),
            "hardest": table(_shown(r, hardest[r.example_id]) for r in ranking[:8]),
            **({"mean_right_share": fmean(right.values()), "mistakes": _deficiencies(rows)} if right else {}),
            **thought,
            **computed_in(step.parts),
        }

    return ws.produce(asset, make)


def _score(
    examples: Iterator[ResponseTokens], total: int, policy: Policy, progress: Timed
) -> tuple[dict[str, tuple[float, int]], dict[str, str]]:
    """By id: perplexity of the gold response (Eq. 4) with its length in tokens, and the group of `balance: by_call`."""
    scored: dict[str, tuple[float, int]] = {}
    groups: dict[str, str] = {}
    for _, (key, row, expects) in policy.serve(map(_scoring, examples)):
        scored[key] = response_perplexity(row), len(row)
        groups[key] = NO_CALL if expects is Expectation.NO_CALL else CALL
        progress(len(scored), total)
    return scored, groups


def _scoring(example: ResponseTokens) -> Task[tuple[str, tuple[float, ...], Expectation]]:
    ((row,),) = yield (ScoreRequest(example.prompt, (example.response,)),)
    return example.id, row, example.expects


def _mistakes(
    ws: Workspace, ids: Collection[str], behind: Behind, policy: Policy, seed: int
) -> dict[str, Counter[str]]:
    """By id: how often the answers that the policy is asked for make each type of mistake."""
    drawn, judge, progress = ws.experiment.answers_drawn(), search_judge(ws), ws.progress("buffered examples answered")
    names: list[str] = []
    type_of = partial(mistake_type, syntax=judge.syntax)

    def tasks() -> Iterator[Task[Counter[str]]]:
        for problem in each_problem(ws, ids):
            names.append(problem.example.id)
            asked = replace(problem, prompt=behind(problem.example.id, problem.prompt))
            yield draw_mistakes(asked, judge, drawn, type_of, seed=seed)

    found: dict[str, Counter[str]] = {}
    for number, mistakes in policy.serve(tasks()):
        found[names[number]] = mistakes
        progress(len(found), len(ids))
    return found


def _deficiencies(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """For each type of mistake: answers that make it, examples that make it most often, and how many are searched."""
    answers = Counter[str]()
    for row in rows:
        answers.update(row["mistakes"])
    examples = Counter(row["mistake"] for row in rows)
    selected = Counter(row["mistake"] for row in rows if row["selected"])
    return table(
        {"mistake": kind, "answers": count, "examples": examples[kind], "selected": selected[kind]}
        for kind, count in sorted(answers.items(), key=lambda item: (-item[1], item[0]))
    )


def _shown(ranked: RankedExample, example: Example) -> dict[str, Any]:
    return {
        "perplexity": ranked.perplexity,
        "category": example.category,
        "question": example.question,
        "answer": example.response,
    }
