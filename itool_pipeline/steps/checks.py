"""What must hold of finished artifacts. Each check returns what it found wrong, and what it counted."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.benchmarks.types import Benchmark, RowCheck
from itool_pipeline.config import MctsConfig
from itool_pipeline.core.preference_pairs import PairVerdict, step_advances, true_by_gold
from itool_pipeline.core.types import Example
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.account import QUARANTINED, Account, quarantined_shares
from itool_pipeline.steps.artifact_files import (
    CASES_FILE,
    CHECKPOINT_FILE,
    PAIRS_FILE,
    SCORES_FILE,
    TRAIN_FILE,
    nodes_file,
    shard_files,
)
from itool_pipeline.steps.asset_graph import BY_NAME
from itool_pipeline.steps.cases import drawn_cases, read_pool
from itool_pipeline.steps.champion import challenge, read_verdicts
from itool_pipeline.steps.display import table
from itool_pipeline.steps.example_access import each_training_example, source_account, split_rows
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.table_files import read_table_rows


@dataclass(frozen=True, slots=True)
class Finding:
    """`problems` is empty when the check passes."""

    problems: list[str]
    counts: dict[str, Any] = field(default_factory=dict)


def splits_are_disjoint(ws: Workspace) -> Finding:
    """No group of near-duplicates is in two of the parts that are trained on, searched, or validate."""
    rows = split_rows(ws)
    parts = {
        name: {row.group_id for row in rows.values() if row.split == split}
        for name, split in (("training", "train"), ("unseen", "unseen"), ("validation", "validation"))
    }
    problems = [
        f"group {group} is in {one} and {other} examples"
        for one, other in combinations(parts, 2)
        for group in sorted(parts[one] & parts[other])
    ]
    return Finding(problems, {"examples": len(rows)})


def nothing_reserved_is_trained_on(ws: Workspace) -> Finding:
    """Nothing that a reserved benchmark asks in a test is asked in training, whether it is scored or not: not the same
    question, whatever its spelling or tools, nor with the same tools one that differs in its values only. Earlier
    turns count where calls answer them.
    """
    problems: list[str] = []
    asked = number = 0
    for benchmark in BENCHMARKS:
        if benchmark.reserved:
            pool = list(benchmark.questions(ws.experiment, ws.paths.downloads))
            found, number = _leaks(ws, benchmark, pool)
            problems, asked = [*problems, *found], asked + len(pool)
    return Finding(problems, {"training_examples": number, "questions": asked})


def no_case_is_trained_on(ws: Workspace, benchmark: Benchmark[Any]) -> Finding:
    """No case of the benchmark is a training example or a near-duplicate of one, and none is asked in training."""
    pool = read_pool(ws, benchmark).examples
    ids, groups = {case.id for case in pool}, {case.group for case in pool}
    # A part of a reserved benchmark may be trained on, so its name tells nothing.
    sources = set() if benchmark.reserved else {case.source for case in pool}
    trained = read_table_rows(ws.input("examples").file(TRAIN_FILE), ["example_id", "group_id", "source"])
    problems = [
        f"training example {row['example_id']} is from {benchmark.title}"
        for row in trained
        if row["source"] in sources or row["example_id"] in ids or row["group_id"] in groups
    ]
    leaks, number = _leaks(ws, benchmark, pool)
    return Finding([*problems, *leaks], {"training_examples": number, "cases": len(pool)})


def _leaks(ws: Workspace, benchmark: Benchmark[Any], pool: Iterable[Example]) -> tuple[list[str], int]:
    """Cases that share a signature with training examples, which are read one at a time; and how many those are."""
    asked: dict[bytes, list[str]] = defaultdict(list)
    for case in pool:
        for signature in benchmark.case_signatures(case):
            asked[signature].append(case.id)
    alike: dict[str, list[str]] = defaultdict(list)
    number = 0
    for example in each_training_example(ws):
        number += 1
        shared = (asked.get(signature, ()) for signature in benchmark.training_signatures(example))
        for case_id in {key for keys in shared for key in keys}:
            alike[case_id].append(example.id)
    problems = [f"case {key} asks what these training examples ask: {', '.join(alike[key])}" for key in sorted(alike)]
    return problems, number


def quarantine_is_small(ws: Workspace) -> Finding:
    """No source has more unreadable rows than `data.max_quarantined` allows."""
    rows, bound = source_account(ws), ws.experiment.data.max_quarantined
    problems = [
        f"{share:.1%} of the rows of {source} are quarantined, more than data.max_quarantined = {bound:.1%}: "
        f"{_most_frequent(rows, source)}"
        for source, share in quarantined_shares(rows).items()
        if share > bound
    ]
    reasons = [{k: row[k] for k in ("source", "reason", "rows")} for row in rows if row["became"] == QUARANTINED]
    return Finding(problems, {"quarantined": sum(row["rows"] for row in reasons), "reasons": table(reasons)})


def _most_frequent(rows: Account, source: str) -> str:
    of_source = (row for row in rows if row["source"] == source and row["became"] == QUARANTINED)
    reasons = Counter({row["reason"]: row["rows"] for row in of_source})
    shown = [f"{count} × {reason}" for reason, count in reasons.most_common(3)]
    return "; ".join([*shown, "…"] if len(reasons) > len(shown) else shown)


def pairs_respect_filters(ws: Workspace, k: int) -> Finding:
    """Every kept pair passes the three exclusions of App. B.1, and prefers the higher Q; without MCTS, the first."""
    bounds, by_q = ws.experiment.pairs, isinstance(ws.experiment.search, MctsConfig)
    columns = ("pair_id", "kept", "similarity", "chosen_q", "rejected_q", "chosen", "rejected")
    read = Counter[bool]()
    kept = []
    for row in read_table_rows(ws.input(f"iteration_{k}/pairs").file(PAIRS_FILE), columns):
        read[row["kept"]] += 1
        kept += [row] if row["kept"] else []
    problems = [
        f"pair {row['pair_id']}: similarity {row['similarity']:.3f}, Q {row['chosen_q']:.3f}, {row['rejected_q']:.3f}"
        for row in kept
        if row["similarity"] > bounds.max_similarity
        or (by_q and _below(row["chosen_q"] - row["rejected_q"], bounds.min_q_difference))
        or (by_q and bounds.q_above == "zero" and _below(row["chosen_q"], bounds.min_chosen_q))
        or row["chosen"] == row["rejected"]
    ]
    return Finding(problems, {"pairs": read.total(), "kept": len(kept)})


def _below(value: float, bound: float | None) -> bool:
    return bound is not None and value < bound


def enough_pairs(ws: Workspace, k: int) -> Finding:
    """As many pairs are kept as `pairs.few` asks for, or what refused the others is named, with how often it did."""
    reasons = Counter(
        row["reason"] for row in read_table_rows(ws.input(f"iteration_{k}/pairs").file(PAIRS_FILE), ["reason"])
    )
    kept, bound = reasons.pop(PairVerdict.KEPT, 0), ws.experiment.pairs.few
    refused = ", ".join(f"{count} as {reason}" for reason, count in reasons.most_common()) or "none"
    problems = [f"{kept} pairs are kept, fewer than pairs.few = {bound}; refused are {refused}"] if kept < bound else []
    return Finding(problems, {"kept": kept, **{f"refused_{reason}": count for reason, count in reasons.items()}})


def pairs_are_true(ws: Workspace, k: int) -> Finding:
    """Of the kept pairs at least `pairs.min_true_share` are true by gold: after a prefix without a flaw, a step that
    brings the answer on, and no flaw, is preferred to one that brings a flaw. With a share of 0 asked for, truth is not
    counted.
    """
    columns = ("tree_id", "node_id", "chosen_node", "rejected_node", "kept")
    kept = [row for row in read_table_rows(ws.input(f"iteration_{k}/pairs").file(PAIRS_FILE), columns) if row["kept"]]
    bound = ws.experiment.pairs.min_true_share
    if not bound:  # every node of the iteration would be read
        return Finding([], {"kept": len(kept)})
    wanted = {(row["tree_id"], row[column]) for row in kept for column in columns[1:4]}
    nodes = {
        key: row
        for file in shard_files(ws.input(f"iteration_{k}/trees"), nodes_file)
        for row in read_table_rows(file, ["tree_id", "node_id", "outcome", "correct", "flawed", "given"])
        if (key := (row["tree_id"], row["node_id"])) in wanted
    }
    kinds = Counter(_kind(*(nodes[row["tree_id"], row[column]] for column in columns[1:4])) for row in kept)
    true, problems = kinds.pop(_TRUE, 0), list[str]()
    if kept and true / len(kept) < bound:
        others = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        problems = [
            f"{true} of {len(kept)} kept pairs are true by gold, {true / len(kept):.1%}, less than "
            f"pairs.min_true_share = {bound:.1%}; of the others {others}"
        ]
    return Finding(problems, {"kept": len(kept), "true": true})


_TRUE = "are true"


def _kind(before: Mapping[str, Any], chosen: Mapping[str, Any], rejected: Mapping[str, Any]) -> str:
    """What the gold answer says of a pair, by its three rows of `nodes`."""
    on = step_advances(
        given=chosen["given"], correct=chosen["correct"], outcome=chosen["outcome"], before=before["outcome"]
    )
    if true_by_gold(before["flawed"], chosen["flawed"], rejected["flawed"], advances=on):
        return _TRUE
    if before["flawed"]:
        return "come after a flaw"
    if chosen["flawed"]:
        return "choose between two flaws" if rejected["flawed"] else "prefer the flaw"
    return "choose a step that brings nothing on" if rejected["flawed"] else "choose between two steps without a flaw"


def held_out_loss_is_finite(ws: Workspace, k: int) -> Finding:
    """The policy's loss on validation pairs; with too few pairs to hold any back, its training loss."""
    row = Parts(ws.input(f"iteration_{k}/policy").path).read_json(CHECKPOINT_FILE)
    losses = [loss for _, loss in row["losses"]["validation"]] or row["losses"]["train"]
    # JSON has no NaN: such a loss is a text there
    problems = [f"loss {loss}" for loss in map(float, losses) if not math.isfinite(loss)]
    return Finding(problems, {"validation_loss": row["validation_loss"], "steps": row["steps"]})


