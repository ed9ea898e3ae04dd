"""Whole responses in place of a search: the comparison without MCTS (Section 4.3.2).

The result is a tree of depth 1, so that its rows, pairs and lineage are like any other's: the root's children are
whole responses, each a single fragment, with N the number of times it was drawn and Q = r. Rewards are recorded and
decide nothing: the pair is chosen by p(a | s), see `preference_pairs.pair_by_probability`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from itool_pipeline.config import SamplingConfig
from itool_pipeline.core.judge import Judge
from itool_pipeline.core.policy import Fragment, Policy, SampleRequest
from itool_pipeline.core.reward import ResponseState, SearchProblem, rewards_of
from itool_pipeline.core.search import distinct_fragments, fragment_prior, next_state
from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.core.tree import SearchTree
from itool_pipeline.core.types import Progress, no_progress


@dataclass(slots=True)
class Draft:
    """A response in the making: what is there of it, and the log-probability of each of its tokens."""

    number: int
    state: ResponseState
    logprobs: tuple[float, ...] = ()

    def request(self, seed: int) -> SampleRequest:
        """The next fragment. Seeded by problem, number and length, so that what else is drawn does not matter."""
        problem, so_far = self.state.problem, self.state.token_ids
        own_seed = derive_seed(seed, "respond", problem.example.id, self.number, len(so_far))
        return SampleRequest(problem.prompt, so_far, self.state.text, 1, own_seed)

    def take(self, fragments: Sequence[Fragment], max_tokens: int) -> None:
        """Go on with what was sampled. Where nothing of it could be kept, the response cannot go on."""
        fragment = next((f for f in fragments if f.token_ids), None)
        if fragment is None:
            self.state = replace(self.state, truncated=True)
        else:
            self.state = next_state(self.state, fragment, max_tokens)
            self.logprobs += fragment.logprobs

    def whole(self) -> Fragment:
        """All of it as one action."""
        return Fragment(self.state.token_ids, self.state.text, self.logprobs, self.state.finished)


def draw_responses(
    problems: Sequence[SearchProblem],
    policy: Policy,
    settings: SamplingConfig,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> list[list[Fragment]]:
    """`settings.responses` responses to each problem, fragment after fragment, in one batch for all that go on.

    A response without tokens (the policy had nothing to say) is left out. `progress` counts finished responses.
    """
    drafts = [[Draft(number, ResponseState(problem)) for number in range(settings.responses)] for problem in problems]
    everything = [draft for group in drafts for draft in group]
    while going := [draft for draft in everything if not draft.state.terminal]:
        answers = policy.sample([draft.request(seed) for draft in going])
        for draft, fragments in zip(going, answers, strict=True):
            draft.take(fragments, settings.max_response_tokens)
        progress(sum(draft.state.terminal for draft in everything), len(everything))
    return [[whole for whole in (draft.whole() for draft in group) if whole.token_ids] for group in drafts]


def sample_responses(
    problems: Sequence[SearchProblem],
    policy: Policy,
    judge: Judge,
    settings: SamplingConfig,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> list[SearchTree]:
    """One tree of depth 1 for each problem. Equal responses are one child that was drawn several times."""
    drawn = draw_responses(problems, policy, settings, seed=seed, progress=progress)
    kept = [distinct_fragments(responses, settings.responses) for responses in drawn]
    states = [
        ResponseState(problem, r.token_ids, r.text, r.finished, truncated=not r.finished)
        for problem, group in zip(problems, kept, strict=True)
        for r in group
    ]
    found = iter(rewards_of([*map(ResponseState, problems), *states], policy, judge, settings, seed=seed))
    trees = [SearchTree.rooted(problem, next(found)) for problem in problems]
    left = iter(states)
    for tree, responses, group in zip(trees, drawn, kept, strict=True):
        index = {
            (r.text, r.finished): tree.add(0, r, next(left), fragment_prior(r.logprobs, settings.prior), next(found))
            for r in group
        }
        for r in responses:
            tree.backup(index[r.text, r.finished], gamma=1.0)
    return trees
