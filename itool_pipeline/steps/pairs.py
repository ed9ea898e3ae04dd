"""iteration_k/pairs: which children of each node make pairs, and which of these are good enough."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import MctsConfig, PairsConfig
from itool_pipeline.core.preference_pairs import (
    Candidate,
    Fork,
    PairVerdict,
    PreferencePair,
    balance_pairs,
    limit_pairs,
    pair_by_probability,
    pairs_of,
    step_advances,
)
from itool_pipeline.steps.artifact_files import ANSWERS_FILE, PAIRS_FILE
from itool_pipeline.steps.display import table
from itool_pipeline.steps.example_access import training_examples
from itool_pipeline.steps.models import call_syntax
from itool_pipeline.steps.node_figures import NodeFigures
from itool_pipeline.steps.tree_rows import NodeRow, read_nodes_of, read_trees
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import PAIRS, RIGHT_ANSWERS

Nodes = Mapping[int, NodeRow]
"""Nodes of one tree by their index."""


def pairs(ws: Workspace, k: int) -> Produced:
    """Preference pairs of iteration k (Section 3.2), each with the filter that refused it (App. B.1).

    Without MCTS the policy's probability chooses, and of the filters only the one on similarity applies; Q is in the
    rows all the same.
    """

    def make(step: Step) -> dict[str, Any]:
        config, searched = ws.experiment.pairs, isinstance(ws.experiment.search, MctsConfig)
        by_call, syntax = config.balance == "by_call", call_syntax(ws)
        figures, found, answers = NodeFigures(), list[PreferencePair](), list[dict[str, Any]]()
        for tree in read_trees(ws, k):
            figures.add(tree)
            answers += _right_answers(tree)
            own = _candidates(tree, config, by_q=searched)
            found += (replace(pair, side=_side(pair, tree, syntax)) for pair in own) if by_call else own
        if by_call:
            found = balance_pairs(found)
        found = limit_pairs(found, config.max_pairs, config.max_pairs_per_tree)
        # Texts and token ids are read a second time: with all of them held, a million nodes take a gigabyte.
        written = write_table_file(step.work / PAIRS_FILE, PAIRS, _pair_rows(found, read_trees(ws, k)))
        assert written == len(found), "pairs come in the order of the trees"
        write_table_file(step.work / ANSWERS_FILE, RIGHT_ANSWERS, answers)
        kept = [pair for pair in found if pair.verdict is PairVerdict.KEPT]
        counts = Counter(pair.verdict for pair in found)
        top = sorted(kept, key=lambda pair: -pair.margin)[:8]
        shown = {(node.tree_id, node.node_id): node for node in read_nodes_of(ws, k, {pair.tree_id for pair in top})}
        questions = {key: x.question for key, x in training_examples(ws, {pair.tree_id for pair in top}).items()}
        return {
            **figures.explored(),
            "chosen_by": "Q" if searched else "probability",
            "candidates": len(found),
            "kept": counts[PairVerdict.KEPT],
            **{f"refused_{verdict}": counts[verdict] for verdict in PairVerdict if verdict is not PairVerdict.KEPT},
            "right_answers": len(answers),
            "trees_with_pairs": len({pair.tree_id for pair in kept}),
            "largest_margin": table(_shown(pair, shown, questions) for pair in top),
        }

    return ws.produce(f"iteration_{k}/pairs", make)


def _candidates(tree: Sequence[NodeRow], config: PairsConfig, *, by_q: bool) -> Iterator[PreferencePair]:
    """Every pair of one tree that comes into question, node by node, kept or refused."""
    nodes = {row.node_id: row for row in tree}
    children: dict[int, list[Candidate]] = defaultdict(list)
    for row in tree:
        if row.parent_id is not None:
            before = nodes[row.parent_id].outcome
            on = step_advances(given=row.given, correct=row.correct, outcome=row.outcome, before=before)
            step = Candidate(row.node_id, row.fragment, row.action_value, row.prior, row.flawed, on)
            children[row.parent_id].append(step)
    for node, below in children.items():
        fork = Fork(tree[0].tree_id, node, below, nodes[node].value, nodes[node].flawed)
        if by_q:
            yield from pairs_of(fork, config)
        elif pair := pair_by_probability(fork, config.max_similarity):
            yield pair


def _side(pair: PreferencePair, tree: Sequence[NodeRow], syntax: CallSyntax) -> int:
    """1 if a call is preferred to something else, -1 if something else is preferred to a call, else 0."""
    chosen, rejected = (syntax.has_begun_call(tree[i].prefix + tree[i].fragment) for i in (pair.chosen, pair.rejected))
    return chosen - rejected


def _pair_rows(pairs: Iterable[PreferencePair], trees: Iterable[Sequence[NodeRow]]) -> Iterator[dict[str, Any]]:
    """Rows of the table `pairs`. The pairs come tree by tree, in the order of the trees."""
    of_trees = groupby(pairs, attrgetter("tree_id"))
    awaited, of_tree = next(of_trees, ("", iter(())))
    for tree in trees:
        if tree[0].tree_id == awaited:
            nodes = {node.node_id: node for node in tree}
            yield from (_pair_row(pair, nodes) for pair in of_tree)
            awaited, of_tree = next(of_trees, ("", iter(())))


def _pair_row(pair: PreferencePair, nodes: Nodes) -> dict[str, Any]:
    """Token ids only of what is trained on."""
    chosen, rejected = nodes[pair.chosen], nodes[pair.rejected]
    kept = pair.verdict is PairVerdict.KEPT
    return {
        "pair_id": f"{pair.tree_id}/{pair.node}/{pair.chosen}-{pair.rejected}",
        "tree_id": pair.tree_id,
        "node_id": pair.node,
        "chosen_node": pair.chosen,
        "rejected_node": pair.rejected,
        "prefix": chosen.prefix,
        "chosen": chosen.fragment,
        "rejected": rejected.fragment,
        "chosen_q": pair.chosen_q,
        "rejected_q": pair.rejected_q,
        "q_difference": pair.chosen_q - pair.rejected_q,
        "similarity": pair.similarity,
        "kept": kept,
        "reason": str(pair.verdict),
        "prefix_ids": _ids_to(pair.node, nodes) if kept else None,
        "chosen_ids": chosen.token_ids if kept else None,
        "rejected_ids": rejected.token_ids if kept else None,
    }


def _right_answers(tree: Sequence[NodeRow]) -> Iterator[dict[str, Any]]:
    """Rows of the table `right_answers`: of equal token ids the first."""
    nodes, seen = {node.node_id: node for node in tree}, set[tuple[int, ...]]()
    for node in tree:
        if node.correct and (ids := tuple(_ids_to(node.node_id, nodes))) not in seen:
            seen.add(ids)
            yield {
                "tree_id": node.tree_id,
                "node_id": node.node_id,
                "answer": node.prefix + node.fragment,
                "given": any(step.given for step in _path(node.node_id, nodes)),
                "answer_ids": ids,
            }


def _path(node: int, nodes: Nodes) -> Iterator[NodeRow]:
    """From `node` up to the root."""
    at: int | None = node
    while at is not None:
        yield nodes[at]
        at = nodes[at].parent_id


def _ids_to(node: int, nodes: Nodes) -> list[int]:
    """Token ids from the root to `node`, as they were sampled."""
    steps = list(_path(node, nodes))
    return [token for step in reversed(steps) for token in step.token_ids]


def _shown(
    pair: PreferencePair, nodes: Mapping[tuple[str, int], NodeRow], questions: Mapping[str, str]
) -> dict[str, Any]:
    chosen, rejected = nodes[pair.tree_id, pair.chosen], nodes[pair.tree_id, pair.rejected]
    return {
        "question": questions[pair.tree_id],
        "prefix": chosen.prefix,
        "chosen": chosen.fragment,
        "rejected": rejected.fragment,
        "Q chosen": pair.chosen_q,
        "Q rejected": pair.rejected_q,
        "p chosen": chosen.prior,
        "p rejected": rejected.prior,
    }
