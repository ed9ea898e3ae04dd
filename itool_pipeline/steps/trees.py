"""iteration_k/trees: one search tree for each selected example, in shards that can run side by side.

Without MCTS (`search.method: sampling`) a tree has depth 1 and its nodes are whole responses.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.config import SearchConfig
from itool_pipeline.core.response_sampling import ResponseSettings, sample_responses
from itool_pipeline.core.reward import RewardSettings
from itool_pipeline.core.search import SearchSettings, search
from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.core.tree import Node, Tree
from itool_pipeline.steps.display import table
from itool_pipeline.steps.models import chat, context_tokens, require_context, search_engine
from itool_pipeline.steps.plan import policy_before
from itool_pipeline.steps.prepare import each_training_example, training_examples
from itool_pipeline.steps.replay_buffer import BUFFER
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step

NODE_SCHEMA = pa.schema(
    [
        ("tree_id", pa.string()),
        ("node_id", pa.int32()),
        ("parent_id", pa.int32()),
        ("depth", pa.int32()),
        ("fragment", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("prefix", pa.string()),
        ("prior", pa.float64()),
        ("visits", pa.int32()),
        ("value", pa.float64()),
        ("action_value", pa.float64()),
        ("reward", pa.float64()),
        ("outcome", pa.float64()),
        ("self_evaluation", pa.float64()),
        ("terminal", pa.bool_()),
        ("correct", pa.bool_()),
    ]
)


def shards(ws: Workspace, k: int) -> list[tuple[str, ...]]:
    """The selected examples in shards; what is in a shard depends on the config alone."""
    rows = pq.read_table(ws.input(f"iteration_{k}/replay_buffer").file(BUFFER)).to_pylist()
    selected = sorted(row["example_id"] for row in rows if row["selected"])
    # Prompts of similar length pad each other least.
    length = {example.id: len(str(example.tools)) for example in training_examples(ws, set(selected)).values()}
    selected.sort(key=lambda key: (length[key], key))
    count = ws.experiment.search.shard_size
    return [tuple(selected[start : start + count]) for start in range(0, len(selected), count)]


def plan_shards(ws: Workspace, k: int) -> list[int]:
    """Indices of the shards to search: none when the trees are there already. With `force`, what is there goes.

    Raises StepError when what is to be searched does not fit in the model's context.
    """
    asset = f"iteration_{k}/trees"
    fingerprint = ws.planned[asset].fingerprint
    if ws.force:
        ws.artifacts.discard(asset, fingerprint, say=ws.say)
    if ws.artifacts.find(asset, fingerprint):
        return []
    planned = shards(ws, k)
    _check_context(ws, {key for shard in planned for key in shard})
    return list(range(len(planned)))


def _check_context(ws: Workspace, ids: Collection[str]) -> None:
    """The longest prompt to be searched or graded, with the longest response, must fit in the model's context."""
    if context_tokens(ws) is None:
        return
    template, s, longest = chat(ws), ws.experiment.search, 0
    for problem in map(template.problem, each_training_example(ws, ids)):
        graded = len(problem.grade.before) + len(problem.grade.after) if s.self_evaluation.enabled else 0
        longest = max(longest, len(problem.prompt), graded)
    # The fragment that reaches the limit may pass it.
    wanted = longest + s.max_response_tokens + s.max_fragment_tokens
    require_context(ws, wanted, "the search", "search.max_response_tokens or max_fragment_tokens")


def search_shard(ws: Workspace, k: int, index: int) -> None:
    """Search the trees of one shard and keep them as a part; a part that is there is left as it is."""
    asset = f"iteration_{k}/trees"
    fingerprint = ws.planned[asset].fingerprint
    with ws.artifacts.parts(asset, fingerprint, say=ws.say) as parts:
        if ws.artifacts.find(asset, fingerprint) or parts.has(_tree_part(index)):
            return
        start = time.monotonic()
        trees = _search(ws, k, shards(ws, k)[index])
        parts.spend(f"shard_{index:05d}", time.monotonic() - start)
        nodes = [row for tree in trees for row in _node_rows(tree)]
        # The trees come last: a shard that has them is whole.
        parts.write(_node_part(index), lambda path: pq.write_table(pa.Table.from_pylist(nodes, NODE_SCHEMA), path))
        policy = ws.planned[policy_before(k)].fingerprint
        rows = [_tree_row(tree, policy) for tree in trees]
        parts.write(_tree_part(index), lambda path: pq.write_table(pa.Table.from_pylist(rows), path))


