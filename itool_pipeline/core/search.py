"""Step-wise Monte Carlo tree search over fragments of a response (Section 3.2).

One tree is one task (see core/policy.py): it selects, asks for fragments and grades, rolls out, backs up, and never
touches the model. The policy serves many of them side by side, and a tree comes out the same alone and among others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from itool_pipeline.config import MctsConfig
from itool_pipeline.core.judge import Judge
from itool_pipeline.core.policy import Fragment, Policy, SampleRequest, ScoreRequest, Task
from itool_pipeline.core.reward import ResponseState, SearchProblem, rewards_of
from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.core.tree import SearchTree
from itool_pipeline.core.types import Progress, no_progress


def fragment_prior(logprobs: Sequence[float], form: str) -> float:
    """p(a | s) of Eq. 5, in [0, 1]: the fragment's probability, per token unless `form` is `product`."""
    total = math.fsum(logprobs)
    return min(1.0, math.exp(total / len(logprobs) if form == "geometric_mean" else total))


def search_tree(
    problem: SearchProblem, judge: Judge, settings: MctsConfig, *, seed: int, after_backup: Callable[[], None]
) -> Task[SearchTree]:
    """Search one tree. `after_backup` is called after each of the `settings.iterations`."""
    (root,) = yield from rewards_of([ResponseState(problem)], judge, settings, seed=seed)
    gold = (yield from scored_gold(problem)) if settings.guide == "gold" else ()
    tree = SearchTree.rooted(problem, root, gold)
    left = settings.iterations
    while left > 0:
        paths = min(settings.leaves, left)
        yield from grow_tree(tree, judge, settings, paths, seed=seed)
        left -= paths
        for _ in range(paths):
            after_backup()
    return tree


def scored_gold(problem: SearchProblem) -> Task[tuple[Fragment, ...]]:
    """The fragments of the gold answer with their log-probabilities under the policy, scored all at once."""
    if not problem.gold:
        return ()
    tokens = tuple(token for fragment in problem.gold for token in fragment.token_ids)
    answers: list[list[tuple[float, ...]]] = yield (ScoreRequest(problem.prompt, (tokens,)),)
    left = iter(answers[0][0])
    return tuple(replace(f, logprobs=tuple(islice(left, len(f.token_ids)))) for f in problem.gold)


def grow_tree(tree: SearchTree, judge: Judge, settings: MctsConfig, paths: int, *, seed: int) -> Task[None]:
    """Search the tree in place: select, expand and roll out `paths` paths at a time, then back them up in their order.

    A roll-out follows selection and expansion from the new leaf until a terminal state, the depth limit or
    `settings.simulation` further expansions. Its nodes stay in the tree, so nothing sampled is thrown away.
    """
    c, loss = settings.c, settings.virtual_loss
    ends = []
    for _ in range(paths):
        # Selection stops at a node without children: its first expansion and the roll-out are the same thing.
        ends.append(tree.select_leaf(c, loss))
        tree.enter(ends[-1])
    going = list(range(paths))
    for _ in range(1 + settings.simulation):
        going = [path for path in going if _can_grow(tree, ends[path], settings)]
        if not going:
            break
        leaves = list(dict.fromkeys(ends[path] for path in going))
        yield from expand_leaves(tree, leaves, judge, settings, seed=seed)
        going = [path for path in going if tree.nodes[ends[path]].children]
        for path in going:
            tree.leave(ends[path])  # a path is not in its own way
            ends[path] = tree.select_child(ends[path], c, loss)
            tree.enter(ends[path])
    for end in ends:
        tree.leave(end)
    for end in ends:
        tree.backup(end, settings.gamma)


def _can_grow(tree: SearchTree, index: int, settings: MctsConfig) -> bool:
    node = tree.nodes[index]
    closed = node.state.terminal or (settings.expand == "sound" and node.rewards.flawed)
    return not closed and node.depth < settings.depth


def distinct_fragments(fragments: Sequence[Fragment], width: int) -> list[Fragment]:
    """The first `width` fragments that differ in text or in whether they end the response."""
    kept: dict[tuple[str, bool], Fragment] = {}
    for fragment in fragments:
        if fragment.token_ids:
            kept.setdefault((fragment.text, fragment.finished), fragment)
    return list(kept.values())[:width]


def children_of(drawn: Sequence[Fragment], gold: Fragment | None, width: int) -> list[tuple[Fragment, bool]]:
    """(fragment, whether it was given and not drawn) of each child: the first distinct ones, and the gold answer's.

    A drawn fragment that says the same as the gold's stands in its place with the gold's tokens, so that below it the
    gold answer goes on.
    """
    kept = distinct_fragments(drawn, width)
    if gold is None:
        return [(fragment, False) for fragment in kept]
    alike = [(fragment.text, fragment.finished) == (gold.text, gold.finished) for fragment in kept]
    children = [(gold if same else fragment, False) for fragment, same in zip(kept, alike, strict=True)]
    return children if any(alike) else [*children, (gold, True)]


def next_state(state: ResponseState, fragment: Fragment, max_tokens: int) -> ResponseState:
    """The state that follows `state` by taking `fragment`."""
    token_ids = state.token_ids + fragment.token_ids
    too_long = not fragment.finished and len(token_ids) >= max_tokens
    return ResponseState(state.problem, token_ids, state.text + fragment.text, fragment.finished, too_long)


def search_trees(
    problems: Sequence[SearchProblem],
    policy: Policy,
    judge: Judge,
    settings: MctsConfig,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> list[SearchTree]:
    """One tree for each problem, in their order. `progress` counts iterations of all trees."""
    found = dict(each_tree(problems, policy, judge, settings, seed=seed, progress=progress))
    return [found[number] for number in range(len(problems))]


def each_tree(
    problems: Sequence[SearchProblem],
    policy: Policy,
    judge: Judge,
    settings: MctsConfig,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> Iterator[tuple[int, SearchTree]]:
    """(number of the problem, its tree) as the trees are done. `progress` counts iterations of all trees."""
    done, total = 0, len(problems) * settings.iterations

    def after_backup() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    def task(problem: SearchProblem) -> Task[SearchTree]:
        return search_tree(problem, judge, settings, seed=seed, after_backup=after_backup)

    return policy.serve(map(task, problems))


def expand_leaves(
    tree: SearchTree, leaves: Sequence[int], judge: Judge, settings: MctsConfig, *, seed: int
) -> Task[None]:
    """Give each leaf its distinct children with their rewards: sampled at once, then graded at once."""
    answers = yield tuple(_request(tree, leaf, settings.samples, seed) for leaf in leaves)
    grown = [
        (leaf, fragment, given, next_state(tree.nodes[leaf].state, fragment, settings.max_response_tokens))
        for leaf, fragments in zip(leaves, answers, strict=True)
        for fragment, given in children_of(fragments, tree.next_gold(leaf), settings.width)
    ]
    rewards = yield from rewards_of([state for *_, state in grown], judge, settings, seed=seed)
    for (leaf, fragment, given, state), reward in zip(grown, rewards, strict=True):
        prior = fragment_prior(fragment.logprobs, settings.prior)
        tree.add(leaf, fragment, state, prior, reward, given=given)


def _request(tree: SearchTree, node: int, samples: int, seed: int) -> SampleRequest:
    state = tree.nodes[node].state
    own_seed = derive_seed(seed, "expand", tree.problem.example.id, node)
    return SampleRequest(tree.problem.prompt, state.token_ids, state.text, samples, own_seed)
