"""What must hold of finished artifacts. Each check returns what it found wrong, and what it counted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pyarrow.parquet as pq

from itool_pipeline.benchmarks.bfcl.official_errors import possible_types
from itool_pipeline.core.types import Example
from itool_pipeline.data.api_bank import SOURCE
from itool_pipeline.data.bfcl import LANGUAGES
from itool_pipeline.data.near_duplicates import signatures, signatures_of_conversation, signatures_of_turns
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps import answers, api_bank
from itool_pipeline.steps.account import QUARANTINED, quarantined_shares
from itool_pipeline.steps.artifact_files import PAIRS_FILE
from itool_pipeline.steps.bfcl_multi_turn import multi_turn_cases
from itool_pipeline.steps.display import table
from itool_pipeline.steps.example_files import read_rows
from itool_pipeline.steps.plan import kind
from itool_pipeline.steps.prepare import EXAMPLES, account, cases, each_training_example, held_out, split_rows
from itool_pipeline.steps.training import CHECKPOINT
from itool_pipeline.steps.workspace import Workspace

Signatures = Callable[[Example], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Finding:
    """`problems` is empty when the check passes."""

    problems: list[str]
    counts: dict[str, Any] = field(default_factory=dict)


def splits_are_disjoint(ws: Workspace) -> Finding:
    """No example, and no group of near-duplicates, is in two of training, validation and held-out parts."""
    rows, pool = split_rows(ws), held_out(ws)
    problems = [f"{key} is both trained on and held out" for key in sorted(set(pool) & set(rows))]
    groups = {
        "training": {r["group_id"] for r in rows.values() if r["split"] == "train"},
        "validation": {r["group_id"] for r in rows.values() if r["split"] == "validation"},
        "held-out": {example.group for example in pool.values()},
    }
    for one, other in combinations(groups, 2):
        problems += [f"group {g} is in {one} and {other} examples" for g in sorted(groups[one] & groups[other])]
    stray = (key for key, row in rows.items() if row["in_buffer"] and row["split"] != "train")
    problems += [f"{key} is buffered and not trained on" for key in stray]
    return Finding(problems, {"examples": len(rows), "held_out": len(pool)})


def no_question_leaks(ws: Workspace) -> Finding:
    """Nothing that BFCL asks in a test is asked in training: not the same question, whatever its spelling or tools,
    nor with the same tools one that differs in its values only. Earlier turns count where calls answer them.
    """
    pool = [*held_out(ws).values(), *(question for case in multi_turn_cases(ws) for question in case.questions())]
    problems, number = _leaks(ws, pool, signatures, signatures_of_turns)
    return Finding(problems, {"training_examples": number, "held_out_questions": len(pool)})


def nothing_of_api_bank_is_trained_on(ws: Workspace) -> Finding:
    """No training example is from API-Bank, in none does the user say what is said in one of its cases.

    All that the user says, because many of its calls answer a turn like `Yes, please.`, a question only after others.
    """
    pool = api_bank.pool(ws)
    trained = read_rows(ws.input("splits").file(EXAMPLES), ["example_id", "source", "part"])
    problems = [
        f"training example {row['example_id']} is from API-Bank"
        for row in trained
        if row["part"] == "train" and (row["source"] == SOURCE or row["example_id"] in pool)
    ]
    leaks, number = _leaks(ws, pool.values(), signatures_of_conversation, signatures_of_conversation)
    return Finding([*problems, *leaks], {"training_examples": number, "api_bank_cases": len(pool)})


def _leaks(ws: Workspace, pool: Iterable[Example], tested: Signatures, trained: Signatures) -> tuple[list[str], int]:
    """Cases that share a signature with training examples, which are read one at a time; and how many those are."""
    asked: dict[bytes, list[str]] = defaultdict(list)
    for case in pool:
        for signature in tested(case):
            asked[signature].append(case.id)
    alike: dict[str, list[str]] = defaultdict(list)
    number = 0
    for example in each_training_example(ws):
        number += 1
        for case_id in {key for signature in trained(example) for key in asked.get(signature, ())}:
            alike[case_id].append(example.id)
    return [
        f"case {key} asks what these training examples ask: {', '.join(alike[key])}" for key in sorted(alike)
    ], number


def quarantine_is_small(ws: Workspace) -> Finding:
    """No source has more unreadable rows than `data.max_quarantined` allows."""
    rows, bound = account(ws), ws.experiment.data.max_quarantined
    problems = [
        f"{share:.1%} of the rows of {source} are quarantined, more than data.max_quarantined = {bound:.1%}: read the "
        "reasons, and mend the file or raise the bound"
        for source, share in quarantined_shares(rows).items()
        if share > bound
    ]
    reasons = [{k: row[k] for k in ("source", "reason", "rows")} for row in rows if row["became"] == QUARANTINED]
    return Finding(problems, {"quarantined": sum(row["rows"] for row in reasons), "reasons": table(reasons)})


def pairs_respect_filters(ws: Workspace, k: int) -> Finding:
    """Every kept pair passes the three exclusions of App. B.1, and prefers the higher Q; without MCTS, the first."""
    rows, bounds = pq.read_table(ws.input(f"iteration_{k}/pairs").file(PAIRS_FILE)).to_pylist(), ws.experiment.pairs
    by_q = ws.experiment.search.method == "mcts"
    kept = [row for row in rows if row["kept"]]
    problems = [
        f"pair {row['pair_id']}: similarity {row['similarity']:.3f}, Q {row['chosen_q']:.3f}, {row['rejected_q']:.3f}"
        for row in kept
        if row["similarity"] > bounds.max_similarity
        or (by_q and row["chosen_q"] - row["rejected_q"] < bounds.min_q_difference)
        or (by_q and row["chosen_q"] < bounds.min_chosen_q)
        or row["chosen"] == row["rejected"]
    ]
    return Finding(problems, {"pairs": len(rows), "kept": len(kept)})


def held_out_loss_is_finite(ws: Workspace, k: int) -> Finding:
    """The policy's loss on validation pairs; with too few pairs to hold any back, its training loss."""
    row = Parts(ws.input(f"iteration_{k}/policy").path).read_json(CHECKPOINT)
    losses = [loss for _, loss in row["losses"]["validation"]] or row["losses"]["train"]
    # JSON has no NaN: such a loss is a text there
    problems = [f"loss {loss}" for loss in map(float, losses) if not math.isfinite(loss)]
    return Finding(problems, {"validation_loss": row["validation_loss"], "steps": row["steps"]})