def scores_cover_every_case(ws: Workspace, asset: str) -> Finding:
    """Every case to be scored was decided once, and the scores count the same cases."""
    artifact, benchmark = ws.input(asset), BY_NAME[asset.partition("/")[0]]
    decided = [row["case_id"] for row in read_table_rows(artifact.file(CASES_FILE), ["case_id"])]
    counted = sum(row["total"] for row in read_table_rows(artifact.file(SCORES_FILE), ["total"]))
    expected = {case.id for case in drawn_cases(ws, benchmark, read_pool(ws, benchmark)).cases}
    problems = [f"case {key} was not decided" for key in sorted(expected - set(decided))]
    problems += [f"case {key} is no case to be scored" for key in sorted(set(decided) - expected)]
    if len(decided) != len(set(decided)) or counted != len(decided):
        problems.append(f"{len(decided)} decisions on {len(set(decided))} cases, {counted} in the scores")
    return Finding(problems, {"cases": len(decided)})


def is_not_worse(ws: Workspace, asset: str, before: str) -> Finding:
    """The iteration is no worse than what it started from, by McNemar's exact test on the same cases
    (evaluation.champion.max_p). Where that is not scored, there is nothing to compare.
    """
    if not ws.has(before):
        return Finding([])
    bounds, (benchmark, _, name) = ws.experiment.evaluation.champion, asset.partition("/")
    start = before.partition("/")[2]
    found = challenge(read_verdicts(ws, benchmark, start), read_verdicts(ws, benchmark, name), bounds)
    told = f"{name} is worse than {start}, which it started from: {found.gained} cases won, {found.lost} lost"
    problems = [f"{told}, p {found.p_value:.2g}"] if found.is_lost(bounds) else []
    return Finding(problems, {"gained": found.gained, "lost": found.lost, "p_value": found.p_value})


def rows_pass(ws: Workspace, asset: str, check: RowCheck) -> Finding:
    """The check that the benchmark brings for the rows of a scored checkpoint."""
    rows = read_table_rows(ws.input(asset).file(CASES_FILE), check.columns)
    problems, compared = check.find(rows)
    return Finding(problems, {"compared": compared})
