"""iteration_k/trees: one search tree for each selected example, in shards that can run side by side.

Without MCTS (`search.type: sampling`) a tree has depth 1 and its nodes are whole responses.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from itool_pipeline.config import MctsConfig, NoGrades, SamplingConfig
from itool_pipeline.core.response_sampling import each_sampled_tree
from itool_pipeline.core.reward import SearchProblem
from itool_pipeline.core.search import each_tree
from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.core.tree import SearchTree
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.artifact_files import BUFFER_FILE, nodes_file, trees_file
from itool_pipeline.steps.asset_graph import policy_before
from itool_pipeline.steps.computing import computed_in, settled
from itool_pipeline.steps.display import table
from itool_pipeline.steps.example_access import each_response_tokens, tool_lengths
from itool_pipeline.steps.judging import search_judge
from itool_pipeline.steps.live import Live, live
from itool_pipeline.steps.models import chat, context_tokens, fragment_rule, require_context, search_engine
from itool_pipeline.steps.node_figures import NodeFigures
from itool_pipeline.steps.thoughts import each_problem_thought_out
from itool_pipeline.steps.tree_rows import NodeRow, node_rows, read_tree_files, tree_figures, tree_row
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import read_table_rows, write_table_file
from itool_pipeline.store.tables import NODES, TREES


def shards(ws: Workspace, k: int) -> list[tuple[str, ...]]:
    """The selected examples in shards; what is in a shard depends on the config alone."""
    rows = read_table_rows(ws.input(f"iteration_{k}/replay_buffer").file(BUFFER_FILE), ["example_id", "selected"])
    selected = sorted(row["example_id"] for row in rows if row["selected"])
    # The longest first, so that none of them is still under way when all others have ended.
    length = tool_lengths(ws, selected)
    selected.sort(key=lambda key: (-length[key], key))
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
    with ws.producing(asset):
        planned = shards(ws, k)
        _check_context(ws, k, {key for shard in planned for key in shard})
    return list(range(len(planned)))


def _check_context(ws: Workspace, k: int, ids: Collection[str]) -> None:
    """The longest prompt to be searched or graded, with the longest response, must fit in the model's context."""
    if context_tokens(ws) is None:
        return
    s, longest = ws.experiment.search, 0
    graded = not isinstance(s.self_evaluation, NoGrades)
    for problem in each_problem_thought_out(ws, k, ids):
        grading = len(problem.grade.before) + len(problem.grade.after) if graded else 0
        longest = max(longest, len(problem.prompt), grading)
    # The fragment that reaches the limit may pass it.
    wanted = longest + s.max_response_tokens + s.max_fragment_tokens
    require_context(ws, wanted, "the search", "search.max_response_tokens or max_fragment_tokens")


def deal_shards(ws: Workspace, planned: Sequence[int]) -> list[list[int]]:
    """The shards of each op of the search, every n-th; an op searches all that it has side by side."""
    ops = min(ws.experiment.compute.search_ops, len(planned))
    return [list(planned[first::ops]) for first in range(ops)]


def search_shards(ws: Workspace, k: int, indices: Sequence[int]) -> None:
    """Search the trees of these shards, and keep each shard as a part as soon as it is whole.

    Trees of all shards are under way at once, as many as memory allows. Parts that are there are left as they are.
    """
    if not indices:
        return
    asset = f"iteration_{k}/trees"
    fingerprint = ws.planned[asset].fingerprint
    with ws.artifacts.parts(asset, fingerprint, say=ws.say) as parts:
        missing = [index for index in indices if not _is_kept(parts, index)]
        if ws.artifacts.find(asset, fingerprint) or not missing:
            return
        policy, start = ws.planned[policy_before(k)].fingerprint, time.monotonic()
        with ws.producing(asset):
            planned, own = shards(ws, k), settled(ws, parts)
            wanted = {index: planned[index] for index in missing}
            before = sum(len(planned[index]) for index in indices) - sum(map(len, wanted.values()))
            with live(ws, asset, parts, share=f"share_{indices[0]:05d}") as told:
                for index, trees in _search(own, k, wanted, told, before):
                    _keep(parts, index, trees, policy)
                    parts.spend(f"shard_{index:05d}", time.monotonic() - start)
                    start = time.monotonic()


