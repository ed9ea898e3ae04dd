"""iteration_k/pairs: which children of each node make pairs, and which of these are good enough."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.config import PairsConfig
from itool_pipeline.core.preference_pairs import (
    Candidate,
    Filters,
    Pair,
    Verdict,
    all_pairs,
    limit,
    pair_by_probability,
    pair_of,
)
from itool_pipeline.steps.display import table
from itool_pipeline.steps.prepare import training_examples
from itool_pipeline.steps.trees import found_in, read_nodes
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step

PAIRS, TOKENS = "pairs.parquet", "tokens.parquet"
"""PAIRS has every pair with its verdict; TOKENS the token ids of the kept ones."""

PAIR_SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()),
        ("tree_id", pa.string()),
        ("node_id", pa.int32()),
        ("chosen_node", pa.int32()),
        ("rejected_node", pa.int32()),
        ("prefix", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("chosen_q", pa.float64()),
        ("rejected_q", pa.float64()),
        ("q_difference", pa.float64()),
        ("similarity", pa.float64()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
    ]
)
_IDS = pa.list_(pa.int32())
TOKEN_SCHEMA = pa.schema(
    [("pair_id", pa.string()), ("tree_id", pa.string()), ("path", _IDS), ("chosen", _IDS), ("rejected", _IDS)]
)

Nodes = Mapping[tuple[str, int], Mapping[str, Any]]
"""Rows of the table `nodes` by tree and node."""


def pairs(ws: Workspace, k: int) -> Produced:
    """Preference pairs of iteration k (Section 3.2), each with the filter that refused it (App. B.1).

    Without MCTS the policy's probability chooses, and of the filters only the one on similarity applies; Q is in the
    rows all the same.
    """

    def make(step: Step) -> dict[str, Any]:
        nodes: Nodes = {(row["tree_id"], row["node_id"]): row for row in read_nodes(ws, k)}
        config, searched = ws.experiment.pairs, ws.experiment.search.method == "mcts"
        found = limit(_candidates(nodes, config, by_q=searched), config.max_pairs)
        rows = [_row(pair, nodes) for pair in found]
        kept = [pair for pair in found if pair.verdict is Verdict.KEPT]
        pq.write_table(pa.Table.from_pylist(rows, PAIR_SCHEMA), step.work / PAIRS)
        tokens = [_token_row(pair, nodes) for pair in kept]
        pq.write_table(pa.Table.from_pylist(tokens, TOKEN_SCHEMA), step.work / TOKENS)
        counts = Counter(pair.verdict for pair in found)
        top = sorted(kept, key=lambda pair: -pair.margin)[:8]
        questions = {key: x.question for key, x in training_examples(ws, {pair.tree_id for pair in top}).items()}
        return {
            **found_in(list(nodes.values())),
            "chosen_by": "Q" if searched else "probability",
            "candidates": len(found),
            "kept": counts[Verdict.KEPT],
            **{f"refused_{verdict}": counts[verdict] for verdict in Verdict if verdict is not Verdict.KEPT},
            "trees_with_pairs": len({pair.tree_id for pair in kept}),
            "largest_margin": table(_shown(pair, nodes, questions) for pair in top),
        }

    return ws.produce(f"iteration_{k}/pairs", make, lambda artifact: {"pairs": [artifact.file(PAIRS)]})


def _candidates(nodes: Nodes, config: PairsConfig, *, by_q: bool) -> list[Pair]:
    """Every pair that comes into question, node by node, kept or refused."""
    filters = Filters(config.max_similarity, config.min_q_difference, config.min_chosen_q)
    children: dict[tuple[str, int], list[Candidate]] = defaultdict(list)
    for (tree_id, node_id), row in nodes.items():
        if row["parent_id"] is not None:
            child = Candidate(node_id, row["fragment"], row["action_value"], row["prior"])
            children[tree_id, row["parent_id"]].append(child)
    found: list[Pair | None] = []
    for (tree_id, node), below in children.items():
        if not by_q:
            found.append(pair_by_probability(tree_id, node, below, filters.max_similarity))
        elif config.per_node == "all":
            found += all_pairs(tree_id, node, below, filters)
        else:
            found.append(pair_of(tree_id, node, below, filters))
    return [pair for pair in found if pair is not None]


def _pair_id(pair: Pair) -> str:
    return f"{pair.tree_id}/{pair.node}/{pair.chosen}-{pair.rejected}"


def _row(pair: Pair, nodes: Nodes) -> dict[str, Any]:
    chosen, rejected = nodes[pair.tree_id, pair.chosen], nodes[pair.tree_id, pair.rejected]
    return {
        "pair_id": _pair_id(pair),
        "tree_id": pair.tree_id,
        "node_id": pair.node,
        "chosen_node": pair.chosen,
        "rejected_node": pair.rejected,
        "prefix": chosen["prefix"],
        "chosen": chosen["fragment"],
        "rejected": rejected["fragment"],
        "chosen_q": pair.chosen_q,
        "rejected_q": pair.rejected_q,
        "q_difference": pair.chosen_q - pair.rejected_q,
        "similarity": pair.similarity,
        "kept": pair.verdict is Verdict.KEPT,
        "reason": str(pair.verdict),
    }


def _token_row(pair: Pair, nodes: Nodes) -> dict[str, Any]:
    return {
        "pair_id": _pair_id(pair),
        "tree_id": pair.tree_id,
        "path": _path(pair.tree_id, pair.node, nodes),
        "chosen": nodes[pair.tree_id, pair.chosen]["token_ids"],
        "rejected": nodes[pair.tree_id, pair.rejected]["token_ids"],
    }


def _path(tree_id: str, node: int, nodes: Nodes) -> list[int]:
    """Token ids from the root to `node`, as they were sampled."""
    fragments: list[Sequence[int]] = []
    at: int | None = node
    while at is not None:
        row = nodes[tree_id, at]
        fragments.append(row["token_ids"])
        at = row["parent_id"]
    return [token for fragment in reversed(fragments) for token in fragment]


def _shown(pair: Pair, nodes: Nodes, questions: Mapping[str, str]) -> dict[str, Any]:
    chosen, rejected = nodes[pair.tree_id, pair.chosen], nodes[pair.tree_id, pair.rejected]
    return {
        "question": questions[pair.tree_id],
        "prefix": chosen["prefix"],
        "chosen": chosen["fragment"],
        "rejected": rejected["fragment"],
        "Q chosen": pair.chosen_q,
        "Q rejected": pair.rejected_q,
        "p chosen": chosen["prior"],
        "p rejected": rejected["prior"],
    }
