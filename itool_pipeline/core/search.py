"""Step-wise Monte Carlo tree search over fragments of a response (Section 3.2).

One tree is one generator: it selects, asks for an expansion, rolls out, backs up, and never touches the model.
`search_trees` runs many generators side by side and serves all that they ask for in one batch, so a tree comes out the
same whether it is searched alone or among others.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from itool_pipeline.config import MctsConfig
from itool_pipeline.core.judge import Judge
from itool_pipeline.core.policy import Fragment, Policy, SampleRequest
from itool_pipeline.core.reward import ResponseState, Reward, SearchProblem, rewards_of
from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.core.tree import SearchTree
from itool_pipeline.core.types import Progress, no_progress


@dataclass(frozen=True, slots=True)
class Expansion:
    """What a tree asks for: children of this node."""

    node: int


@dataclass(frozen=True, slots=True)
class Child:
    """What it gets: a distinct fragment, the state it leads to, and that state's reward."""

    fragment: Fragment
    state: ResponseState
    rewards: Reward


def fragment_prior(logprobs: Sequence[float], form: str) -> float:
    """p(a | s) of Eq. 5, in [0, 1]: the fragment's probability, per token unless `form` is `product`."""
    total = math.fsum(logprobs)
    return min(1.0, math.exp(total / len(logprobs) if form == "geometric_mean" else total))


def grow_tree(tree: SearchTree, settings: MctsConfig) -> Generator[Expansion, list[Child], None]:
    """Search one tree in place: select, expand, roll out, back up, `settings.iterations` times.

    A roll-out follows selection and expansion from the new leaf until a terminal state, the depth limit or
    `settings.simulation` further expansions. Its nodes stay in the tree, so nothing sampled is thrown away.
    """
    for _ in range(settings.iterations):
        # Selection stops at a node without children: its first expansion and the roll-out are the same thing.
        index = tree.select_leaf(settings.c)
        for _ in range(1 + settings.simulation):
            node = tree.nodes[index]
            if node.state.terminal or node.depth >= settings.depth:
                break
            for child in (yield Expansion(index)):
                p = fragment_prior(child.fragment.logprobs, settings.prior)
                tree.add(index, child.fragment, child.state, p, child.rewards)
            if not node.children:
                break
            index = tree.select_child(index, settings.c)
        tree.backup(index, settings.gamma)


def distinct_fragments(fragments: Sequence[Fragment], width: int) -> list[Fragment]:
    """The first `width` fragments that differ in text or in whether they end the response."""
    kept: dict[tuple[str, bool], Fragment] = {}
    for fragment in fragments:
        if fragment.token_ids:
            kept.setdefault((fragment.text, fragment.finished), fragment)
    return list(kept.values())[:width]


def next_state(state: ResponseState, fragment: Fragment, max_tokens: int) -> ResponseState:
    """The state that follows `state` by taking `fragment`."""
    token_ids = state.token_ids + fragment.token_ids
    too_long = not fragment.finished and len(token_ids) >= max_tokens
    return replace(
        state, token_ids=token_ids, text=state.text + fragment.text, finished=fragment.finished, truncated=too_long
    )


def search_trees(
    problems: Sequence[SearchProblem],
    policy: Policy,
    judge: Judge,
    settings: MctsConfig,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> list[SearchTree]:
    """Search one tree for each problem, all of them in step with each other.

    `progress` counts rounds of expansion; there are at most iterations · (1 + simulation).
    """
    roots = rewards_of([ResponseState(problem) for problem in problems], policy, judge, settings, seed=seed)
    trees = [SearchTree.rooted(problem, root) for problem, root in zip(problems, roots, strict=True)]
    growing = [(tree, grow_tree(tree, settings)) for tree in trees]
    # A tree's generator waits for its children; all that wait are served by one batch, and then go on together.
    asked = [(tree, growth, next(growth, None)) for tree, growth in growing]
    rounds, done = settings.iterations * (1 + settings.simulation), 0
    while waiting := [(tree, growth, wish) for tree, growth, wish in asked if wish is not None]:
        leaves = [(tree, wish.node) for tree, _, wish in waiting]
        children = expand_leaves(leaves, policy, judge, settings, seed)
        asked = [
            (tree, growth, _answer(growth, found)) for (tree, growth, _), found in zip(waiting, children, strict=True)
        ]
        done += 1
        progress(done, rounds)
    if done < rounds:  # every tree was exhausted before its last iteration
        progress(rounds, rounds)
    return trees


def _answer(growth: Generator[Expansion, list[Child], None], children: list[Child]) -> Expansion | None:
    try:
        return growth.send(children)
    except StopIteration:
        return None


def expand_leaves(
    leaves: Sequence[tuple[SearchTree, int]],
    policy: Policy,
    judge: Judge,
    settings: MctsConfig,
    seed: int,
) -> list[list[Child]]:
    """Distinct children of each leaf with their rewards: one sampling and one scoring batch for all trees."""
    requests = [_request(tree, node, settings.samples, seed) for tree, node in leaves]
    kept = [distinct_fragments(fragments, settings.width) for fragments in policy.sample(requests)]
    states = [
        [next_state(tree.nodes[node].state, fragment, settings.max_response_tokens) for fragment in fragments]
        for (tree, node), fragments in zip(leaves, kept, strict=True)
    ]
    scored = iter(rewards_of([state for group in states for state in group], policy, judge, settings, seed=seed))
    return [
        [Child(fragment, state, next(scored)) for fragment, state in zip(fragments, group, strict=True)]
        for fragments, group in zip(kept, states, strict=True)
    ]


def _request(tree: SearchTree, node: int, samples: int, seed: int) -> SampleRequest:
    state = tree.nodes[node].state
    own_seed = derive_seed(seed, "expand", tree.problem.example.id, node)
    return SampleRequest(tree.problem.prompt, state.token_ids, state.text, samples, own_seed)