def _is_kept(parts: Parts, index: int) -> bool:
    return parts.has(nodes_file(index)) and parts.has(trees_file(index))


def _keep(parts: Parts, index: int, trees: Sequence[SearchTree], policy: str) -> None:
    nodes = (row for tree in trees for row in node_rows(tree))
    # The trees come last: a shard that has them is whole.
    parts.write(nodes_file(index), lambda path: write_table_file(path, NODES, nodes))
    rows = [tree_row(tree, policy) for tree in trees]
    parts.write(trees_file(index), lambda path: write_table_file(path, TREES, rows))


def gather(ws: Workspace, k: int) -> Produced:
    """All shards as one artifact. A shard that no worker has searched is searched here, so none can be skipped."""
    asset = f"iteration_{k}/trees"
    search_shards(ws, k, plan_shards(ws, k) if not ws.force else [])

    def make(step: Step) -> dict[str, Any]:
        count = len(shards(ws, k))
        for index in range(count):
            for part in (nodes_file(index), trees_file(index)):
                shutil.copyfile(step.parts.path(part), step.work / part)
        figures = NodeFigures.of(read_tree_files(step.work / nodes_file(index) for index in range(count)))
        return {
            **figures.explored(),
            "terminal_nodes": figures.terminal_nodes,
            "correct_terminal_nodes": figures.correct_terminal_nodes,
            "deepest": figures.deepest,
            "shards": count,
            **computed_in(step.parts),
            "some_answers": table(_shown(n) for n in [*figures.best, *figures.worst]),
        }

    return ws.produce(asset, make, force=False)


def _search(
    ws: Workspace, k: int, wanted: Mapping[int, Sequence[str]], told: Live, before: int
) -> Iterator[tuple[int, Sequence[SearchTree]]]:
    """(shard, its trees) as the shards become whole. `told` hears of each tree; `before` of them were there already."""
    engine, config = search_engine(ws, policy_before(k)), ws.experiment.search
    ids = [key for keys in wanted.values() for key in keys]
    shard_of = [index for index, keys in wanted.items() for _ in keys]
    found = {problem.example.id: problem for problem in each_problem_thought_out(ws, k, set(ids))}
    problems = [found[key] for key in ids]
    if isinstance(config, MctsConfig) and config.guide == "gold":
        problems = _with_gold(ws, problems)
    judge, seed = search_judge(ws), derive_seed(ws.experiment.seed, f"iteration_{k}/trees")
    if isinstance(config, SamplingConfig):
        each = each_sampled_tree(problems, engine, judge, config, seed=seed, progress=ws.progress("responses"))
    else:
        progress = ws.progress(f"iterations of {len(ids)} trees")
        each = each_tree(problems, engine, judge, config, seed=seed, progress=progress)
    trees: dict[int, dict[int, SearchTree]] = {index: {} for index in wanted}
    told.expect(before + len(ids))
    for done, (number, tree) in enumerate(each, start=before + 1):
        told.metrics("search", done, tree_figures(tree))
        shard = trees[shard_of[number]]
        shard[number] = tree
        if len(shard) == len(wanted[shard_of[number]]):
            del trees[shard_of[number]]
            yield shard_of[number], [shard[at] for at in sorted(shard)]


def _with_gold(ws: Workspace, problems: Sequence[SearchProblem]) -> list[SearchProblem]:
    """The problems with the fragments of their gold answers."""
    s, template, ids = ws.experiment.search, chat(ws), {problem.example.id for problem in problems}
    rule, limit = fragment_rule(ws), s.max_fragment_tokens
    gold = {found.id: template.fragments(found.response, rule, limit) for found in each_response_tokens(ws, ids)}
    return [replace(problem, gold=gold[problem.example.id]) for problem in problems]


def _shown(node: NodeRow) -> dict[str, Any]:
    return {
        "tree": node.tree_id,
        "correct": node.correct,
        "Q": node.action_value,
        "visits": node.visits,
        "response": node.prefix + node.fragment,
    }