def scores_cover_every_case(ws: Workspace, asset: str) -> Finding:
    """Every case to be scored was decided once, and the scores count the same cases."""
    artifact = ws.input(asset)
    decided = [row["case_id"] for row in pq.read_table(artifact.file(answers.CASES), columns=["case_id"]).to_pylist()]
    scores = pq.read_table(artifact.file(answers.SCORES)).to_pylist()
    counted = sum(row["total"] for row in scores if not row["category"].startswith(answers.AGGREGATE))
    expected = _to_be_scored(ws, asset)
    problems = [f"case {key} was not decided" for key in sorted(expected - set(decided))]
    problems += [f"case {key} is no case to be scored" for key in sorted(set(decided) - expected)]
    if len(decided) != len(set(decided)) or counted != len(decided):
        problems.append(f"{len(decided)} decisions on {len(set(decided))} cases, {counted} in the scores")
    return Finding(problems, {"cases": len(decided)})


def errors_agree(ws: Workspace, asset: str) -> Finding:
    """The type of each BFCL error, which we read from calls and gold, is one that the official error may stand for.

    In the other languages and in conversations the type is read from the official error itself.
    """
    columns = ["case_id", "category", "correct", "error_type", "mistake"]
    rows = pq.read_table(ws.input(asset).file(answers.CASES), columns=columns).to_pylist()
    wrong = [row for row in rows if not row["correct"] and LANGUAGES.get(row["category"]) == "python"]
    problems = [
        f"case {row['case_id']}: ours {row['mistake']}, official {row['error_type']}"
        for row in wrong
        if row["mistake"] not in possible_types(row["error_type"])
    ]
    return Finding(problems, {"compared": len(wrong)})


def _to_be_scored(ws: Workspace, asset: str) -> set[str]:
    if kind(asset) == "api_bank":
        return set(api_bank.cases(ws))
    return {*cases(ws), *(case.id for case in multi_turn_cases(ws))}