def gather(ws: Workspace, k: int) -> Produced:
    """All shards as one artifact. A shard that no worker has searched is searched here, so none can be skipped."""
    asset = f"iteration_{k}/trees"
    for index in plan_shards(ws, k) if not ws.force else []:
        search_shard(ws, k, index)

    def make(step: Step) -> dict[str, Any]:
        count = len(shards(ws, k))
        for index in range(count):
            for part in (_node_part(index), _tree_part(index)):
                shutil.copyfile(step.parts.path(part), step.work / part)
        nodes = _read([step.work / _node_part(i) for i in range(count)])
        terminal = [n for n in nodes if n["terminal"]]
        best = sorted((n for n in terminal if n["correct"]), key=lambda n: -n["action_value"])[:3]
        worst = sorted((n for n in terminal if not n["correct"]), key=lambda n: n["action_value"])[:3]
        return {
            **found_in(nodes),
            "terminal_nodes": len(terminal),
            "correct_terminal_nodes": sum(bool(n["correct"]) for n in terminal),
            "deepest": max((n["depth"] for n in nodes), default=0),
            "shards": count,
            "some_answers": table(_shown(n) for n in [*best, *worst]),
        }

    def tables(artifact: Any) -> dict[str, Any]:
        count = artifact.manifest.metadata["shards"]
        return {
            "trees": [artifact.file(_tree_part(i)) for i in range(count)],
            "nodes": [artifact.file(_node_part(i)) for i in range(count)],
        }

    return ws.produce(asset, make, tables, force=False)


def found_in(nodes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How much was explored: what the report compares iterations by."""
    return {
        "trees": len({n["tree_id"] for n in nodes}),
        "nodes": len(nodes),
        "distinct_nodes": len({(n["tree_id"], n["prefix"], n["fragment"], n["terminal"]) for n in nodes}),
        "trees_with_a_correct_answer": len({n["tree_id"] for n in nodes if n["correct"]}),
    }


def read_nodes(ws: Workspace, k: int) -> list[dict[str, Any]]:
    """All nodes of an iteration's trees, tree by tree, parents before children."""
    artifact = ws.input(f"iteration_{k}/trees")
    return _read([artifact.file(_node_part(i)) for i in range(artifact.manifest.metadata["shards"])])


def search_settings(config: SearchConfig) -> SearchSettings:
    """The part of the config that the search core knows."""
    return SearchSettings(
        depth=config.depth,
        width=config.width,
        iterations=config.iterations,
        simulation=config.simulation,
        c=config.c,
        gamma=config.gamma,
        samples=config.samples,
        max_response_tokens=config.max_response_tokens,
        prior=config.prior,
    )


def response_settings(config: SearchConfig) -> ResponseSettings:
    """What is drawn in place of a search."""
    return ResponseSettings(config.responses, config.max_response_tokens, config.prior)


def reward_settings(config: SearchConfig) -> RewardSettings:
    """The part of the config that the reward knows."""
    o, s = config.outcome, config.self_evaluation
    drawn = s.samples if s.form == "sampled" else None
    return RewardSettings(o.correct, o.wrong, o.progress, s.weights, s.enabled, drawn)


def _search(ws: Workspace, k: int, ids: Sequence[str]) -> list[Tree]:
    engine, template = search_engine(ws, policy_before(k))
    examples, config = training_examples(ws, set(ids)), ws.experiment.search
    problems = [template.problem(examples[key]) for key in ids]
    seed = derive_seed(ws.experiment.seed, f"iteration_{k}/trees")
    if config.method == "sampling":
        own, counted = response_settings(config), ws.progress("responses")
        return sample_responses(problems, engine, own, reward_settings(config), seed=seed, progress=counted)
    progress = ws.progress(f"rounds of expansion, {len(ids)} trees side by side")
    return search(problems, engine, search_settings(config), reward_settings(config), seed=seed, progress=progress)


def _node_part(index: int) -> str:
    return f"nodes_{index:05d}.parquet"


def _tree_part(index: int) -> str:
    return f"trees_{index:05d}.parquet"


def _read(paths: Sequence[Any]) -> list[dict[str, Any]]:
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def _node_rows(tree: Tree) -> list[dict[str, Any]]:
    return [_node_row(tree, index, node) for index, node in enumerate(tree.nodes)]


def _node_row(tree: Tree, index: int, node: Node) -> dict[str, Any]:
    return {
        "tree_id": tree.problem.example.id,
        "node_id": index,
        "parent_id": node.parent if node.parent >= 0 else None,
        "depth": node.depth,
        "fragment": node.text,
        "token_ids": list(node.fragment.token_ids) if node.fragment else [],
        "prefix": tree.nodes[node.parent].state.text if node.parent >= 0 else "",
        "prior": node.prior,
        "visits": node.visits,
        "value": node.value,
        "action_value": node.action_value,
        "reward": node.reward,
        "outcome": node.rewards.outcome,
        "self_evaluation": node.rewards.self_evaluation,
        "terminal": node.state.terminal,
        "correct": node.rewards.correct,
    }


def _tree_row(tree: Tree, policy: str) -> dict[str, Any]:
    root = tree.nodes[0]
    return {
        "tree_id": tree.problem.example.id,
        "example_id": tree.problem.example.id,
        "policy": policy,
        "root_outcome": root.rewards.outcome,
        "root_self_evaluation": root.rewards.self_evaluation,
        "node_count": len(tree.nodes),
        "iterations": root.visits,
        "max_depth": max(node.depth for node in tree.nodes),
        "terminal_count": sum(node.state.terminal for node in tree.nodes),
        "best_value": max((tree.nodes[child].action_value for child in root.children), default=None),
    }


def _shown(node: dict[str, Any]) -> dict[str, Any]:
    return {
        "tree": node["tree_id"],
        "correct": node["correct"],
        "Q": node["action_value"],
        "visits": node["visits"],
        "response": node["prefix"] + node["fragment"],
    }
